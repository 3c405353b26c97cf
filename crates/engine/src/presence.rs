//! Whether a thing is really there: hysteresis, n of m, share of looks, and dwell in wall-clock time.
//!
//! Only clear looks come here. Time counts between two consecutive looks that were both clear and not too far apart; what
//! lies between others is blind, and a blind interval is neither presence nor absence: it changes nothing at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::types::{Reason, Rule};

/// Shares are quotients of small counts: this is far below the least difference of two of them.
const SHARE_EPSILON: f64 = 1e-6;

/// The time since a camera's clear look before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nobody knows what was there meanwhile.
    Blind,
    /// It was looked at.
    Watched(Duration),
    /// The camera looked elsewhere on its tour: what is there again was there meanwhile, and nothing has left by that.
    Away(Duration),
}

impl Step {
    /// Without the thing at both of its ends, so much of it was without the thing.
    pub(super) fn known(self) -> Duration {
        match self {
            Self::Blind => Duration::ZERO,
            Self::Watched(time) | Self::Away(time) => time,
        }
    }
}

/// What a track's clear looks add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Presence {
    /// Presence so far. Whole occlusions count once it was seen again.
    dwell: Duration,
    /// Clear time since it was last seen.
    unseen: Duration,
    /// Time since then that the camera looked elsewhere.
    #[serde(default)]
    away: Duration,
    looks: u32,
    seen: u32,
    /// Looks at which it counted as present.
    present: u32,
    /// It counted so at the newest.
    is_present: bool,
    /// The rule rested at the newest look.
    is_resting: bool,
    /// The newest 64 looks, the newest in bit 0; 1 = seen.
    window: u64,
    scores: f64,
    /// Looks that saw it with somebody by.
    attended: u32,
}

