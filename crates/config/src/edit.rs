//! Changes the configuration's own files as a person would: comments, order and formatting stay, a field is changed in the file in which
//! it is, and every version is kept with who saved it, when and why.
//!
//! A save is checked as the daemon checks, before anything is written. Files are replaced by renaming, so that a reader finds the old or
//! the new one; a save of several files has a journal, so that the set is old or new, too ([`ConfigFiles`]). Saves are serialised by a
//! lock on the directory of the main file. This module restarts nothing and tells nobody: the daemon watches the files.

mod fields;
pub(crate) mod journal;
mod save;
mod signs;
mod texts;
mod versions;
mod write;

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use serde_json::Value;
use toml_edit::DocumentMut;

pub use self::{
    save::{SaveRequest, Saved},
    signs::{EditedSign, MAX_SIGNS, SavedSigns, SignsFile, SignsSave, copy_signs, save_signs},
    texts::TextEditor,
    versions::{Version, VersionFile, VersionFiles, Versions},
};
use crate::{
    Draft, Faults,
    check::{self, Surroundings},
    diff::{self, Change},
    element::{ElementPath, ElementStep, InvalidPath, id_of, numbered},
    files::{self, CONF_DIR, ConfigFiles},
};
use gridwatch_base::{
    document::{Document, FieldPath},
    error::Class,
    file, message,
    message::Message,
};

/// Why an edit or a save was not done.
#[derive(Debug)]
pub enum EditError {
    /// The files, or what they would become, have faults. Nothing was written.
    Faults(Faults),
    /// The files were changed since `expected` was read. Nothing was written.
    Conflict {
        /// The revision that the edit is for.
        expected: String,
        /// The present one.
        found: String,
        /// What was changed from `expected` to the present files; `None` if `expected` is not among the kept versions.
        changes: Option<Vec<Change>>,
    },
    /// The text is no path.
    Path(InvalidPath),
    /// The configuration has no such field, element or file.
    Unknown {
        /// The path or name.
        path: String,
    },
    /// There is an element with this id already.
    Exists {
        /// The element.
        path: String,
    },
    /// What is to be written does not fit there.
    Invalid {
        /// The path or name.
        path: String,
        /// What is wrong, and what to give instead.
        what: Message,
    },
    /// Another process is saving.
    Busy,
    /// The new file could not be given the owner of the old one. Nothing was written.
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// No version of this number is kept.
    UnknownVersion(u64),
    /// This user may not make files in the directory of the configuration, where a new version is written before it replaces the old one.
    /// Nothing was written.
    Unwritable {
        /// The directory.
        dir: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file or directory cannot be read or written.
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl EditError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Busy | Self::Io { .. } => Class::Transient,
            _ => Class::Config,
        }
    }

    /// What happened and what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::Faults(faults) => faults.to_string().into(),
            Self::Conflict { expected, found, .. } => message!(
                "the configuration was changed in the meantime: it has revision {found}, not {expected}; read it again and repeat the edit",
                found,
                expected
            ),
            Self::Path(_) => {
                message!("not a path to a field; write it like cameras[gate].zones[pavement].polygon")
            }
            Self::Unknown { path } => {
                message!(
                    "{path} does not exist; the configuration may have been changed in the meantime",
                    path
                )
            }
            Self::Exists { path } => message!("{path} exists already; choose another id", path),
            Self::Invalid { path, what } => message!("{path}: {what}", path, what = what.clone()),
            Self::Busy => message!("another process is saving the configuration; try again"),
            Self::Owner { path, uid, gid } => message!(
                "{path} belongs to user {uid} and group {gid}, which this user cannot give to its new version; save as that user, or as root",
                path = path.display().to_string(),
                uid = *uid,
                gid = *gid
            ),
            Self::UnknownVersion(number) => message!(
                "there is no version {number}; `gridwatch config history` lists those that are kept",
                number = *number
            ),
            Self::Unwritable { dir, source } => message!(
                "the configuration cannot be saved: this user may not make files in {dir} ({source}); give that folder and the files in it to the user of the service (chown), and under systemd name it in ReadWritePaths=",
                dir = dir.display().to_string(),
                source = source.to_string()
            ),
            Self::Io { doing, path, source } => message!(
                "cannot {doing} {path}: {source}",
                doing = Message::from(*doing),
                path = path.display().to_string(),
                source = source.to_string()
            ),
        }
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl std::error::Error for EditError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Path(error) => Some(error),
            Self::Unwritable { source, .. } | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<InvalidPath> for EditError {
    fn from(error: InvalidPath) -> Self {
        Self::Path(error)
    }
}

/// The configuration's own files, as read and as edited so far. Nothing is written before [`Editor::save`].
#[derive(Debug)]
pub struct Editor {
    files: ConfigFiles,
    revision: String,
    edited: Vec<EditedFile>,
    is_offline: bool,
}

