//! What one camera has to show: the newest picture, a short ring of keyframes, and how the camera is doing.
//!
//! Owns no task and decodes nothing. One writer (the camera's receiver), any number of readers; a reader never waits
//! for the network. The ring is for evidence: bounded in count and in bytes, so that fifty cameras with absurd
//! keyframes cost what the bound says and no more.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{Keyframe, Picture};
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// Keyframes kept for evidence: the one judged, the one before, and one to spare.
const RING: usize = 3;
/// Bytes they may take together; the newest stays however large it is.
const RING_BYTES: usize = 2 << 20;

/// How a camera is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Never reached yet, and not yet failed.
    Connecting,
    /// Pictures arrive.
    Live,
    /// Pictures arrive, but at a price or not all: said in words.
    Degraded {
        /// Why, as a sentence.
        reason: String,
    },
    /// Away. It is tried again and again.
    Down {
        /// What went wrong last, as a sentence. It never holds a credential.
        error: String,
        /// Since when no attempt has brought a picture.
        since: Timestamp,
    },
    /// A file that was to be read once has been.
    Ended,
}

impl State {
    /// The value of the metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Degraded { .. } => "degraded",
            Self::Down { .. } => "down",
            Self::Ended => "ended",
        }
    }
}

/// Counts since the slot was made, and what the stream is like now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Access units that arrived, keyframes or not.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keyframes offered.
    pub keyframes: u64,
    /// RTP packets that never came.
    pub lost_packets: u64,
    /// Keyframes that were not whole: cut short on the way, or found out by a decoder.
    pub damaged: u64,
    /// Connections that ended, however they did.
    pub reconnects: u64,
    /// Between keyframes, smoothed; `None` before the second one of a connection.
    pub keyframe_interval: Option<Duration>,
    /// When the newest access unit arrived.
    pub last_frame_at: Option<Timestamp>,
}

/// One camera's place. Shared by its receiver, the looks and telemetry.
pub struct Slot {
    camera: CameraId,
    changed: Arc<Notify>,
    /// Pictures offered, 0 before the first; readable without the lock, since every look asks.
    seq: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    keyframes: AtomicU64,
    lost_packets: AtomicU64,
    damaged: AtomicU64,
    reconnects: AtomicU64,
    /// Milliseconds since 1970; 0 before the first.
    last_frame_at: AtomicU64,
    inner: Mutex<Inner>,
}

struct Inner {
    latest: Option<Picture>,
    ring: VecDeque<Arc<Keyframe>>,
    ring_bytes: usize,
    interval: Option<Duration>,
    state: State,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot of {}, {:?}", self.camera, self.state())
    }
}

