//! H.264 (ITU-T H.264, 08/2021): parameter sets and the check of intra pictures.

mod cabac_data;
mod cavlc_data;
mod cavlc_tables;
mod check;
mod contexts;
mod header;
mod macroblock;
mod pps;
mod sps;
mod vui;

pub(crate) use self::check::Checker;
pub use self::{
    header::slice_pps_id,
    pps::pps_ids,
    sps::{SpsHead, reorder_frames, sps_id},
};

/// Types of NAL units (table 7-1).
pub(crate) mod nal_type {
    /// A slice of a picture that is not IDR.
    pub(crate) const SLICE: u8 = 1;
    /// The first and the last partition of a slice.
    pub(crate) const PARTITION_A: u8 = 2;
    pub(crate) const PARTITION_C: u8 = 4;
    pub(crate) const IDR: u8 = 5;
    pub(crate) const SPS: u8 = 7;
    pub(crate) const PPS: u8 = 8;
}
