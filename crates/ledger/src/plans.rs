//! The configurations that a ledger was recorded under: the plan of each is a file beside the ledger, and the records of a start and
//! of a configuration change name it.
//!
//! ```text
//! ledger/plans/<SHA-256>.json.gz   a plan: {"grid": <SHA-256>, "plan": …}, or a grid
//! ledger/plans/uses.json           the number of the newest ledger file that needs each of them
//! ```
//!
//! A file is named by the SHA-256 of its contents before compression (gzip), written once, and flushed to the disk before the record
//! that names it. The grid is a file of its own: it may have megabytes, and stays the same while zones and rules change. A file is
//! deleted when no ledger file that is left, damaged ones included, needs it.

pub(crate) mod keep;

use std::{
    collections::VecDeque,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::read::GzDecoder;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use gridwatch_base::{digest::sha256_hex, error::Class, file};
use gridwatch_engine::{Plan, StoredPlan, grid::Grid};

/// Folder of the plans, in that of the ledger.
const FOLDER: &str = "plans";
/// Maximum size of a stored plan or grid before compression. A grid of 100,000 cells with ten corners each has 40 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Plans that stay in memory: an operator who tries a change and takes it back names the same two again and again.
const RECENT: usize = 4;

/// Name of a stored plan: the SHA-256 of its file's contents, 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PlanId(String);

impl PlanId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Has the length of every id; names no plan.
    pub(crate) fn placeholder() -> Self {
        Self("0".repeat(64))
    }
}

impl TryFrom<String> for PlanId {
    type Error = &'static str;

    /// Anything else could name a file elsewhere.
    fn try_from(id: String) -> Result<Self, Self::Error> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match id.len() == 64 && id.bytes().all(is_digit) {
            true => Ok(Self(id)),
            false => Err("a plan is named by 64 lower-case hex digits"),
        }
    }
}

/// A stored plan as it is in its file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    /// Name of the grid.
    grid: PlanId,
    plan: StoredPlan,
}

/// Why the plan of a record is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Recorded by a version that did not keep plans.
    #[error("recorded by an earlier version, which did not keep the configuration")]
    NotRecorded,
    /// The file is missing.
    #[error("{} is missing", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The file is not what was stored.
    #[error("{} is damaged: {reason}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is whole, but this version does not know everything in it.
    #[error("{} was stored by a newer version: {reason}; use that gridwatch", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is not known.
        reason: String,
    },
}

impl PlanError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Transient,
            Self::Missing { .. } | Self::Damaged { .. } => Class::Data,
            Self::NotRecorded | Self::Newer { .. } => Class::Config,
        }
    }
}

/// Reads the stored plans of one ledger. The newest few stay in memory.
#[derive(Debug, Clone)]
pub struct PlanReader {
    folder: PathBuf,
    recent: VecDeque<(PlanId, Arc<Plan>)>,
    grid: Option<(PlanId, Grid)>,
}

impl PlanReader {
    /// The plans beside the ledger in `dir`. Nothing is read yet.
    pub fn new(dir: &Path) -> Self {
        Self {
            folder: dir.join(FOLDER),
            recent: VecDeque::new(),
            grid: None,
        }
    }

    /// The plan that a record names.
    ///
    /// # Errors
    /// [`PlanError`], without the time for which the plan held.
    pub fn get(&mut self, id: &PlanId) -> Result<Arc<Plan>, PlanError> {
        if let Some((_, plan)) = self.recent.iter().find(|(known, _)| known == id) {
            return Ok(Arc::clone(plan));
        }
        let plan = Arc::new(self.read(id)?);
        self.recent.truncate(RECENT - 1);
        self.recent.push_front((id.clone(), Arc::clone(&plan)));
        Ok(plan)
    }

    fn read(&mut self, id: &PlanId) -> Result<Plan, PlanError> {
        let PlanFile { grid, plan } = read_json(&self.folder, id)?;
        let zone = TimeZone::get(plan.time_zone()).map_err(|e| PlanError::Newer {
            path: path_of(&self.folder, id),
            reason: e.to_string(),
        })?;
        let grid = match &self.grid {
            Some((known, read)) if *known == grid => read.clone(),
            _ => {
                let read: Grid = read_json(&self.folder, &grid)?;
                self.grid = Some((grid, read.clone()));
                read
            }
        };
        Ok(plan.into_plan(grid, zone))
    }
}

fn path_of(folder: &Path, id: &PlanId) -> PathBuf {
    folder.join(format!("{}.json.gz", id.as_str()))
}

/// The checked contents of a file.
fn read_bytes(folder: &Path, id: &PlanId) -> Result<Vec<u8>, PlanError> {
    let path = path_of(folder, id);
    let compressed = file::read(&path, MAX_BYTES).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => PlanError::Missing { path: path.clone() },
        _ => PlanError::Io {
            path: path.clone(),
            reason: e.to_string(),
        },
    })?;
    let damaged = |reason: String| PlanError::Damaged {
        path: path.clone(),
        reason,
    };
    let mut bytes = Vec::new();
    let mut decoder = GzDecoder::new(&compressed[..]).take(MAX_BYTES + 1);
    decoder.read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(damaged(format!("larger than {} MB", MAX_BYTES >> 20)));
    }
    match sha256_hex(&bytes) == id.as_str() {
        true => Ok(bytes),
        false => Err(damaged(
            "its contents do not have the SHA-256 that it is named by".into(),
        )),
    }
}

fn read_json<T: serde::de::DeserializeOwned>(folder: &Path, id: &PlanId) -> Result<T, PlanError> {
    let bytes = read_bytes(folder, id)?;
    // Its bytes are those that were stored, so what is not understood was written by another version.
    serde_json::from_slice(&bytes).map_err(|e| PlanError::Newer {
        path: path_of(folder, id),
        reason: e.to_string(),
    })
}

#[cfg(test)]
mod tests;
