//! Tracks: one object seen repeatedly by one camera under one rule, and the association of new detections with them.
//!
//! Looks are 1–60 s apart, too far for motion models, and the objects that matter stay in place. Detections are matched
//! by position and size only; nothing is predicted. A track owns its stage and keeps to the table of transitions; which
//! transition it makes is decided elsewhere.

use jiff::Timestamp;

use serde::{Deserialize, Serialize};

use super::{
    group::DetectionGroup,
    presence::Presence,
    stage::{Candidate, Phase, Stage, transition},
    types::{
        AdvertIdentity, Appearance, BBox, CameraId, Effect, JournalEntry, NotFiled, PhoneNumber, Reason, RuleId,
        TextReading,
    },
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
    /// Text on it: the newest of the readings with the highest score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextReading>,
    /// Time of the last sighting.
    pub last_seen: Timestamp,
    /// Presence since it became a candidate.
    pub presence: Presence,
    /// Who was near it in its newest sightings, the newest first; empty unless its rule requires an attendant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    attendants: Vec<Vec<BBox>>,
    /// Changed by [`Track::change_stage`] only.
    stage: Stage,
    /// In the order in which each reason first occurred.
    journal: Vec<JournalEntry>,
}

/// What a transition of a track is reported with, and where.
pub(super) struct TransitionContext<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) rule: &'a RuleId,
    pub(super) at: Timestamp,
    pub(super) effects: &'a mut Vec<Effect>,
}

impl<'a> TransitionContext<'a> {
    pub(super) fn new(camera: &'a CameraId, rule: &'a RuleId, at: Timestamp, effects: &'a mut Vec<Effect>) -> Self {
        Self {
            camera,
            rule,
            at,
            effects,
        }
    }

    /// The same for a shorter time, to be used again afterwards.
    pub(super) fn reborrow(&mut self) -> TransitionContext<'_> {
        TransitionContext::new(self.camera, self.rule, self.at, self.effects)
    }

    /// Reports a transition or an event.
    pub(super) fn emit(&mut self, reason: Reason) {
        let (camera, rule, at) = (self.camera.clone(), self.rule.clone(), self.at);
        self.effects.push(match reason {
            Reason::NotFiled(reason) => Effect::NotFiled {
                camera,
                rule,
                reason,
                at,
            },
            reason => Effect::Transition {
                camera,
                rule,
                reason,
                at,
            },
        });
    }

    /// Reports a transition or event that the table does not allow.
    fn refuse(&mut self, from: Phase, reason: Reason) {
        self.effects.push(Effect::TransitionRefused {
            camera: self.camera.clone(),
            rule: self.rule.clone(),
            stage: from.as_str(),
            reason,
            at: self.at,
        });
    }
}

/// Sightings whose attendants are remembered.
const REMEMBERED: usize = 3;
/// Overlap of the boxes of one person who stays, from sighting to sighting.
const SAME_PERSON_IOU: f64 = 0.3;
/// Attendants remembered for one sighting; a crowd is more than one can stand beside.
const MAX_ATTENDANTS: usize = 8;

impl Track {
    /// True if somebody `near` it was there before: who passes does not attend. True without a requirement.
    pub(super) fn is_attended(&mut self, near: Option<Vec<BBox>>) -> bool {
        let Some(mut near) = near else { return true };
        near.truncate(MAX_ATTENDANTS);
        let was_there = |now: &BBox| {
            let mut before = self.attendants.iter().flatten();
            before.any(|b| b.iou(now) >= SAME_PERSON_IOU)
        };
        let is_attended = near.iter().any(was_there);
        self.attendants.insert(0, near);
        self.attendants.truncate(REMEMBERED);
        is_attended
    }

