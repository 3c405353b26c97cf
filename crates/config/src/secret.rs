//! Where users and passwords come from: a variable or a file, never the configuration itself.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use gridwatch_base::secret::{Credentials, Secret};

/// Why no credentials could be read. No variant carries what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialFault {
    Missing,
    NotAFile,
    Unreadable(io::ErrorKind),
    ReadableByAll(u32),
    Malformed,
}

/// Splits `user:password` at its first colon; a password may hold more of them.
pub(super) fn parse(text: &str) -> Result<Credentials, CredentialFault> {
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Credentials {
            user: Secret::new(user),
            password: Secret::new(password),
        }),
        _ => Err(CredentialFault::Malformed),
    }
}

/// Reads the first line of a file that nobody but its owner and group may read.
pub(super) fn read(file: &Path) -> Result<Credentials, CredentialFault> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => CredentialFault::Missing,
        kind => CredentialFault::Unreadable(kind),
    };
    let meta = fs::metadata(file).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(CredentialFault::NotAFile);
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(CredentialFault::ReadableByAll(mode));
    }
    parse(&fs::read_to_string(file).map_err(unreadable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_secret() {
        let c = parse("admin:pa:ss\nsecond line").unwrap();
        assert_eq!((c.user.expose(), c.password.expose()), ("admin", "pa:ss"));
        assert_eq!(
            format!("{c:?} {}", c.password),
            "Credentials { user: ***, password: *** } ***"
        );
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        for text in ["", "admin", "admin:", ":secret", "\nadmin:secret"] {
            assert_eq!(parse(text), Err(CredentialFault::Malformed), "{text:?}");
        }
    }
}
