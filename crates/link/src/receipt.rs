//! Receipts and the platform's announcement: validates them, and decides what they mean for the outbox.
//!
//! Any client that may publish on these topics can send anything; what is no receipt about a case of this box is counted, logged with the
//! reason and acknowledged.

use std::time::Instant;

use jiff::Timestamp;
use metrics::counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::{debug, error, info, warn};

use crate::{limit::Admission, session::Session};
use gridwatch_base::metric;
use gridwatch_contract::{MAX_MISSING, PlatformMessage, ReceiptMessage};
use gridwatch_mqtt::InboundMessage;
use gridwatch_store::{ReceiptOutcome, StoreError};

/// A receipt that names [`MAX_MISSING`] pictures has 14 kB.
const MAX_BYTES: usize = 32 * 1024;
const MAX_NAME_CHARS: usize = 128;

/// Whether a message counts as delivered without the platform's receipt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Receipts {
    /// By the platform's announcement.
    #[default]
    Auto,
    /// Never.
    Required,
    /// Always: the broker's acknowledgement is enough, and receipts are not listened to.
    Off,
}

/// Why a receipt or an announcement was rejected.
#[derive(Debug, thiserror::Error)]
enum Rejected {
    #[error("message is retained; publish receipts without the retain flag")]
    Retained,
    #[error("message of {0} bytes exceeds the maximum of {MAX_BYTES} bytes")]
    Oversized(usize),
    #[error("malformed: {0}")]
    Malformed(serde_json::Error),
    #[error("missing: more than {MAX_MISSING} pictures")]
    TooMany,
    #[error("missing: {0:?} is no SHA-256 in lower-case hex")]
    BadSha256(String),
    #[error("name: give 1 to {MAX_NAME_CHARS} characters")]
    BadName,
}

impl Rejected {
    /// Value of the metric label `result`.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Retained => "retained",
            Self::Oversized(_) => "oversized",
            Self::Malformed(_) | Self::TooMany | Self::BadSha256(_) | Self::BadName => "unreadable",
        }
    }
}

fn read_receipt(message: &InboundMessage) -> Result<ReceiptMessage, Rejected> {
    if message.is_retained {
        return Err(Rejected::Retained);
    }
    if message.payload.len() > MAX_BYTES {
        return Err(Rejected::Oversized(message.payload.len()));
    }
    let receipt: ReceiptMessage = serde_json::from_slice(&message.payload).map_err(Rejected::Malformed)?;
    if receipt.missing.len() > MAX_MISSING {
        return Err(Rejected::TooMany);
    }
    let is_sha256 = |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match receipt.missing.iter().find(|text| !is_sha256(text)) {
        Some(bad) => Err(Rejected::BadSha256(bad.chars().take(80).collect())),
        None => Ok(receipt),
    }
}

fn read_announcement(payload: &[u8]) -> Result<PlatformMessage, Rejected> {
    if payload.len() > MAX_BYTES {
        return Err(Rejected::Oversized(payload.len()));
    }
    let announced: PlatformMessage = serde_json::from_slice(payload).map_err(Rejected::Malformed)?;
    match announced.name.chars().count() {
        1..=MAX_NAME_CHARS => Ok(announced),
        _ => Err(Rejected::BadName),
    }
}

impl Session {
    /// Whether what the broker acknowledged awaits the platform's receipt.
    pub(crate) fn awaits_receipts(&self) -> bool {
        match self.connector.settings.receipts {
            Receipts::Auto => self.platform.as_ref().is_some_and(|platform| platform.receipts),
            Receipts::Required => true,
            Receipts::Off => false,
        }
    }

