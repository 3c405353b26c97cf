//! Validates messages on the reply topic.
//!
//! Any client that may publish there can send anything. A message that is not a valid reply about a case of this box is
//! counted, logged with the reason and acknowledged, so that it is not redelivered and does not block later replies.

use jiff::Timestamp;
use tokio::sync::oneshot;

use gridwatch_contract::ReplyMessage;
use gridwatch_engine::{CaseState, Reply};
use gridwatch_store::{Store, StoreError};

/// Replies take a few hundred bytes; the longest reason that a clerk types is far shorter than this.
const MAX_BYTES: usize = 16 * 1024;
const MAX_REASON_CHARS: usize = 2000;
const MAX_TASK_NO_CHARS: usize = 128;

/// A validated reply about a case of this box.
#[derive(Debug)]
pub struct IncomingReply {
    /// The message as received.
    pub message: ReplyMessage,
    /// The same as an engine input.
    pub reply: Reply,
    /// Signal it once the reply is committed ([`Store::apply_reply`]); the reply is then acknowledged to the broker. If it
    /// is dropped instead, the link reconnects and the broker redelivers the reply.
    pub committed: oneshot::Sender<()>,
}

/// Why a reply was rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyRejected {
    #[error("message is retained; publish replies without the retain flag")]
    Retained,
    #[error("message of {0} bytes exceeds the maximum of {MAX_BYTES} bytes")]
    Oversized(usize),
    #[error("malformed reply: {0}")]
    Malformed(serde_json::Error),
    #[error("{field} exceeds {max} characters")]
    TooLong { field: &'static str, max: usize },
    #[error("state {:?} can only be set by the box", .0.as_str())]
    BoxState(CaseState),
    #[error("correlation data does not match case_id")]
    Correlation,
    #[error("case {0:?} does not exist on this box")]
    UnknownCase(String),
}

impl ReplyRejected {
    /// Value of the metric label `result`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Retained => "retained",
            Self::Oversized(_) | Self::TooLong { .. } => "oversized",
            Self::Malformed(_) => "unreadable",
            Self::BoxState(_) => "own_word",
            Self::Correlation => "correlation",
            Self::UnknownCase(_) => "unknown_case",
        }
    }
}

/// Parses and validates a message received on the reply topic now.
///
/// # Errors
/// The outer error is the store's; the inner one says why the message was rejected.
pub(super) fn read(
    payload: &[u8],
    is_retained: bool,
    correlation: Option<&[u8]>,
    store: &Store,
) -> Result<Result<(ReplyMessage, Reply), ReplyRejected>, StoreError> {
    let message = match check(payload, is_retained, correlation) {
        Ok(message) => message,
        Err(rejected) => return Ok(Err(rejected)),
    };
    if !store.has_case(&message.case_id)? {
        let shown = message.case_id.chars().take(64).collect();
        return Ok(Err(ReplyRejected::UnknownCase(shown)));
    }
    let reply = message.reply(Timestamp::now());
    Ok(Ok((message, reply)))
}

fn check(payload: &[u8], is_retained: bool, correlation: Option<&[u8]>) -> Result<ReplyMessage, ReplyRejected> {
    if is_retained {
        return Err(ReplyRejected::Retained);
    }
    if payload.len() > MAX_BYTES {
        return Err(ReplyRejected::Oversized(payload.len()));
    }
    let message: ReplyMessage = serde_json::from_slice(payload).map_err(ReplyRejected::Malformed)?;
    for (field, text, max) in [
        ("reason", &message.reason, MAX_REASON_CHARS),
        ("platform_task_no", &message.platform_task_no, MAX_TASK_NO_CHARS),
    ] {
        if text.as_ref().is_some_and(|t| t.chars().count() > max) {
            return Err(ReplyRejected::TooLong { field, max });
        }
    }
    if matches!(message.state, CaseState::Filed | CaseState::Withdrawn) {
        return Err(ReplyRejected::BoxState(message.state));
    }
    if correlation.is_some_and(|c| c != message.case_id.as_bytes()) {
        return Err(ReplyRejected::Correlation);
    }
    Ok(message)
}
