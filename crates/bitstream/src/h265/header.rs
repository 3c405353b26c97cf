//! The slice segment header (7.3.6.1) of an intra slice.

use super::{
    nal_type::{FIRST_IRAP, IDR_N_LP, IDR_W_RADL, LAST_IRAP},
    pps::Pps,
    sps::{Sps, short_term_set},
};
use crate::bits::BitReader;

/// What precedes everything that needs the parameter sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderStart {
    /// `first_slice_segment_in_pic_flag`.
    pub(super) is_first: bool,
    pub(super) pps_id: u32,
}

/// What a dependent slice segment takes from the slice it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct SliceSettings {
    /// `SliceAddrRs`: the first coding tree block of the slice.
    pub(super) address: u32,
    pub(super) sao_luma: bool,
    pub(super) sao_chroma: bool,
    /// `SliceQpY`.
    pub(super) qp: i32,
    /// `cu_chroma_qp_offset_enabled_flag`.
    pub(super) chroma_qp_offsets: bool,
}

/// A slice segment header.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) is_dependent: bool,
    /// `slice_segment_address`, in raster scan.
    pub(super) address: u32,
    pub(super) settings: SliceSettings,
    /// The slice segment data.
    pub(super) data: &'a [u8],
}

/// Why there is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// A value is outside its range, or the header does not end where it should.
    Invalid,
    /// The slice is predicted from other pictures.
    Predicted,
}

/// Id of the PPS that a slice segment refers to, by the first byte of its NAL unit header and the bytes after that header.
pub fn slice_pps_id(header: u8, payload: &[u8]) -> Option<u32> {
    HeaderStart::parse(&mut BitReader::new(payload), header >> 1 & 0x3f).map(|start| start.pps_id)
}

impl HeaderStart {
    pub(super) fn parse(bits: &mut BitReader<'_>, nal_type: u8) -> Option<Self> {
        let is_first = bits.flag()?;
        if (FIRST_IRAP..=LAST_IRAP).contains(&nal_type) {
            // no_output_of_prior_pics_flag.
            bits.skip(1)?;
        }
        let pps_id = bits.ue_up_to(63)?;
        Some(Self { is_first, pps_id })
    }
}

/// Reads on after [`HeaderStart`]. `previous` are the settings of the preceding slice segment.
pub(super) fn parse<'a>(
    mut bits: BitReader<'a>,
    start: HeaderStart,
    nal_type: u8,
    (sps, pps): (&Sps, &Pps),
    previous: Option<SliceSettings>,
) -> Result<Header<'a>, HeaderFault> {
    let bits = &mut bits;
    let (columns, rows) = sps.size_in_ctbs();
    let (is_dependent, address) =
        position(bits, start, pps.dependent_slices, columns * rows).ok_or(HeaderFault::Invalid)?;
    let settings = match (is_dependent, previous) {
        (true, previous) => previous.ok_or(HeaderFault::Invalid)?,
        (false, _) => settings(bits, nal_type, sps, pps, address)?,
    };
    let mut end = || {
        if pps.tiles.is_some() || pps.wavefront {
            skip_entry_points(bits, rows, columns)?;
        }
        if pps.header_extension {
            let bytes = bits.ue_up_to(256)?;
            bits.skip(bytes * 8)?;
        }
        bits.clone().aligned_rest()
    };
    Ok(Header {
        is_dependent,
        address,
        settings,
        data: end().ok_or(HeaderFault::Invalid)?,
    })
}

/// `dependent_slice_segment_flag` and `slice_segment_address`.
fn position(bits: &mut BitReader<'_>, start: HeaderStart, may_depend: bool, ctbs: u32) -> Option<(bool, u32)> {
    if start.is_first {
        return Some((false, 0));
    }
    let is_dependent = may_depend && bits.flag()?;
    let address = bits.bits(bits_up_to(ctbs))?;
    // Address 0 is that of the first segment.
    (1..ctbs).contains(&address).then_some((is_dependent, address))
}

