//! Arithmetic on planes of cells: neighbourhood sums, medians, components.

use super::grid::Grid;

/// Mean over each cell's 3 × 3 neighbourhood. Cells beyond the edge repeat the edge.
pub(super) fn box_mean(plane: &[f32], grid: Grid, scratch: &mut Vec<f32>, out: &mut [f32]) {
    let (w, h) = (grid.columns, grid.rows);
    scratch.clear();
    scratch.resize(plane.len(), 0.0);
    for (row, sums) in plane.chunks_exact(w).zip(scratch.chunks_exact_mut(w)) {
        sums[0] = 2.0 * row[0] + row[1];
        sums[w - 1] = row[w - 2] + 2.0 * row[w - 1];
        for (sum, three) in sums[1..w - 1].iter_mut().zip(row.windows(3)) {
            *sum = three[0] + three[1] + three[2];
        }
    }
    for y in 0..h {
        let above = &scratch[y.saturating_sub(1) * w..][..w];
        let here = &scratch[y * w..][..w];
        let below = &scratch[(y + 1).min(h - 1) * w..][..w];
        for (((out, a), b), c) in out[y * w..][..w].iter_mut().zip(above).zip(here).zip(below) {
            *out = (a + b + c) / 9.0;
        }
    }
}

/// Maximum over each cell's 3 × 3 neighbourhood.
pub(super) fn box_max<T: Copy + PartialOrd>(plane: &[T], grid: Grid, scratch: &mut Vec<T>, out: &mut [T]) {
    let (w, h) = (grid.columns, grid.rows);
    let max = |a: T, b: T| if b > a { b } else { a };
    scratch.clear();
    scratch.extend_from_slice(plane);
    for (row, maxima) in plane.chunks_exact(w).zip(scratch.chunks_exact_mut(w)) {
        maxima[0] = max(row[0], row[1]);
        maxima[w - 1] = max(row[w - 2], row[w - 1]);
        for (out, three) in maxima[1..w - 1].iter_mut().zip(row.windows(3)) {
            *out = max(max(three[0], three[1]), three[2]);
        }
    }
    for y in 0..h {
        let above = &scratch[y.saturating_sub(1) * w..][..w];
        let here = &scratch[y * w..][..w];
        let below = &scratch[(y + 1).min(h - 1) * w..][..w];
        for (((out, a), b), c) in out[y * w..][..w].iter_mut().zip(above).zip(here).zip(below) {
            *out = max(max(*a, *b), *c);
        }
    }
}

/// Bits of a float's mantissa that a [`median`] resolves: 3 %.
const MEDIAN_BITS: u32 = 5;
const SLOTS: usize = 1 << (8 + MEDIAN_BITS);

/// Median of numbers that are not negative, to 3 %: a histogram of their exponents and first bits, in one pass without
/// sorting. 0 if there are none.
pub(super) fn median(values: impl Iterator<Item = f32>, histogram: &mut Vec<u32>) -> f32 {
    histogram.clear();
    histogram.resize(SLOTS, 0);
    let mut count = 0_u32;
    for value in values {
        histogram[(value.max(0.0).to_bits() >> (23 - MEDIAN_BITS)) as usize % SLOTS] += 1;
        count += 1;
    }
    let mut below = 0;
    for (slot, n) in histogram.iter().enumerate() {
        below += n;
        if below * 2 > count {
            // The middle of the slot.
            return f32::from_bits(((slot as u32) << (23 - MEDIAN_BITS)) | (1 << (22 - MEDIAN_BITS)));
        }
    }
    0.0
}

/// Base-2 logarithm of positive numbers to 2/10,000, without branches, so that loops over planes vectorise. Exponent plus a
/// polynomial in the mantissa (least squares on 1..2, both ends exact).
#[inline]
pub(super) fn log2(value: f32) -> f32 {
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f80_0000) - 1.0;
    // log2(1 + m) = m + m·(1 − m)·(…)
    exponent as f32 + m + m * (1.0 - m) * (0.438_07 - m * (0.236_69 - m * 0.080_31))
}

/// A connected set of cells.
#[derive(Debug, Clone, Default)]
pub(super) struct Component {
    /// Leftmost and topmost column and row, and those just beyond the last.
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) right: usize,
    pub(super) bottom: usize,
    /// Index of each of its cells.
    pub(super) cells: Vec<u32>,
}

/// Splits `mask` into 8-connected components; gaps of one cell are bridged (cells count as connected at a distance of two).
/// Returns at most `limit`, those found first from the top. `mask` is consumed: its cells are cleared.
pub(super) fn components(mask: &mut [bool], grid: Grid, limit: usize, stack: &mut Vec<u32>) -> Vec<Component> {
    const REACH: usize = 2;
    let (w, h) = (grid.columns, grid.rows);
    let mut found = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || found.len() == limit {
            continue;
        }
        mask[start] = false;
        stack.clear();
        stack.push(start as u32);
        let mut component = Component {
            left: w,
            top: h,
            ..Component::default()
        };
        while let Some(cell) = stack.pop() {
            let (x, y) = (cell as usize % w, cell as usize / w);
            component.left = component.left.min(x);
            component.right = component.right.max(x + 1);
            component.top = component.top.min(y);
            component.bottom = component.bottom.max(y + 1);
            component.cells.push(cell);
            for ny in y.saturating_sub(REACH)..(y + REACH + 1).min(h) {
                for nx in x.saturating_sub(REACH)..(x + REACH + 1).min(w) {
                    if std::mem::take(&mut mask[ny * w + nx]) {
                        stack.push((ny * w + nx) as u32);
                    }
                }
            }
        }
        found.push(component);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_right_to_three_percent() {
        let mut histogram = Vec::new();
        for (values, expected) in [
            (vec![5.0, 1.0, 3.0], 3.0),
            (vec![0.011; 7], 0.011),
            ((0..1001).map(|n| n as f32 * 40.0).collect(), 20_000.0),
        ] {
            let found = median(values.into_iter(), &mut histogram);
            assert!((found / expected - 1.0).abs() < 0.032, "{found} {expected}");
        }
        assert_eq!(median(std::iter::empty(), &mut histogram), 0.0);
    }

    #[test]
    fn the_logarithm_is_right_to_two_ten_thousandths() {
        for n in 1..=5_000 {
            let value = n as f32 * 0.07;
            assert!((log2(value) - value.log2()).abs() < 2e-4, "{value}");
        }
    }

    #[test]
    fn components_bridge_one_cell_and_no_more() {
        let grid = Grid::of_cells(16, 16).unwrap();
        let mut mask = vec![false; 256];
        for (x, y) in [(1, 1), (3, 1), (3, 3), (10, 1), (15, 15)] {
            mask[y * 16 + x] = true;
        }
        let found = components(&mut mask, grid, 10, &mut Vec::new());
        let boxes: Vec<_> = found
            .iter()
            .map(|c| (c.left, c.top, c.right, c.bottom, c.cells.len()))
            .collect();
        assert_eq!(boxes, [(1, 1, 4, 4, 3), (10, 1, 11, 2, 1), (15, 15, 16, 16, 1)]);
    }
}
