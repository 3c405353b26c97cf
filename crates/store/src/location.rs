//! The database as files of the state directory: whether they are still the ones that were opened, what is left when they are
//! missing, and moving them aside.

use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;

use super::{FILE, LOCK_FILE, StoreError, chain, schema};
use gridwatch_base::installation;
use gridwatch_custody::keys::{KeyRing, SigningKeyPlace};
use rusqlite::{Connection, OpenFlags};

/// The suffixes of the database's files: its journals, then the database.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// The console's users (`gridwatch_config::USERS_FILE`), and the lock that is there since the first try to add one.
const CONSOLE_FILES: [&str; 2] = ["console/users.json", "console/users.lock"];

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

/// Commits that are not lines of the chain stay in the write-ahead log alone for this long at most.
const CHECKPOINT_EVERY: Duration = Duration::from_mins(10);

/// The files of an open database, to notice when another program deletes, replaces or overwrites them.
///
/// In WAL mode the database file changes only when commits are moved to it from the log, which this process does. A change that it
/// did not make is examined: the file must still be a sound database in WAL mode with the newest line of the chain.
pub(super) struct OpenFiles {
    ids: FileIds,
    stamp: Cell<Stamp>,
    /// Number and hash of the newest known line of the chain.
    head: RefCell<Option<(u32, String)>>,
    checkpointed: Cell<Instant>,
    /// A change that was examined, and what was found.
    rejected: RefCell<Option<(Stamp, String)>>,
}

/// Time of the last change and size of the database file.
type Stamp = Option<(i64, i64, u64)>;

fn stamp(path: &Path) -> Stamp {
    let file = fs::metadata(path).ok()?;
    Some((file.ctime(), file.ctime_nsec(), file.len()))
}

impl OpenFiles {
    /// The files at `path`, which `db` has open.
    pub(super) fn of(path: &Path, db: &Connection) -> Result<Self, StoreError> {
        Ok(Self {
            ids: FileIds::of(path),
            stamp: Cell::new(stamp(path)),
            head: RefCell::new(chain::head(db)?),
            checkpointed: Cell::new(Instant::now()),
            rejected: RefCell::new(None),
        })
    }

    /// Notes the newest line of the chain, and whether the commit must be moved to the database file now.
    pub(super) fn must_checkpoint(&self, head: Option<(u32, String)>) -> bool {
        let is_line = *self.head.borrow() != head;
        *self.head.borrow_mut() = head;
        is_line || self.checkpointed.get().elapsed() >= CHECKPOINT_EVERY
    }

    /// Commits were moved to the database file at `path`.
    pub(super) fn checkpointed(&self, path: &Path) {
        self.checkpointed.set(Instant::now());
        self.stamp.set(stamp(path));
    }

    pub(super) fn check(&self, path: &Path) -> Result<(), StoreError> {
        if self.ids != FileIds::of(path) {
            return Err(StoreError::Gone { path: path.into() });
        }
        let now = stamp(path);
        if now == self.stamp.get() {
            return Ok(());
        }
        if let Some((stamp, reason)) = &*self.rejected.borrow()
            && *stamp == now
        {
            return Err(overwritten(path, reason.clone()));
        }
        match self.examine(path) {
            Ok(()) => {
                self.stamp.set(now);
                Ok(())
            }
            Err(reason) => {
                *self.rejected.borrow_mut() = Some((now, reason.clone()));
                Err(overwritten(path, reason))
            }
        }
    }

