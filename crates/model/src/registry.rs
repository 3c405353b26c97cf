//! Registry of the model versions installed on a box in addition to those of its configuration: `<state_dir>/models/`.
//!
//! ```text
//! models/<id>/<version>/{model.onnx, model.toml, model.sig, CARD.md, …}   immutable once installed
//! models/journal.jsonl                                                    requests and their results
//! models/watching.lock                                                    locked by the running daemon
//! ```
//!
//! A version is installed completely or not at all (written to a staging folder, flushed, renamed), after its checksums, its
//! signature and the caller's own check have passed. The live version of a model follows from the journal ([`RegistryState`]) and
//! takes precedence over the configuration's folder. The registry runs no model, and deletes nothing but the staging folders of
//! interrupted installations.

mod journal;
mod package;
mod state;

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub use self::{
    journal::{Entry, Event, Journal, JournalContents, Version},
    package::PackageError,
    state::{
        CONFIGURED, Installed, LiveVersion, ModelRequest, ModelState, OutcomeKind, RegistryState, RequestAction,
        ShadowRequest, VersionOutcome, version_name,
    },
};
use super::{Model, ModelError};
use gridwatch_base::{digest::sha256_hex, disk, error::Class, file};
use gridwatch_custody::PublicKey;

/// The registry of one box.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
    keys: Vec<PublicKey>,
}

/// A version cannot be installed or used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The package cannot be unpacked.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The model is invalid.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The version is not usable as a folder name.
    #[error(
        "model {id}: version {version:?} is not usable as a folder name; write 1 to 64 letters, digits, '.', '_', '+' and '-' in model.toml, not starting with '.'"
    )]
    InvalidVersion {
        /// Id of the model.
        id: String,
        /// Version of the model.
        version: String,
    },
    /// The version is already installed with another manifest.
    #[error(
        "{id}@{version} is already installed with a different model.toml, and installed versions are immutable; raise `version` in model.toml"
    )]
    VersionConflict {
        /// Id of the model.
        id: String,
        /// Version of the model.
        version: String,
    },
    /// A signature is required and missing.
    #[error(
        "{}: model.sig is missing, but registry.keys requires a signature; sign the model (gridwatch model sign), or remove registry.keys",
        .dir.display()
    )]
    Unsigned {
        /// The model folder.
        dir: PathBuf,
    },
    /// The signature does not match.
    #[error(
        "{}: model.sig does not match model.toml under any of the {keys} keys in registry.keys; the model was modified after signing, or signed with another key",
        .dir.display()
    )]
    BadSignature {
        /// The model folder.
        dir: PathBuf,
        /// Number of configured keys.
        keys: usize,
    },
    /// A folder of the registry contains another model than its name says.
    #[error("{}: contains {found} instead; remove the folder and install the version again", .dir.display())]
    Misplaced {
        /// The folder.
        dir: PathBuf,
        /// The model found in it.
        found: String,
    },
    /// The version is not installed.
    #[error("{id}@{version} is not installed and not the configuration's version; see gridwatch model list")]
    UnknownVersion {
        /// Id of the model.
        id: String,
        /// Version of the model.
        version: String,
    },
    /// The caller's check rejected the version.
    #[error("{id}@{version} was rejected: {reason}")]
    Refused {
        /// Id of the model.
        id: String,
        /// Version of the model.
        version: String,
        /// Why it was rejected.
        reason: String,
    },
    /// An I/O error.
    #[error("{}: cannot {what}: {source}", .path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

impl RegistryError {
    /// Error class, which decides between retry, quarantine and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Package(e) => e.class(),
            Self::Model(e) => e.class(),
            Self::UnknownVersion { .. } => Class::Config,
            Self::InvalidVersion { .. }
            | Self::VersionConflict { .. }
            | Self::Unsigned { .. }
            | Self::BadSignature { .. }
            | Self::Misplaced { .. }
            | Self::Refused { .. } => Class::Data,
            Self::Io { .. } => Class::Transient,
        }
    }

    fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + use<'a> {
        move |source| Self::Io {
            what,
            path: path.to_path_buf(),
            source,
        }
    }
}

