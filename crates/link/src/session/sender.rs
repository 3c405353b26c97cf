//! Decides which outbox rows to publish, and what an acknowledgement means for its row. Pure: no I/O, clock or randomness.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{poison::PoisonMessageDetector, shortcomings::PACKET_OVERHEAD};
use gridwatch_base::backoff::Backoff;
use gridwatch_mqtt::PublishOutcome;
use gridwatch_store::{OutboxKind, OutboxRow};

/// A subscriber disconnected by the same outage has resubscribed by then. Pictures without a subscriber are retried for
/// this long after a reconnect; after that, no one is assumed to want pictures.
const RESUBSCRIBE_GRACE: Duration = Duration::from_secs(5);

/// Delay before a picture without a subscriber is retried.
const RESUBSCRIBE_RETRY: Duration = Duration::from_millis(250);

/// First and longest delay before resending to a busy broker, or a case without a subscriber.
const RESEND_DELAYS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// What an outbox row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowKind {
    Case,
    Picture,
}

impl RowKind {
    pub(super) fn of(kind: &OutboxKind) -> Self {
        match kind {
            OutboxKind::Case { .. } => Self::Case,
            OutboxKind::Evidence { .. } => Self::Picture,
        }
    }

    /// Value of the metric label `kind`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::Picture => "evidence",
        }
    }
}

/// What to do with a row after its publish was acknowledged or lost.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RowAction {
    /// Acknowledged: it is delivered, or awaits its receipt.
    Acknowledged,
    /// A case without a subscriber: it would be lost, so keep it and resend it with its pictures after the pause.
    AwaitSubscriber,
    /// A picture that no one subscribes to: let its case go without it.
    SkipPicture,
    /// Rejected permanently, for this reason: quarantine its case.
    Quarantine(String),
    /// The broker is busy, for this reason: resend it after the pause.
    RetryAfter(Duration, String),
    /// Resend it.
    Keep,
}

/// The rows in flight on one connection, and when more may be sent.
#[derive(Debug)]
pub(super) struct Sender {
    /// Configured maximum number of rows in flight.
    limit: usize,
    /// Rows awaiting acknowledgement, with the time each was sent.
    in_flight: BTreeMap<i64, Instant>,
    /// When the reply subscription was confirmed. No case is published before: its reply could be missed.
    ready_since: Option<Instant>,
    /// Maximum packet size of the broker, in bytes.
    max_packet: Option<u32>,
    paused_until: Option<Instant>,
    backoff: Backoff,
}

/// Rows that may be sent now, oldest first, and how many may be in flight.
#[derive(Debug)]
pub(super) struct Candidates {
    rows: VecDeque<OutboxRow>,
    window: usize,
}

