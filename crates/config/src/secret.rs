//! Reads credentials from a variable or a file; they are never part of the configuration itself.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use gridwatch_base::{
    file,
    secret::{Credentials, Secret},
};

/// Why credentials could not be read. No variant carries any of the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialError {
    Missing,
    NotAFile,
    Unreadable(io::ErrorKind),
    OpenToOthers(u32),
    Malformed,
}

/// Splits `user:password` at the first colon; the password may contain more colons.
pub(super) fn parse(text: &str) -> Result<Credentials, CredentialError> {
    let line = text.lines().next().unwrap_or_default();
    match line.split_once(':') {
        Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Credentials {
            user: Secret::new(user),
            password: Secret::new(password),
        }),
        _ => Err(CredentialError::Malformed),
    }
}

/// Reads the first line of a file, which must not be accessible beyond its owner and group.
pub(super) fn read(file: &Path) -> Result<Credentials, CredentialError> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => CredentialError::Missing,
        kind => CredentialError::Unreadable(kind),
    };
    let meta = fs::metadata(file).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(CredentialError::NotAFile);
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(CredentialError::OpenToOthers(mode));
    }
    parse(&file::read_text(file, file::MAX_KEY).map_err(unreadable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_in_debug_and_display() {
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
            assert_eq!(parse(text), Err(CredentialError::Malformed), "{text:?}");
        }
    }
}
