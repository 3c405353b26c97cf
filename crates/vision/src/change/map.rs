//! The change map of one view: from looks to regions.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    background::{Background, Dither, LEARN_LOOKS, Treatment, Update, octaves, spread},
    cells::{box_max, components, log2, median},
    energy::Energies,
    gradient::{Gradients, decode_exactly, encode},
    grid::{CELL, Grid},
    picture::WorkingPicture,
    region::{self, Evidence},
    score,
    shift::{Displacement, Field, Registration},
    tracked::{self, Proposal, TrackedRegion},
};
use gridwatch_engine::{BBox, Light};
use gridwatch_frame::{Frame, FrameError};

/// Residual, as a share of the energies, above which a cell is new, and below which it is still.
const NEW_ABOVE: f32 = 0.45;
const STILL_BELOW: f32 = 0.35;
/// What the residual is compared with at least: this many times the sensor's noise, or the cell's usual residual.
const NOISES: f32 = 2.0;
const USUALS: f32 = 2.5;
/// Smallest noise, in squared percent of the local mean.
const MIN_NOISE: f32 = 0.5;
/// Looks for which a cell must have been new and still.
const STILL_LOOKS: u8 = 4;
/// Looks that may contradict before the count starts again: passers-by.
const MAX_GAP: u8 = 4;
/// Looks that show the background, after which what was there has left.
const GONE_AFTER: u8 = 2;
/// Share of the judged cells that are new, above which the view is in another light or another place.
const OTHER_LIGHT: f32 = 0.25;
/// Consecutive looks in another light after which it is learned as a variant.
const LEARN_AFTER: u32 = 6;
/// Variants: day, night, and one more.
pub(super) const MAX_VARIANTS: usize = 3;
/// Share of cells that must be learned before a variant is judged by.
const MIN_KNOWN: f32 = 0.5;
/// Components measured in one look; a view with more is in turmoil.
const MAX_COMPONENTS: usize = 64;
/// Least cells of a component, and its largest share of the view.
const MIN_CELLS: usize = 2;
const MAX_SHARE: f32 = 0.12;
/// Share of a region that a box must cover to explain it.
const EXPLAINED: f32 = 0.5;
/// Share by which a look enters the candidate.
const CANDIDATE_RATE: f32 = 0.25;
/// Looks for which a box that is no longer reported explains what is there. A vehicle is missed for longer, but stays.
const REMEMBER_MOVING: u8 = 4;
const REMEMBER_VEHICLE: u8 = 60;

/// What a network found in a box that explains that something new is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occupant {
    /// A person. Nothing is judged or learned behind people.
    Person,
    /// An animal; treated like a person.
    Animal,
    /// A vehicle. Nothing is learned behind it; parked, it is a new region that it explains.
    Vehicle,
}

impl Occupant {
    /// The kind of what a detection's label names, whether the label is COCO's or another; `None` if it explains nothing.
    pub fn of_label(label: &str) -> Option<Self> {
        const PEOPLE: [&str; 4] = ["person", "pedestrian", "rider", "people"];
        const ANIMALS: [&str; 8] = ["dog", "cat", "bird", "horse", "sheep", "cow", "goat", "animal"];
        const VEHICLES: [&str; 12] = [
            "bicycle",
            "car",
            "motorcycle",
            "motorbike",
            "bus",
            "truck",
            "train",
            "van",
            "tricycle",
            "scooter",
            "taxi",
            "vehicle",
        ];
        [
            (Self::Person, &PEOPLE[..]),
            (Self::Animal, &ANIMALS),
            (Self::Vehicle, &VEHICLES),
        ]
        .into_iter()
        .find_map(|(occupant, labels)| labels.contains(&label).then_some(occupant))
    }

    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Animal => "animal",
            Self::Vehicle => "vehicle",
        }
    }
}

/// Whether a look was compared with the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeState {
    /// Most of the view is not learned yet.
    Learning,
    /// The look was compared.
    Judged,
    /// Too much of the view changed: it is in a light that is not learned, or hidden. Nothing is told.
    OtherLight,
}

/// A part of the view that is new and still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewRegion {
    /// Where it is.
    pub bbox: BBox,
    /// How likely it is a thing rather than a change of light, 0..=1.
    pub score: f32,
    /// When it was first seen there.
    pub since: Timestamp,
    /// What explains it, if a network found it.
    pub explained_by: Option<Occupant>,
    /// This look is the first that reports it.
    pub is_first: bool,
}

