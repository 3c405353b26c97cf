//! Recognises the preset that a touring PTZ camera points at.
//!
//! The camera's own position reports are not used. A look that shows the learned view of a preset in its place belongs to that
//! preset; any other look belongs to none and is not judged. That covers frames while the camera turns, presets that were
//! moved, and a camera under manual control.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{AimLimits, EdgeField, LEARN_LOOKS, Luma, MIN_STRUCTURE_TO_LEARN, Reference, ReferenceSet, ViewMatch};
use gridwatch_engine::Light;

/// Number of looks within which a preset must be learned. If the camera is still touring, they show other presets.
const LEARN_WITHIN: u32 = 3 * LEARN_LOOKS;
/// Number of other presets compared when the camera has left one, most similar first. A comparison takes two milliseconds.
/// `docs/judging.md` has the rate at which the right preset is among them.
const COMPARED: usize = 2;
/// Number of tours after which an unseen preset counts as missed.
const MISSED_TOURS: i32 = 2;

/// A change of one preset. Presets are given by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TourChange {
    /// The preset was learned and is recognised from now on.
    Learned {
        /// The preset.
        preset: usize,
        /// Earlier references were replaced. False if a reference for another light was added, as in its first night, when
        /// infrared shows nothing of the day's view.
        replaced: bool,
    },
    /// The preset was not learned: the looks did not agree with one another, or had too little structure.
    Unsteady(usize),
    /// The preset was not learned: its looks show the view of another preset.
    Same {
        /// The preset to be learned.
        preset: usize,
        /// The preset with the same view.
        other: usize,
    },
    /// The preset has not been seen for two tours.
    Missed(usize),
    /// A missed preset was seen again.
    Back(usize),
}

/// The assessment of one look of a touring camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TourLook {
    /// Index of the preset that it shows.
    pub preset: Option<usize>,
    /// The changes detected with this look; usually none.
    pub changes: Vec<TourChange>,
    /// Index of the preset whose references have changed enough to be saved.
    pub should_save: Option<usize>,
}

/// Tracks the presets of one touring camera from look to look.
#[derive(Debug, Clone)]
pub struct Tour {
    limits: AimLimits,
    away: SignedDuration,
    presets: Vec<PresetState>,
    /// The preset recognised last; it is compared first.
    newest: usize,
    /// The newest look showed it.
    is_there: bool,
    learning: Option<LearningState>,
}

#[derive(Debug, Clone, Default)]
struct PresetState {
    references: ReferenceSet,
    /// When it was last seen, or when it was first expected.
    last_seen: Option<Timestamp>,
    is_missed: bool,
}

#[derive(Debug, Clone)]
struct LearningState {
    preset: usize,
    references: ReferenceSet,
    looks: u32,
}

impl Tour {
    /// A tour of `presets` presets, none of them learned. The camera returns to each within `away`.
    pub fn new(limits: AimLimits, presets: usize, away: Duration) -> Self {
        Self {
            limits,
            away: SignedDuration::try_from(away).unwrap_or(SignedDuration::MAX),
            presets: vec![PresetState::default(); presets],
            newest: 0,
            is_there: false,
            learning: None,
        }
    }

    /// Restores a reference of an earlier run.
    pub fn restore(&mut self, preset: usize, light: Light, reference: Reference) {
        if let Some(state) = self.presets.get_mut(preset) {
            state.references.restore(light, reference);
        }
    }

    /// The learned references of a preset.
    pub fn references(&self, preset: usize) -> impl Iterator<Item = (Light, &Reference)> {
        self.presets
            .get(preset)
            .into_iter()
            .flat_map(|p| p.references.learned())
    }

    /// True if the preset has been learned.
    pub fn is_learned(&self, preset: usize) -> bool {
        self.references(preset).next().is_some()
    }

    /// Restores that the preset was missed at the end of the last run.
    pub fn restore_missed(&mut self, preset: usize) {
        if let Some(state) = self.presets.get_mut(preset) {
            state.is_missed = true;
        }
    }

    /// True if the preset is learned and not missed.
    pub fn is_expected(&self, preset: usize) -> bool {
        self.is_learned(preset) && self.presets.get(preset).is_some_and(|p| !p.is_missed)
    }

    /// The preset of the newest look.
    pub fn current_preset(&self) -> Option<usize> {
        self.is_there.then_some(self.newest)
    }

    /// Starts learning `preset` from the next looks. Earlier references stay valid until it is learned.
    pub fn learn(&mut self, preset: usize) {
        self.learning = (preset < self.presets.len()).then(|| LearningState {
            preset,
            references: ReferenceSet::default(),
            looks: 0,
        });
    }

