//! Finds the message that ends connections.
//!
//! A broker that will not have a message may hang up instead of saying so, and with MQTT 3.1.1 it has no other way. Sent again with
//! each connection, that message would hold up everything for ever. So once a connection ended with messages in flight, they go one at
//! a time until one is through; and the one over which that happens again and again is told.

use super::wire::Blame;

/// A line that fails by itself does not fail so often in a row just behind the same message, having answered a status message
/// and a subscription each time before.
const SILENT_STRIKES: u32 = 5;

/// What is known of the connections before.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// A connection ended over a message, or may have: one at a time, until one is through or the culprit is known.
    alone: bool,
    /// The message over which the last connections ended, and how many did.
    last: Option<(i64, u32)>,
}

impl Suspicion {
    /// How many messages may be in flight where it would be `usual`.
    pub(super) fn window(&self, usual: u16) -> usize {
        if self.alone { 1 } else { usual.into() }
    }

    /// A message is through: none before it was to blame.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// A connection ended over which `in_flight` were sent and not answered. Gives the culprit and why, once it is known.
    pub(super) fn ended(&mut self, in_flight: &[i64], blame: &Blame) -> Option<(i64, String)> {
        if in_flight.is_empty() || matches!(blame, Blame::Nobody | Blame::Theirs) {
            return None;
        }
        let was_alone = std::mem::replace(&mut self.alone, true);
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
        self.last = None;
        Some((seq, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_blames_is_told_once_it_was_alone() {
        let mut suspicion = Suspicion::default();
        let blame = Blame::Ours("too large".into());
        assert_eq!(suspicion.window(4), 4);
        assert_eq!(suspicion.ended(&[1, 2], &blame), None, "which of them?");
        assert_eq!(suspicion.window(4), 1);
        assert_eq!(suspicion.ended(&[1], &blame), Some((1, "too large".into())));
        assert_eq!(suspicion.window(4), 1, "there may be another");
        suspicion.clear();
        assert_eq!(suspicion.window(4), 4);
    }

    #[test]
    fn silence_counts_where_it_falls_over_the_same_message_five_times() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.ended(&[7, 8], &Blame::Silence), None);
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
    fn a_message_that_gets_through_or_another_one_begins_the_count_anew() {
        let mut suspicion = Suspicion::default();
        for _ in 0..4 {
            assert_eq!(suspicion.ended(&[7], &Blame::Silence), None);
        }
        assert_eq!(suspicion.ended(&[8], &Blame::Silence), None);
        for _ in 0..4 {
            assert_eq!(suspicion.ended(&[7], &Blame::Silence), None);
        }
        suspicion.clear();
        for _ in 0..4 {
            assert_eq!(suspicion.ended(&[7], &Blame::Silence), None);
        }
        assert_eq!(suspicion.ended(&[7], &Blame::Nobody), None, "the line's own failing");
    }
}
