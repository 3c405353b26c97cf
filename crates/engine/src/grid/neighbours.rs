//! Which cells lie beside which.

use super::{CellCode, Grid, LonLat, border};

/// Borders that come this near are one border, metres: as much as a map is read to, and more than exports round to.
const REACH_M: f64 = 0.5;

/// One cell of one [`Grid`]: its place in the order of the codes. It means nothing to another grid.
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
    /// The cells that share a piece of border or a corner with `cell`, or come within half a metre of it; in order of their
    /// codes, without itself. All of the grid is worked out at the first call (see docs/performance.md), then it is a
    /// look-up.
    pub fn neighbours(&self, cell: CellIndex) -> &[CellIndex] {
        let Neighbours { starts, all } = self.neighbours.get_or_init(|| Neighbours::of(self));
        let i = cell.0 as usize;
        match (starts.get(i), starts.get(i + 1)) {
            (Some(from), Some(to)) => &all[*from as usize..*to as usize],
            _ => &[],
        }
    }

    /// The cell that holds `at`, as [`cell_of`](Self::cell_of) tells it.
    pub fn index_of(&self, at: LonLat) -> Option<CellIndex> {
        self.cell_index_at(at).map(|index| CellIndex(index as u32))
    }

    /// The cell of that code.
    pub fn find(&self, code: &CellCode) -> Option<CellIndex> {
        let found = self.cells.binary_search_by(|cell| cell.code.cmp(code));
        found.ok().map(|index| CellIndex(index as u32))
    }

    /// A cell's code; `None` for an index of another grid that this one does not reach.
    pub fn code(&self, cell: CellIndex) -> Option<&CellCode> {
        self.cells.get(cell.0 as usize).map(|cell| &cell.code)
    }
}
