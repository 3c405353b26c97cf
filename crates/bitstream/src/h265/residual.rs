//! The coefficients of a transform block (7.3.8.11).

use super::{
    contexts::{CODED_SUB_BLOCK, Contexts, GREATER_1, GREATER_2, LAST_X, LAST_Y, SIGNIFICANT, TRANSFORM_SKIP},
    scan::{INDEX_4X4, SIGNIFICANCE, Scan, WHOLE_4X4},
    slice::Fault,
};
use crate::cabac::Cabac;

/// The largest magnitude of a coefficient: −32,768 to 32,767 (7.4.9.11, without extended precision).
const MAX_LEVEL: u32 = 32_768;
/// `StatCoeff`, by kind of block (9.3.3.11).
pub(super) type RiceStatistics = [u8; 4];

/// What decides how a block's coefficients are coded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Log2 of the side, 2 to 5.
    pub(super) log2: u8,
    pub(super) is_chroma: bool,
    /// The prediction mode of its samples, 0 to 34.
    pub(super) mode: u8,
    pub(super) scan: Scan,
    /// `cu_transquant_bypass_flag`.
    pub(super) is_lossless: bool,
}

/// What the parameter sets say of coefficients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Coding {
    /// Log2 of the largest block with `transform_skip_flag`; 0 for none.
    pub(super) max_skip_log2: u8,
    pub(super) sign_hiding: bool,
    pub(super) skip_context: bool,
    pub(super) implicit_rdpcm: bool,
    pub(super) persistent_rice: bool,
}

/// Reads `residual_coding()`.
pub(super) fn read(
    position: &mut Cabac<'_>,
    contexts: &mut Contexts,
    rice_statistics: &mut RiceStatistics,
    coding: Coding,
    block: Block,
) -> Result<(), Fault> {
    let mut cabac = *position;
    let chroma = usize::from(block.is_chroma);
    let is_skipped =
        !block.is_lossless && block.log2 <= coding.max_skip_log2 && cabac.flag(&mut contexts[TRANSFORM_SKIP + chroma]);
    let (last_x, last_y) = last_position(&mut cabac, contexts, block)?;
    let blocks = block.scan.sub_blocks(block.log2);
    let indexes = &INDEX_4X4[block.scan as usize];
    let last_sub_block = blocks.index[(last_y >> 2 << 3 | last_x >> 2) & 63];
    let last_index = indexes[(last_y & 3) << 2 | last_x & 3];

    // 7.3.8.11: a sign may be hidden unless the samples are coded without a transform along the direction of prediction.
    let is_directional = coding.implicit_rdpcm && is_skipped && matches!(block.mode, 10 | 26);
    let may_hide_sign = coding.sign_hiding && !block.is_lossless && !is_directional;
    let is_untransformed = is_skipped || block.is_lossless;
    let flat_context = (coding.skip_context && is_untransformed).then_some(SIGNIFICANT + 42 + chroma);
    let statistic = usize::from(!block.is_chroma) * 2 + usize::from(is_untransformed);

    // Which sub-blocks have coefficients: a row per byte, a column per bit.
    let mut coded = [0_u8; 9];
    // greater1Ctx after the previous sub-block.
    let mut greater_1 = 1;
    for i in (0..=last_sub_block).rev() {
        let place = blocks.places[usize::from(i) & 63];
        let (x, y) = (place & 7, usize::from(place >> 3 & 7));
        let neighbours = (coded[y] >> 1 >> x & 1) | (coded[y + 1] >> x & 1) << 1;
        let is_last = i == last_sub_block;
        let is_coded =
            is_last || i == 0 || cabac.flag(&mut contexts[CODED_SUB_BLOCK + usize::from(neighbours != 0) + 2 * chroma]);
        if !is_coded {
            continue;
        }
        coded[y] |= 1 << x;
        let table = if block.log2 == 2 {
            WHOLE_4X4
        } else {
            usize::from(neighbours)
        };
        let significance = Significance {
            offsets: &SIGNIFICANCE[block.scan as usize][table],
            base: significance_base(block, i == 0),
            flat_context,
            first: if is_last { last_index } else { 16 },
            is_dc_inferred: !is_last && i > 0,
            dc_context: if i == 0 && block.log2 > 2 {
                SIGNIFICANT + 27 * chroma
            } else {
                usize::MAX
            },
        };
        let positions = significance.read(&mut cabac, contexts) | if is_last { 1 << last_index } else { 0 };
        if positions == 0 {
            continue;
        }
        // 9.3.4.2.6.
        let mut set = if i == 0 || block.is_chroma { 0 } else { 2 };
        if !is_last && greater_1 == 0 {
            set += 1;
        }
        let count = positions.count_ones();
        let levels = read_greater_flags(&mut cabac, contexts, set + 4 * chroma, count);
        greater_1 = levels.greater_1_context;
        let span = 31 - positions.leading_zeros() - positions.trailing_zeros();
        let signs = count - u32::from(may_hide_sign && span > 3);
        cabac.bypass_bits(signs);
        let statistics = coding.persistent_rice.then(|| &mut rice_statistics[statistic & 3]);
        read_remaining(&mut cabac, levels, count, statistics)?;
    }
    *position = cabac;
    Ok(())
}

