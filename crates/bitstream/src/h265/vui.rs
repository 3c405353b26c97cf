//! Video usability information and hypothetical reference decoder parameters (annex E), which are only skipped.

use crate::bits::BitReader;

/// `Extended_SAR` of `aspect_ratio_idc`.
const EXTENDED_SAR: u32 = 255;

/// Skips `vui_parameters()` (E.2.1).
pub(super) fn skip(bits: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
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
    // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag.
    bits.skip(3)?;
    // default_display_window_flag.
    if bits.flag()? {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    // vui_timing_info_present_flag.
    if bits.flag()? {
        bits.skip(64)?;
        // vui_poc_proportional_to_timing_flag.
        if bits.flag()? {
            bits.ue()?;
        }
        // vui_hrd_parameters_present_flag.
        if bits.flag()? {
            skip_hrd(bits, sub_layers)?;
        }
    }
    // bitstream_restriction_flag.
    if bits.flag()? {
        bits.skip(3)?;
        bits.ue_up_to(4095)?;
        for _ in 0..4 {
            bits.ue_up_to(16)?;
        }
    }
    Some(())
}

/// Skips `hrd_parameters(1, sub_layers)` (E.2.2).
fn skip_hrd(bits: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    let (nal, vcl) = (bits.flag()?, bits.flag()?);
    let mut in_sub_pictures = false;
    if nal || vcl {
        in_sub_pictures = bits.flag()?;
        if in_sub_pictures {
            bits.skip(8 + 5 + 1 + 5)?;
        }
        bits.skip(8)?;
        if in_sub_pictures {
            bits.skip(4)?;
        }
        bits.skip(15)?;
    }
    for _ in 0..=sub_layers {
        let is_fixed = bits.flag()?;
        let is_fixed_within = is_fixed || bits.flag()?;
        let mut has_low_delay = false;
        if is_fixed_within {
            bits.ue_up_to(2047)?;
        } else {
            has_low_delay = bits.flag()?;
        }
        let buffers = if has_low_delay { 1 } else { bits.ue_up_to(31)? + 1 };
        for _ in 0..u32::from(nal) + u32::from(vcl) {
            for _ in 0..buffers {
                bits.ue()?;
                bits.ue()?;
                if in_sub_pictures {
                    bits.ue()?;
                    bits.ue()?;
                }
                bits.skip(1)?;
            }
        }
    }
    Some(())
}