/// Result of [`Registry::install`].
#[derive(Debug, Clone)]
pub struct InstalledModel {
    /// The installed model.
    pub model: Model,
    /// Its folder in the registry.
    pub dir: PathBuf,
    /// The key that signed it; `None` if no keys are configured.
    pub signed_by: Option<PublicKey>,
    /// True if the same version was installed before.
    pub was_installed: bool,
}

impl Registry {
    /// The registry below a state directory; no I/O. If `keys` is not empty, only versions signed with one of them are accepted.
    pub fn new(state_dir: &Path, keys: Vec<PublicKey>) -> Self {
        Self {
            dir: state_dir.join("models"),
            keys,
        }
    }

    /// The journal of requests and results.
    pub fn journal(&self) -> Journal {
        Journal::new(&self.dir)
    }

    /// The state derived from the journal.
    ///
    /// # Errors
    /// The journal exists and cannot be read.
    pub fn state(&self) -> Result<RegistryState, RegistryError> {
        let journal = self.journal();
        let contents = journal.read().map_err(RegistryError::io("read", journal.path()))?;
        Ok(RegistryState::of(&contents.entries))
    }

    /// Folder of a version, installed or not.
    pub fn dir_of(&self, id: &str, version: &str) -> PathBuf {
        self.dir.join(id).join(version)
    }

    /// Loads an installed version, verifying checksum, signature, id and version.
    ///
    /// # Errors
    /// [`RegistryError`]; such a version must not be used.
    pub fn load(&self, id: &str, version: &str) -> Result<Model, RegistryError> {
        let unknown = || RegistryError::UnknownVersion {
            id: id.to_owned(),
            version: version.to_owned(),
        };
        if !is_safe_name(version) || !is_safe_name(id) {
            return Err(unknown());
        }
        let dir = self.dir_of(id, version);
        if !dir.is_dir() {
            return Err(unknown());
        }
        self.verify_signature(&dir)?;
        let model = Model::load(&dir)?;
        let manifest = model.manifest();
        if manifest.id != id || manifest.version != version {
            return Err(RegistryError::Misplaced {
                found: format!("{}@{}", manifest.id, manifest.version),
                dir,
            });
        }
        Ok(model)
    }

    /// Installs a package: a model folder, or a `.tar` or `.tar.gz` of one. Installing the same package again changes nothing.
    /// `accept`, which may run the model, decides whether the version is kept; its error is the reason for the rejection.
    ///
    /// # Errors
    /// [`RegistryError`]; the registry is then unchanged.
    pub fn install(
        &self,
        package: &Path,
        accept: impl FnOnce(&Model) -> Result<(), String>,
    ) -> Result<InstalledModel, RegistryError> {
        disk::create_private_dir(&self.dir).map_err(RegistryError::io("create the folder", &self.dir))?;
        let _lock = self.lock_installing()?;
        let staging = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .tempdir_in(&self.dir)
            .map_err(RegistryError::io("create a folder in", &self.dir))?;
        let root = package::unpack(package, staging.path())?;
        let model = Model::load(&root)?;
        let manifest = model.manifest();
        let (id, version) = (manifest.id.clone(), manifest.version.clone());
        if !is_safe_name(&version) {
            return Err(RegistryError::InvalidVersion { id, version });
        }
        let signed_by = self.verify_signature(&root)?;
        let read = |path: PathBuf| file::read(&path, file::MAX_TEXT).map_err(RegistryError::io("read", &path));
        let text = read(root.join(MANIFEST))?;
        let dir = self.dir_of(&id, &version);
        let was_installed = dir.exists();
        if was_installed {
            // Verified completely, so that a corrupted copy is noticed here and not at the next start.
            self.load(&id, &version)?;
            if read(dir.join(MANIFEST))? != text {
                return Err(RegistryError::VersionConflict { id, version });
            }
        } else {
            accept(&model).map_err(|reason| RegistryError::Refused {
                id: id.clone(),
                version: version.clone(),
                reason,
            })?;
            let model_dir = self.dir.join(&id);
            disk::create_private_dir(&model_dir).map_err(RegistryError::io("create the folder", &model_dir))?;
            package::sync_files(&root).map_err(RegistryError::io("flush", &root))?;
            fs::rename(&root, &dir).map_err(RegistryError::io("rename to", &dir))?;
            for folder in [&model_dir, &self.dir] {
                package::sync_folder(folder).map_err(RegistryError::io("flush", folder))?;
            }
        }
        // Power may have failed between the rename and the journal entry.
        if !self.state()?.model(&id).installed.contains_key(&version) {
            let event = Event::Installed {
                version: version.clone(),
                sha256: manifest.sha256.clone(),
                manifest_sha256: sha256_hex(&text),
                signed_by: signed_by.as_ref().map(ToString::to_string),
            };
            let journal = self.journal();
            journal
                .append(&id, Timestamp::now(), event)
                .map_err(RegistryError::io("write", journal.path()))?;
        }
        package::match_owner(&self.dir);
        Ok(InstalledModel {
            model: self.load(&id, &version)?,
            dir,
            signed_by,
            was_installed,
        })
    }

