//! The configuration's own files: the main file and `conf.d/*.toml` beside it.
//!
//! They are read as a set, because a save may touch two of them: if it was interrupted, its journal says what the set is
//! ([`journal`](crate::edit)). Nothing is written here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    Fault,
    edit::journal::{self, Journal},
};
use gridwatch_base::{digest::sha256_hex, document::Document, file};

/// The directory, beside the main file, whose `*.toml` files belong to the configuration.
pub const CONF_DIR: &str = "conf.d";

/// Ten times the cameras of the largest box, each in a file of its own.
const MAX_FILES: usize = 1024;

/// A directory with more entries is not one of configuration files.
const MAX_ENTRIES: usize = 16 * MAX_FILES;

/// One of the configuration's own files.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Its name in the directory of the main file: `edge.toml` or `conf.d/gate.toml`.
    pub name: String,
    /// The file, with the path as the user would type it.
    pub path: PathBuf,
    bytes: Result<Vec<u8>, ReadError>,
}

/// Why a file could not be read; cloneable, so that a set of files is.
#[derive(Debug, Clone)]
struct ReadError(io::ErrorKind, String);

impl ConfigFile {
    fn read(name: String, path: PathBuf) -> Self {
        let bytes = file::read(&path, file::MAX_TEXT).map_err(|e| ReadError(e.kind(), e.to_string()));
        Self { name, path, bytes }
    }

    /// Its bytes; `None` if it could not be read.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.bytes.as_deref().ok()
    }

    /// SHA-256 of its bytes in lower-case hex; `None` if it could not be read.
    pub fn sha256(&self) -> Option<String> {
        self.bytes().map(sha256_hex)
    }
}

/// The configuration's own files, in the order in which they are merged: the main file, then those in `conf.d` by the bytes of
/// their names.
#[derive(Debug, Clone)]
pub struct ConfigFiles {
    main: PathBuf,
    files: Vec<ConfigFile>,
    faults: Vec<Fault>,
}

impl ConfigFiles {
    /// Reads the main file and those in `conf.d`. What cannot be read becomes a fault of [`ConfigFiles::document`].
    pub fn read(main: &Path) -> Self {
        let mut files = vec![ConfigFile::read(main_name(main), main.into())];
        let mut faults = Vec::new();
        match names(&conf_dir(main)) {
            Ok(names) => {
                let dir = conf_dir(main);
                files.extend(
                    names
                        .into_iter()
                        .map(|name| ConfigFile::read(format!("{CONF_DIR}/{name}"), dir.join(&name))),
                );
            }
            Err(fault) => faults.push(*fault),
        }
        let mut read = Self {
            main: main.into(),
            files,
            faults,
        };
        if let Some(journal) = Journal::find(main) {
            read.complete(&journal);
        }
        let bytes = read.files.iter().filter_map(|f| f.bytes().map(<[u8]>::len));
        if bytes.sum::<usize>() as u64 > file::MAX_TEXT {
            let message = format!(
                "the files of the configuration have more than {} MiB together",
                file::MAX_TEXT >> 20
            );
            read.faults
                .push(Fault::whole(main, message, "remove what is no configuration"));
        }
        read
    }

    /// A set of the given contents, for checking what is not written yet: names with their bytes.
    pub(crate) fn with_contents(main: &Path, contents: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let path = |name: &str| match name.strip_prefix("conf.d/") {
            Some(part) => conf_dir(main).join(part),
            None => main.into(),
        };
        let files = contents.into_iter().map(|(name, bytes)| ConfigFile {
            path: path(&name),
            bytes: Ok(bytes),
            name,
        });
        let mut set = Self {
            main: main.into(),
            files: files.collect(),
            faults: Vec::new(),
        };
        set.sort();
        set
    }

    /// Takes what an interrupted save was about to write.
    fn complete(&mut self, journal: &Journal) {
        if !journal.describes(|name| self.get(name).and_then(ConfigFile::sha256)) {
            return;
        }
        for change in &journal.files {
            self.files.retain(|f| f.name != change.name);
            if let Some(text) = &change.new {
                let set = Self::with_contents(&self.main, [(change.name.clone(), text.clone().into_bytes())]);
                self.files.extend(set.files);
            }
        }
        self.sort();
    }

    fn sort(&mut self) {
        let main = main_name(&self.main);
        self.files
            .sort_by(|a, b| (a.name != main, a.name.as_bytes()).cmp(&(b.name != main, b.name.as_bytes())));
    }

    /// The main file, with the path as given.
    pub fn main(&self) -> &Path {
        &self.main
    }