#[derive(Debug)]
struct EditedFile {
    /// `edge.toml` or `conf.d/gate.toml`.
    name: String,
    /// As read; `None` for a new file.
    old: Option<String>,
    /// Whether it set anything when it was read.
    was_empty: bool,
    document: DocumentMut,
}

impl EditedFile {
    /// Parses a file; `old` is its text.
    fn parse(name: &str, old: Option<String>) -> Result<Self, EditError> {
        let text = file::without_mark(old.as_deref().unwrap_or_default());
        let document: DocumentMut = text.parse().map_err(|_| EditError::Invalid {
            path: name.into(),
            what: message!("invalid TOML; mend the file first"),
        })?;
        Ok(Self {
            name: name.into(),
            was_empty: document.is_empty(),
            old,
            document,
        })
    }

    /// The text to write; `None` if the file is not to exist: one of `conf.d` in which nothing is left.
    fn text(&self) -> Option<String> {
        let new = self.document.to_string();
        if self.document.is_empty() && !self.was_empty && self.name.starts_with(CONF_DIR) {
            return None;
        }
        let Some(old) = &self.old else {
            return (!self.document.is_empty()).then_some(new);
        };
        let plain = file::without_mark(old);
        if plain == new || plain.replace("\r\n", "\n") == new {
            return Some(old.clone());
        }
        // What was added has the line ends and the byte order mark of the rest.
        let new = match old.contains("\r\n") {
            true => new.replace("\r\n", "\n").replace('\n', "\r\n"),
            false => new,
        };
        let mark = &old[..old.len() - plain.len()];
        Some(format!("{mark}{new}"))
    }

    /// The content as JSON.
    fn value(&self) -> Value {
        let bytes = self.document.to_string().into_bytes();
        Document::parse(Path::new(&self.name), bytes).map_or(Value::Null, |(document, _)| document.value)
    }
}

impl Editor {
    /// Reads the files of the configuration whose main file is `main`.
    ///
    /// # Errors
    /// [`EditError::Faults`] if a file cannot be read or is not TOML. Other faults may be there, and be mended.
    pub fn open(main: &Path) -> Result<Self, EditError> {
        Self::read(main, false)
    }

    /// Like [`Editor::open`], for commands without the daemon's environment: credentials that only it has are not checked in a save.
    ///
    /// # Errors
    /// As [`Editor::open`].
    pub fn open_offline(main: &Path) -> Result<Self, EditError> {
        Self::read(main, true)
    }

