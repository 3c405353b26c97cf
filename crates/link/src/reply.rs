//! What comes in on the reply topic, and what of it may reach the engine.
//!
//! Whoever can publish there can write anything. A message that is not a reply about a case of this box is counted,
//! logged with its reason and acknowledged, so that it does not come back; it never stops the ones behind it.

use jiff::Timestamp;
use tokio::sync::oneshot;

use gridwatch_contract::ReplyMessage;
use gridwatch_engine::{CaseState, Reply};
use gridwatch_store::{Store, StoreError};

/// A reply is a few hundred bytes; the longest reason a clerk types is far shorter.
const MAX_BYTES: usize = 16 * 1024;
const MAX_REASON_CHARS: usize = 2000;
const MAX_TASK_NO_CHARS: usize = 128;

/// A reply that is about a case of this box.
#[derive(Debug)]
pub struct IncomingReply {
    /// As the platform wrote it.
    pub message: ReplyMessage,
    /// For the engine.
    pub reply: Reply,
    /// Answered once the reply is committed ([`Store::apply_reply`]). Dropped unanswered, the reply comes again with the
    /// next connection.
    pub committed: oneshot::Sender<()>,
}

/// Why a message on the reply topic is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyRejected {
    #[error("it is retained: a reply is said once")]
    Retained,
    #[error("it has {0} bytes, a reply has {MAX_BYTES} at most")]
    Oversized(usize),
    #[error("it is not a reply: {0}")]
    Unreadable(serde_json::Error),
    #[error("its {field} has more than {max} characters")]
    TooLong { field: &'static str, max: usize },
    #[error("state {} is the box's own word", .0.as_str())]
    OwnWord(CaseState),
    #[error("its correlation data is of another case")]
    Correlation,
    #[error("case {0:?} is none of this box's")]
    UnknownCase(String),
}

impl ReplyRejected {
    /// The metric label's value.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Retained => "retained",
            Self::Oversized(_) | Self::TooLong { .. } => "oversized",
            Self::Unreadable(_) => "unreadable",
            Self::OwnWord(_) => "own_word",
            Self::Correlation => "correlation",
            Self::UnknownCase(_) => "unknown_case",
        }
    }
}

/// Reads a message that came on the reply topic just now. The outer error is the store's.
pub(super) fn read(
    payload: &[u8],
    is_retained: bool,
    correlation: Option<&[u8]>,
    store: &Store,
) -> Result<Result<(ReplyMessage, Reply), ReplyRejected>, StoreError> {
    let message = match check(payload, is_retained, correlation) {
        Ok(message) => message,
        Err(forged) => return Ok(Err(forged)),
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
    let message: ReplyMessage = serde_json::from_slice(payload).map_err(ReplyRejected::Unreadable)?;
    for (field, text, max) in [
        ("reason", &message.reason, MAX_REASON_CHARS),
        ("platform_task_no", &message.platform_task_no, MAX_TASK_NO_CHARS),
    ] {
        if text.as_ref().is_some_and(|t| t.chars().count() > max) {
            return Err(ReplyRejected::TooLong { field, max });
        }
    }
    if matches!(message.state, CaseState::Filed | CaseState::Withdrawn) {
        return Err(ReplyRejected::OwnWord(message.state));
    }
    if correlation.is_some_and(|c| c != message.case_id.as_bytes()) {
        return Err(ReplyRejected::Correlation);
    }
    Ok(message)
}
