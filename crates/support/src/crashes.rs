//! The records of pictures that ended decode workers, in `decode-crashes/` of the state directory. The pictures themselves are encrypted
//! beside them, and not read here.

use std::{
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_base::file;

/// The folder in the state directory.
pub const FOLDER: &str = "decode-crashes";
/// Longest record, in bytes.
const MAX_RECORD_BYTES: u64 = 4096;
/// Most files that are looked at: the daemon keeps 256 records and 16 pictures.
const MAX_FILES: usize = 4096;

/// What is known of a picture that ended a decode worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRecord {
    /// When.
    pub at: Timestamp,
    /// The camera that sent it.
    pub camera: String,
    /// `H.264` or `H.265`.
    pub codec: String,
    /// Size of the picture, compressed.
    pub bytes: usize,
    /// SHA-256 of the picture, in lower-case hex.
    pub sha256: String,
    /// How the worker ended.
    pub cause: String,
}

/// The records below `state_dir`, oldest first. One that cannot be read is left out.
pub fn records(state_dir: &Path) -> Vec<CrashRecord> {
    let Ok(folder) = fs::read_dir(state_dir.join(FOLDER)) else {
        return Vec::new();
    };
    let paths = folder.take(MAX_FILES).filter_map(|entry| Some(entry.ok()?.path()));
    let mut records: Vec<CrashRecord> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .filter_map(|path| read(&path))
        .collect();
    records.sort_by_key(|record| record.at);
    records
}

/// File of the record of the picture with this hash, in `folder`.
pub fn record_path(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(format!("{sha256}.json"))
}

fn read(path: &Path) -> Option<CrashRecord> {
    let text = file::read(path, MAX_RECORD_BYTES).ok()?;
    let record: CrashRecord = serde_json::from_slice(&text).ok()?;
    // The hash names files.
    let is_hash = record.sha256.len() == 64 && record.sha256.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(record)
}
