//! Finds the message that ends connections.
//!
//! A broker that will not have a message may hang up instead of saying so, and with MQTT 3.1.1 it has no other way. Sent again with
//! each connection, that message would hold up everything for ever. So what was in flight when a connection ended over a message, or the
//! second in a row without a word, goes one at a time from then on, until each was answered; and the one over which that happens again
//! and again is told.

use std::collections::BTreeSet;

use super::wire::Blame;

/// A line that fails by itself does not fail so often in a row just behind the same message, having answered a status message
/// and a subscription each time before.
const SILENT_STRIKES: u32 = 5;

/// What is known of the connections before.
#[derive(Debug, Default)]
pub(super) struct PoisonMessageDetector {
    /// What was in flight when a connection ended, and was not answered since.
    suspects: BTreeSet<i64>,
    /// A connection ended in silence, and nothing was answered since.
    fell_silent: bool,
    /// The message that was alone in flight when the last connection ended, and how many in a row ended so.
    last: Option<(i64, u32)>,
}

impl PoisonMessageDetector {
    /// How many messages may be in flight where it would be `usual`.
    pub(super) fn window(&self, usual: usize) -> usize {
        if self.suspects.is_empty() { usual } else { 1 }
    }

    /// The broker answered a message, whatever it said: it did not hang up over it.
    pub(super) fn answered(&mut self, seq: i64) {
        self.fell_silent = false;
        self.suspects.remove(&seq);
        if self.last.is_some_and(|(last, _)| last == seq) {
            self.last = None;
        }
    }

    /// These are all that could go now: who is not among them need not be waited for.
    pub(super) fn waiting(&mut self, rows: impl Iterator<Item = i64>) {
        if !self.suspects.is_empty() {
            let rows: BTreeSet<i64> = rows.collect();
            self.suspects.retain(|seq| rows.contains(seq));
        }
    }

    /// A connection ended over which `in_flight` were sent and not answered. Gives the culprit and why, once it is known.
    pub(super) fn ended(&mut self, in_flight: &[i64], blame: &Blame) -> Option<(i64, String)> {
        if in_flight.is_empty() {
            return None;
        }
        match blame {
            Blame::Nobody | Blame::Theirs => return None,
            // A broker that is started again, a line that is cut: nothing was answered but once.
            Blame::Silence if !std::mem::replace(&mut self.fell_silent, true) => return None,
            Blame::Silence | Blame::Ours(_) => {}
        }
        let was_alone = !self.suspects.is_empty();
        self.suspects.extend(in_flight);
        let [seq] = *in_flight else {
            return None;
        };
        let strikes = match self.last {
            Some((last, strikes)) if last == seq => strikes + 1,
            _ => 1,
        };
        self.last = Some((seq, strikes));
        let reason = match blame {
            Blame::Ours(reason) if was_alone => reason.clone(),
            Blame::Silence if strikes >= SILENT_STRIKES => {
                format!("{strikes} connections in a row ended over it, without a word of the broker")
            }
            _ => return None,
        };
        // Others may be as bad: then the next connections end over them.
        *self = Self::default();
        Some((seq, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_blames_is_told_once_it_was_alone() {
        let mut suspicion = PoisonMessageDetector::default();
        let blame = Blame::Ours("too large".into());
        assert_eq!(suspicion.window(4), 4);
        assert_eq!(suspicion.ended(&[1, 2], &blame), None, "which of them?");
        assert_eq!(suspicion.window(4), 1);
        suspicion.answered(1);
        assert_eq!(suspicion.window(4), 1, "the other is still to go");
        assert_eq!(suspicion.ended(&[2], &blame), Some((2, "too large".into())));
        assert_eq!(suspicion.window(4), 4);
    }

    #[test]
    fn silence_counts_where_it_falls_over_the_same_message_five_times() {
        let mut suspicion = PoisonMessageDetector::default();
        assert_eq!(suspicion.ended(&[7, 8], &Blame::Silence), None);
        assert_eq!(suspicion.window(4), 4, "once is an accident");
        assert_eq!(suspicion.ended(&[7, 8], &Blame::Silence), None);
        assert_eq!(suspicion.window(4), 1);
        for _ in 0..4 {
            assert_eq!(suspicion.ended(&[7], &Blame::Silence), None);
        }
        assert_eq!(
            suspicion.ended(&[], &Blame::Silence),
            None,
            "nothing was sent: nothing is known"
        );
        let (seq, reason) = suspicion.ended(&[7], &Blame::Silence).expect("the fifth");
        assert!(seq == 7 && reason.contains('5'), "{reason}");
    }

    #[test]
    fn an_answer_or_another_message_begins_the_count_anew() {
        let mut suspicion = PoisonMessageDetector::default();
        let four = |suspicion: &mut PoisonMessageDetector| {
            suspicion.ended(&[7, 8], &Blame::Silence);
            for _ in 0..4 {
                assert_eq!(suspicion.ended(&[7], &Blame::Silence), None);
            }
        };
        four(&mut suspicion);
        assert_eq!(suspicion.ended(&[8], &Blame::Silence), None);
        four(&mut suspicion);
        suspicion.answered(7);
        four(&mut suspicion);
        assert_eq!(suspicion.ended(&[7], &Blame::Nobody), None, "the line's own failing");
    }

    #[test]
    fn who_left_the_outbox_is_not_waited_for() {
        let mut suspicion = PoisonMessageDetector::default();
        assert_eq!(suspicion.ended(&[1, 2, 3], &Blame::Ours("too large".into())), None);
        suspicion.waiting([2, 9].into_iter());
        assert_eq!(suspicion.window(4), 1);
        suspicion.answered(2);
        assert_eq!(suspicion.window(4), 4);
    }
}
