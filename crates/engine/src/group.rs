//! Groups detections that form one object for a rule (the bags of a heap, the table and parasol of a stall), and tells
//! whether an object is attended.
//!
//! Works on a single look; `track` associates looks with each other.

use super::{
    types::{
        AdvertIdentity, Appearance, Attended, BBox, CameraPlan, Detection, Newness, PhoneNumber, Rule, TextReading,
    },
    zone_match::ZoneMatch,
};

/// An object at one look: one detection, or several that belong together.
#[derive(Debug, Clone)]
pub(super) struct DetectionGroup<'a> {
    /// Union of their boxes, without regions of change beside what was recognised: a shadow, or someone's bag, must not move a stall.
    pub bbox: BBox,
    /// Score of the most confident one.
    pub score: f32,
    /// Zone match of the most confident one whose box counts.
    pub zone_match: ZoneMatch<'a>,
    /// Number of boxes that count.
    pub count: u32,
    /// Appearance of the most confident one.
    pub appearance: Option<Appearance>,
    /// Phone number on the most confident one.
    pub number: Option<PhoneNumber>,
    /// Text on it: of those read on its members, the one with the highest score.
    pub text: Option<TextReading>,
    /// Highest score of the rule's second look at any of them.
    pub second_look: Option<f32>,
    /// Newness of the newest one, and the earliest time of any.
    pub newness: Option<Newness>,
    /// None of them was recognised: all are [`Label::object`](super::types::Label::object).
    pub is_unknown: bool,
}

impl DetectionGroup<'_> {
    /// What tells it from other adverts.
    pub(super) fn identity(&self) -> AdvertIdentity<'_> {
        AdvertIdentity {
            number: self.number.as_ref(),
            text: self.text.as_ref().map(|t| &t.text),
        }
    }

    /// One object of two groups, of which `other` has the lower score.
    fn joined_by(self, other: Self) -> Self {
        match (self.is_unknown, other.is_unknown) {
            (false, true) if is_beside(&self.bbox, &other.bbox) => return self,
            (true, false) if is_beside(&other.bbox, &self.bbox) => return other,
            _ => {}
        }
        let (bbox, zone_match, count) = match (self.is_unknown, other.is_unknown) {
            (false, true) if !is_detail(&self.bbox, &other.bbox) => (self.bbox, self.zone_match, self.count),
            (true, false) if !is_detail(&other.bbox, &self.bbox) => (other.bbox, other.zone_match, other.count),
            _ => (self.bbox.union(&other.bbox), self.zone_match, self.count + other.count),
        };
        Self {
            bbox,
            zone_match,
            count,
            second_look: [self.second_look, other.second_look]
                .into_iter()
                .flatten()
                .reduce(f32::max),
            newness: [self.newness, other.newness].into_iter().flatten().reduce(newest),
            is_unknown: self.is_unknown && other.is_unknown,
            text: [&self.text, &other.text]
                .into_iter()
                .flatten()
                .max_by(|a, b| a.score.total_cmp(&b.score))
                .cloned(),
            ..self
        }
    }

    /// Takes over what `duplicate`, a box of the same thing with a lower score, tells more: what it is, and its edges. Those of a region of
    /// change are a guess.
    pub(super) fn recognise(&mut self, duplicate: &Self) {
        if self.is_unknown && !duplicate.is_unknown {
            (self.bbox, self.zone_match, self.is_unknown) = (duplicate.bbox, duplicate.zone_match, false);
        }
    }
}

