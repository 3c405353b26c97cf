//! The variable-length codes of CAVLC (9.2).

/// A code, and what it stands for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Code {
    pub(super) len: u8,
    bits: u16,
    pub(super) value: u8,
}

impl Code {
    const NONE: Self = Self {
        len: 0,
        bits: 0,
        value: 0,
    };
}

/// Codes, the shortest first. Those behind the last have length 0.
pub(super) type Codes<const COUNT: usize> = [Code; COUNT];

/// The code that `ahead`, the next 16 bits, begin with.
#[inline]
pub(super) fn find(codes: &[Code], ahead: u32) -> Option<Code> {
    let mut used = codes.iter().take_while(|code| code.len > 0);
    used.find(|code| ahead >> (16 - code.len) == u32::from(code.bits))
        .copied()
}

/// Sorts codes given by length and bits; a length of 0 marks a value without a code.
const fn sorted<const COUNT: usize>(lens: &[u8], bits: &[u16]) -> Codes<COUNT> {
    let mut codes = [Code::NONE; COUNT];
    let (mut at, mut len) = (0, 1);
    while len <= 16 {
        let mut value = 0;
        while value < lens.len() {
            if lens[value] == len {
                codes[at] = Code {
                    len,
                    bits: bits[value],
                    value: value as u8,
                };
                at += 1;
            }
            value += 1;
        }
        len += 1;
    }
    codes
}

/// `coeff_token` (table 9-5) by nC: 0 to 1, 2 to 3, 4 to 7, 8 and more. The value is 4 times `TotalCoeff` plus `TrailingOnes`.
pub(super) static COEFF_TOKEN: [Codes<68>; 4] = [
    sorted(
        &[
            1, 0, 0, 0, 6, 2, 0, 0, 8, 6, 3, 0, 9, 8, 7, 5, 10, 9, 8, 6, 11, 10, 9, 7, 13, 11, 10, 8, 13, 13, 11, 9,
            13, 13, 13, 10, 14, 14, 13, 11, 14, 14, 14, 13, 15, 15, 14, 14, 15, 15, 15, 14, 16, 15, 15, 15, 16, 16, 16,
            15, 16, 16, 16, 16, 16, 16, 16, 16,
        ],
        &[
            1, 0, 0, 0, 5, 1, 0, 0, 7, 4, 1, 0, 7, 6, 5, 3, 7, 6, 5, 3, 7, 6, 5, 4, 15, 6, 5, 4, 11, 14, 5, 4, 8, 10,
            13, 4, 15, 14, 9, 4, 11, 10, 13, 12, 15, 14, 9, 12, 11, 10, 13, 8, 15, 1, 9, 12, 11, 14, 13, 8, 7, 10, 9,
            12, 4, 6, 5, 8,
        ],
    ),
    sorted(
        &[
            2, 0, 0, 0, 6, 2, 0, 0, 6, 5, 3, 0, 7, 6, 6, 4, 8, 6, 6, 4, 8, 7, 7, 5, 9, 8, 8, 6, 11, 9, 9, 6, 11, 11,
            11, 7, 12, 11, 11, 9, 12, 12, 12, 11, 12, 12, 12, 11, 13, 13, 13, 12, 13, 13, 13, 13, 13, 14, 13, 13, 14,
            14, 14, 13, 14, 14, 14, 14,
        ],
        &[
            3, 0, 0, 0, 11, 2, 0, 0, 7, 7, 3, 0, 7, 10, 9, 5, 7, 6, 5, 4, 4, 6, 5, 6, 7, 6, 5, 8, 15, 6, 5, 4, 11, 14,
            13, 4, 15, 10, 9, 4, 11, 14, 13, 12, 8, 10, 9, 8, 15, 14, 13, 12, 11, 10, 9, 12, 7, 11, 6, 8, 9, 8, 10, 1,
            7, 6, 5, 4,
        ],
    ),
    sorted(
        &[
            4, 0, 0, 0, 6, 4, 0, 0, 6, 5, 4, 0, 6, 5, 5, 4, 7, 5, 5, 4, 7, 5, 5, 4, 7, 6, 6, 4, 7, 6, 6, 4, 8, 7, 7, 5,
            8, 8, 7, 6, 9, 8, 8, 7, 9, 9, 8, 8, 9, 9, 9, 8, 10, 9, 9, 9, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10,
            10,
        ],
        &[
            15, 0, 0, 0, 15, 14, 0, 0, 11, 15, 13, 0, 8, 12, 14, 12, 15, 10, 11, 11, 11, 8, 9, 10, 9, 14, 13, 9, 8, 10,
            9, 8, 15, 14, 13, 13, 11, 14, 10, 12, 15, 10, 13, 12, 11, 14, 9, 12, 8, 10, 13, 8, 13, 7, 9, 12, 9, 12, 11,
            10, 5, 8, 7, 6, 1, 4, 3, 2,
        ],
    ),
    sorted(
        &[
            6, 0, 0, 0, 6, 6, 0, 0, 6, 6, 6, 0, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
            6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6,
        ],
        &[
            3, 0, 0, 0, 0, 1, 0, 0, 4, 5, 6, 0, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
            26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52,
            53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
        ],
    ),
];

