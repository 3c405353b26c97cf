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
    /// A picture is missing or does not match its hash.
    #[error("evidence picture {sha256}: {source}")]
    Picture {
        /// The hash that names the picture.
        sha256: String,
        /// The read error, or the mismatch.
        source: io::Error,
    },
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

/// Decrypts the retained originals of a case, after logging the access with user and reason in the chain. Returns their file names in
/// the bundle and their contents.
pub(super) fn open_originals(
    state: &Path,
    case: &str,
    vault: &Vault,
    reason: &str,
) -> Result<Vec<(String, Vec<u8>)>, CasesError> {
    let mut store = Store::open_unlocked(state)?;
    let kept = store.originals(case)?;
    let by = format!("uid {}", rustix::process::getuid().as_raw());
    store.record_originals_opened(case, &kept, &by, reason, Timestamp::now())?;
    let open = |sha256: String| match vault.open(&sha256) {
        Ok((format, bytes)) => Ok((bundle::original(&sha256, format), bytes)),
        Err(source) => Err(ExportError::Picture { sha256, source }.into()),
    };
    kept.into_iter().map(open).collect()
}

/// Writes `case` and the additional files `more` to `out/<case>`. Returns that folder.
pub(super) fn export(
    store: &Store,
    state: &Path,
    case: &str,
    out: &Path,
    more: Vec<(String, Vec<u8>)>,
) -> Result<PathBuf, CasesError> {
    let unsigned = || ExportError::Unsigned(case.to_owned());
    let key = KeyRing::of(state).existing()?;
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
        .chain_head(&record.node_id, &key, Timestamp::now())?
        .ok_or_else(unsigned)?;
    let mut files = more;
    for item in &record.evidence {
        let sha256 = &item.sha256;
        match evidence_file::read(state, sha256) {
            Ok(bytes) => files.push((bundle::picture(sha256), bytes)),
            // Deleted at the end of its retention period, which the chain records for the verifier.
            Err(_) if segment.has_deleted(case, sha256) => {}
            Err(source) => {
                return Err(ExportError::Picture {
                    sha256: sha256.clone(),
                    source,
                }
                .into());
            }
        }
    }
    let dir = out.join(case);
    let parts = BundleContents {
        record: &sealed,
        signed_by: &signed_by,
        chain: &chain,
        head,
        files,
    };
    bundle::write(&dir, parts, &key).map_err(|source| ExportError::Write {
        path: dir.clone(),
        source,
    })?;
    Ok(dir)
}
