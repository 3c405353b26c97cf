//! The keys of the box, in `<state_dir>/keys/`: the signing key (`signing.pem`, Ed25519 in PKCS#8) and the key that
//! encrypts originals (`originals.key`, 32 bytes in base64).
//!
//! Missing keys are generated, readable by the owner only. Key material is never logged. The key of the originals may
//! be a file elsewhere or a systemd credential, so that the disk of a stolen box does not contain it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::rand::{SecureRandom, SystemRandom};

use super::{PublicKey, SigningKey, vault::VaultKey};
use gridwatch_base::{disk::write_private, error::Class, file};

const SIGNING_FILE: &str = "signing.pem";
const ORIGINALS_FILE: &str = "originals.key";

/// Errors of the keys. No variant contains key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation: `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Other users can read the key.
    #[error(
        "{} is readable by other users (mode {mode:03o}), who could sign as this box; run chmod 600 on it, and gridwatch keys rotate if others had access",
        .path.display()
    )]
    Unprotected {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key cannot be parsed.
    #[error("{}: {what}", .path.display())]
    Malformed {
        /// The file, or the name of the credential.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system has no source of random numbers.
    #[error("cannot generate a key: no random numbers from the operating system")]
    NoRandomness,
}

impl KeyError {
    /// The class of the error, which decides between retry and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::NoRandomness => Class::Transient,
            Self::Unprotected { .. } | Self::Malformed { .. } => Class::Config,
        }
    }
}

/// Location of the key that encrypts originals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OriginalsKey {
    /// In the state directory, generated at the first start.
    #[default]
    Own,
    /// A file provided by the operator.
    File(PathBuf),
    /// A systemd credential (`LoadCredential=`, `LoadCredentialEncrypted=`), by name.
    Credential(String),
}

/// The directory of the box's keys.
#[derive(Debug, Clone)]
pub struct KeyRing {
    dir: PathBuf,
}

impl KeyRing {
    /// The keys below the state directory `state_dir`.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("keys"),
        }
    }

    /// Path of the signing key.
    pub fn signing_file(&self) -> PathBuf {
        self.dir.join(SIGNING_FILE)
    }

    /// Loads the signing key, or generates one if there is none. A key that other users can read is still used, so that
    /// the box keeps filing cases; [`KeyRing::unprotected`] reports it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load_or_create(&self) -> Result<SigningKey, KeyError> {
        let path = self.signing_file();
        match file::read_text(&path, file::MAX_KEY) {
            Ok(pem) => parse_signing(&path, &pem),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (pem, key) = SigningKey::generate().map_err(|_| KeyError::NoRandomness)?;
                self.write(&path, &pem)?;
                tracing::info!(public_key = %key.public(), "Generated signing key; give the public key to the platform (gridwatch keys show)");
                Ok(key)
            }
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    /// Loads the signing key.
    ///
    /// # Errors
    /// [`KeyError`], also if there is no key yet.
    pub fn existing(&self) -> Result<SigningKey, KeyError> {
        let path = self.signing_file();
        let pem = file::read_text(&path, file::MAX_KEY).map_err(|e| io_error("read", &path, e))?;
        parse_signing(&path, &pem)
    }

    /// Replaces the signing key by `pem`.
    ///
    /// # Errors
    /// [`KeyError::Io`]; the old key is kept then.
    pub fn replace_signing(&self, pem: &str) -> Result<(), KeyError> {
        self.write(&self.signing_file(), pem)
    }

    /// Loads the key that encrypts originals. Only a key in the state directory is generated if missing.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn originals(&self, place: &OriginalsKey) -> Result<VaultKey, KeyError> {
        let path = match place {
            OriginalsKey::Own => self.dir.join(ORIGINALS_FILE),
            OriginalsKey::File(path) => path.clone(),
            OriginalsKey::Credential(name) => {
                // systemd passes the directory of the credentials in this variable.
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| KeyError::Malformed {
                    path: name.into(),
                    what: "no systemd credentials: CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit and start gridwatch with systemd"
                        .into(),
                })?;
                Path::new(&dir).join(name)
            }
        };
        match file::read_text(&path, file::MAX_KEY) {
            Ok(text) => {
                let key = BASE64.decode(text.trim()).ok().and_then(|bytes| VaultKey::new(&bytes));
                key.ok_or_else(|| KeyError::Malformed {
                    path,
                    what: "not a key of 32 bytes in base64; create one with `openssl rand -base64 32`".into(),
                })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && *place == OriginalsKey::Own => {
                let mut bytes = [0; 32];
                SystemRandom::new()
                    .fill(&mut bytes)
                    .map_err(|_| KeyError::NoRandomness)?;
                self.write(&path, &format!("{}\n", BASE64.encode(bytes)))?;
                VaultKey::new(&bytes).ok_or(KeyError::NoRandomness)
            }
            Err(source) => Err(io_error("read", &path, source)),
        }
    }

    /// [`KeyRing::originals`], but generates nothing: `None` if the key in the state directory does not exist.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn existing_originals(&self, place: &OriginalsKey) -> Result<Option<VaultKey>, KeyError> {
        match place {
            OriginalsKey::Own if !self.dir.join(ORIGINALS_FILE).exists() => Ok(None),
            place => self.originals(place).map(Some),
        }
    }

    /// The keys of the box, and the files in `other`, that other users can read.
    pub fn unprotected<'a>(&self, other: impl IntoIterator<Item = &'a Path>) -> Vec<KeyError> {
        let own = [self.signing_file(), self.dir.join(ORIGINALS_FILE)];
        let other = other.into_iter().map(Path::to_path_buf);
        own.into_iter()
            .chain(other)
            .filter_map(|path| {
                let mode = fs::metadata(&path).ok()?.mode() & 0o777;
                (mode & 0o077 != 0).then_some(KeyError::Unprotected { path, mode })
            })
            .collect()
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), KeyError> {
        write_private(path, text.as_bytes()).map_err(|e| io_error("write", path, e))
    }
}

