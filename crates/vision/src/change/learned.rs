//! The learned state of a view: its variants, and which of them a look is judged by.

use super::{
    background::{Background, LEARN_LOOKS},
    buffers::Buffers,
    cells::median,
    gradient::Gradients,
    grid::Grid,
    shift::{Displacement, Field},
    tracked::TrackedRegion,
    types::{ChangeState, Occupant},
};
use gridwatch_engine::{BBox, Light};

/// Residual, as a share of the energies, above which a cell is new.
pub(super) const NEW_ABOVE: f32 = 0.45;
/// What the residual is compared with at least: this many times the sensor's noise, or the cell's usual residual.
pub(super) const NOISES: f32 = 2.0;
const USUALS: f32 = 2.5;
/// Smallest noise, in squared percent of the local mean.
const MIN_NOISE: f32 = 0.5;
/// Share of the judged cells that are new, above which the view is in another light or another place.
const OTHER_LIGHT: f32 = 0.25;
/// Consecutive looks in another light after which it is learned as a variant.
const LEARN_AFTER: u32 = 6;
/// The same where the picture lost or got its colour. Fewer looks than a region needs to be reported.
const OTHER_LIGHT_AFTER: u32 = 3;
/// Variants: day, night, and one more.
pub(super) const MAX_VARIANTS: usize = 3;
/// Share of cells that must be learned before a variant is judged by.
const MIN_KNOWN: f32 = 0.5;
/// Share of the learned cells that must be visible for a look to be judged; people hide the others.
const MIN_VISIBLE: f32 = 0.2;
/// Looks over which the share of looks is averaged in which a person or animal covers a cell.
const VISIT_LOOKS: u8 = 16;
/// Margin around the box of a person or animal at its sides (share of the picture's width per share of the height that it takes up: 7 % of its height
/// at 16:9) and below its feet (share of its height).
const SIDE_MARGIN: f32 = 0.04;
const FOOT_MARGIN: f32 = 0.03;

/// A cell of a view that something new may occupy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CellState {
    /// Looks in which it was new and still, saturating.
    pub(super) count: u8,
    /// Looks since the last of these, saturating.
    pub(super) gap: u8,
    /// Looks since a box covered it, saturating.
    pub(super) covered: u8,
    /// What the newest box was that covered it.
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
    /// For each cell, the share of the recent looks in which a person or animal covered it, in 1/255. Not saved.
    pub(super) visits: Vec<u8>,
    /// The boxes of vehicles in the newest look.
    pub(super) vehicles: Vec<BBox>,
    /// Number of looks.
    pub(super) looks: u64,
    /// Consecutive looks in a light that is not learned.
    pub(super) strange: u32,
    /// Consecutive looks with colour where the variant in use has none, or the reverse.
    pub(super) other_light: u32,
    pub(super) regions: Vec<TrackedRegion>,
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
    /// Share of the learned cells that no person or animal hides, 0..=1.
    visible: f32,
}

