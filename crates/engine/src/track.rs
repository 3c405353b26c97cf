//! One thing seen again and again by one camera for one rule, and which of the new boxes are it.
//!
//! Looks come 1 to 20 s apart, so there is no motion to follow: things that matter stay. A box is matched by where it lies
//! and how large it is; nothing is predicted, and what a track means for a case is not decided here.

use jiff::Timestamp;

use serde::{Deserialize, Serialize};

use super::{
    group::DetectionGroup,
    presence::Presence,
    stage::Stage,
    types::{Appearance, BBox, JournalEntry, PhoneNumber},
};

/// How far a thing may seem to shift between two looks, in its own diagonals, whatever its rule allows it to move. Detectors
/// jitter by a fifth; two equal things side by side, touching, are 0.71 apart.
const MIN_REACH: f64 = 0.45;
/// Least quotient of two areas that may be one thing: a box halved both ways by somebody standing in front, and jitter.
const MIN_AREA_RATIO: f64 = 0.2;
/// Below this overlap a box is beside the old one rather than on it.
const NEIGHBOUR_IOU: f64 = 0.3;
/// Two boxes of one look that overlap this much are one thing found twice (by two models, or under two labels). Above the
/// 0.45–0.6 at which detectors suppress within a label, so that neighbours they left apart stay apart.
const DUPLICATE_IOU: f64 = 0.6;

/// One thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Track {
    /// Where it was when it became a candidate: movement is measured from here.
    pub origin: BBox,
    /// Where it was last seen.
    pub bbox: BBox,
    /// What it looked like then, where that is known.
    #[serde(default)]
    pub appearance: Option<Appearance>,
    /// The telephone number that is written there. It never changes: another number is another thing.
    #[serde(default)]
    pub number: Option<PhoneNumber>,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// How it was seen since it became a candidate.
    pub presence: Presence,
    /// What it waits for; changed by [`Track::turn`] alone.
    pub stage: Stage,
    /// What it went through, in the order in which each first happened.
    pub journal: Vec<JournalEntry>,
}

impl Track {
    /// It was seen.
    pub(super) fn update(&mut self, group: &DetectionGroup<'_>, at: Timestamp) {
        self.bbox = group.bbox;
        // The newest look of it: light changes slowly, and somebody who stood in front is forgotten at once.
        self.appearance = group.appearance.or(self.appearance);
        if self.number.is_none() {
            self.number.clone_from(&group.number);
        }
        self.last_seen = at;
    }

    /// True where both have a number, and not the same.
    fn has_other_number(&self, group: &DetectionGroup<'_>) -> bool {
        matches!((&self.number, &group.number), (Some(known), Some(new)) if known != new)
    }

    /// How much `group` looks like it; `None` where one of them has no look, or only one has colour.
    fn resemblance(&self, group: &DetectionGroup<'_>) -> Option<f64> {
        let (known, new) = self.appearance.zip(group.appearance)?;
        (known.has_colour() == new.has_colour()).then(|| known.resemblance(&new))
    }

    /// How much it deserves the next place among the day's cases, where it waits for one: its mean score times the share of
    /// looks that saw it times its hours.
    pub(super) fn rank(&self) -> Option<f64> {
        matches!(self.stage, Stage::Candidate { waits: true, .. }).then(|| self.presence.priority())
    }
}

/// How well `bbox` continues what was last seen at `last`: 0 = not at all, up to 1. `reach` in diagonals of `last`;
/// `resemblance` where both were seen well enough to compare what they look like.
pub(super) fn affinity(last: &BBox, bbox: &BBox, reach: f64, resemblance: Option<f64>) -> f64 {
    let (small, large) = (last.area().min(bbox.area()), last.area().max(bbox.area()));
    let (size, shift) = (small / large, last.shift_to(bbox));
    let reach = reach.max(MIN_REACH);
    // Written so that NaN is no match.
    if !(size >= MIN_AREA_RATIO && shift <= reach) {
        return 0.0;
    }
    let overlap = last.iou(bbox);
    // What stands beside the old place and looks otherwise is a neighbour. Where they overlap, the place says more than the
    // look: somebody may stand in front.
    if overlap < NEIGHBOUR_IOU && resemblance.is_some_and(|r| r < Appearance::OTHER_THING) {
        return 0.0;
    }
    // Overlap says most where there is any; closeness and size decide between things that moved off their old boxes. The
    // weights only order matches, the gates above decide whether there is one.
    let place = 0.5 * overlap + 0.3 * (1.0 - shift / reach) + 0.2 * size;
    resemblance.map_or(place, |r| 0.75 * place + 0.25 * r)
}

