//! Whether what is stored of a case is still what was filed: its pictures, the signature over its record, and its lines of the chain. The
//! same questions as `gridwatch evidence verify` asks about an exported folder, asked of the database.

use std::{collections::BTreeMap, io};

use serde::Serialize;

use super::{Store, StoreError, evidence_file};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;
use gridwatch_custody::{PublicKey, chain::CustodyEvent, unseal};

/// A picture's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureState {
    /// It is there, and its hash is the recorded one.
    Intact,
    /// It was deleted at the end of its retention period, as the chain says.
    Deleted,
    /// It is missing or cannot be read, and the chain does not say that it was deleted.
    Missing,
    /// Its content is not what was recorded.
    Changed,
}

/// The signature over a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum SignatureState {
    /// A key of the chain made it.
    Valid {
        /// The public key, in base64.
        public_key: String,
    },
    /// An older version wrote the record without one.
    Absent,
    /// No key of the chain made it.
    Invalid,
}

/// The chain from the first line about a case to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChainState {
    /// Every line follows from the one before.
    Complete {
        /// Number of lines that were checked.
        lines: usize,
        /// Number of the line with the hash of the newest record.
        line: u64,
    },
    /// Every line follows from the one before, and none has the hash of the newest record.
    NotInChain,
    /// A line does not follow from the one before.
    Broken {
        /// The first fault, in English.
        reason: String,
    },
    /// There is no line about the case.
    Absent,
}

/// Result of [`Store::check_case`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseCheck {
    /// The pictures, by evidence id.
    pub pictures: BTreeMap<String, PictureState>,
    /// The signature over the newest record.
    pub signature: SignatureState,
    /// The chain.
    pub chain: ChainState,
}

impl CaseCheck {
    /// True if nothing speaks against the case.
    pub fn holds(&self) -> bool {
        let is_sound = |state: &PictureState| matches!(state, PictureState::Intact | PictureState::Deleted);
        self.pictures.values().all(is_sound)
            && matches!(self.signature, SignatureState::Valid { .. })
            && matches!(self.chain, ChainState::Complete { .. })
    }
}

impl Store {
    /// Checks what is stored of a case; `None` if there is no such case. Reads its pictures and the chain from its first line on: up to a
    /// second and some tens of MB for an old case on a busy box.
    ///
    /// # Errors
    /// A database error, or a record that cannot be parsed.
    pub fn check_case(&self, id: &str) -> Result<Option<CaseCheck>, StoreError> {
        let Some(sealed) = self.sealed_record(id)? else {
            return Ok(None);
        };
        let record: CaseRecord = serde_json::from_str(&sealed).map_err(|e| StoreError::BadRow {
            case: id.into(),
            field: "record",
            reason: e.to_string(),
        })?;
        let signed = unseal(&sealed);
        let signature = match &signed {
            None => SignatureState::Absent,
            Some((body, signature)) => {
                let keys = self.chain_keys()?.into_iter();
                let mut keys = keys.filter_map(|key| key.parse::<PublicKey>().ok());
                let by = keys.find(|key| key.verifies(body.as_bytes(), signature));
                by.map_or(SignatureState::Invalid, |key| SignatureState::Valid {
                    public_key: key.to_string(),
                })
            }
        };
        let excerpt = self.chain_excerpt(id, None)?;
        let segment = excerpt.read();
        let deleted = segment.as_ref().map(|segment| segment.deleted(id)).unwrap_or_default();
        let pictures = record.evidence.iter().map(|item| {
            let state = match evidence_file::read(&self.dir, &item.sha256) {
                Ok(_) => PictureState::Intact,
                Err(e) if e.kind() == io::ErrorKind::InvalidData => PictureState::Changed,
                Err(_) if deleted.contains(item.sha256.as_str()) => PictureState::Deleted,
                Err(_) => PictureState::Missing,
            };
            (item.id.clone(), state)
        });
        let pictures = pictures.collect();
        let chain = match &segment {
            _ if excerpt.lines.is_empty() => ChainState::Absent,
            Err(faults) => ChainState::Broken {
                reason: faults.first().map_or_else(String::new, |fault| fault.reason.clone()),
            },
            Ok(segment) => {
                let hash = signed.map(|(body, _)| sha256_hex(body.as_bytes()));
                let line = segment.of_case(id).rev().find_map(|(line, event)| match event {
                    CustodyEvent::Case { revision, sha256, .. } => {
                        (*revision == record.revision && hash.as_ref() == Some(sha256)).then_some(line.seq)
                    }
                    _ => None,
                });
                line.map_or(ChainState::NotInChain, |line| ChainState::Complete {
                    lines: segment.lines.len(),
                    line,
                })
            }
        };
        Ok(Some(CaseCheck {
            pictures,
            signature,
            chain,
        }))
    }
}
