//! From a camera's stream to one decoded picture when the camera is due.
//!
//! Receive cheaply, decode rarely: the compressed stream is received all the time, only the newest keyframe is kept, and
//! nothing is decoded that is not looked at.
//!
//! [`receive`] keeps one supervised task a camera and fills its [`Slot`]; [`schedule`] says which camera is due;
//! `decode` turns a keyframe into a picture. `gst_source` fills the same slot from whatever GStreamer opens, and
//! `clip` reads a file picture by picture. Nothing here knows what is looked for.

mod annexb;
mod backoff;
#[cfg(feature = "gst")]
pub mod clip;
#[cfg(feature = "gst")]
pub mod decode;
#[cfg(feature = "gst")]
mod full_decode;
#[cfg(feature = "gst")]
mod gst_frame;
#[cfg(feature = "gst")]
pub mod gst_source;
mod pace;
pub mod receive;
pub mod schedule;
pub mod slot;
#[cfg(feature = "gst")]
mod torn;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;
pub use slot::{Slot, State, Stats};

/// Which decoders to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// The box's hardware decoder where it has one that works, software otherwise.
    #[default]
    Auto,
    /// Software only.
    Software,
    /// Hardware only: a box without a working one refuses to start.
    Hardware,
}

/// How RTP travels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    #[default]
    Tcp,
    /// In datagrams.
    Udp,
}

/// What a stream is coded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// ITU-T H.264.
    H264,
    /// ITU-T H.265.
    H265,
}

/// One random access point of a stream, whole: it decodes alone.
#[derive(Clone)]
pub struct Keyframe {
    /// Who sent it.
    pub camera: CameraId,
    /// Counts the camera's keyframes since the daemon started; never reused.
    pub seq: u64,
    /// Wall time at which its last packet arrived.
    pub captured_at: Timestamp,
    /// What it is coded in.
    pub codec: Codec,
    /// Annex B byte stream: parameter sets, then the access unit.
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

/// What a camera has to look at: compressed as a rule, decoded where the stream has no usable keyframes.
#[derive(Debug, Clone)]
pub enum Picture {
    /// To be decoded when it is looked at.
    Keyframe(Arc<Keyframe>),
    /// Already decoded: sources that GStreamer receives, and streams without keyframes.
    Frame(Arc<Frame>),
}

impl Picture {
    /// Wall time at which the picture arrived at the box.
    pub fn captured_at(&self) -> Timestamp {
        match self {
            Self::Keyframe(k) => k.captured_at,
            Self::Frame(f) => f.captured_at,
        }
    }
}
