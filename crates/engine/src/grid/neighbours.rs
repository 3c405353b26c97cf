//! Adjacency of cells.

use std::sync::Arc;

use super::{CellCode, Grid, LonLat, border};

/// Borders this close are shared, metres: the accuracy of a map reading, and more than exports round by.
const REACH_M: f64 = 0.5;

/// A cell of one [`Grid`], by its position in code order. Meaningless for another grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellIndex(u32);

/// For cell `i`: `all[starts[i]..starts[i + 1]]`, ascending.
#[derive(Debug, Clone)]
pub(super) struct Neighbours {
    starts: Vec<u32>,
    all: Vec<CellIndex>,
}

impl Neighbours {
    fn of(grid: &Grid) -> Self {
        let mut pairs = Vec::new();
        for (a, b) in grid.near_pairs(REACH_M) {
            if border::are_within(&grid.cells[a], &grid.cells[b], REACH_M) {
                pairs.push((a as u32, b as u32));
                pairs.push((b as u32, a as u32));
            }
        }
        pairs.sort_unstable();
        let count = grid.cells.len() as u32;
        Self {
            starts: (0..=count)
                .map(|i| pairs.partition_point(|(a, _)| *a < i) as u32)
                .collect(),
            all: pairs.into_iter().map(|(_, b)| CellIndex(b)).collect(),
        }
    }
}

impl Grid {
    /// The cells that share part of a border or a corner with `cell`, or come within half a metre of it; in order of
    /// their codes, without `cell`. Computed for the whole grid on the first call (see docs/performance.md), then
    /// looked up.
    pub fn neighbours(&self, cell: CellIndex) -> &[CellIndex] {
        let neighbours = self.neighbours.get_or_init(|| Arc::new(Neighbours::of(self)));
        let Neighbours { starts, all } = &**neighbours;
        let i = cell.0 as usize;
        match (starts.get(i), starts.get(i + 1)) {
            (Some(from), Some(to)) => &all[*from as usize..*to as usize],
            _ => &[],
        }
    }

    /// The cell that contains `at`; see [`cell_of`](Self::cell_of).
    pub fn index_of(&self, at: LonLat) -> Option<CellIndex> {
        self.cell_index_at(at).map(|index| CellIndex(index as u32))
    }

    /// The cell with this code.
    pub fn find(&self, code: &CellCode) -> Option<CellIndex> {
        let found = self.cells.binary_search_by(|cell| cell.code.cmp(code));
        found.ok().map(|index| CellIndex(index as u32))
    }

    /// A cell's code; `None` for an index that this grid does not have.
    pub fn code(&self, cell: CellIndex) -> Option<&CellCode> {
        self.cells.get(cell.0 as usize).map(|cell| &cell.code)
    }
}