    /// What is wrong with the file at `path`, which another program changed.
    fn examine(&self, path: &Path) -> Result<(), String> {
        let mut header = [0; 20];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut header))
            .map_err(|e| e.to_string())?;
        // Bytes 18 and 19 of the header: 2 in WAL mode. A backup is not in WAL mode.
        if header[18..] != [2, 2] {
            return Err("it is another database".into());
        }
        // A connection of its own has no pages in its cache.
        let examine = || -> Result<bool, StoreError> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(path, flags)?;
            db.busy_timeout(super::BUSY_TIMEOUT)?;
            super::quick_check(&db)?;
            match &*self.head.borrow() {
                Some(head) => chain::has(&db, head),
                None => Ok(true),
            }
        };
        match examine() {
            Ok(true) => Ok(()),
            Ok(false) => Err("it is an older copy".into()),
            Err(StoreError::Corrupt(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn overwritten(path: &Path, reason: String) -> StoreError {
    StoreError::Overwritten {
        path: path.into(),
        reason,
    }
}

/// The identities of an open database's files. Both must stay: a commit goes to the write-ahead log first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileIds([Option<(u64, u64)>; 2]);

impl FileIds {
    /// The files at `path` now.
    fn of(path: &Path) -> Self {
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

/// Whether `dir` is the state directory of a gridwatch: a folder with the database, one that was moved aside, the daemon's lock, its signing
/// key, the installation's identity, or the users of the console, who can be added before the daemon's first start.
pub fn is_state_dir(dir: &Path) -> bool {
    let is_file = |path: &Path| path.is_file();
    is_file(&dir.join(FILE))
        || is_file(&dir.join(LOCK_FILE))
        || is_file(&KeyRing::of(dir).signing_file())
        || installation::is_identified(dir)
        || CONSOLE_FILES.iter().any(|name| is_file(&dir.join(name)))
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

/// Fails if the database at `path` is missing, or has no tables, in a state directory that had one. In a box's first minutes all of
/// it may be in the write-ahead log, so that a file without its log is as good as none.
pub(super) fn expect_database(path: &Path, dir: &Path) -> Result<(), StoreError> {
    let fault = match is_missing(path) {
        true => "is missing",
        // Damage is another fault, with another remedy.
        false if is_blank(path).unwrap_or(false) => {
            "is empty: what it held was in its write-ahead log (gridwatch.db-wal), which is missing"
        }
        false => return Ok(()),
    };
    let found = remains(dir);
    match found.is_empty() {
        true => Ok(()),
        false => Err(StoreError::Lost {
            path: path.to_path_buf(),
            fault,
            found,
        }),
    }
}

/// Whether the database at `path` has no tables, read together with its log.
fn is_blank(path: &Path) -> Result<bool, StoreError> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(super::BUSY_TIMEOUT)?;
    let tables: u32 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0 || schema::version(&db)? == 0)
}

/// Fails if the signing key is missing from a state directory that had one, and is not in a token: the database has a chain, or there is evidence.
/// A chain of acts only was begun by a command before the daemon's first start, when there was no key yet (`gridwatch store new` in a new folder).
pub(super) fn expect_key(db: &Connection, dir: &Path, keys: &KeyRing) -> Result<(), StoreError> {
    let path = keys.signing_file();
    if path.exists() || *keys.signing_place() != SigningKeyPlace::Own {
        return Ok(());
    }
    let mut found = evidence_remains(dir);
    if schema::version(db)? >= schema::WITH_CHAIN && chain::head(db)?.is_some() {
        if chain::has_more_than_acts(db)? {
            found.insert(0, "a chain of custody in its database".into());
        } else if !moved_aside(dir).is_empty() {
            found.insert(0, "a database that was moved aside".into());
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => Err(StoreError::KeyLost {
            path,
            found: found.join(", "),
        }),
    }
}

/// A warning if there are evidence pictures that the database does not know and that were written after its newest line of the
/// chain, as with an older copy of it; `None` if there are none.
///
/// Not certain, so not a reason to refuse: a daemon that was killed between writing pictures and committing their case leaves a few.
pub(super) fn newer_pictures(db: &Connection, dir: &Path) -> Result<Option<String>, StoreError> {
    let Some(newest) = chain::newest_time(db)? else {
        return Ok(None);
    };
    let is_newer = |path: &Path| {
        let changed = fs::metadata(path).and_then(|file| file.modified());
        changed.is_ok_and(|at| at > SystemTime::from(newest))
    };
    let mut known = db.prepare("SELECT 1 FROM evidence WHERE sha256 = ?1")?;
    let mut count = 0;
    // A folder without new files has its old time, so few are read.
    for folder in entries(&dir.join("evidence")).filter(|folder| is_newer(folder)) {
        for picture in entries(&folder).filter(|picture| is_newer(picture)) {
            let sha256 = picture.file_stem().and_then(|name| name.to_str());
            let is_picture = picture.extension().is_some_and(|e| e == "jpg");
            if is_picture
                && let Some(sha256) = sha256
                && !known.exists([sha256])?
            {
                count += 1;
            }
        }
    }
    Ok((count > 0).then(|| {
        format!(
            "evidence/ has {count} pictures that were written after the database's newest record ({newest:.0}) and that no case in it \
             has. A few may be left of a case that was interrupted; otherwise this is an older copy of the database, and what was filed \
             since would be filed again: stop gridwatch and restore the newest one (`gridwatch store restore FILE`)"
        )
    }))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// What shows that the state directory `dir` had a database, as words; empty if nothing does.
pub(super) fn remains(dir: &Path) -> String {
    let mut found = Vec::new();
    if KeyRing::of(dir).signing_file().exists() {
        found.push("the signing key".to_owned());
    }
    found.extend(evidence_remains(dir));
    match moved_aside(dir).len() {
        0 => {}
        1 => found.push("a database that was moved aside".into()),
        n => found.push(format!("{n} databases that were moved aside")),
    }
    found.join(", ")
}

/// The kinds of evidence that the state directory `dir` has.
fn evidence_remains(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, kind) in [("evidence", "evidence pictures"), ("originals", "originals")] {
        let folders = fs::read_dir(dir.join(folder)).into_iter().flatten().flatten();
        if folders
            .into_iter()
            .any(|f| fs::read_dir(f.path()).is_ok_and(|mut d| d.next().is_some()))
        {
            found.push(kind.to_owned());
        }
    }
    if entries(&dir.join("ledger")).next().is_some() {
        found.push("a ledger".to_owned());
    }
    found
}

/// What a look at the database of a state directory shows, for `gridwatch check`.
#[derive(Debug)]
pub struct Inspection {
    /// Its schema version; `None` if there is no database yet and nothing shows that there was one.
    pub version: Result<Option<u32>, StoreError>,
    /// A warning about the database; the error is [`StoreError::KeyLost`], or the database cannot be read.
    pub doubts: Result<Option<String>, StoreError>,
    /// Databases that were moved aside, newest first.
    pub aside: Vec<PathBuf>,
}

/// Examines the database in the state directory `dir` as the daemon with these keys would at its start, without changing it.
pub fn inspect(dir: &Path, keys: &KeyRing) -> Inspection {
    Inspection {
        version: examine(&dir.join(FILE), dir),
        doubts: doubts(&dir.join(FILE), dir, keys),
        aside: moved_aside(dir),
    }
}

fn examine(path: &Path, dir: &Path) -> Result<Option<u32>, StoreError> {
    expect_database(path, dir)?;
    if is_missing(path) {
        return Ok(None);
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

/// What is wrong beside a database that is sound: the signing key is missing, or pictures are newer than it.
fn doubts(path: &Path, dir: &Path, keys: &KeyRing) -> Result<Option<String>, StoreError> {
    if is_missing(path) {
        return Ok(None);
    }
    let (db, version) = super::connect_read_only(path)?;
    expect_key(&db, dir, keys)?;
    match version >= schema::WITH_CHAIN {
        true => newer_pictures(&db, dir),
        false => Ok(None),
    }
}
