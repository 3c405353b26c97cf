//! The versions of the configuration's files: whole sets in `configurations/` of the state directory, each file stored once by its
//! hash, with an index of who saved what when and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    EditError, SaveRequest, Saved,
    save::{self, Commit},
    write::{self, Lock, Ownership},
};
use crate::{
    Faults,
    check::{self, Surroundings},
    diff::Change,
    files::{CONF_DIR, ConfigFile, ConfigFiles, is_part, main_name},
};
use gridwatch_base::{digest::sha256_hex, file};

/// Below the state directory.
const FOLDER: &str = "configurations";
const INDEX: &str = "index.json";
const FILES: &str = "files";

/// How many versions are kept.
const KEEP: usize = 20;

/// Twenty versions of a thousand files each have 4 MB.
const MAX_INDEX: u64 = file::MAX_TEXT;

/// A version of the configuration's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its number; a later version has a larger one.
    pub id: u64,
    /// When it was saved or, if a person changed the files, when that was found.
    pub at: Timestamp,
    /// Who saved it; `None` if the files were changed by other means, such as an editor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// The reason given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The revision of the files ([`ConfigFiles::revision`]).
    pub revision: String,
    /// The files, the main file first.
    pub files: Vec<VersionFile>,
    /// True while its files are being written.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_pending: bool,
}

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionFile {
    /// `edge.toml` or `conf.d/gate.toml`.
    pub name: String,
    /// SHA-256 of its content in lower-case hex.
    pub sha256: String,
}

/// A version with its content.
#[derive(Debug, Clone)]
pub struct VersionFiles {
    /// Which one it is.
    pub version: Version,
    files: ConfigFiles,
}

impl VersionFiles {
    /// The names and texts of its files, the main file first.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        let text = |file: &ConfigFile| String::from_utf8_lossy(file.bytes().unwrap_or_default()).into_owned();
        self.files.iter().map(move |file| (file.name.as_str(), text(file)))
    }

    /// What differs from this version to another.
    pub fn changes_to(&self, other: &Self) -> Vec<Change> {
        super::changes_between(&self.files, &other.files)
    }

    /// What differs from this version to the present files.
    pub fn changes_to_files(&self, files: &ConfigFiles) -> Vec<Change> {
        super::changes_between(&self.files, files)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The number of the next version.
    next: u64,
    /// Oldest first.
    versions: Vec<Version>,
}

/// The kept versions of a configuration.
#[derive(Debug)]
pub struct Versions {
    main: PathBuf,
    store: Store,
    is_offline: bool,
}

impl Versions {
    /// Those of the configuration `main`, in the state directory that it names.
    ///
    /// # Errors
    /// [`EditError::Faults`] if it names none that is valid; give it to [`Versions::in_state`] then.
    pub fn of(main: &Path) -> Result<Self, EditError> {
        let draft = check::examine(&ConfigFiles::read(main), &Surroundings::of_process());
        match draft.state_dir {
            Some(dir) => Ok(Self::in_state(main, &dir)),
            None => Err(EditError::Faults(Faults(draft.faults))),
        }
    }

    /// Those of the configuration `main` in the state directory `state_dir`: also when the files are damaged.
    pub fn in_state(main: &Path, state_dir: &Path) -> Self {
        Self {
            main: main.into(),
            store: Store::new(state_dir),
            is_offline: false,
        }
    }

    /// For commands without the daemon's environment: credentials that only it has are not checked in a restore.
    #[must_use]
    pub fn offline(self) -> Self {
        Self {
            is_offline: true,
            ..self
        }
    }

    /// The kept versions, newest first, without one whose save was interrupted before it was written.
    ///
    /// # Errors
    /// [`EditError::Io`] if the index cannot be read.
    pub fn list(&self) -> Result<Vec<Version>, EditError> {
        let now = ConfigFiles::read(&self.main).revision();
        let mut versions = self.store.read()?.versions;
        versions.retain(|version| !version.is_pending || version.revision == now);
        versions.reverse();
        Ok(versions)
    }