impl Learned {
    pub(super) fn new(grid: Grid, light: Light) -> Self {
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
            visits: vec![0; cells.len()],
            vehicles: Vec::new(),
            cells,
            looks,
            strange: 0,
            other_light: 0,
            regions,
        }
    }

    /// Compensates the look's displacement, and computes its energies.
    pub(super) fn register(&mut self, b: &mut Buffers) -> Displacement {
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
    pub(super) fn judge(&mut self, b: &mut Buffers, light: Light) -> ChangeState {
        let here = self.compare(self.current, b);
        let is_learning = self.known_share(self.current) < MIN_KNOWN;
        let fits = |c: &Comparison| c.changed <= OTHER_LIGHT;
        // The buffers hold what the worker's last look at another view left there.
        b.changed = here.changed;
        b.is_still.fill(false);
        if here.visible < MIN_VISIBLE {
            return ChangeState::OtherLight;
        }
        let is_other_light = self.variants[self.current].light != light;
        self.other_light = if is_other_light && !is_learning {
            self.other_light + 1
        } else {
            0
        };
        // Infrared may fit well enough, and still is better judged by a variant of its own. A single look that counts as without
        // colour on a grey street is none.
        if !is_learning && fits(&here) && self.other_light < OTHER_LIGHT_AFTER {
            self.strange = 0;
            return self.use_variant(self.current, &here, b);
        }
        if is_learning {
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
        if self.strange < LEARN_AFTER && self.other_light < OTHER_LIGHT_AFTER {
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

    /// Looks until the variant in use can be judged by, at least: as many as the share of cells that must be known still needs.
    pub(super) fn looks_left(&self) -> u8 {
        let learned = &self.variants[self.current].learned;
        let mut left: Vec<u8> = learned.iter().map(|n| LEARN_LOOKS.saturating_sub(*n)).collect();
        let last = (left.len() as f32 * MIN_KNOWN).ceil() as usize;
        let last = last.saturating_sub(1).min(left.len().saturating_sub(1));
        if left.is_empty() {
            return 0;
        }
        *left.select_nth_unstable(last).1
    }

    /// The learned variant of the look's light, other than the one in use, that agrees best with it.
    fn best_other(&self, b: &mut Buffers, light: Light) -> Option<(usize, Comparison)> {
        let is_wanted = |i: usize| self.variants[i].light == light;
        let others = (0..self.variants.len())
            .filter(|i| *i != self.current && is_wanted(*i) && self.known_share(*i) >= MIN_KNOWN);
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
        (self.strange, self.other_light) = (0, 0);
    }

    /// Compares the look with a variant. Leaves its residuals and energies in `b.other`.
    fn compare(&self, variant: usize, b: &mut Buffers) -> Comparison {
        let background = &self.variants[variant];
        let [residual, energy] = &mut b.other;
        let stored = [&background.x[..], &background.y[..]];
        b.energies.against(&b.gradients, stored, self.grid, residual, energy);
        let (mut hidden, mut learned) = (0, 0);
        for (i, state) in self.cells.iter().enumerate().filter(|(i, _)| background.knows(*i)) {
            learned += 1;
            hidden += usize::from(state.is_hidden());
            b.mask[i] = !state.is_hidden();
        }
        let mask = &b.mask;
        let known = |cell: &usize| background.knows(*cell) && mask[*cell];
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
            visible: 1.0 - hidden as f32 / learned.max(1) as f32,
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
        (b.noise, b.changed) = (noise, comparison.changed);
        for i in 0..b.relative.len() {
            let floor = (NOISES * noise).max(USUALS * background.usual[i]);
            b.relative[i] = b.residual[i] / (b.look_energy[i] + b.background_energy[i] + floor);
            b.is_new[i] = b.relative[i] > NEW_ABOVE;
        }
        ChangeState::Judged
    }

    /// Notes which cells the boxes cover.
    pub(super) fn cover(&mut self, occupants: &[(BBox, Occupant)]) {
        for state in &mut self.cells {
            state.covered = state.covered.saturating_add(1);
        }
        self.vehicles.clear();
        for (bbox, occupant) in occupants {
            if *occupant == Occupant::Vehicle {
                self.vehicles.push(*bbox);
            }
            let (columns, rows) = self.grid.cells_in(&with_margin(bbox, *occupant));
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
        for (visits, state) in self.visits.iter_mut().zip(&self.cells) {
            *visits = if state.is_hidden() {
                *visits + (u8::MAX - *visits).div_ceil(VISIT_LOOKS)
            } else {
                *visits - visits.div_ceil(VISIT_LOOKS)
            };
        }
    }
}

/// The box of a person or animal with what moves beside it: an elbow, a bag in the hand, the shadow at its feet.
fn with_margin(bbox: &BBox, occupant: Occupant) -> BBox {
    if occupant == Occupant::Vehicle {
        return *bbox;
    }
    let tall = bbox.y2 - bbox.y1;
    BBox {
        x1: (bbox.x1 - SIDE_MARGIN * tall).max(0.0),
        y1: bbox.y1,
        x2: (bbox.x2 + SIDE_MARGIN * tall).min(1.0),
        y2: (bbox.y2 + FOOT_MARGIN * tall).min(1.0),
    }
}

impl CellState {
    /// A box covers it in this look.
    pub(super) fn is_covered(&self) -> bool {
        self.covered == 0 && self.occupant.is_some()
    }

    /// Someone stands before it in this look.
    pub(super) fn is_hidden(&self) -> bool {
        self.is_covered() && self.occupant != Some(Occupant::Vehicle)
    }
}