    /// The files, in the order in which they are merged.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigFile> {
        self.files.iter()
    }

    /// The file of this name.
    pub fn get(&self, name: &str) -> Option<&ConfigFile> {
        self.files.iter().find(|f| f.name == name)
    }

    /// SHA-256 over all files, in lower-case hex: `sha256sum edge.toml conf.d/*.toml | sha256sum`. Another set of files, or another
    /// content of one, has another revision.
    pub fn revision(&self) -> String {
        let lines = self
            .files
            .iter()
            .map(|f| (f.name.as_str(), f.sha256().unwrap_or_default()));
        revision(lines)
    }

    /// The merged content, with the faults of single values; `Err` holds the faults that keep a file from being parsed.
    pub fn document(&self) -> Result<(Document, Vec<Fault>), Vec<Fault>> {
        let mut faults = self.faults.clone();
        let mut unparsed = Vec::new();
        let mut merged: Option<Document> = None;
        for ConfigFile { path, bytes, .. } in &self.files {
            let bytes = bytes
                .clone()
                .map_err(|ReadError(kind, text)| io::Error::new(kind, text));
            match (Document::of(path, bytes), &mut merged) {
                (Ok((document, found)), Some(first)) => {
                    faults.extend(found);
                    faults.extend(first.merge(document));
                }
                (Ok((document, found)), None) => {
                    faults.extend(found);
                    merged = Some(document);
                }
                (Err(found), _) => unparsed.extend(found),
            }
        }
        match merged {
            Some(document) if unparsed.is_empty() => Ok((document, faults)),
            _ => Err([unparsed, faults].concat()),
        }
    }
}

/// The revision of files with these names and SHA-256s, in order; as `sha256sum` prints and hashes them.
pub(crate) fn revision<'a>(files: impl Iterator<Item = (&'a str, String)>) -> String {
    let lines: String = files.map(|(name, sha256)| format!("{sha256}  {name}\n")).collect();
    sha256_hex(lines.as_bytes())
}

/// The directory of further files of the configuration `main`, whether it exists or not.
pub fn conf_dir(main: &Path) -> PathBuf {
    main.parent().unwrap_or(Path::new("")).join(CONF_DIR)
}

/// The name of the main file, without its directory.
pub(crate) fn main_name(main: &Path) -> String {
    main.file_name()
        .unwrap_or(main.as_os_str())
        .to_string_lossy()
        .into_owned()
}

/// Whether a file of this name in `conf.d` belongs to the configuration: `*.toml`, and not hidden. Backups of editors (`gate.toml~`,
/// `.gate.toml.swp`) and files being written are neither.
pub(crate) fn is_part(name: &str) -> bool {
    name.ends_with(".toml") && !name.starts_with('.') && !name.contains('/')
}

/// The names of the files in the directory that belong to the configuration, in the order of their bytes; none if there is no directory.
fn names(dir: &Path) -> Result<Vec<String>, Box<Fault>> {
    let fault = |message: String, remedy: &'static str| Box::new(Fault::whole(dir, message, remedy));
    let unreadable = |e: io::Error| {
        fault(
            format!("cannot list the directory: {e}"),
            "make it a directory that this user may read, or remove it",
        )
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir.symlink_metadata().is_err() => return Ok(Vec::new()),
        Err(e) => return Err(unreadable(e)),
    };
    let mut names = Vec::new();
    for (n, entry) in entries.enumerate() {
        let name = entry.map_err(unreadable)?.file_name();
        if n >= MAX_ENTRIES {
            return Err(fault(
                format!("more than {MAX_ENTRIES} entries"),
                "keep nothing but configuration files there",
            ));
        }
        let Some(name) = name
            .to_str()
            .filter(|name| !name.contains(char::is_control) && !name.contains('\\'))
        else {
            // Its name cannot be shown, nor hashed as sha256sum does.
            if name.as_encoded_bytes().ends_with(b".toml") {
                return Err(fault(
                    "holds a .toml file whose name has control characters, backslashes or is not UTF-8".into(),
                    "rename it",
                ));
            }
            continue;
        };
        if is_part(name) {
            names.push(name.to_owned());
        }
    }
    if names.len() > MAX_FILES {
        let message = format!("{} .toml files; at most {MAX_FILES} are allowed", names.len());
        return Err(fault(message, "put several cameras into one file"));
    }
    names.sort_unstable();
    Ok(names)
}

/// The journal of a save beside the main file.
pub(crate) fn journal_path(main: &Path) -> PathBuf {
    main.with_file_name(format!(".{}{}", main_name(main), journal::SUFFIX))
}
