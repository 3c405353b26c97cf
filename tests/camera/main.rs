//! Receiving and decoding: cameras served by a real RTSP server, and scripted ones.
#![cfg(feature = "gst")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/camera.rs"]
mod support;

mod decode_backend;
mod decode_clip_and_sources;
mod decode_damaged;
mod decode_source_first;
mod decode_zero_delay;
mod rtsp_auth;
mod rtsp_b_frames;
mod rtsp_death;
mod rtsp_h265;
mod rtsp_hostile;
mod rtsp_keepalive_refused;
mod rtsp_long_gop;
mod rtsp_lost_packets;
mod rtsp_no_keyframes;
mod rtsp_parameter_sets;
mod rtsp_timestamp_jump;
mod rtsp_udp;
mod rtsps;
