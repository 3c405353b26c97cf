//! Video usability information (E.1.1), read up to the number of reordered frames.

use crate::bits::BitReader;

/// `Extended_SAR` of `aspect_ratio_idc`.
const EXTENDED_SAR: u32 = 255;

/// `max_num_reorder_frames`, from `vui_parameters_present_flag` on. `None` if it is not there or cannot be read.
pub(super) fn reorder_frames(bits: &mut BitReader<'_>) -> Option<u32> {
    if !bits.flag()? {
        return None;
    }
    // aspect_ratio_info_present_flag.
    if bits.flag()? && bits.bits(8)? == EXTENDED_SAR {
        bits.skip(32)?;
    }
    // overscan_info_present_flag.
    if bits.flag()? {
        bits.skip(1)?;
    }
    // video_signal_type_present_flag, with colour_description_present_flag.
    if bits.flag()? {
        bits.skip(4)?;
        if bits.flag()? {
            bits.skip(24)?;
        }
    }
    // chroma_loc_info_present_flag.
    if bits.flag()? {
        bits.ue_up_to(5)?;
        bits.ue_up_to(5)?;
    }
    // timing_info_present_flag.
    if bits.flag()? {
        bits.skip(65)?;
    }
    let mut has_hrd = false;
    // nal_hrd_parameters_present_flag, vcl_hrd_parameters_present_flag.
    for _ in 0..2 {
        if bits.flag()? {
            skip_hrd(bits)?;
            has_hrd = true;
        }
    }
    // low_delay_hrd_flag, pic_struct_present_flag.
    bits.skip(if has_hrd { 2 } else { 1 })?;
    // bitstream_restriction_flag.
    if !bits.flag()? {
        return None;
    }
    bits.skip(1)?;
    for _ in 0..4 {
        bits.ue_up_to(16)?;
    }
    bits.ue_up_to(16)
}

/// Skips `hrd_parameters()` (E.1.2).
fn skip_hrd(bits: &mut BitReader<'_>) -> Option<()> {
    let schedules = bits.ue_up_to(31)? + 1;
    bits.skip(8)?;
    for _ in 0..schedules {
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
    }
    bits.skip(20)
}
