//! The contexts of intra slices and their initial values (9.3.1.1, tables 9-12 to 9-33), for frames.

use crate::cabac::{self, Context};

/// The contexts of a slice, by `ctxIdx`.
pub(super) type Contexts = [Context; 512];

pub(super) const MB_TYPE: usize = 3;
pub(super) const QP_DELTA: usize = 60;
pub(super) const CHROMA_MODE: usize = 64;
pub(super) const PREVIOUS_MODE: usize = 68;
pub(super) const REMAINING_MODE: usize = 69;
pub(super) const LUMA_PATTERN: usize = 73;
pub(super) const CHROMA_PATTERN: usize = 77;
pub(super) const CODED_BLOCK: usize = 85;
pub(super) const SIGNIFICANT: usize = 105;
pub(super) const LAST: usize = 166;
pub(super) const LEVEL: usize = 227;
pub(super) const TRANSFORM_8X8: usize = 399;
pub(super) const SIGNIFICANT_8X8: usize = 402;
pub(super) const LAST_8X8: usize = 417;
pub(super) const LEVEL_8X8: usize = 426;

/// m and n, in turn, of consecutive contexts from the first on.
struct Run(usize, &'static [i8]);

static INITIAL: [Run; 4] = [
    Run(
        MB_TYPE,
        &[20, -15, 2, 54, 3, 74, -28, 127, -23, 104, -6, 53, -1, 54, 7, 51],
    ),
    Run(
        QP_DELTA,
        &[
            0, 41, 0, 63, 0, 63, 0, 63, -9, 83, 4, 86, 0, 97, -7, 72, 13, 41, 3, 62, // 70 to 87
            0, 11, 1, 55, 0, 69, -17, 127, -13, 102, 0, 82, -7, 74, -21, 107, -27, 127, -31, 127, -24, 127, -18, 95,
            -27, 127, -21, 114, -30, 127, -17, 123, -12, 115, -16, 122, // 88 to 104
            -11, 115, -12, 63, -2, 68, -15, 84, -13, 104, -3, 70, -8, 93, -10, 90, -30, 127, -1, 74, -6, 97, -7, 91,
            -20, 127, -4, 56, -5, 82, -7, 76, -22, 125, // 105 to 135
            -7, 93, -11, 87, -3, 77, -5, 71, -4, 63, -4, 68, -12, 84, -7, 62, -7, 65, 8, 61, 5, 56, -2, 66, 1, 64, 0,
            61, -2, 78, 1, 50, 7, 52, 10, 35, 0, 44, 11, 38, 1, 45, 0, 46, 5, 44, 31, 17, 1, 51, 7, 50, 28, 19, 16, 33,
            14, 62, -13, 108, -15, 100, // 136 to 165
            -13, 101, -13, 91, -12, 94, -10, 88, -16, 84, -10, 86, -7, 83, -13, 87, -19, 94, 1, 70, 0, 72, -5, 74, 18,
            59, -8, 102, -15, 100, 0, 95, -4, 75, 2, 72, -11, 75, -3, 71, 15, 46, -13, 69, 0, 62, 0, 65, 21, 37, -15,
            72, 9, 57, 16, 54, 0, 62, 12, 72, // 166 to 196
            24, 0, 15, 9, 8, 25, 13, 18, 15, 9, 13, 19, 10, 37, 12, 18, 6, 29, 20, 33, 15, 30, 4, 45, 1, 58, 0, 62, 7,
            61, 12, 38, 11, 45, 15, 39, 11, 42, 13, 44, 16, 45, 12, 41, 10, 49, 30, 34, 18, 42, 10, 55, 17, 51, 17, 46,
            0, 89, 26, -19, 22, -17, // 197 to 226
            26, -17, 30, -25, 28, -20, 33, -23, 37, -27, 33, -23, 40, -28, 38, -17, 33, -11, 40, -15, 41, -6, 38, 1,
            41, 17, 30, -6, 27, 3, 26, 22, 37, -16, 35, -4, 38, -8, 38, -3, 37, 3, 38, 5, 42, 0, 35, 16, 39, 22, 14,
            48, 27, 37, 21, 60, 12, 68, 2, 97, // 227 to 251
            -3, 71, -6, 42, -5, 50, -3, 54, -2, 62, 0, 58, 1, 63, -2, 72, -1, 74, -9, 91, -5, 67, -5, 27, -3, 39, -2,
            44, 0, 46, -16, 64, -8, 68, -10, 78, -6, 77, -10, 86, -12, 92, -15, 55, -10, 60, -6, 62, -4, 65,
            // 252 to 275
            -12, 73, -8, 76, -7, 80, -9, 88, -17, 110, -11, 97, -20, 84, -11, 79, -6, 73, -4, 74, -13, 86, -13, 96, -11,
            97, -19, 117, -8, 78, -5, 33, -4, 48, -2, 53, -3, 62, -13, 71, -10, 79, -12, 86, -13, 90, -14, 97,
        ],
    ),
    Run(TRANSFORM_8X8, &[31, 21, 31, 31, 25, 50]),
    Run(
        SIGNIFICANT_8X8,
        &[
            -17, 120, -20, 112, -18, 114, -11, 85, -15, 92, -14, 89, -26, 71, -15, 81, -14, 80, 0, 68, -14, 70, -24,
            56, -23, 68, -24, 50, -11, 74, // 417 to 425
            23, -13, 26, -13, 40, -15, 49, -14, 44, 3, 45, 6, 44, 34, 33, 54, 19, 82, // 426 to 435
            -3, 75, -1, 23, 1, 34, 1, 43, 0, 54, -2, 55, 0, 61, 1, 64, 0, 68, -9, 92,
        ],
    ),
];

/// The contexts at the start of a slice with `SliceQPY` `qp` (equation 9-5).
pub(super) fn initial(qp: i32) -> Contexts {
    let mut contexts = [0; 512];
    let qp = qp.clamp(0, 51);
    for Run(first, values) in &INITIAL {
        for (context, pair) in contexts.iter_mut().skip(*first).zip(values.chunks_exact(2)) {
            *context = cabac::context(((i32::from(pair[0]) * qp) >> 4) + i32::from(pair[1]));
        }
    }
    contexts
}
