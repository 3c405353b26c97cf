//! The change map of one view: from looks to regions.

use jiff::{SignedDuration, Timestamp};

use super::{
    background::LEARN_LOOKS,
    buffers::ChangeBuffers,
    grid::Grid,
    learned::Learned,
    region,
    still::STILL_LOOKS,
    types::{ChangeLook, ChangeSettings, ChangeState, Measured, NewRegion, Occupant},
};
use gridwatch_engine::{BBox, Light, Newness};
use gridwatch_frame::{Frame, FrameError};

/// Finds what is new and still in one view, from look to look.
#[derive(Debug, Clone)]
pub struct ChangeMap {
    settings: ChangeSettings,
    pub(super) learned: Option<Learned>,
    held: Vec<BBox>,
    is_judged: bool,
    is_learning: bool,
    saved_at: Option<Timestamp>,
    has_news: bool,
}

/// Cells around a box that are absorbed with it.
const MARGIN_CELLS: f32 = 2.0;
/// Interval between saves.
const SAVE_EVERY: SignedDuration = SignedDuration::from_hours(6);

impl ChangeMap {
    /// A map that has learned nothing.
    pub fn new(settings: ChangeSettings) -> Self {
        Self {
            settings,
            learned: None,
            held: Vec::new(),
            is_judged: false,
            is_learning: false,
            saved_at: None,
            has_news: false,
        }
    }

    /// Forgets everything: the view was changed.
    pub fn reset(&mut self) {
        *self = Self {
            held: std::mem::take(&mut self.held),
            ..Self::new(self.settings)
        };
    }

    /// Sets the boxes of open cases, in place of the earlier ones. What is new there is not absorbed.
    pub fn hold(&mut self, boxes: Vec<BBox>) {
        self.held = boxes;
    }

    /// True if the newest look could tell for every box of an open case whether something new is there. In a light that was learned with the thing
    /// in place, it could not.
    pub fn knows_held(&self) -> bool {
        self.held.iter().all(|bbox| self.new_share(bbox).is_some())
    }

    /// Number of lights in which the view is learned or being learned.
    pub fn variants(&self) -> usize {
        self.learned.as_ref().map_or(0, |l| l.variants.len())
    }

    /// Looks that are needed at least before most of the view is learned in the light of the newest look; 0 if it is.
    pub fn looks_left(&self) -> u8 {
        self.learned.as_ref().map_or(LEARN_LOOKS, Learned::looks_left)
    }

    /// Makes what is in `bbox` part of the background, apart from what is held. It is learned from the next looks.
    pub fn absorb(&mut self, bbox: &BBox) {
        let Some(learned) = &mut self.learned else { return };
        // What is new reaches a cell or two beyond the thing.
        let (across, down) = (
            MARGIN_CELLS / learned.grid.columns as f32,
            MARGIN_CELLS / learned.grid.rows as f32,
        );
        let (columns, rows) = learned.grid.cells_in(&BBox {
            x1: (bbox.x1 - across).max(0.0),
            y1: (bbox.y1 - down).max(0.0),
            x2: (bbox.x2 + across).min(1.0),
            y2: (bbox.y2 + down).min(1.0),
        });
        let cells: Vec<usize> = rows
            .flat_map(|y| columns.clone().map(move |x| (x, y)))
            .map(|(x, y)| y * learned.grid.columns + x)
            .filter(|cell| !is_held(&self.held, learned.grid, *cell))
            .collect();
        learned.absorb(&cells);
        self.has_news = true;
    }

    /// How much of `bbox` is new, as of the newest look. `None` if the view could not be judged, or less than half of the box
    /// is learned.
    pub fn new_share(&self, bbox: &BBox) -> Option<Newness> {
        let learned = self.learned.as_ref().filter(|_| self.is_judged)?;
        let (columns, rows) = learned.grid.cells_in(bbox);
        let background = &learned.variants[learned.current];
        let width = columns.len();
        let mut known = 0;
        let mut mask = Vec::with_capacity(width * rows.len());
        let mut since = Vec::new();
        for y in rows.clone() {
            for cell in columns.clone().map(|x| y * learned.grid.columns + x) {
                known += usize::from(background.knows(cell));
                let state = &learned.cells[cell];
                let is_new = background.knows(cell) && state.count >= STILL_LOOKS;
                mask.push(is_new);
                since.extend(is_new.then_some(state.since));
            }
        }
        if mask.is_empty() || known * 2 < mask.len() {
            return None;
        }
        let new = region::enclosed(&mask, width).iter().filter(|m| **m).count();
        since.sort_unstable();
        Some(Newness {
            share: (new as f32 / known as f32).min(1.0),
            since: since.get(since.len() / 2).and_then(|s| timestamp(*s)),
        })
    }

