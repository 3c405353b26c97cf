//! The picture parameter set (7.3.2.2).

use super::sps::{Sps, skip_scaling_lists};
use crate::bits::BitReader;

/// What a checker needs of a picture parameter set.
#[derive(Debug, Clone)]
pub(crate) struct Pps {
    /// `entropy_coding_mode_flag`: CABAC, otherwise CAVLC.
    pub(crate) is_arithmetic: bool,
    pub(crate) order_of_bottom_field: bool,
    /// There are several slice groups, whose macroblocks alternate.
    pub(crate) has_slice_groups: bool,
    /// `26 + pic_init_qp_minus26`.
    pub(crate) init_qp: i32,
    pub(crate) deblocking_control: bool,
    pub(crate) redundant_pictures: bool,
    pub(crate) transform_8x8: bool,
}

/// `pic_parameter_set_id` and `seq_parameter_set_id` of a payload that begins after the NAL unit header.
pub fn pps_ids(payload: &[u8]) -> Option<(u32, u32)> {
    let mut bits = BitReader::new(payload);
    Some((bits.ue_up_to(255)?, bits.ue_up_to(31)?))
}

impl Pps {
    /// Reads the payload of a NAL unit; `None` if a value is outside its range, or the set does not end where it should.
    pub(crate) fn parse(payload: &[u8], sps: &Sps) -> Option<Self> {
        let mut bits = BitReader::new(payload);
        bits.ue_up_to(255)?;
        bits.ue_up_to(31)?;
        let [is_arithmetic, order_of_bottom_field] = bits.flags()?;
        let mut pps = Self {
            is_arithmetic,
            order_of_bottom_field,
            has_slice_groups: bits.ue_up_to(7)? > 0,
            init_qp: 0,
            deblocking_control: false,
            redundant_pictures: false,
            transform_8x8: false,
        };
        if pps.has_slice_groups {
            return Some(pps);
        }
        bits.ue_up_to(31)?;
        bits.ue_up_to(31)?;
        // weighted_pred_flag, weighted_bipred_idc.
        bits.skip(3)?;
        pps.init_qp = 26 + bits.se_up_to(62)?;
        bits.se_up_to(26)?;
        bits.se_up_to(12)?;
        // With constrained_intra_pred_flag.
        [pps.deblocking_control, _, pps.redundant_pictures] = bits.flags()?;
        if bits.is_at_end() {
            return Some(pps);
        }
        pps.transform_8x8 = bits.flag()?;
        if bits.flag()? {
            let of_8x8 = match (pps.transform_8x8, sps.head.chroma_format_idc) {
                (false, _) => 0,
                (true, 3) => 6,
                (true, _) => 2,
            };
            skip_scaling_lists(&mut bits, 6 + of_8x8)?;
        }
        bits.se_up_to(12)?;
        bits.is_at_end().then_some(pps)
    }
}
