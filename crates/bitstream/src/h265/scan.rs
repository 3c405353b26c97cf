//! Scan orders of coefficients (6.5.3 to 6.5.5) and the contexts of `sig_coeff_flag` along them (9.3.4.2.5).

/// How the coefficients of a block are ordered, `scanIdx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    Diagonal = 0,
    Horizontal = 1,
    Vertical = 2,
}

/// For each scan, the places in a 4×4 block in order: row times 4 plus column.
pub(super) static PLACES_4X4: [[u8; 16]; 3] = [
    up_right_diagonal::<4, 16>(4),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15],
];

/// The inverse of [`PLACES_4X4`].
pub(super) static INDEX_4X4: [[u8; 16]; 3] = [
    inverse::<16>(&PLACES_4X4[0]),
    inverse::<16>(&PLACES_4X4[1]),
    inverse::<16>(&PLACES_4X4[2]),
];

/// The sub-blocks of a transform block in order, as row times 8 plus column.
pub(super) struct SubBlocks {
    pub(super) places: [u8; 64],
    /// By place.
    pub(super) index: [u8; 64],
}

/// By the log2 of the number of sub-blocks in a row, for the diagonal scan.
pub(super) static DIAGONAL: [SubBlocks; 4] = [sub_blocks(1), sub_blocks(2), sub_blocks(4), sub_blocks(8)];
/// The four sub-blocks of an 8×8 block in the horizontal scan.
pub(super) static HORIZONTAL: SubBlocks = four([0, 1, 8, 9]);
/// … and in the vertical scan.
pub(super) static VERTICAL: SubBlocks = four([0, 8, 1, 9]);

impl Scan {
    /// The sub-blocks of a transform block of `1 << log2` samples a side.
    pub(super) fn sub_blocks(self, log2: u8) -> &'static SubBlocks {
        match self {
            Self::Horizontal if log2 == 3 => &HORIZONTAL,
            Self::Vertical if log2 == 3 => &VERTICAL,
            _ => &DIAGONAL[usize::from(log2.saturating_sub(2)) & 3],
        }
    }
}

/// 6.5.3 for `size` × `size` places, written as row times `STRIDE` plus column.
const fn up_right_diagonal<const STRIDE: usize, const LEN: usize>(size: usize) -> [u8; LEN] {
    let mut places = [0; LEN];
    let (mut at, mut diagonal) = (0, 0);
    while at < size * size {
        let mut x = 0;
        while x <= diagonal {
            let y = diagonal - x;
            if x < size && y < size {
                places[at] = (y * STRIDE + x) as u8;
                at += 1;
            }
            x += 1;
        }
        diagonal += 1;
    }
    places
}

const fn inverse<const LEN: usize>(places: &[u8; LEN]) -> [u8; LEN] {
    let mut index = [0; LEN];
    let mut at = 0;
    while at < LEN {
        index[places[at] as usize] = at as u8;
        at += 1;
    }
    index
}

const fn sub_blocks(size: usize) -> SubBlocks {
    let places = up_right_diagonal::<8, 64>(size);
    let mut index = [0; 64];
    let mut at = 0;
    while at < size * size {
        index[places[at] as usize] = at as u8;
        at += 1;
    }
    SubBlocks { places, index }
}

const fn four(order: [u8; 4]) -> SubBlocks {
    let mut blocks = sub_blocks(1);
    let mut at = 0;
    while at < 4 {
        blocks.places[at] = order[at];
        blocks.index[order[at] as usize] = at as u8;
        at += 1;
    }
    blocks
}

/// `sigCtx` within a sub-block for each scan, neighbourhood and index in the scan. The neighbourhood is `prevCsbf` (bit 0: the sub-block to the
/// right has coefficients, bit 1: the one below), or [`WHOLE_4X4`].
pub(super) static SIGNIFICANCE: [[[u8; 16]; 5]; 3] = [
    significance(&PLACES_4X4[0]),
    significance(&PLACES_4X4[1]),
    significance(&PLACES_4X4[2]),
];

/// The neighbourhood of a 4×4 transform block.
pub(super) const WHOLE_4X4: usize = 4;

const fn significance(places: &[u8; 16]) -> [[u8; 16]; 5] {
    /// Table 9-50, `ctxIdxMap`; the last place is never coded.
    const MAP: [u8; 16] = [0, 1, 4, 5, 2, 3, 4, 5, 6, 6, 8, 8, 7, 7, 8, 8];
    const fn near(distance: u8) -> u8 {
        match distance {
            0 => 2,
            1 => 1,
            _ => 0,
        }
    }
    let mut all = [[0; 16]; 5];
    let mut n = 0;
    while n < 16 {
        let (x, y) = (places[n] & 3, places[n] >> 2);
        all[0][n] = match x + y {
            0 => 2,
            1 | 2 => 1,
            _ => 0,
        };
        all[1][n] = near(y);
        all[2][n] = near(x);
        all[3][n] = 2;
        all[WHOLE_4X4][n] = MAP[places[n] as usize];
        n += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagonal_scan_goes_up_and_right() {
        assert_eq!(
            PLACES_4X4[Scan::Diagonal as usize],
            [0, 4, 1, 8, 5, 2, 12, 9, 6, 3, 13, 10, 7, 14, 11, 15]
        );
        assert_eq!(DIAGONAL[1].places[..4], [0, 8, 1, 9]);
        assert_eq!(DIAGONAL[3].places[63], 63);
        for blocks in [&DIAGONAL[2], &HORIZONTAL, &VERTICAL] {
            assert!((0..4).all(|i| usize::from(blocks.index[usize::from(blocks.places[i])]) == i));
        }
    }

    #[test]
    fn the_places_have_the_contexts_of_the_standard() {
        let [diagonal, _, vertical] = &SIGNIFICANCE;
        assert_eq!(diagonal[0], [2, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(diagonal[1][..6], [2, 1, 2, 0, 1, 2]);
        assert_eq!(vertical[WHOLE_4X4][..5], [0, 2, 6, 7, 1]);
    }
}