/// Merges groups (sorted by score, highest first) whose gap is at most `reach` diagonals of the larger box,
/// transitively. A merged group keeps the position of its most confident member.
pub(super) fn merge_nearby(groups: &mut Vec<DetectionGroup<'_>>, reach: f64) {
    if reach <= 0.0 {
        return;
    }
    let mut joined: Vec<DetectionGroup<'_>> = Vec::with_capacity(groups.len());
    for group in groups.drain(..) {
        let mut whole = group;
        // A group may bridge two that were apart, and the union reaches farther, so repeat until nothing more joins.
        let mut place = joined.len();
        while let Some(i) = joined
            .iter()
            .position(|j| are_near(&j.bbox, &whole.bbox, reach) && !j.identity().differs_from(&whole.identity()))
        {
            let other = joined.remove(i);
            place = place.min(i);
            // The earlier one has the higher score.
            whole = if i <= place && other.score >= whole.score {
                other.joined_by(whole)
            } else {
                whole.joined_by(other)
            };
        }
        joined.insert(place.min(joined.len()), whole);
    }
    *groups = joined;
}

/// Share of a box that is most of it.
const MOSTLY: f64 = 0.5;

/// True if the region shows something else than what was recognised: neither is most of the other. It says nothing about that, not even
/// that it is new.
fn is_beside(recognised: &BBox, region: &BBox) -> bool {
    recognised.share_in(region) < MOSTLY && region.share_in(recognised) < MOSTLY
}

/// True if what was recognised is a detail of what the region shows: the print on a board, or the parasol of a stall. A box as large as most
/// of the region is a better outline of the same thing, and one beside it is another thing.
fn is_detail(recognised: &BBox, region: &BBox) -> bool {
    recognised.share_in(region) >= MOSTLY && region.share_in(recognised) < MOSTLY
}

/// The larger share, and the earlier time.
fn newest(a: Newness, b: Newness) -> Newness {
    Newness {
        share: a.share.max(b.share),
        since: [a.since, b.since].into_iter().flatten().min(),
    }
}

/// The boxes of the detections with one of the labels and at least `least_score` that are close enough to the object at `bbox`, and not too
/// large for it.
pub(super) fn attendants(bbox: &BBox, by: &Attended, detections: &[Detection], least_score: f32) -> Vec<BBox> {
    detections
        .iter()
        .filter(|d| d.score >= least_score && by.labels.contains(&d.label))
        .filter(|d| gap(bbox, &d.bbox) <= f64::from(by.within))
        .filter(|d| bbox.area() >= f64::from(by.min_size) * d.bbox.area())
        .map(|d| d.bbox)
        .collect()
}

/// Share of an object that a detection of another rule's label must cover. A region of change is a third to three times as large as a thing.
const TAKEN_SHARE: f64 = 0.3;

/// True if a network takes a good part of the object at `bbox` for one of the rule's exceptions.
pub(super) fn is_taken_for_other(rule: &Rule, bbox: &BBox, detections: &[Detection]) -> bool {
    let Some(except) = &rule.except_labels else {
        return false;
    };
    let others = detections
        .iter()
        .filter(|d| d.score >= except.score && except.labels.contains(&d.label));
    others
        .map(|d| d.bbox.intersection_area(bbox))
        .any(|common| common >= TAKEN_SHARE * bbox.area() && common > 0.0)
}

/// Width on the ground of the object at `bbox`, in metres; `None` without a calibration, for objects on walls, or if
/// its foot is not on the ground.
pub(super) fn width_m(rule: &Rule, camera: &CameraPlan, bbox: &BBox) -> Option<f64> {
    let calibration = rule.calibration(camera)?;
    let foot = bbox.foot();
    let corner = |x: f32| {
        let at = super::types::Point { x: x.into(), ..foot };
        calibration.ground(at).map(|(at, _)| at)
    };
    Some(super::geometry::distance_m(corner(bbox.x1)?, corner(bbox.x2)?))
}

/// Ground area in m², taking an object to be as deep as it is wide: a single view does not show depth.
pub(super) fn area_m2(rule: &Rule, camera: &CameraPlan, bbox: &BBox) -> Option<f64> {
    width_m(rule, camera, bbox).map(|w| w * w)
}

