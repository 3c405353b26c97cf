//! Reads the SPS of H.265 up to its bit depths (ITU-T H.265, 7.3.2.2.1 and 7.3.3).

use super::{SequenceParameters, cropped};
use crate::{
    bits::BitReader,
    video::{VideoCodec, VideoParameters},
};

/// Largest width and height taken, in luma samples. Level 6.2 ends at 16,888.
const MAX_SIZE: u32 = 65_536;

/// `sps_seq_parameter_set_id` of a payload that begins after the NAL unit header.
pub(super) fn sps_id(payload: &[u8]) -> Option<u32> {
    let mut bits = BitReader::new(payload);
    profile(&mut bits)?;
    bits.ue_up_to(15)
}

/// Everything before the id: `general_profile_idc` and `general_level_idc`.
fn profile(bits: &mut BitReader<'_>) -> Option<(u8, u8)> {
    // sps_video_parameter_set_id, sps_max_sub_layers_minus1, sps_temporal_id_nesting_flag.
    bits.skip(4)?;
    let sub_layers = bits.bits(3)?;
    bits.skip(1)?;
    // general_profile_space u(2), general_tier_flag u(1), general_profile_idc u(5), flags up to general_level_idc.
    bits.skip(3)?;
    let profile_idc = bits.bits(5)? as u8;
    bits.skip(80)?;
    let level_idc = bits.bits(8)? as u8;
    let mut present = [(false, false); 8];
    for flags in present.iter_mut().take(sub_layers as usize) {
        *flags = (bits.flag()?, bits.flag()?);
    }
    if sub_layers > 0 {
        // reserved_zero_2bits of each sub-layer that is not there.
        bits.skip(2 * (8 - sub_layers))?;
    }
    for (has_profile, has_level) in present {
        bits.skip(if has_profile { 88 } else { 0 })?;
        bits.skip(if has_level { 8 } else { 0 })?;
    }
    Some((profile_idc, level_idc))
}

/// Reads an SPS; `None` if a value is outside its range.
pub(super) fn parse_sps(nal: &[u8]) -> Option<SequenceParameters> {
    let mut bits = BitReader::new(nal.get(2..)?);
    let (profile_idc, level_idc) = profile(&mut bits)?;
    bits.ue_up_to(15)?;
    let chroma = bits.ue_up_to(3)? as u8;
    let separate = chroma == 3 && bits.flag()?;
    let size = (bits.ue_up_to(MAX_SIZE)?, bits.ue_up_to(MAX_SIZE)?);
    let crop = if bits.flag()? {
        [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?]
    } else {
        [0; 4]
    };
    // Table 6-1.
    let unit = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let (width, height) = cropped(size, crop, unit)?;
    Some(SequenceParameters {
        video: VideoParameters {
            codec: VideoCodec::H265,
            profile_idc,
            level_idc,
            chroma_format_idc: chroma,
            separate_colour_planes: separate,
            bit_depth_luma: 8 + bits.ue_up_to(8)? as u8,
            bit_depth_chroma: 8 + bits.ue_up_to(8)? as u8,
            width,
            height,
        },
        // Fields are access units of their own in H.265.
        frames_only: true,
    })
}