    /// Takes the lock that marks a running daemon, which [`Self::is_daemon_running`] tests. Released when the file is dropped.
    ///
    /// # Errors
    /// The lock file cannot be created or locked.
    pub fn lock_for_daemon(&self) -> Result<File, RegistryError> {
        disk::create_private_dir(&self.dir).map_err(RegistryError::io("create the folder", &self.dir))?;
        // `is_daemon_running` holds a shared lock for a moment, so this waits. The store's lock excludes a second daemon.
        self.lock_file(DAEMON_LOCK)
    }

    /// True while a daemon uses this state directory.
    pub fn is_daemon_running(&self) -> bool {
        let path = self.dir.join(DAEMON_LOCK);
        let is_locked = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(path).is_ok_and(is_locked)
    }

    /// Serialises installations and removes the staging folders of interrupted ones.
    fn lock_installing(&self) -> Result<File, RegistryError> {
        let lock = self.lock_file("installing.lock")?;
        let entries = fs::read_dir(&self.dir).map_err(RegistryError::io("read", &self.dir))?;
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
                // On failure the next installation tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(lock)
    }

    fn lock_file(&self, name: &str) -> Result<File, RegistryError> {
        let path = self.dir.join(name);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(disk::PRIVATE_FILE)
            .open(&path)
            .map_err(RegistryError::io("open", &path))?;
        file.lock().map_err(RegistryError::io("lock", &path))?;
        package::match_owner(&path);
        Ok(file)
    }

    fn verify_signature(&self, dir: &Path) -> Result<Option<PublicKey>, RegistryError> {
        verify_signature(&self.keys, dir)
    }
}

/// Verifies the signature of a model folder: its manifest is signed, which names the checksum of the network. Returns the key, or `None` if
/// `keys` is empty.
///
/// # Errors
/// The signature is missing, or by none of the keys; or a file cannot be read.
pub fn verify_signature(keys: &[PublicKey], dir: &Path) -> Result<Option<PublicKey>, RegistryError> {
    if keys.is_empty() {
        return Ok(None);
    }
    let path = dir.join(SIGNATURE);
    let text = match file::read(&path, file::MAX_KEY) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(RegistryError::Unsigned { dir: dir.to_path_buf() });
        }
        Err(e) => return Err(RegistryError::io("read", &path)(e)),
    };
    let path = dir.join(MANIFEST);
    let signed = file::read(&path, file::MAX_TEXT).map_err(RegistryError::io("read", &path))?;
    let key = keys.iter().find(|key| key.verifies(&signed, &text));
    key.cloned().map(Some).ok_or_else(|| RegistryError::BadSignature {
        dir: dir.to_path_buf(),
        keys: keys.len(),
    })
}

/// File name of the manifest in a model folder.
pub const MANIFEST: &str = "model.toml";
/// File name of the manifest's signature in a model folder.
pub const SIGNATURE: &str = "model.sig";

const STAGING_PREFIX: &str = ".installing-";
const DAEMON_LOCK: &str = "watching.lock";

/// True for a name that is safe as a folder name: it cannot lead outside the registry.
fn is_safe_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(is_allowed)
}