impl Sender {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            in_flight: BTreeMap::new(),
            ready_since: None,
            max_packet: None,
            paused_until: None,
            backoff: Backoff::new(RESEND_DELAYS.0, RESEND_DELAYS.1),
        }
    }

    /// Starts sending. `max_packet` is the broker's maximum packet size.
    pub(super) fn start(&mut self, max_packet: Option<u32>, now: Instant) {
        self.max_packet = max_packet;
        self.ready_since = Some(now);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// How long the connection has been ready; `None` if it is not.
    pub(super) fn ready_for(&self, now: Instant) -> Option<Duration> {
        self.ready_since.map(|since| now.saturating_duration_since(since))
    }

    /// Whether rows may be sent: ready, not paused, and the window is not full.
    pub(super) fn may_send(&self, poison: &PoisonMessageDetector) -> bool {
        self.is_ready() && self.paused_until.is_none() && self.in_flight.len() < poison.window(self.limit)
    }

    /// How many of the oldest rows to read from the outbox. Rows in flight are among them, so this many include enough
    /// others to fill the window.
    pub(super) fn rows_to_read(&self) -> usize {
        self.limit + self.in_flight.len()
    }

    /// The candidates among `rows`, the oldest rows of the outbox.
    pub(super) fn candidates(&self, rows: Vec<OutboxRow>, poison: &mut PoisonMessageDetector) -> Candidates {
        poison.retain_queued(rows.iter().map(|row| row.seq));
        Candidates {
            rows: rows.into(),
            window: poison.window(self.limit),
        }
    }

    /// The next row to send; `None` if there is none, the window is full or sending is paused.
    pub(super) fn next(&self, candidates: &mut Candidates) -> Option<OutboxRow> {
        if self.in_flight.len() >= candidates.window || self.paused_until.is_some() {
            return None;
        }
        while let Some(row) = candidates.rows.pop_front() {
            if !self.in_flight.contains_key(&row.seq) {
                return Some(row);
            }
        }
        None
    }

    /// Checks that a payload of `bytes` bytes fits into the broker's maximum packet size.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), String> {
        match self.max_packet {
            Some(max) if bytes + PACKET_OVERHEAD > max as usize => Err(format!(
                "payload of {bytes} bytes exceeds the broker's maximum packet size of {max} bytes"
            )),
            _ => Ok(()),
        }
    }

    /// Row `seq` was sent.
    pub(super) fn sent(&mut self, seq: i64, now: Instant) {
        self.in_flight.insert(seq, now);
    }

    /// Applies the outcome of publishing row `seq`, pauses sending where it must, and says what to do with the row. `jitter`
    /// is a random number in `0.0..=1.0`.
    pub(super) fn settle(
        &mut self,
        (seq, kind): (i64, RowKind),
        outcome: PublishOutcome,
        poison: &mut PoisonMessageDetector,
        now: Instant,
        jitter: f64,
    ) -> RowAction {
        self.in_flight.remove(&seq);
        if outcome != PublishOutcome::Lost {
            poison.acknowledged(seq);
        }
        match (outcome, kind) {
            (PublishOutcome::Delivered, _) => {
                self.backoff.reset();
                RowAction::Acknowledged
            }
            (PublishOutcome::NoSubscriber, RowKind::Case) => {
                let pause = self.backoff.next_delay(jitter);
                self.pause(pause, now);
                RowAction::AwaitSubscriber
            }
            (PublishOutcome::NoSubscriber, RowKind::Picture) => {
                if self.ready_for(now).is_some_and(|ready| ready < RESUBSCRIBE_GRACE) {
                    self.pause(RESUBSCRIBE_RETRY, now);
                    RowAction::Keep
                } else {
                    RowAction::SkipPicture
                }
            }
            (PublishOutcome::Rejected(reason), _) => RowAction::Quarantine(reason),
            (PublishOutcome::Busy(reason), _) => {
                let pause = self.backoff.next_delay(jitter);
                self.pause(pause, now);
                RowAction::RetryAfter(pause, reason)
            }
            (PublishOutcome::Lost, _) => RowAction::Keep,
        }
    }

    /// Stops sending for `length`.
    pub(super) fn pause(&mut self, length: Duration, now: Instant) {
        self.paused_until = Some(now + length);
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// The pause is over.
    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    /// Rows awaiting acknowledgement, oldest first.
    pub(super) fn in_flight(&self) -> Vec<i64> {
        self.in_flight.keys().copied().collect()
    }

    /// Whether a row has been awaiting acknowledgement for longer than `timeout`.
    pub(super) fn has_overdue(&self, timeout: Duration, now: Instant) -> bool {
        self.in_flight
            .values()
            .any(|since| now.saturating_duration_since(*since) > timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gridwatch_mqtt::DisconnectCause;

    const SECOND: Duration = Duration::from_secs(1);

    fn row(seq: i64) -> OutboxRow {
        OutboxRow {
            seq,
            case_id: format!("case-{seq}"),
            topic: "gridwatch/v1/box-7/case".into(),
            kind: OutboxKind::Case { json: "{}".into() },
        }
    }

    fn started(limit: usize, now: Instant) -> Sender {
        let mut sender = Sender::new(limit);
        sender.start(None, now);
        sender
    }

    /// Sends what may be sent of rows 1 to 9, and returns it.
    fn send(sender: &mut Sender, poison: &mut PoisonMessageDetector, now: Instant) -> Vec<i64> {
        let mut candidates = sender.candidates((1..10).map(row).collect(), poison);
        let mut sent = Vec::new();
        while let Some(row) = sender.next(&mut candidates) {
            sender.sent(row.seq, now);
            sent.push(row.seq);
        }
        sent
    }

    fn settle(sender: &mut Sender, kind: RowKind, outcome: PublishOutcome, now: Instant) -> RowAction {
        sender.settle((1, kind), outcome, &mut PoisonMessageDetector::default(), now, 1.0)
    }

    #[test]
    fn nothing_is_sent_before_the_connection_is_ready() {
        let poison = PoisonMessageDetector::default();
        let mut sender = Sender::new(4);
        assert!(!sender.may_send(&poison) && !sender.is_ready());
        sender.start(None, Instant::now());
        assert!(sender.may_send(&poison));
    }

    #[test]
    fn the_oldest_rows_fill_the_window_and_rows_in_flight_are_skipped() {
        let (now, mut poison) = (Instant::now(), PoisonMessageDetector::default());
        let mut sender = started(3, now);
        assert_eq!(send(&mut sender, &mut poison, now), [1, 2, 3]);
        assert!(!sender.may_send(&poison));
        assert_eq!(sender.rows_to_read(), 6);
        let delivered = PublishOutcome::Delivered;
        let action = sender.settle((2, RowKind::Case), delivered, &mut poison, now, 0.5);
        assert_eq!(action, RowAction::Acknowledged);
        assert_eq!(sender.in_flight(), [1, 3]);
        // Row 2 would be deleted by now.
        let mut candidates = sender.candidates([1, 3, 4, 5].map(row).into(), &mut poison);
        assert_eq!(sender.next(&mut candidates).map(|row| row.seq), Some(4));
    }

    #[test]
    fn suspects_are_sent_one_at_a_time() {
        let (now, mut poison) = (Instant::now(), PoisonMessageDetector::default());
        poison.connection_ended(&[1, 2], &DisconnectCause::Outgoing("too large".into()));
        let mut sender = started(3, now);
        assert_eq!(send(&mut sender, &mut poison, now), [1]);
        assert!(!sender.may_send(&poison));
        let busy = PublishOutcome::Busy("quota".into());
        sender.settle((1, RowKind::Case), busy, &mut poison, now, 0.5);
        sender.resume();
        assert_eq!(poison.window(3), 1, "row 2 is still a suspect");
        let delivered = PublishOutcome::Delivered;
        sender.settle((2, RowKind::Case), delivered, &mut poison, now, 0.5);
        assert_eq!(send(&mut sender, &mut poison, now), [1, 2, 3]);
    }

    #[test]
    fn a_pause_stops_sending_until_it_is_over() {
        let (now, mut poison) = (Instant::now(), PoisonMessageDetector::default());
        let mut sender = started(3, now);
        sender.pause(SECOND, now);
        assert_eq!(sender.paused_until(), Some(now + SECOND));
        assert!(!sender.may_send(&poison));
        assert!(send(&mut sender, &mut poison, now).is_empty());
        sender.resume();
        assert_eq!(send(&mut sender, &mut poison, now), [1, 2, 3]);
    }

    #[test]
    fn a_case_without_a_subscriber_is_kept_and_retried_with_increasing_delays() {
        let now = Instant::now();
        let mut sender = started(3, now);
        for delay_ms in [250, 500, 1000] {
            let action = settle(&mut sender, RowKind::Case, PublishOutcome::NoSubscriber, now);
            assert_eq!(action, RowAction::AwaitSubscriber);
            assert_eq!(sender.paused_until(), Some(now + Duration::from_millis(delay_ms)));
        }
    }

    #[test]
    fn a_picture_without_a_subscriber_is_retried_for_a_while_and_then_skipped() {
        let now = Instant::now();
        let mut sender = started(3, now);
        let soon = now + 4 * SECOND;
        let action = settle(&mut sender, RowKind::Picture, PublishOutcome::NoSubscriber, soon);
        assert_eq!(action, RowAction::Keep);
        assert!(sender.paused_until().is_some());
        sender.resume();
        let later = now + 5 * SECOND;
        let action = settle(&mut sender, RowKind::Picture, PublishOutcome::NoSubscriber, later);
        assert_eq!((action, sender.paused_until()), (RowAction::SkipPicture, None));
    }

    #[test]
    fn a_busy_broker_is_retried_with_increasing_delays_until_it_delivers() {
        let now = Instant::now();
        let mut sender = started(3, now);
        let busy = || PublishOutcome::Busy("quota".into());
        let retry = |ms| RowAction::RetryAfter(Duration::from_millis(ms), "quota".into());
        assert_eq!(settle(&mut sender, RowKind::Picture, busy(), now), retry(250));
        assert_eq!(settle(&mut sender, RowKind::Picture, busy(), now), retry(500));
        settle(&mut sender, RowKind::Picture, PublishOutcome::Delivered, now);
        assert_eq!(settle(&mut sender, RowKind::Picture, busy(), now), retry(250));
    }

    #[test]
    fn a_rejected_row_is_quarantined_and_a_lost_one_is_kept() {
        let now = Instant::now();
        let mut sender = started(3, now);
        let rejected = PublishOutcome::Rejected("not authorised".into());
        let action = settle(&mut sender, RowKind::Case, rejected, now);
        assert_eq!(action, RowAction::Quarantine("not authorised".into()));
        let action = settle(&mut sender, RowKind::Case, PublishOutcome::Lost, now);
        assert_eq!((action, sender.paused_until()), (RowAction::Keep, None));
    }

    #[test]
    fn a_payload_must_fit_into_the_brokers_maximum_packet() {
        let mut sender = started(3, Instant::now());
        assert_eq!(sender.check_size(usize::MAX / 2), Ok(()));
        sender.start(Some(15_000), Instant::now());
        assert_eq!(sender.check_size(15_000 - PACKET_OVERHEAD), Ok(()));
        let reason = sender.check_size(15_000).unwrap_err();
        assert!(reason.contains("15000 bytes"), "{reason}");
    }

    #[test]
    fn a_row_is_overdue_after_the_timeout() {
        let now = Instant::now();
        let mut sender = started(3, now);
        assert!(!sender.has_overdue(SECOND, now + 9 * SECOND), "nothing in flight");
        sender.sent(1, now);
        assert!(!sender.has_overdue(SECOND, now + SECOND));
        assert!(sender.has_overdue(SECOND, now + 2 * SECOND));
    }
}
