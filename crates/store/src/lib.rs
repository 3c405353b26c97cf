//! The durable state of a box: cases, their history, the index of their evidence, and the outbox of messages that the
//! broker has not acknowledged. SQLite in WAL mode; every commit is flushed to disk.
//!
//! A case and all its messages are committed in one transaction before anything is sent. A message leaves the outbox
//! only when the broker acknowledges it. Pictures are files next to the database, written and flushed before the
//! transaction that refers to them. This crate makes no decisions about cases and sends nothing.
//!
//! A database that cannot be read is renamed, never deleted, and a new one takes over the cases that can be read, so that
//! the box keeps watching. A database written by a newer version is refused, and so is a missing one in a state directory
//! that had one: an empty database would file every open problem again.

pub mod evidence_file;

mod cases;
mod chain;
mod claims;
mod history;
mod location;
mod outbox;
mod read;
mod recovery;
mod retention;
mod row;
mod schema;

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::Notify;

use self::location::{Aside, OpenFiles};
pub use self::{
    cases::{ReplyOutcome, Revision},
    claims::{ClaimRow, ClaimState},
    location::{Inspection, inspect, is_state_dir},
    outbox::{OutboxDepth, OutboxEntry, OutboxKind, OutboxRow},
    read::{CaseFile, CaseSummary, Filter, HistoryRow},
    recovery::{Recovered, create_missing_keys},
    retention::{Budget, Pruned, Retention},
};
use gridwatch_base::error::Class;
use gridwatch_custody::{
    PublicKey, SigningKey,
    keys::{KeyError, KeyRing},
};
use gridwatch_engine::CaseId;

/// File name of the database in the state directory.
const FILE: &str = "gridwatch.db";

/// The daemon locks this file in the state directory.
const LOCK_FILE: &str = "gridwatch.lock";

/// Errors of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full. Nothing was committed.
    #[error("disk full: {}; cases are filed again once there is free space", .dir.display())]
    DiskFull {
        /// The state directory.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation: `write`, `create`, …
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A database operation failed.
    #[error("database error: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// The database file is damaged. The next [`Store::open`] renames it and creates one with the cases that can be read.
    #[error(
        "database is damaged ({0}); stop gridwatch and restore a backup (`gridwatch store restore FILE`), or restart it to go on \
         with the cases that can still be read"
    )]
    Corrupt(String),
    /// The database is missing or empty although keys, evidence or a moved-aside database show that there was one.
    #[error(
        "{} {fault}, but the state directory has {found}; an empty database would file every open problem again. Restore a backup \
         (`gridwatch store restore FILE`), take over what databases that were moved aside still hold (`gridwatch store rebuild`), or \
         start anew on purpose (`gridwatch store new`)",
        .path.display()
    )]
    Lost {
        /// Where the database belongs.
        path: PathBuf,
        /// "is missing", or why it holds nothing.
        fault: &'static str,
        /// What shows that there was one.
        found: String,
    },
    /// The signing key is missing although the state directory was used before.
    #[error(
        "{} is missing, but the state directory has {found}; a new key would sign cases that do not verify with the public key the \
         platform has. Put the keys back from a backup of keys/, or go on with new ones on purpose (`gridwatch keys new`) and give the \
         platform the new public key",
        .path.display()
    )]
    KeyLost {
        /// Where the key belongs.
        path: PathBuf,
        /// What shows that there was one.
        found: String,
    },
    /// The open database was deleted, moved or replaced.
    #[error(
        "{} was deleted or replaced while gridwatch runs, and what it wrote since would be lost; move it back, or stop gridwatch and \
         run `gridwatch store restore FILE`, `gridwatch store rebuild` or `gridwatch store new`",
        .path.display()
    )]
    Gone {
        /// Where the database belongs.
        path: PathBuf,
    },
    /// Another program wrote over the open database.
    #[error(
        "{} was overwritten while gridwatch runs ({reason}); stop gridwatch and run `gridwatch store restore FILE` or `gridwatch store rebuild`",
        .path.display()
    )]
    Overwritten {
        /// The database.
        path: PathBuf,
        /// What is there now.
        reason: String,
    },
    /// The file to be restored is not a valid gridwatch database.
    #[error("cannot restore {}: {reason}; name a file written by `gridwatch store backup`", .path.display())]
    NotABackup {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The backup is of another box.
    #[error(
        "cannot restore {}: it is of {theirs}, but this state directory is of {own}; the box would file under its own name what the \
         other one filed. Name a backup of this box, or add --from-other-box if this box is to go on in its place",
        .path.display()
    )]
    OtherBox {
        /// The backup.
        path: PathBuf,
        /// The box that it is of: its node id and public key.
        theirs: String,
        /// This box.
        own: String,
    },
    /// The backup could not be written.
    #[error("cannot write the backup {}: {reason}", .path.display())]
    Backup {
        /// The file that was to be written.
        path: PathBuf,
        /// What happened, and the remedy.
        reason: String,
    },
    /// The database was written by a newer version.
    #[error("database schema version {found} is newer than the supported version {known}; run the newer gridwatch")]
    Newer {
        /// Schema version of the database.
        found: u32,
        /// Newest schema version that this program supports.
        known: u32,
    },
    /// Another daemon holds the lock of the state directory.
    #[error("state directory {} is in use by another gridwatch; stop it, or configure a different state directory", .dir.display())]
    Busy {
        /// The state directory.
        dir: PathBuf,
    },
    /// The folder holds something, but nothing of gridwatch.
    #[error(
        "{} is not a state directory of gridwatch: it has files, but no database, lock or key of gridwatch; nothing was changed. \
         Correct --state, or name the configuration with --config",
        .dir.display()
    )]
    NotAStateDir {
        /// The folder.
        dir: PathBuf,
    },
    /// There is no database.
    #[error("no database at {}; give the state directory of a gridwatch that has run", .path.display())]
    Missing {
        /// The path that was tried.
        path: PathBuf,
    },
    /// The newest commits are in the write-ahead log, whose index is missing and cannot be created.
    #[error(
        "{} holds commits that cannot be read from a folder without write access; copy gridwatch.db and gridwatch.db-wal to a folder of yours and give that with --state",
        .wal.display()
    )]
    UnmergedWal {
        /// The write-ahead log.
        wal: PathBuf,
    },
    /// The store has no case with that id.
    #[error("unknown case {case}")]
    UnknownCase {
        /// The case id.
        case: CaseId,
    },
    /// The case was committed before.
    #[error("case {case} is already in the store")]
    CaseExists {
        /// The case id.
        case: CaseId,
    },
    /// The case has no pictures, or their files do not match the record.
    #[error("cannot commit case {case}: {what}")]
    InvalidEvidence {
        /// The case id.
        case: CaseId,
        /// The picture and its fault.
        what: String,
    },
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The handle was opened without a signing key (read-only, or [`Store::open_unlocked`]).
    #[error("this store handle has no signing key; revisions must be signed")]
    NoSigningKey,
    /// A stored value cannot be parsed.
    #[error("case {case}: invalid {field} in the database: {reason}")]
    BadRow {
        /// The case id.
        case: String,
        /// The column.
        field: &'static str,
        /// The cause.
        reason: String,
    },
}

