//! Features that tell a new thing from a change of light, and the score made of them.

use super::{
    background::{Background, octaves},
    cells::Component,
    gradient::{PER_PERCENT, decode},
    grid::{CELL, Grid},
    learned::CellState,
    picture::WorkingPicture,
};

/// Number of features.
pub const FEATURES: usize = 26;

/// What the features are measured on.
pub(super) struct Evidence<'a> {
    pub(super) grid: Grid,
    pub(super) picture: &'a WorkingPicture,
    pub(super) background: &'a Background,
    /// The candidate: stored gradients of what stays, x and y.
    pub(super) candidate: [&'a [i8]; 2],
    /// By cell: relative residual, and energies of look and background.
    pub(super) relative: &'a [f32],
    pub(super) look_energy: &'a [f32],
    pub(super) background_energy: &'a [f32],
    /// By cell: since when it is new, and for how many looks.
    pub(super) cells: &'a [CellState],
    /// Median residual.
    pub(super) noise: f32,
    /// Median changes of brightness, red and blue over the view, in octaves.
    pub(super) global: [f32; 3],
    /// Relative residual above which a cell is new.
    pub(super) new_above: f32,
}

/// A component's cells in a small rectangle of its own.
struct Patch {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    /// Its own cells.
    is_member: Vec<bool>,
    /// Its cells and those enclosed by them along rows and columns.
    is_inside: Vec<bool>,
}

/// Cells around a component that belong to its patch.
const BORDER: usize = 7;
/// Distances of the ring whose light is taken as the ground's, and of that whose novelty tells whether the change is wider.
const NEAR: std::ops::RangeInclusive<usize> = 2..=2;
const WIDE: std::ops::RangeInclusive<usize> = 3..=6;

impl Patch {
    fn new(component: &Component, grid: Grid) -> Self {
        let (left, top) = (
            component.left.saturating_sub(BORDER),
            component.top.saturating_sub(BORDER),
        );
        let width = (component.right + BORDER).min(grid.columns) - left;
        let height = (component.bottom + BORDER).min(grid.rows) - top;
        let mut is_member = vec![false; width * height];
        for cell in &component.cells {
            let (x, y) = (*cell as usize % grid.columns, *cell as usize / grid.columns);
            is_member[(y - top) * width + x - left] = true;
        }
        let is_inside = enclosed(&is_member, width);
        Self {
            left,
            top,
            width,
            height,
            is_member,
            is_inside,
        }
    }

    /// Index in the grid of each cell of the patch with its index in the patch.
    fn cells(&self, grid: Grid) -> impl Iterator<Item = (usize, usize)> {
        let (left, top, width) = (self.left, self.top, self.width);
        (0..width * self.height).map(move |i| (i, (top + i / width) * grid.columns + left + i % width))
    }

    /// Distance of each cell from the inside in steps to one of eight neighbours, up to the border.
    fn distances(&self) -> Vec<usize> {
        let mut distances: Vec<usize> = self.is_inside.iter().map(|i| if *i { 0 } else { usize::MAX }).collect();
        for distance in 1..=BORDER {
            for i in 0..distances.len() {
                if distances[i] != usize::MAX {
                    continue;
                }
                let (x, y) = (i % self.width, i / self.width);
                let mut near = (y.saturating_sub(1)..(y + 2).min(self.height))
                    .flat_map(|y| (x.saturating_sub(1)..(x + 2).min(self.width)).map(move |x| y * self.width + x));
                if near.any(|n| distances[n] == distance - 1) {
                    distances[i] = distance;
                }
            }
        }
        distances
    }
}

/// The cells of `mask`, rows of `width`, and those between two of its cells both along their row and along their column.
pub(super) fn enclosed(mask: &[bool], width: usize) -> Vec<bool> {
    let height = mask.len() / width.max(1);
    let mut rows = vec![(usize::MAX, 0); height];
    let mut columns = vec![(usize::MAX, 0); width];
    for (i, _) in mask.iter().enumerate().filter(|(_, m)| **m) {
        let (x, y) = (i % width, i / width);
        rows[y] = (rows[y].0.min(x), rows[y].1.max(x));
        columns[x] = (columns[x].0.min(y), columns[x].1.max(y));
    }
    let within = |(from, to): (usize, usize), at: usize| from <= at && at <= to;
    (0..mask.len())
        .map(|i| {
            let (x, y) = (i % width, i / width);
            mask[i] || within(rows[y], x) && within(columns[x], y)
        })
        .collect()
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// The value below which `share` of the values lie; 0 if there are none.
fn quantile(values: &mut [f32], share: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f32 * share).round() as usize;
    *values.select_nth_unstable_by(at, f32::total_cmp).1
}

