//! The database as files of the state directory: whether they are still the ones that were opened, what is left when they are
//! missing, and moving them aside.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{FILE, LOCK_FILE, StoreError, schema};
use gridwatch_base::installation;
use gridwatch_custody::keys::KeyRing;
use rusqlite::{Connection, OpenFlags};

/// The suffixes of the database's files: its journals, then the database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// Why a database was moved aside; part of the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aside {
    /// It is damaged.
    Corrupt,
    /// An operator replaced it.
    Replaced,
}

impl Aside {
    const ALL: [Self; 2] = [Self::Corrupt, Self::Replaced];

    fn as_str(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Replaced => "replaced",
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// The identities of an open database's files. Both must stay: a commit goes to the write-ahead log first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileIds([Option<(u64, u64)>; 2]);

impl FileIds {
    /// The files at `path` now.
    pub(super) fn of(path: &Path) -> Self {
        let id = |suffix| {
            let file = fs::metadata(with_suffix(path, suffix)).ok()?;
            Some((file.dev(), file.ino()))
        };
        Self([id(""), id("-wal")])
    }
}

/// What was moved aside, under its new names.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) database: Option<PathBuf>,
    /// A write-ahead log that had no database.
    pub(super) orphaned_wal: Option<PathBuf>,
}

/// Moves the database and its journals aside.
pub(super) fn move_aside(path: &Path, why: Aside) -> Result<Moved, StoreError> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let aside = with_suffix(path, &format!(".{}-{time}", why.as_str()));
    let mut moved = Moved::default();
    for suffix in SUFFIXES {
        let from = with_suffix(path, suffix);
        let to = with_suffix(&aside, suffix);
        match fs::rename(&from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("rename", &from, e)),
            Ok(()) => match suffix {
                "" => moved.database = Some(to),
                "-wal" => moved.orphaned_wal = Some(to),
                _ => {}
            },
        }
    }
    if moved.database.is_some() {
        moved.orphaned_wal = None;
    }
    Ok(moved)
}

/// Whether there is no database at `path`; an empty file is none.
pub(super) fn is_missing(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |file| file.len() == 0)
}

/// The databases that were moved aside in the state directory `dir`, newest first.
pub(super) fn moved_aside(dir: &Path) -> Vec<PathBuf> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<(String, PathBuf)> = names
        .filter_map(|name| {
            let rest = name.strip_prefix(FILE)?;
            let time = Aside::ALL
                .iter()
                .find_map(|why| rest.strip_prefix(&format!(".{}-", why.as_str())))?;
            (!time.contains("Z-")).then(|| (time.to_owned(), dir.join(&name)))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Whether `dir` is the state directory of a gridwatch that has run: a folder with the database, one that was moved aside, the
/// daemon's lock, its signing key or the installation's identity.
pub fn is_state_dir(dir: &Path) -> bool {
    let is_file = |path: &Path| path.is_file();
    is_file(&dir.join(FILE))
        || is_file(&dir.join(LOCK_FILE))
        || is_file(&KeyRing::of(dir).signing_file())
        || installation::is_identified(dir)
        || !moved_aside(dir).is_empty()
}

/// Fails if `dir` is a folder of something else, in which a database of gridwatch must not appear. A new state directory may be
/// empty.
pub(super) fn expect_state_dir(dir: &Path) -> Result<(), StoreError> {
    let entries = fs::read_dir(dir).map_err(|e| StoreError::io("read", dir, e))?;
    // A new file system has this folder.
    let is_empty = entries.flatten().all(|entry| entry.file_name() == "lost+found");
    match is_empty || is_state_dir(dir) {
        true => Ok(()),
        false => Err(StoreError::NotAStateDir { dir: dir.to_path_buf() }),
    }
}

/// What shows that the state directory `dir` had a database, as words; empty if nothing does.
pub(super) fn remains(dir: &Path) -> String {
    let mut found = Vec::new();
    if KeyRing::of(dir).signing_file().exists() {
        found.push("the signing key".to_owned());
    }
    for (folder, kind) in [("evidence", "evidence pictures"), ("originals", "originals")] {
        let folders = fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
        if folders
            .into_iter()
            .any(|f| fs::read_dir(f.path()).is_ok_and(|mut d| d.next().is_some()))
        {
            found.push(kind.to_owned());
        }
    }
    match moved_aside(dir).len() {
        0 => {}
        1 => found.push("a database that was moved aside".into()),
        n => found.push(format!("{n} databases that were moved aside")),
    }
    found.join(", ")
}

/// What a look at the database of a state directory shows, for `gridwatch check`.
#[derive(Debug)]
pub struct Inspection {
    /// Its schema version; `None` if there is no database yet and nothing shows that there was one.
    pub version: Result<Option<u32>, StoreError>,
    /// Databases that were moved aside, newest first.
    pub aside: Vec<PathBuf>,
}

/// Examines the database in the state directory `dir` as the daemon would at its start, without changing it.
pub fn inspect(dir: &Path) -> Inspection {
    Inspection {
        version: examine(&dir.join(FILE), dir),
        aside: moved_aside(dir),
    }
}

fn examine(path: &Path, dir: &Path) -> Result<Option<u32>, StoreError> {
    if is_missing(path) {
        let (path, found) = (path.to_path_buf(), remains(dir));
        return match found.is_empty() {
            true => Ok(None),
            false => Err(StoreError::Lost { path, found }),
        };
    }
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(super::BUSY_TIMEOUT)?;
    let found = schema::version(&db)?;
    if found > schema::VERSION {
        let known = schema::VERSION;
        return Err(StoreError::Newer { found, known });
    }
    super::quick_check(&db)?;
    Ok(Some(found))
}
