//! Live video of a camera on demand: the access units as received, as fragmented MP4 for Media Source Extensions. Nothing is decoded.
//!
//! [`Slot::watch`] opens a [`LiveView`]. While a camera has at least one, its receiver assembles every picture and hands it to the camera's
//! `hub`, which writes each once for all viewers and keeps the newest ones. The last view that goes returns the receiver to keyframes, and
//! what was kept is freed. Viewers never hold up the receiver: one that is too slow goes on at the newest keyframe.
//!
//! **Live video is not masked.** Masking needs decoding. Privacy zones, faces and number plates are visible as the camera sends them, so
//! the server of a view must decide who may see it, and record it.

mod hub;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Slot;

pub use hub::LiveStats;
pub(crate) use hub::{LiveHub, VideoSource};
use hub::{Next, Position};

/// How many views there may be, and what they may keep. Clones share the number of views: one is made for the whole box.
#[derive(Clone)]
pub struct LiveLimits {
    views: Arc<Semaphore>,
    max_views: usize,
    bytes_per_camera: usize,
}

impl LiveLimits {
    /// At most `max_views` views at a time, of all cameras together, and at most `bytes_per_camera` of fragments kept for each camera that is
    /// watched. A keyframe is kept even if it is larger. Where a GOP is larger, a new viewer waits for the next keyframe.
    pub fn new(max_views: usize, bytes_per_camera: usize) -> Self {
        let max_views = max_views.min(Semaphore::MAX_PERMITS);
        Self {
            views: Arc::new(Semaphore::new(max_views)),
            max_views,
            bytes_per_camera,
        }
    }

    /// Views that are open.
    pub fn open_views(&self) -> usize {
        self.max_views - self.views.available_permits()
    }
}

impl Default for LiveLimits {
    /// 8 views, and 8 MiB a camera: ten seconds at 6 Mb/s.
    fn default() -> Self {
        Self::new(8, 8 << 20)
    }
}

impl fmt::Debug for LiveLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, max, bytes) = (self.open_views(), self.max_views, self.bytes_per_camera);
        write!(f, "{open} of {max} views, {bytes} bytes a camera")
    }
}

/// Why a camera has no live video. Its looks can be shown instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAvailable {
    /// Nothing receives the camera.
    #[error("the camera is not received")]
    NotReceived,
    /// The source hands over decoded pictures.
    #[error(
        "the camera is received through GStreamer, which hands over decoded pictures, not its video; receive it over RTSP with the \
         built-in client (source = \"auto\")"
    )]
    Gstreamer,
    /// Motion JPEG, which browsers do not play in MP4.
    #[error("the camera sends Motion JPEG, which browsers do not play as video; set the camera to H.264")]
    MotionJpeg,
    /// The limit of [`LiveLimits`].
    #[error("{limit} live views are open, as many as are allowed; close one")]
    TooManyViews {
        /// The limit.
        limit: usize,
    },
}

/// What a viewer gets next.
#[derive(Clone)]
pub enum LiveChunk {
    /// What a player needs before the fragments that follow: at the beginning, when the parameter sets change, and after [`LiveChunk::Ended`].
    Init {
        /// The codec as in `video/mp4; codecs="…"` (RFC 6381). Not every browser plays H.265 (`hvc1.…`): ask `MediaSource.isTypeSupported`.
        codec: String,
        /// The initialization segment.
        bytes: Bytes,
        /// Width of the pictures in pixels.
        width: u32,
        /// Height of the pictures in pixels.
        height: u32,
    },
    /// One picture.
    Fragment {
        /// A media segment.
        bytes: Bytes,
        /// It can be decoded on its own.
        is_key: bool,
        /// When its last packet arrived.
        at: Timestamp,
        /// When it is shown on the player's timeline. Views begin anywhere on it: the player starts at the first fragment's time.
        shown_at: Duration,
        /// Fragments before this one were left out because the viewer was too slow: the player goes on at `shown_at`.
        is_after_gap: bool,
    },
    /// No video comes for now. The view stays open: [`LiveView::next`] goes on with [`LiveChunk::Init`] when the camera is back.
    Ended {
        /// The cause, and the remedy where there is one. It never contains credentials.
        reason: String,
    },
}

impl fmt::Debug for LiveChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init {
                codec,
                bytes,
                width,
                height,
            } => write!(f, "Init {codec}, {width}×{height}, {} bytes", bytes.len()),
            Self::Fragment {
                bytes,
                is_key,
                shown_at,
                is_after_gap,
                ..
            } => {
                let kind = if *is_key { "keyframe" } else { "delta" };
                let gap = if *is_after_gap { ", after a gap" } else { "" };
                write!(f, "Fragment of {} bytes, {kind}, at {shown_at:?}{gap}", bytes.len())
            }
            Self::Ended { reason } => write!(f, "Ended: {reason}"),
        }
    }
}

/// A viewer of one camera. The receiver returns to keyframes when the last one is dropped.
#[derive(Debug)]
pub struct LiveView {
    hub: Arc<LiveHub>,
    position: Position,
    _permit: OwnedSemaphorePermit,
}

impl LiveView {
    /// What comes next. Begins with the newest keyframe, if other viewers have made the receiver keep one, otherwise with the next one.
    /// `None` when the camera is not received any more, or now sends what cannot be played; [`LiveChunk::Ended`] came before.
    ///
    /// It can be dropped before it is ready; nothing is lost.
    pub async fn next(&mut self) -> Option<LiveChunk> {
        loop {
            // Whoever registers before looking misses no change.
            let mut changed = std::pin::pin!(self.hub.changed());
            changed.as_mut().enable();
            match self.hub.next(&mut self.position) {
                Next::Chunk(chunk) => return Some(chunk),
                Next::Over => return None,
                Next::Nothing => changed.await,
            }
        }
    }
}

impl Drop for LiveView {
    fn drop(&mut self) {
        self.hub.leave(&self.position);
    }
}

impl Slot {
    /// Opens a live view of this camera. Until the camera is connected, the view waits, or tells why it is not.
    ///
    /// The video is not masked: see [the module](self).
    ///
    /// # Errors
    /// Why there is no live video of this camera, or not for one more viewer.
    pub fn watch(&self, limits: &LiveLimits) -> Result<LiveView, NotAvailable> {
        let permit = Arc::clone(&limits.views)
            .try_acquire_owned()
            .map_err(|_| NotAvailable::TooManyViews {
                limit: limits.max_views,
            })?;
        let hub = Arc::clone(self.live());
        let position = hub.join(limits.bytes_per_camera)?;
        Ok(LiveView {
            hub,
            position,
            _permit: permit,
        })
    }

    /// What live views of this camera cost and get.
    pub fn live_stats(&self) -> LiveStats {
        self.live().stats()
    }
}