impl StoreError {
    /// The class of the error, which decides between retry, quarantine and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::DiskFull { .. }
            | Self::Io { .. }
            | Self::Sqlite(_)
            | Self::Backup { .. }
            | Self::Busy { .. }
            | Self::Gone { .. }
            | Self::Overwritten { .. } => Class::Transient,
            Self::Missing { .. }
            | Self::NotAStateDir { .. }
            | Self::Newer { .. }
            | Self::UnmergedWal { .. }
            | Self::Lost { .. }
            | Self::KeyLost { .. } => Class::Config,
            Self::Corrupt(_)
            | Self::NotABackup { .. }
            | Self::OtherBox { .. }
            | Self::UnknownCase { .. }
            | Self::InvalidEvidence { .. }
            | Self::BadRow { .. } => Class::Data,
            Self::Key(e) => e.class(),
            Self::CaseExists { .. } | Self::NoSigningKey => Class::Bug,
        }
    }

    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                dir: path.parent().unwrap_or(path).to_path_buf(),
            },
            _ => Self::Io {
                doing,
                path: path.to_path_buf(),
                source,
            },
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { dir: PathBuf::new() },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

/// A handle to the store. All handles share one database; each is used by one thread at a time, and its calls block.
pub struct Store {
    db: Connection,
    dir: PathBuf,
    outbox_notify: Arc<Notify>,
    /// Signs revisions; `None` for handles that must not write any.
    key: Option<Arc<SigningKey>>,
    /// Lock on the state directory, held as long as any handle of the daemon exists.
    lock: Option<Arc<File>>,
    /// The files that were opened; `None` for handles that need not notice when they are gone.
    files: Option<OpenFiles>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key has no `Debug`.
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Store {
    fn key(&self) -> Result<Arc<SigningKey>, StoreError> {
        self.key.clone().ok_or(StoreError::NoSigningKey)
    }

    /// The public key for the signatures made by this handle; `None` if it has no signing key.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.key.as_ref().map(|key| key.public())
    }

