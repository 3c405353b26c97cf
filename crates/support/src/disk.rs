//! How much of the disk the state directory takes, part by part.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use schemars::JsonSchema;
use serde::Serialize;

/// Most files that are counted: those of a year on a busy box.
const MAX_FILES: u64 = 500_000;
/// Longest time for counting.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Deepest folder that is looked into; the state directory nests by three.
const MAX_DEPTH: usize = 8;

/// Sizes of the state directory and of its disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiskUsage {
    /// Bytes that the daemon's user may still write; `None` if the disk does not tell.
    pub free_bytes: Option<u64>,
    /// Size of the disk in bytes.
    pub total_bytes: Option<u64>,
    /// The parts of the state directory, the largest first.
    pub parts: Vec<DiskPart>,
    /// False if there were too many files to count them all.
    pub is_complete: bool,
}

/// A part of the state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DiskPart {
    /// Name of the folder, or of the file, in the state directory.
    pub name: String,
    /// Size of its files in bytes.
    pub bytes: u64,
    /// Number of its files.
    pub files: u64,
}

/// Counts the files below `state_dir`. Links are not followed. Takes up to 10 s on a slow disk with very many files.
pub fn usage(state_dir: &Path) -> DiskUsage {
    let disk = rustix::fs::statvfs(state_dir).ok();
    let mut count = Count {
        files_left: MAX_FILES,
        until: Instant::now() + MAX_TIME,
        is_complete: true,
    };
    let mut parts: BTreeMap<String, DiskPart> = BTreeMap::new();
    for entry in fs::read_dir(state_dir).into_iter().flatten().flatten() {
        // The database is three files.
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = match name.strip_prefix("gridwatch.db") {
            Some("-wal" | "-shm") => "gridwatch.db".to_owned(),
            _ => name,
        };
        let part = parts.entry(name.clone()).or_insert(DiskPart {
            name,
            bytes: 0,
            files: 0,
        });
        count.add(part, &entry.path(), 0);
        if !count.is_complete {
            break;
        }
    }
    let mut parts: Vec<DiskPart> = parts.into_values().collect();
    parts.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.name.cmp(&other.name)));
    DiskUsage {
        free_bytes: disk.as_ref().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        total_bytes: disk.as_ref().map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
        parts,
        is_complete: count.is_complete,
    }
}

/// Bytes that this process may still write to the disk of a folder; `None` if the disk does not tell.
pub fn free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What is left of the limits.
struct Count {
    files_left: u64,
    until: Instant,
    is_complete: bool,
}

impl Count {
    fn add(&mut self, part: &mut DiskPart, path: &PathBuf, depth: usize) {
        let Ok(found) = fs::symlink_metadata(path) else {
            return; // Deleted meanwhile.
        };
        if !found.is_dir() {
            self.files_left = self.files_left.saturating_sub(1);
            self.is_complete &= self.files_left > 0 && Instant::now() < self.until;
            part.bytes += found.len();
            part.files += 1;
            return;
        }
        if depth >= MAX_DEPTH {
            self.is_complete = false;
            return;
        }
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if !self.is_complete {
                return;
            }
            self.add(part, &entry.path(), depth + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("evidence/ab")).unwrap();
        fs::write(dir.path().join("evidence/ab/one"), [0; 100]).unwrap();
        fs::write(dir.path().join("evidence/two"), [0; 20]).unwrap();
        fs::write(dir.path().join("gridwatch.db"), [0; 7]).unwrap();
        fs::write(dir.path().join("gridwatch.db-wal"), [0; 3]).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let usage = usage(dir.path());
        let part = |i: usize| {
            let part = &usage.parts[i];
            (part.name.as_str(), part.bytes, part.files)
        };
        assert_eq!((part(0), part(1)), (("evidence", 120, 2), ("gridwatch.db", 10, 2)));
        assert!(usage.is_complete && usage.free_bytes.is_some());
        assert_eq!((part(2).0, part(2).2), ("root", 1));
    }
}
