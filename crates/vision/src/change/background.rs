//! The learned background of a view in one light.

use super::{
    gradient::{Gradients, PER_PERCENT, decode_exactly, encode_dithered, round},
    grid::{CELL, Grid},
    picture::WorkingPicture,
};
use gridwatch_engine::Light;

/// Looks after which a cell is learned.
pub(super) const LEARN_LOOKS: u8 = 30;
/// Share by which a look enters a learned background.
const RATE: f32 = 1.0 / 60.0;
/// The same where something moves in front of it: a background that was learned wrongly heals in the end.
const RATE_BEHIND_MOVING: f32 = RATE / 10.0;
/// While it is learned, a look enters by this much less where it differs from what is learned so far.
const LEARN_DIFFERENT: f32 = 0.4;
/// Looks from which a difference is noticed while learning.
const LEARN_FIRST: u8 = 8;
/// Learned rows are renewed in turn, one of this many at a look, at this many times the rate.
pub(super) const TURNS: usize = 4;
/// Units of stored brightness and colour per octave.
const PER_OCTAVE: f32 = 2048.0;

/// A learned background. Planes of pixels hold stored gradients, planes of cells the rest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Background {
    pub(super) light: Light,
    /// Number of the look it was last used for; the variant that was not used for longest makes room for another.
    pub(super) used: u64,
    pub(super) x: Vec<i8>,
    pub(super) y: Vec<i8>,
    /// Brightness and colour as in [`WorkingPicture`], in 1/2048 of an octave.
    pub(super) brightness: Vec<i16>,
    pub(super) red: Vec<i16>,
    pub(super) blue: Vec<i16>,
    /// Largest channel value.
    pub(super) peak: Vec<u8>,
    /// Share of looks in which the cell clips, 0..=255.
    pub(super) clips: Vec<u8>,
    /// The residual that the cell usually has: leaves, screens.
    pub(super) usual: Vec<f32>,
    /// Looks it was learned from, at most [`LEARN_LOOKS`].
    pub(super) learned: Vec<u8>,
}

/// What a look does to a cell of the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The look shows the background.
    Background,
    /// Something new that moves.
    Moving,
    /// Something new that stays; or something known stands before it.
    Keep,
}

/// Random numbers for dithering: one row is read from a different place for each row of each look.
#[derive(Debug, Clone)]
pub(super) struct Dither(Vec<f32>);

impl Dither {
    const PERIOD: usize = 1021;

    pub(super) fn new(width: usize) -> Self {
        // Weyl's sequence with a scrambled order; only its evenness matters.
        let mut state = 0x9e37_79b9_u32;
        let chances = (0..width + Self::PERIOD).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 16_777_216.0
        });
        Self(chances.collect())
    }

    fn row(&self, look: u64, row: usize, width: usize) -> &[f32] {
        let start = (look as usize).wrapping_mul(389).wrapping_add(row * 97) % Self::PERIOD;
        &self.0[start..][..width]
    }
}

/// The inputs of [`Background::update`] besides the look: one value for each cell.
pub(super) struct Update<'a> {
    pub(super) treatment: &'a [Treatment],
    /// The cells' residuals.
    pub(super) residual: &'a [f32],
    /// The median residual, sensor noise.
    pub(super) noise: f32,
    /// Number of this look.
    pub(super) look: u64,
}

fn stored(octaves: f32) -> i16 {
    round((octaves * PER_OCTAVE).clamp(-32_000.0, 32_000.0)) as i16
}

/// A stored brightness or colour in octaves.
pub(super) fn octaves(stored: i16) -> f32 {
    f32::from(stored) / PER_OCTAVE
}

impl Background {
    /// A background of which nothing is learned.
    pub(super) fn new(grid: Grid, light: Light) -> Self {
        let (pixels, cells) = (grid.pixels(), grid.cells());
        Self {
            light,
            used: 0,
            x: vec![0; pixels],
            y: vec![0; pixels],
            brightness: vec![0; cells],
            red: vec![0; cells],
            blue: vec![0; cells],
            peak: vec![0; cells],
            clips: vec![0; cells],
            usual: vec![0.0; cells],
            learned: vec![0; cells],
        }
    }

    /// True if the cell can be judged.
    pub(super) fn knows(&self, cell: usize) -> bool {
        self.learned[cell] >= LEARN_LOOKS
    }

