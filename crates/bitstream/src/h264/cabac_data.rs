//! The macroblocks of an intra slice coded with CABAC (7.3.5, 9.3).

use super::{
    contexts::{
        self, CHROMA_MODE, CHROMA_PATTERN, CODED_BLOCK, Contexts, LAST, LAST_8X8, LEVEL, LEVEL_8X8, LUMA_PATTERN,
        MB_TYPE, PREVIOUS_MODE, QP_DELTA, REMAINING_MODE, SIGNIFICANT, SIGNIFICANT_8X8, TRANSFORM_8X8,
    },
    macroblock::{Fault, LUMA_BLOCKS, Macroblock},
    sps::SpsHead,
};
use crate::cabac::Cabac;

/// The kinds of blocks, `ctxBlockCat` (table 9-42).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The DC coefficients of `I_16x16`.
    LumaDc = 0,
    /// The others of `I_16x16`.
    LumaAc = 1,
    Luma4x4 = 2,
    ChromaDc = 3,
    ChromaAc = 4,
    Luma8x8 = 5,
}

/// The state within the data of a slice.
pub(super) struct CabacData<'a> {
    pub(super) cabac: Cabac<'a>,
    contexts: Contexts,
    head: SpsHead,
    transform_8x8: bool,
    /// `mb_qp_delta` of the previous macroblock was not 0.
    changed_qp: bool,
}

impl<'a> CabacData<'a> {
    pub(super) fn new(data: &'a [u8], qp: i32, head: SpsHead, transform_8x8: bool) -> Self {
        Self {
            cabac: Cabac::new(data),
            contexts: contexts::initial(qp),
            head,
            transform_8x8,
            changed_qp: false,
        }
    }

    /// Reads `macroblock_layer()`.
    pub(super) fn macroblock(&mut self, left: &Macroblock, above: &Macroblock) -> Result<Macroblock, Fault> {
        let mut mb = Macroblock::EMPTY;
        let context = MB_TYPE + usize::from(!left.is_divided) + usize::from(!above.is_divided);
        if !self.cabac.flag(&mut self.contexts[context]) {
            mb.is_divided = true;
            self.divided_prediction(&mut mb, left, above);
        } else if self.cabac.terminate() {
            self.skip_pcm()?;
            self.changed_qp = false;
            return if self.cabac.is_past_end() {
                Err(Fault::Ended)
            } else {
                Ok(Macroblock::PCM)
            };
        } else {
            if self.cabac.flag(&mut self.contexts[MB_TYPE + 3]) {
                mb.luma_pattern = 15;
            }
            if self.cabac.flag(&mut self.contexts[MB_TYPE + 4]) {
                mb.chroma_pattern = 1 + self.cabac.bin(&mut self.contexts[MB_TYPE + 5]) as u8;
            }
            self.cabac.bin(&mut self.contexts[MB_TYPE + 6]);
            self.cabac.bin(&mut self.contexts[MB_TYPE + 7]);
        }
        if self.head.chroma_format_idc != 0 {
            self.chroma_mode(&mut mb, left, above);
        }
        if mb.is_divided {
            self.coded_block_pattern(&mut mb, left, above);
        }
        if mb.luma_pattern != 0 || mb.chroma_pattern != 0 || !mb.is_divided {
            self.qp_delta()?;
            self.luma(&mut mb, left, above)?;
            self.chroma(&mut mb, left, above)?;
        } else {
            self.changed_qp = false;
        }
        if self.cabac.is_past_end() {
            return Err(Fault::Ended);
        }
        Ok(mb)
    }

    /// After `I_PCM`.
    fn skip_pcm(&mut self) -> Result<(), Fault> {
        let start = self.cabac.loose_end().ok_or(Fault::Invalid("alignment"))?;
        let chroma = chroma_samples(self.head.chroma_format_idc);
        let bits = 256 * usize::from(self.head.bit_depth_luma) + chroma * usize::from(self.head.bit_depth_chroma);
        self.cabac.restart(start + bits / 8);
        Ok(())
    }

    /// `transform_size_8x8_flag` and the prediction modes of the blocks.
    fn divided_prediction(&mut self, mb: &mut Macroblock, left: &Macroblock, above: &Macroblock) {
        if self.transform_8x8 {
            let context = TRANSFORM_8X8 + usize::from(left.transform_8x8) + usize::from(above.transform_8x8);
            mb.transform_8x8 = self.cabac.flag(&mut self.contexts[context]);
        }
        for _ in 0..if mb.transform_8x8 { 4 } else { 16 } {
            if !self.cabac.flag(&mut self.contexts[PREVIOUS_MODE]) {
                for _ in 0..3 {
                    self.cabac.bin(&mut self.contexts[REMAINING_MODE]);
                }
            }
        }
    }

