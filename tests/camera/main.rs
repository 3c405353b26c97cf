//! Receiving and decoding, with cameras served by gst-rtsp-server and by a scripted server.
#![cfg(feature = "gst")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/camera.rs"]
mod support;

mod decode_backend;
mod decode_clip_and_sources;
mod decode_damaged;
mod decode_zero_delay;
mod hostile_streams;
mod http_mjpeg;
mod live_mp4;
mod live_view;
mod rtsp_auth;
mod rtsp_b_frames;
mod rtsp_faulty_cameras;
mod rtsp_h265;
mod rtsp_http_tunnel;
mod rtsp_keepalive_rejected;
mod rtsp_long_gop;
mod rtsp_lost_packets;
mod rtsp_no_keyframes;
mod rtsp_odd_answers;
mod rtsp_odd_logins;
mod rtsp_odd_streams;
mod rtsp_overload;
mod rtsp_parameter_sets;
mod rtsp_reconnect;
mod rtsp_timestamp_jump;
mod rtsp_udp;
mod rtsps;
