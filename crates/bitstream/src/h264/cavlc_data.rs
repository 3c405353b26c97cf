//! The macroblocks of an intra slice coded with CAVLC (7.3.5, 9.2).

use super::{
    cabac_data::chroma_samples,
    cavlc_tables::{
        COEFF_TOKEN, COEFF_TOKEN_DC_4_2_0, COEFF_TOKEN_DC_4_2_2, Code, PATTERNS, PATTERNS_MONOCHROME, RUN_BEFORE,
        TOTAL_ZEROS, TOTAL_ZEROS_DC_4_2_0, TOTAL_ZEROS_DC_4_2_2, find,
    },
    macroblock::{Fault, LUMA_BLOCKS, Macroblock},
    sps::SpsHead,
};

/// The largest `level_prefix`: a magnitude of 2¹⁸, more than any sample depth needs. The profiles below High end at 15.
const MAX_LEVEL_PREFIX: u32 = 21;

/// The state within the data of a slice.
pub(super) struct CavlcData<'a> {
    payload: &'a [u8],
    /// Position in bits.
    at: usize,
    /// Position of `rbsp_stop_one_bit`.
    stop: usize,
    head: SpsHead,
    transform_8x8: bool,
}

/// A block of coefficients.
#[derive(Clone, Copy)]
enum Block {
    /// With nC.
    Normal(u8),
    ChromaDc,
}

impl<'a> CavlcData<'a> {
    /// Starts at bit `at` of the payload, behind the slice header. `None` if there is no stop bit behind it.
    pub(super) fn new(payload: &'a [u8], at: usize, head: SpsHead, transform_8x8: bool) -> Option<Self> {
        let last = payload.iter().rposition(|byte| *byte != 0)?;
        let stop = last * 8 + 7 - payload[last].trailing_zeros() as usize;
        (at <= stop).then_some(Self {
            payload,
            at,
            stop,
            head,
            transform_8x8,
        })
    }

    /// `more_rbsp_data()`.
    pub(super) fn has_more(&self) -> bool {
        self.at < self.stop
    }

    /// At least 57 bits from the position on, the first one highest; zeros behind the end.
    #[inline]
    fn ahead(&self) -> u64 {
        let byte = self.at / 8;
        let word = match self.payload.get(byte..byte + 8).and_then(|bytes| bytes.first_chunk()) {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => {
                let mut bytes = [0; 8];
                for (to, from) in bytes.iter_mut().zip(self.payload.get(byte..).unwrap_or_default()) {
                    *to = *from;
                }
                u64::from_be_bytes(bytes)
            }
        };
        word << (self.at % 8)
    }

    /// u(n), `n` from 0 to 32.
    #[inline]
    fn bits(&mut self, n: u32) -> u32 {
        let value = (self.ahead() >> 32) >> (32 - n);
        self.at += n as usize;
        value as u32
    }

    /// ue(v) up to 2¹⁶.
    #[inline]
    fn ue(&mut self) -> Result<u32, Fault> {
        let zeros = self.ahead().leading_zeros();
        if zeros > 16 {
            return Err(Fault::Invalid("code"));
        }
        self.at += zeros as usize;
        Ok(self.bits(zeros + 1) - 1)
    }

    #[inline]
    fn code(&mut self, codes: &[Code]) -> Result<u8, Fault> {
        let code = find(codes, (self.ahead() >> 48) as u32).ok_or(Fault::Invalid("code"))?;
        self.at += usize::from(code.len);
        Ok(code.value)
    }

