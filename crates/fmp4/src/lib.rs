//! Writes H.264 and H.265 access units as fragmented MP4 (ISO/IEC 14496-12, -15), as Media Source Extensions take it: an
//! initialization segment, then one fragment for each picture. Nothing is decoded, and nothing is read or written but memory.
//!
//! [`Muxer`] takes what an RTP receiver assembles: access units in decoding order with RTP timestamps. All input is hostile: sizes and
//! counts are bounded, and what cannot be written is an error.
//!
//! - `parameter_sets` collects the parameter sets of a keyframe, `sample_entry` makes the initialization segment of them.
//! - `timeline` turns RTP timestamps into decoding and composition times.
//! - `boxes` writes boxes; `muxer` puts it all together.

mod boxes;
#[doc(hidden)]
pub mod fuzzing;
mod muxer;
mod parameter_sets;
mod sample_entry;
mod timeline;

pub use muxer::{Fragment, InitSegment, MAX_NAL_UNITS, MAX_UNIT_BYTES, MuxError, Muxer, Unit};

/// Units of time a second in all segments: those of RTP's video formats (RFC 6184, RFC 7798).
pub const TIMESCALE: u32 = 90_000;