/// Which track each group continues, best pair first over all, so that no track takes one that is more another's. Ties go to
/// the older track, then to the earlier group.
pub(super) fn associate(tracks: &[Track], groups: &[DetectionGroup<'_>], reach: f64) -> Vec<Option<usize>> {
    let mut pairs = Vec::new();
    for (t, track) in tracks.iter().enumerate() {
        for (s, group) in groups.iter().enumerate() {
            // A number that was misread once is seen once, and forgotten.
            if track.has_other_number(group) {
                continue;
            }
            let affinity = affinity(&track.bbox, &group.bbox, reach, track.resemblance(group));
            if affinity > 0.0 {
                pairs.push((affinity, t, s));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut taken = vec![false; tracks.len()];
    let mut continues = vec![None; groups.len()];
    for (_, t, s) in pairs {
        if !taken[t] && continues[s].is_none() {
            taken[t] = true;
            continues[s] = Some(t);
        }
    }
    continues
}

/// True where `bbox` is the same thing as one of `others`, found twice in one look.
pub(super) fn is_duplicate<'a>(bbox: &BBox, mut others: impl Iterator<Item = &'a BBox>) -> bool {
    others.any(|other| bbox.iou(other) >= DUPLICATE_IOU)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone_match::ZoneMatch;

    fn bbox(x: f32, y: f32, w: f32, h: f32) -> BBox {
        BBox {
            x1: x,
            y1: y,
            x2: x + w,
            y2: y + h,
        }
    }

    fn groups<const N: usize>(boxes: [BBox; N]) -> [DetectionGroup<'static>; N] {
        boxes.map(|bbox| DetectionGroup {
            bbox,
            score: 0.8,
            zone_match: ZoneMatch::default(),
            count: 1,
            appearance: None,
            number: None,
            second_look: None,
        })
    }

    fn track(bbox: BBox) -> Track {
        Track {
            origin: bbox,
            bbox,
            appearance: None,
            number: None,
            last_seen: Timestamp::UNIX_EPOCH,
            presence: Presence::new(0.5, true),
            stage: Stage::Idle,
            journal: Vec::new(),
        }
    }

    #[test]
    fn neighbours_that_touch_do_not_steal_from_each_other() {
        let (left, right) = (bbox(0.4, 0.5, 0.1, 0.1), bbox(0.5, 0.5, 0.1, 0.1));
        let tracks = [track(left), track(right)];
        assert_eq!(associate(&tracks, &groups([right, left]), 0.5), [Some(1), Some(0)]);
        assert_eq!(
            associate(&tracks, &groups([right]), 0.5),
            [Some(1)],
            "the left one is hidden, not shifted"
        );
        assert_eq!(
            associate(&tracks[..1], &groups([right]), 0.5),
            [None],
            "a new neighbour is a new thing"
        );
    }

    #[test]
    fn the_best_pair_is_made_first_whatever_the_order() {
        // The only box is nearer to the younger track.
        let tracks = [track(bbox(0.40, 0.5, 0.1, 0.1)), track(bbox(0.44, 0.5, 0.1, 0.1))];
        assert_eq!(associate(&tracks, &groups([bbox(0.43, 0.5, 0.1, 0.1)]), 0.5), [Some(1)]);
        // Where they tie, the older.
        let same = [track(bbox(0.4, 0.5, 0.1, 0.1)), track(bbox(0.4, 0.5, 0.1, 0.1))];
        assert_eq!(associate(&same, &groups([bbox(0.4, 0.5, 0.1, 0.1)]), 0.5), [Some(0)]);
    }

    #[test]
    fn a_thing_half_hidden_is_still_itself() {
        let whole = bbox(0.4, 0.4, 0.2, 0.2);
        assert!(
            affinity(&whole, &bbox(0.4, 0.4, 0.1, 0.2), 0.5, None) > 0.0,
            "left half"
        );
        assert!(
            affinity(&whole, &bbox(0.5, 0.5, 0.1, 0.1), 0.5, None) > 0.0,
            "one quarter"
        );
        assert_eq!(
            affinity(&whole, &bbox(0.48, 0.48, 0.05, 0.05), 0.5, None),
            0.0,
            "a bag that lies in front"
        );
        assert_eq!(affinity(&whole, &bbox(0.7, 0.4, 0.2, 0.2), 0.5, None), 0.0);
        assert!(
            affinity(&whole, &bbox(0.7, 0.4, 0.2, 0.2), 2.0, None) > 0.0,
            "unless its rule lets it walk"
        );
    }

    #[test]
    fn a_neighbour_that_looks_otherwise_is_not_the_thing_come_closer() {
        let (red, green) = ([90, 110, 180].repeat(4), [90, 120, 115].repeat(4));
        let look = |colour: &Vec<u8>| Some(Appearance(colour.clone().try_into().unwrap()));
        let mut known = track(bbox(0.4, 0.5, 0.1, 0.1));
        known.appearance = look(&red);
        let [mut beside, mut on_it] = groups([bbox(0.455, 0.5, 0.1, 0.1), bbox(0.41, 0.5, 0.1, 0.1)]);
        let continues =
            |group: &DetectionGroup<'_>| associate(std::slice::from_ref(&known), std::slice::from_ref(group), 0.5) == [Some(0)];
        beside.appearance = look(&red);
        assert!(continues(&beside), "it shifted by half its width");
        beside.appearance = look(&green);
        assert!(!continues(&beside), "another bag");
        on_it.appearance = look(&green);
        assert!(continues(&on_it), "somebody stands in front");
        beside.appearance = look(&[90, 128, 128].repeat(4));
        assert!(continues(&beside), "by infrared there is nothing to compare");
    }

    #[test]
    fn of_two_that_shifted_the_alike_are_paired() {
        let look = |v: u8| Some(Appearance([90, 110, v, 90, 110, v, 90, 110, v, 90, 110, v]));
        let mut tracks = [track(bbox(0.40, 0.5, 0.1, 0.1)), track(bbox(0.45, 0.5, 0.1, 0.1))];
        let mut seen = groups([bbox(0.42, 0.5, 0.1, 0.1), bbox(0.43, 0.5, 0.1, 0.1)]);
        assert_eq!(associate(&tracks, &seen, 0.5), [Some(0), Some(1)], "by place alone");
        (tracks[0].appearance, tracks[1].appearance) = (look(180), look(120));
        (seen[0].appearance, seen[1].appearance) = (look(120), look(180));
        assert_eq!(associate(&tracks, &seen, 0.5), [Some(1), Some(0)]);
    }

    #[test]
    fn twice_found_is_one() {
        let b = bbox(0.4, 0.4, 0.2, 0.2);
        assert!(is_duplicate(&bbox(0.42, 0.4, 0.2, 0.2), [b].iter()));
        assert!(!is_duplicate(&bbox(0.5, 0.4, 0.2, 0.2), [b].iter()));
    }
}