fn parse_signing(path: &Path, pem: &str) -> Result<SigningKey, KeyError> {
    SigningKey::parse(pem).map_err(|what| KeyError::Malformed {
        path: path.into(),
        what,
    })
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        doing,
        path: path.into(),
        source,
    }
}

/// The public key in PEM (SubjectPublicKeyInfo, RFC 8410), as OpenSSL reads it.
pub fn public_pem(key: &PublicKey) -> String {
    const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&SPKI[..], key.as_bytes()].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(der)
    )
}

/// Parses a public key in PEM ([`public_pem`], `openssl pkey -pubout`), base64 or hexadecimal.
///
/// # Errors
/// A description of the expected format.
pub fn parse_public(text: &str) -> Result<PublicKey, String> {
    let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
    let key = match BASE64.decode(body.trim()) {
        Ok(der) if der.len() == 44 => BASE64.encode(&der[12..]),
        _ => body,
    };
    key.parse()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::vault::{OriginalFormat, Vault};

    #[test]
    fn keys_are_generated_once_and_readable_by_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        assert!(ring.existing().is_err(), "no key yet");
        let first = ring.load_or_create().unwrap().public();
        assert_eq!(ring.load_or_create().unwrap().public(), first);
        assert_eq!(ring.existing().unwrap().public(), first);
        let vault = || Vault::new(dir.path(), ring.originals(&OriginalsKey::Own).unwrap());
        let sha256 = vault().put(OriginalFormat::Png, b"picture").unwrap();
        assert_eq!(vault().open(&sha256).unwrap().1, b"picture");
        assert_eq!(fs::metadata(dir.path().join("keys")).unwrap().mode() & 0o777, 0o700);
        assert!(ring.unprotected([]).is_empty());
        fs::set_permissions(ring.signing_file(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            ring.unprotected([])[..],
            [KeyError::Unprotected { mode: 0o640, .. }]
        ));
    }

    #[test]
    fn a_malformed_key_is_reported_by_name_without_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        let file = dir.path().join("mine");
        let place = OriginalsKey::File(file.clone());
        assert!(
            matches!(ring.originals(&place), Err(KeyError::Io { .. })),
            "a key provided by the operator is never generated"
        );
        fs::write(&file, "hunter2").unwrap();
        let message = ring.originals(&place).err().unwrap().to_string();
        assert!(message.contains("mine") && !message.contains("hunter2"), "{message}");
        let message = ring
            .originals(&OriginalsKey::Credential("originals".into()))
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("LoadCredential"), "{message}");
    }

    #[test]
    fn a_public_key_parses_from_every_format() {
        let (_, key) = SigningKey::generate().unwrap();
        let public = key.public();
        assert_eq!(parse_public(&public_pem(&public)).unwrap(), public);
        assert_eq!(parse_public(&public.to_string()).unwrap(), public);
        assert!(parse_public("no key").is_err());
    }
}
