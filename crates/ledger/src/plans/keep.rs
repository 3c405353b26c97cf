//! Stores plans, and deletes those that no ledger file needs any more. Used by the thread that writes the ledger.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use flate2::{Compression, GzBuilder};

use super::{FOLDER, MAX_BYTES, PlanFile, PlanId, path_of, read_bytes};
use crate::LedgerError;
use gridwatch_base::{digest::sha256_hex, disk, file};
use gridwatch_engine::{Plan, StoredPlan};

const USES: &str = "uses.json";
/// Maximum size of `uses.json`; an entry has about 80 bytes.
const MAX_USES: u64 = 16 << 20;

/// The stored plans of the ledger that is being written.
#[derive(Debug)]
pub(crate) struct PlanKeeper {
    folder: PathBuf,
    /// For each plan and grid, the number of the newest ledger file that needs it.
    uses: BTreeMap<String, u64>,
    /// The plan that was stored last, with its name and that of its grid.
    last: Option<StoredAs>,
}

#[derive(Debug)]
struct StoredAs {
    plan: Arc<Plan>,
    id: PlanId,
    grid: PlanId,
}

impl PlanKeeper {
    /// The plans beside the ledger in `dir`. What nothing is known of counts as needed by ledger file `newest`.
    pub(crate) fn open(dir: &Path, newest: u64) -> Result<Self, LedgerError> {
        let folder = dir.join(FOLDER);
        disk::create_private_dir(&folder).map_err(|e| LedgerError::io("create", &folder, e))?;
        let path = folder.join(USES);
        let known: BTreeMap<String, u64> = match file::read(&path, MAX_USES) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %path.display(), %error, "List of the stored configurations is damaged; they are kept longer");
                BTreeMap::new()
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(e) => return Err(LedgerError::io("read", &path, e)),
        };
        let mut uses = BTreeMap::new();
        for (id, _) in stored(&folder)? {
            let used = known.get(&id).copied().unwrap_or(newest);
            uses.insert(id, used);
        }
        Ok(Self {
            folder,
            uses,
            last: None,
        })
    }

    /// Stores `plan`, unless it is stored, for records in ledger file `number`. `None` if it cannot be stored at all, which is
    /// logged: its time zone has no name, or its grid is too large.
    pub(crate) fn store(&mut self, plan: &Arc<Plan>, number: u64) -> Result<Option<PlanId>, LedgerError> {
        let is_last = |last: &&StoredAs| {
            let is_there = |id| path_of(&self.folder, id).is_file();
            Arc::ptr_eq(&last.plan, plan) && is_there(&last.id) && is_there(&last.grid)
        };
        let (id, grid) = match self.last.as_ref().filter(is_last) {
            Some(last) => (last.id.clone(), last.grid.clone()),
            None => {
                let Some((id, grid)) = self.write_plan(plan)? else {
                    return Ok(None);
                };
                self.last = Some(StoredAs {
                    plan: Arc::clone(plan),
                    id: id.clone(),
                    grid: grid.clone(),
                });
                (id, grid)
            }
        };
        let mut is_changed = false;
        for needed in [&id, &grid] {
            let before = self.uses.insert(needed.as_str().to_owned(), number);
            is_changed |= before != Some(number);
        }
        if is_changed {
            self.write_uses()?;
        }
        Ok(Some(id))
    }

    /// Deletes what only ledger files before number `oldest` needed.
    pub(crate) fn remove_unused(&mut self, oldest: u64) -> Result<(), LedgerError> {
        let unused: Vec<String> = self
            .uses
            .iter()
            .filter(|(_, newest)| **newest < oldest)
            .map(|(id, _)| id.clone())
            .collect();
        if unused.is_empty() {
            return Ok(());
        }
        for id in unused {
            let path = self.folder.join(format!("{id}.json.gz"));
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(LedgerError::io("remove", &path, e)),
                _ => tracing::debug!(file = %path.display(), "Deleted a configuration that no ledger file names"),
            }
            self.uses.remove(&id);
        }
        self.write_uses()
    }

    /// Size of all files in bytes.
    pub(crate) fn bytes(&self) -> Result<u64, LedgerError> {
        Ok(stored(&self.folder)?.map(|(_, bytes)| bytes).sum())
    }

    fn write_plan(&self, plan: &Arc<Plan>) -> Result<Option<(PlanId, PlanId)>, LedgerError> {
        let Some(stored) = StoredPlan::of(plan) else {
            tracing::error!("Time zone has no IANA name, so the configuration cannot be kept beside the ledger");
            return Ok(None);
        };
        let Some(grid) = self.write(&plan.grid)? else {
            return Ok(None);
        };
        let file = PlanFile {
            grid: grid.clone(),
            plan: stored,
        };
        Ok(self.write(&file)?.map(|id| (id, grid)))
    }

    /// Writes a file, unless it is there and whole.
    fn write(&self, value: &impl serde::Serialize) -> Result<Option<PlanId>, LedgerError> {
        let failed = |e: io::Error| LedgerError::io("write", &self.folder, e);
        let bytes = serde_json::to_vec(value).map_err(|e| failed(e.into()))?;
        if bytes.len() as u64 > MAX_BYTES {
            tracing::error!(
                bytes = bytes.len(),
                "Grid is too large to be kept beside the ledger; replays need --config"
            );
            return Ok(None);
        }
        let id = PlanId(sha256_hex(&bytes));
        if read_bytes(&self.folder, &id).is_ok() {
            return Ok(Some(id));
        }
        // No name and no time in it: the same plan gives the same file.
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        encoder.write_all(&bytes).map_err(failed)?;
        let compressed = encoder.finish().map_err(failed)?;
        let path = path_of(&self.folder, &id);
        disk::write_private(&path, &compressed).map_err(|e| LedgerError::io("write", &path, e))?;
        Ok(Some(id))
    }

    fn write_uses(&self) -> Result<(), LedgerError> {
        let path = self.folder.join(USES);
        let bytes = serde_json::to_vec(&self.uses).map_err(|e| LedgerError::io("write", &path, e.into()))?;
        disk::write_private(&path, &bytes).map_err(|e| LedgerError::io("write", &path, e))
    }
}

/// Names and sizes of the stored files. Temporary ones, left by a crash, are removed.
fn stored(folder: &Path) -> Result<impl Iterator<Item = (String, u64)> + use<>, LedgerError> {
    let entries = fs::read_dir(folder).map_err(|e| LedgerError::io("read", folder, e))?;
    Ok(entries.filter_map(Result::ok).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        if name.ends_with(".tmp") {
            // Tried again at the next start.
            let _ = fs::remove_file(entry.path());
            return None;
        }
        let id = PlanId::try_from(name.strip_suffix(".json.gz")?.to_owned()).ok()?;
        Some((id.0, entry.metadata().map_or(0, |m| m.len())))
    }))
}
