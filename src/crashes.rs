//! Keeps the pictures that ended decode workers, in `decode-crashes/` of the state directory: a record of each, and the newest pictures for a report,
//! encrypted as originals are. A configuration that keeps no originals keeps no pictures here either. `gridwatch crashes` shows them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_base::{disk::write_private, file};
use gridwatch_camera::{
    Codec,
    decode::{CrashLog, CrashReport},
};
use gridwatch_config::Config;
use gridwatch_custody::{
    keys::{KeyError, KeyRing},
    vault::{OriginalFormat, Vault, VaultKey},
};

/// The folder in the state directory.
const FOLDER: &str = "decode-crashes";
/// Records kept.
const MAX_RECORDS: usize = 256;
/// Pictures kept, and their size together.
const MAX_PICTURES: usize = 16;
const MAX_BYTES: usize = 16 << 20;
/// Longest record.
const MAX_RECORD_BYTES: u64 = 4096;

/// What is known of a picture that ended a decode worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CrashRecord {
    pub(crate) at: Timestamp,
    pub(crate) camera: String,
    pub(crate) codec: String,
    pub(crate) bytes: usize,
    pub(crate) sha256: String,
    /// How the worker ended.
    pub(crate) cause: String,
}

/// The log of this box, with the pictures of earlier runs.
#[cfg_attr(not(feature = "ort"), expect(dead_code, reason = "the daemon needs ONNX Runtime"))]
pub(crate) fn crash_log(config: &Config) -> Result<CrashLog, KeyError> {
    let key = config.evidence.originals.as_ref();
    let key = key
        .map(|place| KeyRing::of(&config.state_dir).originals(place))
        .transpose()?;
    let store = CrashStore::new(&config.state_dir, key);
    let known = store.records().into_iter().map(|r| (r.bytes, r.sha256));
    Ok(CrashLog::new(
        known,
        Box::new(move |report| {
            if let Err(error) = store.keep(report) {
                tracing::warn!(%error, "Cannot keep the picture that ended a decode worker");
            }
        }),
    ))
}

/// The folder of records and pictures.
pub(crate) struct CrashStore {
    dir: PathBuf,
    vault: Option<Vault>,
}

impl CrashStore {
    /// The one in `state_dir`; without a key it has records only.
    pub(crate) fn new(state_dir: &Path, key: Option<VaultKey>) -> Self {
        let dir = state_dir.join(FOLDER);
        Self {
            vault: key.map(|key| Vault::at(dir.clone(), key)),
            dir,
        }
    }

    /// The picture of a record, as the camera sent it.
    ///
    /// # Errors
    /// It was not kept, or cannot be decrypted.
    pub(crate) fn picture(&self, record: &CrashRecord) -> io::Result<Vec<u8>> {
        match &self.vault {
            Some(vault) => Ok(vault.open(&record.sha256)?.1),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Whether the picture of a record is kept, readable or not.
    pub(crate) fn has_picture(&self, record: &CrashRecord) -> bool {
        self.vault.as_ref().is_some_and(|vault| vault.contains(&record.sha256))
    }

    fn keep(&self, report: &CrashReport<'_>) -> io::Result<()> {
        let (codec, format) = match report.keyframe.codec {
            Codec::H264 => ("H.264", OriginalFormat::H264),
            Codec::H265 => ("H.265", OriginalFormat::H265),
        };
        let record = CrashRecord {
            at: Timestamp::now(),
            camera: report.keyframe.camera.to_string(),
            codec: codec.to_owned(),
            bytes: report.keyframe.data.len(),
            sha256: report.sha256.to_owned(),
            cause: report.cause.to_owned(),
        };
        let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
        write_private(&self.record_path(&record.sha256), &text)?;
        if let Some(vault) = &self.vault
            && record.bytes <= MAX_BYTES
        {
            vault.put(format, &report.keyframe.data)?;
        }
        self.prune();
        Ok(())
    }

    /// The records, oldest first. One that cannot be read is left out.
    pub(crate) fn records(&self) -> Vec<CrashRecord> {
        let Ok(folder) = fs::read_dir(&self.dir) else {
            return Vec::new();
        };
        let paths = folder.filter_map(|entry| Some(entry.ok()?.path()));
        let mut records: Vec<CrashRecord> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "json"))
            .filter_map(|path| read(&path))
            .collect();
        records.sort_by_key(|r| r.at);
        records
    }

    /// Deletes the oldest pictures and records beyond the limits.
    fn prune(&self) {
        let mut bytes = 0;
        for (i, record) in self.records().iter().rev().enumerate() {
            bytes += record.bytes;
            if let Some(vault) = &self.vault
                && (i >= MAX_PICTURES || bytes > MAX_BYTES)
            {
                let _ = vault.remove(&record.sha256);
            }
            if i >= MAX_RECORDS {
                let _ = fs::remove_file(self.record_path(&record.sha256));
            }
        }
    }

    fn record_path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.json"))
    }
}

fn read(path: &Path) -> Option<CrashRecord> {
    let text = file::read(path, MAX_RECORD_BYTES).ok()?;
    let record: CrashRecord = serde_json::from_slice(&text).ok()?;
    // The hash names files.
    let is_hash = record.sha256.len() == 64 && record.sha256.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridwatch_base::digest::sha256_hex;
    use gridwatch_camera::Keyframe;
    use std::os::unix::fs::PermissionsExt;

    fn keep(store: &CrashStore, data: &[u8]) -> String {
        let keyframe = Keyframe {
            camera: "gate".into(),
            seq: 1,
            captured_at: Timestamp::UNIX_EPOCH,
            codec: Codec::H265,
            data: data.to_vec().into(),
        };
        let sha256 = sha256_hex(data);
        let report = CrashReport {
            keyframe: &keyframe,
            sha256: &sha256,
            cause: "SIGSEGV",
        };
        store.keep(&report).unwrap();
        sha256
    }

    #[test]
    fn pictures_are_kept_encrypted_and_the_newest_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = CrashStore::new(dir.path(), VaultKey::new(&[7; 32]));
        let kept: Vec<String> = (0..20u8).map(|i| keep(&store, &[i; 100])).collect();
        let records = store.records();
        assert_eq!(records.len(), 20);
        assert_eq!((records[0].camera.as_str(), records[0].bytes), ("gate", 100));
        let vault = store.vault.as_ref().unwrap();
        assert_eq!(vault.open(&kept[19]).unwrap().1, [19; 100]);
        assert!(
            vault.open(&kept[4]).is_ok() && vault.open(&kept[3]).is_err(),
            "the newest 16"
        );
        let mode = fs::metadata(store.record_path(&kept[19])).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_key_the_record_alone_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = CrashStore::new(dir.path(), None);
        keep(&store, b"street");
        assert_eq!(fs::read_dir(&store.dir).unwrap().count(), 1);
        fs::write(store.dir.join("x.json"), "{\"sha256\":\"../../x\"}").unwrap();
        assert_eq!(store.records().len(), 1);
    }
}