impl Presence {
    /// The first look that saw it.
    pub(super) fn begin(score: f32, attended: bool) -> Self {
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
        }
    }

    /// A clear look saw it. Says what that changed.
    pub(super) fn saw(&mut self, rule: &Rule, step: Step, score: f32, attended: bool) -> Option<Reason> {
        self.pass(step);
        self.stayed();
        self.looks = self.looks.saturating_add(1);
        self.seen = self.seen.saturating_add(1);
        self.window = self.window << 1 | 1;
        self.scores += f64::from(score);
        self.attended = self.attended.saturating_add(attended.into());
        self.count(rule)
    }

    /// A clear look did not see it. Says what that changed.
    pub(super) fn missed(&mut self, rule: &Rule, step: Step) -> Option<Reason> {
        self.pass(step);
        self.looks = self.looks.saturating_add(1);
        self.window <<= 1;
        self.count(rule)
    }

    /// A clear look while the rule rests: it counts for nothing, but the time before it does, as far as the rule worked.
    pub(super) fn passed(&mut self, step: Step, is_seen: bool) -> Option<Reason> {
        self.pass(step);
        if is_seen {
            self.stayed();
        }
        let rested = std::mem::replace(&mut self.is_resting, true);
        (!rested).then_some(Reason::Rested)
    }

    fn pass(&mut self, step: Step) {
        match step {
            Step::Blind => {}
            Step::Watched(time) => self.unseen += time,
            Step::Away(time) => self.away += time,
        }
    }

    /// It is seen again: it was there all the time.
    fn stayed(&mut self) {
        self.dwell += std::mem::take(&mut self.unseen) + std::mem::take(&mut self.away);
    }

    /// Whether it counts as present at the newest look: missed in no more than m − n of the newest m, so that one flicker of
    /// a detector is no absence. Looks before the first did not miss it.
    fn count(&mut self, rule: &Rule) -> Option<Reason> {
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

    /// How many of the newest m looks saw it, and how many of these there were.
    fn newest(&self, rule: &Rule) -> (u32, u32) {
        let newest = u64::MAX >> (64 - rule.seen_m.clamp(1, 64));
        ((self.window & newest).count_ones(), self.looks.min(rule.seen_m))
    }

    /// It has left, as far as clear looks can tell.
    pub(super) fn is_gone(&self, rule: &Rule) -> bool {
        self.unseen >= rule.forget_after
    }

    /// It stayed as long as the rule asks.
    pub(super) fn has_dwelt(&self, rule: &Rule) -> bool {
        self.dwell >= rule.dwell
    }

    /// It is there: seen in n of the newest m looks, and present in the share of all.
    pub(super) fn is_steady(&self, rule: &Rule) -> bool {
        self.newest(rule).0 >= rule.seen_n
            && f64::from(self.present) / f64::from(self.looks) + SHARE_EPSILON >= rule.present_share.into()
    }

    /// Somebody stood by it as often as the rule asks.
    pub(super) fn is_attended(&self, rule: &Rule) -> bool {
        rule.attended
            .as_ref()
            .is_none_or(|by| f64::from(self.attended) / f64::from(self.seen) + SHARE_EPSILON >= by.share.into())
    }

    /// What is missing to the rule's dwell, if one more sighting would then be enough; `None` where it would not, or
    /// nothing is missing.
    pub(super) fn almost(&self, rule: &Rule) -> Option<Duration> {
        let mut next = self.clone();
        next.saw(rule, Step::Blind, 0.0, true);
        let missing = rule.dwell.saturating_sub(self.dwell);
        (!missing.is_zero() && next.is_steady(rule) && next.is_attended(rule)).then_some(missing)
    }

    /// Seen presence, blind time left out.
    pub(super) fn dwell(&self) -> Duration {
        self.dwell
    }

    /// Clear looks since the first, and those of them that saw it.
    pub(super) fn looks(&self) -> (u32, u32) {
        (self.looks, self.seen)
    }

    /// Confidence × persistence: mean score, share of looks, hours.
    pub(super) fn weight(&self) -> f64 {
        f64::from(self.confidence()) * f64::from(self.seen) / f64::from(self.looks) * self.dwell.as_secs_f64() / 3600.0
    }

    /// Mean score of the looks that saw it.
    pub(super) fn confidence(&self) -> f32 {
        (self.scores / f64::from(self.seen)) as f32
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::types::{Category, Scores};

    pub(crate) fn rule() -> Rule {
        Rule {
            id: "garbage".into(),
            category: Category {
                code: "0102".into(),
                scheme: "test@1".into(),
                name_zh: "暴露垃圾".into(),
                name_en: "Exposed garbage".into(),
            },
            labels: vec!["garbage".into()],
            day: Scores { start: 0.5, keep: 0.3 },
            night: Scores { start: 0.5, keep: 0.3 },
            dwell: Duration::from_secs(60),
            seen_n: 3,
            seen_m: 5,
            present_share: 0.6,
            max_move: 0.5,
            max_move_m: None,
            min_area_m2: None,
            min_count: None,
            gather: 0.0,
            attended: None,
            second_look: None,
            min_area: 0.0005,
            forget_after: Duration::from_secs(120),
            max_gap: Duration::from_secs(90),
            merge_radius_m: 8.0,
            outside_containers: true,
            beyond: None,
            stands: crate::Stands::Ground,
            except_approved: false,
            hours: crate::calendar::Hours::default(),
        }
    }

    const TEN: Step = Step::Watched(Duration::from_secs(10));

    #[test]
    fn an_occlusion_counts_once_it_was_seen_again() {
        let mut p = Presence::begin(0.8, true);
        p.saw(&rule(), TEN, 0.6, true);
        p.missed(&rule(), TEN);
        p.missed(&rule(), TEN);
        assert_eq!(p.dwell(), Duration::from_secs(10), "not before");
        p.saw(&rule(), TEN, 0.7, true);
        assert_eq!(p.dwell(), Duration::from_secs(40));
        assert_eq!(p.looks(), (5, 3));
        assert!((p.confidence() - 0.7).abs() < 1e-6);
    }

    #[test]
    fn blind_time_is_neither_presence_nor_absence() {
        let mut p = Presence::begin(0.8, true);
        p.saw(&rule(), Step::Blind, 0.8, true);
        assert_eq!(p.dwell(), Duration::ZERO);
        for _ in 0..100 {
            p.missed(&rule(), Step::Blind);
        }
        assert!(!p.is_gone(&rule()), "nobody looked away from it");
        for _ in 0..12 {
            p.missed(&rule(), TEN);
        }
        assert!(p.is_gone(&rule()));
    }

    #[test]
    fn time_away_counts_once_it_is_seen_again_and_makes_nothing_leave() {
        let tour = Step::Away(Duration::from_mins(10));
        let mut p = Presence::begin(0.8, true);
        p.missed(&rule(), tour);
        assert_eq!(p.dwell(), Duration::ZERO, "nobody knows yet whether it stayed");
        assert!(!p.is_gone(&rule()), "one miss after a tour is a flicker");
        p.saw(&rule(), TEN, 0.8, true);
        assert_eq!(p.dwell(), Duration::from_secs(610));
        for _ in 0..11 {
            p.missed(&rule(), TEN);
        }
        p.missed(&rule(), tour);
        assert!(!p.is_gone(&rule()));
        p.missed(&rule(), TEN);
        assert!(p.is_gone(&rule()), "two minutes of looks without it");
    }

    #[test]
    fn n_of_m_and_share_are_both_asked() {
        let rule = rule();
        let mut p = Presence::begin(0.8, true);
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
    fn all_64_looks_can_be_asked() {
        let rule = Rule {
            seen_n: 64,
            seen_m: 64,
            ..rule()
        };
        let mut p = Presence::begin(0.8, true);
        for _ in 0..62 {
            p.saw(&rule, TEN, 0.8, true);
        }
        assert!(!p.is_steady(&rule));
        p.saw(&rule, TEN, 0.8, true);
        assert!(p.is_steady(&rule));
    }

    #[test]
    fn almost_means_one_more_sighting_decides() {
        let mut p = Presence::begin(0.8, true);
        assert_eq!(p.almost(&rule()), None, "two of five would not decide");
        p.saw(&rule(), TEN, 0.8, true);
        assert_eq!(p.almost(&rule()), Some(Duration::from_secs(50)));
    }

    #[test]
    fn goods_that_nobody_sells_are_not_attended() {
        let rule = Rule {
            attended: Some(crate::types::Attended {
                labels: vec!["person".into()],
                within: 1.0,
                share: 0.5,
            }),
            ..rule()
        };
        let mut p = Presence::begin(0.8, true);
        p.saw(&rule, TEN, 0.8, false);
        assert!(p.is_attended(&rule), "one of two");
        p.saw(&rule, TEN, 0.8, false);
        assert!(!p.is_attended(&rule));
        p.missed(&rule, TEN);
        p.saw(&rule, TEN, 0.8, true);
        assert!(p.is_attended(&rule), "what was not seen is not asked");
    }
}
