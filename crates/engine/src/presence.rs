//! Whether an object is really there: score hysteresis, n of m looks, share of looks, and wall-clock dwell.
//!
//! Only clear looks are counted. Time counts between two consecutive clear looks that are not too far apart; any other
//! interval is blind. Blind time is neither presence nor absence and changes nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::types::{Reason, Rule};

/// Shares are ratios of small counts; this is far below the smallest difference between two of them.
const SHARE_EPSILON: f64 = 1e-6;
/// Looks in which an object must have been attended, however few there were.
const MIN_ATTENDED: u32 = 8;

/// Share of the looks that saw it above which an object stays unidentified. A single box of a passer-by's umbrella does not make
/// goods on a cloth an umbrella; a network that recognises a thing in one look of four at its keep score knows it.
const MIN_UNKNOWN_SHARE: f64 = 0.75;

/// The interval since the camera's previous clear look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LookInterval {
    /// Unobserved.
    Blind,
    /// Observed.
    Watched(Duration),
    /// The camera was at other presets of its tour. An object that is back was there throughout; nothing leaves in this
    /// time.
    Away(Duration),
}

impl LookInterval {
    /// The part of the interval that counts as empty if neither end saw the object.
    pub(super) fn observed(self) -> Duration {
        match self {
            Self::Blind => Duration::ZERO,
            Self::Watched(time) | Self::Away(time) => time,
        }
    }
}

/// Accumulated clear looks of a track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Presence {
    /// Presence so far. An occlusion counts in full once the object is seen again.
    dwell: Duration,
    /// Observed time since the last sighting.
    unseen: Duration,
    /// Time since then that the camera was at other presets.
    #[serde(default)]
    away: Duration,
    looks: u32,
    seen: u32,
    /// Looks at which it counted as present.
    present: u32,
    /// It counted as present at the newest look.
    is_present: bool,
    /// The newest look was outside the rule's hours.
    is_resting: bool,
    /// The newest 64 looks, newest in bit 0; 1 = seen.
    window: u64,
    scores: f64,
    /// Looks that saw it attended.
    attended: u32,
    /// Looks that saw it as an unknown object.
    #[serde(default)]
    unknown: u32,
}

impl Presence {
    /// Starts with the first look that saw it.
    pub(super) fn new(score: f32, attended: bool, is_unknown: bool) -> Self {
        Self {
            dwell: Duration::ZERO,
            unseen: Duration::ZERO,
            away: Duration::ZERO,
            looks: 1,
            seen: 1,
            present: 1,
            is_present: true,
            is_resting: false,
            window: 1,
            scores: score.into(),
            attended: attended.into(),
            unknown: is_unknown.into(),
        }
    }

    /// A clear look saw it. Returns the presence event, if any.
    pub(super) fn saw(&mut self, rule: &Rule, interval: LookInterval, score: f32, attended: bool) -> Option<Reason> {
        self.advance(interval);
        self.credit_unseen();
        self.looks = self.looks.saturating_add(1);
        self.seen = self.seen.saturating_add(1);
        self.window = self.window << 1 | 1;
        self.scores += f64::from(score);
        self.attended = self.attended.saturating_add(attended.into());
        self.update_present(rule)
    }

    /// The look that saw it saw an unknown object.
    pub(super) fn count_unknown(&mut self) {
        self.unknown = self.unknown.saturating_add(1);
    }

    /// A clear look missed it. Returns the presence event, if any.
    pub(super) fn missed(&mut self, rule: &Rule, interval: LookInterval) -> Option<Reason> {
        self.advance(interval);
        self.looks = self.looks.saturating_add(1);
        self.window <<= 1;
        self.update_present(rule)
    }

    /// A clear look outside the rule's hours. The look itself does not count; the active time before it does.
    pub(super) fn rest(&mut self, interval: LookInterval, is_seen: bool) -> Option<Reason> {
        self.advance(interval);
        if is_seen {
            self.credit_unseen();
        }
        let rested = std::mem::replace(&mut self.is_resting, true);
        (!rested).then_some(Reason::Rested)
    }

    fn advance(&mut self, interval: LookInterval) {
        match interval {
            LookInterval::Blind => {}
            LookInterval::Watched(time) => self.unseen += time,
            LookInterval::Away(time) => self.away += time,
        }
    }

    /// Credits the time since the last sighting: the object was there throughout.
    fn credit_unseen(&mut self) {
        self.dwell += std::mem::take(&mut self.unseen) + std::mem::take(&mut self.away);
    }

