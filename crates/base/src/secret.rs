//! User names and passwords that cannot be printed by accident, and where they are read from.

use std::{
    env, fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

pub use zeroize::Zeroizing;

use crate::file;

/// A string that `Debug` and `Display` print as `***`, and that is overwritten in memory when dropped. [`Secret::expose`] is the only
/// way to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The plain text, for the protocol that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A user name and a password. The user name is hidden too, because people mix up the two fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: Secret,
    /// Password.
    pub password: Secret,
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// Why credentials could not be read. No variant contains any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is no such file.
    #[error("the file does not exist")]
    Missing,
    /// The variable is not set.
    #[error("the environment variable is not set")]
    Unset,
    /// A folder, a device or a pipe.
    #[error("not a regular file")]
    NotAFile,
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(io::ErrorKind),
    /// The file's permissions, which let every user read it.
    #[error("the file is accessible to other users (mode {0:04o})")]
    OpenToOthers(u32),
    /// The first line is not `user:password`.
    #[error("the first line is not of the form user:password")]
    Malformed,
}

impl Credentials {
    /// Splits `user:password` at the first colon; the password may contain more colons.
    ///
    /// # Errors
    /// [`CredentialError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let line = text.lines().next().unwrap_or_default();
        match line.split_once(':') {
            Some((user, password)) if !user.is_empty() && !password.is_empty() => Ok(Self {
                user: Secret::new(user),
                password: Secret::new(password),
            }),
            _ => Err(CredentialError::Malformed),
        }
    }

    /// Reads the first line of a file, which must not be accessible beyond its owner and group.
    ///
    /// # Errors
    /// The file is missing, unreadable, readable by everyone or malformed.
    pub fn read(file: &Path) -> Result<Self, CredentialError> {
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
        Self::parse(&file::read_secret(file, file::MAX_KEY).map_err(unreadable)?)
    }
}

/// Where credentials are read from. They are read anew at each login, so that a corrected password needs no
/// restart.
#[derive(Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// Given directly.
    Fixed(Credentials),
    /// An environment variable that holds `user:password`.
    Variable(String),
    /// A file whose first line is `user:password`.
    File(PathBuf),
}

impl fmt::Debug for CredentialSource {
    /// Without the path or name: people type the password itself in its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(***)",
            Self::Variable(_) => "Variable(***)",
            Self::File(_) => "File(***)",
        })
    }
}

impl CredentialSource {
    /// Reads the credentials.
    ///
    /// # Errors
    /// The variable or the file is missing, unreadable or malformed.
    pub fn read(&self) -> Result<Credentials, CredentialError> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::Variable(name) => env::var(name)
                .map_err(|_| CredentialError::Unset)
                .and_then(|text| Credentials::parse(&Zeroizing::new(text))),
            Self::File(path) => Credentials::read(path),
        }
    }
}

impl From<Credentials> for CredentialSource {
    fn from(credentials: Credentials) -> Self {
        Self::Fixed(credentials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_in_debug_and_display() {
        let c = Credentials::parse("admin:pa:ss\nsecond line").unwrap();
        assert_eq!((c.user.expose(), c.password.expose()), ("admin", "pa:ss"));
        assert_eq!(
            format!("{c:?} {}", c.password),
            "Credentials { user: ***, password: *** } ***"
        );
    }

    #[test]
    fn a_user_without_a_password_is_refused() {
        for text in ["", "admin", "admin:", ":secret", "\nadmin:secret"] {
            assert_eq!(Credentials::parse(text), Err(CredentialError::Malformed), "{text:?}");
        }
    }
}
