//! The sequence parameter set (7.3.2.1.1).

use crate::{
    bits::BitReader,
    size::{Size, cropped},
};

/// Largest `pic_width_in_mbs` and `pic_height_in_map_units` taken: 65,536 samples. Level 6.2 ends at 16,880.
const MAX_SIZE_MBS: u32 = 4_096;

/// The fields up to the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpsHead {
    /// `profile_idc` (annex A).
    pub profile_idc: u8,
    /// `level_idc`: the level times 10.
    pub level_idc: u8,
    /// 0: monochrome, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    pub chroma_format_idc: u8,
    /// The three planes of 4:4:4 are coded as monochrome pictures.
    pub separate_colour_planes: bool,
    /// Size of a frame in luma samples without what is cropped.
    pub cropped: Size,
    /// Bits of a luma sample, 8 to 14.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample, 8 to 14.
    pub bit_depth_chroma: u8,
    /// `frame_mbs_only_flag`: no picture is a field.
    pub frames_only: bool,
}

/// `seq_parameter_set_id` of a payload that begins after the NAL unit header.
pub fn sps_id(payload: &[u8]) -> Option<u32> {
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

impl SpsHead {
    /// Reads a NAL unit; `None` if a value is outside its range.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        head(&mut BitReader::new(nal.get(1..)?))
    }
}

fn head(bits: &mut BitReader<'_>) -> Option<SpsHead> {
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
            skip_scaling_lists(bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    skip_picture_order(bits)?;
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
    let coded = Size {
        width,
        height: map_units * 16 * fields,
    };
    Some(SpsHead {
        profile_idc,
        level_idc,
        chroma_format_idc: chroma,
        separate_colour_planes: separate,
        cropped: cropped(coded, crop, (sub_width, sub_height * fields))?,
        bit_depth_luma: luma_depth,
        bit_depth_chroma: chroma_depth,
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
