//! Publishes the rows that [`Sender`](super::sender::Sender) selects, and carries out what it decides about acknowledged
//! ones.

use std::{io, time::Duration};

use jiff::Timestamp;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{
    Session,
    connection::Connection,
    sender::{RowAction, RowKind},
};
use gridwatch_base::metric;
use gridwatch_mqtt::{EnqueueError, OutboundMessage, PublishOutcome};
use gridwatch_store::{OutboxKind, OutboxRow, StoreError, evidence_file};

/// Pause after the client's queue was full.
const QUEUE_RETRY: Duration = Duration::from_millis(100);

/// A publish awaiting acknowledgement.
pub(super) enum PendingPublish {
    /// A row of the outbox.
    Row(PendingRow),
    /// A claim, by its topic.
    Claim(String),
    /// The box's status.
    Status,
}

/// A row of the outbox awaiting acknowledgement.
pub(super) struct PendingRow {
    seq: i64,
    case_id: String,
    kind: RowKind,
    topic: String,
    since: Instant,
}

impl Connection {
    /// Publishes the oldest rows that may be sent, up to the in-flight window.
    pub(super) fn fill(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let rows = session
            .store
            .outbox_next(self.sender.rows_to_read(), Timestamp::now())?;
        let mut candidates = self.sender.candidates(rows, &mut session.poison);
        while let Some(row) = self.sender.next(&mut candidates) {
            self.send(session, row)?;
        }
        Ok(())
    }

    fn send(&mut self, session: &mut Session, row: OutboxRow) -> Result<(), StoreError> {
        let pending = PendingRow {
            seq: row.seq,
            case_id: row.case_id,
            kind: RowKind::of(&row.kind),
            topic: row.topic,
            since: Instant::now(),
        };
        let topic = pending.topic.clone();
        let message = match row.kind {
            OutboxKind::Case { json } => OutboundMessage {
                response_topic: Some(session.connector.topics.reply()),
                correlation: Some(pending.case_id.clone().into()),
                ..OutboundMessage::json(topic, json)
            },
            OutboxKind::Evidence { sha256 } => match evidence_file::read(session.store.dir(), &sha256) {
                Ok(bytes) => OutboundMessage {
                    content_type: Some("image/jpeg"),
                    ..OutboundMessage::new(topic, bytes)
                },
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    let path = evidence_file::path(session.store.dir(), &sha256);
                    return quarantine(session, &pending, &format!("{}: {e}", path.display()));
                }
                Err(source) => {
                    let path = evidence_file::path(session.store.dir(), &sha256);
                    return Err(StoreError::Io {
                        doing: "read",
                        path,
                        source,
                    });
                }
            },
        };
        if let Err(reason) = self.sender.check_size(message.payload.len()) {
            return quarantine(session, &pending, &reason);
        }
        match self.client.send(message) {
            Ok(outcome) => {
                self.sender.sent(pending.seq, pending.since);
                session.row_sent();
                self.await_outcome(PendingPublish::Row(pending), outcome);
                Ok(())
            }
            Err(EnqueueError::InvalidTopic) => quarantine(session, &pending, "invalid topic name"),
            Err(EnqueueError::QueueFull) => {
                self.sender.pause(QUEUE_RETRY, Instant::now());
                Ok(())
            }
        }
    }

    /// Handles the outcome of a publish.
    pub(super) fn published(&mut self, session: &mut Session, publish: PendingPublish, outcome: PublishOutcome) {
        match publish {
            PendingPublish::Row(row) => self.settle(session, &row, outcome),
            PendingPublish::Claim(topic) => self.claim_published(session, &topic, outcome),
            PendingPublish::Status => {}
        }
        self.disconnect_if_drained();
    }

    /// Applies the outcome of publishing a row. Until here the row is still in the outbox.
    fn settle(&mut self, session: &mut Session, row: &PendingRow, outcome: PublishOutcome) {
        let (kind, result) = (row.kind.as_str(), result_label(&outcome));
        counter!(metric::PUBLISHES, "kind" => kind, "result" => result).increment(1);
        let is_acknowledged = outcome != PublishOutcome::Lost;
        let action = self.sender.settle(
            (row.seq, row.kind),
            outcome,
            &mut session.poison,
            Instant::now(),
            fastrand::f64(),
        );
        if is_acknowledged {
            session.row_acknowledged(self.sender.in_flight().len());
        }
        match apply(session, row, action) {
            // Announce the filed case at once: if this box dies now, others need not wait for the claim to time out.
            Ok(()) if row.kind == RowKind::Case => self.update_own_claims(session),
            Ok(()) => {}
            Err(e) => self.store_failed(&e),
        }
        if self.closing_until.is_none() {
            session.update_outbox_gauges();
        }
    }
}

/// Value of the metric label `result`.
fn result_label(outcome: &PublishOutcome) -> &'static str {
    match outcome {
        PublishOutcome::Delivered => "delivered",
        PublishOutcome::NoSubscriber => "unheard",
        PublishOutcome::Rejected(_) => "refused",
        PublishOutcome::Busy(_) => "busy",
        PublishOutcome::Lost => "lost",
    }
}

fn apply(session: &mut Session, row: &PendingRow, action: RowAction) -> Result<(), StoreError> {
    let topic = &row.topic;
    match action {
        RowAction::Acknowledged => {
            histogram!(metric::PUBLISH_SECONDS, "kind" => row.kind.as_str()).record(row.since.elapsed().as_secs_f64());
            session.has_delivered = true;
            if row.kind == RowKind::Case && std::mem::take(&mut session.warned_no_case_subscriber) {
                info!(topic, "Cases have a subscriber again");
            }
            match session.awaits_receipts() {
                true => session.store.outbox_sent(row.seq, Timestamp::now()),
                false => session.store.outbox_acknowledged(row.seq, Timestamp::now()),
            }
        }
        RowAction::AwaitSubscriber => {
            if !std::mem::replace(&mut session.warned_no_case_subscriber, true) {
                warn!(
                    topic,
                    "No subscriber for cases; they are kept and resent until there is one"
                );
            }
            session.store.outbox_resend_unheard()
        }
        RowAction::SkipPicture => {
            if !std::mem::replace(&mut session.warned_no_picture_subscriber, true) {
                warn!(
                    topic,
                    "No subscriber for pictures; cases are published without waiting for one"
                );
            }
            session.store.outbox_mark_unheard(row.seq)
        }
        RowAction::Quarantine(reason) => quarantine(session, row, &reason),
        RowAction::RetryAfter(pause, reason) => {
            let retry_ms = pause.as_millis() as u64;
            warn!(topic, reason, retry_ms, "Broker busy; retrying the message");
            Ok(())
        }
        RowAction::Keep => Ok(()),
    }
}

/// Holds back every message of the case until an operator releases it.
fn quarantine(session: &mut Session, row: &PendingRow, reason: &str) -> Result<(), StoreError> {
    let rows = session
        .store
        .outbox_quarantine(row.seq, &format!("{}: {reason}", row.topic))?;
    // 0 rows: the case was quarantined, and logged, for an earlier message.
    if rows > 0 {
        error!(
            case = row.case_id,
            topic = row.topic,
            reason,
            rows,
            "Message is undeliverable; its case is quarantined. Fix the cause, then run: gridwatch outbox retry"
        );
    }
    Ok(())
}
