//! An end of the chain that the box signed earlier, kept outside the box: by the platform, or in an older export.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    PublicKey,
    chain::{ChainHead, unknown_algorithm},
    unseal,
};
use gridwatch_contract::{CaseRecord, SignedChainHead};

/// An end of the chain that the box stated earlier, with its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierHead {
    /// Sequence number of the line.
    pub seq: u64,
    /// Hash of the line.
    pub hash: String,
    /// When the box stated it.
    pub at: Option<Timestamp>,
    /// The id of the box.
    pub node_id: String,
    /// The signed bytes.
    signed: String,
    /// Signature in base64.
    signature: String,
}

/// The members that tell the accepted kinds of JSON from each other.
#[derive(Deserialize)]
struct Kind {
    /// Of a health message.
    chain: Option<SignedChainHead>,
    /// Of the member `chain` alone.
    head: Option<String>,
    signature: Option<String>,
    /// Of a case record.
    case_id: Option<String>,
}

impl EarlierHead {
    /// From a health message, its member `chain`, or a case record, each as the platform received it; or from the text of `head.json` with
    /// the content of `head.sig`. The signature is checked later, when the keys of the box are known.
    ///
    /// # Errors
    /// What is expected, or what the text lacks.
    pub fn parse(text: &str, head_sig: Option<&[u8]>) -> Result<Self, String> {
        let invalid = |e: serde_json::Error| format!("not JSON that a box signs: {e}");
        let text = text.trim_end_matches(['\n', '\r']);
        if let Some(signature) = head_sig {
            return Self::of_head(text.to_owned(), BASE64.encode(signature));
        }
        let kind: Kind = serde_json::from_str(text).map_err(invalid)?;
        match kind {
            Kind {
                chain: Some(SignedChainHead { head, signature }),
                ..
            }
            | Kind {
                head: Some(head),
                signature: Some(signature),
                ..
            } => Self::of_head(head, signature),
            Kind { case_id: Some(_), .. } => Self::of_record(text),
            _ => Err(
                "expected a health message with `chain`, that member alone, a case record with its signature, or head.json with head.sig \
                 beside it"
                    .into(),
            ),
        }
    }

    fn of_head(signed: String, signature: String) -> Result<Self, String> {
        let head: ChainHead =
            serde_json::from_str(&signed).map_err(|e| format!("the head is not the end of a chain: {e}"))?;
        if let Some(fault) = unknown_algorithm(head.algorithm.as_deref()) {
            return Err(fault);
        }
        Ok(Self {
            seq: head.seq,
            hash: head.hash,
            at: Some(head.at),
            node_id: head.node_id,
            signed,
            signature,
        })
    }

    /// The line before that of a record, which the record names and its signature covers.
    fn of_record(sealed: &str) -> Result<Self, String> {
        let record: CaseRecord = serde_json::from_str(sealed).map_err(|e| format!("not a case record: {e}"))?;
        let (signed, signature) = unseal(sealed)
            .ok_or("the record has no signature at its end: it must be byte for byte as the box sent it")?;
        let (Some(seq), Some(hash)) = (record.prev_seq, record.prev_hash) else {
            return Err("the record names no line of the chain: it is the first one, or of an older version".into());
        };
        Ok(Self {
            seq,
            hash,
            at: record.history.last().map(|entry| entry.at.timestamp()),
            node_id: record.node_id,
            signed,
            signature: signature.to_owned(),
        })
    }

    /// Whether one of these keys signed it.
    pub(super) fn is_signed_by(&self, keys: &[PublicKey]) -> bool {
        keys.iter()
            .any(|key| key.verifies(self.signed.as_bytes(), &self.signature))
    }
}