impl Slot {
    /// An empty slot. `changed` is notified at each new picture; cameras may share one.
    pub fn new(camera: CameraId, changed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            camera,
            changed,
            seq: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            keyframes: AtomicU64::new(0),
            lost_packets: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            last_frame_at: AtomicU64::new(0),
            inner: Mutex::new(Inner {
                latest: None,
                ring: VecDeque::with_capacity(RING),
                ring_bytes: 0,
                interval: None,
                state: State::Connecting,
            }),
        })
    }

    /// Whose it is.
    pub fn camera(&self) -> &CameraId {
        &self.camera
    }

    /// Counts the pictures offered; 0 means none yet. A look whose last `seq` is this one would see nothing new.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// The newest picture and its number, as [`Slot::seq`] counts.
    pub fn latest(&self) -> Option<(u64, Picture)> {
        let inner = self.lock();
        let picture = inner.latest.clone()?;
        Some((self.seq(), picture))
    }

    /// The newest keyframes, oldest first.
    pub fn ring(&self) -> Vec<Arc<Keyframe>> {
        self.lock().ring.iter().cloned().collect()
    }

    /// How the camera is doing.
    pub fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Counts and intervals.
    pub fn stats(&self) -> Stats {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let last = i64::try_from(get(&self.last_frame_at)).unwrap_or(0);
        Stats {
            frames: get(&self.frames),
            bytes: get(&self.bytes),
            keyframes: get(&self.keyframes),
            lost_packets: get(&self.lost_packets),
            damaged: get(&self.damaged),
            reconnects: get(&self.reconnects),
            keyframe_interval: self.lock().interval,
            last_frame_at: (last != 0).then(|| Timestamp::from_millisecond(last).ok()).flatten(),
        }
    }

    /// A keyframe turned out not to be whole: by its packets, its bits, or its decoding.
    pub fn count_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_frame(&self, bytes: usize, lost: u16, now: Timestamp) {
        self.frames.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if lost > 0 {
            self.lost_packets.fetch_add(lost.into(), Ordering::Relaxed);
        }
        let ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        self.last_frame_at.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.seq() + 1
    }

    /// A whole keyframe, numbered [`Slot::next_seq`].
    pub(crate) fn offer_keyframe(&self, keyframe: Arc<Keyframe>) {
        self.keyframes.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.ring_bytes += keyframe.data.len();
        inner.ring.push_back(Arc::clone(&keyframe));
        while inner.ring.len() > RING || (inner.ring_bytes > RING_BYTES && inner.ring.len() > 1) {
            if let Some(old) = inner.ring.pop_front() {
                inner.ring_bytes -= old.data.len();
            }
        }
        inner.latest = Some(Picture::Keyframe(keyframe));
        self.seq.fetch_add(1, Ordering::Release);
        drop(guard);
        self.changed.notify_one();
    }

    /// A picture that somebody else decoded.
    #[cfg_attr(not(feature = "gst"), expect(dead_code, reason = "only GStreamer decodes"))]
    pub(crate) fn offer_frame(&self, frame: Arc<Frame>) {
        let mut inner = self.lock();
        inner.latest = Some(Picture::Frame(frame));
        self.seq.fetch_add(1, Ordering::Release);
        drop(inner);
        self.changed.notify_one();
    }

    pub(crate) fn set_interval(&self, interval: Option<Duration>) {
        self.lock().interval = interval;
    }

    pub(crate) fn set_state(&self, state: State) {
        self.lock().state = state;
    }

    /// Down since the first of a row of failures.
    pub(crate) fn set_down(&self, error: String, now: Timestamp) {
        let mut inner = self.lock();
        let since = match inner.state {
            State::Down { since, .. } => since,
            _ => now,
        };
        inner.state = State::Down { error, since };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing is done under this lock that can panic half way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;

    fn offer(slot: &Slot, bytes: usize) {
        slot.offer_keyframe(Arc::new(Keyframe {
            camera: slot.camera().clone(),
            seq: slot.next_seq(),
            captured_at: Timestamp::UNIX_EPOCH,
            codec: Codec::H264,
            data: vec![0; bytes].into(),
        }));
    }

    fn sizes(slot: &Slot) -> Vec<usize> {
        slot.ring().iter().map(|k| k.data.len()).collect()
    }

    #[test]
    fn the_ring_is_bounded_in_count_and_bytes() {
        let slot = Slot::new("c".into(), Arc::default());
        for bytes in [1, 2, 3, 4] {
            offer(&slot, bytes);
        }
        assert_eq!(sizes(&slot), [2, 3, 4]);
        offer(&slot, RING_BYTES);
        assert_eq!(sizes(&slot), [RING_BYTES]);
        offer(&slot, RING_BYTES + 1);
        assert_eq!(sizes(&slot), [RING_BYTES + 1], "the newest stays");
        offer(&slot, 5);
        assert_eq!(sizes(&slot), [5]);
    }

    #[test]
    fn pictures_are_numbered_and_the_newest_wins() {
        let slot = Slot::new("c".into(), Arc::default());
        assert!(slot.latest().is_none());
        offer(&slot, 1);
        offer(&slot, 2);
        let (seq, picture) = slot.latest().unwrap();
        assert_eq!((seq, slot.seq()), (2, 2));
        assert!(matches!(picture, Picture::Keyframe(k) if k.seq == 2 && k.data.len() == 2));
    }

    #[test]
    fn down_is_dated_from_the_first_failure() {
        let slot = Slot::new("c".into(), Arc::default());
        let t = |s| Timestamp::from_second(s).unwrap();
        slot.set_down("a".into(), t(1));
        slot.set_down("b".into(), t(2));
        assert_eq!(
            slot.state(),
            State::Down {
                error: "b".into(),
                since: t(1)
            }
        );
        slot.set_state(State::Live);
        slot.set_down("c".into(), t(3));
        assert!(matches!(slot.state(), State::Down { since, .. } if since == t(3)));
    }
}