/// … of chroma DC in 4:2:0 (nC −1).
pub(super) static COEFF_TOKEN_DC_4_2_0: Codes<20> = sorted(
    &[2, 0, 0, 0, 6, 1, 0, 0, 6, 6, 3, 0, 6, 7, 7, 6, 6, 8, 8, 7],
    &[1, 0, 0, 0, 7, 1, 0, 0, 4, 6, 1, 0, 3, 3, 2, 5, 2, 3, 2, 0],
);

/// … of chroma DC in 4:2:2 (nC −2).
pub(super) static COEFF_TOKEN_DC_4_2_2: Codes<36> = sorted(
    &[
        1, 0, 0, 0, 7, 2, 0, 0, 7, 7, 3, 0, 9, 7, 7, 5, 9, 9, 7, 6, 10, 10, 9, 7, 11, 11, 10, 7, 12, 12, 11, 10, 13,
        12, 12, 11,
    ],
    &[
        1, 0, 0, 0, 15, 1, 0, 0, 14, 13, 1, 0, 7, 12, 11, 1, 6, 5, 10, 1, 7, 6, 4, 9, 7, 6, 5, 8, 7, 6, 5, 4, 7, 5, 4,
        4,
    ],
);

/// `total_zeros` (tables 9-7 and 9-8) by `TotalCoeff`, from 1.
pub(super) static TOTAL_ZEROS: [Codes<16>; 15] = [
    sorted(
        &[1, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 9],
        &[1, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 3, 2, 1],
    ),
    sorted(
        &[3, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 6, 6, 6, 6],
        &[7, 6, 5, 4, 3, 5, 4, 3, 2, 3, 2, 3, 2, 1, 0],
    ),
    sorted(
        &[4, 3, 3, 3, 4, 4, 3, 3, 4, 5, 5, 6, 5, 6],
        &[5, 7, 6, 5, 4, 3, 4, 3, 2, 3, 2, 1, 1, 0],
    ),
    sorted(
        &[5, 3, 4, 4, 3, 3, 3, 4, 3, 4, 5, 5, 5],
        &[3, 7, 5, 4, 6, 5, 4, 3, 3, 2, 2, 1, 0],
    ),
    sorted(
        &[4, 4, 4, 3, 3, 3, 3, 3, 4, 5, 4, 5],
        &[5, 4, 3, 7, 6, 5, 4, 3, 2, 1, 1, 0],
    ),
    sorted(&[6, 5, 3, 3, 3, 3, 3, 3, 4, 3, 6], &[1, 1, 7, 6, 5, 4, 3, 2, 1, 1, 0]),
    sorted(&[6, 5, 3, 3, 3, 2, 3, 4, 3, 6], &[1, 1, 5, 4, 3, 3, 2, 1, 1, 0]),
    sorted(&[6, 4, 5, 3, 2, 2, 3, 3, 6], &[1, 1, 1, 3, 3, 2, 2, 1, 0]),
    sorted(&[6, 6, 4, 2, 2, 3, 2, 5], &[1, 0, 1, 3, 2, 1, 1, 1]),
    sorted(&[5, 5, 3, 2, 2, 2, 4], &[1, 0, 1, 3, 2, 1, 1]),
    sorted(&[4, 4, 3, 3, 1, 3], &[0, 1, 1, 2, 1, 3]),
    sorted(&[4, 4, 2, 1, 3], &[0, 1, 1, 1, 1]),
    sorted(&[3, 3, 1, 2], &[0, 1, 1, 1]),
    sorted(&[2, 2, 1], &[0, 1, 1]),
    sorted(&[1, 1], &[0, 1]),
];