    /// Compares the next look of the view with its background and learns from it. The view must be in its place and its health
    /// clear. `occupants` are the boxes of people, animals and vehicles found in this look.
    ///
    /// # Errors
    /// The frame is invalid.
    pub fn look(
        &mut self,
        frame: &Frame,
        occupants: &[(BBox, Occupant)],
        buffers: &mut ChangeBuffers,
    ) -> Result<ChangeLook, FrameError> {
        frame.validate()?;
        let nothing = ChangeLook {
            state: ChangeState::Learning,
            regions: Vec::new(),
            changed: 0.0,
            shift: (0.0, 0.0),
            should_save: false,
            measured: Vec::new(),
        };
        let size = (frame.width as usize, frame.height as usize);
        let Some(grid) = Grid::of_frame(size.0, size.1, self.settings.width as usize) else {
            return Ok(nothing);
        };
        if self.learned.as_ref().is_some_and(|l| l.grid != grid) {
            // Another stream of the camera: the old background says nothing about its pixels.
            self.reset();
        }
        let at = frame.captured_at;
        let light = if frame.is_mono() { Light::Night } else { Light::Day };
        let learned = self.learned.get_or_insert_with(|| Learned::new(grid, light));
        let b = buffers.of(grid);
        b.picture.scale_luma(frame);
        b.gradients.compute(&b.picture.luma, grid);
        let shift = learned.register(b);
        b.picture.measure_cells(frame, shift.whole());
        learned.cover(occupants);
        let state = learned.judge(b, light);
        let (mut regions, mut measured) = (Vec::new(), Vec::new());
        let changed = b.changed;
        if state == ChangeState::Judged {
            learned.count(b, at);
            let proposals = learned.propose(b);
            measured.extend(proposals.iter().map(|p| Measured {
                bbox: p.bbox,
                features: p.features,
                log_odds: p.log_odds,
            }));
            learned.track(proposals);
        }
        if state != ChangeState::OtherLight {
            learned.renew(b);
            let absorbed = learned.absorb_old(at, self.settings.absorb_after, &self.held);
            self.has_news |= absorbed;
        }
        if state == ChangeState::Judged {
            regions.extend(learned.regions.iter().filter(|r| r.reported > 0).map(|r| NewRegion {
                bbox: grid.without_neighbours(&r.bbox),
                score: r.score(),
                since: r.since.min(at),
                explained_by: r.occupant,
                is_first: r.reported == 1,
            }));
        }
        // A restart in the middle of learning loses minutes; after it, it would lose them for nothing.
        self.has_news |= state == ChangeState::Judged && self.is_learning;
        self.is_learning = state == ChangeState::Learning;
        learned.looks = learned.looks.wrapping_add(1);
        self.is_judged = state == ChangeState::Judged;
        Ok(ChangeLook {
            state,
            regions,
            changed,
            shift: (shift.right / grid.width as f32, shift.down / grid.width as f32),
            should_save: self.should_save(at),
            measured,
        })
    }

    /// True if a save is due: after a variant was learned or something absorbed, but at most every ten minutes; otherwise every
    /// six hours.
    fn should_save(&mut self, at: Timestamp) -> bool {
        const SOONEST: SignedDuration = SignedDuration::from_mins(10);
        let saved_at = *self.saved_at.get_or_insert(at);
        let passed = at.duration_since(saved_at);
        // A clock that was set back must not put it off.
        let is_due = passed >= SAVE_EVERY || passed < SignedDuration::ZERO || self.has_news && passed >= SOONEST;
        if is_due {
            self.saved_at = Some(at);
            self.has_news = false;
        }
        is_due
    }
}

pub(super) fn timestamp(second: u32) -> Option<Timestamp> {
    Timestamp::from_second(i64::from(second)).ok()
}

pub(super) fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_second()).unwrap_or(0)
}

pub(super) fn is_held(held: &[BBox], grid: Grid, cell: usize) -> bool {
    let (x, y) = (cell % grid.columns, cell / grid.columns);
    held.iter().any(|bbox| {
        let (columns, rows) = grid.cells_in(bbox);
        columns.contains(&x) && rows.contains(&y)
    })
}
