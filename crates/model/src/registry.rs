//! The models of a box beyond those that its configuration names: `<state_dir>/models/`.
//!
//! ```text
//! models/<id>/<version>/{model.onnx, model.toml, model.sig, CARD.md, …}   never changed once they are there
//! models/journal.jsonl                                                    what was asked and what came of it
//! models/watching.lock                                                    held by the daemon while it runs
//! ```
//!
//! A version gets there whole or not at all (written beside, flushed, renamed), after its sums, its signature and whatever
//! the caller asks have been seen to. Which version looks is the fold of the journal ([`RegistryState`]): the registry's live version
//! of an id goes before the configuration's folder. Nothing here runs a model, and nothing is ever deleted but what an
//! installation that was cut off had left.

mod journal;
mod package;
mod state;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

pub use self::{
    journal::{Entry, Event, Journal, JournalContents, Version},
    package::PackageError,
    state::{CONFIGURED, Installed, ModelState, LiveVersion, VersionOutcome, ShadowRequest, RegistryState, OutcomeKind, RequestAction, ModelRequest, version_name},
};
use super::{Model, ModelError};
use gridwatch_custody::PublicKey;
use gridwatch_base::{digest::sha256_hex, error::Class};

/// The registry of one box.
#[derive(Debug, Clone)]
pub struct Registry {
    dir: PathBuf,
    keys: Vec<PublicKey>,
}

/// Why a version is not taken or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The package cannot be taken apart.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// What is in it is no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its version cannot be a folder's name.
    #[error(
        "model {id}: version {version:?} cannot be a folder's name: write 1 to 64 letters, digits, '.', '_', '+' and '-', no '.' first (version, model.toml)"
    )]
    InvalidVersion {
        /// The manifest's id.
        id: String,
        /// Its version.
        version: String,
    },
    /// There is another one of that version.
    #[error(
        "{id}@{version} is in the registry already, with another model.toml: a version never changes. Raise `version` in model.toml"
    )]
    VersionConflict {
        /// The manifest's id.
        id: String,
        /// Its version.
        version: String,
    },
    /// Signatures are asked for and it has none.
    #[error(
        "{}: there is no model.sig, and registry.keys asks for one: have it signed (gridwatch model sign), or empty registry.keys",
        .dir.display()
    )]
    Unsigned {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// It is signed by somebody else, or was changed afterwards.
    #[error(
        "{}: model.sig is none of the {keys} keys' of registry.keys over model.toml: it was changed after it was signed, or signed with another key",
        .dir.display()
    )]
    BadSignature {
        /// The folder.
        dir: PathBuf,
        /// How many keys are configured.
        keys: usize,
    },
    /// A folder of the registry holds another model than its name says.
    #[error("{}: its model.toml is of {found}: install it again", .dir.display())]
    Misplaced {
        /// The folder.
        dir: PathBuf,
        /// What lies there.
        found: String,
    },
    /// There is no such version.
    #[error("{id}@{version} is not in the registry (gridwatch model list), nor is it the configuration's")]
    UnknownVersion {
        /// The id.
        id: String,
        /// The version.
        version: String,
    },
    /// Whoever asked for it does not want it.
    #[error("{id}@{version} is refused: {reason}")]
    Refused {
        /// The manifest's id.
        id: String,
        /// Its version.
        version: String,
        /// Why.
        reason: String,
    },
    /// The disk.
    #[error("{}: cannot {what}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl RegistryError {
    /// What to do about it.
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

/// What [`Registry::install`] made of a package.
#[derive(Debug, Clone)]
pub struct InstalledModel {
    /// As it lies in the registry.
    pub model: Model,
    /// Its folder.
    pub dir: PathBuf,
    /// The key that signed it; `None` where no keys are configured.
    pub signed_by: Option<PublicKey>,
    /// It lay there already.
    pub was_there: bool,
}

impl Registry {
    /// The registry below a state directory. Nothing is made or read. With `keys`, only what one of them signed is used.
    pub fn new(state_dir: &Path, keys: Vec<PublicKey>) -> Self {
        Self {
            dir: state_dir.join("models"),
            keys,
        }
    }

    /// What was asked and what came of it.
    pub fn journal(&self) -> Journal {
        Journal::new(&self.dir)
    }

