//! Which cells are new and still, the regions they form, and what a look teaches.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    background::{Treatment, Update, octaves, spread},
    buffers::Buffers,
    cells::{box_max, components, log2},
    gradient::{decode_exactly, encode},
    grid::CELL,
    learned::{CellState, Learned, NEW_ABOVE, NOISES},
    map::{is_held, seconds, timestamp},
    region::{self, Evidence},
    score,
    tracked::{self, Proposal},
    types::Occupant,
};
use gridwatch_engine::BBox;

/// Residual against the candidate, as a share of the energies, below which a cell is still.
const STILL_BELOW: f32 = 0.35;
/// Looks for which a cell must have been new and still.
pub(super) const STILL_LOOKS: u8 = 4;
/// Looks that may contradict before the count starts again: passers-by.
const MAX_GAP: u8 = 4;
/// Looks that show the background, after which what was there has left.
const GONE_AFTER: u8 = 2;
/// Components measured in one look; a view with more is in turmoil.
const MAX_COMPONENTS: usize = 64;
/// Least cells of a component, and its largest share of the view.
const MIN_CELLS: usize = 2;
const MAX_SHARE: f32 = 0.2;
/// Share of a region that a vehicle's box must cover to explain it, and smallest share of the vehicle's box that the region must take up: a bag
/// before a parked car is not the car.
const EXPLAINED: f64 = 0.5;
const MIN_SHARE_OF_VEHICLE: f64 = 0.15;
/// Mean share of the recent looks in which people or animals covered the cells of a region, from which they explain it. Passers-by in a busy
/// street reach half of it.
const VISITED: f32 = 0.3;
/// Share by which a look enters the candidate.
const CANDIDATE_RATE: f32 = 0.25;

impl Learned {
    /// Updates the cells' counts and the candidate.
    pub(super) fn count(&mut self, b: &mut Buffers, at: Timestamp) {
        let noise = b.noise;
        b.global = self.global_change(b);
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
            if !is_new && state.gap >= GONE_AFTER || state.gap > MAX_GAP {
                state.count = 0;
            }
        }
    }

    /// Where the look or the background clips, and a change of exposure alone would have clipped the background, nothing is
    /// told: clipping takes the gradients away.
    fn silence_clipping(&mut self, b: &mut Buffers) {
        const BRIGHT: f32 = 7.72; // log2(210)
        const BRIGHTEST: f32 = 7.93; // log2(245)
        const DARK: [f32; 2] = [4.47, 5.05]; // log2(22), log2(33)
        const OFTEN: u8 = 38; // of 255: in 15 % of the looks
        let background = &self.variants[self.current];
        let exposure = b.global[0];
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
    pub(super) fn propose(&mut self, b: &mut Buffers) -> Vec<Proposal> {
        for (i, mask) in b.mask.iter_mut().enumerate() {
            let state = &self.cells[i];
            *mask = state.count >= STILL_LOOKS && state.gap == 0 && !state.is_hidden();
        }
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
            noise: b.noise,
            global: b.global,
            new_above: NEW_ABOVE,
        };
        let largest = self.grid.cells() as f32 * MAX_SHARE;
        let sized = found
            .into_iter()
            .filter(|c| c.cells.len() >= MIN_CELLS && ((c.right - c.left) * (c.bottom - c.top)) as f32 <= largest);
        sized
            .map(|component| {
                let features = region::features(&component, &evidence);
                let bbox = BBox {
                    x1: component.left as f32 / self.grid.columns as f32,
                    y1: component.top as f32 / self.grid.rows as f32,
                    x2: component.right as f32 / self.grid.columns as f32,
                    y2: component.bottom as f32 / self.grid.rows as f32,
                };
                Proposal {
                    bbox,
                    log_odds: score::log_odds(&features),
                    since: self.since(&component.cells),
                    occupant: self.explanation(&bbox, &component.cells),
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

    /// What explains a region: people or animals who have been before most of its cells, or a vehicle that covers it now.
    fn explanation(&self, bbox: &BBox, cells: &[u32]) -> Option<Occupant> {
        let visits: u32 = cells.iter().map(|c| u32::from(self.visits[*c as usize])).sum();
        if visits as f32 >= VISITED * f32::from(u8::MAX) * cells.len() as f32 {
            let is_animal = |c: &&u32| self.cells[**c as usize].occupant == Some(Occupant::Animal);
            let animals = cells.iter().filter(is_animal).count();
            return Some(if animals * 2 > cells.len() {
                Occupant::Animal
            } else {
                Occupant::Person
            });
        }
        let is_it = |vehicle: &&BBox| {
            vehicle.intersection_area(bbox) >= EXPLAINED * bbox.area()
                && bbox.area() >= MIN_SHARE_OF_VEHICLE * vehicle.area()
        };
        self.vehicles.iter().find(is_it).map(|_| Occupant::Vehicle)
    }

    pub(super) fn track(&mut self, proposals: Vec<Proposal>) {
        let (grid, cells) = (self.grid, &self.cells);
        let inside = |bbox: &BBox| {
            let (columns, rows) = grid.cells_in(bbox);
            rows.flat_map(move |y| columns.clone().map(move |x| &cells[y * grid.columns + x]))
        };
        let is_gone = |bbox: &BBox| !inside(bbox).any(|cell| cell.count >= STILL_LOOKS);
        let is_hidden = |bbox: &BBox| inside(bbox).any(|cell| cell.count >= STILL_LOOKS && cell.is_hidden());
        tracked::update(&mut self.regions, &proposals, is_gone, is_hidden);
    }

    /// Blends the look into the candidate and the background.
    pub(super) fn renew(&mut self, b: &mut Buffers) {
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
        let update = Update {
            treatment: &b.treatment,
            residual: &b.residual,
            noise: b.noise,
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
    pub(super) fn absorb_old(&mut self, at: Timestamp, after: Duration, held: &[BBox]) -> bool {
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
    pub(super) fn absorb(&mut self, cells: &[usize]) {
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
