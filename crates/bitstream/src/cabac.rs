//! The arithmetic decoder of both codecs (ITU-T H.265 9.3.4.3, H.264 9.3.3.2).
//!
//! The standards keep a 9-bit offset and shift one bit in at a time. Here `value` holds the offset followed by `shift` bits that are not due
//! yet, so renormalising only lowers `shift`, and memory is read four bytes at a time. Zeros follow the end of the data; [`Cabac::is_past_end`]
//! tells when they were used.

/// A context: the state index (0 to 62) times 2, plus the more probable bin.
pub(crate) type Context = u8;

/// Fewest bits ahead of the offset after each call: the most that one bin or one group of bypass bins takes.
const MIN_AHEAD: u32 = 16;

/// A position in the data of a slice. Copied into a local variable for loops, so that it stays in registers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cabac<'a> {
    data: &'a [u8],
    /// Bytes loaded into `value`, those past the end included.
    loaded: usize,
    /// Less than `range << shift`.
    value: u64,
    range: u32,
    shift: u32,
}

impl<'a> Cabac<'a> {
    /// Starts at the first byte of `data` (9.3.2.5).
    #[inline]
    pub(crate) fn new(data: &'a [u8]) -> Self {
        let mut this = Self {
            data,
            loaded: 0,
            value: 0,
            range: 510,
            shift: 0,
        };
        // 9 bits of offset and 23 ahead.
        this.load();
        this.shift = 23;
        this
    }

    /// Starts anew at byte `at` of the data.
    pub(crate) fn restart(&mut self, at: usize) {
        let data = self.data;
        *self = Self::new(data.get(at..).unwrap_or_default());
        self.data = data;
        self.loaded += at;
    }

    #[inline(always)]
    fn load(&mut self) {
        let word = match self.data.get(self.loaded..self.loaded + 4) {
            Some(&[a, b, c, d]) => u32::from_be_bytes([a, b, c, d]),
            _ => self.load_tail(),
        };
        self.value = self.value << 32 | u64::from(word);
        self.loaded += 4;
    }

    #[cold]
    fn load_tail(&self) -> u32 {
        let rest = self.data.get(self.loaded..).unwrap_or_default();
        let mut word = [0; 4];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        u32::from_be_bytes(word)
    }

    #[inline(always)]
    fn refill(&mut self) {
        if self.shift < MIN_AHEAD {
            self.load();
            self.shift += 32;
        }
    }

    /// A bin of `context` (9.3.4.3.2).
    #[inline(always)]
    pub(crate) fn bin(&mut self, context: &mut Context) -> u32 {
        let state = *context;
        let step = STEPS[usize::from(state) << 2 | (self.range >> 6 & 3) as usize];
        let range = self.range - u32::from(step.range_lps);
        let scaled = u64::from(range) << self.shift;
        let bin = if self.value < scaled {
            *context = step.after_mps;
            // The range is at least 128.
            let renorm = (range >> 8) ^ 1;
            self.range = range << renorm;
            self.shift -= renorm;
            state & 1
        } else {
            self.value -= scaled;
            *context = step.after_lps;
            self.range = u32::from(step.range_lps) << step.renorm_lps;
            self.shift -= u32::from(step.renorm_lps);
            !state & 1
        };
        self.refill();
        u32::from(bin)
    }

    /// A bin of `context` as a flag.
    #[inline(always)]
    pub(crate) fn flag(&mut self, context: &mut Context) -> bool {
        self.bin(context) != 0
    }

    /// A bypass bin (9.3.4.3.4).
    #[inline(always)]
    pub(crate) fn bypass(&mut self) -> u32 {
        self.shift -= 1;
        let scaled = u64::from(self.range) << self.shift;
        let mask = ((self.value >= scaled) as u64).wrapping_neg();
        self.value -= scaled & mask;
        self.refill();
        mask as u32 & 1
    }

    /// `count` bypass bins, at most 16, the first one highest: the quotient of the offset and the range.
    #[inline(always)]
    pub(crate) fn bypass_bits(&mut self, count: u32) -> u32 {
        let quotient = (self.value >> (self.shift - count)) as u32 / self.range;
        self.take(quotient, count);
        quotient
    }

    /// The next 16 bypass bins, without taking them.
    #[inline(always)]
    pub(crate) fn peek_bypass(&self) -> u32 {
        (self.value >> (self.shift - 16)) as u32 / self.range
    }

    /// Takes `count` bypass bins whose values are known, at most 16.
    #[inline(always)]
    pub(crate) fn take(&mut self, bins: u32, count: u32) {
        self.shift -= count;
        self.value -= u64::from(bins * self.range) << self.shift;
        self.refill();
    }

    /// A bin before which the data may end (9.3.4.3.5).
    #[inline]
    pub(crate) fn terminate(&mut self) -> bool {
        self.range -= 2;
        if self.value >= u64::from(self.range) << self.shift {
            return true;
        }
        if self.range < 256 {
            self.range <<= 1;
            self.shift -= 1;
            self.refill();
        }
        false
    }

    /// Whether bits behind the end of the data were needed.
    #[inline]
    pub(crate) fn is_past_end(&self) -> bool {
        self.bits_read() > self.data.len() * 8
    }

