//! The keys of the box, in `<state_dir>/keys/`: the signing key (`signing.pem`, Ed25519 in PKCS#8) and the key that
//! encrypts originals (`originals.key`, 32 bytes in base64).
//!
//! Missing keys are generated, readable by the owner only. Key material is never logged. The signing key may be in a token
//! instead, and the key of the originals in a file elsewhere or a systemd credential, so that the disk of a stolen box does not contain
//! them.

mod originals;

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    PublicKey, Signer, SigningKey,
    token::{TokenError, TokenSigner, TokenUri},
};
use gridwatch_base::{disk::write_private, error::Class, file};

const SIGNING_FILE: &str = "signing.pem";
/// The key that a rotation hands over to, until the hand-over is in the chain.
const NEXT_SIGNING_FILE: &str = "signing.next.pem";
const ORIGINALS_FILE: &str = "originals.key";
/// Keeps a PIN that the token rejected from being tried again.
const PIN_REJECTED_FILE: &str = "pin-rejected";

/// Errors of the keys. No variant contains key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation: `read`, `write` or `delete`.
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
    /// The key of the originals is not the one that encrypted them.
    #[error("{}: {what}", .path.display())]
    OtherOriginalsKey {
        /// The key's file, or the name of the credential.
        path: PathBuf,
        /// What is wrong, and the remedy.
        what: String,
    },
    /// The configuration names a key in a token, but the chain's key is the one in the state directory.
    #[error(
        "{} signs for this box, but evidence.signing_key names another key; hand over to it with `gridwatch keys rotate --config FILE`, \
         so that what was signed before still verifies",
        .path.display()
    )]
    NotHandedOver {
        /// The key in the state directory.
        path: PathBuf,
    },
    /// The token with the signing key.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The system has no source of random numbers.
    #[error("cannot generate a key: no random numbers from the operating system")]
    NoRandomness,
}

impl KeyError {
    /// The class of the error, which decides between retry and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::NoRandomness => Class::Transient,
            Self::Unprotected { .. }
            | Self::Malformed { .. }
            | Self::OtherOriginalsKey { .. }
            | Self::NotHandedOver { .. } => Class::Config,
            Self::Token(e) => e.class(),
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

/// Location of the signing key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SigningKeyPlace {
    /// In the state directory, generated at the first start.
    #[default]
    Own,
    /// In a token.
    Token(Box<TokenUri>),
}

/// The keys of a box: the directory of those in the state directory, and where the signing key is.
#[derive(Debug, Clone)]
pub struct KeyRing {
    dir: PathBuf,
    signing: SigningKeyPlace,
}

impl KeyRing {
    /// The keys below the state directory `state_dir`.
    pub fn of(state_dir: &Path) -> Self {
        Self::with_signing(state_dir, SigningKeyPlace::Own)
    }

    /// The keys below the state directory `state_dir`, with the signing key in `signing`.
    pub fn with_signing(state_dir: &Path, signing: SigningKeyPlace) -> Self {
        Self {
            dir: state_dir.join("keys"),
            signing,
        }
    }

    /// Where the signing key is.
    pub fn signing_place(&self) -> &SigningKeyPlace {
        &self.signing
    }

    /// Path of the signing key in the state directory.
    pub fn signing_file(&self) -> PathBuf {
        self.dir.join(SIGNING_FILE)
    }

