//! Saves: checked, recorded as a version, and written so that the old or the new configuration is there whole.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use gridwatch_base::message;

use super::{
    EditError, Editor, changes_between,
    journal::{FileChange, Journal},
    versions::Store,
    write::{self, Lock, Ownership},
};
use crate::{
    Faults,
    check::{self, Surroundings},
    diff::Change,
    files::{self, CONF_DIR, ConfigFile, ConfigFiles, conf_dir, journal_path},
};

/// Maximum lengths of the names and reasons of versions, in bytes.
const MAX_WHO: usize = 200;
const MAX_WHY: usize = 1000;

/// Who saves what, and why.
#[derive(Debug, Clone, Copy)]
pub struct SaveRequest<'a> {
    /// The revision that the edits are for: that of the page on which they were made.
    pub expected_revision: &'a str,
    /// The person, at most 200 bytes.
    pub who: &'a str,
    /// The reason, at most 1000 bytes; may be empty.
    pub why: &'a str,
}

/// A save that was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// The number of the version.
    pub version: u64,
    /// The revision of the files now.
    pub revision: String,
    /// What it has changed; empty if the files were as wanted already.
    pub changes: Vec<Change>,
}

impl Editor {
    /// Checks the edited configuration and writes it. After a conflict or a fault the edits are kept, and nothing is written.
    ///
    /// # Errors
    /// [`EditError::Conflict`] if the files are not those of `expected_revision` any more, [`EditError::Faults`] if a check fails, and
    /// the errors of writing; after those, the old configuration or the new one is there whole.
    pub fn save(&mut self, request: &SaveRequest<'_>) -> Result<Saved, EditError> {
        let commit = Commit {
            main: self.files.main(),
            surroundings: self.surroundings(),
            request,
            base: Some(&self.files),
        };
        let saved = commit.run(self.contents())?;
        *self = Self::read(self.files.main(), self.is_offline)?;
        Ok(saved)
    }
}

/// Completes a save that was interrupted between two files. Readers see its result in any case; the files themselves have it after this.
/// True if there was one.
///
/// # Errors
/// The files cannot be written.
pub(super) fn finish_interrupted(main: &Path) -> Result<bool, EditError> {
    let _lock = Lock::take(main)?;
    finish(main)
}

/// [`finish_interrupted`], with the lock held.
fn finish(main: &Path) -> Result<bool, EditError> {
    let path = journal_path(main);
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let Some(journal) = Journal::find(main) else {
        // One that cannot be read is none: it is written whole.
        Journal::remove(main).map_err(EditError::io("remove", &path))?;
        return Ok(false);
    };
    let sha256 = |name: &str| {
        let bytes = gridwatch_base::file::read(&path_of(main, name), gridwatch_base::file::MAX_TEXT).ok();
        bytes.map(|bytes| gridwatch_base::digest::sha256_hex(&bytes))
    };
    let is_valid = journal.describes(sha256);
    if is_valid {
        apply(main, &journal.files)?;
    }
    Journal::remove(main).map_err(EditError::io("remove", &path))?;
    write::sync_directory(main)?;
    Ok(is_valid)
}

/// What is about to be committed.
pub(super) struct Commit<'a> {
    pub(super) main: &'a Path,
    pub(super) surroundings: Surroundings<'static>,
    pub(super) request: &'a SaveRequest<'a>,
    /// The files that the new ones were made from, if they were.
    pub(super) base: Option<&'a ConfigFiles>,
}