    /// The version with this number, with its content.
    ///
    /// # Errors
    /// [`EditError::UnknownVersion`], or [`EditError::Io`] if a file of it is missing or damaged.
    pub fn get(&self, id: u64) -> Result<VersionFiles, EditError> {
        let version = self.list()?.into_iter().find(|version| version.id == id);
        let version = version.ok_or(EditError::UnknownVersion(id))?;
        let files = self.store.contents(&self.main, &version)?;
        Ok(VersionFiles { version, files })
    }

    /// Makes the files what they were in this version: a save like any other.
    ///
    /// # Errors
    /// As [`Versions::get`] and [`Editor::save`](super::Editor::save).
    pub fn restore(&self, id: u64, request: &SaveRequest<'_>) -> Result<Saved, EditError> {
        let files = self.get(id)?.files;
        let contents = files.iter().filter_map(|f| Some((f.name.clone(), f.bytes()?.to_vec())));
        let commit = Commit {
            main: &self.main,
            surroundings: match self.is_offline {
                true => Surroundings::of_offline_command(),
                false => Surroundings::of_process(),
            },
            request,
            base: None,
        };
        commit.run(contents.collect())
    }

    /// Keeps the present files as a version, if they are not the newest one already: what a person changed by other means can be
    /// restored, too, once it has been recorded. Completes an interrupted save before.
    ///
    /// # Errors
    /// The files cannot be read, or the version not be written.
    pub fn record_present(&self) -> Result<u64, EditError> {
        save::finish_interrupted(&self.main)?;
        let _lock = Lock::take(&self.main)?;
        let now = ConfigFiles::read(&self.main);
        now.document().map_err(|faults| EditError::Faults(Faults(faults)))?;
        self.store.prepare()?;
        let id = self.store.record(&now, None)?;
        self.store.settle(&now.revision())?;
        Ok(id)
    }
}

/// `configurations/` of a state directory.
#[derive(Debug)]
pub(super) struct Store {
    state_dir: PathBuf,
    folder: PathBuf,
}