    /// Opens the store in `dir` for the daemon, creating the directory and the database if necessary.
    ///
    /// A damaged database is not an error: it is renamed and logged, and a new one takes over the cases that can be read.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another daemon uses `dir`, [`StoreError::Newer`] if a newer version wrote the database,
    /// [`StoreError::Lost`] if `dir` had a database, [`StoreError::KeyLost`] if it had a key, or [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
        let lock = lock(dir)?;
        let path = dir.join(FILE);
        location::expect_database(&path, dir)?;
        let db = match open_checked(&path) {
            Err(StoreError::Corrupt(reason)) => replace_damaged(&path, &reason),
            other => other,
        };
        let db = db.map_err(|e| with_dir(e, dir))?;
        location::expect_key(&db, dir)?;
        let key = KeyRing::of(dir).load_or_create()?;
        let mut store = Self {
            db,
            dir: dir.to_path_buf(),
            outbox_notify: Arc::new(Notify::new()),
            key: None,
            lock: Some(Arc::new(lock)),
            files: None,
        };
        store.begin_or_resume_chain(&key, Timestamp::now())?;
        store.key = Some(Arc::new(key));
        // A database that exists in its write-ahead log only is lost with that.
        store.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        if let Ok(Some(lost)) = location::newer_pictures(&store.db, dir) {
            tracing::error!(database = %path.display(), "{lost}");
        }
        store.files = Some(OpenFiles::of(&path, &store.db)?);
        Ok(store)
    }

    /// Checks that the database is still the file that was opened, and that no one else wrote over it. Cheap while it is.
    ///
    /// # Errors
    /// [`StoreError::Gone`] or [`StoreError::Overwritten`].
    pub fn check_files(&self) -> Result<(), StoreError> {
        let path = self.dir.join(FILE);
        self.files.as_ref().map_or(Ok(()), |files| files.check(&path))
    }

    /// After a commit: moves it from the write-ahead log to the database file if it is a line of the chain, so that losing the log
    /// does not lose cases, and otherwise from time to time.
    fn committed(&self) {
        let Some(files) = &self.files else { return };
        let head = chain::head(&self.db).unwrap_or_default();
        if files.must_checkpoint(head) {
            let path = self.dir.join(FILE);
            // Best effort: the commit is safe in the log. A full disk or a reader delays it until the next one.
            let done = self.db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = done {
                tracing::debug!(%error, "Cannot move commits from the write-ahead log to the database");
            }
            files.checkpointed(&path);
        }
    }

    /// Opens an existing store for reading, also while its daemon runs, and where this user cannot write. Writes through this
    /// handle fail.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Newer`], [`StoreError::UnmergedWal`] or [`StoreError::Corrupt`]; a damaged database is
    /// left in place.
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Err(StoreError::Missing { path });
        }
        let (db, version) = connect_read_only(&path)?;
        match version {
            0 => return Err(StoreError::Missing { path }),
            found if found > schema::VERSION => {
                return Err(StoreError::Newer {
                    found,
                    known: schema::VERSION,
                });
            }
            _ => {}
        }
        Ok(Self {
            db,
            dir: dir.to_path_buf(),
            outbox_notify: Arc::new(Notify::new()),
            key: None,
            lock: None,
            files: None,
        })
    }

    /// Opens an existing store for small writes without taking the daemon's lock, as `gridwatch outbox retry` does.
    ///
    /// # Errors
    /// The same as [`Store::open_read_only`].
    pub fn open_unlocked(dir: &Path) -> Result<Self, StoreError> {
        let reader = Self::open_read_only(dir)?;
        Ok(Self {
            db: connect(&dir.join(FILE))?,
            ..reader
        })
    }

    /// A second handle for the MQTT link, which removes acknowledged messages from the outbox. Its commits are not
    /// flushed one by one: a removal lost in a power cut makes a message be sent twice, which receivers have to
    /// tolerate anyway.
    pub fn outbox_handle(&self) -> Result<Self, StoreError> {
        let db = connect(&self.dir.join(FILE))?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self {
            db,
            dir: self.dir.clone(),
            outbox_notify: Arc::clone(&self.outbox_notify),
            key: self.key.clone(),
            lock: self.lock.clone(),
            // What was filed may be sent; the core's handle, which files, notices.
            files: None,
        })
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notified whenever any handle adds messages to the outbox.
    pub fn outbox_notify(&self) -> Arc<Notify> {
        Arc::clone(&self.outbox_notify)
    }

    /// Limits the database to `pages` pages of 4 KiB, to simulate a full disk in tests.
    #[doc(hidden)]
    pub fn limit_pages(&self, pages: u32) -> Result<u32, StoreError> {
        Ok(self
            .db
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?)
    }
}