/// How much of a box is new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NewShare {
    /// Share of the box's judged cells that have been new and still over several looks, 0..=1.
    pub share: f32,
    /// Since when; `None` if nothing is new.
    pub since: Option<Timestamp>,
}

/// The result of one look.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeLook {
    /// Whether the look was compared.
    pub state: ChangeState,
    /// The new regions, those that are explained among them.
    pub regions: Vec<NewRegion>,
    /// Share of the judged cells that differ from the background, 0..=1.
    pub changed: f32,
    /// Displacement that was compensated, as a share of the picture's width: right and down.
    pub shift: (f32, f32),
    /// The map has changed enough to be saved.
    pub should_save: bool,
    /// What was measured, whatever its score; for fitting the score.
    pub measured: Vec<Measured>,
}

/// A part of the view that is new and still in one look, as it was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Where it is.
    pub bbox: BBox,
    /// Its features; the names are in `docs/seeing.md`.
    pub features: [f32; region::FEATURES],
    /// Log odds of a thing, by the score in use.
    pub log_odds: f32,
}

/// Buffers of a look. One worker uses one for all its views; those of a view's size are made at its first look.
#[derive(Debug, Default)]
pub struct ChangeBuffers {
    buffers: Option<Buffers>,
}

#[derive(Debug)]
struct Buffers {
    picture: WorkingPicture,
    gradients: Gradients,
    registration: Registration,
    energies: Energies,
    dither: Dither,
    histogram: Vec<u32>,
    rates: Vec<f32>,
    row_rates: Vec<f32>,
    stack: Vec<u32>,
    peak_scratch: Vec<bool>,
    /// By cell: energy of the look, of the background and of the candidate, their differences from the look.
    look_energy: Vec<f32>,
    background_energy: Vec<f32>,
    candidate_energy: Vec<f32>,
    residual: Vec<f32>,
    candidate_residual: Vec<f32>,
    relative: Vec<f32>,
    is_new: Vec<bool>,
    is_still: Vec<bool>,
    mask: Vec<bool>,
    treatment: Vec<Treatment>,
    clips: Vec<bool>,
    /// Residual and energy of the variant that was compared last, and its index.
    other: [Vec<f32>; 2],
    compared: usize,
}

impl Buffers {
    fn new(grid: Grid) -> Self {
        let cells = grid.cells();
        let plane = || vec![0.0_f32; cells];
        Self {
            picture: WorkingPicture::new(grid),
            gradients: Gradients::new(grid),
            registration: Registration::default(),
            energies: Energies::default(),
            dither: Dither::new(grid.width),
            histogram: Vec::new(),
            rates: Vec::new(),
            row_rates: vec![0.0; grid.columns],
            stack: Vec::new(),
            peak_scratch: Vec::new(),
            look_energy: plane(),
            background_energy: plane(),
            candidate_energy: plane(),
            residual: plane(),
            candidate_residual: plane(),
            relative: plane(),
            is_new: vec![false; cells],
            is_still: vec![false; cells],
            mask: vec![false; cells],
            treatment: vec![Treatment::Background; cells],
            clips: vec![false; cells],
            other: [plane(), plane()],
            compared: usize::MAX,
        }
    }
}

impl ChangeBuffers {
    fn of(&mut self, grid: Grid) -> &mut Buffers {
        if self.buffers.as_ref().is_none_or(|b| b.picture.grid != grid) {
            self.buffers = Some(Buffers::new(grid));
        }
        self.buffers.get_or_insert_with(|| Buffers::new(grid))
    }
}

/// The settings of a change map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeSettings {
    /// Width of the working picture in pixels.
    pub width: u32,
    /// Time after which what stays belongs to the background.
    pub absorb_after: Duration,
}

impl Default for ChangeSettings {
    fn default() -> Self {
        Self {
            width: 480,
            absorb_after: Duration::from_secs(24 * 3600),
        }
    }
}

