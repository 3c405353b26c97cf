//! What decoded blocks leave for the contexts and modes of their neighbours.

/// `INTRA_DC`.
pub(super) const DC: u8 = 1;

/// What is kept of the blocks decoded so far, for the contexts and modes of their neighbours. Reused from picture to picture.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// Depth of the coding unit last decoded in each column of 8 samples.
    depth_above: Vec<u8>,
    /// … in each row of 8 samples of the coding tree block to the left and of the current one.
    depth_left: [u8; 8],
    /// Prediction mode above each column of 4 samples of the coding tree block; 1 (DC) if it may not be used.
    mode_above: [u8; 16],
    /// … to the left of each row of 4 samples.
    mode_left: [u8; 16],
}

impl Neighbours {
    /// Makes room for a picture of `width` samples, whole coding tree blocks.
    pub(super) fn set_width(&mut self, width: u32) {
        self.depth_above.clear();
        self.depth_above.resize(width.div_ceil(8) as usize, 0);
    }

    /// Begins a coding tree block at column `x` (samples) of `size` samples a side.
    pub(super) fn enter(&mut self, x: u32, size: u32, available: Available) {
        if !available.left {
            self.depth_left = [0; 8];
            self.mode_left = [DC; 16];
        }
        // 8.4.2: modes are not taken from the row of blocks above.
        self.mode_above = [DC; 16];
        if !available.above {
            let columns = (x / 8) as usize..((x + size) / 8) as usize;
            if let Some(depths) = self.depth_above.get_mut(columns) {
                depths.fill(0);
            }
        }
    }

    /// How many of the units to the left of and above a block are deeper in the tree than `depth`.
    pub(super) fn deeper(&self, x: u32, y: u32, depth: u8) -> usize {
        let left = self.depth_left[(y >> 3 & 7) as usize];
        let above = self.depth_above.get((x >> 3) as usize).copied();
        usize::from(left > depth) + usize::from(above.unwrap_or_default() > depth)
    }

    /// The modes to the left of and above a block.
    pub(super) fn modes(&self, x: u32, y: u32) -> (u8, u8) {
        (
            self.mode_left[(y >> 2 & 15) as usize],
            self.mode_above[(x >> 2 & 15) as usize],
        )
    }

    /// Notes the depth of a coding unit.
    pub(super) fn note_depth(&mut self, x: u32, y: u32, log2: u8, depth: u8) {
        let (column, row, count) = ((x >> 3) as usize, (y >> 3 & 7) as usize, 1 << (log2 - 3));
        if let Some(depths) = self.depth_above.get_mut(column..column + count) {
            depths.fill(depth);
        }
        if let Some(depths) = self.depth_left.get_mut(row..row + count) {
            depths.fill(depth);
        }
    }

    /// Notes the prediction mode of a block.
    pub(super) fn note_mode(&mut self, x: u32, y: u32, log2: u8, mode: u8) {
        let (column, row, count) = ((x >> 2 & 15) as usize, (y >> 2 & 15) as usize, 1 << (log2 - 2));
        if let Some(modes) = self.mode_above.get_mut(column..column + count) {
            modes.fill(mode);
        }
        if let Some(modes) = self.mode_left.get_mut(row..row + count) {
            modes.fill(mode);
        }
    }
}

/// Which neighbouring coding tree blocks belong to the same slice and tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Available {
    pub(super) left: bool,
    pub(super) above: bool,
}
