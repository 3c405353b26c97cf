//! The durable state of a box: cases, their history, the index of their evidence, what persons said of them, and the outbox of messages
//! that the platform may not have. SQLite in WAL mode; every commit is flushed to disk.
//!
//! A case and all its messages are committed in one transaction before anything is sent. A message leaves the outbox
//! only when the broker acknowledges it or, if the platform gives receipts, with its receipt. Pictures are files next to the database, written and flushed before the
//! transaction that refers to them. This crate makes no decisions about cases and sends nothing.
//!
//! A database that cannot be read is renamed, never deleted, and a new one takes over the cases that can be read, so that
//! the box keeps watching. A database written by a newer version is refused, and so is a missing one in a state directory
//! that had one: an empty database would file every open problem again.

pub mod evidence_file;

mod audit;
mod boxes;
mod case_check;
mod cases;
mod chain;
mod claims;
mod error;
mod history;
mod location;
mod outbox;
mod read;
mod receipts;
mod recovery;
mod retention;
mod reviews;
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
    audit::NewAct,
    boxes::KnownBox,
    case_check::{CaseCheck, ChainState, PictureState, SignatureState},
    cases::{ReplyOutcome, Revision},
    chain::{AppendedLine, ChainExcerpt},
    claims::{ClaimRow, ClaimState, HeldBack},
    error::StoreError,
    location::{Inspection, inspect, is_state_dir},
    outbox::{OutboxDepth, OutboxEntry, OutboxKind, OutboxRow, OutboxState},
    read::{CaseFile, CaseQuery, CaseSummary, CellCount, Filter, HistoryRow, Received},
    receipts::{ReceiptOutcome, ResendDelays, Resent},
    recovery::{Recovered, create_missing_keys},
    retention::{Budget, Pruned, Retention},
    reviews::{Review, ReviewFilter, ReviewLabels, ReviewProgress, ReviewVerdict},
};
use gridwatch_custody::{PublicKey, Signer, keys::KeyRing};

/// File name of the database in the state directory.
const FILE: &str = "gridwatch.db";

/// The daemon locks this file in the state directory.
const LOCK_FILE: &str = "gridwatch.lock";

/// A handle to the store. All handles share one database; each is used by one thread at a time, and its calls block.
pub struct Store {
    db: Connection,
    dir: PathBuf,
    outbox_notify: Arc<Notify>,
    /// Signs revisions; `None` for handles that must not write any.
    key: Option<Arc<dyn Signer>>,
    /// Lock on the state directory, held as long as any handle of the daemon exists.
    lock: Option<Arc<File>>,
    /// After what time a record without a receipt is sent again.
    resend_delays: ResendDelays,
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
    fn key(&self) -> Result<Arc<dyn Signer>, StoreError> {
        self.key.clone().ok_or(StoreError::NoSigningKey)
    }

    /// The public key for the signatures made by this handle; `None` if it has no signing key.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.key.as_ref().map(|key| key.public())
    }

    /// Signs a JSON object: appends the signature over its bytes as its last member.
    ///
    /// # Errors
    /// [`StoreError::NoSigningKey`], or [`StoreError::Key`] if a token cannot sign now.
    pub fn seal(&self, object: &str) -> Result<String, StoreError> {
        Ok(gridwatch_custody::seal(&*self.key()?, object)?)
    }

    /// Opens the store in `dir` for the daemon, with a signing key in the state directory: [`Store::open_with`].
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, &KeyRing::of(dir))
    }

    /// Opens the store in `dir` for the daemon, creating the directory, the database and a signing key in the state directory if necessary.
    ///
    /// A damaged database is not an error: it is renamed and logged, and a new one takes over the cases that can be read.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if another daemon uses `dir`, [`StoreError::Newer`] if a newer version wrote the database,
    /// [`StoreError::Lost`] if `dir` had a database, [`StoreError::KeyLost`] if it had a key, or [`StoreError::Io`].
    pub fn open_with(dir: &Path, keys: &KeyRing) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
        let lock = lock(dir)?;
        let path = dir.join(FILE);
        location::expect_database(&path, dir)?;
        let db = match open_checked(&path) {
            Err(StoreError::Corrupt(reason)) => replace_damaged(&path, &reason),
            other => other,
        };
        let db = db.map_err(|e| with_dir(e, dir))?;
        let mut store = Self {
            db,
            dir: dir.to_path_buf(),
            outbox_notify: Arc::new(Notify::new()),
            key: None,
            lock: Some(Arc::new(lock)),
            resend_delays: ResendDelays::default(),
            files: None,
        };
        let newest = store.chain_keys()?.into_iter().next();
        keys.finish_rotation(newest.as_deref())?;
        location::expect_key(&store.db, dir, keys)?;
        keys.expect_handed_over(newest.as_deref())?;
        let key = keys.load_or_create()?;
        store.begin_or_resume_chain(&*key, Timestamp::now())?;
        store.key = Some(key);
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
            resend_delays: ResendDelays::default(),
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
            resend_delays: self.resend_delays,
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
