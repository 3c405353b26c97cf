//! `gridwatch cases export`: writes one case with its evidence to a folder that can be verified offline.

use std::{
    io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::CasesError;
use crate::{audit, cli::terminal::note};
use gridwatch_contract::CaseRecord;
use gridwatch_custody::{
    PublicKey,
    bundle::{self, BundleContents},
    chain::{self, ChainHead},
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

/// Where an export goes, and how far its chain reaches.
pub(super) struct ExportTarget<'a> {
    pub(super) folder: &'a Path,
    /// The line that the chain begins with, if it is before the case's first.
    pub(super) since: Option<u64>,
}

/// Decrypts the retained originals of a case, after recording the access with user and reason.
pub(super) fn open_originals(
    state: &Path,
    case: &str,
    vault: &Vault,
    reason: &str,
    files: &mut ExportFiles,
) -> Result<(), CasesError> {
    let mut store = Store::open_unlocked(state)?;
    let kept = store.originals(case)?;
    if let Some(error) = audit::record_opening(&mut store, case, &kept, reason)? {
        note(format_args!("warning: {error}"));
    }
    for sha256 in kept {
        match vault.open(&sha256) {
            Ok((format, bytes)) => files.whole.push((bundle::original(&sha256, format), bytes)),
            Err(e) => files.damaged.push(format!("original {sha256}: {e}")),
        }
    }
    Ok(())
}

/// Writes `case`, its pictures and the originals in `files` to the folder `<case>` in that of `to`. Returns that folder, and what was damaged and is not in it.
pub(super) fn export(
    store: &Store,
    keys: &KeyRing,
    case: &str,
    to: &ExportTarget<'_>,
    mut files: ExportFiles,
) -> Result<(PathBuf, Vec<String>), CasesError> {
    let unsigned = || ExportError::Unsigned(case.to_owned());
    let key = keys.existing_as(store.chain_keys()?.first().map(String::as_str))?;
    let state = store.dir();
    let sealed = store
        .sealed_record(case)?
        .ok_or_else(|| CasesError::NoSuchCase(case.into()))?;
    let record: CaseRecord =
        serde_json::from_str(&sealed).map_err(|e| ExportError::Chain(format!("cannot parse the record: {e}")))?;
    let (body, signature) = unseal(&sealed).ok_or_else(unsigned)?;
    let excerpt = store.chain_excerpt(case, to.since)?;
    let segment = excerpt.read().map_err(|broken| {
        let first = broken.into_iter().next();
        ExportError::Chain(first.map_or_else(String::new, |b| format!("line {} of the export: {}", b.line, b.reason)))
    })?;
    if segment.of_case(case).next().is_none() {
        return Err(unsigned().into());
    }
    // If that key did not hand over to the current one, verification reports it.
    let signed_by = store
        .chain_keys()?
        .iter()
        .filter_map(|k| k.parse::<PublicKey>().ok())
        .find(|k| k.verifies(body.as_bytes(), signature))
        .ok_or_else(|| ExportError::Chain("no key in the chain verifies the record's signature".into()))?;
    let last = segment.lines.last().ok_or_else(unsigned)?;
    // Not the chain's end of now: the daemon may have written another line since the excerpt was read.
    let head = ChainHead {
        seq: last.seq,
        hash: last.hash.clone(),
        at: Timestamp::now(),
        node_id: record.node_id.clone(),
        public_key: key.public().to_string(),
        algorithm: chain::algorithm(&key.public()),
        case: Some(excerpt.of_case),
    };
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
    let dir = to.folder.join(case);
    let parts = BundleContents {
        record: &sealed,
        signed_by: &signed_by,
        chain: &excerpt.lines,
        events: &excerpt.events,
        head,
        files: files.whole,
    };
    bundle::write(&dir, parts, &*key).map_err(|source| ExportError::Write {
        path: dir.clone(),
        source,
    })?;
    Ok((dir, files.damaged))
}