/// Sums over the pixels of a component, of the gradients `b` of the background, `c` of the candidate, and `d = c − b`.
#[derive(Default)]
struct PixelSums {
    pixels: f32,
    dx: f32,
    dy: f32,
    length: f32,
    xx: f32,
    xy: f32,
    yy: f32,
    bb: f32,
    cc: f32,
    cb: f32,
    /// Σ cₓ², Σ cₓc_y, Σ c_y² and the same of `b` and of the products, for the correlation along the change's direction.
    c: [f32; 3],
    b: [f32; 3],
    p: [f32; 3],
    squares: Vec<f32>,
}

impl PixelSums {
    fn of(component: &Component, evidence: &Evidence<'_>) -> Self {
        let Grid { width, columns, .. } = evidence.grid;
        let mut s = Self::default();
        for cell in &component.cells {
            let (column, row) = (*cell as usize % columns, *cell as usize / columns);
            for y in row * CELL..(row + 1) * CELL {
                for i in y * width + column * CELL..y * width + (column + 1) * CELL {
                    let value = |stored: i8| f32::from(decode(stored)) / PER_PERCENT;
                    let (bx, by) = (value(evidence.background.x[i]), value(evidence.background.y[i]));
                    let (cx, cy) = (value(evidence.candidate[0][i]), value(evidence.candidate[1][i]));
                    s.add((bx, by), (cx, cy));
                }
            }
        }
        s
    }

    fn add(&mut self, (bx, by): (f32, f32), (cx, cy): (f32, f32)) {
        let (dx, dy) = (cx - bx, cy - by);
        let square = dx * dx + dy * dy;
        self.pixels += 1.0;
        self.dx += dx;
        self.dy += dy;
        self.length += square.sqrt();
        self.xx += dx * dx;
        self.xy += dx * dy;
        self.yy += dy * dy;
        self.bb += bx * bx + by * by;
        self.cc += cx * cx + cy * cy;
        self.cb += cx * bx + cy * by;
        for (sums, [ax, ay], [ex, ey]) in [
            (&mut self.c, [cx, cy], [cx, cy]),
            (&mut self.b, [bx, by], [bx, by]),
            (&mut self.p, [cx, cy], [bx, by]),
        ] {
            sums[0] += ax * ex;
            sums[1] += (ax * ey + ay * ex) / 2.0;
            sums[2] += ay * ey;
        }
        self.squares.push(square);
    }
}

/// How unevenly the component's cells became new, in looks: a thing appears at once, a border of light creeps.
fn onset_spread(component: &Component, cells: &[CellState]) -> f32 {
    let mut counts: Vec<f32> = component
        .cells
        .iter()
        .map(|c| f32::from(cells[*c as usize].count))
        .collect();
    quantile(&mut counts, 0.9) - quantile(&mut counts, 0.1)
}

/// Lengths of the axes of the smallest ellipse-like box around cells: extent along and across their principal axis.
fn extents(component: &Component, columns: usize) -> (f32, f32) {
    let n = component.cells.len().max(1) as f32;
    let points = || {
        let cells = component.cells.iter();
        cells.map(|c| ((*c as usize % columns) as f32, (*c as usize / columns) as f32))
    };
    let (sx, sy) = points().fold((0.0, 0.0), |(sx, sy), (x, y)| (sx + x, sy + y));
    let (mx, my) = (sx / n, sy / n);
    let (mut xx, mut xy, mut yy) = (0.0_f32, 0.0_f32, 0.0_f32);
    for (x, y) in points() {
        xx += (x - mx) * (x - mx);
        xy += (x - mx) * (y - my);
        yy += (y - my) * (y - my);
    }
    let (sin, cos) = (0.5 * (2.0 * xy).atan2(xx - yy)).sin_cos();
    let mut along = (f32::MAX, f32::MIN);
    let mut across = (f32::MAX, f32::MIN);
    for (x, y) in points() {
        let (a, b) = (x * cos + y * sin, y * cos - x * sin);
        along = (along.0.min(a), along.1.max(a));
        across = (across.0.min(b), across.1.max(b));
    }
    (along.1 - along.0 + 1.0, across.1 - across.0 + 1.0)
}