/// Whether it meets the rule's minimum area in the picture, and its minimum ground area (if the area is known) or minimum number of parts.
pub(super) fn is_large_enough(rule: &Rule, camera: &CameraPlan, group: &DetectionGroup<'_>) -> bool {
    if group.bbox.area() < rule.min_area.into() {
        return false;
    }
    let by_count = rule.min_count.map(|least| group.count >= least);
    let by_area = rule
        .min_area_m2
        .and_then(|least| area_m2(rule, camera, &group.bbox).map(|area| area >= least));
    match (by_count, by_area) {
        (None, None) => true,
        (count, area) => count == Some(true) || area == Some(true),
    }
}

fn are_near(a: &BBox, b: &BBox, reach: f64) -> bool {
    let (large, small) = if a.area() >= b.area() { (a, b) } else { (b, a) };
    gap(large, small) <= reach
}

/// Gap between two boxes in diagonals of the first, measured per axis in its own size as [`BBox::shift_to`] does; 0 if
/// they touch or overlap, infinite if the first has no area.
fn gap(of: &BBox, to: &BBox) -> f64 {
    if of.area() <= 0.0 {
        return f64::INFINITY;
    }
    let apart = |low: f32, high: f32, other_low: f32, other_high: f32| {
        (f64::from(other_low) - f64::from(high))
            .max(f64::from(low) - f64::from(other_high))
            .max(0.0)
    };
    let x = apart(of.x1, of.x2, to.x1, to.x2) / of.width();
    let y = apart(of.y1, of.y2, to.y1, to.y2) / of.height();
    x.hypot(y) / std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(x: f32, score: f32) -> DetectionGroup<'static> {
        DetectionGroup {
            bbox: BBox {
                x1: x,
                y1: 0.5,
                x2: x + 0.1,
                y2: 0.6,
            },
            score,
            zone_match: ZoneMatch::default(),
            count: 1,
            appearance: None,
            number: None,
            text: None,
            second_look: None,
            newness: None,
            is_unknown: false,
        }
    }

    fn spans(groups: &[DetectionGroup<'_>]) -> Vec<(f32, f32, u32, f32)> {
        groups
            .iter()
            .map(|s| (s.bbox.x1, s.bbox.x2, s.count, s.score))
            .collect()
    }

    #[test]
    fn touching_bags_are_one_heap_and_a_distant_one_is_another() {
        let mut groups = vec![group(0.7, 0.9), group(0.10, 0.8), group(0.21, 0.5)];
        merge_nearby(&mut groups, 0.3);
        assert_eq!(spans(&groups), [(0.7, 0.8, 1, 0.9), (0.10, 0.31, 2, 0.8)]);
    }

    #[test]
    fn a_box_between_two_joins_all_three() {
        let mut groups = vec![group(0.1, 0.9), group(0.34, 0.8), group(0.22, 0.5)];
        merge_nearby(&mut groups, 0.2);
        assert_eq!(spans(&groups), [(0.1, 0.44, 3, 0.9)]);
    }

    #[test]
    fn nothing_is_merged_with_zero_reach() {
        let mut groups = vec![group(0.1, 0.9), group(0.2, 0.8)];
        merge_nearby(&mut groups, 0.0);
        assert_eq!(groups.len(), 2);
    }

    #[test]
    fn an_attendant_is_near_confident_and_of_the_label() {
        let by = Attended {
            labels: vec!["person".into()],
            within: 0.5,
            share: 0.5,
            min_size: 0.0,
        };
        let stall = group(0.4, 0.9).bbox;
        let person = |label: &str, x: f32, score| Detection::new(label, score, group(x, score).bbox);
        let is_attended = |person: Detection| !attendants(&stall, &by, &[person], 0.4).is_empty();
        assert!(is_attended(person("person", 0.52, 0.6)));
        assert!(!is_attended(person("person", 0.58, 0.6)), "0.57 diagonals away");
        assert!(!is_attended(person("person", 0.52, 0.3)));
        assert!(!is_attended(person("dog", 0.52, 0.6)));
    }
}
