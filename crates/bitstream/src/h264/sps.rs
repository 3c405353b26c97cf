//! The sequence parameter set (7.3.2.1.1). Of its video usability information, which changes nothing in how slices are read, only the number
//! of reordered frames is taken.

use super::vui;
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

/// How many frames may precede a frame in decoding order and follow it in output order, by a NAL unit that is an SPS. `None` if it does not
/// say: then it may be up to the capacity of the decoder's buffer (E.2.1).
pub fn reorder_frames(nal: &[u8]) -> Option<u32> {
    let mut bits = BitReader::new(nal.get(1..)?);
    match read(&mut bits)?.order {
        PictureOrder::Implied => Some(0),
        _ => vui::reorder_frames(&mut bits),
    }
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
        Sps::parse(nal.get(1..)?).map(|sps| sps.head)
    }
}

/// What a checker needs of a sequence parameter set.
#[derive(Debug, Clone)]
pub(crate) struct Sps {
    pub(crate) head: SpsHead,
    /// Width of a picture, and height of a frame, in macroblocks.
    pub(crate) size_in_mbs: (u32, u32),
    /// Bits of `frame_num`.
    pub(crate) frame_num_bits: u32,
    pub(crate) order: PictureOrder,
    /// `mb_adaptive_frame_field_flag`.
    pub(crate) adaptive_fields: bool,
}

/// How a slice header tells the order of pictures, `pic_order_cnt_type`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PictureOrder {
    /// By a number of so many bits.
    Bits(u32),
    /// By differences, unless they are always zero.
    Differences(bool),
    /// Not at all.
    Implied,
}

impl Sps {
    /// Reads the payload of a NAL unit; `None` if a value is outside its range.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        read(&mut BitReader::new(payload))
    }
}

fn read(bits: &mut BitReader<'_>) -> Option<Sps> {
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
    let frame_num_bits = bits.ue_up_to(12)? + 4;
    let order = picture_order(bits)?;
    // max_num_ref_frames, gaps_in_frame_num_value_allowed_flag.
    bits.ue()?;
    bits.skip(1)?;
    let width = (bits.ue_up_to(MAX_SIZE_MBS - 1)? + 1) * 16;
    let map_units = bits.ue_up_to(MAX_SIZE_MBS - 1)? + 1;
    let frames_only = bits.flag()?;
    let fields = if frames_only { 1 } else { 2 };
    let adaptive_fields = !frames_only && bits.flag()?;
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
    Some(Sps {
        head: SpsHead {
            profile_idc,
            level_idc,
            chroma_format_idc: chroma,
            separate_colour_planes: separate,
            cropped: cropped(coded, crop, (sub_width, sub_height * fields))?,
            bit_depth_luma: luma_depth,
            bit_depth_chroma: chroma_depth,
            frames_only,
        },
        size_in_mbs: (width / 16, map_units * fields),
        frame_num_bits,
        order,
        adaptive_fields,
    })
}

/// 7.3.2.1.1.1: at most 6 lists of 16 and 6 of 64 values.
pub(super) fn skip_scaling_lists(bits: &mut BitReader<'_>, lists: usize) -> Option<()> {
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

/// `pic_order_cnt_type` with its values.
fn picture_order(bits: &mut BitReader<'_>) -> Option<PictureOrder> {
    Some(match bits.ue_up_to(2)? {
        0 => PictureOrder::Bits(bits.ue_up_to(12)? + 4),
        1 => {
            let is_always_zero = bits.flag()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue_up_to(255)? {
                bits.se()?;
            }
            PictureOrder::Differences(!is_always_zero)
        }
        _ => PictureOrder::Implied,
    })
}
