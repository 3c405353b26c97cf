//! What can go wrong with the store.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::ErrorCode;

use gridwatch_base::error::Class;
use gridwatch_custody::keys::KeyError;
use gridwatch_engine::CaseId;

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
    /// The database file is damaged. The next [`Store::open`](crate::Store::open) renames it and creates one with the cases that can be read.
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
    /// The database was written by an older version, and its daemon has not been restarted since.
    #[error(
        "database schema version {found} is older than this program's ({known}); restart the daemon with this version of gridwatch, which \
         migrates it"
    )]
    Older {
        /// Schema version of the database.
        found: u32,
        /// The program's schema version.
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
    /// The new signing key is the old one.
    #[error("{key} signs for this box already; create another key, and name it in evidence.signing_key")]
    SameKey {
        /// The public key.
        key: String,
    },
    /// The handle was opened without a signing key (read-only, or [`Store::open_unlocked`](crate::Store::open_unlocked)).
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
            | Self::Older { .. }
            | Self::UnmergedWal { .. }
            | Self::Lost { .. }
            | Self::SameKey { .. }
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

    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
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