    /// What the journal amounts to.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn state(&self) -> Result<RegistryState, RegistryError> {
        let journal = self.journal();
        let told = journal.read().map_err(RegistryError::io("read", journal.path()))?;
        Ok(RegistryState::of(&told.entries))
    }

    /// Where a version lies or would lie.
    pub fn dir_of(&self, id: &str, version: &str) -> PathBuf {
        self.dir.join(id).join(version)
    }

    /// Reads a version: its sums, its signature, and that it is what its folder's name says.
    ///
    /// # Errors
    /// [`RegistryError`]; nothing that it returns an error for may look.
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

    /// Takes a package, a folder or a `.tar` or `.tar.gz` of one, into the registry; the same one again changes nothing. It is
    /// there for good only if `accept`, which may run it, finds nothing against it.
    ///
    /// # Errors
    /// [`RegistryError`]; then the registry is as it was.
    pub fn install(
        &self,
        package: &Path,
        accept: impl FnOnce(&Model) -> Result<(), String>,
    ) -> Result<InstalledModel, RegistryError> {
        fs::create_dir_all(&self.dir).map_err(RegistryError::io("make the folder", &self.dir))?;
        let _lock = self.lock_installing()?;
        let staging = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .tempdir_in(&self.dir)
            .map_err(RegistryError::io("make a folder in", &self.dir))?;
        let root = package::unpack(package, staging.path())?;
        let model = Model::load(&root)?;
        let manifest = model.manifest();
        let (id, version) = (manifest.id.clone(), manifest.version.clone());
        if !is_safe_name(&version) {
            return Err(RegistryError::InvalidVersion { id, version });
        }
        let signed_by = self.verify_signature(&root)?;
        let read = |path: PathBuf| fs::read(&path).map_err(RegistryError::io("read", &path));
        let text = read(root.join(MANIFEST))?;
        let dir = self.dir_of(&id, &version);
        let was_there = dir.exists();
        if was_there {
            // Read whole, so that a copy that has spoiled since is noticed here and not at the next start.
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
            let home = self.dir.join(&id);
            fs::create_dir_all(&home).map_err(RegistryError::io("make the folder", &home))?;
            package::sync_files(&root).map_err(RegistryError::io("flush", &root))?;
            fs::rename(&root, &dir).map_err(RegistryError::io("rename to", &dir))?;
            for folder in [&home, &self.dir] {
                package::sync_folder(folder).map_err(RegistryError::io("flush", folder))?;
            }
        }
        // A power cut may have come between the folder and its line.
        if !self.state()?.known(&id).installed.contains_key(&version) {
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
            was_there,
        })
    }

    /// Says to whoever asks [`Self::is_daemon_running`] that a daemon looks with these models, until it is dropped.
    ///
    /// # Errors
    /// When the lock cannot be had.
    pub fn lock_for_daemon(&self) -> Result<File, RegistryError> {
        fs::create_dir_all(&self.dir).map_err(RegistryError::io("make the folder", &self.dir))?;
        // Whoever asks holds it for a moment: that is waited out. Two daemons are kept apart by the store's own lock.
        self.locked(DAEMON_LOCK)
    }

    /// True while a daemon runs on this state directory.
    pub fn is_daemon_running(&self) -> bool {
        let path = self.dir.join(DAEMON_LOCK);
        let held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        File::open(path).is_ok_and(held)
    }

    /// One installation at a time; what lies about was cut off.
    fn lock_installing(&self) -> Result<File, RegistryError> {
        let lock = self.locked("installing.lock")?;
        let entries = fs::read_dir(&self.dir).map_err(RegistryError::io("read", &self.dir))?;
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(STAGING_PREFIX) {
                // What cannot be removed now is tried again by the next installation.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(lock)
    }

    fn locked(&self, name: &str) -> Result<File, RegistryError> {
        let path = self.dir.join(name);
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(RegistryError::io("open", &path))?;
        file.lock().map_err(RegistryError::io("lock", &path))?;
        package::match_owner(&path);
        Ok(file)
    }

    fn verify_signature(&self, dir: &Path) -> Result<Option<PublicKey>, RegistryError> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let path = dir.join(SIGNATURE);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(RegistryError::Unsigned { dir: dir.to_path_buf() });
            }
            Err(e) => return Err(RegistryError::io("read", &path)(e)),
        };
        let path = dir.join(MANIFEST);
        let signed = fs::read(&path).map_err(RegistryError::io("read", &path))?;
        let key = self.keys.iter().find(|key| key.verifies(&signed, &text));
        key.cloned().map(Some).ok_or_else(|| RegistryError::BadSignature {
            dir: dir.to_path_buf(),
            keys: self.keys.len(),
        })
    }
}

/// The manifest and its signature in a model's folder.
pub const MANIFEST: &str = "model.toml";
/// See [`MANIFEST`].
pub const SIGNATURE: &str = "model.sig";

const STAGING_PREFIX: &str = ".installing-";
const DAEMON_LOCK: &str = "watching.lock";

/// What may be a folder here: nothing that leads elsewhere.
fn is_safe_name(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.chars().all(good)
}
