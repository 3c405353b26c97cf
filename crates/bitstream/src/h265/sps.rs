//! The sequence parameter set (7.3.2.2).

use super::vui;
use crate::{
    bits::BitReader,
    size::{Size, cropped},
};

/// Largest width and height taken, in luma samples. Level 6.2 ends at 16,888.
const MAX_SIZE: u32 = 65_536;

/// The fields up to the bit depths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpsHead {
    /// `general_profile_idc` (annex A).
    pub profile_idc: u8,
    /// `general_level_idc`: the level times 30.
    pub level_idc: u8,
    /// 0: monochrome, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    pub chroma_format_idc: u8,
    /// The three planes of 4:4:4 are coded as monochrome pictures.
    pub separate_colour_planes: bool,
    /// Size in luma samples, as coded.
    pub coded: Size,
    /// Size in luma samples without what is cropped.
    pub cropped: Size,
    /// Bits of a luma sample, 8 to 16.
    pub bit_depth_luma: u8,
    /// Bits of a chroma sample, 8 to 16.
    pub bit_depth_chroma: u8,
}

/// `sps_seq_parameter_set_id` of a payload that begins after the NAL unit header.
pub fn sps_id(payload: &[u8]) -> Option<u32> {
    let mut bits = BitReader::new(payload);
    profile(&mut bits)?;
    bits.ue_up_to(15)
}

/// How many pictures may precede a picture in decoding order and follow it in output order, by a NAL unit that is an SPS: that of the highest
/// sub-layer. `None` if the SPS cannot be read.
pub fn reorder_pictures(nal: &[u8]) -> Option<u32> {
    let mut bits = BitReader::new(nal.get(2..)?);
    let (profile, _) = head(&mut bits)?;
    // log2_max_pic_order_cnt_lsb_minus4.
    bits.ue_up_to(12)?;
    reorder_of_highest_layer(&mut bits, &profile)
}

/// `sps_max_num_reorder_pics` of the highest sub-layer, from `sps_sub_layer_ordering_info_present_flag` on.
fn reorder_of_highest_layer(bits: &mut BitReader<'_>, profile: &Profile) -> Option<u32> {
    let ordering_info = if bits.flag()? { profile.sub_layers + 1 } else { 1 };
    let mut reordered = 0;
    for _ in 0..ordering_info {
        // sps_max_dec_pic_buffering_minus1, sps_max_num_reorder_pics, sps_max_latency_increase_plus1.
        bits.ue()?;
        reordered = bits.ue()?;
        bits.ue()?;
    }
    Some(reordered)
}

/// What precedes the id.
struct Profile {
    profile_idc: u8,
    level_idc: u8,
    /// `sps_max_sub_layers_minus1`.
    sub_layers: u32,
}

fn profile(bits: &mut BitReader<'_>) -> Option<Profile> {
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
    Some(Profile {
        profile_idc,
        level_idc,
        sub_layers,
    })
}

impl SpsHead {
    /// Reads a NAL unit; `None` if a value is outside its range.
    pub fn parse(nal: &[u8]) -> Option<Self> {
        Some(head(&mut BitReader::new(nal.get(2..)?))?.1)
    }

    /// `ChromaArrayType` (7.4.3.2.1).
    pub(crate) fn chroma_array_type(&self) -> u8 {
        if self.separate_colour_planes {
            0
        } else {
            self.chroma_format_idc
        }
    }
}

fn head(bits: &mut BitReader<'_>) -> Option<(Profile, SpsHead)> {
    let profile = profile(bits)?;
    bits.ue_up_to(15)?;
    let chroma = bits.ue_up_to(3)? as u8;
    let separate = chroma == 3 && bits.flag()?;
    let coded = Size {
        width: bits.ue_up_to(MAX_SIZE)?,
        height: bits.ue_up_to(MAX_SIZE)?,
    };
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
    let head = SpsHead {
        profile_idc: profile.profile_idc,
        level_idc: profile.level_idc,
        chroma_format_idc: chroma,
        separate_colour_planes: separate,
        coded,
        cropped: cropped(coded, crop, unit)?,
        bit_depth_luma: 8 + bits.ue_up_to(8)? as u8,
        bit_depth_chroma: 8 + bits.ue_up_to(8)? as u8,
    };
    Some((profile, head))
}