    /// Updates whether it counts as present: missed in at most m − n of the newest m looks, so that a detector's
    /// flicker is not an absence. Looks before the first do not count as misses.
    fn update_present(&mut self, rule: &Rule) -> Option<Reason> {
        self.is_resting = false;
        let (seen, looks) = self.newest(rule);
        let is_present = looks - seen <= rule.seen_m.saturating_sub(rule.seen_n);
        self.present = self.present.saturating_add(is_present.into());
        match (std::mem::replace(&mut self.is_present, is_present), is_present) {
            (true, false) => Some(Reason::Hidden),
            (false, true) => Some(Reason::SeenAgain),
            _ => None,
        }
    }

    /// How many of the newest m looks saw it, and how many of those m there have been.
    fn newest(&self, rule: &Rule) -> (u32, u32) {
        let newest = u64::MAX >> (64 - rule.seen_m.clamp(1, 64));
        ((self.window & newest).count_ones(), self.looks.min(rule.seen_m))
    }

    /// Unseen for the rule's `forget_after`.
    pub(super) fn is_gone(&self, rule: &Rule) -> bool {
        self.unseen >= rule.forget_after
    }

    /// Present for the rule's dwell.
    pub(super) fn has_reached_dwell(&self, rule: &Rule) -> bool {
        self.dwell >= self.required_dwell(rule)
    }

    /// The dwell that the rule requires of what was seen.
    pub(super) fn required_dwell(&self, rule: &Rule) -> Duration {
        // A text that decides tells what it is.
        if self.is_unidentified() && !rule.second_look_is_required {
            rule.unidentified_dwell.unwrap_or(rule.dwell)
        } else {
            rule.dwell
        }
    }

    /// Seen in n of the newest m looks, and present in the required share of all looks.
    pub(super) fn is_steady(&self, rule: &Rule) -> bool {
        self.newest(rule).0 >= rule.seen_n && self.present_share() + SHARE_EPSILON >= rule.present_share.into()
    }

    /// Attended in the required share of the looks that saw it, and in enough of them: of few looks, passers-by reach any share.
    pub(super) fn is_attended(&self, rule: &Rule) -> bool {
        let Some(by) = &rule.attended else { return true };
        self.attended >= MIN_ATTENDED && self.attended_share() + SHARE_EPSILON >= by.share.into()
    }

    /// Nearly all looks that saw it saw an unknown object: what it is cannot be told.
    pub(super) fn is_unidentified(&self) -> bool {
        f64::from(self.unknown) / f64::from(self.seen) > MIN_UNKNOWN_SHARE
    }

    /// Time missing from the rule's dwell if one more sighting would then confirm; `None` if it would not, or nothing
    /// is missing.
    pub(super) fn missing_dwell(&self, rule: &Rule) -> Option<Duration> {
        let mut next = self.clone();
        next.saw(rule, LookInterval::Blind, 0.0, true);
        let missing = self.required_dwell(rule).saturating_sub(self.dwell);
        (!missing.is_zero() && next.is_steady(rule) && next.is_attended(rule)).then_some(missing)
    }

    /// Presence so far, without blind time.
    pub(super) fn dwell(&self) -> Duration {
        self.dwell
    }

    /// Clear looks since the first, and how many of them saw it.
    pub(super) fn looks(&self) -> (u32, u32) {
        (self.looks, self.seen)
    }

    /// How many of the newest m looks saw it.
    pub(super) fn newest_seen(&self, rule: &Rule) -> u32 {
        self.newest(rule).0
    }

    /// Share of all looks at which it counted as present.
    pub(super) fn present_share(&self) -> f64 {
        f64::from(self.present) / f64::from(self.looks)
    }

    /// Share of the looks that saw it in which it was attended.
    pub(super) fn attended_share(&self) -> f64 {
        f64::from(self.attended) / f64::from(self.seen)
    }

    /// Mean score × share of looks × hours.
    pub(super) fn priority(&self) -> f64 {
        f64::from(self.confidence()) * f64::from(self.seen) / f64::from(self.looks) * self.dwell.as_secs_f64() / 3600.0
    }

