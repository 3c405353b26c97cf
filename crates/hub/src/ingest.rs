//! Takes messages of boxes: checks everything that a hostile sender decides, and commits what is right.
//!
//! A message is *taken* (committed; a case is then answered with a receipt), *kept* as a dead letter with the reason and its bytes, or, over the
//! limits of dead letters, *dropped*. A box that gets no receipt for a case keeps it and sends it again, so that neither loses it. So only what a
//! confirmed key has signed gets one: otherwise a forged record would make a box forget a true one. Errors of the database and of the store of the
//! pictures are passed on: the message is then not acknowledged, and tried again, unless they are about its contents.

use bytes::Bytes;
use gridwatch_base::{digest::sha256_hex, error::Class};
use gridwatch_contract::{
    BoxMessage, CaseRecord, HealthMessage, MessageType, ReceiptMessage, SCHEMA_VERSION, StatusMessage, parse_box_topic,
};
use gridwatch_custody::{Algorithm, unseal};
use jiff::Timestamp;
use jsonschema::Validator;
use serde_json::Value;

use crate::{
    HubError,
    database::{BoxKey, CaseChange, Database, NewDeadLetter, NewRevision, PictureRow},
    pictures::{MAX_PICTURE, Pictures},
};

/// Largest case record, in bytes: the history and the verifications of a record are bounded, and so one has at most some 100 kB.
pub const MAX_RECORD: usize = 1 << 20;

/// Largest status or health message, in bytes. A box has at most some hundred cameras.
const MAX_STATUS: usize = 256 << 10;

/// Longest code, id and version that becomes a column of its own, in bytes. A key of an index has some 2,700 at most.
const MAX_NAME: usize = 128;

/// Pictures of one record, at most.
const MAX_EVIDENCE: usize = gridwatch_contract::MAX_MISSING;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// A case is committed: the box gets this receipt.
    Case {
        /// The box.
        node: String,
        /// What it is told.
        receipt: ReceiptMessage,
        /// False if the revision was here before.
        is_new: bool,
    },
    /// A picture is stored; false if it was before.
    Picture(bool),
    /// A status or health message is recorded.
    Status,
    /// It could not be taken, and is a dead letter.
    DeadLetter(String),
    /// It could not be taken, and there are too many dead letters.
    Dropped(String),
    /// Not a message that a box sends to a platform.
    Ignored,
}

impl Taken {
    /// Whether it is committed.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Case { .. } | Self::Picture(_) | Self::Status)
    }
}

/// Takes messages into a database and a store of pictures.
pub struct Ingest {
    database: Database,
    pictures: Pictures,
    prefix: String,
    record_schema: Validator,
}

impl Ingest {
    /// Messages are those below the topic prefix `prefix`.
    ///
    /// # Errors
    /// [`HubError::Input`] for a prefix that is not one.
    pub fn new(database: Database, pictures: Pictures, prefix: &str) -> Result<Self, HubError> {
        let schema: Value = serde_json::from_str(&MessageType::Case.schema()).map_err(|e| damaged_schema(&e))?;
        let record_schema = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .map_err(|e| damaged_schema(&e))?;
        if prefix.is_empty() || prefix.contains(['+', '#', '\0']) || prefix.starts_with('$') {
            return Err(HubError::Input(format!(
                "topic prefix {prefix:?}: expected topic levels without + and #, such as gridwatch"
            )));
        }
        Ok(Self {
            database,
            pictures,
            prefix: prefix.to_owned(),
            record_schema,
        })
    }

    /// Takes a message that came at `at`.
    ///
    /// # Errors
    /// The database or the store of the pictures does not answer. Nothing of the message is committed then, and it may be tried again.
    pub async fn take(&self, topic: &str, payload: &Bytes, at: Timestamp) -> Result<Taken, HubError> {
        let Some((node, message)) = parse_box_topic(&self.prefix, topic) else {
            return Ok(Taken::Ignored);
        };
        let refused = match self.try_take(node, message, payload, at).await {
            Ok(Ok(taken)) => return Ok(taken),
            Ok(Err(reason)) => reason,
            // Tried again, it would stay the same, and hold up what comes behind it.
            Err(error) if error.class() == Class::Data => format!("its contents cannot be stored: {error}"),
            Err(error) => return Err(error),
        };
        let letter = NewDeadLetter {
            node,
            topic,
            payload,
            reason: &refused,
        };
        match self.database.add_dead_letter(letter, at).await {
            Ok(true) => Ok(Taken::DeadLetter(refused)),
            Ok(false) => Ok(Taken::Dropped(refused)),
            Err(error) if error.class() == Class::Data => Ok(Taken::Dropped(format!("{refused}; {error}"))),
            Err(error) => Err(error),
        }
    }

