//! The journal of a save that touches several files: written whole beside the main file before the first of them, and removed after the
//! last, so that a save which is interrupted in between is completed and never half there.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::files::{self, journal_path};
use gridwatch_base::{digest::sha256_hex, file};

/// End of the journal's name: `.edge.toml.save`.
pub(crate) const SUFFIX: &str = ".save";

/// A set of files has at most [`file::MAX_TEXT`] bytes, each of which JSON writes as up to six.
const MAX_JOURNAL: u64 = 6 * file::MAX_TEXT + (1 << 20);

/// What a save is about to write.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    pub(crate) files: Vec<FileChange>,
}

/// One file of a save.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileChange {
    /// `edge.toml` or `conf.d/gate.toml`.
    pub(crate) name: String,
    /// SHA-256 before the save; `None` if there was no such file.
    pub(crate) old: Option<String>,
    /// The new content; `None` if the file is removed.
    pub(crate) new: Option<String>,
}

impl Journal {
    /// The journal beside the main file, if there is one that can be read and names nothing but the configuration's files.
    pub(crate) fn find(main: &Path) -> Option<Self> {
        let bytes = file::read(&journal_path(main), MAX_JOURNAL).ok()?;
        let journal: Self = serde_json::from_slice(&bytes).ok()?;
        let main = files::main_name(main);
        let is_own = |change: &FileChange| {
            change.name == main || change.name.strip_prefix("conf.d/").is_some_and(files::is_part)
        };
        journal.files.iter().all(is_own).then_some(journal)
    }

    /// Whether each of its files is as it was before or after the save, given their present SHA-256s. If not, somebody has edited
    /// one since, and the save is not completed.
    pub(crate) fn describes(&self, sha256: impl Fn(&str) -> Option<String>) -> bool {
        self.files.iter().all(|change| {
            let now = sha256(&change.name);
            now == change.old || now == change.new.as_deref().map(|text| sha256_hex(text.as_bytes()))
        })
    }

    /// Removes the journal beside the main file, if there is one.
    pub(crate) fn remove(main: &Path) -> io::Result<()> {
        match fs::remove_file(journal_path(main)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}
