//! The picture parameter set (7.3.2.3).

use super::sps::{SetFault, skip_scaling_lists};
use crate::bits::BitReader;

/// Most columns and rows of tiles in any level (table A.8).
const MAX_TILES: u32 = 22;

/// What a checker needs of a picture parameter set.
#[derive(Debug, Clone)]
pub(crate) struct Pps {
    pub(crate) sps_id: u32,
    pub(crate) dependent_slices: bool,
    pub(crate) output_flag_present: bool,
    /// `num_extra_slice_header_bits`.
    pub(crate) extra_header_bits: u32,
    pub(crate) sign_data_hiding: bool,
    /// `26 + init_qp_minus26`.
    pub(crate) init_qp: i32,
    pub(crate) transform_skip: bool,
    /// `diff_cu_qp_delta_depth`, if the quantiser changes within a slice.
    pub(crate) qp_delta_depth: Option<u8>,
    pub(crate) slice_chroma_qp_offsets: bool,
    pub(crate) transquant_bypass: bool,
    pub(crate) tiles: Option<TileLayout>,
    /// `entropy_coding_sync_enabled_flag`: wavefronts.
    pub(crate) wavefront: bool,
    pub(crate) filter_across_slices: bool,
    pub(crate) deblocking_override: bool,
    pub(crate) deblocking_disabled: bool,
    pub(crate) header_extension: bool,
    pub(crate) range: PpsRange,
}

/// How the picture is divided into tiles.
#[derive(Debug, Clone)]
pub(crate) enum TileLayout {
    /// Columns and rows of about equal size.
    Uniform(u32, u32),
    /// Widths and heights in coding tree blocks, all but the last.
    Explicit(Vec<u32>, Vec<u32>),
}

/// `pps_range_extension()`, what changes the syntax.
#[derive(Debug, Clone)]
pub(crate) struct PpsRange {
    pub(crate) max_transform_skip_log2: u8,
    pub(crate) cross_component_prediction: bool,
    pub(crate) chroma_qp_offsets: Option<ChromaQpOffsets>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ChromaQpOffsets {
    /// `diff_cu_chroma_qp_offset_depth`.
    pub(crate) depth: u8,
    /// `chroma_qp_offset_list_len_minus1`.
    pub(crate) max_index: u8,
}

/// `pps_pic_parameter_set_id` and `pps_seq_parameter_set_id` of a payload that begins after the NAL unit header.
pub fn pps_ids(payload: &[u8]) -> Option<(u32, u32)> {
    let mut bits = BitReader::new(payload);
    Some((bits.ue_up_to(63)?, bits.ue_up_to(15)?))
}

impl Pps {
    /// Reads the payload of a NAL unit.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, SetFault> {
        let mut bits = BitReader::new(payload);
        let mut pps = base(&mut bits).ok_or(SetFault::Invalid)?;
        if bits.flag().ok_or(SetFault::Invalid)? {
            let [range, multilayer, three_d, screen] = bits.flags().ok_or(SetFault::Invalid)?;
            let others = bits.bits(4).ok_or(SetFault::Invalid)?;
            if range {
                pps.range = range_extension(&mut bits, pps.transform_skip).ok_or(SetFault::Invalid)?;
            }
            if multilayer || three_d || screen || others != 0 {
                return Err(SetFault::Unsupported("an extension of the picture parameter set"));
            }
        }
        if bits.is_at_end() {
            Ok(pps)
        } else {
            Err(SetFault::Invalid)
        }
    }
}

/// The fields before `pps_extension_present_flag`.
fn base(bits: &mut BitReader<'_>) -> Option<Pps> {
    bits.ue_up_to(63)?;
    let sps_id = bits.ue_up_to(15)?;
    let [dependent_slices, output_flag_present] = bits.flags()?;
    let extra_header_bits = bits.bits(3)?;
    // With cabac_init_present_flag, which does not concern intra slices.
    let [sign_data_hiding, _] = bits.flags()?;
    bits.ue_up_to(14)?;
    bits.ue_up_to(14)?;
    // Down to −(26 + QpBdOffset) for 16 bits.
    let init_qp = 26 + bits.se_up_to(74)?;
    // With constrained_intra_pred_flag.
    let [_, transform_skip] = bits.flags()?;
    let qp_delta_depth = if bits.flag()? {
        Some(bits.ue_up_to(3)? as u8)
    } else {
        None
    };
    bits.se_up_to(12)?;
    bits.se_up_to(12)?;
    // With weighted_pred_flag and weighted_bipred_flag.
    let [slice_chroma_qp_offsets, _, _, transquant_bypass, has_tiles, wavefront] = bits.flags()?;
    let tiles = if has_tiles { Some(tiles(bits)?) } else { None };
    let filter_across_slices = bits.flag()?;
    let (mut deblocking_override, mut deblocking_disabled) = (false, false);
    if bits.flag()? {
        [deblocking_override, deblocking_disabled] = bits.flags()?;
        if !deblocking_disabled {
            bits.se_up_to(6)?;
            bits.se_up_to(6)?;
        }
    }
    if bits.flag()? {
        skip_scaling_lists(bits)?;
    }
    // lists_modification_present_flag, log2_parallel_merge_level_minus2.
    bits.skip(1)?;
    bits.ue_up_to(4)?;
    let header_extension = bits.flag()?;
    Some(Pps {
        sps_id,
        dependent_slices,
        output_flag_present,
        extra_header_bits,
        sign_data_hiding,
        init_qp,
        transform_skip,
        qp_delta_depth,
        slice_chroma_qp_offsets,
        transquant_bypass,
        tiles,
        wavefront,
        filter_across_slices,
        deblocking_override,
        deblocking_disabled,
        header_extension,
        range: PpsRange {
            max_transform_skip_log2: 2,
            cross_component_prediction: false,
            chroma_qp_offsets: None,
        },
    })
}

fn tiles(bits: &mut BitReader<'_>) -> Option<TileLayout> {
    let columns = bits.ue_up_to(MAX_TILES - 1)? + 1;
    let rows = bits.ue_up_to(MAX_TILES - 1)? + 1;
    let layout = if bits.flag()? {
        TileLayout::Uniform(columns, rows)
    } else {
        let mut sizes = |count: u32| {
            (1..count)
                .map(|_| Some(bits.ue_up_to(1 << 12)? + 1))
                .collect::<Option<Vec<_>>>()
        };
        TileLayout::Explicit(sizes(columns)?, sizes(rows)?)
    };
    // loop_filter_across_tiles_enabled_flag.
    bits.skip(1)?;
    Some(layout)
}

/// `pps_range_extension()` (7.3.2.3.2).
fn range_extension(bits: &mut BitReader<'_>, transform_skip: bool) -> Option<PpsRange> {
    let max_transform_skip_log2 = if transform_skip { bits.ue_up_to(3)? as u8 + 2 } else { 2 };
    let cross_component_prediction = bits.flag()?;
    let chroma_qp_offsets = if bits.flag()? {
        let depth = bits.ue_up_to(3)? as u8;
        let max_index = bits.ue_up_to(5)? as u8;
        for _ in 0..=max_index {
            bits.se_up_to(12)?;
            bits.se_up_to(12)?;
        }
        Some(ChromaQpOffsets { depth, max_index })
    } else {
        None
    };
    // log2_sao_offset_scale_luma and _chroma: BitDepth − 10 at most.
    bits.ue_up_to(6)?;
    bits.ue_up_to(6)?;
    Some(PpsRange {
        max_transform_skip_log2,
        cross_component_prediction,
        chroma_qp_offsets,
    })
}
