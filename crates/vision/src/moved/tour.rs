//! At which of its presets a camera that turns stands.
//!
//! Nothing is believed of where a camera says that it is: a look that shows a preset's view where it was learned is of that
//! preset, and every other look is of none. So frames while it turns, a preset that somebody moved and a camera that a
//! person steers are all the same: nothing is judged.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Field, LEARN_LOOKS, LEAST_STRUCTURE, Lights, Limits, Luma, Reference, Verdict};
use gridwatch_engine::Light;

/// A preset must be learned from so many looks: a camera that is on its tour meanwhile shows others.
const LEARN_WITHIN: u32 = 3 * LEARN_LOOKS;
/// When the camera has left a preset, so many of the others are compared, the likeliest first: a comparison takes two
/// milliseconds. See `docs/judging.md` for how often the right one is among them.
const COMPARED: usize = 2;
/// A preset that was not seen for so many tours is told.
const MISSED_TOURS: i32 = 2;

/// What became known at a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TourChange {
    /// The preset is known by sight from now on.
    Learned {
        /// Which.
        preset: usize,
        /// What was learned of it before is void. False where a light was added to what holds: its first night, whose
        /// infrared shows nothing of the day.
        is_anew: bool,
    },
    /// The looks that it should be learned from did not agree with one another, or show too little.
    Unsteady(usize),
    /// What it should be learned from is what another preset shows.
    Same {
        /// It, and ...
        preset: usize,
        /// ... the other.
        other: usize,
    },
    /// It was not seen for two tours.
    Missed(usize),
    /// It is seen again after that.
    Back(usize),
}

/// A look, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stood {
    /// Index of the preset that it shows.
    pub preset: Option<usize>,
    /// What became known; nearly always nothing.
    pub changes: Vec<TourChange>,
    /// That preset's references changed so much that they should be kept.
    pub to_keep: Option<usize>,
}

/// The presets of one camera, from look to look.
#[derive(Debug, Clone)]
pub struct Tour {
    limits: Limits,
    away: SignedDuration,
    presets: Vec<Known>,
    /// Where it stood at last: it is asked first.
    newest: usize,
    /// It still stood there at the newest look.
    is_there: bool,
    learning: Option<Learning>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    lights: Lights,
    /// When it was last seen, or when that was first waited for.
    seen: Option<Timestamp>,
    is_missed: bool,
}

#[derive(Debug, Clone)]
struct Learning {
    preset: usize,
    lights: Lights,
    looks: u32,
}

impl Tour {
    /// The presets of a camera that is back at each of them within `away`. None is known by sight yet.
    pub fn new(limits: Limits, presets: usize, away: Duration) -> Self {
        Self {
            limits,
            away: SignedDuration::try_from(away).unwrap_or(SignedDuration::MAX),
            presets: vec![Known::default(); presets],
            newest: 0,
            is_there: false,
            learning: None,
        }
    }

    /// Takes up a reference of an earlier run.
    pub fn remember(&mut self, preset: usize, light: Light, reference: Reference) {
        if let Some(known) = self.presets.get_mut(preset) {
            known.lights.remember(light, reference);
        }
    }

    /// The references that are learned of a preset.
    pub fn references(&self, preset: usize) -> impl Iterator<Item = (Light, &Reference)> {
        self.presets.get(preset).into_iter().flat_map(|p| p.lights.learned())
    }

    /// True where the preset is known by sight.
    pub fn is_known(&self, preset: usize) -> bool {
        self.references(preset).next().is_some()
    }

    /// The preset did not come any more when the last run ended.
    pub fn stay_missed(&mut self, preset: usize) {
        if let Some(known) = self.presets.get_mut(preset) {
            known.is_missed = true;
        }
    }

    /// True where the preset is known by sight and comes by.
    pub fn is_awaited(&self, preset: usize) -> bool {
        self.is_known(preset) && self.presets.get(preset).is_some_and(|p| !p.is_missed)
    }

    /// Where the newest look was.
    pub fn stands_at(&self) -> Option<usize> {
        self.is_there.then_some(self.newest)
    }

    /// The camera stands at `preset` now: its next looks show it. What was learned of it holds until they agreed.
    pub fn learn(&mut self, preset: usize) {
        self.learning = (preset < self.presets.len()).then(|| Learning {
            preset,
            lights: Lights::default(),
            looks: 0,
        });
    }

