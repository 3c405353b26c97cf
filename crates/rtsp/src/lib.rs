//! An RTSP 1.0 client for one video stream, without I/O: bytes and time in; bytes, events and timers out.
//!
//! The crate opens no socket, reads no clock and starts no thread. [`Client`] is driven by a task that owns the
//! sockets: it passes in what arrived and what time it is, and does what [`Client::poll`] asks for.
//!
//! It reads what other players read, and holds no more than it must: every buffer has a named limit, and the packets of
//! pictures that are not keyframes are counted, not kept.
//!
//! [`video`] receives the stream: it takes RTP and RTCP packets and hands out keyframes (or every access unit),
//! receiver reports, and what is wrong with the stream. It puts UDP packets in order, follows new sources and
//! sequences, and keeps parameter sets. A packet of a picture that depends on others costs a look at its header; a
//! keyframe is copied once.

mod assemble;
mod auth;
mod buffer;
mod client;
mod depacketize;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod message;
mod outputs;
mod parameter_sets;
mod problem;
mod random;
mod reorder;
mod rtp;
mod sdp;
mod session;
mod settings;
mod unit;
pub mod video;

pub use auth::{HttpLogin, LoginAttempt};
pub use client::{Client, ClientCounters, Connection, Event, Output, UdpPort};
pub use error::{Error, LoginProblem, RedirectProblem, Step};
pub use message::Limits;
pub use session::UdpPeer;
pub use settings::{ClientSettings, Endpoint, LoginPolicy, LoginSchemes, Timeouts, Transport};
pub use video::{
    AccessUnit, Assemble, PacketOrder, SenderClock, StreamCounters, StreamProblem, UnitKind, VideoCodec, VideoFormat,
    VideoOutput, VideoParameters, VideoReceiver,
};