    fn chroma_mode(&mut self, mb: &mut Macroblock, left: &Macroblock, above: &Macroblock) {
        let context = CHROMA_MODE + usize::from(left.has_chroma_mode) + usize::from(above.has_chroma_mode);
        mb.has_chroma_mode = self.cabac.flag(&mut self.contexts[context]);
        if mb.has_chroma_mode && self.cabac.flag(&mut self.contexts[CHROMA_MODE + 3]) {
            self.cabac.bin(&mut self.contexts[CHROMA_MODE + 3]);
        }
    }

    /// 9.3.3.1.1.4.
    fn coded_block_pattern(&mut self, mb: &mut Macroblock, left: &Macroblock, above: &Macroblock) {
        let mut pattern = 0;
        for block in 0..4_u8 {
            let is_zero = |pattern: u8, block: u8| usize::from(pattern >> block & 1 == 0);
            let beside = match block & 1 {
                0 => is_zero(left.luma_pattern, block + 1),
                _ => is_zero(pattern, block - 1),
            };
            let over = match block >> 1 {
                0 => is_zero(above.luma_pattern, block + 2),
                _ => is_zero(pattern, block - 2),
            };
            let bin = self.cabac.bin(&mut self.contexts[LUMA_PATTERN + beside + 2 * over]);
            pattern |= (bin as u8) << block;
        }
        mb.luma_pattern = pattern;
        if self.head.chroma_format_idc == 0 {
            return;
        }
        let context =
            |least: u8| usize::from(left.chroma_pattern >= least) + 2 * usize::from(above.chroma_pattern >= least);
        if self.cabac.flag(&mut self.contexts[CHROMA_PATTERN + context(1)]) {
            mb.chroma_pattern = 1 + self.cabac.bin(&mut self.contexts[CHROMA_PATTERN + 4 + context(2)]) as u8;
        }
    }

    fn qp_delta(&mut self) -> Result<(), Fault> {
        let mut context = QP_DELTA + usize::from(self.changed_qp);
        let mut code = 0;
        while self.cabac.flag(&mut self.contexts[context]) {
            context = QP_DELTA + if code == 0 { 2 } else { 3 };
            code += 1;
            // 7.4.5: up to ±26, more with deeper samples.
            if code > 2 * (26 + 3 * (i32::from(self.head.bit_depth_luma) - 8)) {
                return Err(Fault::Invalid("quantiser"));
            }
        }
        self.changed_qp = code != 0;
        Ok(())
    }

    fn luma(&mut self, mb: &mut Macroblock, left: &Macroblock, above: &Macroblock) -> Result<(), Fault> {
        if !mb.is_divided && self.coded_block(Kind::LumaDc, left.dc & 1 != 0, above.dc & 1 != 0) {
            mb.dc |= 1;
            self.coefficients(Kind::LumaDc, 16)?;
        }
        let (kind, count) = if mb.is_divided {
            (Kind::Luma4x4, 16)
        } else {
            (Kind::LumaAc, 15)
        };
        for quarter in 0..4_u8 {
            if mb.luma_pattern >> quarter & 1 == 0 {
                continue;
            }
            if mb.transform_8x8 {
                self.coefficients(Kind::Luma8x8, 64)?;
                mb.luma |= 0x33 << ((quarter >> 1) * 8 + (quarter & 1) * 2);
                continue;
            }
            for block in 4 * quarter..4 * quarter + 4 {
                let at = LUMA_BLOCKS[usize::from(block & 15)];
                let beside = if at & 3 == 0 {
                    left.luma >> (at + 3)
                } else {
                    mb.luma >> (at - 1)
                };
                let over = if at < 4 {
                    above.luma >> (at + 12)
                } else {
                    mb.luma >> (at - 4)
                };
                if self.coded_block(kind, beside & 1 != 0, over & 1 != 0) {
                    mb.luma |= 1 << at;
                    self.coefficients(kind, count)?;
                }
            }
        }
        Ok(())
    }

    fn chroma(&mut self, mb: &mut Macroblock, left: &Macroblock, above: &Macroblock) -> Result<(), Fault> {
        if mb.chroma_pattern == 0 {
            return Ok(());
        }
        let blocks: u8 = if self.head.chroma_format_idc == 2 { 8 } else { 4 };
        for component in 0..2 {
            let bit = 2 << component;
            if self.coded_block(Kind::ChromaDc, left.dc & bit != 0, above.dc & bit != 0) {
                mb.dc |= bit;
                self.coefficients(Kind::ChromaDc, usize::from(blocks))?;
            }
        }
        if mb.chroma_pattern < 2 {
            return Ok(());
        }
        for component in 0..2 {
            for at in 0..blocks {
                let coded = mb.chroma[component];
                let beside = if at & 1 == 0 {
                    left.chroma[component] >> (at + 1)
                } else {
                    coded >> (at - 1)
                };
                let over = if at < 2 {
                    above.chroma[component] >> (blocks - 2 + at)
                } else {
                    coded >> (at - 2)
                };
                if self.coded_block(Kind::ChromaAc, beside & 1 != 0, over & 1 != 0) {
                    mb.chroma[component] |= 1 << at;
                    self.coefficients(Kind::ChromaAc, 15)?;
                }
            }
        }
        Ok(())
    }

