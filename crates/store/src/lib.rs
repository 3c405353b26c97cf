//! What must not be lost: cases, their history, the index of their evidence, and the outbox of messages that the broker
//! has not acknowledged. SQLite in WAL mode, every commit flushed to the disk.
//!
//! A case and all its messages are one transaction, made before anything is sent; a message leaves the outbox only on
//! the broker's word. Pictures are files beside the database, written and flushed before the transaction that names
//! them. This module decides nothing about cases and sends nothing.
//!
//! A database that cannot be read is set aside under another name, never deleted, and a new one is begun: a box that
//! lost its memory must still watch. A database of a newer program is refused instead.

pub mod evidence_file;

mod cases;
mod chain;
mod claims;
mod outbox;
mod read;
mod retention;
mod schema;

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::Notify;

pub use self::{
    cases::{Applied, Revision},
    claims::{ClaimRow, ClaimState},
    outbox::{Depth, OutboxEntry, OutboxKind, OutboxRow},
    read::{CaseFile, CaseSummary, Filter, HistoryRow},
    retention::{Budget, Pruned, Retention},
};
use gridwatch_base::error::Class;
use gridwatch_custody::{
    PublicKey, SigningKey,
    keys::{KeyError, KeyRing},
};
use gridwatch_engine::CaseId;

/// The database's file name inside the state directory.
const FILE: &str = "gridwatch.db";

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room. Nothing was committed.
    #[error("the disk that holds {} is full: nothing more can be filed until there is room", .dir.display())]
    DiskFull {
        /// The state directory.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried: `write`, `create`, …
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[source] rusqlite::Error),
    /// Pages of the database do not make sense. Opening it anew sets it aside.
    #[error("the database is damaged ({0}): restart gridwatch, which sets the file aside and begins a new one")]
    Corrupt(String),
    /// A newer program wrote it.
    #[error("the database is of version {found}, this program knows up to {known}: run the newer gridwatch again")]
    Newer {
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Another daemon has it.
    #[error("another gridwatch is running on {}: stop it, or give this one a state directory of its own", .dir.display())]
    Busy {
        /// The state directory.
        dir: PathBuf,
    },
    /// There is nothing to read.
    #[error("there is no database at {}: is this the state directory of a gridwatch that has run?", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// No such case.
    #[error("case {case} is not in the store")]
    UnknownCase {
        /// Which.
        case: CaseId,
    },
    /// The case is there already.
    #[error("case {case} is in the store already: a case is committed once")]
    Exists {
        /// Which.
        case: CaseId,
    },
    /// A case cannot exist without its pictures.
    #[error("case {case} cannot be committed: {what}")]
    NoEvidence {
        /// Which.
        case: CaseId,
        /// Which picture is wrong, and how.
        what: String,
    },
    /// What cases are signed with cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// This handle only reads, or takes rows out of the outbox.
    #[error("this handle on the store signs nothing, and what is said of a case is signed")]
    SignsNothing,
    /// A row that this program cannot have written.
    #[error("case {case}: its stored {field} cannot be read: {reason}")]
    BadRow {
        /// Which case.
        case: String,
        /// Which column.
        field: &'static str,
        /// Why not.
        reason: String,
    },
}

