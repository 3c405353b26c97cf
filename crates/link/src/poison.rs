//! Finds the outbox message that breaks every connection.
//!
//! A broker may close the connection over a message it rejects; with MQTT 3.1.1 it has no other way to reject one. Resent
//! on every connection, such a message would block the outbox. So when a connection ends over a message, or the second in
//! a row ends without a reason, the messages in flight become suspects and are sent one at a time until each is
//! acknowledged. The one over which connections keep ending is reported.

use std::collections::BTreeSet;

use gridwatch_mqtt::DisconnectCause;

/// Connections in a row that must end without a reason over the same message. A failing network does not do that so often:
/// each of these connections first acknowledged a status message and a subscription.
const MAX_STRIKES: u32 = 5;

/// Tracks what was in flight when earlier connections ended.
#[derive(Debug, Default)]
pub(super) struct PoisonMessageDetector {
    /// Outbox rows in flight when a connection ended and not acknowledged since. While there are any, one message is sent at
    /// a time.
    suspects: BTreeSet<i64>,
    /// A connection ended without a reason, and nothing was acknowledged since.
    ended_without_reason: bool,
    /// The row that was alone in flight when the last connection ended, and how many connections in a row ended that way.
    strikes: Option<(i64, u32)>,
}

impl PoisonMessageDetector {
    /// Maximum number of messages in flight: `configured`, or 1 while there are suspects.
    pub(super) fn window(&self, configured: usize) -> usize {
        if self.suspects.is_empty() { configured } else { 1 }
    }

    /// The broker acknowledged row `seq`, with success or an error, so the row does not break connections.
    pub(super) fn acknowledged(&mut self, seq: i64) {
        self.ended_without_reason = false;
        self.suspects.remove(&seq);
        if self.strikes.is_some_and(|(suspect, _)| suspect == seq) {
            self.strikes = None;
        }
    }

    /// Drops suspects that are not among `rows`, the rows that can be sent now.
    pub(super) fn retain_queued(&mut self, rows: impl Iterator<Item = i64>) {
        if !self.suspects.is_empty() {
            let rows: BTreeSet<i64> = rows.collect();
            self.suspects.retain(|seq| rows.contains(seq));
        }
    }

    /// A connection ended with the rows `in_flight` unacknowledged. Returns the poison message and the reason once it is
    /// identified.
    pub(super) fn connection_ended(&mut self, in_flight: &[i64], cause: &DisconnectCause) -> Option<(i64, String)> {
        if in_flight.is_empty() {
            return None;
        }
        match cause {
            DisconnectCause::Unrelated | DisconnectCause::Unsuitable(_) | DisconnectCause::TakenOver => return None,
            // Once is a broker restart or a network failure.
            DisconnectCause::NoReason if !std::mem::replace(&mut self.ended_without_reason, true) => return None,
            DisconnectCause::NoReason | DisconnectCause::Outgoing(_) => {}
        }
        let was_alone = !self.suspects.is_empty();
        self.suspects.extend(in_flight);
        let [seq] = *in_flight else {
            return None;
        };
        let strikes = match self.strikes {
            Some((suspect, strikes)) if suspect == seq => strikes + 1,
            _ => 1,
        };
        self.strikes = Some((seq, strikes));
        let reason = match cause {
            DisconnectCause::Outgoing(reason) if was_alone => reason.clone(),
            DisconnectCause::NoReason if strikes >= MAX_STRIKES => {
                format!(
                    "{strikes} connections in a row were closed without a reason while only this message was in flight"
                )
            }
            _ => return None,
        };
        // If other suspects are poison too, later connections will show it.
        *self = Self::default();
        Some((seq, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_message_is_identified_once_it_was_alone_in_flight() {
        let mut detector = PoisonMessageDetector::default();
        let cause = DisconnectCause::Outgoing("too large".into());
        assert_eq!(detector.window(4), 4);
        assert_eq!(
            detector.connection_ended(&[1, 2], &cause),
            None,
            "either may be the cause"
        );
        assert_eq!(detector.window(4), 1);
        detector.acknowledged(1);
        assert_eq!(detector.window(4), 1, "row 2 is still a suspect");
        assert_eq!(detector.connection_ended(&[2], &cause), Some((2, "too large".into())));
        assert_eq!(detector.window(4), 4);
    }

    #[test]
    fn a_message_is_identified_after_five_connections_ended_over_it_without_a_reason() {
        let mut detector = PoisonMessageDetector::default();
        assert_eq!(detector.connection_ended(&[7, 8], &DisconnectCause::NoReason), None);
        assert_eq!(detector.window(4), 4, "the first time is taken for a network failure");
        assert_eq!(detector.connection_ended(&[7, 8], &DisconnectCause::NoReason), None);
        assert_eq!(detector.window(4), 1);
        for _ in 0..4 {
            assert_eq!(detector.connection_ended(&[7], &DisconnectCause::NoReason), None);
        }
        assert_eq!(
            detector.connection_ended(&[], &DisconnectCause::NoReason),
            None,
            "nothing was in flight"
        );
        let (seq, reason) = detector
            .connection_ended(&[7], &DisconnectCause::NoReason)
            .expect("identified after the fifth");
        assert!(seq == 7 && reason.contains('5'), "{reason}");
    }

    #[test]
    fn an_acknowledgement_or_another_message_restarts_the_count() {
        let mut detector = PoisonMessageDetector::default();
        let four = |detector: &mut PoisonMessageDetector| {
            detector.connection_ended(&[7, 8], &DisconnectCause::NoReason);
            for _ in 0..4 {
                assert_eq!(detector.connection_ended(&[7], &DisconnectCause::NoReason), None);
            }
        };
        four(&mut detector);
        assert_eq!(detector.connection_ended(&[8], &DisconnectCause::NoReason), None);
        four(&mut detector);
        detector.acknowledged(7);
        four(&mut detector);
        assert_eq!(
            detector.connection_ended(&[7], &DisconnectCause::Unrelated),
            None,
            "not caused by a message"
        );
    }

    #[test]
    fn a_suspect_that_left_the_outbox_is_forgotten() {
        let mut detector = PoisonMessageDetector::default();
        assert_eq!(
            detector.connection_ended(&[1, 2, 3], &DisconnectCause::Outgoing("too large".into())),
            None
        );
        detector.retain_queued([2, 9].into_iter());
        assert_eq!(detector.window(4), 1);
        detector.acknowledged(2);
        assert_eq!(detector.window(4), 4);
    }
}