/// A cell of a view that something new may occupy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CellState {
    /// Looks in which it was new and still, saturating.
    pub(super) count: u8,
    /// Looks since the last of these, saturating.
    pub(super) gap: u8,
    /// Looks since a box covered it, saturating.
    pub(super) covered: u8,
    /// What that box was.
    pub(super) occupant: Option<Occupant>,
    /// When counting started: Unix time in seconds.
    pub(super) since: u32,
}

/// The learned state for one size of the working picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Learned {
    pub(super) grid: Grid,
    /// At least one, at most [`MAX_VARIANTS`].
    pub(super) variants: Vec<Background>,
    /// Index of the variant in use.
    pub(super) current: usize,
    /// Stored gradients of what was there at the last looks.
    pub(super) candidate: [Vec<i8>; 2],
    pub(super) cells: Vec<CellState>,
    /// Number of looks.
    pub(super) looks: u64,
    /// Consecutive looks in a light that is not learned.
    pub(super) strange: u32,
    pub(super) regions: Vec<TrackedRegion>,
}

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

    /// Makes what is in `bbox` part of the background, apart from what is held. It is learned from the next looks.
    pub fn absorb(&mut self, bbox: &BBox) {
        let Some(learned) = &mut self.learned else { return };
        let (columns, rows) = learned.grid.cells_in(bbox);
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
    pub fn new_share(&self, bbox: &BBox) -> Option<NewShare> {
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
        Some(NewShare {
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
        let state = learned.judge(b, light);
        learned.cover(occupants);
        let (mut regions, mut measured) = (Vec::new(), Vec::new());
        let changed = learned.changed(b);
        if state == ChangeState::Judged {
            learned.count(b, at);
            let proposals = learned.propose(b, changed);
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
                bbox: r.bbox,
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

fn timestamp(second: u32) -> Option<Timestamp> {
    Timestamp::from_second(i64::from(second)).ok()
}

fn seconds(at: Timestamp) -> u32 {
    u32::try_from(at.as_second()).unwrap_or(0)
}

fn is_held(held: &[BBox], grid: Grid, cell: usize) -> bool {
    let (x, y) = (cell % grid.columns, cell / grid.columns);
    held.iter().any(|bbox| {
        let (columns, rows) = grid.cells_in(bbox);
        columns.contains(&x) && rows.contains(&y)
    })
}

/// How a look compares with one variant.
struct Comparison {
    /// Index of the variant.
    variant: usize,
    /// Median residual of the learned cells.
    noise: f32,
    /// Share of the learned cells that are new, 0..=1.
    changed: f32,
    /// Correlation of the gradients where there are any, 0..=1.
    agreement: f32,
}

impl Learned {
    fn new(grid: Grid, light: Light) -> Self {
        let cells = vec![CellState::default(); grid.cells()];
        Self::restored(grid, vec![Background::new(grid, light)], 0, cells, 0, Vec::new())
    }

    /// The state of an earlier run. The numbers of values must match the grid, and `current` the variants.
    pub(super) fn restored(
        grid: Grid,
        variants: Vec<Background>,
        current: usize,
        cells: Vec<CellState>,
        looks: u64,
        regions: Vec<TrackedRegion>,
    ) -> Self {
        Self {
            grid,
            variants,
            current,
            candidate: [vec![0; grid.pixels()], vec![0; grid.pixels()]],
            cells,
            looks,
            strange: 0,
            regions,
        }
    }

    /// Compensates the look's displacement, and computes its energies.
    fn register(&mut self, b: &mut Buffers) -> Displacement {
        let background = &self.variants[self.current];
        let Gradients { x, y, .. } = &mut b.gradients;
        let stored = [&background.x[..], &background.y[..]];
        let shift = b.registration.displacement(&Field { x, y }, stored, self.grid);
        if !shift.is_negligible() {
            b.registration.resample(x, self.grid, shift);
            b.registration.resample(y, self.grid, shift);
        }
        b.energies.of_look(&b.gradients, self.grid, &mut b.look_energy);
        shift
    }

    /// Compares the look with the variant in use, and with the others if it does not fit. Fills the cells' relative residuals.
    fn judge(&mut self, b: &mut Buffers, light: Light) -> ChangeState {
        let here = self.compare(self.current, b);
        let is_learning = self.known_share(self.current) < MIN_KNOWN;
        let fits = |c: &Comparison| c.changed <= OTHER_LIGHT;
        if self.variants[self.current].light == light && (is_learning || fits(&here)) {
            if !is_learning {
                self.strange = 0;
                return self.use_variant(self.current, &here, b);
            }
            // A view that was hidden for a while is back: no new variant is needed.
            if let Some((i, c)) = self.best_other(b, light).filter(|(_, c)| fits(c)) {
                self.variants.remove(self.current);
                let i = if i > self.current { i - 1 } else { i };
                b.compared = usize::MAX;
                return self.use_variant(i, &c, b);
            }
            self.strange = 0;
            self.use_variant(self.current, &here, b);
            return ChangeState::Learning;
        }
        if let Some((i, c)) = self.best_other(b, light).filter(|(_, c)| fits(c)) {
            self.strange = 0;
            return self.use_variant(i, &c, b);
        }
        self.strange += 1;
        let is_other_light = self.variants.iter().all(|v| v.light != light);
        if self.strange < LEARN_AFTER && !(is_other_light && self.strange > 1) {
            return ChangeState::OtherLight;
        }
        self.start_variant(light);
        let c = self.compare(self.current, b);
        self.use_variant(self.current, &c, b);
        ChangeState::Learning
    }

    fn known_share(&self, variant: usize) -> f32 {
        let background = &self.variants[variant];
        let known = background.learned.iter().filter(|n| **n >= LEARN_LOOKS).count();
        known as f32 / background.learned.len() as f32
    }

    /// The learned variant other than the one in use that agrees best with the look.
    fn best_other(&self, b: &mut Buffers, light: Light) -> Option<(usize, Comparison)> {
        let others = (0..self.variants.len())
            .filter(|i| *i != self.current && self.variants[*i].light == light && self.known_share(*i) >= MIN_KNOWN);
        others
            .map(|i| (i, self.compare(i, b)))
            .max_by(|a, b| a.1.agreement.total_cmp(&b.1.agreement))
    }

    /// Starts another variant. What is new now stays unknown in it.
    fn start_variant(&mut self, light: Light) {
        if self.variants.len() == MAX_VARIANTS {
            let oldest = self.variants.iter().enumerate().min_by_key(|(_, v)| v.used);
            let oldest = oldest.map_or(0, |(i, _)| i);
            self.variants.remove(oldest);
        }
        self.variants.push(Background::new(self.grid, light));
        self.current = self.variants.len() - 1;
        self.strange = 0;
    }

    /// Compares the look with a variant. Leaves its residuals and energies in `b.other`.
    fn compare(&self, variant: usize, b: &mut Buffers) -> Comparison {
        let background = &self.variants[variant];
        let [residual, energy] = &mut b.other;
        let stored = [&background.x[..], &background.y[..]];
        b.energies.against(&b.gradients, stored, self.grid, residual, energy);
        let known = |cell: &usize| background.knows(*cell);
        let noise = median((0..residual.len()).filter(known).map(|i| residual[i]), &mut b.histogram).max(MIN_NOISE);
        let (mut new, mut judged) = (0, 0);
        let (mut sum, mut textured) = (0.0, 0);
        for i in (0..residual.len()).filter(known) {
            let energies = b.look_energy[i] + energy[i];
            judged += 1;
            new += i32::from(residual[i] > NEW_ABOVE * (energies + (NOISES * noise).max(USUALS * background.usual[i])));
            if energies > 4.0 * noise {
                textured += 1;
                sum += 1.0 - (residual[i] / energies).min(1.0);
            }
        }
        b.compared = variant;
        Comparison {
            variant,
            noise,
            changed: new as f32 / judged.max(1) as f32,
            agreement: sum / textured.max(1) as f32,
        }
    }

    /// Makes a variant the one in use, and computes the relative residuals against it.
    fn use_variant(&mut self, variant: usize, comparison: &Comparison, b: &mut Buffers) -> ChangeState {
        self.current = variant;
        let background = &mut self.variants[variant];
        background.used = self.looks;
        if comparison.variant == b.compared {
            let [residual, energy] = &mut b.other;
            std::mem::swap(residual, &mut b.residual);
            std::mem::swap(energy, &mut b.background_energy);
        } else {
            let stored = [&background.x[..], &background.y[..]];
            b.energies.against(
                &b.gradients,
                stored,
                self.grid,
                &mut b.residual,
                &mut b.background_energy,
            );
        }
        // Their content was moved or belongs to another variant.
        b.compared = usize::MAX;
        let noise = comparison.noise;
        for i in 0..b.relative.len() {
            let floor = (NOISES * noise).max(USUALS * background.usual[i]);
            b.relative[i] = b.residual[i] / (b.look_energy[i] + b.background_energy[i] + floor);
            b.is_new[i] = b.relative[i] > NEW_ABOVE;
        }
        ChangeState::Judged
    }

    /// Share of the learned cells that are new.
    fn changed(&self, b: &Buffers) -> f32 {
        let background = &self.variants[self.current];
        let (mut new, mut known) = (0, 0);
        for (is_new, learned) in b.is_new.iter().zip(&background.learned) {
            let is_known = *learned >= LEARN_LOOKS;
            known += u32::from(is_known);
            new += u32::from(is_known && *is_new);
        }
        new as f32 / known.max(1) as f32
    }

    /// Notes which cells the boxes cover.
    fn cover(&mut self, occupants: &[(BBox, Occupant)]) {
        for state in &mut self.cells {
            state.covered = state.covered.saturating_add(1);
            let remembered = match state.occupant {
                Some(Occupant::Vehicle) => REMEMBER_VEHICLE,
                _ => REMEMBER_MOVING,
            };
            if state.covered > remembered {
                state.occupant = None;
            }
        }
        for (bbox, occupant) in occupants {
            let (columns, rows) = self.grid.cells_in(bbox);
            for y in rows {
                for x in columns.clone() {
                    let state = &mut self.cells[y * self.grid.columns + x];
                    // People before a vehicle hide it.
                    if state.covered != 0 || *occupant != Occupant::Vehicle {
                        state.occupant = Some(*occupant);
                    }
                    state.covered = 0;
                }
            }
        }
    }
}

impl CellState {
    /// A box covers it in this look.
    fn is_covered(&self) -> bool {
        self.covered == 0 && self.occupant.is_some()
    }

    /// Someone stands before it in this look.
    fn is_hidden(&self) -> bool {
        self.is_covered() && self.occupant != Some(Occupant::Vehicle)
    }
}

impl Learned {
    /// Updates the cells' counts and the candidate.
    fn count(&mut self, b: &mut Buffers, at: Timestamp) {
        let noise = self.noise(b);
        self.silence_clipping(b);
        let stored = [&self.candidate[0][..], &self.candidate[1][..]];
        b.energies.against(
            &b.gradients,
            stored,
            self.grid,
            &mut b.candidate_residual,
            &mut b.candidate_energy,
        );
        let now = seconds(at);
        let background = &self.variants[self.current];
        for (i, state) in self.cells.iter_mut().enumerate() {
            let energies = b.look_energy[i] + b.candidate_energy[i] + NOISES * noise;
            b.is_still[i] = b.candidate_residual[i] < STILL_BELOW * energies;
            if state.is_hidden() || !background.knows(i) {
                continue;
            }
            let is_new = b.is_new[i];
            if is_new && b.is_still[i] {
                // After a look that replaced the candidate, it is new since that look.
                if state.count == 0 && state.gap != 0 {
                    state.since = now;
                }
                state.count = state.count.saturating_add(1);
                state.gap = 0;
                continue;
            }
            if is_new && state.count == 0 {
                (state.since, state.gap) = (now, 0);
                continue;
            }
            state.gap = state.gap.saturating_add(1);
            if !is_new && state.gap >= GONE_AFTER {
                state.occupant = None;
            }
            if !is_new && state.gap >= GONE_AFTER || state.gap > MAX_GAP {
                state.count = 0;
            }
        }
    }

    fn noise(&self, b: &mut Buffers) -> f32 {
        let background = &self.variants[self.current];
        let residuals = b.residual.iter().enumerate();
        let known = residuals.filter(|(i, _)| background.knows(*i)).map(|(_, v)| *v);
        median(known, &mut b.histogram).max(MIN_NOISE)
    }

    /// Where the look or the background clips, and a change of exposure alone would have clipped the background, nothing is
    /// told: clipping takes the gradients away.
    fn silence_clipping(&mut self, b: &mut Buffers) {
        const BRIGHT: f32 = 7.72; // log2(210)
        const BRIGHTEST: f32 = 7.93; // log2(245)
        const DARK: [f32; 2] = [4.47, 5.05]; // log2(22), log2(33)
        const OFTEN: u8 = 38; // of 255: in 15 % of the looks
        let background = &self.variants[self.current];
        let exposure = self.global_change(b)[0];
        box_max(&b.picture.clips, self.grid, &mut b.peak_scratch, &mut b.clips);
        for (i, is_new) in b.is_new.iter_mut().enumerate() {
            if !*is_new {
                continue;
            }
            let peak = log2(f32::from(b.picture.peak[i].max(1)));
            let predicted = log2(f32::from(background.peak[i].max(1))) + exposure;
            let is_silent = b.clips[i] && predicted > BRIGHT
                || background.clips[i] > OFTEN && peak > predicted.min(BRIGHTEST) - 0.5
                || peak < DARK[0] && predicted < DARK[1];
            *is_new = !is_silent;
        }
    }

    /// Median changes of brightness, red and blue, in octaves.
    fn global_change(&self, b: &mut Buffers) -> [f32; 3] {
        // A histogram in 1/64 of an octave over ±4 octaves.
        const STEPS: f32 = 64.0;
        const REACH: f32 = 4.0;
        let background = &self.variants[self.current];
        let planes = [
            (&b.picture.light, &background.brightness),
            (&b.picture.red, &background.red),
            (&b.picture.blue, &background.blue),
        ];
        planes.map(|(look, known)| {
            let histogram = &mut b.histogram;
            histogram.clear();
            histogram.resize((2.0 * REACH * STEPS) as usize + 1, 0);
            let mut count = 0;
            for (i, (look, known)) in look.iter().zip(known).enumerate() {
                if background.knows(i) {
                    let change = (look - octaves(*known)).clamp(-REACH, REACH);
                    histogram[((change + REACH) * STEPS + 0.5) as usize] += 1;
                    count += 1;
                }
            }
            let mut below = 0;
            let slot = histogram.iter().position(|n| {
                below += n;
                below * 2 > count
            });
            slot.map_or(0.0, |slot| slot as f32 / STEPS - REACH)
        })
    }

    /// The components of cells that are new and still in this look, with their scores.
    fn propose(&mut self, b: &mut Buffers, changed: f32) -> Vec<Proposal> {
        for (i, mask) in b.mask.iter_mut().enumerate() {
            let state = &self.cells[i];
            *mask = state.count >= STILL_LOOKS && state.gap == 0 && !state.is_hidden();
        }
        let noise = self.noise(b);
        let global = self.global_change(b);
        let found = components(&mut b.mask, self.grid, MAX_COMPONENTS, &mut b.stack);
        let evidence = Evidence {
            grid: self.grid,
            picture: &b.picture,
            background: &self.variants[self.current],
            candidate: [&self.candidate[0], &self.candidate[1]],
            relative: &b.relative,
            look_energy: &b.look_energy,
            background_energy: &b.background_energy,
            cells: &self.cells,
            noise,
            global,
            changed,
            new_above: NEW_ABOVE,
        };
        let largest = self.grid.cells() as f32 * MAX_SHARE;
        let sized = found
            .into_iter()
            .filter(|c| c.cells.len() >= MIN_CELLS && ((c.right - c.left) * (c.bottom - c.top)) as f32 <= largest);
        sized
            .map(|component| {
                let features = region::features(&component, &evidence);
                Proposal {
                    bbox: BBox {
                        x1: component.left as f32 / self.grid.columns as f32,
                        y1: component.top as f32 / self.grid.rows as f32,
                        x2: component.right as f32 / self.grid.columns as f32,
                        y2: component.bottom as f32 / self.grid.rows as f32,
                    },
                    log_odds: score::log_odds(&features),
                    since: self.since(&component.cells),
                    occupant: self.explanation(&component.cells),
                    features,
                }
            })
            .collect()
    }

    /// The median time since when cells are new.
    fn since(&self, cells: &[u32]) -> Timestamp {
        let mut since: Vec<u32> = cells.iter().map(|c| self.cells[*c as usize].since).collect();
        let middle = since.len() / 2;
        let (_, middle, _) = since.select_nth_unstable(middle);
        timestamp(*middle).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// What covers most of the cells, now or a short while ago.
    fn explanation(&self, cells: &[u32]) -> Option<Occupant> {
        [Occupant::Vehicle, Occupant::Person, Occupant::Animal]
            .into_iter()
            .find(|occupant| {
                let covered = cells
                    .iter()
                    .filter(|c| self.cells[**c as usize].occupant == Some(*occupant));
                covered.count() as f32 >= EXPLAINED * cells.len() as f32
            })
    }

    fn track(&mut self, proposals: Vec<Proposal>) {
        let (grid, cells) = (self.grid, &self.cells);
        tracked::update(&mut self.regions, proposals, |bbox| {
            let (columns, rows) = grid.cells_in(bbox);
            let mut inside = rows.flat_map(|y| columns.clone().map(move |x| y * grid.columns + x));
            !inside.any(|cell| cells[cell].count >= STILL_LOOKS)
        });
    }

    /// Blends the look into the candidate and the background.
    fn renew(&mut self, b: &mut Buffers) {
        let background = &self.variants[self.current];
        for (i, treatment) in b.treatment.iter_mut().enumerate() {
            let state = &self.cells[i];
            *treatment = if state.is_covered() {
                Treatment::Keep
            } else if !background.knows(i) {
                // What is new in another light stays unknown in this one until it leaves.
                let is_foreign = state.count >= STILL_LOOKS;
                match (is_foreign, b.is_new[i]) {
                    (true, _) => Treatment::Keep,
                    (_, true) => Treatment::Moving,
                    _ => Treatment::Background,
                }
            } else {
                match (b.is_new[i], b.is_still[i]) {
                    (true, true) => Treatment::Keep,
                    (true, false) => Treatment::Moving,
                    _ => Treatment::Background,
                }
            };
        }
        self.renew_candidate(b);
        let noise = self.noise(b);
        let update = Update {
            treatment: &b.treatment,
            residual: &b.residual,
            noise,
            look: self.looks,
        };
        let background = &mut self.variants[self.current];
        background.update(&b.gradients, &b.picture, &update, &b.dither, &mut b.rates);
    }

    /// Blends the look into the candidate where it is still, and replaces the candidate elsewhere, except behind people.
    fn renew_candidate(&mut self, b: &mut Buffers) {
        let grid = self.grid;
        for row in 0..grid.rows {
            let cells = row * grid.columns..(row + 1) * grid.columns;
            let states = self.cells[cells.clone()].iter().zip(&b.is_still[cells]);
            for (rate, (state, is_still)) in b.row_rates.iter_mut().zip(states) {
                *rate = match (state.is_hidden(), is_still) {
                    (true, _) => 0.0,
                    (_, true) => CANDIDATE_RATE,
                    _ => 1.0,
                };
            }
            spread(&b.row_rates, &mut b.rates);
            for y in row * CELL..(row + 1) * CELL {
                let pixels = y * grid.width..(y + 1) * grid.width;
                let [x, y] = &mut self.candidate;
                blend(&mut x[pixels.clone()], &b.gradients.x[pixels.clone()], &b.rates);
                blend(&mut y[pixels.clone()], &b.gradients.y[pixels], &b.rates);
            }
        }
    }

    /// Absorbs what has been new for `after` and is not held. Returns whether there was any.
    fn absorb_old(&mut self, at: Timestamp, after: Duration, held: &[BBox]) -> bool {
        let Some(before) = u64::from(seconds(at)).checked_sub(after.as_secs()) else {
            return false;
        };
        let old: Vec<usize> = (0..self.cells.len())
            .filter(|i| {
                let state = &self.cells[*i];
                state.count >= STILL_LOOKS && u64::from(state.since) <= before && !is_held(held, self.grid, *i)
            })
            .collect();
        self.absorb(&old);
        !old.is_empty()
    }

    /// Makes cells be learned anew, in every light.
    fn absorb(&mut self, cells: &[usize]) {
        for cell in cells {
            self.cells[*cell] = CellState::default();
            for variant in &mut self.variants {
                variant.forget(*cell);
            }
        }
    }
}

/// Blends a row of the look into the candidate.
fn blend(candidate: &mut [i8], look: &[i16], rates: &[f32]) {
    for ((stored, look), rate) in candidate.iter_mut().zip(look).zip(rates) {
        let known = decode_exactly(*stored);
        *stored = encode(known + rate * (f32::from(*look) - known));
    }
}