    /// Takes what awaits receipts as delivered if none are to be expected any more, as after a change of the configuration.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn settle_without_receipts(&mut self) -> Result<(), StoreError> {
        if self.awaits_receipts() {
            return Ok(());
        }
        let messages = self.store.outbox_settle_sent()?;
        if messages > 0 {
            info!(
                messages,
                "No receipts are given any more; messages that the broker acknowledged count as delivered"
            );
        }
        Ok(())
    }

    /// Applies a message on the receipt topic.
    ///
    /// # Errors
    /// The store's; the message must then not be acknowledged.
    pub(crate) fn receipt_received(&mut self, message: &InboundMessage) -> Result<(), StoreError> {
        let receipt = match read_receipt(message) {
            Ok(receipt) => receipt,
            Err(rejected) => {
                self.reject("receipt", &rejected, message.payload.len());
                return Ok(());
            }
        };
        // The limit keeps a little for each case; there must be a case.
        if self.store.has_case(&receipt.case_id)? {
            let admission = self.receipt_limit.admit(&receipt.case_id, Instant::now());
            if admission != Admission::Taken {
                counter!(metric::RECEIPTS, "result" => "limited").increment(1);
                if admission == Admission::FirstOverLimit {
                    warn!(
                        case = receipt.case_id,
                        "Too many receipts for one case; dropping those over the limit. Find out what sends them"
                    );
                }
                return Ok(());
            }
        }
        let (case, revision) = (receipt.case_id.as_str(), receipt.revision);
        let outcome = self.store.record_receipt(&receipt, &self.form, Timestamp::now())?;
        let result = match outcome {
            ReceiptOutcome::Received { messages: 0 } => "repeated",
            ReceiptOutcome::Received { messages } => {
                debug!(case, revision, messages, "The platform has the case");
                "received"
            }
            ReceiptOutcome::Missing { pictures } => {
                info!(
                    case,
                    revision, pictures, "The platform lacks pictures of a case; sending them again"
                );
                "missing"
            }
            ReceiptOutcome::UnknownCase => {
                // Debug-formatted: escapes control characters, so that a sender cannot forge log lines.
                let case: String = case.chars().take(64).collect();
                debug!(
                    ?case,
                    "The platform gave a receipt for a case that this box does not have"
                );
                "unknown_case"
            }
            ReceiptOutcome::UnknownRevision { newest } => {
                warn!(
                    case,
                    revision,
                    newest,
                    "The platform gave a receipt for a revision that this box does not have: it was restored from a backup, or the receipt is wrong"
                );
                "unknown_revision"
            }
        };
        counter!(metric::RECEIPTS, "result" => result).increment(1);
        self.update_outbox_gauges();
        Ok(())
    }

    /// Applies the platform's announcement. An empty one, as of a broker whose retained message is removed, changes nothing: only another
    /// announcement takes back what was announced.
    ///
    /// # Errors
    /// The store's; the message must then not be acknowledged.
    pub(crate) fn announcement_received(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        if payload.is_empty() {
            return Ok(());
        }
        let announced = match read_announcement(payload) {
            Ok(announced) => announced,
            Err(rejected) => {
                self.reject("platform", &rejected, payload.len());
                return Ok(());
            }
        };
        let before = self.platform.clone();
        if before.as_ref() == Some(&announced) {
            return Ok(());
        }
        self.store.set_platform(&announced)?;
        let gave = self.awaits_receipts();
        let since = |platform: &PlatformMessage| platform.since.map(|since| since.timestamp());
        let is_restarted = before.as_ref().is_some_and(|before| since(before) < since(&announced));
        let name = announced.name.clone();
        self.platform = Some(announced);
        match (gave, self.awaits_receipts()) {
            (false, true) => info!(
                ?name,
                "The platform gives receipts; a case stays in the outbox until its receipt"
            ),
            (true, false) => {
                error!(
                    ?name,
                    "The platform gives no receipts any more; a case counts as delivered when the broker acknowledges it"
                );
                self.settle_without_receipts()?;
            }
            (true, true) if is_restarted => {
                let cases = self.store.outbox_make_due(Timestamp::now())?;
                info!(
                    ?name,
                    cases, "The platform was restarted; sending the cases without a receipt again"
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn reject(&mut self, topic: &str, rejected: &Rejected, bytes: usize) {
        counter!(metric::RECEIPTS, "result" => rejected.as_str()).increment(1);
        if let Some(suppressed) = self.log_limit.admit(Instant::now()) {
            warn!(reason = ?rejected.to_string(), bytes, suppressed, "Rejected a message on the {topic} topic");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_taken_with_members_that_are_not_known_yet() {
        let json = br#"{"schema_version":1,"receipts":true,"name":"hub","since":"2026-05-01T08:00:00+08:00","pages":"https://hub.lan"}"#;
        let announced = read_announcement(json).unwrap();
        assert!(announced.receipts && announced.since.is_some());
        let nameless = br#"{"schema_version":1,"receipts":true,"name":""}"#;
        assert!(matches!(read_announcement(nameless), Err(Rejected::BadName)));
        assert!(matches!(
            read_announcement(&[b' '; MAX_BYTES + 1]),
            Err(Rejected::Oversized(_))
        ));
    }
}
