//! When an access unit is over. Its packets share a timestamp; the marker is only a hint, because some cameras set it
//! on every slice, on parameter sets or never.

use std::time::{Duration, Instant};

/// Units without a marker in a row after which the camera counts as one that sets none.
const UNMARKED_UNITS: u8 = 3;
/// Silence after which a unit counts as over although no packet of the next one came, so that a camera with one picture
/// a second is not a second late. Packets of one picture follow each other within milliseconds.
pub(crate) const QUIET: Duration = Duration::from_millis(150);
/// A pause between two packets of one picture that makes [`QUIET`] doubtful.
const PAUSE: Duration = Duration::from_millis(100);
/// Time after such a pause, or a lost packet, in which silence does not end a unit: TCP may still be repeating the rest
/// of it.
const NO_QUIET_END: Duration = Duration::from_secs(60);

/// What the stream has shown about its markers and pauses.
#[derive(Debug, Default)]
pub(crate) struct UnitEnds {
    /// A keyframe without loss had its only marker at its end. Other pictures prove less: they may fit into one packet,
    /// or one slice, where a marker on every packet or slice does not show.
    is_marker_proven: bool,
    unmarked: u8,
    is_marker_wrong: bool,
    no_quiet_end_before: Option<Instant>,
}

impl UnitEnds {
    /// A unit with slices is followed by another one. `is_marked`: its last packet with a slice had the marker.
    /// `is_proof`: it is a keyframe without loss.
    #[inline]
    pub(crate) fn unit_ended(&mut self, is_marked: bool, is_proof: bool) {
        if is_marked {
            self.is_marker_proven |= is_proof;
            self.unmarked = 0;
        } else {
            self.unmarked = self.unmarked.saturating_add(1);
        }
    }

    /// A slice followed the marker.
    pub(crate) fn marker_was_wrong(&mut self) {
        self.is_marker_wrong = true;
    }

    /// Packets were lost.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.no_quiet_end_before = Some(now + NO_QUIET_END);
    }

    /// Two packets of one unit came so far apart.
    #[inline]
    pub(crate) fn pause(&mut self, pause: Duration, now: Instant) {
        if pause >= PAUSE {
            self.lost(now);
        }
    }

    /// Whether a marker ends a unit.
    pub(crate) fn is_marker_trusted(&self) -> bool {
        !self.is_marker_wrong && self.is_marker_proven
    }

    /// When silence ends a unit whose last packet came at `last`.
    pub(crate) fn quiet_end(&self, is_marked: bool, last: Instant) -> Option<Instant> {
        let may_be_over = is_marked || self.unmarked >= UNMARKED_UNITS;
        let is_quiet_reliable = self.no_quiet_end_before.is_none_or(|before| before <= last);
        (may_be_over && is_quiet_reliable).then(|| last + QUIET)
    }

    /// Whether the end of a unit is certain without a packet of the next one.
    pub(crate) fn is_end_certain(&self, is_marked: bool) -> bool {
        is_marked && !self.is_marker_wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_trusted_once_proven_until_proven_wrong() {
        let mut ends = UnitEnds::default();
        assert!(!ends.is_marker_trusted());
        ends.unit_ended(true, false);
        ends.unit_ended(false, true);
        assert!(!ends.is_marker_trusted());
        ends.unit_ended(true, true);
        assert!(ends.is_marker_trusted());
        ends.marker_was_wrong();
        ends.unit_ended(true, true);
        assert!(!ends.is_marker_trusted());
    }

    #[test]
    fn silence_ends_a_unit_of_a_stream_without_markers() {
        let now = Instant::now();
        let mut ends = UnitEnds::default();
        assert_eq!(ends.quiet_end(true, now), Some(now + QUIET), "marked");
        assert_eq!(ends.quiet_end(false, now), None, "the marker may still come");
        for _ in 0..3 {
            ends.unit_ended(false, false);
        }
        assert_eq!(ends.quiet_end(false, now), Some(now + QUIET));
    }

    #[test]
    fn silence_proves_nothing_after_a_pause_within_a_unit() {
        let now = Instant::now();
        let mut ends = UnitEnds::default();
        ends.pause(Duration::from_millis(40), now);
        assert!(ends.quiet_end(true, now).is_some());
        ends.pause(Duration::from_millis(200), now);
        assert_eq!(ends.quiet_end(true, now), None);
        assert!(ends.quiet_end(true, now + NO_QUIET_END).is_some());
    }
}
