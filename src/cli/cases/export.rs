//! `gridwatch cases export`: writes one case with its evidence to a folder that can be verified offline.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::CasesError;
use gridwatch_contract::CaseRecord;
use gridwatch_custody::{
    PublicKey,
    bundle::{self, BundleContents},
    chain::{CustodyEvent, Segment},
    keys::KeyRing,
    unseal,
    vault::Vault,
};
use gridwatch_store::{Store, evidence_file};

/// Why a case cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The case was last written by a version of gridwatch that did not sign cases.
    #[error("case {0} is not signed: it was last written by an older version of gridwatch and cannot be exported")]
    Unsigned(String),
    /// The chain in the database was tampered with.
    #[error("the chain in the box's database is broken: {0}")]
    Chain(String),
    /// The folder cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The case's folder.
        path: PathBuf,
        /// The write error.
        source: io::Error,
    },
}

/// The pictures and originals of an export.
#[derive(Default)]
pub(super) struct ExportFiles {
    /// Paths in the bundle, and contents.
    whole: Vec<(String, Vec<u8>)>,
    /// What is missing or does not match its hash.
    damaged: Vec<String>,
}

/// Decrypts the retained originals of a case, after logging the access with user and reason in the chain.
pub(super) fn open_originals(
    state: &Path,
    case: &str,
    vault: &Vault,
    reason: &str,
    files: &mut ExportFiles,
) -> Result<(), CasesError> {
    let mut store = Store::open_unlocked(state)?;
    let kept = store.originals(case)?;
    let by = format!("uid {}", rustix::process::getuid().as_raw());
    store.record_originals_opened(case, &kept, &by, reason, Timestamp::now())?;
    for sha256 in kept {
        match vault.open(&sha256) {
            Ok((format, bytes)) => files.whole.push((bundle::original(&sha256, format), bytes)),
            Err(e) => files.damaged.push(format!("original {sha256}: {e}")),
        }
    }
    Ok(())
}

/// Writes `case`, its pictures and the originals in `files` to `out/<case>`. Returns that folder, and what was damaged and is not in it.
pub(super) fn export(
    store: &Store,
    keys: &KeyRing,
    case: &str,
    out: &Path,
    mut files: ExportFiles,
) -> Result<(PathBuf, Vec<String>), CasesError> {
    let unsigned = || ExportError::Unsigned(case.to_owned());
    let key = keys.existing()?;
    let state = store.dir();
    let sealed = store
        .sealed_record(case)?
        .ok_or_else(|| CasesError::NoSuchCase(case.into()))?;
    let record: CaseRecord =
        serde_json::from_str(&sealed).map_err(|e| ExportError::Chain(format!("cannot parse the record: {e}")))?;
    let (body, signature) = unseal(&sealed).ok_or_else(unsigned)?;
    let chain = store.chain_of(case)?;
    let segment = Segment::read(&chain.join("\n")).map_err(|broken| {
        let first = broken.into_iter().next();
        ExportError::Chain(first.map_or_else(String::new, |b| {
            format!("line {} from the case's first: {}", b.line, b.reason)
        }))
    })?;
    let is_of_case = |event: &CustodyEvent| event.case_id() == Some(case);
    if !segment.lines.iter().any(|line| is_of_case(&line.entry.event)) {
        return Err(unsigned().into());
    }
    // If that key did not hand over to the current one, verification reports it.
    let signed_by = store
        .chain_keys()?
        .iter()
        .filter_map(|k| k.parse::<PublicKey>().ok())
        .find(|k| k.verifies(body.as_bytes(), signature))
        .ok_or_else(|| ExportError::Chain("no key in the chain verifies the record's signature".into()))?;
    let head = store
        .chain_head(&record.node_id, &*key, Timestamp::now())?
        .ok_or_else(unsigned)?;
    let deleted = segment.deleted(case);
    for item in &record.evidence {
        let sha256 = &item.sha256;
        match evidence_file::read(state, sha256) {
            Ok(bytes) => files.whole.push((bundle::picture(sha256), bytes)),
            // Deleted at the end of its retention period, which the chain records for the verifier.
            Err(_) if deleted.contains(sha256.as_str()) => {}
            Err(e) => files
                .damaged
                .push(format!("{}: {e}", evidence_file::path(state, sha256).display())),
        }
    }
    let dir = out.join(case);
    let parts = BundleContents {
        record: &sealed,
        signed_by: &signed_by,
        chain: &chain,
        head,
        files: files.whole,
    };
    bundle::write(&dir, parts, &*key).map_err(|source| ExportError::Write {
        path: dir.clone(),
        source,
    })?;
    Ok((dir, files.damaged))
}