impl Store {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join(FOLDER),
            state_dir: state_dir.into(),
        }
    }

    /// Makes the folders.
    pub(super) fn prepare(&self) -> Result<(), EditError> {
        let dir = &self.state_dir;
        if !dir.exists() {
            gridwatch_base::disk::create_private_dir(dir).map_err(EditError::io("make", dir))?;
        }
        write::make_directory(&self.folder, 0o700)?;
        write::make_directory(&self.folder.join(FILES), 0o700)
    }

    /// Keeps `files` as the newest version: of `saved_by` with the reason, about to be written, or as they were found. Returns its number;
    /// that of the newest version, if the files as found are those.
    pub(super) fn record(&self, files: &ConfigFiles, saved_by: Option<(&str, &str)>) -> Result<u64, EditError> {
        let revision = files.revision();
        let mut index = self.read()?;
        if saved_by.is_none() {
            let is_settled = index.settle(&revision);
            if let Some(newest) = index.versions.last().filter(|newest| newest.revision == revision) {
                let id = newest.id;
                if !is_settled {
                    self.write(&index)?;
                }
                return Ok(id);
            }
        }
        let mut list = Vec::new();
        for file in files.iter() {
            let bytes = file.bytes().unwrap_or_default();
            let sha256 = sha256_hex(bytes);
            let path = self.content(&sha256);
            if !path.exists() {
                self.put(&path, bytes)?;
            }
            list.push(VersionFile {
                name: file.name.clone(),
                sha256,
            });
        }
        let id = index.next.max(1);
        index.next = id + 1;
        index.versions.push(Version {
            id,
            at: Timestamp::now(),
            who: saved_by.map(|(who, _)| who.into()),
            why: saved_by.map(|(_, why)| why.to_owned()).filter(|why| !why.is_empty()),
            revision,
            files: list,
            is_pending: saved_by.is_some(),
        });
        self.write(&index)?;
        Ok(id)
    }

    /// The files were written: what is pending becomes the newest version, and what no version has is removed.
    pub(super) fn settle(&self, revision: &str) -> Result<(), EditError> {
        let mut index = self.read()?;
        index.settle(revision);
        let more = index.versions.len().saturating_sub(KEEP);
        index.versions.drain(..more);
        self.write(&index)?;
        let used: BTreeSet<&str> = index
            .versions
            .iter()
            .flat_map(|v| &v.files)
            .map(|f| f.sha256.as_str())
            .collect();
        let folder = self.folder.join(FILES);
        for entry in fs::read_dir(&folder).map_err(EditError::io("list", &folder))?.flatten() {
            if !entry.file_name().to_str().is_some_and(|name| used.contains(name)) {
                write::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The kept files of this revision.
    pub(super) fn files_of(&self, main: &Path, revision: &str) -> Option<ConfigFiles> {
        let versions = self.read().ok()?.versions;
        let version = versions.iter().rfind(|version| version.revision == revision)?;
        self.contents(main, version).ok()
    }

    fn contents(&self, main: &Path, version: &Version) -> Result<ConfigFiles, EditError> {
        let mut contents = BTreeMap::new();
        for VersionFile { name, sha256 } in &version.files {
            let path = self.content(sha256);
            let bytes = file::read(&path, file::MAX_TEXT).map_err(EditError::io("read", &path))?;
            if sha256_hex(&bytes) != *sha256 {
                let damaged =
                    std::io::Error::new(std::io::ErrorKind::InvalidData, "it was changed since it was stored");
                return Err(EditError::io("use", &path)(damaged));
            }
            // The main file may have another name now. A name from a damaged index must not lead elsewhere.
            let part = name.strip_prefix(CONF_DIR).and_then(|name| name.strip_prefix('/'));
            let is_part = part.is_some_and(is_part);
            contents.insert(if is_part { name.clone() } else { main_name(main) }, bytes);
        }
        Ok(ConfigFiles::with_contents(main, contents))
    }

    fn content(&self, sha256: &str) -> PathBuf {
        // A hash from a damaged index must not lead elsewhere.
        let name: String = sha256.chars().filter(char::is_ascii_hexdigit).collect();
        self.folder.join(FILES).join(name)
    }

    fn put(&self, path: &Path, bytes: &[u8]) -> Result<(), EditError> {
        // Of the user of the state directory, also if root saves.
        let metadata = self
            .state_dir
            .metadata()
            .map_err(EditError::io("read", &self.state_dir))?;
        let ownership = Ownership {
            mode: write::PRIVATE,
            ..Ownership::of(&metadata)
        };
        write::replace(path, bytes, ownership)
    }

    fn read(&self) -> Result<Index, EditError> {
        let path = self.folder.join(INDEX);
        let bytes = match file::read(&path, MAX_INDEX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(e) => return Err(EditError::io("read", &path)(e)),
        };
        serde_json::from_slice(&bytes).map_err(|e| EditError::io("read", &path)(e.into()))
    }

    fn write(&self, index: &Index) -> Result<(), EditError> {
        let path = self.folder.join(INDEX);
        let json = serde_json::to_vec_pretty(index).map_err(|e| EditError::io("write", &path)(e.into()))?;
        self.put(&path, &json)
    }
}

impl Index {
    /// Ends what is pending: it has become the files with this revision, or was interrupted before it was written. True if nothing was.
    fn settle(&mut self, revision: &str) -> bool {
        if self.versions.iter().all(|version| !version.is_pending) {
            return true;
        }
        self.versions
            .retain(|version| !version.is_pending || version.revision == revision);
        for version in &mut self.versions {
            version.is_pending = false;
        }
        false
    }
}