    /// What became of a message, or why it is not taken.
    async fn try_take(
        &self,
        node: &str,
        message: BoxMessage<'_>,
        payload: &Bytes,
        at: Timestamp,
    ) -> Result<Result<Taken, String>, HubError> {
        match message {
            BoxMessage::Case | BoxMessage::Evidence(_) if payload.is_empty() => Ok(Err(format!(
                "the message is empty, or has more than {MAX_PICTURE} bytes"
            ))),
            BoxMessage::Case => Ok(self
                .case(node, payload, at)
                .await?
                .map(|(receipt, is_new)| Taken::Case {
                    node: node.to_owned(),
                    receipt,
                    is_new,
                })),
            BoxMessage::Evidence(sha256) => self.picture(node, sha256, payload, at).await,
            // The box, or who configured the broker, took back what was retained.
            BoxMessage::Status if payload.is_empty() => Ok(Ok(Taken::Ignored)),
            BoxMessage::Status => match status(node, payload) {
                Ok(status) => Ok(admitted(self.database.record_status(&status, at).await?)),
                Err(reason) => Ok(Err(reason)),
            },
            BoxMessage::Health => match health(node, payload) {
                Ok(text) => Ok(admitted(self.database.record_health(node, text, at).await?)),
                Err(reason) => Ok(Err(reason)),
            },
        }
    }

    /// Takes a dead letter again, as after a key was confirmed; it is deleted if that succeeds.
    ///
    /// # Errors
    /// As [`Self::take`]; [`HubError::NotFound`].
    pub async fn retry(&self, id: &str, at: Timestamp) -> Result<Taken, HubError> {
        let (letter, payload) = self.database.dead_letter(id).await?;
        let taken = self.take(&letter.topic, &payload.into(), at).await?;
        if taken.is_taken() {
            self.database.delete_dead_letter(id).await?;
        }
        Ok(taken)
    }

