//! Publishes outbox rows and applies the broker's acknowledgements to the store.

use std::{io, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Session, connection::Connection};
use crate::wire::{self, OutboundMessage, MessageKind, EnqueueError, PublishOutcome};
use gridwatch_store::{OutboxKind, OutboxRow, StoreError, evidence_file};

/// A subscriber disconnected by the same outage has resubscribed by then. Pictures without a subscriber are retried for
/// this long after a reconnect; after that, no one is assumed to want pictures.
const RESUBSCRIBE_GRACE: Duration = Duration::from_secs(5);

/// A publish awaiting acknowledgement; `seq` is `None` for messages that are not in the outbox.
pub(super) struct PendingPublish {
    seq: Option<i64>,
    case_id: String,
    kind: &'static str,
    topic: String,
    since: Instant,
}

impl PendingPublish {
    pub(super) fn status(topic: String) -> Self {
        Self::outside_outbox("status", topic)
    }

    pub(super) fn claim(topic: String) -> Self {
        Self::outside_outbox("claim", topic)
    }

    fn outside_outbox(kind: &'static str, topic: String) -> Self {
        Self {
            seq: None,
            case_id: String::new(),
            kind,
            topic,
            since: Instant::now(),
        }
    }
}

impl Connection {
    /// Publishes the oldest rows that may be sent, up to the in-flight window.
    pub(super) fn fill(&mut self, session: &mut Session) -> Result<(), StoreError> {
        let configured = usize::from(session.connector.settings.in_flight);
        if self.in_flight.len() >= session.poison.window(configured) {
            return Ok(());
        }
        // Rows in flight are among the oldest, so this many rows include enough others to fill the window.
        let rows = session.store.outbox_next(configured + self.in_flight.len())?;
        session.poison.retain_queued(rows.iter().map(|row| row.seq));
        let window = session.poison.window(configured);
        for row in rows {
            if self.in_flight.len() >= window || self.paused_until.is_some() {
                break;
            }
            if !self.in_flight.contains_key(&row.seq) {
                self.send(session, row)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, session: &mut Session, row: OutboxRow) -> Result<(), StoreError> {
        let kind = row.kind.as_str();
        let publish = PendingPublish {
            seq: Some(row.seq),
            case_id: row.case_id,
            kind,
            topic: row.topic,
            since: Instant::now(),
        };
        let (payload, kind) = match row.kind {
            OutboxKind::Case { json } => {
                let (id, reply_topic) = (publish.case_id.clone(), session.connector.topics.reply());
                (json.into_bytes(), MessageKind::Case { id, reply_topic })
            }
            OutboxKind::Evidence { sha256 } => match evidence_file::read(session.store.dir(), &sha256) {
                Ok(bytes) => (bytes, MessageKind::Evidence),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    let path = evidence_file::path(session.store.dir(), &sha256);
                    return quarantine(session, &publish, &format!("{}: {e}", path.display()));
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
        if !wire::fits_in_packet(payload.len(), self.max_packet) {
            let reason = format!(
                "payload of {} bytes exceeds the broker's maximum packet size of {} bytes",
                payload.len(),
                self.max_packet.unwrap_or_default()
            );
            return quarantine(session, &publish, &reason);
        }
        let message = OutboundMessage {
            topic: publish.topic.clone(),
            payload,
            kind,
        };
        match self.client.send(message) {
            Ok(outcome) => {
                self.in_flight.extend(publish.seq.map(|seq| (seq, publish.since)));
                self.pending.push(outcome.map(|outcome| (publish, outcome)).boxed());
                Ok(())
            }
            Err(EnqueueError::InvalidTopic) => quarantine(session, &publish, "invalid topic name"),
            Err(EnqueueError::QueueFull) => {
                self.pause(Duration::from_millis(100));
                Ok(())
            }
        }
    }

    /// Applies the outcome of a publish. Until here its row is still in the outbox.
    pub(super) fn settle(&mut self, session: &mut Session, publish: PendingPublish, outcome: PublishOutcome) {
        let Some(seq) = publish.seq else {
            if publish.kind == "claim" {
                self.claim_published(session, &publish.topic, outcome);
            }
            return self.disconnect_if_drained();
        };
        self.in_flight.remove(&seq);
        if outcome != PublishOutcome::Lost {
            session.poison.acknowledged(seq);
        }
        counter!("gridwatch_publish_total", "kind" => publish.kind, "result" => outcome.as_str()).increment(1);
        let done = match outcome {
            PublishOutcome::Delivered => {
                histogram!("gridwatch_publish_seconds", "kind" => publish.kind).record(publish.since.elapsed().as_secs_f64());
                session.has_delivered = true;
                self.backoff.reset();
                if publish.kind == "case" && std::mem::take(&mut session.warned_no_case_subscriber) {
                    info!(topic = publish.topic, "Cases have a subscriber again");
                }
                session.store.outbox_done(seq, Timestamp::now())
            }
            PublishOutcome::NoSubscriber => self.no_subscriber(session, &publish, seq),
            PublishOutcome::Rejected(reason) => quarantine(session, &publish, &reason),
            PublishOutcome::Busy(reason) => {
                let pause = self.backoff.next();
                warn!(
                    topic = publish.topic,
                    reason,
                    retry_ms = pause.as_millis() as u64,
                    "Broker busy; retrying the message"
                );
                self.pause(pause);
                Ok(())
            }
            PublishOutcome::Lost => Ok(()),
        };
        match done {
            // Announce the filed case at once: if this box dies now, others need not wait for the claim to time out.
            Ok(()) if publish.kind == "case" => self.update_own_claims(session),
            Ok(()) => {}
            Err(e) => self.store_failed(&e),
        }
        if self.closing_until.is_none() {
            session.update_outbox_gauges();
        }
        self.disconnect_if_drained();
    }

    /// The broker accepted the message but had no matching subscriber. A case would be lost, so it is kept with its
    /// pictures and retried. Pictures alone may be unwanted: after a grace period the case goes without them.
    fn no_subscriber(&mut self, session: &mut Session, publish: &PendingPublish, seq: i64) -> Result<(), StoreError> {
        if publish.kind == "case" {
            if !std::mem::replace(&mut session.warned_no_case_subscriber, true) {
                warn!(
                    topic = publish.topic,
                    "No subscriber for cases; they are kept and resent until one subscribes"
                );
            }
            let pause = self.backoff.next();
            self.pause(pause);
            return session.store.outbox_rewind();
        }
        if self.ready_since.is_some_and(|since| since.elapsed() < RESUBSCRIBE_GRACE) {
            self.pause(Duration::from_millis(250));
            return Ok(());
        }
        if !std::mem::replace(&mut session.warned_no_picture_subscriber, true) {
            warn!(
                topic = publish.topic,
                "No subscriber for pictures; cases are published without waiting for one"
            );
        }
        session.store.outbox_unheard(seq)
    }
}

/// Holds back every message of the case until an operator releases it.
fn quarantine(session: &mut Session, publish: &PendingPublish, reason: &str) -> Result<(), StoreError> {
    let Some(seq) = publish.seq else { return Ok(()) };
    let rows = session
        .store
        .outbox_quarantine(seq, &format!("{}: {reason}", publish.topic))?;
    // 0 rows: the case was quarantined, and logged, for an earlier message.
    if rows > 0 {
        error!(
            case = publish.case_id,
            topic = publish.topic,
            reason,
            rows,
            "Message is undeliverable; its case is quarantined. Fix the cause, then run: gridwatch outbox retry"
        );
    }
    Ok(())
}
