//! The record of everything that reached the engine, in order: enough to judge it again, byte for byte, and to judge it
//! otherwise with other thresholds. It decides nothing, and nothing waits for it: a box that cannot write it goes on judging.
//!
//! # Constraints
//!
//! - **Append-only.** A record is never changed. What a crash tore off the newest file is cut off when it is next opened;
//!   a file damaged elsewhere is read up to the damage, renamed (`.damaged`), and never deleted by us.
//! - **Each file stands alone**: its own table of names, its own time base, the cases known when it was begun. So old files
//!   can go, and a replay can begin with any.
//! - **Exact.** Times to the nanosecond, scores and boxes by their bits, since the names of cases are hashes of them.
//! - **No clock of its own.** Age is told by the times of the inputs.
//!
//! # Format
//!
//! A folder of files `ledger-00000001.gwl`, numbered without end. A file is a header and frames, all numbers little-endian:
//!
//! ```text
//! header   "GWLEDGER" | version u16 | 0 u16 | begun i64 (Unix milliseconds) | CRC-32 of the 20 bytes before, u32
//! frame    length u32 (1..=16 MiB) | CRC-32 of the payload u32 | payload
//! payload  kind u8 | body | filed*
//! filed    length varint | id of a case that this input opened
//! ```
//!
//! The first frame is the head: which run of which program with which configuration (JSON). A file begun by a start goes on
//! with the cases that the store gave back; one begun by rotation, or after records were lost, with those the engine knew.
//!
//! ```text
//! look     camera name | time | view u8 | count varint | (label name | score f32 | x1 f32 | y1 f32 | x2 f32 | y2 f32 | known)*
//! view     the view's number, 0x80 = infrared, 0x40 = what things look like is known
//! known    nothing without 0x40; else 0 u8, or 1 u8 and 12 bytes (appearance)
//! tick     time
//! others   length varint | JSON
//! varint   LEB128
//! time     varint of the zigzag of the nanoseconds since the file's last look or tick (the first: since `begun`)
//! name     varint: n > 0 is the n-th name of this file; 0, then length varint and UTF-8, is the next name
//! ```
//!
//! A look without detections is 17 to 19 bytes, a detection 21, or 34 with its appearance. Version 1 had no appearances and no
//! resumed engines; it is still read. CRC-32 is that of IEEE 802.3.

pub mod replay;

mod code;
mod file;
mod read;
mod recorded;
mod write;

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::{
    code::{Begun, Entry, Head, Reaimed, What},
    read::{Damage, Reader, quarantine},
    recorded::Recorded,
    write::{Recorder, Run},
};
use gridwatch_base::error::Class;

/// Where the ledger is and how much of it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its folder; made if need be.
    pub dir: PathBuf,
    /// A file of this many bytes is followed by a new one.
    pub file_bytes: u64,
    /// All files together, the damaged ones left out; the oldest goes first.
    pub keep_bytes: u64,
    /// A file whose newest record is older goes.
    pub keep_for: Duration,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
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
    /// There is nothing to read.
    #[error("no ledger is in {}: name the folder that holds ledger-00000001.gwl and so on (`ledger` in the state directory)", .dir.display())]
    Missing {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} is of format {found}, this program reads up to {known}: use the newer gridwatch", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// Another daemon writes it.
    #[error("another gridwatch writes the ledger in {}: give this one a folder of its own (ledger.dir)", .dir.display())]
    Busy {
        /// The folder.
        dir: PathBuf,
    },
}

impl LedgerError {
    /// What it means for whoever meets it.
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
