//! Keeps the pictures that ended decode workers, in `decode-crashes/` of the state directory: a record of each, and the newest pictures for a report,
//! encrypted as originals are. A configuration that keeps no originals keeps no pictures here either. `gridwatch crashes` shows them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use gridwatch_base::disk::write_private;
use gridwatch_camera::{
    Codec,
    decode::{CrashLog, CrashReport},
};
use gridwatch_config::Config;
use gridwatch_custody::{
    keys::{KeyError, KeyRing},
    vault::{OriginalFormat, Vault, VaultKey},
};
pub(crate) use gridwatch_support::crashes::CrashRecord;
use gridwatch_support::crashes::{FOLDER, record_path, records};

/// Records kept.
const MAX_RECORDS: usize = 256;
/// Pictures kept, and their size together.
const MAX_PICTURES: usize = 16;
const MAX_BYTES: usize = 16 << 20;

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
    state_dir: PathBuf,
    dir: PathBuf,
    vault: Option<Vault>,
}

impl CrashStore {
    /// The one in `state_dir`; without a key it has records only.
    pub(crate) fn new(state_dir: &Path, key: Option<VaultKey>) -> Self {
        let dir = state_dir.join(FOLDER);
        Self {
            vault: key.map(|key| Vault::at(dir.clone(), key)),
            state_dir: state_dir.to_owned(),
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
        records(&self.state_dir)
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
        record_path(&self.dir, sha256)
    }
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
