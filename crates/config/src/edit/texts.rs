//! The configuration's own files as texts, for people who write files: also those that are not valid TOML, so that they can be mended.

use std::{collections::BTreeMap, path::Path};

use super::{EditError, SaveRequest, Saved, changes_between, invalid, save::Commit, unknown};
use crate::{
    Draft, Faults,
    check::{self, Surroundings},
    diff::Change,
    files::{self, CONF_DIR, ConfigFile, ConfigFiles},
};
use gridwatch_base::{file, message};

/// The texts of the configuration's own files, as read and as edited so far. Nothing is written before [`TextEditor::save`].
#[derive(Debug)]
pub struct TextEditor {
    files: ConfigFiles,
    revision: String,
    texts: BTreeMap<String, Vec<u8>>,
}

impl TextEditor {
    /// Reads the files of the configuration whose main file is `main`.
    ///
    /// # Errors
    /// [`EditError::Faults`] if a file cannot be read.
    pub fn open(main: &Path) -> Result<Self, EditError> {
        let files = ConfigFiles::read(main);
        if files.iter().any(|file| file.bytes().is_none()) {
            return Err(EditError::Faults(Faults(files.document().err().unwrap_or_default())));
        }
        let bytes = |file: &ConfigFile| (file.name.clone(), file.bytes().unwrap_or_default().to_vec());
        Ok(Self {
            texts: files.iter().map(bytes).collect(),
            revision: files.revision(),
            files,
        })
    }

    /// The revision that was read ([`ConfigFiles::revision`]).
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The name of the main file.
    pub fn main_name(&self) -> String {
        files::main_name(self.files.main())
    }

    /// The names of the files, as edited: the main file first.
    pub fn file_names(&self) -> Vec<String> {
        self.edited_files().iter().map(|file| file.name.clone()).collect()
    }

    /// The text of a file as edited; `None` if there is none of this name, or it is not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.texts.get(name)?).ok()
    }

    /// Replaces the text of the file `name`: the main file, or one such as `conf.d/gate.toml`, which may be new.
    ///
    /// # Errors
    /// [`EditError::Invalid`] for a name that belongs to no file of a configuration, and for a text of more than
    /// [`MAX_TEXT`](file::MAX_TEXT) bytes.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), EditError> {
        let part = name.strip_prefix(CONF_DIR).and_then(|name| name.strip_prefix('/'));
        let is_part =
            part.is_some_and(|part| files::is_part(part) && !part.contains(|c: char| c == '\\' || c.is_control()));
        if !is_part && name != self.main_name() {
            return Err(invalid(
                name,
                message!("name the main file, or a file such as conf.d/gate.toml"),
            ));
        }
        if text.len() as u64 > file::MAX_TEXT {
            return Err(invalid(
                name,
                message!("the text is too long for a configuration file; shorten it"),
            ));
        }
        self.texts.insert(name.to_owned(), text.as_bytes().to_vec());
        Ok(())
    }

    /// Removes a file of `conf.d`.
    ///
    /// # Errors
    /// [`EditError::Unknown`] if there is none, [`EditError::Invalid`] for the main file.
    pub fn remove(&mut self, name: &str) -> Result<(), EditError> {
        if name == self.main_name() {
            return Err(invalid(name, message!("the main file cannot be removed")));
        }
        self.texts.remove(name).map(|_| ()).ok_or_else(|| unknown(name))
    }

    /// What the edits change so far; empty if a text is not valid TOML.
    pub fn changes(&self) -> Vec<Change> {
        let edited = self.edited_files();
        match edited.document() {
            Ok(_) => changes_between(&self.files, &edited),
            Err(_) => Vec::new(),
        }
    }

    /// All checks of the edited configuration, as `gridwatch check` does them.
    pub fn check(&self) -> Draft {
        check::examine(&self.edited_files(), &Surroundings::of_process())
    }

    /// Checks the edited texts and writes them. After a conflict or a fault the edits are kept, and nothing is written.
    ///
    /// # Errors
    /// As [`Editor::save`](super::Editor::save).
    pub fn save(&mut self, request: &SaveRequest<'_>) -> Result<Saved, EditError> {
        let commit = Commit {
            main: self.files.main(),
            surroundings: Surroundings::of_process(),
            request,
            base: Some(&self.files),
        };
        let saved = commit.run(self.texts.clone())?;
        *self = Self::open(self.files.main())?;
        Ok(saved)
    }

    fn edited_files(&self) -> ConfigFiles {
        ConfigFiles::with_contents(self.files.main(), self.texts.clone())
    }
}