impl Commit<'_> {
    /// Writes the files `contents`; others are removed.
    pub(super) fn run(self, contents: BTreeMap<String, Vec<u8>>) -> Result<Saved, EditError> {
        let SaveRequest {
            expected_revision: expected,
            who,
            why,
        } = *self.request;
        if who.is_empty() || who.len() > MAX_WHO {
            return Err(super::invalid("who", message!("give a name of at most 200 bytes")));
        }
        if why.len() > MAX_WHY {
            return Err(super::invalid("why", message!("give a reason of at most 1000 bytes")));
        }
        let _lock = Lock::take(self.main)?;
        finish(self.main)?;
        let now = ConfigFiles::read(self.main);
        let found = now.revision();
        if found != expected || self.base.is_some_and(|base| base.revision() != found) {
            return Err(self.conflict(&now));
        }
        let new = ConfigFiles::with_contents(self.main, contents);
        let draft = check::examine(&new, &self.surroundings);
        let state_dir = match draft.state_dir {
            Some(dir) if draft.faults.is_empty() => dir,
            _ => return Err(EditError::Faults(Faults(draft.faults))),
        };
        // The checks take a moment, in which an editor, which knows no lock, may have saved.
        let later = ConfigFiles::read(self.main);
        if later.revision() != found {
            return Err(self.conflict(&later));
        }
        let store = Store::new(&state_dir);
        store.prepare()?;
        let before = store.record(&now, None)?;
        let revision = new.revision();
        if revision == found {
            return Ok(Saved {
                version: before,
                revision,
                changes: Vec::new(),
            });
        }
        for file in new.iter() {
            let old = now.get(&file.name).map(ConfigFile::sha256);
            if old.is_some_and(|old| old != file.sha256()) {
                write::expect_writable(&path_of(self.main, &file.name))?;
            }
        }
        // Before the files are written: whatever is there after a crash is a version.
        let version = store.record(&new, Some((who, why)))?;
        write_files(self.main, &now, &new)?;
        store.settle(&revision)?;
        Ok(Saved {
            version,
            revision,
            changes: changes_between(&now, &new),
        })
    }

    fn conflict(&self, now: &ConfigFiles) -> EditError {
        let expected = self.request.expected_revision;
        let base = self.base.filter(|base| base.revision() == expected);
        let before = base.cloned().or_else(|| {
            let state_dir = check::examine(now, &self.surroundings).state_dir?;
            Store::new(&state_dir).files_of(self.main, expected)
        });
        EditError::Conflict {
            expected: expected.into(),
            found: now.revision(),
            changes: before.map(|before| changes_between(&before, now)),
        }
    }
}

fn write_files(main: &Path, now: &ConfigFiles, new: &ConfigFiles) -> Result<(), EditError> {
    let text = |file: &ConfigFile| file.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut changes: Vec<FileChange> = Vec::new();
    for file in new.iter() {
        let old = now.get(&file.name).and_then(ConfigFile::sha256);
        if old != file.sha256() {
            changes.push(FileChange {
                name: file.name.clone(),
                old,
                new: text(file),
            });
        }
    }
    for file in now.iter().filter(|file| new.get(&file.name).is_none()) {
        changes.push(FileChange {
            name: file.name.clone(),
            old: file.sha256(),
            new: None,
        });
    }
    if changes.len() < 2 {
        return apply(main, &changes);
    }
    let path = journal_path(main);
    let journal = Journal { files: changes };
    let json = serde_json::to_vec(&journal).map_err(|e| EditError::io("write", &path)(e.into()))?;
    write::replace(
        &path,
        &json,
        Ownership {
            mode: write::PRIVATE,
            ..ownership(main)?
        },
    )?;
    apply(main, &journal.files)?;
    Journal::remove(main).map_err(EditError::io("remove", &path))?;
    write::sync_directory(main)
}

fn apply(main: &Path, changes: &[FileChange]) -> Result<(), EditError> {
    for change in changes {
        let path = path_of(main, &change.name);
        match &change.new {
            Some(text) => {
                if change.name.starts_with(CONF_DIR) {
                    // As open as the files in it.
                    let mode = ownership(main)?.mode & 0o777;
                    write::make_directory(&conf_dir(main), mode | (mode & 0o444) >> 2 | 0o700)?;
                }
                write::replace(&path, text.as_bytes(), ownership(main)?)?;
            }
            None => {
                write::remove(&path)?;
                write::sync_directory(&path)?;
            }
        }
    }
    Ok(())
}

/// Owner and mode of the main file, for files beside it.
fn ownership(main: &Path) -> Result<Ownership, EditError> {
    let metadata = fs::metadata(main).map_err(EditError::io("read", main))?;
    Ok(Ownership::of(&metadata))
}

fn path_of(main: &Path, name: &str) -> PathBuf {
    match name.strip_prefix("conf.d/") {
        Some(part) if name != files::main_name(main) => conf_dir(main).join(part),
        _ => main.into(),
    }
}