    /// After [`Cabac::terminate`] returned true: the byte at which the data goes on. `None` unless the last bit read is 1 and only zeros
    /// follow it in its byte (9.3.4.3.5 and 9.3.2.5: it is `rbsp_stop_one_bit` or `alignment_bit_equal_to_one`).
    pub(crate) fn end(&self) -> Option<usize> {
        let bits = self.bits_read();
        let behind = (8 - bits % 8) % 8;
        let last = u16::from(*self.data.get((bits - 1) / 8)?);
        (last & ((1 << (behind + 1)) - 1) == 1 << behind).then_some(bits.div_ceil(8))
    }

    /// The same for H.264, where x264 ends slices and PCM with a 1 and then any bits up to the end of the byte.
    pub(crate) fn loose_end(&self) -> Option<usize> {
        let bits = self.bits_read();
        let behind = (8 - bits % 8) % 8;
        let last = *self.data.get((bits - 1) / 8)?;
        (last >> behind & 1 == 1).then_some(bits.div_ceil(8))
    }

    /// Bits that the decoder of the standard has read.
    #[inline]
    fn bits_read(&self) -> usize {
        self.loaded * 8 - self.shift as usize
    }

    /// The data behind byte `at`.
    pub(crate) fn rest(&self, at: usize) -> &'a [u8] {
        self.data.get(at..).unwrap_or_default()
    }
}

/// What a bin of a context does.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The range of the less probable bin.
    range_lps: u8,
    /// The shift that brings it back to 256 or more.
    renorm_lps: u8,
    /// The context after the more and the less probable bin.
    after_mps: Context,
    after_lps: Context,
}

/// By the context times 4, plus the two bits of the range below the highest. Any context is within it, so no bounds are checked.
static STEPS: [Step; 1024] = steps();

/// Tables 9-52 and 9-53 (H.264: 9-44 and 9-45).
const fn steps() -> [Step; 1024] {
    let mut steps = [Step {
        range_lps: 2,
        renorm_lps: 7,
        after_mps: 0,
        after_lps: 0,
    }; 1024];
    let mut i = 0;
    while i < 512 {
        let (context, quarter) = (i >> 2, i & 3);
        let (state, bin) = (context >> 1, context & 1);
        let range_lps = RANGE_LPS[state << 2 | quarter];
        let up = if state < 62 { state + 1 } else { state };
        // In state 0 the bins change places.
        let other_bin = if state == 0 { 1 - bin } else { bin };
        steps[i] = Step {
            range_lps,
            renorm_lps: range_lps.leading_zeros() as u8 + 1,
            after_mps: (up << 1 | bin) as u8,
            after_lps: STATE_AFTER_LPS[state] << 1 | other_bin as u8,
        };
        i += 1;
    }
    steps
}

/// `rangeTabLps`: four values for each state index.
const RANGE_LPS: [u8; 256] = [
    128, 176, 208, 240, 128, 167, 197, 227, 128, 158, 187, 216, 123, 150, 178, 205, 116, 142, 169, 195, 111, 135, 160,
    185, 105, 128, 152, 175, 100, 122, 144, 166, 95, 116, 137, 158, 90, 110, 130, 150, 85, 104, 123, 142, 81, 99, 117,
    135, 77, 94, 111, 128, 73, 89, 105, 122, 69, 85, 100, 116, 66, 80, 95, 110, 62, 76, 90, 104, 59, 72, 86, 99, 56,
    69, 81, 94, 53, 65, 77, 89, 51, 62, 73, 85, 48, 59, 69, 80, 46, 56, 66, 76, 43, 53, 63, 72, 41, 50, 59, 69, 39, 48,
    56, 65, 37, 45, 54, 62, 35, 43, 51, 59, 33, 41, 48, 56, 32, 39, 46, 53, 30, 37, 43, 50, 29, 35, 41, 48, 27, 33, 39,
    45, 26, 31, 37, 43, 24, 30, 35, 41, 23, 28, 33, 39, 22, 27, 32, 37, 21, 26, 30, 35, 20, 24, 29, 33, 19, 23, 27, 31,
    18, 22, 26, 30, 17, 21, 25, 28, 16, 20, 23, 27, 15, 19, 22, 25, 14, 18, 21, 24, 14, 17, 20, 23, 13, 16, 19, 22, 12,
    15, 18, 21, 12, 14, 17, 20, 11, 14, 16, 19, 11, 13, 15, 18, 10, 12, 15, 17, 10, 12, 14, 16, 9, 11, 13, 15, 9, 11,
    12, 14, 8, 10, 12, 14, 8, 9, 11, 13, 7, 9, 11, 12, 7, 9, 10, 12, 7, 8, 10, 11, 6, 8, 9, 11, 6, 7, 9, 10, 6, 7, 8,
    9, 2, 2, 2, 2,
];

/// `transIdxLps`.
const STATE_AFTER_LPS: [u8; 64] = [
    0, 0, 1, 2, 2, 4, 4, 5, 6, 7, 8, 9, 9, 11, 11, 12, 13, 13, 15, 15, 16, 16, 18, 18, 19, 19, 21, 21, 22, 22, 23, 24,
    24, 25, 26, 26, 27, 27, 28, 29, 29, 30, 30, 30, 31, 32, 32, 33, 33, 33, 34, 34, 35, 35, 35, 36, 36, 36, 37, 37, 37,
    38, 38, 63,
];

/// The context with state index and bin of `pre_state` (1 to 126), `preCtxState` of both standards.
pub(crate) fn context(pre_state: i32) -> Context {
    let pre_state = pre_state.clamp(1, 126) as u8;
    if pre_state <= 63 {
        (63 - pre_state) << 1
    } else {
        (pre_state - 64) << 1 | 1
    }
}
