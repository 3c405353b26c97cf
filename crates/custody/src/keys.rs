//! The box's own keys, in `<state_dir>/keys/`: what it signs with (`signing.pem`, ed25519 in PKCS#8) and what it encrypts
//! originals with (`originals.key`, 32 bytes in base64).
//!
//! Each is made where it is missing, readable by its owner alone, and never leaves this module as text. The key of the
//! originals may be kept elsewhere, where who steals the box's disk does not find it: a file, or a systemd credential.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::rand::{SecureRandom, SystemRandom};

use super::{PublicKey, SigningKey, vault::VaultKey};
use gridwatch_base::{disk::write_private, error::Class};

const SIGNING: &str = "signing.pem";
const ORIGINALS: &str = "originals.key";

/// Why a key cannot be used. No variant carries any of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The disk.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "{} may be read by others than its owner (mode {mode:03o}): whoever read it can sign in this box's name. Run chmod 600 on it, and gridwatch keys rotate if others were on the box",
        .path.display()
    )]
    Unprotected {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is in the file is no key.
    #[error("{}: {what}", .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system gives no chance.
    #[error("the system gives no random numbers: no key can be made")]
    NoRandomness,
}

impl KeyError {
    /// What it means.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::NoRandomness => Class::Transient,
            Self::Unprotected { .. } | Self::Malformed { .. } => Class::Config,
        }
    }
}

/// Where the key of the originals is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OriginalsKey {
    /// With the box's other key, made at the first start.
    #[default]
    Own,
    /// In a file of the operator's.
    File(PathBuf),
    /// A credential that systemd hands to the service (`LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential(String),
}

/// The folder of the box's keys.
#[derive(Debug, Clone)]
pub struct KeyRing {
    dir: PathBuf,
}

impl KeyRing {
    /// That of the box whose state is in `state_dir`.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            dir: state_dir.join("keys"),
        }
    }

    /// The file of the key that the box signs with.
    pub fn signing_file(&self) -> PathBuf {
        self.dir.join(SIGNING)
    }

    /// What the box signs with; made where there is none.
    ///
    /// # Errors
    /// [`KeyError`]. A key that others may read is used, and told by [`KeyRing::unprotected`]: a box that stops filing helps nobody.
    pub fn load_or_create(&self) -> Result<SigningKey, KeyError> {
        let path = self.signing_file();
        match fs::read_to_string(&path) {
            Ok(pem) => parse_signing(&path, &pem),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let (pem, key) = SigningKey::generate().map_err(|_| KeyError::NoRandomness)?;
                self.write(&path, &pem)?;
                tracing::info!(public_key = %key.public(), "The box has a key to sign cases with; the platform should know the public one (gridwatch keys show).");
                Ok(key)
            }
            Err(source) => Err(failed("read", &path, source)),
        }
    }

    /// The key that the box signs with, where it has one already.
    ///
    /// # Errors
    /// [`KeyError`], also where there is none.
    pub fn existing(&self) -> Result<SigningKey, KeyError> {
        let path = self.signing_file();
        let pem = fs::read_to_string(&path).map_err(|e| failed("read", &path, e))?;
        parse_signing(&path, &pem)
    }

    /// Puts `pem` in the place of the key that the box signs with.
    ///
    /// # Errors
    /// What the disk says; the old key is there then.
    pub fn replace_signing(&self, pem: &str) -> Result<(), KeyError> {
        self.write(&self.signing_file(), pem)
    }

    /// What originals are encrypted with. The box's own is made where there is none.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn originals(&self, place: &OriginalsKey) -> Result<VaultKey, KeyError> {
        let path = match place {
            OriginalsKey::Own => self.dir.join(ORIGINALS),
            OriginalsKey::File(path) => path.clone(),
            OriginalsKey::Credential(name) => {
                // systemd says where in this variable, and nowhere else.
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| KeyError::Malformed {
                    path: name.into(),
                    what: "systemd has handed over no credentials: is LoadCredential= in the unit, and is this run by systemd?"
                        .into(),
                })?;
                Path::new(&dir).join(name)
            }
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let key = BASE64.decode(text.trim()).ok().and_then(|bytes| VaultKey::new(&bytes));
                key.ok_or_else(|| KeyError::Malformed {
                    path,
                    what: "it is no key of 32 bytes in base64, as `openssl rand -base64 32` makes one".into(),
                })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && *place == OriginalsKey::Own => {
                let mut bytes = [0; 32];
                SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::NoRandomness)?;
                self.write(&path, &format!("{}\n", BASE64.encode(bytes)))?;
                VaultKey::new(&bytes).ok_or(KeyError::NoRandomness)
            }
            Err(source) => Err(failed("read", &path, source)),
        }
    }

    /// Each key of the box, and `other` ones, that others than its owner may read.
    pub fn unprotected<'a>(&self, other: impl IntoIterator<Item = &'a Path>) -> Vec<KeyError> {
        let own = [self.signing_file(), self.dir.join(ORIGINALS)];
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
        write_private(path, text.as_bytes()).map_err(|e| failed("write", path, e))
    }
}

fn parse_signing(path: &Path, pem: &str) -> Result<SigningKey, KeyError> {
    SigningKey::parse(pem).map_err(|what| KeyError::Malformed {
        path: path.into(),
        what,
    })
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        doing,
        path: path.into(),
        source,
    }
}

/// The public key as OpenSSL reads it: SubjectPublicKeyInfo in PEM (RFC 8410).
pub fn public_pem(key: &PublicKey) -> String {
    const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let der = [&SPKI[..], key.as_bytes()].concat();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(der)
    )
}

/// Reads what [`public_pem`] or `openssl pkey -pubout` wrote, or a key in base64 or hexadecimal.
///
/// # Errors
/// Where it is none.
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
    fn keys_are_made_once_for_their_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        assert!(ring.existing().is_err(), "none yet");
        let first = ring.load_or_create().unwrap().public();
        assert_eq!(ring.load_or_create().unwrap().public(), first);
        assert_eq!(ring.existing().unwrap().public(), first);
        let vault = || Vault::new(dir.path(), ring.originals(&OriginalsKey::Own).unwrap());
        let sha256 = vault().put(OriginalFormat::Png, b"picture").unwrap();
        assert_eq!(vault().open(&sha256).unwrap().1, b"picture");
        assert_eq!(fs::metadata(dir.path().join("keys")).unwrap().mode() & 0o777, 0o700);
        assert!(ring.unprotected([]).is_empty());
        fs::set_permissions(ring.signing_file(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(ring.unprotected([])[..], [KeyError::Unprotected { mode: 0o640, .. }]));
    }

    #[test]
    fn what_is_no_key_is_named_and_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::of(dir.path());
        let file = dir.path().join("mine");
        let place = OriginalsKey::File(file.clone());
        assert!(
            matches!(ring.originals(&place), Err(KeyError::Io { .. })),
            "an operator's key is never made"
        );
        fs::write(&file, "hunter2").unwrap();
        let told = ring.originals(&place).err().unwrap().to_string();
        assert!(told.contains("mine") && !told.contains("hunter2"), "{told}");
        let told = ring
            .originals(&OriginalsKey::Credential("originals".into()))
            .err()
            .unwrap()
            .to_string();
        assert!(told.contains("LoadCredential"), "{told}");
    }

    #[test]
    fn a_public_key_reads_back_in_every_form() {
        let (_, key) = SigningKey::generate().unwrap();
        let public = key.public();
        assert_eq!(parse_public(&public_pem(&public)).unwrap(), public);
        assert_eq!(parse_public(&public.to_string()).unwrap(), public);
        assert!(parse_public("no key").is_err());
    }
}
