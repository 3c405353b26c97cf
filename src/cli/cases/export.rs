//! `gridwatch cases export`: one case in a folder that anybody can check.

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
    chain::{Segment, CustodyEvent},
    keys::KeyRing,
    unseal,
    vault::Vault,
};
use gridwatch_store::{Store, evidence_file};

/// Why a case cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It was filed by a program that signed nothing.
    #[error(
        "case {0} was last written by an older gridwatch, which signed nothing: there is no chain to export it with"
    )]
    Unsigned(String),
    /// A picture is gone or changed.
    #[error("its picture {sha256}: {source}")]
    Picture {
        /// Which.
        sha256: String,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The chain in the database was tampered with.
    #[error("the chain in the box's database is broken: {0}")]
    Chain(String),
    /// The folder cannot be written.
    #[error("{}: {source}", .path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Decrypts what is kept of a case's originals, once the chain says who does so and why. Gives their names in a bundle and what is in
/// them.
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

/// Writes `case`, with `more` files, into a folder of its name below `out`; gives that folder.
pub(super) fn export(
    store: &Store,
    state: &Path,
    case: &str,
    out: &Path,
    more: Vec<(String, Vec<u8>)>,
) -> Result<PathBuf, CasesError> {
    let unsigned = || ExportError::Unsigned(case.to_owned());
    let key = KeyRing::of(state).existing()?;
    let sealed = store.sealed_record(case)?.ok_or_else(|| CasesError::NoSuchCase(case.into()))?;
    let record: CaseRecord =
        serde_json::from_str(&sealed).map_err(|e| ExportError::Chain(format!("the record cannot be read: {e}")))?;
    let (body, signature) = unseal(&sealed).ok_or_else(unsigned)?;
    let chain = store.chain_of(case)?;
    let segment = Segment::read(&chain.join("\n")).map_err(|broken| {
        let first = broken.into_iter().next();
        ExportError::Chain(first.map_or_else(String::new, |b| {
            format!("{} lines after the case's first: {}", b.line, b.reason)
        }))
    })?;
    let is_of_case = |event: &CustodyEvent| event.case_id() == Some(case);
    if !segment.lines.iter().any(|line| is_of_case(&line.entry.event)) {
        return Err(unsigned().into());
    }
    // Where that key did not hand over to today's, the check says so.
    let signed_by = store
        .chain_keys()?
        .iter()
        .filter_map(|k| k.parse::<PublicKey>().ok())
        .find(|k| k.verifies(body.as_bytes(), signature))
        .ok_or_else(|| ExportError::Chain("the record's signature is of no key that the chain knows".into()))?;
    let head = store
        .chain_head(&record.node_id, &key, Timestamp::now())?
        .ok_or_else(unsigned)?;
    let mut files = more;
    for item in &record.evidence {
        let sha256 = &item.sha256;
        match evidence_file::read(state, sha256) {
            Ok(bytes) => files.push((bundle::picture(sha256), bytes)),
            // Its time was over: the chain says so, and the check reads it there.
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