    /// Reads `macroblock_layer()`. A neighbour that is not available is `None`.
    pub(super) fn macroblock(
        &mut self,
        left: Option<&Macroblock>,
        above: Option<&Macroblock>,
    ) -> Result<Macroblock, Fault> {
        let mut mb = Macroblock::EMPTY;
        match self.ue()? {
            0 => {
                mb.is_divided = true;
                self.divided_prediction(&mut mb);
            }
            25 => {
                self.skip_pcm()?;
                return Ok(Macroblock::PCM);
            }
            // Table 7-11.
            mb_type @ 1..25 => {
                mb.luma_pattern = if mb_type > 12 { 15 } else { 0 };
                mb.chroma_pattern = ((mb_type - 1) / 4 % 3) as u8;
            }
            _ => return Err(Fault::Invalid("macroblock type")),
        }
        let has_chroma = self.head.chroma_format_idc != 0;
        // intra_chroma_pred_mode.
        if has_chroma && self.ue()? > 3 {
            return Err(Fault::Invalid("prediction mode"));
        }
        if mb.is_divided {
            let patterns: &[u8] = if has_chroma { &PATTERNS } else { &PATTERNS_MONOCHROME };
            let pattern = patterns.get(self.ue()? as usize);
            let pattern = pattern.ok_or(Fault::Invalid("coded block pattern"))?;
            (mb.luma_pattern, mb.chroma_pattern) = (pattern & 15, pattern >> 4);
        }
        if mb.luma_pattern != 0 || mb.chroma_pattern != 0 || !mb.is_divided {
            // mb_qp_delta (7.4.5).
            let spare = 6 * (u32::from(self.head.bit_depth_luma) - 8);
            if self.ue()? > 52 + spare {
                return Err(Fault::Invalid("quantiser"));
            }
            self.luma(&mut mb, left, above)?;
            self.chroma(&mut mb, left, above)?;
        }
        if self.at > self.stop { Err(Fault::Ended) } else { Ok(mb) }
    }

    fn divided_prediction(&mut self, mb: &mut Macroblock) {
        mb.transform_8x8 = self.transform_8x8 && self.bits(1) == 1;
        for _ in 0..if mb.transform_8x8 { 4 } else { 16 } {
            if self.bits(1) == 0 {
                self.at += 3;
            }
        }
    }

    /// `I_PCM`.
    fn skip_pcm(&mut self) -> Result<(), Fault> {
        let padding = (8 - self.at % 8) % 8;
        if self.bits(padding as u32) != 0 {
            return Err(Fault::Invalid("alignment"));
        }
        let chroma = chroma_samples(self.head.chroma_format_idc);
        self.at += 256 * usize::from(self.head.bit_depth_luma) + chroma * usize::from(self.head.bit_depth_chroma);
        if self.at > self.stop { Err(Fault::Ended) } else { Ok(()) }
    }

    fn luma(
        &mut self,
        mb: &mut Macroblock,
        left: Option<&Macroblock>,
        above: Option<&Macroblock>,
    ) -> Result<(), Fault> {
        let beside = |mb: &Macroblock, at: usize| match at & 3 {
            0 => left.map(|left| left.totals[at + 3]),
            _ => Some(mb.totals[at - 1]),
        };
        let over = |mb: &Macroblock, at: usize| match at >> 2 {
            0 => above.map(|above| above.totals[at + 12]),
            _ => Some(mb.totals[at - 4]),
        };
        if !mb.is_divided {
            self.coefficients(Block::Normal(expected(beside(mb, 0), over(mb, 0))), 16)?;
        }
        let count = if mb.is_divided { 16 } else { 15 };
        for block in 0..16_u8 {
            if mb.luma_pattern >> (block >> 2) & 1 == 0 {
                continue;
            }
            let at = usize::from(LUMA_BLOCKS[usize::from(block)]);
            let nc = expected(beside(mb, at), over(mb, at));
            mb.totals[at] = self.coefficients(Block::Normal(nc), count)?;
        }
        Ok(())
    }

