//! Tracks: one object seen repeatedly by one camera under one rule, and the association of new detections with them.
//!
//! Looks are 1–60 s apart, too far for motion models, and the objects that matter stay in place. Detections are matched
//! by position and size only; nothing is predicted. What a track means for a case is decided elsewhere.

use jiff::Timestamp;

use serde::{Deserialize, Serialize};

use super::{
    group::DetectionGroup,
    presence::Presence,
    stage::Stage,
    types::{Appearance, BBox, JournalEntry, PhoneNumber},
};

/// Smallest association radius between two looks, in diagonals of the object, whatever its rule allows. Detectors
/// jitter by a fifth of the size; two equal objects side by side, touching, are 0.71 apart.
const MIN_REACH: f64 = 0.45;
/// Smallest area ratio of two boxes of one object: a box halved in both directions by an occluding person, plus jitter.
const MIN_AREA_RATIO: f64 = 0.2;
/// Below this IoU a box lies beside the old one rather than on it.
const NEIGHBOUR_IOU: f64 = 0.3;
/// Two boxes of one look that overlap by this IoU are duplicates (from two models or under two labels). Above the
/// 0.45–0.6 that detectors use for NMS within a label, so that neighbours which NMS kept apart stay apart.
const DUPLICATE_IOU: f64 = 0.6;

/// One tracked object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Track {
    /// Box when it became a candidate; movement is measured from here.
    pub origin: BBox,
    /// Box at the last sighting.
    pub bbox: BBox,
    /// Appearance at the last sighting, if known.
    #[serde(default)]
    pub appearance: Option<Appearance>,
    /// Phone number written on it. Never changes: a different number is a different object.
    #[serde(default)]
    pub number: Option<PhoneNumber>,
    /// Time of the last sighting.
    pub last_seen: Timestamp,
    /// Presence since it became a candidate.
    pub presence: Presence,
    /// Current stage; changed by [`Track::change_stage`] only.
    pub stage: Stage,
    /// Journal entries in the order in which each reason first occurred.
    pub journal: Vec<JournalEntry>,
}

impl Track {
    /// Updates the track with a sighting.
    pub(super) fn update(&mut self, group: &DetectionGroup<'_>, at: Timestamp) {
        self.bbox = group.bbox;
        // Keep the latest appearance: light changes slowly, and a person who stood in front is forgotten at once.
        self.appearance = group.appearance.or(self.appearance);
        if self.number.is_none() {
            self.number.clone_from(&group.number);
        }
        self.last_seen = at;
    }

    /// True if both have a phone number and the numbers differ.
    fn has_other_number(&self, group: &DetectionGroup<'_>) -> bool {
        matches!((&self.number, &group.number), (Some(known), Some(new)) if known != new)
    }

    /// Similarity to `group`; `None` if either has no appearance, or only one of them has colour.
    fn resemblance(&self, group: &DetectionGroup<'_>) -> Option<f64> {
        let (known, new) = self.appearance.zip(group.appearance)?;
        (known.has_colour() == new.has_colour()).then(|| known.resemblance(&new))
    }

    /// Priority among the candidates that wait for the daily cap: mean score × share of looks that saw it × hours
    /// present. `None` if it does not wait.
    pub(super) fn rank(&self) -> Option<f64> {
        matches!(self.stage, Stage::Candidate { waits: true, .. }).then(|| self.presence.priority())
    }
}

/// How well `bbox` continues the box `last`: 0 = no match, up to 1. `reach` is in diagonals of `last`; `resemblance` is
/// given if both appearances can be compared.
pub(super) fn affinity(last: &BBox, bbox: &BBox, reach: f64, resemblance: Option<f64>) -> f64 {
    let (small, large) = (last.area().min(bbox.area()), last.area().max(bbox.area()));
    let (size, shift) = (small / large, last.shift_to(bbox));
    let reach = reach.max(MIN_REACH);
    // Written so that NaN does not match.
    if !(size >= MIN_AREA_RATIO && shift <= reach) {
        return 0.0;
    }
    let overlap = last.iou(bbox);
    // A box beside the old one that looks different is a neighbour. Where the boxes overlap, position counts more than
    // appearance, because a person may stand in front.
    if overlap < NEIGHBOUR_IOU && resemblance.is_some_and(|r| r < Appearance::OTHER_THING) {
        return 0.0;
    }
    // Overlap is the strongest cue where there is any; distance and size decide between boxes that moved off the old
    // one. The weights only rank matches; the checks above decide whether there is a match at all.
    let place = 0.5 * overlap + 0.3 * (1.0 - shift / reach) + 0.2 * size;
    resemblance.map_or(place, |r| 0.75 * place + 0.25 * r)
}