    /// Loads the signing key. A missing key is generated in the state directory, but not in a token. A key that other users can
    /// read is still used, so that the box keeps filing cases; [`KeyRing::unprotected`] reports it.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn load_or_create(&self) -> Result<Arc<dyn Signer>, KeyError> {
        match self.existing() {
            Err(KeyError::Io { path, source, .. })
                if self.signing == SigningKeyPlace::Own && source.kind() == io::ErrorKind::NotFound =>
            {
                let (pem, key) = SigningKey::generate().map_err(|_| KeyError::NoRandomness)?;
                self.write(&path, &pem)?;
                tracing::info!(public_key = %key.public(), "Generated signing key; give the public key to the platform (gridwatch keys show)");
                Ok(Arc::new(key))
            }
            key => key,
        }
    }

    /// Loads the signing key.
    ///
    /// # Errors
    /// [`KeyError`], also if the key does not exist yet.
    pub fn existing(&self) -> Result<Arc<dyn Signer>, KeyError> {
        match &self.signing {
            SigningKeyPlace::Own => {
                let path = self.signing_file();
                let pem = file::read_secret(&path, file::MAX_KEY).map_err(|e| io_error("read", &path, e))?;
                Ok(Arc::new(parse_signing(&path, &pem)?))
            }
            SigningKeyPlace::Token(uri) => Ok(Arc::new(TokenSigner::open(uri, &self.pin_marker())?)),
        }
    }

    /// Loads the signing key, or creates it where it belongs, also in a token.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn create_missing(&self) -> Result<Arc<dyn Signer>, KeyError> {
        match &self.signing {
            SigningKeyPlace::Own => self.load_or_create(),
            SigningKeyPlace::Token(uri) => Ok(Arc::new(TokenSigner::open_or_create(uri, &self.pin_marker())?)),
        }
    }

    /// Fails if the signing key is in a token, but the one in the state directory still signs the chain, whose newest public key is
    /// `newest`.
    ///
    /// # Errors
    /// [`KeyError::NotHandedOver`].
    pub fn expect_handed_over(&self, newest: Option<&str>) -> Result<(), KeyError> {
        let own = Self {
            signing: SigningKeyPlace::Own,
            ..self.clone()
        };
        let is_own = |newest: &str| own.existing().is_ok_and(|key| key.public().to_string() == newest);
        match self.signing != SigningKeyPlace::Own && newest.is_some_and(is_own) {
            true => Err(KeyError::NotHandedOver {
                path: self.signing_file(),
            }),
            false => Ok(()),
        }
    }

    /// Deletes the signing key in the state directory, after one in a token took its place.
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn remove_replaced_signing_file(&self) -> Result<(), KeyError> {
        if self.signing == SigningKeyPlace::Own {
            return Ok(());
        }
        let path = self.signing_file();
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("delete", &path, e)),
            _ => Ok(()),
        }
    }

    fn pin_marker(&self) -> PathBuf {
        self.dir.join(PIN_REJECTED_FILE)
    }

    /// Writes `pem` beside the signing key, as the one that takes its place once the chain says so: see [`KeyRing::finish_rotation`].
    ///
    /// # Errors
    /// [`KeyError::Io`].
    pub fn stage_signing(&self, pem: &str) -> Result<(), KeyError> {
        self.write(&self.dir.join(NEXT_SIGNING_FILE), pem)
    }

    /// Ends a rotation, whenever it was interrupted: a staged key takes the place of the signing key if it is `newest`, the newest public key
    /// of the chain, and is deleted otherwise. Also deletes what interrupted writes left.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn finish_rotation(&self, newest: Option<&str>) -> Result<(), KeyError> {
        let staged = self.dir.join(NEXT_SIGNING_FILE);
        match self.staged()? {
            Some(key) if newest == Some(&key.public().to_string()) => {
                rename(&staged, &self.signing_file()).map_err(|e| io_error("replace", &self.signing_file(), e))?;
            }
            Some(_) => fs::remove_file(&staged).map_err(|e| io_error("delete", &staged, e))?,
            None => {}
        }
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).map_err(|e| io_error("delete", &path, e))?;
            }
        }
        Ok(())
    }

    /// Loads the signing key that the chain names: `newest` is its newest public key. It is the staged one if a rotation was interrupted.
    ///
    /// # Errors
    /// [`KeyError`], also if the key does not exist yet.
    pub fn existing_as(&self, newest: Option<&str>) -> Result<Arc<dyn Signer>, KeyError> {
        match self.staged()? {
            Some(key) if newest == Some(&key.public().to_string()) => Ok(Arc::new(key)),
            _ => self.existing(),
        }
    }

    fn staged(&self) -> Result<Option<SigningKey>, KeyError> {
        let path = self.dir.join(NEXT_SIGNING_FILE);
        match file::read_secret(&path, file::MAX_KEY) {
            Ok(pem) => parse_signing(&path, &pem).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io_error("read", &path, e)),
        }
    }

    /// True while a rotation of the signing key was interrupted: `gridwatch keys rotate` or the next start ends it.
    pub fn is_signing_rotation_pending(&self) -> bool {
        self.dir.join(NEXT_SIGNING_FILE).exists()
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

/// Path of the systemd credential `name`.
pub(crate) fn credential(name: &str) -> Result<PathBuf, KeyError> {
    // systemd passes the directory of the credentials in this variable.
    let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| KeyError::Malformed {
        path: name.into(),
        what: "no systemd credentials: CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit and start gridwatch with systemd"
            .into(),
    })?;
    // A path would lead out of the directory.
    if name.contains('/') || matches!(name, "" | "." | "..") {
        return Err(KeyError::Malformed {
            path: name.into(),
            what: "not the name of a systemd credential; use the name that LoadCredential= gives it, without a path"
                .into(),
        });
    }
    Ok(Path::new(&dir).join(name))
}

fn parse_signing(path: &Path, pem: &str) -> Result<SigningKey, KeyError> {
    SigningKey::parse(pem).map_err(|what| KeyError::Malformed {
        path: path.into(),
        what,
    })
}

/// Renames durably.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(dir) => fs::File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::Io {
        doing,
        path: path.into(),
        source,
    }
}

/// The public key in PEM (SubjectPublicKeyInfo, RFC 8410 and RFC 5480), as OpenSSL reads it.
pub fn public_pem(key: &PublicKey) -> String {
    let body = BASE64.encode(key.to_der());
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        lines.join("\n")
    )
}

/// Parses a public key in PEM ([`public_pem`], `openssl pkey -pubout`) or in the text form of [`PublicKey`].
///
/// # Errors
/// A description of the expected format.
pub fn parse_public(text: &str) -> Result<PublicKey, String> {
    if !text.trim_start().starts_with("-----") {
        return text.parse();
    }
    let body: String = text
        .lines()
        .filter(|l| !l.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = BASE64
        .decode(body)
        .map_err(|_| "not a public key in PEM: its body is not base64")?;
    PublicKey::from_der(&der)
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