/// A commit by another handle takes milliseconds; only a failing disk takes longer than this.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    // Only `Store::committed` writes to the database file, so that it notices when something else does.
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(db)
}

/// Opens a database for reading and returns its schema version.
///
/// SQLite reads a database in WAL mode through an index beside it (`-shm`), which it creates if no process has the database open.
/// On a read-only mount, or as a user without write access, it cannot. If there is no write-ahead log either, the database file
/// is complete, and `immutable` reads it without index and locks. If there is one, as after a crash, reading the file alone would
/// silently show an older state.
fn connect_read_only(path: &Path) -> Result<(Connection, u32), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |db: Connection| -> Result<_, StoreError> {
        db.busy_timeout(BUSY_TIMEOUT)?;
        let version = schema::version(&db)?;
        Ok((db, version))
    };
    match open(Connection::open_with_flags(path, flags)?) {
        Err(StoreError::Sqlite(e))
            if matches!(e.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)) => {}
        other => return other,
    }
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    match fs::metadata(&wal) {
        Ok(metadata) if metadata.len() > 0 => return Err(StoreError::UnmergedWal { wal }),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io("read", &wal, e)),
        _ => {}
    }
    let immutable = format!("{}?immutable=1", file_uri(path));
    open(Connection::open_with_flags(
        immutable,
        flags | OpenFlags::SQLITE_OPEN_URI,
    )?)
}

/// The path as a `file:` URI (<https://www.sqlite.org/uri.html>).
fn file_uri(path: &Path) -> String {
    // Fails only without a working directory; then the path is used as it is.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => uri.push(char::from(*byte)),
            _ => uri += &format!("%{byte:02X}"),
        }
    }
    uri
}

fn open_checked(path: &Path) -> Result<Connection, StoreError> {
    let mut db = connect(path)?;
    quick_check(&db)?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let source = io::Error::other(format!("the file system only supports journal mode {mode}"));
        return Err(StoreError::io("enable WAL mode for", path, source));
    }
    schema::migrate(&mut db)?;
    // Not only in the log, which may be lost without the file, nor in the way of a command that reads this file alone.
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    Ok(db)
}

/// Fills in the directory, which SQLite does not report with a full disk.
fn with_dir(error: StoreError, dir: &Path) -> StoreError {
    match error {
        StoreError::DiskFull { .. } => StoreError::DiskFull { dir: dir.to_path_buf() },
        other => other,
    }
}

/// How long to wait for the lock of the state directory.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| StoreError::io("open", &path, e))?;
    // After a restart the old daemon may still be shutting down, and a child process that it just spawned keeps the
    // lock file open until it calls exec.
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &path, e)),
        }
    }
}

/// Whether a daemon, or a command that changes the database, holds the lock of the state directory.
pub fn is_in_use(dir: &Path) -> bool {
    // A shared lock, held for an instant: a daemon that starts meanwhile waits longer than that.
    let lock = File::open(dir.join(LOCK_FILE)).map(|file| file.try_lock_shared());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

/// Moves a damaged database aside and creates one with the cases that can be read.
fn replace_damaged(path: &Path, reason: &str) -> Result<Connection, StoreError> {
    let aside = location::move_aside(path, Aside::Corrupt)?.database;
    let mut db = open_checked(path)?;
    let (taken_over, unreadable) = match &aside {
        Some(aside) => recovery::merge(&mut db, aside),
        None => (0, 0),
    };
    let renamed_to = aside.unwrap_or_default();
    tracing::error!(
        database = %path.display(), renamed_to = %renamed_to.display(), reason, taken_over, unreadable,
        "Database is damaged; renamed it and created one with the cases that can be read. The others are no longer known to this box: restore a backup (gridwatch store restore), or their problems are filed again unless the broker has their claims"
    );
    Ok(db)
}

fn quick_check(db: &Connection) -> Result<(), StoreError> {
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Corrupt(found));
    }
    Ok(())
}

/// Creates an empty file that only its owner can read; fails if there is one.
fn private_file(path: &Path) -> Result<(), StoreError> {
    let created = File::options().write(true).create_new(true).mode(0o600).open(path);
    created.map(drop).map_err(|e| StoreError::io("write", path, e))
}