/// The track that each group continues, assigned greedily by best affinity. Ties go to the older track, then to the
/// earlier group.
pub(super) fn associate(tracks: &[Track], groups: &[DetectionGroup<'_>], reach: f64) -> Vec<Option<usize>> {
    let mut pairs = Vec::new();
    for (t, track) in tracks.iter().enumerate() {
        for (s, group) in groups.iter().enumerate() {
            // A misread number starts its own track, is seen once and expires.
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

/// True if `bbox` duplicates one of `others` in the same look.
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
    fn touching_neighbours_keep_their_tracks() {
        let (left, right) = (bbox(0.4, 0.5, 0.1, 0.1), bbox(0.5, 0.5, 0.1, 0.1));
        let tracks = [track(left), track(right)];
        assert_eq!(associate(&tracks, &groups([right, left]), 0.5), [Some(1), Some(0)]);
        assert_eq!(
            associate(&tracks, &groups([right]), 0.5),
            [Some(1)],
            "the left one is occluded, not shifted"
        );
        assert_eq!(
            associate(&tracks[..1], &groups([right]), 0.5),
            [None],
            "a new neighbour is a new object"
        );
    }

    #[test]
    fn the_best_pair_is_assigned_first_whatever_the_order() {
        // The only box is closer to the younger track.
        let tracks = [track(bbox(0.40, 0.5, 0.1, 0.1)), track(bbox(0.44, 0.5, 0.1, 0.1))];
        assert_eq!(associate(&tracks, &groups([bbox(0.43, 0.5, 0.1, 0.1)]), 0.5), [Some(1)]);
        // Ties go to the older track.
        let same = [track(bbox(0.4, 0.5, 0.1, 0.1)), track(bbox(0.4, 0.5, 0.1, 0.1))];
        assert_eq!(associate(&same, &groups([bbox(0.4, 0.5, 0.1, 0.1)]), 0.5), [Some(0)]);
    }

    #[test]
    fn a_half_occluded_object_keeps_its_track() {
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
            "a bag in front of it"
        );
        assert_eq!(affinity(&whole, &bbox(0.7, 0.4, 0.2, 0.2), 0.5, None), 0.0);
        assert!(
            affinity(&whole, &bbox(0.7, 0.4, 0.2, 0.2), 2.0, None) > 0.0,
            "unless its rule allows it to move"
        );
    }

    #[test]
    fn a_neighbour_with_another_appearance_is_not_the_same_object() {
        let (red, green) = ([90, 110, 180].repeat(4), [90, 120, 115].repeat(4));
        let look = |colour: &Vec<u8>| Some(Appearance(colour.clone().try_into().unwrap()));
        let mut known = track(bbox(0.4, 0.5, 0.1, 0.1));
        known.appearance = look(&red);
        let [mut beside, mut on_it] = groups([bbox(0.455, 0.5, 0.1, 0.1), bbox(0.41, 0.5, 0.1, 0.1)]);
        let continues = |group: &DetectionGroup<'_>| {
            associate(std::slice::from_ref(&known), std::slice::from_ref(group), 0.5) == [Some(0)]
        };
        beside.appearance = look(&red);
        assert!(continues(&beside), "shifted by half its width");
        beside.appearance = look(&green);
        assert!(!continues(&beside), "another bag");
        on_it.appearance = look(&green);
        assert!(continues(&on_it), "a person stands in front");
        beside.appearance = look(&[90, 128, 128].repeat(4));
        assert!(continues(&beside), "infrared has no colour to compare");
    }

    #[test]
    fn appearance_decides_between_two_shifted_objects() {
        let look = |v: u8| Some(Appearance([90, 110, v, 90, 110, v, 90, 110, v, 90, 110, v]));
        let mut tracks = [track(bbox(0.40, 0.5, 0.1, 0.1)), track(bbox(0.45, 0.5, 0.1, 0.1))];
        let mut seen = groups([bbox(0.42, 0.5, 0.1, 0.1), bbox(0.43, 0.5, 0.1, 0.1)]);
        assert_eq!(associate(&tracks, &seen, 0.5), [Some(0), Some(1)], "by position alone");
        (tracks[0].appearance, tracks[1].appearance) = (look(180), look(120));
        (seen[0].appearance, seen[1].appearance) = (look(120), look(180));
        assert_eq!(associate(&tracks, &seen, 0.5), [Some(1), Some(0)]);
    }

    #[test]
    fn overlapping_boxes_are_duplicates() {
        let b = bbox(0.4, 0.4, 0.2, 0.2);
        assert!(is_duplicate(&bbox(0.42, 0.4, 0.2, 0.2), [b].iter()));
        assert!(!is_duplicate(&bbox(0.5, 0.4, 0.2, 0.2), [b].iter()));
    }
}