/// What a checker needs of a whole sequence parameter set.
#[derive(Debug, Clone)]
pub(crate) struct Sps {
    pub(crate) head: SpsHead,
    /// Bits of `slice_pic_order_cnt_lsb`.
    pub(crate) order_bits: u32,
    pub(crate) min_cb_log2: u8,
    pub(crate) ctb_log2: u8,
    pub(crate) min_tb_log2: u8,
    pub(crate) max_tb_log2: u8,
    /// `max_transform_hierarchy_depth_intra`.
    pub(crate) max_transform_depth: u8,
    pub(crate) sample_adaptive_offset: bool,
    pub(crate) pcm: Option<Pcm>,
    /// `NumDeltaPocs` of each short-term reference picture set.
    pub(crate) short_term_sets: Vec<u8>,
    /// `num_long_term_ref_pics_sps`, if long-term reference pictures may be used.
    pub(crate) long_term: Option<u32>,
    pub(crate) temporal_mvp: bool,
    pub(crate) range: SpsRange,
}

/// Coding units without prediction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pcm {
    pub(crate) bits_luma: u8,
    pub(crate) bits_chroma: u8,
    pub(crate) min_log2: u8,
    pub(crate) max_log2: u8,
}

/// `sps_range_extension()`, what changes the syntax.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SpsRange {
    pub(crate) transform_skip_context: bool,
    pub(crate) implicit_rdpcm: bool,
    pub(crate) persistent_rice: bool,
}

/// Why a parameter set cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetFault {
    /// A value is outside its range, or the set does not end where it should.
    Invalid,
    /// It uses something that is not checked.
    Unsupported(&'static str),
}

impl Sps {
    /// Reads the payload of a NAL unit.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, SetFault> {
        let mut bits = BitReader::new(payload);
        let (profile, mut sps) = base(&mut bits).ok_or(SetFault::Invalid)?;
        let flag = |bits: &mut BitReader<'_>| bits.flag().ok_or(SetFault::Invalid);
        let has_vui = flag(&mut bits)?;
        if has_vui && vui::skip(&mut bits, profile.sub_layers).is_none() {
            // Some cameras write it wrongly, and decoders ignore it. What follows it is only used by the range extensions.
            return match profile.profile_idc {
                1..=3 => Ok(sps),
                _ => Err(SetFault::Unsupported("an unreadable VUI")),
            };
        }
        if flag(&mut bits)? {
            let [range, multilayer, three_d, screen] = bits.flags().ok_or(SetFault::Invalid)?;
            let others = bits.bits(4).ok_or(SetFault::Invalid)?;
            if range {
                sps.range = range_extension(&mut bits)?;
            }
            if multilayer || three_d || screen || others != 0 {
                return Err(SetFault::Unsupported("an extension of the sequence parameter set"));
            }
        }
        // Behind a VUI that was written wrongly, the end may be anywhere.
        if bits.is_at_end() || (has_vui && profile.profile_idc <= 3) {
            Ok(sps)
        } else {
            Err(SetFault::Invalid)
        }
    }

    /// Width and height in coding tree blocks.
    pub(crate) fn size_in_ctbs(&self) -> (u32, u32) {
        let size = 1 << self.ctb_log2;
        (
            self.head.coded.width.div_ceil(size),
            self.head.coded.height.div_ceil(size),
        )
    }
}