    fn read(main: &Path, is_offline: bool) -> Result<Self, EditError> {
        let files = ConfigFiles::read(main);
        files.document().map_err(|faults| EditError::Faults(Faults(faults)))?;
        let parse = |file: &files::ConfigFile| {
            // The parser has just accepted them.
            let text = file.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok());
            EditedFile::parse(&file.name, Some(text.unwrap_or_default().to_owned()))
        };
        Ok(Self {
            edited: files.iter().map(parse).collect::<Result<_, _>>()?,
            revision: files.revision(),
            files,
            is_offline,
        })
    }

    /// The revision that was read ([`ConfigFiles::revision`]).
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The names of the files, as edited: the main file first.
    pub fn file_names(&self) -> impl Iterator<Item = &str> {
        self.edited.iter().map(|file| file.name.as_str())
    }

    /// The text of a file as edited; `None` if there is none of this name.
    pub fn text(&self, name: &str) -> Option<String> {
        self.edited.iter().find(|file| file.name == name)?.text()
    }

    /// The merged content as edited, without defaults.
    pub fn document(&self) -> Value {
        content(&self.edited_files())
    }

    /// The value at `path`, such as `cameras[gate].zones[pavement]`, as edited; `None` if it is not set.
    ///
    /// # Errors
    /// [`EditError::Path`].
    pub fn get(&self, path: &str) -> Result<Option<Value>, EditError> {
        let path: ElementPath = path.parse()?;
        Ok(path.get(&self.document()).cloned())
    }

    /// What the edits change so far.
    pub fn changes(&self) -> Vec<Change> {
        changes_between(&self.files, &self.edited_files())
    }

    /// All checks of the edited configuration, as `gridwatch check` does them.
    pub fn check(&self) -> Draft {
        check::examine(&self.edited_files(), &self.surroundings())
    }

    fn surroundings(&self) -> Surroundings<'static> {
        match self.is_offline {
            true => Surroundings::of_offline_command(),
            false => Surroundings::of_process(),
        }
    }

    fn edited_files(&self) -> ConfigFiles {
        ConfigFiles::with_contents(self.files.main(), self.contents())
    }

    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let contents = self
            .edited
            .iter()
            .map(|file| Some((file.name.clone(), file.text()?.into_bytes())));
        contents.flatten().collect()
    }

    /// Sets the field at `path`. A table is changed key by key and a list of elements with ids element by element, so that comments
    /// in them stay. A field that is not there yet is added where its table is.
    ///
    /// # Errors
    /// [`EditError::Path`], [`EditError::Unknown`] for an element that is not there, or [`EditError::Invalid`] for `null` and for an
    /// element's id in place of a field ([`Editor::replace`]).
    pub fn set(&mut self, path: &str, value: &Value) -> Result<(), EditError> {
        let parsed: ElementPath = path.parse()?;
        if matches!(parsed.steps().last(), Some(ElementStep::Id(_))) {
            return self.replace(path, value);
        }
        self.write(path, &parsed, value)
    }

    /// Replaces the element at `path`, such as `rules[stall]`, which keeps its place and its comments.
    ///
    /// # Errors
    /// As [`Editor::set`].
    pub fn replace(&mut self, path: &str, element: &Value) -> Result<(), EditError> {
        if !element.is_object() {
            return Err(invalid(path, message!("an element is a table")));
        }
        self.write(path, &path.parse()?, element)
    }

    fn write(&mut self, shown: &str, path: &ElementPath, value: &Value) -> Result<(), EditError> {
        if value.is_null() {
            return Err(invalid(shown, message!("TOML has no null; unset the field instead")));
        }
        self.expect_one_file(shown, path)?;
        let (file, at) = self.locate(path)?;
        let root = self.edited[file].document.as_table_mut();
        fields::set(root, &at, value).ok_or_else(|| invalid(shown, message!("there is another value in its place")))
    }

    /// Removes the field or element at `path`. A file in `conf.d` that holds nothing else is deleted.
    ///
    /// # Errors
    /// [`EditError::Path`] or [`EditError::Unknown`].
    pub fn unset(&mut self, path: &str) -> Result<(), EditError> {
        let parsed: ElementPath = path.parse()?;
        self.expect_one_file(path, &parsed)?;
        let (file, at) = self.locate(&parsed)?;
        fields::remove(self.edited[file].document.as_table_mut(), &at).ok_or_else(|| unknown(path))
    }

    /// Removes the element at `path`: [`Editor::unset`].
    ///
    /// # Errors
    /// As [`Editor::unset`].
    pub fn remove(&mut self, path: &str) -> Result<(), EditError> {
        self.unset(path)
    }

    /// Adds an element with an id to the list at `list`, such as `cameras` or `cameras[gate].zones`. It goes into the file `file`
    /// (`edge.toml` or `conf.d/lane.toml`, which may be new); without one, to the last element of the list, or into a file of its own
    /// in `conf.d` if that element has one.
    ///
    /// # Errors
    /// [`EditError::Path`], [`EditError::Unknown`], [`EditError::Exists`], or [`EditError::Invalid`] if it has no id.
    pub fn add(&mut self, list: &str, element: &Value, file: Option<&str>) -> Result<(), EditError> {
        let path: ElementPath = list.parse()?;
        let Some(id) = id_of(element) else {
            return Err(invalid(list, message!("an element needs an id")));
        };
        let element_path = path.id(id);
        // Two keys of one box are two elements.
        if element.get("node").is_none() && element_path.get(&self.document()).is_some() {
            return Err(EditError::Exists {
                path: element_path.to_string(),
            });
        }
        let is_nested = path.steps().iter().any(|step| matches!(step, ElementStep::Id(_)));
        let file = match file {
            _ if is_nested => self.locate(&path)?.0,
            Some(name) => self.file_named(name)?,
            None => self.home(&path, id)?,
        };
        let at = self.local(file, &path).ok_or_else(|| unknown(list))?;
        let root = self.edited[file].document.as_table_mut();
        fields::push(root, &at, element).ok_or_else(|| invalid(list, message!("is not a list of elements")))
    }

    /// The file that a new element of a list belongs to.
    fn home(&mut self, list: &ElementPath, id: &str) -> Result<usize, EditError> {
        let count = |file: &EditedFile| list.get(&file.value()).and_then(Value::as_array).map_or(0, Vec::len);
        let counts: Vec<usize> = self.edited.iter().map(count).collect();
        let last = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        let is_alone = last > 0 && counts[last] == 1 && counts.iter().skip(1).all(|count| *count <= 1);
        let name = format!("{CONF_DIR}/{id}.toml");
        let is_free = self.edited.iter().all(|file| file.name != name);
        if is_alone && is_free && !id.contains('/') {
            return self.file_named(&name);
        }
        Ok(last)
    }

    /// The file of this name, which is made if it can be.
    fn file_named(&mut self, name: &str) -> Result<usize, EditError> {
        if let Some(known) = self.edited.iter().position(|file| file.name == name) {
            return Ok(known);
        }
        let part = name.strip_prefix(CONF_DIR).and_then(|name| name.strip_prefix('/'));
        if !part.is_some_and(|part| files::is_part(part) && !part.contains(['\\', '\n'])) {
            return Err(invalid(
                name,
                message!("name the main file, or a file such as conf.d/gate.toml"),
            ));
        }
        self.edited.push(EditedFile::parse(name, None)?);
        let main = self.edited[0].name.clone();
        self.edited
            .sort_by(|a, b| (a.name != main, &a.name).cmp(&(b.name != main, &b.name)));
        self.edited
            .iter()
            .position(|file| file.name == name)
            .ok_or_else(|| unknown(name))
    }

    /// A table or list that several files hold together cannot be set as one.
    fn expect_one_file(&self, shown: &str, path: &ElementPath) -> Result<(), EditError> {
        let is_there = |file: &&EditedFile| path.get(&file.value()).is_some();
        if keys(path).is_some() && self.edited.iter().filter(is_there).count() > 1 {
            return Err(invalid(
                shown,
                message!("lies in several files; set its fields or elements"),
            ));
        }
        Ok(())
    }

    /// The file in which `path` is or, for a field that is not set, belongs; and the path within it.
    fn locate(&self, path: &ElementPath) -> Result<(usize, FieldPath), EditError> {
        let steps = path.steps();
        let Some(first) = steps.iter().position(|step| matches!(step, ElementStep::Id(_))) else {
            // The file that has most of the path, and of several the first.
            let depth = |file: &EditedFile| {
                let value = file.value();
                let has = |n: &usize| prefix(path, *n).get(&value).is_some();
                (1..=steps.len()).take_while(has).count()
            };
            let depths: Vec<usize> = self.edited.iter().map(depth).collect();
            let deepest = depths.iter().copied().max().unwrap_or(0);
            let file = depths.iter().position(|depth| *depth == deepest).unwrap_or(0);
            let at = self.local(file, path).ok_or_else(|| unknown(path))?;
            return Ok((file, at));
        };
        // Ids are numbered over all files.
        let list = prefix(path, first);
        let mut places = Vec::new();
        let mut raw = Vec::new();
        for (n, file) in self.edited.iter().enumerate() {
            let value = file.value();
            for (index, element) in list
                .get(&value)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .enumerate()
            {
                places.push((n, index));
                raw.push(id_of(element).map(str::to_owned));
            }
        }
        let ids = numbered(raw.into_iter()).unwrap_or_default();
        let wanted = ids
            .iter()
            .position(|id| Some(&ElementStep::Id(id.clone())) == steps.get(first));
        let (file, index) = wanted
            .and_then(|n| places.get(n).copied())
            .ok_or_else(|| unknown(path))?;
        let value = self.edited[file].value();
        let element = list
            .get(&value)
            .and_then(|list| list.get(index))
            .ok_or_else(|| unknown(path))?;
        let head = keys(&list).ok_or_else(|| unknown(path))?.index(index);
        let at = fields::local(head, element, &steps[first + 1..]).ok_or_else(|| unknown(path))?;
        Ok((file, at))
    }

    /// The path within a file; `None` if an element on it is not there.
    fn local(&self, file: usize, path: &ElementPath) -> Option<FieldPath> {
        if let Some(keys) = keys(path) {
            return Some(keys);
        }
        let (located, at) = self.locate(path).ok()?;
        (located == file).then_some(at)
    }
}

