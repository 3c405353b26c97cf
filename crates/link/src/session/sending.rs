//! From the outbox to the broker, and what the broker's word on each row means for it.

use std::{io, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use metrics::{counter, histogram};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Link, connection::Connection};
use crate::wire::{self, MessageKind, OutboundMessage, Unsent, Verdict};
use gridwatch_store::{OutboxKind, OutboxRow, StoreError, evidence_file};

/// A subscriber that lost the same broker is back by then: pictures that nobody heard within this time of our own
/// coming back are sent again, later ones count as pictures nobody wants.
const UNHEARD_GRACE: Duration = Duration::from_secs(5);

/// A letter whose acknowledgement is awaited; `seq` is `None` for what is not in the outbox.
pub(super) struct Sent {
    seq: Option<i64>,
    case_id: String,
    kind: &'static str,
    topic: String,
    since: Instant,
}

impl Sent {
    pub(super) fn status(topic: String) -> Self {
        Self::of_the_moment("status", topic)
    }

    pub(super) fn claim(topic: String) -> Self {
        Self::of_the_moment("claim", topic)
    }

    fn of_the_moment(kind: &'static str, topic: String) -> Self {
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
    /// Sends the oldest rows that may go, up to the window.
    pub(super) fn fill(&mut self, link: &mut Link) -> Result<(), StoreError> {
        let usual = usize::from(link.wire.settings.in_flight);
        if self.seqs.len() >= link.suspicion.window(usual) {
            return Ok(());
        }
        // The rows in flight are among the oldest: behind them there are enough for the window.
        let rows = link.store.outbox_next(usual + self.seqs.len())?;
        link.suspicion.waiting(rows.iter().map(|row| row.seq));
        let window = link.suspicion.window(usual);
        for row in rows {
            if self.seqs.len() >= window || self.paused_until.is_some() {
                break;
            }
            if !self.seqs.contains_key(&row.seq) {
                self.send(link, row)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, link: &mut Link, row: OutboxRow) -> Result<(), StoreError> {
        let kind = row.kind.as_str();
        let sent = Sent {
            seq: Some(row.seq),
            case_id: row.case_id,
            kind,
            topic: row.topic,
            since: Instant::now(),
        };
        let (payload, sort) = match row.kind {
            OutboxKind::Case { json } => {
                let (id, reply) = (sent.case_id.clone(), link.wire.topics.reply());
                (json.into_bytes(), MessageKind::Case { id, reply })
            }
            OutboxKind::Evidence { sha256 } => match evidence_file::read(link.store.dir(), &sha256) {
                Ok(bytes) => (bytes, MessageKind::Evidence),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                    let path = evidence_file::path(link.store.dir(), &sha256);
                    return quarantine(link, &sent, &format!("{}: {e}", path.display()));
                }
                Err(source) => {
                    let path = evidence_file::path(link.store.dir(), &sha256);
                    return Err(StoreError::Io {
                        doing: "read",
                        path,
                        source,
                    });
                }
            },
        };
        if !wire::fits(payload.len(), self.max_packet) {
            let reason = format!(
                "it has {} bytes, and the broker takes packets of {} at most",
                payload.len(),
                self.max_packet.unwrap_or_default()
            );
            return quarantine(link, &sent, &reason);
        }
        let letter = OutboundMessage {
            topic: sent.topic.clone(),
            payload,
            sort,
        };
        match self.client.send(letter) {
            Ok(verdict) => {
                self.seqs.extend(sent.seq.map(|seq| (seq, sent.since)));
                self.sent.push(verdict.map(|verdict| (sent, verdict)).boxed());
                Ok(())
            }
            Err(Unsent::Topic) => quarantine(link, &sent, "its topic is none"),
            Err(Unsent::Now) => {
                self.pause(Duration::from_millis(100));
                Ok(())
            }
        }
    }

    /// The broker's word on a letter. The row is still in the outbox until here.
    pub(super) fn settle(&mut self, link: &mut Link, sent: Sent, verdict: Verdict) {
        let Some(seq) = sent.seq else {
            if sent.kind == "claim" {
                self.claim_answered(link, &sent.topic, verdict);
            }
            return self.part();
        };
        self.seqs.remove(&seq);
        if verdict != Verdict::Lost {
            link.suspicion.answered(seq);
        }
        counter!("gridwatch_publish_total", "kind" => sent.kind, "result" => verdict.as_str()).increment(1);
        let done = match verdict {
            Verdict::Delivered => {
                histogram!("gridwatch_publish_seconds", "kind" => sent.kind).record(sent.since.elapsed().as_secs_f64());
                link.was_useful = true;
                self.pauses.reset();
                if sent.kind == "case" && std::mem::take(&mut link.unheard_said) {
                    info!(topic = sent.topic, "Somebody listens to the cases again.");
                }
                link.store.outbox_done(seq, Timestamp::now())
            }
            Verdict::Unheard => self.unheard(link, &sent, seq),
            Verdict::Refused(reason) => quarantine(link, &sent, &reason),
            Verdict::Busy(reason) => {
                let pause = self.pauses.next();
                warn!(
                    topic = sent.topic,
                    reason,
                    retry_ms = pause.as_millis() as u64,
                    "The broker is busy; the message is sent again."
                );
                self.pause(pause);
                Ok(())
            }
            Verdict::Lost => Ok(()),
        };
        match done {
            // Other boxes are to know at once that it is filed: if this one dies now, they need not wonder.
            Ok(()) if sent.kind == "case" => self.own_claims(link),
            Ok(()) => {}
            Err(e) => self.store_failed(&e),
        }
        if self.leaving.is_none() {
            link.measure_outbox();
        }
        self.part();
    }

    /// The broker took it and nobody listens. A case that nobody hears is lost, so it stays until somebody does, and its
    /// pictures with it. Pictures alone may be wanted by nobody: then the case goes without waiting for them.
    fn unheard(&mut self, link: &mut Link, sent: &Sent, seq: i64) -> Result<(), StoreError> {
        if sent.kind == "case" {
            if !std::mem::replace(&mut link.unheard_said, true) {
                warn!(
                    topic = sent.topic,
                    "The broker has nobody to give our cases to; they are kept and sent again until somebody subscribes."
                );
            }
            let pause = self.pauses.next();
            self.pause(pause);
            return link.store.outbox_rewind();
        }
        if self.up_since.is_some_and(|up| up.elapsed() < UNHEARD_GRACE) {
            self.pause(Duration::from_millis(250));
            return Ok(());
        }
        if !std::mem::replace(&mut link.pictures_unheard_said, true) {
            warn!(
                topic = sent.topic,
                "The broker has nobody to give our pictures to; cases are sent all the same."
            );
        }
        link.store.outbox_unheard(seq)
    }
}

/// An operator must act: nothing of this case goes out before.
fn quarantine(link: &mut Link, sent: &Sent, reason: &str) -> Result<(), StoreError> {
    let Some(seq) = sent.seq else { return Ok(()) };
    let rows = link
        .store
        .outbox_quarantine(seq, &format!("{}: {reason}", sent.topic))?;
    // None: another message of the case was refused first, and that has been said.
    if rows > 0 {
        error!(
            case = sent.case_id,
            topic = sent.topic,
            reason,
            rows,
            "A message can never be delivered; its case is quarantined. Remove the cause, then run: gridwatch outbox retry"
        );
    }
    Ok(())
}
