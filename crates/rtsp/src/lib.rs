//! An RTSP 1.0 client for one video stream, without I/O: bytes and time in; bytes, events and timers out.
//!
//! The crate opens no socket, reads no clock and starts no thread. [`Client`] is driven by a task that owns the
//! sockets: it passes in what arrived and what time it is, and does what [`Client::poll`] asks for.
//!
//! It reads what other players read, and holds no more than it must: every buffer has a named limit, and the packets of
//! pictures that are not keyframes are counted, not kept.

mod auth;
mod buffer;
mod client;
mod error;
mod message;
mod random;
mod sdp;
mod session;
mod settings;
pub mod video;

pub use client::{Client, ClientCounters, Connection, Event, Output, UdpPort};
pub use error::{Error, LoginProblem, RedirectProblem, Step};
pub use message::Limits;
pub use session::UdpPeer;
pub use settings::{ClientSettings, Endpoint, Timeouts, Transport};
pub use video::{
    AccessUnit, Assemble, PacketOrder, StreamCounters, StreamProblem, UnitKind, VideoCodec, VideoFormat, VideoOutput,
    VideoParameters, VideoReceiver,
};