/// `last_sig_coeff_x_prefix` to `last_sig_coeff_y_suffix`: column and row of the last coefficient.
#[inline]
fn last_position(cabac: &mut Cabac<'_>, contexts: &mut Contexts, block: Block) -> Result<(usize, usize), Fault> {
    let log2 = usize::from(block.log2);
    // 9.3.4.2.3.
    let (offset, shift) = if block.is_chroma {
        (15, log2 - 2)
    } else {
        (3 * (log2 - 2) + ((log2 - 1) >> 2), (log2 + 1) >> 2)
    };
    let longest = 2 * log2 - 1;
    let mut prefix = |first: usize| {
        let mut len = 0;
        while len < longest && cabac.flag(&mut contexts[(first + offset + (len >> shift)) & 255]) {
            len += 1;
        }
        len
    };
    let (x, y) = (prefix(LAST_X), prefix(LAST_Y));
    let mut with_suffix = |prefix: usize| {
        if prefix <= 3 {
            return prefix;
        }
        let bits = (prefix >> 1) - 1;
        ((2 + (prefix & 1)) << bits) + cabac.bypass_bits(bits as u32) as usize
    };
    let (x, y) = (with_suffix(x), with_suffix(y));
    Ok(if block.scan == Scan::Vertical { (y, x) } else { (x, y) })
}

/// The first context of `sig_coeff_flag` in a sub-block (9.3.4.2.5).
#[inline]
fn significance_base(block: Block, is_first: bool) -> usize {
    let offset = match (block.is_chroma, block.log2) {
        (_, 2) => 0,
        (false, 3) => {
            let scan = if block.scan == Scan::Diagonal { 9 } else { 15 };
            scan + if is_first { 0 } else { 3 }
        }
        (false, _) => 21 + if is_first { 0 } else { 3 },
        (true, 3) => 9,
        (true, _) => 12,
    };
    SIGNIFICANT + offset + if block.is_chroma { 27 } else { 0 }
}

/// How the `sig_coeff_flag`s of a sub-block are read.
struct Significance<'a> {
    offsets: &'a [u8; 16],
    base: usize,
    /// The one context of all.
    flat_context: Option<usize>,
    /// The index behind the first one that is coded.
    first: u8,
    /// The coefficient at index 0 is not zero if all others are.
    is_dc_inferred: bool,
    /// The context at index 0 of the first sub-block; `usize::MAX` elsewhere.
    dc_context: usize,
}

impl Significance<'_> {
    /// The coefficients that are not zero, a bit for each index.
    #[inline(always)]
    fn read(&self, cabac: &mut Cabac<'_>, contexts: &mut Contexts) -> u32 {
        let mut positions = 0;
        for n in (1..self.first.min(16)).rev() {
            let context = match self.flat_context {
                Some(context) => context,
                None => self.base + usize::from(self.offsets[usize::from(n) & 15]),
            };
            positions |= cabac.bin(&mut contexts[context & 255]) << n;
        }
        if self.first > 0 {
            let is_dc = if positions == 0 && self.is_dc_inferred {
                1
            } else {
                let context = match self.flat_context {
                    Some(context) => context,
                    None if self.dc_context != usize::MAX => self.dc_context,
                    None => self.base + usize::from(self.offsets[0]),
                };
                cabac.bin(&mut contexts[context & 255])
            };
            positions |= is_dc;
        }
        positions
    }
}

