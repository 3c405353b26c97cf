//! Reads H.264 and H.265 bitstreams without decoding them: NAL units, parameter sets, and whether the slices of a keyframe are intact.
//!
//! All input is hostile. Time and memory are bounded by the size of a picture that a level allows.

pub mod bits;
mod cabac;
mod check;
pub mod format;
pub mod fuzzing;
pub mod h264;
pub mod h265;
pub mod nal;
pub mod sei;
mod size;

pub use self::{
    check::{Damage, Finding, SliceCheck, SliceFault},
    size::Size,
};

/// A video codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}