    /// Judges the next look, of which health says that there is something to be seen.
    pub fn look(&mut self, luma: &Luma, at: Timestamp, light: Light) -> Stood {
        let field = Field::of(luma);
        if let Some(learning) = self.learning.take() {
            return self.look_to_learn(learning, &field, at, light);
        }
        let preset = self.recognised(&field, light, None);
        self.is_there = preset.is_some();
        let mut changes = Vec::new();
        let mut to_keep = None;
        if let Some(i) = preset {
            self.newest = i;
            let limits = self.limits;
            let known = &mut self.presets[i];
            known.seen = Some(at);
            if std::mem::take(&mut known.is_missed) {
                changes.push(TourChange::Back(i));
            }
            let changed = if known.lights.by(light).is_some() {
                known.lights.renew(&field, at, light, &limits)
            } else {
                known.lights.learn(&field, at, light, &limits).1
            };
            to_keep = changed.then_some(i);
        }
        self.miss(at, &mut changes);
        Stood {
            preset,
            changes,
            to_keep,
        }
    }

    /// The preset whose view the look shows, of those that are known; `but` is not asked.
    fn recognised(&self, field: &Field, light: Light, but: Option<usize>) -> Option<usize> {
        // By the other light it is as good where it tells anything.
        let reference = |i: usize| {
            let lights = &self.presets.get(i).filter(|_| Some(i) != but)?.lights;
            lights.by(light).or_else(|| lights.any())
        };
        let shows = |i: usize| reference(i).is_some_and(|r| r.verdict(field, &self.limits) == Verdict::Here);
        if shows(self.newest) {
            return Some(self.newest);
        }
        let others = (0..self.presets.len()).filter(|i| *i != self.newest);
        let mut likely: Vec<(f32, usize)> = others
            .filter_map(|i| Some((reference(i)?.likeness(field), i)))
            .collect();
        likely.sort_by(|a, b| b.0.total_cmp(&a.0));
        // Presets show different things, or they would not have been learned: the first that agrees is it.
        likely.into_iter().take(COMPARED).map(|(_, i)| i).find(|i| shows(*i))
    }

    fn look_to_learn(&mut self, mut learning: Learning, field: &Field, at: Timestamp, light: Light) -> Stood {
        let preset = learning.preset;
        learning.looks += 1;
        let is_telling = field.structure() >= LEAST_STRUCTURE;
        let other = self.recognised(field, light, Some(preset));
        let learned = is_telling && other.is_none() && learning.lights.learn(field, at, light, &self.limits).1;
        let change = match other {
            Some(other) => Some(TourChange::Same { preset, other }),
            None if learned => {
                self.newest = preset;
                Some(self.take_in(preset, &learning.lights, at, light))
            }
            None if learning.looks >= LEARN_WITHIN => Some(TourChange::Unsteady(preset)),
            None => None,
        };
        self.learning = change.is_none().then_some(learning);
        Stood {
            preset: None,
            changes: change.into_iter().collect(),
            to_keep: learned.then_some(preset),
        }
    }

    /// The preset has been learned by `light`. Where it was not known by this light, the other one's view still holds.
    fn take_in(&mut self, preset: usize, learned: &Lights, at: Timestamp, light: Light) -> TourChange {
        let known = &mut self.presets[preset];
        let is_anew = known.lights.by(light).is_some() || known.lights.any().is_none();
        if is_anew {
            known.lights = Lights::default();
        }
        if let Some(reference) = learned.by(light) {
            known.lights.remember(light, reference.clone());
        }
        known.seen = Some(at);
        known.is_missed = false;
        TourChange::Learned { preset, is_anew }
    }

    /// Notices presets that do not come any more.
    fn miss(&mut self, at: Timestamp, changes: &mut Vec<TourChange>) {
        let away = self.away;
        let known = self.presets.iter_mut().enumerate();
        for (i, known) in known.filter(|(_, p)| p.lights.any().is_some() && !p.is_missed) {
            // A clock that was set back begins anew.
            let seen = known.seen.map_or(at, |seen| seen.min(at));
            known.seen = Some(seen);
            if at.duration_since(seen) > away.saturating_mul(MISSED_TOURS) {
                known.is_missed = true;
                changes.push(TourChange::Missed(i));
            }
        }
    }
}
