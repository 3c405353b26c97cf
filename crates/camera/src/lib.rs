//! Receives camera streams and decodes a frame when a camera is due for a look.
//!
//! Receiving is cheap and decoding is not, so the compressed stream is received all the time, only the newest keyframe
//! is kept, and a keyframe is decoded only when its camera is looked at.
//!
//! - [`receive`] runs one supervised task per RTSP camera and fills the camera's [`Slot`].
//! - `gst_source` fills a slot from anything GStreamer can open.
//! - [`live`] hands out a camera's video while somebody watches it.
//! - [`schedule`] picks the next camera that is due.
//! - `decode` turns a keyframe into a frame.
//! - `clip` reads a video file frame by frame.
//!
//! Nothing in this crate depends on what the models detect.

mod cadence;
#[cfg(feature = "gst")]
pub mod clip;
mod corruption;
#[cfg(feature = "gst")]
pub mod decode;
#[cfg(feature = "gst")]
mod full_decode;
#[cfg(feature = "gst")]
mod gst_frame;
#[cfg(feature = "gst")]
pub mod gst_source;

pub mod live;
pub mod receive;
mod reconnect;
pub mod schedule;
pub mod slot;
#[cfg(feature = "gst")]
mod source_pipeline;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use gridwatch_bitstream::Codec;
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;
pub use slot::{CameraState, Slot, StreamStats};

/// Which video decoders to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// A hardware decoder if one works, otherwise software.
    #[default]
    Auto,
    /// Software only.
    Software,
    /// Hardware only. A box without a working hardware decoder refuses to start.
    Hardware,
}

impl Backend {
    /// The setting as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Software => "software",
            Self::Hardware => "hardware",
        }
    }
}

impl std::str::FromStr for Backend {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Auto, Self::Software, Self::Hardware]
            .into_iter()
            .find(|backend| backend.as_str() == text)
            .ok_or_else(|| format!("unknown decoder backend {text:?}"))
    }
}

/// Transport of RTP packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Interleaved with RTSP on its TCP connection.
    #[default]
    Tcp,
    /// UDP datagrams.
    Udp,
    /// As `tcp`, tunnelled through two HTTP connections.
    Http,
}

/// Which logins a camera may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Digest or Basic; over an unencrypted connection no Basic once the camera asked for Digest.
    #[default]
    Auto,
    /// Digest alone.
    Digest,
    /// Basic alone.
    Basic,
}

/// What receives a camera's stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamSource {
    /// The built-in client for `rtsp` and `rtsps`, GStreamer for everything else.
    #[default]
    Auto,
    /// GStreamer.
    Gstreamer,
}

/// A complete random access point with its parameter sets. It decodes without any other data.
#[derive(Clone)]
pub struct Keyframe {
    /// The camera that sent it.
    pub camera: CameraId,
    /// Sequence number within the camera since the daemon started, from 1; never reused.
    pub seq: u64,
    /// Wall clock time at which its last packet was read: up to 40 ms after it arrived over TCP.
    pub captured_at: Timestamp,
    /// Its codec.
    pub codec: Codec,
    /// Annex B byte stream: the parameter sets, then the access unit.
    pub data: Bytes,
}

impl fmt::Debug for Keyframe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} keyframe {} of {}, {} bytes, {}",
            self.codec,
            self.seq,
            self.camera,
            self.data.len(),
            self.captured_at
        )
    }
}

/// The newest picture of a camera: a keyframe as a rule, a decoded frame where the source delivers no usable keyframes.
#[derive(Debug, Clone)]
pub enum Picture {
    /// A compressed keyframe, decoded when the camera is looked at.
    Keyframe(Arc<Keyframe>),
    /// A decoded frame, from a GStreamer source or from a stream without keyframes.
    Frame(Arc<Frame>),
}

impl Picture {
    /// Wall clock time at which the picture arrived.
    pub fn captured_at(&self) -> Timestamp {
        match self {
            Self::Keyframe(k) => k.captured_at,
            Self::Frame(f) => f.captured_at,
        }
    }
}