/// Measures a component.
pub(super) fn features(component: &Component, evidence: &Evidence<'_>) -> [f32; FEATURES] {
    let (patch, grid, noise) = (Patch::new(component, evidence.grid), evidence.grid, evidence.noise);
    let distances = patch.distances();
    // Changes of brightness and colour, beyond those of the whole view.
    let change = |cell: usize| {
        let (b, p) = (evidence.background, evidence.picture);
        [
            p.light[cell] - octaves(b.brightness[cell]) - evidence.global[0],
            p.red[cell] - octaves(b.red[cell]) - evidence.global[1],
            p.blue[cell] - octaves(b.blue[cell]) - evidence.global[2],
        ]
    };
    let mut near: [Vec<f32>; 3] = Default::default();
    let (mut wide, mut wide_light) = (Vec::new(), Vec::new());
    let mut inside = Vec::new();
    for (i, cell) in patch.cells(grid) {
        if NEAR.contains(&distances[i]) {
            near.iter_mut().zip(change(cell)).for_each(|(all, v)| all.push(v));
        }
        if WIDE.contains(&distances[i]) && evidence.background.knows(cell) {
            wide.push(evidence.relative[cell]);
            wide_light.push(change(cell)[0]);
        }
        if patch.is_inside[i] {
            inside.push((i, cell));
        }
    }
    let ground = near.each_mut().map(|values| quantile(values, 0.5));
    let area = inside.len() as f32;
    let share = |condition: &dyn Fn(usize) -> bool| inside.iter().filter(|(_, c)| condition(*c)).count() as f32 / area;
    let light: Vec<f32> = inside.iter().map(|(_, c)| change(*c)[0] - ground[0]).collect();
    let mut colour: Vec<f32> = inside
        .iter()
        .map(|(_, c)| (change(*c)[1] - ground[1]).hypot(change(*c)[2] - ground[2]))
        .collect();
    let strong = share(&|c| evidence.relative[c] > evidence.new_above);
    let kept = share(&|c| evidence.relative[c] < 0.3 && evidence.background_energy[c] > 6.0 * noise);
    let is_material = light
        .iter()
        .zip(&colour)
        .filter(|(l, c)| **c > 0.14 || **l < -1.6 || **l > 1.0);
    let material = is_material.count() as f32 / area;
    let usual = mean(
        &inside
            .iter()
            .map(|(_, c)| {
                evidence.background.usual[*c] / (evidence.look_energy[*c] + evidence.background_energy[*c] + noise)
            })
            .collect::<Vec<_>>(),
    );
    let relative = mean(&inside.iter().map(|(_, c)| evidence.relative[*c]).collect::<Vec<_>>());
    let middle = quantile(&mut light.clone(), 0.5);
    let spread = quantile(&mut light.clone(), 0.9) - quantile(&mut light.clone(), 0.1);
    let darkest = light.iter().fold(0.0_f32, |m, l| m.max(l.abs()));
    let members = patch.is_member.iter().filter(|m| **m).count() as f32;
    let (long, wide_extent) = extents(component, grid.columns);

    let mut s = PixelSums::of(component, evidence);
    let energy = s.xx + s.yy;
    let open = s.dx.hypot(s.dy) / (s.length + 1e-3);
    let coherence = (s.xx - s.yy).hypot(2.0 * s.xy) / (energy + 1e-3);
    // Along the edge that appeared, a border of light keeps what the ground has.
    let (sin, cos) = (0.5 * (2.0 * s.xy).atan2(s.xx - s.yy)).sin_cos();
    let tangential = |[xx, xy, yy]: [f32; 3]| xx * sin * sin - 2.0 * xy * sin * cos + yy * cos * cos;
    let floor = s.pixels * noise;
    let along = 2.0 * tangential(s.p) / (tangential(s.c) + tangential(s.b) + floor * 0.5);
    let correlation = 2.0 * s.cb / (s.cc + s.bb + floor);
    let peak = quantile(&mut s.squares, 0.95);

    [
        open,
        (long / wide_extent).ln(),
        area.ln(),
        strong,
        kept,
        material,
        middle,
        middle.abs(),
        mean(&colour),
        ((s.cc + noise) / (s.bb + noise)).ln(),
        members / area,
        usual,
        relative,
        correlation,
        along,
        coherence,
        (energy / s.pixels / noise + 0.1).ln(),
        (peak / noise + 0.1).ln(),
        evidence.global[0].abs(),
        (s.bb / s.pixels / noise + 0.1).ln(),
        quantile(&mut colour, 0.9),
        darkest,
        mean(&wide),
        spread,
        quantile(&mut wide_light, 0.9) - quantile(&mut wide_light.clone(), 0.1),
        onset_spread(component, evidence.cells).ln_1p(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cells_enclose_belongs_to_them() {
        #[rustfmt::skip]
        let mask = [
            1, 1, 1, 1, 0,
            1, 0, 0, 1, 0,
            1, 0, 0, 1, 1,
            1, 1, 1, 1, 0,
        ].map(|v| v == 1);
        let inside = enclosed(&mask, 5);
        assert_eq!(inside.iter().filter(|i| **i).count(), 17);
        assert!(!inside[4] && inside[6] && inside[12]);
    }
}