    /// Takes dead letters again; returns how many were taken. One that is gone is left out.
    ///
    /// # Errors
    /// The database or the store of the pictures does not answer.
    pub async fn retry_all(&self, ids: &[String], at: Timestamp) -> Result<u64, HubError> {
        let mut count = 0;
        for id in ids {
            match self.retry(id, at).await {
                Ok(taken) => count += u64::from(taken.is_taken()),
                Err(HubError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Takes the pictures that have come meanwhile out of those that a receipt names as missing.
    ///
    /// # Errors
    /// The database's; the receipt is unchanged then.
    pub async fn still_missing(&self, receipt: &mut ReceiptMessage) -> Result<(), HubError> {
        let mut missing = Vec::new();
        for sha256 in &receipt.missing {
            if !self.database.has_picture(sha256).await? {
                missing.push(sha256.clone());
            }
        }
        receipt.missing = missing;
        Ok(())
    }

    async fn picture(
        &self,
        node: &str,
        sha256: &str,
        payload: &Bytes,
        at: Timestamp,
    ) -> Result<Result<Taken, String>, HubError> {
        // Its cases are not taken either; with the receipt for the first one, the box is asked for the pictures.
        if !self.is_confirmed(node).await? {
            return Ok(Ok(Taken::Ignored));
        }
        if let Some(fault) = picture_fault(sha256, payload) {
            return Ok(Err(fault));
        }
        if self.database.has_picture(sha256).await? {
            return Ok(Ok(Taken::Picture(false)));
        }
        self.pictures.put(sha256, payload.clone()).await?;
        let row = PictureRow {
            sha256,
            bytes: payload.len() as u64,
            node,
        };
        Ok(Ok(Taken::Picture(self.database.add_picture(&row, at).await?)))
    }

    async fn is_confirmed(&self, node: &str) -> Result<bool, HubError> {
        let keys = self.database.keys(node).await?;
        Ok(keys.iter().any(|key| key.confirmed_at.is_some()))
    }

    /// The receipt for a case and whether the revision is new, or why it is not taken.
    async fn case(
        &self,
        node: &str,
        payload: &[u8],
        at: Timestamp,
    ) -> Result<Result<(ReceiptMessage, bool), String>, HubError> {
        let (record, text) = match self.record(node, payload) {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        if let Err(reason) = self.verify(node, &record, text).await? {
            return Ok(Err(reason));
        }
        let revision = NewRevision { record: &record, text };
        Ok(match self.database.take_revision(revision, at).await? {
            CaseChange::Committed {
                revision,
                is_new,
                missing,
            } => Ok((
                ReceiptMessage {
                    case_id: record.case_id,
                    revision,
                    missing,
                },
                is_new,
            )),
            CaseChange::Refused(reason) => Err(reason),
        })
    }

    /// Reads a record, and checks it by the contract's schema.
    fn record<'a>(&self, node: &str, payload: &'a [u8]) -> Result<(CaseRecord, &'a str), String> {
        if payload.len() > MAX_RECORD {
            return Err(format!(
                "the record has {} bytes; at most {MAX_RECORD} are taken",
                payload.len()
            ));
        }
        let text = std::str::from_utf8(payload).map_err(|e| format!("the record is not UTF-8: {e}"))?;
        let value: Value = serde_json::from_str(text).map_err(|e| format!("the record is not JSON: {e}"))?;
        if value.get("schema_version").and_then(Value::as_u64) != Some(u64::from(SCHEMA_VERSION)) {
            return Err(format!("schema_version is not {SCHEMA_VERSION}"));
        }
        if let Err(fault) = self.record_schema.validate(&value) {
            // Of what a sender wrote, only a part.
            let what: String = fault.to_string().chars().take(300).collect();
            return Err(format!(
                "the record does not fit the schema at {:?}: {what}",
                fault.instance_path().to_string()
            ));
        }
        if has_nul(&value) {
            return Err("the record has a text with the character U+0000".into());
        }
        // From the text: a member that is there twice would be two things to two readers.
        let record: CaseRecord =
            serde_json::from_str(text).map_err(|e| format!("the record does not fit the schema: {e}"))?;
        if record.node_id != node {
            return Err(format!(
                "node_id is {:?}, but the topic is that of {node:?}",
                record.node_id
            ));
        }
        if record.evidence.len() > MAX_EVIDENCE {
            return Err(format!(
                "the record has {} pictures; at most {MAX_EVIDENCE} are taken",
                record.evidence.len()
            ));
        }
        let view = record.view();
        for (name, value) in [
            ("category_code", &record.category_code),
            ("cell_code", &record.cell_code),
            ("camera", &view),
        ] {
            if value.len() > MAX_NAME {
                return Err(format!(
                    "{name} has {} bytes; at most {MAX_NAME} are taken",
                    value.len()
                ));
            }
        }
        Ok((record, text))
    }

    /// Why no confirmed key of the box verifies a record.
    async fn verify(&self, node: &str, record: &CaseRecord, text: &str) -> Result<Result<(), String>, HubError> {
        let Some((signed, signature)) = unseal(text) else {
            return Ok(Err("the record is not signed".into()));
        };
        if let Some(name) = &record.signature_algorithm
            && let Err(unknown) = name.parse::<Algorithm>()
        {
            return Ok(Err(unknown.to_string()));
        }
        let keys = self.database.keys(node).await?;
        let confirmed: Vec<&BoxKey> = keys.iter().filter(|key| key.confirmed_at.is_some()).collect();
        if confirmed.is_empty() {
            return Ok(Err(format!(
                "no key of {node} is confirmed: compare it with `gridwatch keys show` on the box, and run `gridwatch-hub boxes confirm {node}`"
            )));
        }
        let mut keys = confirmed.iter().filter_map(|key| key.key());
        if keys.any(|key| key.verifies(signed.as_bytes(), signature)) {
            return Ok(Ok(()));
        }
        Ok(Err(format!(
            "no confirmed key of {node} verifies the signature; if its key was changed, compare it and run `gridwatch-hub boxes confirm {node} --key KEY`"
        )))
    }
}

fn admitted(is_admitted: bool) -> Result<Taken, String> {
    match is_admitted {
        true => Ok(Taken::Status),
        false => Err("too many boxes without a confirmed key".into()),
    }
}

/// Whether a text in it has the character that PostgreSQL cannot store.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}

fn damaged_schema(error: &dyn std::fmt::Display) -> HubError {
    HubError::Damaged {
        what: "the contract's schema of case records".into(),
        reason: error.to_string(),
    }
}

/// What is wrong with a picture.
fn picture_fault(sha256: &str, payload: &[u8]) -> Option<String> {
    /// Start of image, and of the marker that follows (ITU-T T.81, B.1.1.3).
    const JPEG: [u8; 3] = [0xff, 0xd8, 0xff];
    if payload.len() > MAX_PICTURE {
        return Some(format!(
            "the picture has {} bytes; at most {MAX_PICTURE} are taken",
            payload.len()
        ));
    }
    let found = sha256_hex(payload);
    if found != sha256 {
        return Some(format!("the picture's SHA-256 is {found}, not that of its topic"));
    }
    (!payload.starts_with(&JPEG)).then(|| "the picture is not a JPEG".into())
}

fn status(node: &str, payload: &[u8]) -> Result<StatusMessage, String> {
    if payload.len() > MAX_STATUS {
        return Err(format!(
            "the status has {} bytes; at most {MAX_STATUS} are taken",
            payload.len()
        ));
    }
    let status: StatusMessage = serde_json::from_slice(payload).map_err(|e| format!("the status is not one: {e}"))?;
    let names = [Some(&status.version), status.installation.as_ref()];
    if names
        .into_iter()
        .flatten()
        .any(|name| name.len() > MAX_NAME || name.contains('\0'))
    {
        return Err(format!(
            "version or installation exceeds {MAX_NAME} bytes, or contains U+0000"
        ));
    }
    if status.node_id != node {
        return Err(format!(
            "node_id is {:?}, but the topic is that of {node:?}",
            status.node_id
        ));
    }
    Ok(status)
}

/// The text of a health message.
fn health<'a>(node: &str, payload: &'a [u8]) -> Result<&'a str, String> {
    if payload.len() > MAX_STATUS {
        return Err(format!(
            "the health message has {} bytes; at most {MAX_STATUS} are taken",
            payload.len()
        ));
    }
    let health: HealthMessage =
        serde_json::from_slice(payload).map_err(|e| format!("the health message is not one: {e}"))?;
    if health.node_id != node {
        return Err(format!(
            "node_id is {:?}, but the topic is that of {node:?}",
            health.node_id
        ));
    }
    std::str::from_utf8(payload).map_err(|e| format!("the health message is not UTF-8: {e}"))
}
