//! Reads the SPS of H.264 up to its size (ITU-T H.264, 7.3.2.1.1).

use super::{SequenceParameters, cropped};
use crate::{
    bits::BitReader,
    video::{VideoCodec, VideoParameters},
};

/// Largest `pic_width_in_mbs` and `pic_height_in_map_units` taken: 65,536 samples. Level 6.2 ends at 16,880.
const MAX_SIZE_MBS: u32 = 4_096;

/// `seq_parameter_set_id` of a payload that begins after the NAL unit header.
pub(super) fn sps_id(payload: &[u8]) -> Option<u32> {
    // profile_idc, constraint flags, level_idc.
    BitReader::new(payload.get(3..)?).ue_up_to(31)
}

/// Whether the SPS of a profile has the chroma format and bit depths.
fn is_high(profile_idc: u8) -> bool {
    matches!(
        profile_idc,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    )
}

/// Reads an SPS; `None` if a value is outside its range.
pub(super) fn parse_sps(nal: &[u8]) -> Option<SequenceParameters> {
    let mut bits = BitReader::new(nal.get(1..)?);
    let profile_idc = bits.bits(8)? as u8;
    bits.skip(8)?;
    let level_idc = bits.bits(8)? as u8;
    bits.ue_up_to(31)?;
    let (mut chroma, mut separate, mut luma_depth, mut chroma_depth) = (1, false, 8, 8);
    if is_high(profile_idc) {
        chroma = bits.ue_up_to(3)? as u8;
        separate = chroma == 3 && bits.flag()?;
        luma_depth = 8 + bits.ue_up_to(6)? as u8;
        chroma_depth = 8 + bits.ue_up_to(6)? as u8;
        // qpprime_y_zero_transform_bypass_flag.
        bits.skip(1)?;
        if bits.flag()? {
            skip_scaling_lists(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    skip_picture_order(&mut bits)?;
    // max_num_ref_frames, gaps_in_frame_num_value_allowed_flag.
    bits.ue()?;
    bits.skip(1)?;
    let width = (bits.ue_up_to(MAX_SIZE_MBS - 1)? + 1) * 16;
    let map_units = bits.ue_up_to(MAX_SIZE_MBS - 1)? + 1;
    let frames_only = bits.flag()?;
    let fields = if frames_only { 1 } else { 2 };
    if !frames_only {
        // mb_adaptive_frame_field_flag.
        bits.skip(1)?;
    }
    // direct_8x8_inference_flag.
    bits.skip(1)?;
    let crop = if bits.flag()? {
        [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?]
    } else {
        [0; 4]
    };
    // Table 6-1 and equations 7-19 to 7-22. Separate colour planes are cropped as monochrome.
    let (sub_width, sub_height) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let (width, height) = cropped((width, map_units * 16 * fields), crop, (sub_width, sub_height * fields))?;
    Some(SequenceParameters {
        video: VideoParameters {
            codec: VideoCodec::H264,
            profile_idc,
            level_idc,
            chroma_format_idc: chroma,
            separate_colour_planes: separate,
            bit_depth_luma: luma_depth,
            bit_depth_chroma: chroma_depth,
            width,
            height,
        },
        frames_only,
    })
}

/// 7.3.2.1.1.1: at most 6 lists of 16 and 6 of 64 values.
fn skip_scaling_lists(bits: &mut BitReader<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.se()?).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// `log2_max_frame_num_minus4` and the picture order count type with its values.
fn skip_picture_order(bits: &mut BitReader<'_>) -> Option<()> {
    bits.ue_up_to(12)?;
    match bits.ue_up_to(2)? {
        0 => {
            bits.ue_up_to(12)?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue_up_to(255)? {
                bits.se()?;
            }
        }
        _ => {}
    }
    Some(())
}
