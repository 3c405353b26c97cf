//! An RTSP 1.0 client for one video stream, without I/O: bytes and time in; bytes, events and timers out.
//!
//! [`video`] receives the stream: it takes RTP and RTCP packets and hands out keyframes (or every access unit),
//! receiver reports, and what is wrong with the stream. It puts UDP packets in order, follows new sources and
//! sequences, and keeps parameter sets. A packet of a picture that depends on others costs a look at its header; a
//! keyframe is copied once.

mod assemble;
mod bits;
mod depacketize;
mod outputs;
mod parameter_sets;
mod problem;
mod reorder;
mod rtp;
mod unit;
pub mod video;