    /// `coded_block_flag`, by those of the neighbouring blocks.
    #[inline]
    fn coded_block(&mut self, kind: Kind, left: bool, above: bool) -> bool {
        let context = CODED_BLOCK + 4 * kind as usize + usize::from(left) + 2 * usize::from(above);
        self.cabac.flag(&mut self.contexts[context & 511])
    }

    /// `residual_block_cabac()` of a block with coefficients, after `coded_block_flag` (7.3.5.3.3).
    fn coefficients(&mut self, kind: Kind, count: usize) -> Result<(), Fault> {
        /// Equation 9-4 and table 9-40.
        const OFFSETS: [usize; 5] = [0, 15, 29, 44, 47];
        const LEVEL_OFFSETS: [usize; 5] = [0, 10, 20, 30, 39];
        let mut cabac = self.cabac;
        let contexts = &mut self.contexts;
        // How many coefficients are not zero.
        let mut coded = 0_u32;
        let mut i = 0;
        loop {
            if i + 1 >= count {
                coded += 1;
                break;
            }
            let (significant, last) = match kind {
                Kind::Luma8x8 => (
                    SIGNIFICANT_8X8 + usize::from(SIGNIFICANT_OFFSETS[i & 63]),
                    LAST_8X8 + usize::from(LAST_OFFSETS[i & 63]),
                ),
                Kind::ChromaDc => {
                    let offset = OFFSETS[3] + (i / (count / 4)).min(2);
                    (SIGNIFICANT + offset, LAST + offset)
                }
                _ => (
                    SIGNIFICANT + OFFSETS[kind as usize] + i,
                    LAST + OFFSETS[kind as usize] + i,
                ),
            };
            i += 1;
            if cabac.flag(&mut contexts[significant & 511]) {
                coded += 1;
                if cabac.flag(&mut contexts[last & 511]) {
                    break;
                }
            }
        }
        let (levels, most) = match kind {
            Kind::Luma8x8 => (LEVEL_8X8, 4),
            Kind::ChromaDc => (LEVEL + LEVEL_OFFSETS[3], 3),
            _ => (LEVEL + LEVEL_OFFSETS[kind as usize], 4),
        };
        let (mut ones, mut larger) = (0, 0);
        for _ in 0..coded {
            let first = if larger > 0 { 0 } else { (1 + ones).min(4) };
            if cabac.flag(&mut contexts[(levels + first) & 511]) {
                let context = (levels + 5 + larger.min(most)) & 511;
                let mut prefix = 1;
                while prefix < 14 && cabac.flag(&mut contexts[context]) {
                    prefix += 1;
                }
                if prefix == 14 {
                    skip_escape(&mut cabac)?;
                }
                larger += 1;
            } else {
                ones += 1;
            }
            // coeff_sign_flag.
            cabac.bypass();
        }
        self.cabac = cabac;
        Ok(())
    }
}

/// The Exp-Golomb suffix of `coeff_abs_level_minus1` (9.3.2.3).
#[cold]
fn skip_escape(cabac: &mut Cabac<'_>) -> Result<(), Fault> {
    let mut order = 0;
    while cabac.bypass() == 1 {
        order += 1;
        // Levels have up to 8 bits more than samples (7.4.5.3.3).
        if order > 16 {
            return Err(Fault::Invalid("coefficient"));
        }
    }
    cabac.bypass_bits(order);
    Ok(())
}

/// Chroma samples of a macroblock.
pub(super) fn chroma_samples(chroma_format_idc: u8) -> usize {
    match chroma_format_idc {
        0 => 0,
        1 => 128,
        2 => 256,
        _ => 512,
    }
}

/// Table 9-43 for frames: `significant_coeff_flag` in blocks of 8×8.
static SIGNIFICANT_OFFSETS: [u8; 64] = [
    0, 1, 2, 3, 4, 5, 5, 4, 4, 3, 3, 4, 4, 4, 5, 5, 4, 4, 4, 4, 3, 3, 6, 7, 7, 7, 8, 9, 10, 9, 8, 7, 7, 6, 11, 12, 13,
    11, 6, 7, 8, 9, 14, 10, 9, 8, 6, 11, 12, 13, 11, 6, 9, 14, 10, 9, 11, 12, 13, 11, 14, 10, 12, 12,
];

/// … and `last_significant_coeff_flag`.
static LAST_OFFSETS: [u8; 64] = [
    0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3,
    3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8, 8, 8, 8,
];
