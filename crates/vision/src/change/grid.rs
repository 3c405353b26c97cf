//! The working picture and its cells.

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

    /// The cells that a box touches with at least half their side: columns and rows.
    pub(super) fn cells_in(&self, bbox: &gridwatch_engine::BBox) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
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