/// … of chroma DC in 4:2:0 (table 9-9 a).
pub(super) static TOTAL_ZEROS_DC_4_2_0: [Codes<4>; 3] = [
    sorted(&[1, 2, 3, 3], &[1, 1, 1, 0]),
    sorted(&[1, 2, 2], &[1, 1, 0]),
    sorted(&[1, 1], &[1, 0]),
];

/// … of chroma DC in 4:2:2 (table 9-9 b).
pub(super) static TOTAL_ZEROS_DC_4_2_2: [Codes<8>; 7] = [
    sorted(&[1, 3, 3, 4, 4, 4, 5, 5], &[1, 2, 3, 2, 3, 1, 1, 0]),
    sorted(&[3, 2, 3, 3, 3, 3, 3], &[0, 1, 1, 4, 5, 6, 7]),
    sorted(&[3, 3, 2, 2, 3, 3], &[0, 1, 1, 2, 6, 7]),
    sorted(&[3, 2, 2, 2, 3], &[6, 0, 1, 2, 7]),
    sorted(&[2, 2, 2, 2], &[0, 1, 2, 3]),
    sorted(&[2, 2, 1], &[0, 1, 1]),
    sorted(&[1, 1], &[0, 1]),
];

/// `run_before` (table 9-10) by `zerosLeft`, from 1; the last one for 7 and more.
pub(super) static RUN_BEFORE: [Codes<15>; 7] = [
    sorted(&[1, 1], &[1, 0]),
    sorted(&[1, 2, 2], &[1, 1, 0]),
    sorted(&[2, 2, 2, 2], &[3, 2, 1, 0]),
    sorted(&[2, 2, 2, 3, 3], &[3, 2, 1, 1, 0]),
    sorted(&[2, 2, 3, 3, 3, 3], &[3, 2, 3, 2, 1, 0]),
    sorted(&[2, 3, 3, 3, 3, 3, 3], &[3, 0, 1, 3, 2, 5, 4]),
    sorted(
        &[3, 3, 3, 3, 3, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11],
        &[7, 6, 5, 4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    ),
];

/// `coded_block_pattern` of intra macroblocks (table 9-4): chroma times 16 plus luma.
pub(super) static PATTERNS: [u8; 48] = [
    47, 31, 15, 0, 23, 27, 29, 30, 7, 11, 13, 14, 39, 43, 45, 46, 16, 3, 5, 10, 12, 19, 21, 26, 28, 35, 37, 42, 44, 1,
    2, 4, 8, 17, 18, 20, 24, 6, 9, 22, 25, 32, 33, 34, 36, 40, 38, 41,
];

/// … in monochrome pictures.
pub(super) static PATTERNS_MONOCHROME: [u8; 16] = [15, 0, 7, 11, 13, 14, 3, 5, 10, 12, 1, 2, 4, 8, 6, 9];

#[cfg(test)]
mod tests {
    use super::*;

    /// Each code is found by its own bits only, and together they leave at most `unused` of 65,536 words.
    fn check(codes: &[Code], unused: u32) {
        let mut found = 0;
        for code in codes.iter().take_while(|c| c.len > 0) {
            for ahead in [0, (1_u32 << (16 - code.len)) - 1] {
                let ahead = u32::from(code.bits) << (16 - code.len) | ahead;
                let first = find(codes, ahead).unwrap();
                assert_eq!((first.len, first.value), (code.len, code.value));
            }
            found += 1_u32 << (16 - code.len);
        }
        assert!(found <= 1 << 16 && found + unused >= 1 << 16, "{found}");
    }

    #[test]
    fn no_code_begins_with_another_and_hardly_any_words_are_unused() {
        // Words of zeros have no meaning, so that start codes do not occur.
        for codes in &COEFF_TOKEN {
            check(codes, 1 << 11);
        }
        check(&COEFF_TOKEN_DC_4_2_0, 1 << 8);
        check(&COEFF_TOKEN_DC_4_2_2, 1 << 7);
        for codes in &TOTAL_ZEROS {
            check(codes, 1 << 7);
        }
        for codes in &TOTAL_ZEROS_DC_4_2_0 {
            check(codes, 0);
        }
        for codes in &TOTAL_ZEROS_DC_4_2_2 {
            check(codes, 0);
        }
        for codes in &RUN_BEFORE {
            check(codes, 1 << 5);
        }
        let mut patterns = PATTERNS;
        patterns.sort_unstable();
        assert!(patterns.iter().enumerate().all(|(i, p)| usize::from(*p) == i));
    }
}
