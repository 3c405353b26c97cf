//! Saves: checked, recorded as a version, and written so that the old or the new configuration is there whole.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use gridwatch_base::{digest::sha256_hex, file, message};

use super::{
    EditError, Editor, changes_between,
    journal::{FileChange, Journal},
    versions::Store,
    write::{self, Lock, Ownership, Staged},
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
    let is_valid = is_current(main, &journal) && Prepared::new(main, journal)?.put()?;
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
        // The checks take a moment, in which an editor, which knows no lock, may have saved. Found here, it leaves no trace in the store;
        // the last comparison is that before the renaming.
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
        if !Prepared::new(self.main, changes_of(&now, &new))?.commit()? {
            return Err(self.conflict(&ConfigFiles::read(self.main)));
        }
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

/// What a save of `new` does to the files `now`.
fn changes_of(now: &ConfigFiles, new: &ConfigFiles) -> Journal {
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
    Journal { files: changes }
}

/// Whether the files on the disk are those that the journal is for. Another content of one is an edit by hand, which must not be lost.
fn is_current(main: &Path, journal: &Journal) -> bool {
    journal.describes(|name| {
        let bytes = file::read(&path_of(main, name), file::MAX_TEXT).ok();
        bytes.as_deref().map(sha256_hex)
    })
}

/// What is left to do to a file after the slow part, the writing and syncing of a new one.
enum Step {
    Replace(Staged),
    Remove(PathBuf),
}

/// Changes of files, prepared so that little time is between the last look at the old ones and their replacement.
struct Prepared<'a> {
    main: &'a Path,
    journal: Journal,
    steps: Vec<Step>,
}

impl<'a> Prepared<'a> {
    /// Writes the new files beside the old ones.
    fn new(main: &'a Path, journal: Journal) -> Result<Self, EditError> {
        let mut steps = Vec::new();
        for change in &journal.files {
            let path = path_of(main, &change.name);
            let Some(text) = &change.new else {
                steps.push(Step::Remove(path));
                continue;
            };
            if change.name.starts_with(CONF_DIR) {
                // As open as the files in it.
                let mode = ownership(main)?.mode & 0o777;
                write::make_directory(&conf_dir(main), mode | (mode & 0o444) >> 2 | 0o700)?;
            }
            steps.push(Step::Replace(write::stage(&path, text.as_bytes(), ownership(main)?)?));
        }
        Ok(Self { main, journal, steps })
    }

    /// Replaces the files, with a journal if they are several. False, and nothing is changed, if one was edited since.
    fn commit(self) -> Result<bool, EditError> {
        if self.journal.files.len() < 2 {
            return self.put();
        }
        // Readers take what the journal says for the files.
        if !is_current(self.main, &self.journal) {
            return Ok(false);
        }
        let path = journal_path(self.main);
        let json = serde_json::to_vec(&self.journal).map_err(|e| EditError::io("write", &path)(e.into()))?;
        write::replace(
            &path,
            &json,
            Ownership {
                mode: write::PRIVATE,
                ..ownership(self.main)?
            },
        )?;
        let is_put = self.put()?;
        Journal::remove(self.main).map_err(EditError::io("remove", &path))?;
        write::sync_directory(self.main)?;
        Ok(is_put)
    }

    /// Replaces the files, if all are current.
    fn put(&self) -> Result<bool, EditError> {
        if !is_current(self.main, &self.journal) {
            return Ok(false);
        }
        for step in &self.steps {
            match step {
                Step::Replace(staged) => staged.rename()?,
                Step::Remove(path) => write::remove(path)?,
            }
        }
        // After all of them: a sync takes longer than everything else here.
        for step in &self.steps {
            match step {
                Step::Replace(staged) => staged.sync()?,
                Step::Remove(path) => write::sync_directory(path)?,
            }
        }
        Ok(true)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The files in the directory and its `conf.d`, hidden ones included.
    fn names(dir: &Path) -> Vec<String> {
        let list = [dir.to_owned(), dir.join(CONF_DIR)]
            .into_iter()
            .flat_map(|dir| fs::read_dir(dir).unwrap());
        let mut names: Vec<String> = list
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn an_edit_by_hand_after_the_new_files_were_written_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("edge.toml");
        let part = dir.path().join("conf.d/lane.toml");
        fs::create_dir(dir.path().join(CONF_DIR)).unwrap();
        let new = |contents: &[(&str, &str)]| {
            let contents = contents
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
            ConfigFiles::with_contents(&main, contents)
        };
        let saves = [
            (
                "one file",
                new(&[("edge.toml", "a = 2\n"), ("conf.d/lane.toml", "b = 1\n")]),
                &main,
            ),
            (
                "two files",
                new(&[("edge.toml", "a = 2\n"), ("conf.d/lane.toml", "b = 2\n")]),
                &part,
            ),
            ("one of two is removed", new(&[("edge.toml", "a = 2\n")]), &part),
        ];
        for (what, new, edited) in saves {
            fs::write(&main, "a = 1\n").unwrap();
            fs::write(&part, "b = 1\n").unwrap();
            let now = ConfigFiles::read(&main);

            let prepared = Prepared::new(&main, changes_of(&now, &new)).unwrap();
            fs::write(edited, "c = 3\n").unwrap();
            let by_hand = ConfigFiles::read(&main).revision();
            assert!(!prepared.commit().unwrap(), "{what}");
            assert_eq!(ConfigFiles::read(&main).revision(), by_hand, "{what}");
            assert_eq!(names(dir.path()), ["conf.d", "edge.toml", "lane.toml"], "{what}");

            // As between the journal and the first renaming.
            let prepared = Prepared::new(&main, changes_of(&now, &new)).unwrap();
            assert!(!prepared.put().unwrap(), "{what}");
            drop(prepared);
            assert_eq!(ConfigFiles::read(&main).revision(), by_hand, "{what}");

            fs::write(&main, "a = 1\n").unwrap();
            fs::write(&part, "b = 1\n").unwrap();
            let prepared = Prepared::new(&main, changes_of(&now, &new)).unwrap();
            assert!(prepared.commit().unwrap(), "{what}");
            assert_eq!(ConfigFiles::read(&main).revision(), new.revision(), "{what}");
            assert!(names(dir.path()).iter().all(|name| !name.starts_with('.')), "{what}");
        }
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("edge.toml");
        fs::write(&main, "a = 1\n").unwrap();
        let now = ConfigFiles::read(&main);
        let contents = [("edge.toml", "a = 1\n"), ("conf.d/lane.toml", "b = 1\n")];
        let contents = contents.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
        let new = ConfigFiles::with_contents(&main, contents);
        let prepared = Prepared::new(&main, changes_of(&now, &new)).unwrap();
        let part = dir.path().join("conf.d/lane.toml");
        fs::write(&part, "c = 3\n").unwrap();
        assert!(!prepared.commit().unwrap());
        assert_eq!(fs::read_to_string(part).unwrap(), "c = 3\n");
        assert_eq!(names(dir.path()), ["conf.d", "edge.toml", "lane.toml"]);
    }
}
