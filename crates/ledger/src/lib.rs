//! The ledger: a record of every input of the engine, in order. It is enough to replay a run byte for byte, and to
//! replay it with another configuration. Recording never blocks the engine: a box whose ledger cannot be written keeps
//! judging.
//!
//! # Constraints
//!
//! - **Append-only.** Records are never changed. A truncated record at the end of the newest file, as left by a crash,
//!   is cut off when the daemon starts. A file damaged elsewhere is read up to the damage, renamed (`.damaged`), and
//!   never deleted.
//! - **Self-contained files.** Each file has its own table of names, its own time base, and the cases known when it was
//!   started. Old files can be deleted, and a replay can start with any file.
//! - **Exact.** Times have nanosecond precision, scores and boxes keep their bits, because case ids are hashes of them.
//! - **No clock.** Ages are computed from the times of the inputs.
//!
//! # Format
//!
//! A directory of files `ledger-00000001.gwl`, numbered consecutively. A file is a header followed by frames; all
//! numbers are little-endian:
//!
//! ```text
//! header   "GWLEDGER" | version u16 | 0 u16 | started i64 (Unix milliseconds) | CRC-32 of the 20 bytes before, u32
//! frame    length u32 (1..=16 MiB) | CRC-32 of the payload u32 | payload
//! payload  kind u8 | body | opened*
//! opened   length varint | id of a case that the engine opened because of this input
//! ```
//!
//! The first frame is the head: run, program version and configuration (JSON). The head and the record of a configuration change name
//! the plan, which is a file in `plans/` beside the ledger (the module `plans`). A file started with the daemon continues
//! with the cases that the store restored. A file started by rotation, or after records were lost, continues with the
//! cases and claims that the engine knew.
//!
//! ```text
//! look          camera name | time | view u8 | count varint | detection* | not searched
//! view          number of the view | flags: 0x80 infrared, 0x40 appearances, 0x20 phone numbers, 0x10 labels not searched for,
//!               0x08 second looks; as number 7, the number follows in another byte with flags: 0x08 newness, 0x10 texts
//! detection     label name | score f32 | x1 f32 | y1 f32 | x2 f32 | y2 f32 | appearance | phone number | second look | newness | text
//! appearance    absent without 0x40; else 0 u8, or 1 u8 and 12 bytes
//! phone number  absent without 0x20; else length varint (0: none) and UTF-8
//! second looks  absent without 0x08; else 0 u8, or 1 u8 and score f32 (for every rule, until version 2), or 2 u8, count varint, and for each rule name and
//!               score f32
//! newness       absent without the second 0x08; else 0 u8 if unknown, 1 u8 and share f32, or 2 u8, share f32 and the nanoseconds since the new
//!               part appeared, varint, zigzag
//! text          absent without the second 0x10; else length varint (0: none) and UTF-8, and, if there is one, score f32
//! not searched  absent without 0x10; else count varint | label name*
//! tick          time
//! others        length varint | JSON
//! varint        LEB128
//! time          varint of the zigzag of the nanoseconds since the previous look or tick of the file (the first: since `started`)
//! name          varint: n > 0 is the n-th name of this file; 0, then length varint and UTF-8, defines the next name
//! ```
//!
//! A look without detections takes 17 to 19 bytes, a detection 21, or 34 with its appearance. Version 1 had no
//! appearances and no resumed engines, versions before 4 no plans; they are still read. CRC-32 is the one of IEEE 802.3.

pub mod history;
pub mod places;
pub mod replay;
pub mod what_if;

mod code;
mod file;
mod plans;
mod read;
mod recorded;
mod write;

#[cfg(test)]
#[path = "../../engine/tests/engine_support/mod.rs"]
mod engine_support;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::{
    code::{Entry, FileHead, FileOrigin, Reaimed, RecordedEvent},
    plans::{PlanError, PlanId, PlanReader},
    read::{Damage, Reader, quarantine},
    recorded::RecordedEngine,
    write::{Recorder, RunInfo},
};
use gridwatch_base::error::Class;

/// Location and limits of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The directory; created if missing.
    pub dir: PathBuf,
    /// A file that reaches this size in bytes is followed by a new one.
    pub file_bytes: u64,
    /// Maximum size of all files together, in bytes, without damaged ones. The oldest files are deleted first.
    pub keep_bytes: u64,
    /// A file is deleted when its newest record is older than this.
    pub keep_for: Duration,
}

/// Errors of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
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
    /// There is no ledger.
    #[error("no ledger in {}; give the directory that contains ledger-00000001.gwl and so on (`ledger` in the state directory)", .dir.display())]
    Missing {
        /// The directory that was tried.
        dir: PathBuf,
    },
    /// The file was written by a newer version.
    #[error("{}: format version {found} is newer than the supported version {known}; use the newer gridwatch", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Format version of the file.
        found: u16,
        /// Newest format version that this program supports.
        known: u16,
    },
    /// Another daemon writes this ledger.
    #[error("ledger directory {} is in use by another gridwatch; configure a different one (ledger.dir)", .dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
}

impl LedgerError {
    /// The class of the error, which decides between retry and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } | Self::Busy { .. } => Class::Transient,
            Self::Missing { .. } | Self::Newer { .. } => Class::Config,
        }
    }

    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_path_buf(),
            source,
        }
    }
}