    fn chroma(
        &mut self,
        mb: &mut Macroblock,
        left: Option<&Macroblock>,
        above: Option<&Macroblock>,
    ) -> Result<(), Fault> {
        if mb.chroma_pattern == 0 {
            return Ok(());
        }
        let blocks = if self.head.chroma_format_idc == 2 { 8 } else { 4 };
        for _ in 0..2 {
            self.coefficients(Block::ChromaDc, blocks)?;
        }
        if mb.chroma_pattern < 2 {
            return Ok(());
        }
        for component in 0..2 {
            for at in 0..blocks as usize {
                let totals = &mb.chroma_totals[component];
                let beside = match at & 1 {
                    0 => left.map(|left| left.chroma_totals[component][at + 1]),
                    _ => Some(totals[at - 1]),
                };
                let over = match at >> 1 {
                    0 => above.map(|above| above.chroma_totals[component][blocks as usize - 2 + at]),
                    _ => Some(totals[at - 2]),
                };
                let total = self.coefficients(Block::Normal(expected(beside, over)), 15)?;
                mb.chroma_totals[component][at] = total;
            }
        }
        Ok(())
    }

    /// `residual_block_cavlc()` of a block of `count` coefficients (7.3.5.3.2); returns `TotalCoeff`.
    fn coefficients(&mut self, block: Block, count: u8) -> Result<u8, Fault> {
        let token = match (block, count) {
            (Block::Normal(nc), _) => {
                let table = match nc {
                    0..2 => 0,
                    2..4 => 1,
                    4..8 => 2,
                    _ => 3,
                };
                self.code(&COEFF_TOKEN[table])?
            }
            (Block::ChromaDc, 8) => self.code(&COEFF_TOKEN_DC_4_2_2)?,
            (Block::ChromaDc, _) => self.code(&COEFF_TOKEN_DC_4_2_0)?,
        };
        let (total, ones) = (token >> 2, token & 3);
        if total == 0 {
            return Ok(0);
        }
        if total > count {
            return Err(Fault::Invalid("coefficient count"));
        }
        self.at += usize::from(ones);
        self.levels(total, ones)?;
        let mut zeros = 0;
        if total < count {
            let index = usize::from(total - 1);
            let codes: Option<&[Code]> = match (block, count) {
                (Block::ChromaDc, 8) => TOTAL_ZEROS_DC_4_2_2.get(index).map(|c| &c[..]),
                (Block::ChromaDc, _) => TOTAL_ZEROS_DC_4_2_0.get(index).map(|c| &c[..]),
                _ => TOTAL_ZEROS.get(index).map(|c| &c[..]),
            };
            zeros = self.code(codes.unwrap_or_default())?;
            if zeros > count - total {
                return Err(Fault::Invalid("run of zeros"));
            }
        }
        for _ in 1..total {
            if zeros == 0 {
                break;
            }
            let run = self.code(&RUN_BEFORE[usize::from(zeros.min(7) - 1)])?;
            zeros = zeros.checked_sub(run).ok_or(Fault::Invalid("run of zeros"))?;
        }
        Ok(total)
    }

    /// `level_prefix` and `level_suffix` of what are not trailing ones (9.2.2.1).
    fn levels(&mut self, total: u8, ones: u8) -> Result<(), Fault> {
        let mut suffix_len = u32::from(total > 10 && ones < 3);
        for i in ones..total {
            let prefix = self.ahead().leading_zeros();
            if prefix > MAX_LEVEL_PREFIX {
                return Err(Fault::Invalid("coefficient"));
            }
            self.at += prefix as usize + 1;
            let bits = match (prefix, suffix_len) {
                (14, 0) => 4,
                (15.., _) => prefix - 3,
                _ => suffix_len,
            };
            let mut code = (prefix.min(15) << suffix_len) + self.bits(bits);
            if prefix >= 15 && suffix_len == 0 {
                code += 15;
            }
            if prefix >= 16 {
                code += (1 << (prefix - 3)) - 4096;
            }
            if i == ones && ones < 3 {
                code += 2;
            }
            let magnitude = code / 2 + 1;
            suffix_len = suffix_len.max(1);
            if magnitude > 3 << (suffix_len - 1) && suffix_len < 6 {
                suffix_len += 1;
            }
        }
        Ok(())
    }
}

/// nC (9.2.1) by the totals of the blocks to the left and above.
#[inline]
fn expected(left: Option<u8>, above: Option<u8>) -> u8 {
    match (left, above) {
        (Some(left), Some(above)) => (left + above + 1) >> 1,
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => 0,
    }
}