impl StoreError {
    /// What it means for whoever meets it.
    pub fn class(&self) -> Class {
        match self {
            Self::DiskFull { .. } | Self::Io { .. } | Self::Sqlite(_) | Self::Busy { .. } => Class::Transient,
            Self::Missing { .. } | Self::Newer { .. } => Class::Config,
            Self::Corrupt(_) | Self::UnknownCase { .. } | Self::NoEvidence { .. } | Self::BadRow { .. } => Class::Data,
            Self::Key(e) => e.class(),
            Self::Exists { .. } | Self::SignsNothing => Class::Bug,
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

/// A handle on the store. Handles share one database; each belongs to one thread at a time and its calls block.
pub struct Store {
    db: Connection,
    dir: PathBuf,
    news: Arc<Notify>,
    /// What the daemon's handles sign with.
    key: Option<Arc<SigningKey>>,
    /// Held while any handle lives: one daemon a state directory.
    lock: Option<Arc<File>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key has none.
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Store {
    /// What this handle signs with.
    fn key(&self) -> Result<Arc<SigningKey>, StoreError> {
        self.key.clone().ok_or(StoreError::SignsNothing)
    }

    /// What the signatures of this handle are checked with; `None` where it signs nothing.
    pub fn public_key(&self) -> Option<PublicKey> {
        self.key.as_ref().map(|key| key.public())
    }

    /// Opens the store in `dir`, which is made if need be, for the one daemon that runs on it.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another daemon runs on `dir`, [`StoreError::Newer`] where a newer program wrote it, or
    /// what the disk says. A damaged database is no error: it is set aside, loudly.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
        let lock = lock(dir)?;
        let path = dir.join(FILE);
        let db = match open_checked(&path) {
            Err(StoreError::Corrupt(reason)) => {
                let aside = set_aside(&path)?;
                tracing::error!(
                    database = %path.display(), set_aside = %aside.display(), reason,
                    "The database is damaged; it was set aside and a new one begun. Open cases and unsent messages in it are no longer known to the box: restore them from the platform, or have the file examined."
                );
                open_checked(&path)
            }
            other => other,
        };
        let key = KeyRing::of(dir).signing()?;
        let mut store = Self {
            db: db.map_err(|e| in_dir(e, dir))?,
            dir: dir.to_path_buf(),
            news: Arc::new(Notify::new()),
            key: None,
            lock: Some(Arc::new(lock)),
        };
        store.take_up_chain(&key, Timestamp::now())?;
        store.key = Some(Arc::new(key));
        Ok(store)
    }

    /// Opens an existing store to read it, also while its daemon runs. Writes through this handle fail.
    ///
    /// # Errors
    /// [`StoreError::Missing`] where there is none; [`StoreError::Newer`]; [`StoreError::Corrupt`] (nothing is set aside).
    pub fn open_read_only(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Err(StoreError::Missing { path });
        }
        let db = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        match schema::version(&db)? {
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
            news: Arc::new(Notify::new()),
            key: None,
            lock: None,
        })
    }

    /// Opens an existing store to write small things beside a running daemon, as `gridwatch outbox retry` does.
    ///
    /// # Errors
    /// As [`Store::open_read_only`].
    pub fn open_beside(dir: &Path) -> Result<Self, StoreError> {
        let reader = Self::open_read_only(dir)?;
        Ok(Self {
            db: connect(&dir.join(FILE))?,
            ..reader
        })
    }

    /// A second handle for the link, which only takes rows out of the outbox. Its commits are not flushed one by one:
    /// a removal lost with the power is a message sent twice, which the receiver is made for.
    pub fn outbox_handle(&self) -> Result<Self, StoreError> {
        let db = connect(&self.dir.join(FILE))?;
        db.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self {
            db,
            dir: self.dir.clone(),
            news: Arc::clone(&self.news),
            key: self.key.clone(),
            lock: self.lock.clone(),
        })
    }

    /// The state directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Told whenever the outbox got new rows, by whichever handle.
    pub fn news(&self) -> Arc<Notify> {
        Arc::clone(&self.news)
    }

    /// Lets the database grow to `pages` pages of 4 KiB and no further: how a full disk is tested.
    #[doc(hidden)]
    pub fn limit_pages(&self, pages: u32) -> Result<u32, StoreError> {
        Ok(self
            .db
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |row| row.get(0))?)
    }
}

/// The other handle's commit takes milliseconds; only a dying disk takes longer than this.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let db = Connection::open(path)?;
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    Ok(db)
}

fn open_checked(path: &Path) -> Result<Connection, StoreError> {
    let mut db = connect(path)?;
    let found: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        return Err(StoreError::Corrupt(found));
    }
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if !mode.eq_ignore_ascii_case("wal") {
        let source = io::Error::other(format!("its file system allows journal mode {mode} only"));
        return Err(StoreError::io("put into WAL mode", path, source));
    }
    schema::migrate(&mut db)?;
    Ok(db)
}

/// SQLite does not say which disk is full; the operator wants to know.
fn in_dir(error: StoreError, dir: &Path) -> StoreError {
    match error {
        StoreError::DiskFull { .. } => StoreError::DiskFull { dir: dir.to_path_buf() },
        other => other,
    }
}

/// Another daemon does not end by itself.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("gridwatch.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|e| StoreError::io("open", &path, e))?;
    // A daemon that is being restarted may still be ending, and a child that it just started holds its files until it runs.
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(StoreError::Busy { dir: dir.to_path_buf() }),
            Err(TryLockError::Error(e)) => return Err(StoreError::io("lock", &path, e)),
        }
    }
}

/// Renames the database and its journal files, and gives the new name of the first.
fn set_aside(path: &Path) -> Result<PathBuf, StoreError> {
    let time = Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    let mut aside = PathBuf::new();
    for suffix in ["-wal", "-shm", ""] {
        let from = PathBuf::from(format!("{}{suffix}", path.display()));
        aside = PathBuf::from(format!("{}.corrupt-{time}{suffix}", path.display()));
        match fs::rename(&from, &aside) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(StoreError::io("set aside", &from, e)),
            Ok(()) => {}
        }
    }
    Ok(aside)
}
