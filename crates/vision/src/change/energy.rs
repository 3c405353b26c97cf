//! Energies of gradients and of their differences, by cell.

use super::{
    cells::box_mean,
    gradient::{Gradients, PER_PERCENT, decode},
    grid::{CELL, Grid},
};

/// The mean square of an 8-bit gradient's unit, per pixel of a cell.
const UNIT: f32 = 1.0 / ((CELL * CELL) as f32 * PER_PERCENT * PER_PERCENT);

/// Computes energies; keeps the buffers.
#[derive(Debug, Clone, Default)]
pub(super) struct Energies {
    difference: Vec<i32>,
    own: Vec<i32>,
    cells: [Vec<f32>; 2],
    scratch: Vec<f32>,
}

impl Energies {
    /// The mean square of the look's gradients around each cell, in squared percent of the local mean.
    pub(super) fn of_look(&mut self, look: &Gradients, grid: Grid, out: &mut [f32]) {
        let [cells, _] = &mut self.cells;
        cells.resize(grid.cells(), 0.0);
        for row in 0..grid.rows {
            self.own.clear();
            self.own.resize(grid.width, 0);
            for y in row * CELL..(row + 1) * CELL {
                for plane in [&look.x, &look.y] {
                    for (sum, v) in self.own.iter_mut().zip(&plane[y * grid.width..][..grid.width]) {
                        *sum += i32::from(*v) * i32::from(*v);
                    }
                }
            }
            to_cells(&self.own, &mut cells[row * grid.columns..][..grid.columns]);
        }
        box_mean(cells, grid, &mut self.scratch, out);
    }

    /// The mean squares around each cell of the difference between the look and stored gradients, and of these.
    pub(super) fn against(
        &mut self,
        look: &Gradients,
        stored: [&[i8]; 2],
        grid: Grid,
        difference: &mut [f32],
        own: &mut [f32],
    ) {
        let [differences, owns] = &mut self.cells;
        differences.resize(grid.cells(), 0.0);
        owns.resize(grid.cells(), 0.0);
        for row in 0..grid.rows {
            for sums in [&mut self.difference, &mut self.own] {
                sums.clear();
                sums.resize(grid.width, 0);
            }
            for y in row * CELL..(row + 1) * CELL {
                for (plane, stored) in [&look.x, &look.y].into_iter().zip(stored) {
                    let pixels = y * grid.width..(y + 1) * grid.width;
                    let sums = self.difference.iter_mut().zip(&mut self.own);
                    let values = plane[pixels.clone()].iter().zip(&stored[pixels]);
                    // At most 6 · 8064² in a column of a cell: fits.
                    for ((difference, own), (look, stored)) in sums.zip(values) {
                        let known = decode(*stored);
                        let change = look - known;
                        *difference += i32::from(change) * i32::from(change);
                        *own += i32::from(known) * i32::from(known);
                    }
                }
            }
            let cells = row * grid.columns..(row + 1) * grid.columns;
            to_cells(&self.difference, &mut differences[cells.clone()]);
            to_cells(&self.own, &mut owns[cells]);
        }
        box_mean(differences, grid, &mut self.scratch, difference);
        box_mean(owns, grid, &mut self.scratch, own);
    }
}

fn to_cells(columns: &[i32], cells: &mut [f32]) {
    for (cell, column) in cells.iter_mut().zip(columns.as_chunks::<CELL>().0) {
        *cell = column.iter().map(|v| *v as f32).sum::<f32>() * UNIT;
    }
}
