//! The working picture and its cells.

use gridwatch_engine::BBox;

/// Side of a cell in pixels of the working picture.
pub(super) const CELL: usize = 3;
/// Smallest and largest number of cells along a side. The first leaves room for a neighbourhood, the second bounds the
/// memory, whatever a stream's aspect ratio is.
const SIDES: std::ops::RangeInclusive<usize> = 16..=512;

/// Size of the working picture, a whole number of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
    /// Cells across.
    pub(super) columns: usize,
    /// Cells down.
    pub(super) rows: usize,
}

impl Grid {
    /// A grid of this many cells; `None` if a side is out of range.
    pub(super) fn of_cells(columns: usize, rows: usize) -> Option<Self> {
        (SIDES.contains(&columns) && SIDES.contains(&rows)).then_some(Self {
            width: columns * CELL,
            height: rows * CELL,
            columns,
            rows,
        })
    }

    /// The grid of a frame of `width` × `height` pixels scaled to at most `across` pixels, with its proportions kept. `None`
    /// if the frame is too small, or too long and thin.
    pub(super) fn of_frame(width: usize, height: usize, across: usize) -> Option<Self> {
        let columns = across.min(width) / CELL;
        let rows = (columns * height + width / 2) / width.max(1);
        // Never finer than the frame: a working row or column without a sample of its own would repeat its neighbour.
        Self::of_cells(columns, rows.min(height / CELL))
    }

    /// Number of cells.
    pub(super) fn cells(&self) -> usize {
        self.columns * self.rows
    }

    /// Number of pixels.
    pub(super) fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// The box around the change in a box around new cells. A cell is measured with its neighbours, so that those beside a thing are new,
    /// too. Boxes of up to four cells stay: a cell less would be the wrong half of it.
    pub(super) fn without_neighbours(&self, bbox: &BBox) -> BBox {
        let trim = |from: f32, to: f32, count: usize| {
            let cell = 1.0 / count as f32;
            if to - from < 4.5 * cell {
                return (from, to);
            }
            // What the picture's edge cuts off has no neighbours there.
            let low = if from < 0.5 * cell { from } else { from + cell };
            let high = if to > 1.0 - 0.5 * cell { to } else { to - cell };
            (low, high)
        };
        let (x1, x2) = trim(bbox.x1, bbox.x2, self.columns);
        let (y1, y2) = trim(bbox.y1, bbox.y2, self.rows);
        BBox { x1, y1, x2, y2 }
    }

    /// The cells that a box touches with at least half their side: columns and rows.
    pub(super) fn cells_in(&self, bbox: &BBox) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let range = |from: f32, to: f32, count: usize| {
            let at = |v: f32| (v.clamp(0.0, 1.0) * count as f32).round() as usize;
            at(from)..at(to)
        };
        (
            range(bbox.x1, bbox.x2, self.columns),
            range(bbox.y1, bbox.y2, self.rows),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_beside_the_change_is_left_out_unless_the_picture_ends_or_little_remains() {
        let grid = Grid::of_cells(100, 50).unwrap();
        let cells = |b: BBox| [b.x1 * 100.0, b.y1 * 50.0, b.x2 * 100.0, b.y2 * 50.0].map(|v| v.round() as i32);
        let trimmed = |x1: f32, y1: f32, x2: f32, y2: f32| cells(grid.without_neighbours(&BBox { x1, y1, x2, y2 }));
        assert_eq!(trimmed(0.10, 0.20, 0.30, 0.60), [11, 11, 29, 29]);
        assert_eq!(trimmed(0.00, 0.20, 0.30, 1.00), [0, 11, 29, 50]);
        assert_eq!(
            trimmed(0.10, 0.20, 0.14, 0.32),
            [10, 11, 14, 15],
            "four cells across, six down"
        );
    }
}