/// The first `n` steps.
fn prefix(path: &ElementPath, n: usize) -> ElementPath {
    path.steps()[..n]
        .iter()
        .fold(ElementPath::default(), |path, step| match step {
            ElementStep::Key(key) => path.key(key),
            ElementStep::Id(id) => path.id(id),
        })
}

/// A path of keys alone.
fn keys(path: &ElementPath) -> Option<FieldPath> {
    path.steps()
        .iter()
        .try_fold(FieldPath::default(), |at, step| match step {
            ElementStep::Key(key) => Some(at.key(key)),
            ElementStep::Id(_) => None,
        })
}

/// The merged content of files that parse; of others, nothing.
fn content(files: &ConfigFiles) -> Value {
    files.document().map_or(Value::Null, |(document, _)| document.value)
}

/// What differs between two sets of files, with defaults filled in if both satisfy the schema.
pub(crate) fn changes_between(old: &ConfigFiles, new: &ConfigFiles) -> Vec<Change> {
    diff::contents(&content(old), &content(new))
}

fn unknown(path: impl std::fmt::Display) -> EditError {
    EditError::Unknown { path: path.to_string() }
}

fn invalid(path: &str, what: Message) -> EditError {
    EditError::Invalid {
        path: path.into(),
        what,
    }
}