    /// Blends a look in.
    pub(super) fn update(
        &mut self,
        look: &Gradients,
        picture: &WorkingPicture,
        update: &Update<'_>,
        dither: &Dither,
        rates: &mut Vec<f32>,
    ) {
        let grid = picture.grid;
        // Outliers enter by this much at most.
        let clip = 3.0 * (3.0 * update.noise.sqrt() + 2.0) * PER_PERCENT;
        let mut row_rates = vec![0.0_f32; grid.columns];
        for row in 0..grid.rows {
            let is_due = row % TURNS == update.look as usize % TURNS;
            let cells = row * grid.columns..(row + 1) * grid.columns;
            let mut any = false;
            for (rate, cell) in row_rates.iter_mut().zip(cells.clone()) {
                *rate = self.rate(cell, update.treatment[cell], is_due);
                any |= *rate > 0.0;
            }
            if !any {
                continue;
            }
            spread(&row_rates, rates);
            for y in row * CELL..(row + 1) * CELL {
                let pixels = y * grid.width..(y + 1) * grid.width;
                let chances = dither.row(update.look, y, grid.width);
                blend(
                    &mut self.x[pixels.clone()],
                    &look.x[pixels.clone()],
                    rates,
                    chances,
                    clip,
                );
                blend(&mut self.y[pixels.clone()], &look.y[pixels], rates, chances, clip);
            }
            for (rate, cell) in row_rates.iter().zip(cells) {
                if *rate > 0.0 {
                    self.update_cell(cell, *rate, picture, update);
                }
            }
        }
    }

    fn rate(&self, cell: usize, treatment: Treatment, is_due: bool) -> f32 {
        let learned = self.learned[cell];
        match treatment {
            Treatment::Keep => 0.0,
            _ if learned < LEARN_LOOKS => {
                let is_different = treatment == Treatment::Moving && learned > LEARN_FIRST;
                let rate = 1.0 / (f32::from(learned) + 1.0);
                if is_different { rate * LEARN_DIFFERENT } else { rate }
            }
            _ if !is_due => 0.0,
            Treatment::Background => RATE * TURNS as f32,
            Treatment::Moving => RATE_BEHIND_MOVING * TURNS as f32,
        }
    }

    fn update_cell(&mut self, cell: usize, rate: f32, picture: &WorkingPicture, update: &Update<'_>) {
        let blend = |old: &mut i16, new: f32| *old = stored(octaves(*old) + rate * (new - octaves(*old)));
        blend(&mut self.brightness[cell], picture.light[cell]);
        blend(&mut self.red[cell], picture.red[cell]);
        blend(&mut self.blue[cell], picture.blue[cell]);
        let blend = |old: &mut u8, new: f32| *old = round(f32::from(*old) + rate * (new - f32::from(*old))) as u8;
        blend(&mut self.peak[cell], f32::from(picture.peak[cell]));
        blend(&mut self.clips[cell], if picture.clips[cell] { 255.0 } else { 0.0 });
        let learned = self.learned[cell];
        let residual = update.residual[cell];
        let usual = self.usual[cell];
        if learned < LEARN_LOOKS {
            self.learned[cell] = learned + 1;
            // The first look has no residual.
            if learned > 0 {
                self.usual[cell] = usual + (residual - usual) / f32::from(learned);
            }
        } else {
            // Passers-by count for little, leaves and screens for what they are.
            let residual = residual.min(4.0 * usual + 4.0 * update.noise);
            self.usual[cell] = usual + RATE * TURNS as f32 * (residual - usual);
        }
    }

    /// Forgets a cell; it is learned anew from the next looks.
    pub(super) fn forget(&mut self, cell: usize) {
        self.learned[cell] = 0;
        self.usual[cell] = 0.0;
    }
}

/// Repeats each cell's value for its pixels in a row.
pub(super) fn spread(cells: &[f32], pixels: &mut Vec<f32>) {
    pixels.resize(cells.len() * CELL, 0.0);
    for (pixels, cell) in pixels.as_chunks_mut::<CELL>().0.iter_mut().zip(cells) {
        *pixels = [*cell; CELL];
    }
}

/// Blends a row of gradients into stored ones.
fn blend(background: &mut [i8], look: &[i16], rates: &[f32], chances: &[f32], clip: f32) {
    let n = background.len();
    let (look, rates, chances) = (&look[..n], &rates[..n], &chances[..n]);
    for i in 0..n {
        let (stored, rate) = (background[i], rates[i]);
        let known = decode_exactly(stored);
        let change = f32::from(look[i]) - known;
        // The first look of a cell is taken as it is. No `clamp`: its check of the bounds keeps the loop from vectorising.
        let limit = if rate < 1.0 { clip } else { f32::MAX };
        let change = change.max(-limit).min(limit);
        // At a rate of 0 the byte is exact, and stays.
        background[i] = encode_dithered(known + rate * change, chances[i]);
    }
}
