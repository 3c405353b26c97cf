//! H.265 (ITU-T H.265, 08/2021): parameter sets and the check of intra pictures.

mod check;
mod contexts;
mod header;
mod neighbours;
mod pps;
mod residual;
mod scan;
mod slice;
mod sps;
mod tiles;
mod vui;

pub(crate) use self::check::Checker;
pub use self::{
    header::slice_pps_id,
    pps::pps_ids,
    sps::{SpsHead, reorder_pictures, sps_id},
};

/// Types of NAL units (7.4.2.2, table 7-1).
pub(crate) mod nal_type {
    /// The first of the intra random access point pictures: BLA, IDR, CRA.
    pub(crate) const FIRST_IRAP: u8 = 16;
    /// The last one, reserved ones included.
    pub(crate) const LAST_IRAP: u8 = 23;
    pub(crate) const IDR_W_RADL: u8 = 19;
    pub(crate) const IDR_N_LP: u8 = 20;
    /// The first that is not a slice segment.
    pub(crate) const VPS: u8 = 32;
    pub(crate) const SPS: u8 = 33;
    pub(crate) const PPS: u8 = 34;
}
