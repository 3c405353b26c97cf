//! Why a simulation failed.

use std::{io, path::PathBuf};

use gridwatch_base::error::Class;
use gridwatch_config::Faults;
use gridwatch_ledger::LedgerError;

/// Why a simulation failed.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The output folder is not empty.
    #[error("{} is not empty; use an empty or a new folder", .dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The rules file is invalid.
    #[error("{}: {reason}", .path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// The rules do not fit the town's cameras.
    #[error(transparent)]
    Config(#[from] Faults),
    /// The ledger could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A bug in the simulator.
    #[error("{0}")]
    Bug(String),
}

impl SimulateError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::NotEmpty { .. } | Self::Rules { .. } | Self::Config(_) => Class::Config,
            Self::Io { .. } => Class::Transient,
            Self::Ledger(e) => e.class(),
            Self::Bug(_) => Class::Bug,
        }
    }
}