    /// Mean score of the looks that saw it.
    pub(super) fn confidence(&self) -> f32 {
        (self.scores / f64::from(self.seen)) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::rule;

    const TEN: LookInterval = LookInterval::Watched(Duration::from_secs(10));

    #[test]
    fn an_occlusion_counts_once_the_object_is_seen_again() {
        let mut p = Presence::new(0.8, true, false);
        p.saw(&rule(), TEN, 0.6, true);
        p.missed(&rule(), TEN);
        p.missed(&rule(), TEN);
        assert_eq!(p.dwell(), Duration::from_secs(10), "not before it is seen again");
        p.saw(&rule(), TEN, 0.7, true);
        assert_eq!(p.dwell(), Duration::from_secs(40));
        assert_eq!(p.looks(), (5, 3));
        assert!((p.confidence() - 0.7).abs() < 1e-6);
    }

    #[test]
    fn blind_time_is_neither_presence_nor_absence() {
        let mut p = Presence::new(0.8, true, false);
        p.saw(&rule(), LookInterval::Blind, 0.8, true);
        assert_eq!(p.dwell(), Duration::ZERO);
        for _ in 0..100 {
            p.missed(&rule(), LookInterval::Blind);
        }
        assert!(!p.is_gone(&rule()), "no observed time without it");
        for _ in 0..12 {
            p.missed(&rule(), TEN);
        }
        assert!(p.is_gone(&rule()));
    }

    #[test]
    fn tour_time_counts_once_the_object_is_seen_again_and_never_as_absence() {
        let tour = LookInterval::Away(Duration::from_mins(10));
        let mut p = Presence::new(0.8, true, false);
        p.missed(&rule(), tour);
        assert_eq!(p.dwell(), Duration::ZERO, "not yet known whether it stayed");
        assert!(!p.is_gone(&rule()), "one miss after a tour is a flicker");
        p.saw(&rule(), TEN, 0.8, true);
        assert_eq!(p.dwell(), Duration::from_secs(610));
        for _ in 0..11 {
            p.missed(&rule(), TEN);
        }
        p.missed(&rule(), tour);
        assert!(!p.is_gone(&rule()));
        p.missed(&rule(), TEN);
        assert!(p.is_gone(&rule()), "two minutes of observed absence");
    }

    #[test]
    fn n_of_m_and_share_are_both_required() {
        let rule = rule();
        let mut p = Presence::new(0.8, true, false);
        p.saw(&rule, TEN, 0.8, true);
        assert!(!p.is_steady(&rule), "two looks are not three");
        p.saw(&rule, TEN, 0.8, true);
        assert!(p.is_steady(&rule));
        p.missed(&rule, TEN);
        p.missed(&rule, TEN);
        assert!(p.is_steady(&rule), "three of five, share 0.6 exactly");
        p.missed(&rule, TEN);
        assert!(!p.is_steady(&rule));
        p.saw(&rule, TEN, 0.8, true);
        p.saw(&rule, TEN, 0.8, true);
        p.saw(&rule, TEN, 0.8, true);
        assert!(p.is_steady(&rule), "six of nine and three of five");
    }

    #[test]
    fn a_window_of_64_looks_works() {
        let rule = Rule {
            seen_n: 64,
            seen_m: 64,
            ..rule()
        };
        let mut p = Presence::new(0.8, true, false);
        for _ in 0..62 {
            p.saw(&rule, TEN, 0.8, true);
        }
        assert!(!p.is_steady(&rule));
        p.saw(&rule, TEN, 0.8, true);
        assert!(p.is_steady(&rule));
    }

    #[test]
    fn missing_dwell_assumes_one_more_sighting() {
        let mut p = Presence::new(0.8, true, false);
        assert_eq!(p.missing_dwell(&rule()), None, "two of five would not confirm");
        p.saw(&rule(), TEN, 0.8, true);
        assert_eq!(p.missing_dwell(&rule()), Some(Duration::from_secs(50)));
    }

    #[test]
    fn goods_without_a_seller_are_not_attended() {
        let rule = Rule {
            attended: Some(crate::types::Attended {
                labels: vec!["person".into()],
                within: 1.0,
                share: 0.5,
                min_size: 0.0,
            }),
            ..rule()
        };
        let mut p = Presence::new(0.8, true, false);
        p.saw(&rule, TEN, 0.8, false);
        assert!(!p.is_attended(&rule), "one of two");
        for _ in 0..7 {
            p.saw(&rule, TEN, 0.8, false);
            p.saw(&rule, TEN, 0.8, true);
        }
        assert!(p.is_attended(&rule), "eight of 16");
        p.saw(&rule, TEN, 0.8, false);
        assert!(!p.is_attended(&rule));
        p.missed(&rule, TEN);
        p.saw(&rule, TEN, 0.8, true);
        assert!(p.is_attended(&rule), "only looks that saw it count");
    }
}