/// The fields before `vui_parameters_present_flag`.
fn base(bits: &mut BitReader<'_>) -> Option<(Profile, Sps)> {
    let (profile, head) = head(bits)?;
    let order_bits = bits.ue_up_to(12)? + 4;
    reorder_of_highest_layer(bits, &profile)?;
    let min_cb_log2 = bits.ue_up_to(3)? + 3;
    let ctb_log2 = min_cb_log2 + bits.ue_up_to(3)?;
    let min_tb_log2 = bits.ue_up_to(3)? + 2;
    let max_tb_log2 = min_tb_log2 + bits.ue_up_to(3)?;
    // The ranges of 7.4.3.2.1.
    let is_valid = (4..=6).contains(&ctb_log2)
        && min_tb_log2 < min_cb_log2
        && max_tb_log2 <= ctb_log2.min(5)
        && head.coded.width > 0
        && head.coded.height > 0
        && (head.coded.width | head.coded.height) & ((1 << min_cb_log2) - 1) == 0;
    if !is_valid {
        return None;
    }
    let depths = ctb_log2 - min_tb_log2;
    bits.ue_up_to(depths)?;
    let max_transform_depth = bits.ue_up_to(depths)? as u8;
    if bits.flag()? && bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    // amp_enabled_flag.
    bits.skip(1)?;
    let sample_adaptive_offset = bits.flag()?;
    let pcm = if bits.flag()? {
        let (bits_luma, bits_chroma) = (bits.bits(4)? as u8 + 1, bits.bits(4)? as u8 + 1);
        let min_log2 = bits.ue_up_to(2)? as u8 + 3;
        let max_log2 = min_log2 + bits.ue_up_to(2)? as u8;
        bits.skip(1)?;
        let fits = bits_luma <= head.bit_depth_luma && bits_chroma <= head.bit_depth_chroma && max_log2 <= 5;
        if !fits {
            return None;
        }
        Some(Pcm {
            bits_luma,
            bits_chroma,
            min_log2,
            max_log2,
        })
    } else {
        None
    };
    let count = bits.ue_up_to(64)? as usize;
    let mut short_term_sets = Vec::with_capacity(count);
    for index in 0..count {
        let deltas = short_term_set(bits, index, &short_term_sets, false)?;
        short_term_sets.push(deltas);
    }
    let long_term = if bits.flag()? {
        let count = bits.ue_up_to(32)?;
        bits.skip(count * (order_bits + 1))?;
        Some(count)
    } else {
        None
    };
    let temporal_mvp = bits.flag()?;
    // strong_intra_smoothing_enabled_flag.
    bits.skip(1)?;
    Some((
        profile,
        Sps {
            head,
            order_bits,
            min_cb_log2: min_cb_log2 as u8,
            ctb_log2: ctb_log2 as u8,
            min_tb_log2: min_tb_log2 as u8,
            max_tb_log2: max_tb_log2 as u8,
            max_transform_depth,
            sample_adaptive_offset,
            pcm,
            short_term_sets,
            long_term,
            temporal_mvp,
            range: SpsRange::default(),
        },
    ))
}

/// `st_ref_pic_set(index)` (7.3.7); returns its `NumDeltaPocs`. `known` are those of the sets in the SPS.
pub(super) fn short_term_set(bits: &mut BitReader<'_>, index: usize, known: &[u8], in_slice: bool) -> Option<u8> {
    let is_predicted = index > 0 && bits.flag()?;
    if is_predicted {
        let distance = if in_slice {
            bits.ue_up_to(index as u32 - 1)? as usize + 1
        } else {
            1
        };
        // delta_rps_sign, abs_delta_rps_minus1.
        bits.skip(1)?;
        bits.ue_up_to((1 << 15) - 1)?;
        let mut deltas = 0;
        for _ in 0..=*known.get(index - distance)? {
            let used = bits.flag()?;
            // use_delta_flag.
            if used || bits.flag()? {
                deltas += 1;
            }
        }
        return Some(deltas).filter(|deltas| *deltas <= 16);
    }
    let count = bits.ue_up_to(16)? + bits.ue_up_to(16)?;
    if count > 16 {
        return None;
    }
    for _ in 0..count {
        bits.ue_up_to((1 << 15) - 1)?;
        bits.skip(1)?;
    }
    Some(count as u8)
}

/// `scaling_list_data()` (7.3.4).
pub(super) fn skip_scaling_lists(bits: &mut BitReader<'_>) -> Option<()> {
    for size in 0..4_u32 {
        for matrix in (0..6).step_by(if size == 3 { 3 } else { 1 }) {
            if !bits.flag()? {
                // scaling_list_pred_matrix_id_delta, in units of the step. In 4:4:4 the decoder may allow more.
                bits.ue_up_to(matrix)?;
                continue;
            }
            if size > 1 {
                let dc = bits.se()?;
                (-7..=247).contains(&dc).then_some(())?;
            }
            for _ in 0..(16 << (size * 2)).min(64) {
                let delta = bits.se()?;
                (-128..=127).contains(&delta).then_some(())?;
            }
        }
    }
    Some(())
}

/// `sps_range_extension()` (7.3.2.2.2).
fn range_extension(bits: &mut BitReader<'_>) -> Result<SpsRange, SetFault> {
    // transform_skip_rotation_enabled_flag, …, cabac_bypass_alignment_enabled_flag.
    let flags = bits.flags::<9>().ok_or(SetFault::Invalid)?;
    let [
        _,
        transform_skip_context,
        implicit_rdpcm,
        _,
        extended,
        _,
        _,
        persistent_rice,
        alignment,
    ] = flags;
    if extended || alignment {
        return Err(SetFault::Unsupported("a high-throughput or extended-precision profile"));
    }
    Ok(SpsRange {
        transform_skip_context,
        implicit_rdpcm,
        persistent_rice,
    })
}