    /// A new track, idle, from its first sighting.
    pub(super) fn new(group: &DetectionGroup<'_>, at: Timestamp, attended: bool) -> Self {
        Self {
            origin: group.bbox,
            bbox: group.bbox,
            appearance: group.appearance,
            number: group.number.clone(),
            text: group.text.clone(),
            last_seen: at,
            presence: Presence::new(group.score, attended, group.is_unknown),
            attendants: Vec::new(),
            stage: Stage::Idle,
            journal: Vec::new(),
        }
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    pub(super) fn journal(&self) -> &[JournalEntry] {
        &self.journal
    }

    /// The candidate, if it is one.
    pub(super) fn candidate(&self) -> Option<&Candidate> {
        match &self.stage {
            Stage::Candidate(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// As [`candidate`](Self::candidate), for what changes without a transition.
    pub(super) fn candidate_mut(&mut self) -> Option<&mut Candidate> {
        match &mut self.stage {
            Stage::Candidate(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// Moves to `stage` for `reason`, if the table allows it: records the reason in the journal, emits it, and unpins
    /// the candidate's picture when it is no longer needed. An illegal transition is refused and reported as
    /// [`Effect::TransitionRefused`]; the track stays as it is. Returns whether it moved.
    pub(super) fn change_stage(&mut self, stage: Stage, reason: Reason, mut context: TransitionContext<'_>) -> bool {
        let from = self.stage.phase();
        if transition(from, reason) != Some(stage.phase()) {
            context.refuse(from, reason);
            return false;
        }
        self.log(reason, context.at);
        context.emit(reason);
        self.set_stage(stage, reason, context);
        true
    }

    /// Records an event that does not change the stage. One that the table does not allow is refused and reported.
    pub(super) fn record_event(&mut self, reason: Reason, mut context: TransitionContext<'_>) {
        let phase = self.stage.phase();
        if transition(phase, reason) != Some(phase) {
            context.refuse(phase, reason);
            return;
        }
        self.log(reason, context.at);
        context.emit(reason);
    }

    /// Ends the track. A candidate ends with `reason`, any other stage with [`Reason::Left`].
    ///
    /// An end that the table does not allow is reported instead, but the track ends all the same: the caller drops it,
    /// and its picture must not stay pinned.
    pub(super) fn end(&mut self, reason: NotFiled, mut context: TransitionContext<'_>) {
        let from = self.stage.phase();
        let reason = match self.stage {
            Stage::Candidate(_) => Reason::NotFiled(reason),
            _ => Reason::Left,
        };
        if transition(from, reason) == Some(Phase::Gone) {
            self.log(reason, context.at);
            context.emit(reason);
        } else {
            context.refuse(from, reason);
        }
        self.set_stage(Stage::Idle, reason, context);
    }

    /// Ends a track of a snapshot before its picture is pinned again, so that there is nothing to unpin.
    pub(super) fn discard(&mut self, context: TransitionContext<'_>) {
        self.stage = Stage::Idle;
        self.end(NotFiled::Reconfigured, context);
    }

    fn set_stage(&mut self, stage: Stage, reason: Reason, context: TransitionContext<'_>) {
        let before = std::mem::replace(&mut self.stage, stage);
        let Stage::Candidate(candidate) = before else { return };
        let keeps_picture = matches!(self.stage, Stage::Candidate(_))
            // Handed over with the case.
            || reason == Reason::Confirmed
            // There is no picture left to unpin.
            || reason == Reason::PictureLost;
        if !keeps_picture {
            context.effects.push(Effect::Unpin {
                camera: context.camera.clone(),
                at: candidate.first().at,
            });
        }
    }

    /// Keeps one entry per reason, so that an object that flickers for days does not grow its journal.
    fn log(&mut self, reason: Reason, at: Timestamp) {
        match self.journal.iter_mut().find(|entry| entry.reason == reason) {
            Some(entry) => {
                entry.last_at = at;
                entry.times = entry.times.saturating_add(1);
            }
            None => self.journal.push(JournalEntry {
                reason,
                first_at: at,
                last_at: at,
                times: 1,
            }),
        }
    }

    /// Updates the track with a sighting.
    pub(super) fn update(&mut self, group: &DetectionGroup<'_>, at: Timestamp) {
        self.bbox = group.bbox;
        // Keep the latest appearance: light changes slowly, and a person who stood in front is forgotten at once.
        self.appearance = group.appearance.or(self.appearance);
        if self.number.is_none() {
            self.number.clone_from(&group.number);
        }
        if let Some(read) = &group.text
            && self.text.as_ref().is_none_or(|known| read.score >= known.score)
        {
            self.text = Some(read.clone());
        }
        self.last_seen = at;
    }

    /// True if both were read and are different adverts.
    fn is_other_advert(&self, group: &DetectionGroup<'_>) -> bool {
        let known = AdvertIdentity {
            number: self.number.as_ref(),
            text: self.text.as_ref().map(|t| &t.text),
        };
        known.differs_from(&group.identity())
    }

    /// Similarity to `group`; `None` if either has no appearance, or only one of them has colour.
    fn resemblance(&self, group: &DetectionGroup<'_>) -> Option<f64> {
        let (known, new) = self.appearance.zip(group.appearance)?;
        (known.has_colour() == new.has_colour()).then(|| known.resemblance(&new))
    }

    /// Priority among the candidates that wait for the daily cap: mean score × share of looks that saw it × hours
    /// present. `None` if it does not wait.
    pub(super) fn rank(&self) -> Option<f64> {
        self.candidate()?.waits().then(|| self.presence.priority())
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
    if overlap < NEIGHBOUR_IOU && resemblance.is_some_and(|r| r < Appearance::DIFFERENT_OBJECT) {
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
            if track.is_other_advert(group) {
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
    use crate::{stage::Sighting, zone_match::ZoneMatch};

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
            text: None,
            second_look: None,
            newness: None,
            is_unknown: false,
        })
    }

    fn track(bbox: BBox) -> Track {
        let [group] = groups([bbox]);
        Track::new(&group, Timestamp::UNIX_EPOCH, true)
    }

    #[test]
    fn an_illegal_transition_is_refused_and_reported() {
        let (camera, rule, at) = ("gate".into(), "garbage".into(), Timestamp::UNIX_EPOCH);
        let mut effects = Vec::new();
        let mut track = track(bbox(0.4, 0.5, 0.1, 0.1));
        let context = TransitionContext::new(&camera, &rule, at, &mut effects);
        assert!(!track.change_stage(Stage::AtCase("case".into()), Reason::Confirmed, context));
        track.record_event(Reason::Hidden, TransitionContext::new(&camera, &rule, at, &mut effects));
        assert_eq!((track.stage(), track.journal()), (&Stage::Idle, &[][..]));
        let refused = |reason| Effect::TransitionRefused {
            camera: camera.clone(),
            rule: rule.clone(),
            stage: "idle",
            reason,
            at,
        };
        assert_eq!(effects, [refused(Reason::Confirmed), refused(Reason::Hidden)]);
    }

    #[test]
    fn an_illegal_end_is_reported_and_unpins_the_picture() {
        let (camera, rule, at) = ("gate".into(), "garbage".into(), Timestamp::UNIX_EPOCH);
        let mut effects = Vec::new();
        let mut track = track(bbox(0.4, 0.5, 0.1, 0.1));
        let first = Sighting { at, bbox: track.bbox };
        let candidate = Stage::Candidate(Candidate::new(first, None));
        let context = TransitionContext::new(&camera, &rule, at, &mut effects);
        assert!(track.change_stage(candidate, Reason::Appeared, context));
        effects.clear();
        // Only waiting candidates leave while waiting.
        let context = TransitionContext::new(&camera, &rule, at, &mut effects);
        track.end(NotFiled::LeftWhileWaiting, context);
        let [
            Effect::TransitionRefused { stage, reason, .. },
            Effect::Unpin { at: unpinned, .. },
        ] = &effects[..]
        else {
            panic!("{effects:?}")
        };
        let left = Reason::NotFiled(NotFiled::LeftWhileWaiting);
        assert_eq!((*stage, *reason, *unpinned), ("candidate", left, at));
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
