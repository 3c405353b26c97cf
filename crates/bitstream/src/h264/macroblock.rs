//! What is kept of the macroblocks decoded so far, for the contexts of their neighbours.

/// A macroblock. Blocks of 4×4 samples have a bit each: row times 4 plus column for luma, row times 2 plus column for chroma.
#[derive(Debug, Clone, Copy)]
pub(super) struct Macroblock {
    /// `I_NxN`: predicted in blocks of 4×4 or 8×8.
    pub(super) is_divided: bool,
    pub(super) transform_8x8: bool,
    /// `intra_chroma_pred_mode` is not 0.
    pub(super) has_chroma_mode: bool,
    /// `CodedBlockPatternLuma` and `CodedBlockPatternChroma`.
    pub(super) luma_pattern: u8,
    pub(super) chroma_pattern: u8,
    /// `coded_block_flag` of luma DC (bit 0), Cb DC (1) and Cr DC (2).
    pub(super) dc: u8,
    /// … of luma blocks.
    pub(super) luma: u16,
    /// … of chroma AC blocks, Cb and Cr.
    pub(super) chroma: [u8; 2],
    /// Coefficients of each block, for CAVLC: luma, then Cb and Cr.
    pub(super) totals: [u8; 16],
    pub(super) chroma_totals: [[u8; 8]; 2],
}

impl Macroblock {
    /// A macroblock of another slice, or outside the picture (9.3.3.1.1).
    pub(super) const UNAVAILABLE: Self = Self {
        is_divided: true,
        transform_8x8: false,
        has_chroma_mode: false,
        luma_pattern: 15,
        chroma_pattern: 0,
        dc: 7,
        luma: 0xffff,
        chroma: [0xff; 2],
        totals: [0; 16],
        chroma_totals: [[0; 8]; 2],
    };
    /// `I_PCM`.
    pub(super) const PCM: Self = Self {
        is_divided: false,
        chroma_pattern: 2,
        totals: [16; 16],
        chroma_totals: [[16; 8]; 2],
        ..Self::UNAVAILABLE
    };
    /// One without coefficients, to be filled in.
    pub(super) const EMPTY: Self = Self {
        is_divided: false,
        transform_8x8: false,
        has_chroma_mode: false,
        luma_pattern: 0,
        chroma_pattern: 0,
        dc: 0,
        luma: 0,
        chroma: [0; 2],
        totals: [0; 16],
        chroma_totals: [[0; 8]; 2],
    };
}

/// What is wrong with the data of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The data ends within a macroblock.
    Ended,
    /// A value that no encoder writes.
    Invalid(&'static str),
}

/// The place of each luma block in the order of coding (6.4.3): row times 4 plus column.
pub(super) static LUMA_BLOCKS: [u8; 16] = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15];