/// What the flags of a sub-block say about the magnitudes.
struct Levels {
    /// `greater1Ctx` after the last flag.
    greater_1_context: usize,
    /// A bit for each of the first 8 coefficients: its magnitude exceeds what the flags can say.
    escaped: u32,
    /// The coefficient whose flags say up to 2.
    with_greater_2: u32,
}

/// `coeff_abs_level_greater1_flag` and `coeff_abs_level_greater2_flag` of `count` coefficients; `set` is `ctxSet`, plus 4 for chroma.
#[inline(always)]
fn read_greater_flags(cabac: &mut Cabac<'_>, contexts: &mut Contexts, set: usize, count: u32) -> Levels {
    let mut context = 1;
    let mut flags = 0;
    for k in 0..count.min(8) {
        let flag = cabac.bin(&mut contexts[(GREATER_1 + set * 4 + context) & 255]);
        flags |= flag << k;
        context = match (flag, context) {
            (1, _) | (_, 0) => 0,
            (_, context) => (context + 1).min(3),
        };
    }
    let mut with_greater_2 = u32::MAX;
    if flags != 0 {
        with_greater_2 = flags.trailing_zeros();
        // Chroma has one set of contexts in four here: ctxSet plus 4.
        let flag = cabac.bin(&mut contexts[(GREATER_2 + set) & 255]);
        flags &= !(1 << with_greater_2) | flag << with_greater_2;
    }
    Levels {
        greater_1_context: context,
        escaped: flags,
        with_greater_2,
    }
}

/// `coeff_abs_level_remaining` of `count` coefficients.
#[inline(always)]
fn read_remaining(
    cabac: &mut Cabac<'_>,
    levels: Levels,
    count: u32,
    mut statistics: Option<&mut u8>,
) -> Result<(), Fault> {
    let is_persistent = statistics.is_some();
    let mut rice = statistics.as_ref().map_or(0, |s| u32::from(**s / 4));
    // All beyond the eighth.
    let mut left = levels.escaped | (0xffff_ff00 & ((1_u32 << count) - 1));
    while left != 0 {
        let k = left.trailing_zeros();
        left &= left - 1;
        let base = match k {
            8.. => 1,
            k if k == levels.with_greater_2 => 3,
            _ => 2,
        };
        let value = remaining(cabac, rice)?;
        if base + value > MAX_LEVEL {
            return Err(Fault::Invalid("coefficient"));
        }
        // 9.3.3.11.
        if let Some(statistic) = statistics.take() {
            if value >= 3 << (*statistic / 4) {
                *statistic += 1;
            } else if 2 * value < 1 << (*statistic / 4) && *statistic > 0 {
                *statistic -= 1;
            }
        }
        if base + value > 3 << rice && (is_persistent || rice < 4) {
            rice += 1;
        }
    }
    Ok(())
}

/// `coeff_abs_level_remaining` with `cRiceParam` `rice`, at most 14 (9.3.3.11).
#[inline(always)]
fn remaining(cabac: &mut Cabac<'_>, rice: u32) -> Result<u32, Fault> {
    let bins = cabac.peek_bypass();
    let prefix = (!(bins << 16)).leading_zeros();
    let suffix_bits = if prefix <= 3 { rice } else { prefix - 3 + rice };
    let suffix = if prefix + 1 + suffix_bits <= 16 {
        let count = prefix + 1 + suffix_bits;
        let taken = bins >> (16 - count);
        cabac.take(taken, count);
        taken & ((1 << suffix_bits) - 1)
    } else {
        // More than 16 ones, or more than 16 bits after them, are more than any coefficient takes.
        if prefix >= 16 || suffix_bits > 16 {
            return Err(Fault::Invalid("coefficient"));
        }
        cabac.take(bins >> (15 - prefix), prefix + 1);
        cabac.bypass_bits(suffix_bits)
    };
    Ok(if prefix <= 3 {
        (prefix << rice) + suffix
    } else {
        (((1 << (prefix - 3)) + 2) << rice) + suffix
    })
}
