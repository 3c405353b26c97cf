//! The slice header (7.3.3) of an intra slice.

use super::{
    nal_type::IDR,
    pps::Pps,
    sps::{PictureOrder, Sps},
};
use crate::bits::BitReader;

/// What precedes everything that needs the parameter sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderStart {
    /// `first_mb_in_slice`.
    pub(super) first_mb: u32,
    /// `slice_type`, 0 to 4.
    pub(super) slice_type: u32,
    pub(super) pps_id: u32,
}

/// `slice_type` of an intra slice.
pub(super) const INTRA: u32 = 2;

/// A slice header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// `field_pic_flag`.
    pub(super) is_field: bool,
    /// `redundant_pic_cnt` is not 0: a copy for the case that the slice is lost.
    pub(super) is_redundant: bool,
    /// `SliceQPY`.
    pub(super) qp: i32,
}

/// Id of the PPS that a slice refers to, by the slice's bytes after the NAL unit header.
pub fn slice_pps_id(payload: &[u8]) -> Option<u32> {
    let mut bits = BitReader::new(payload);
    // first_mb_in_slice, slice_type.
    bits.ue()?;
    bits.ue()?;
    bits.ue_up_to(255)
}

impl HeaderStart {
    pub(super) fn parse(bits: &mut BitReader<'_>) -> Option<Self> {
        Some(Self {
            first_mb: bits.ue()?,
            slice_type: bits.ue_up_to(9)? % 5,
            pps_id: bits.ue_up_to(255)?,
        })
    }
}

/// Reads on after [`HeaderStart`]; `header` is the byte before the payload. `None` if a value is outside its range.
pub(super) fn parse(bits: &mut BitReader<'_>, header: u8, sps: &Sps, pps: &Pps) -> Option<Header> {
    let (is_reference, is_idr) = (header >> 5 & 3 != 0, header & 0x1f == IDR);
    if sps.head.separate_colour_planes {
        bits.skip(2)?;
    }
    bits.skip(sps.frame_num_bits)?;
    let is_field = !sps.head.frames_only && bits.flag()?;
    if is_field {
        bits.skip(1)?;
    }
    if is_idr {
        bits.ue_up_to(65_535)?;
    }
    let has_bottom = pps.order_of_bottom_field && !is_field;
    match sps.order {
        PictureOrder::Bits(count) => {
            bits.skip(count)?;
            if has_bottom {
                bits.se()?;
            }
        }
        PictureOrder::Differences(true) => {
            bits.se()?;
            if has_bottom {
                bits.se()?;
            }
        }
        PictureOrder::Differences(false) | PictureOrder::Implied => {}
    }
    let is_redundant = pps.redundant_pictures && bits.ue_up_to(127)? > 0;
    if is_reference {
        skip_marking(bits, is_idr)?;
    }
    let qp = pps.init_qp + bits.se_up_to(128)?;
    let lowest = -6 * (i32::from(sps.head.bit_depth_luma) - 8);
    if pps.deblocking_control && bits.ue_up_to(2)? != 1 {
        bits.se_up_to(6)?;
        bits.se_up_to(6)?;
    }
    (lowest..=51).contains(&qp).then_some(Header {
        is_field,
        is_redundant,
        qp,
    })
}

/// `dec_ref_pic_marking()` (7.3.3.3).
fn skip_marking(bits: &mut BitReader<'_>, is_idr: bool) -> Option<()> {
    if is_idr {
        return bits.skip(2);
    }
    if !bits.flag()? {
        return Some(());
    }
    // At most one operation for each field that is kept, and one for each kind.
    for _ in 0..=66 {
        let operation = bits.ue_up_to(6)?;
        if operation == 0 {
            return Some(());
        }
        if matches!(operation, 1 | 3) {
            bits.ue()?;
        }
        if matches!(operation, 2 | 3 | 4 | 6) {
            bits.ue()?;
        }
    }
    None
}
