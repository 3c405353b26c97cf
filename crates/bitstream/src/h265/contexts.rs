//! The contexts of intra slices and their initial values (9.3.2.2, tables 9-5 to 9-37, `initType` 0).

use crate::cabac::{self, Context};

/// The contexts of all syntax elements of an intra slice; each constant is the first of an element.
pub(super) type Contexts = [Context; 256];

pub(super) const SAO_MERGE: usize = 0;
pub(super) const SAO_TYPE: usize = 1;
pub(super) const SPLIT_CU: usize = 2;
pub(super) const TRANSQUANT_BYPASS: usize = 5;
pub(super) const PART_MODE: usize = 6;
pub(super) const PREV_INTRA_LUMA: usize = 7;
pub(super) const INTRA_CHROMA: usize = 8;
pub(super) const SPLIT_TRANSFORM: usize = 9;
pub(super) const CBF_LUMA: usize = 12;
pub(super) const CBF_CHROMA: usize = 14;
pub(super) const QP_DELTA: usize = 19;
pub(super) const CHROMA_QP_OFFSET_FLAG: usize = 21;
pub(super) const CHROMA_QP_OFFSET_INDEX: usize = 22;
pub(super) const RES_SCALE: usize = 23;
pub(super) const RES_SCALE_SIGN: usize = 31;
pub(super) const TRANSFORM_SKIP: usize = 33;
pub(super) const LAST_X: usize = 35;
pub(super) const LAST_Y: usize = 53;
pub(super) const CODED_SUB_BLOCK: usize = 71;
pub(super) const SIGNIFICANT: usize = 75;
pub(super) const GREATER_1: usize = 119;
pub(super) const GREATER_2: usize = 143;

/// Contexts in use.
const COUNT: usize = 149;

/// `initValue` in the order of the constants above.
static INITIAL: [u8; COUNT] = [
    153, // sao_merge_left_flag, sao_merge_up_flag
    200, // sao_type_idx
    139, 141, 157, // split_cu_flag
    154, // cu_transquant_bypass_flag
    184, // part_mode
    184, // prev_intra_luma_pred_flag
    63,  // intra_chroma_pred_mode
    153, 138, 138, // split_transform_flag
    111, 141, // cbf_luma
    94, 138, 182, 154, 154, // cbf_cb, cbf_cr
    154, 154, // cu_qp_delta_abs
    154, // cu_chroma_qp_offset_flag
    154, // cu_chroma_qp_offset_idx
    154, 154, 154, 154, 154, 154, 154, 154, // log2_res_scale_abs_plus1
    154, 154, // res_scale_sign_flag
    139, 139, // transform_skip_flag
    110, 110, 124, 125, 140, 153, 125, 127, 140, 109, 111, 143, 127, 111, 79, 108, 123,
    63, // last_sig_coeff_x_prefix
    110, 110, 124, 125, 140, 153, 125, 127, 140, 109, 111, 143, 127, 111, 79, 108, 123,
    63, // last_sig_coeff_y_prefix
    91, 171, 134, 141, // coded_sub_block_flag
    // sig_coeff_flag
    111, 111, 125, 110, 110, 94, 124, 108, 124, 107, 125, 141, 179, 153, 125, 107, 125, 141, 179, 153, 125, 107, 125,
    141, 179, 153, 125, 140, 139, 182, 182, 152, 136, 152, 136, 153, 136, 139, 111, 136, 139, 111,
    // … of transform_skip_context_enabled_flag
    141, 111, //
    // coeff_abs_level_greater1_flag
    140, 92, 137, 138, 140, 152, 138, 139, 153, 74, 149, 92, 139, 107, 122, 152, 140, 179, 166, 182, 140, 227, 122, 197,
    // coeff_abs_level_greater2_flag
    138, 153, 136, 167, 152, 152,
];

/// The contexts at the start of a slice with `SliceQpY` `qp` (equations 9-4 to 9-6).
pub(super) fn initial(qp: i32) -> Contexts {
    let mut contexts = [0; 256];
    let qp = qp.clamp(0, 51);
    for (context, value) in contexts.iter_mut().zip(INITIAL) {
        let slope = i32::from(value >> 4) * 5 - 45;
        let offset = (i32::from(value & 15) << 3) - 16;
        *context = cabac::context(((slope * qp) >> 4) + offset);
    }
    contexts
}