/// Ceil(Log2(count)).
fn bits_up_to(count: u32) -> u32 {
    count.max(1).next_power_of_two().trailing_zeros()
}

fn settings(
    bits: &mut BitReader<'_>,
    nal_type: u8,
    sps: &Sps,
    pps: &Pps,
    address: u32,
) -> Result<SliceSettings, HeaderFault> {
    let is_irap = (FIRST_IRAP..=LAST_IRAP).contains(&nal_type);
    let slice_type = type_of_slice(bits, pps).ok_or(HeaderFault::Invalid)?;
    match slice_type {
        2 => {}
        0 | 1 if !is_irap => return Err(HeaderFault::Predicted),
        _ => return Err(HeaderFault::Invalid),
    }
    let mut rest = || {
        if pps.output_flag_present {
            bits.skip(1)?;
        }
        if !matches!(nal_type, IDR_W_RADL | IDR_N_LP) {
            skip_references(bits, sps)?;
        }
        let (mut sao_luma, mut sao_chroma) = (false, false);
        if sps.sample_adaptive_offset {
            sao_luma = bits.flag()?;
            sao_chroma = sps.head.chroma_array_type() != 0 && bits.flag()?;
        }
        let lowest = -6 * (i32::from(sps.head.bit_depth_luma) - 8);
        let qp = pps.init_qp + bits.se_up_to(128)?;
        if !(lowest..=51).contains(&qp) {
            return None;
        }
        if pps.slice_chroma_qp_offsets {
            bits.se_up_to(12)?;
            bits.se_up_to(12)?;
        }
        let chroma_qp_offsets = pps.range.chroma_qp_offsets.is_some() && bits.flag()?;
        let mut deblocking_disabled = pps.deblocking_disabled;
        if pps.deblocking_override && bits.flag()? {
            deblocking_disabled = bits.flag()?;
            if !deblocking_disabled {
                bits.se_up_to(6)?;
                bits.se_up_to(6)?;
            }
        }
        if pps.filter_across_slices && (sao_luma || sao_chroma || !deblocking_disabled) {
            bits.skip(1)?;
        }
        Some(SliceSettings {
            address,
            sao_luma,
            sao_chroma,
            qp,
            chroma_qp_offsets,
        })
    };
    rest().ok_or(HeaderFault::Invalid)
}

fn type_of_slice(bits: &mut BitReader<'_>, pps: &Pps) -> Option<u32> {
    // slice_reserved_flag.
    bits.skip(pps.extra_header_bits)?;
    bits.ue()
}

/// The picture's order and the pictures that later ones refer to.
fn skip_references(bits: &mut BitReader<'_>, sps: &Sps) -> Option<()> {
    bits.skip(sps.order_bits)?;
    let sets = &sps.short_term_sets;
    if !bits.flag()? {
        short_term_set(bits, sets.len(), sets, true)?;
    } else if sets.len() > 1 {
        let index = bits.bits(bits_up_to(sets.len() as u32))?;
        sets.get(index as usize)?;
    }
    if let Some(known) = sps.long_term {
        let from_sps = if known > 0 { bits.ue_up_to(known)? } else { 0 };
        let count = from_sps + bits.ue_up_to(33)?;
        for index in 0..count {
            if index < from_sps {
                bits.skip(bits_up_to(known))?;
            } else {
                bits.skip(sps.order_bits + 1)?;
            }
            if bits.flag()? {
                bits.ue()?;
            }
        }
    }
    if sps.temporal_mvp {
        bits.skip(1)?;
    }
    Some(())
}

fn skip_entry_points(bits: &mut BitReader<'_>, rows: u32, columns: u32) -> Option<()> {
    // At most one substream for each row of each column of tiles (7.4.7.1).
    let count = bits.ue_up_to(rows.checked_mul(columns)?)?;
    if count > 0 {
        let len = bits.ue_up_to(31)? + 1;
        bits.skip(count.checked_mul(len)?)?;
    }
    Some(())
}