    /// Assesses the next look. Its health must be [`View::Clear`](gridwatch_engine::View).
    pub fn look(&mut self, luma: &Luma, at: Timestamp, light: Light) -> TourLook {
        let field = EdgeField::of(luma);
        if let Some(learning) = self.learning.take() {
            return self.learn_look(learning, &field, at, light);
        }
        let preset = self.recognise(&field, light, None);
        self.is_there = preset.is_some();
        let mut changes = Vec::new();
        let mut should_save = None;
        if let Some(i) = preset {
            self.newest = i;
            let limits = self.limits;
            let state = &mut self.presets[i];
            state.last_seen = Some(at);
            if std::mem::take(&mut state.is_missed) {
                changes.push(TourChange::Back(i));
            }
            let changed = if state.references.get(light).is_some() {
                state.references.renew(&field, at, light, &limits)
            } else {
                state.references.learn(&field, at, light, &limits).1
            };
            should_save = changed.then_some(i);
        }
        self.check_missed(at, &mut changes);
        TourLook {
            preset,
            changes,
            should_save,
        }
    }

    /// The learned preset whose view the look shows, apart from `except`.
    fn recognise(&self, field: &EdgeField, light: Light, except: Option<usize>) -> Option<usize> {
        // The reference of the other light serves as well, if it matches.
        let reference = |i: usize| {
            let references = &self.presets.get(i).filter(|_| Some(i) != except)?.references;
            references.get(light).or_else(|| references.any())
        };
        let matches = |i: usize| reference(i).is_some_and(|r| r.compare(field, &self.limits) == ViewMatch::InPlace);
        if matches(self.newest) {
            return Some(self.newest);
        }
        let others = (0..self.presets.len()).filter(|i| *i != self.newest);
        let mut by_similarity: Vec<(f32, usize)> = others
            .filter_map(|i| Some((reference(i)?.similarity(field), i)))
            .collect();
        by_similarity.sort_by(|a, b| b.0.total_cmp(&a.0));
        // At most one can match: presets with the same view are not learned.
        by_similarity
            .into_iter()
            .take(COMPARED)
            .map(|(_, i)| i)
            .find(|i| matches(*i))
    }

    fn learn_look(&mut self, mut learning: LearningState, field: &EdgeField, at: Timestamp, light: Light) -> TourLook {
        let preset = learning.preset;
        learning.looks += 1;
        let has_structure = field.structure() >= MIN_STRUCTURE_TO_LEARN;
        let other = self.recognise(field, light, Some(preset));
        let learned = has_structure && other.is_none() && learning.references.learn(field, at, light, &self.limits).1;
        let change = match other {
            Some(other) => Some(TourChange::Same { preset, other }),
            None if learned => {
                self.newest = preset;
                Some(self.adopt(preset, &learning.references, at, light))
            }
            None if learning.looks >= LEARN_WITHIN => Some(TourChange::Unsteady(preset)),
            None => None,
        };
        self.learning = change.is_none().then_some(learning);
        TourLook {
            preset: None,
            changes: change.into_iter().collect(),
            should_save: learned.then_some(preset),
        }
    }

    /// Adopts the reference learned in `light`. If the preset had none for this light, that of the other light stays valid.
    fn adopt(&mut self, preset: usize, learned: &ReferenceSet, at: Timestamp, light: Light) -> TourChange {
        let state = &mut self.presets[preset];
        let replaced = state.references.get(light).is_some() || state.references.any().is_none();
        if replaced {
            state.references = ReferenceSet::default();
        }
        if let Some(reference) = learned.get(light) {
            state.references.restore(light, reference.clone());
        }
        state.last_seen = Some(at);
        state.is_missed = false;
        TourChange::Learned { preset, replaced }
    }

    /// Detects presets that the camera no longer comes to.
    fn check_missed(&mut self, at: Timestamp, changes: &mut Vec<TourChange>) {
        let away = self.away;
        let presets = self.presets.iter_mut().enumerate();
        for (i, state) in presets.filter(|(_, p)| p.references.any().is_some() && !p.is_missed) {
            // If the clock was set back, the wait restarts.
            let last_seen = state.last_seen.map_or(at, |seen| seen.min(at));
            state.last_seen = Some(last_seen);
            if at.duration_since(last_seen) > away.saturating_mul(MISSED_TOURS) {
                state.is_missed = true;
                changes.push(TourChange::Missed(i));
            }
        }
    }
}
