//! The newest picture of one camera, its connection state and its counters.
//!
//! A slot owns no task and decodes nothing. It has one writer (the camera's receiver) and any number of readers; readers
//! never wait for the network.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::{Keyframe, Picture, live::LiveHub};
use gridwatch_base::{error::Class, message, message::Message};
use gridwatch_engine::CameraId;
use gridwatch_frame::Frame;

/// State of a camera's connection.
#[derive(Debug, Clone, PartialEq)]
pub enum CameraState {
    /// The host name is being resolved, for the first connection.
    Resolving,
    /// The first connection attempt is still running.
    Connecting,
    /// Frames arrive.
    Live,
    /// Frames arrive, but the stream needs an expensive workaround, or some of its keyframes are unusable.
    Degraded {
        /// The cause and the remedy.
        reason: String,
    },
    /// The stream plays, but no keyframe has come for too long, and no other picture of it can be looked at yet.
    NoKeyframes {
        /// Interval between the keyframes so far, or the time since the last one or since the stream began.
        interval: Duration,
    },
    /// Packets are lost, and with them keyframes.
    Loss {
        /// Share of the packets that was lost lately, 0 to 1.
        share: f64,
    },
    /// The stream is of a kind that cannot be looked at.
    Unsupported {
        /// What it is, and what to do.
        what: String,
    },
    /// Keyframes arrive complete, and none of the newest can be decoded.
    DecodingFails {
        /// The newest error.
        error: Message,
    },
    /// The camera refuses the login.
    Refused {
        /// What was tried. It never contains credentials.
        error: Message,
        /// When the first of the consecutive refusals occurred.
        since: Timestamp,
        /// When the next login is tried. Corrected credentials are tried within seconds.
        until: Timestamp,
    },
    /// No connection. The receiver keeps retrying.
    Down {
        /// The newest error. It never contains credentials.
        error: Message,
        /// The class of that error: with [`Class::Config`], retrying cannot help.
        class: Class,
        /// When the first of the consecutive failures occurred.
        since: Timestamp,
    },
    /// The end of a file that plays once.
    Ended,
    /// Frames arrive and are not decoded: they ended decode workers.
    SetAside {
        /// The cause.
        reason: String,
        /// When they are decoded again.
        until: Timestamp,
    },
}

impl CameraState {
    /// Every value of [`CameraState::as_str`].
    pub const NAMES: [&'static str; 12] = [
        "resolving",
        "connecting",
        "live",
        "degraded",
        "no_keyframes",
        "loss",
        "unsupported",
        "decoding_fails",
        "set_aside",
        "refused",
        "down",
        "ended",
    ];

    /// The state as a metric label and in the health message.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Degraded { .. } => "degraded",
            Self::NoKeyframes { .. } => "no_keyframes",
            Self::Loss { .. } => "loss",
            Self::Unsupported { .. } => "unsupported",
            Self::DecodingFails { .. } => "decoding_fails",
            Self::Refused { .. } => "refused",
            Self::Down { .. } => "down",
            Self::SetAside { .. } => "set_aside",
            Self::Ended => "ended",
        }
    }

    /// Whether the connection stands and the camera sends its stream, usable or not.
    pub fn is_receiving(&self) -> bool {
        match self {
            Self::Live
            | Self::Degraded { .. }
            | Self::NoKeyframes { .. }
            | Self::Loss { .. }
            | Self::Unsupported { .. }
            | Self::DecodingFails { .. }
            | Self::SetAside { .. } => true,
            Self::Resolving | Self::Connecting | Self::Refused { .. } | Self::Down { .. } | Self::Ended => false,
        }
    }
}

impl CameraState {
    /// The state as a sentence, with the cause and the remedy.
    pub fn message(&self) -> Message {
        match self {
            Self::Resolving => "resolving its host name".into(),
            Self::Connecting => "connecting".into(),
            Self::Live => "live".into(),
            Self::Degraded { reason } => reason.clone().into(),
            Self::NoKeyframes { interval } => message!(
                "plays without usable keyframes (none for {seconds} s); set the camera's keyframe interval (GOP) to 2 s",
                seconds = interval.as_secs()
            ),
            Self::Loss { share } => message!(
                "{percent} % of its packets are lost, and with them keyframes; check the network to the camera",
                percent = format!("{:.1}", share * 100.0)
            ),
            Self::Unsupported { what } => what.clone().into(),
            Self::DecodingFails { error } => {
                message!("its keyframes cannot be decoded: {error}", error = error.clone())
            }
            Self::Refused { error, until, .. } => message!(
                "{error}; next try at {until}",
                error = error.clone(),
                until = format!("{until:.0}")
            ),
            Self::Down { error, .. } => error.clone(),
            Self::SetAside { reason, until } => message!(
                "set aside until {until}: {reason}",
                until = format!("{until:.0}"),
                reason
            ),
            Self::Ended => "its file has ended".into(),
        }
    }
}

impl fmt::Display for CameraState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// Looks in a row whose keyframe could not be decoded, after which a camera counts as [`CameraState::DecodingFails`].
const DECODE_FAILURES: u32 = 3;

/// Stream counters since the slot was created.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamStats {
    /// Access units received, keyframes included.
    pub frames: u64,
    /// Bytes of those access units.
    pub bytes: u64,
    /// Complete keyframes received.
    pub keyframes: u64,
    /// RTP packets lost, by their sequence numbers.
    pub lost_packets: u64,
    /// Incomplete or corrupt keyframes, detected by the receiver or by the decoder.
    pub damaged: u64,
    /// Keyframes that ended a decode worker.
    pub crashes: u64,
    /// Connections that ended, for whatever reason.
    pub reconnects: u64,
    /// Smoothed interval between keyframes; `None` before the second keyframe of a connection.
    pub keyframe_interval: Option<Duration>,
    /// Arrival time of the newest access unit.
    pub last_frame_at: Option<Timestamp>,
}

/// The newest picture, state and counters of one camera, shared by its receiver, the look workers and telemetry.
pub struct Slot {
    camera: CameraId,
    changed: Arc<Notify>,
    /// Number of pictures stored so far. Outside the lock because every look reads it.
    seq: AtomicU64,
    frames: AtomicU64,
    bytes: AtomicU64,
    keyframes: AtomicU64,
    lost_packets: AtomicU64,
    damaged: AtomicU64,
    crashes: AtomicU64,
    reconnects: AtomicU64,
    /// Milliseconds since 1970; 0 before the first access unit.
    last_frame_at: AtomicU64,
    decode_failures: AtomicU32,
    /// Milliseconds.
    look_every: AtomicU64,
    live: Arc<LiveHub>,
    inner: Mutex<Inner>,
}

struct Inner {
    latest: Option<Picture>,
    interval: Option<Duration>,
    state: CameraState,
    /// The newest error of the decoder.
    decode_error: String,
    /// Why the pictures of a connected camera are not decoded.
    decode_fault: Option<CameraState>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot of {}, {:?}", self.camera, self.state())
    }
}

impl Slot {
    /// An empty slot. `changed` is notified of each new picture; slots may share one [`Notify`].
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
            crashes: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            last_frame_at: AtomicU64::new(0),
            decode_failures: AtomicU32::new(0),
            look_every: AtomicU64::new(0),
            live: Arc::new(LiveHub::new()),
            inner: Mutex::new(Inner {
                latest: None,
                interval: None,
                state: CameraState::Connecting,
                decode_error: String::new(),
                decode_fault: None,
            }),
        })
    }

    /// The camera's id.
    pub fn camera(&self) -> &CameraId {
        &self.camera
    }

    /// The look period of its receiver, which may change while that runs.
    pub(crate) fn look_every(&self) -> Duration {
        Duration::from_millis(self.look_every.load(Ordering::Relaxed))
    }

    pub(crate) fn set_look_every(&self, period: Duration) {
        let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
        self.look_every.store(millis, Ordering::Relaxed);
    }

    /// What its receiver and its live views share.
    pub(crate) fn live(&self) -> &Arc<LiveHub> {
        &self.live
    }

    /// Number of the newest picture, from 1; 0 before the first. Unchanged since a look means there is nothing new.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    /// The newest picture and its [`Slot::seq`].
    pub fn latest(&self) -> Option<(u64, Picture)> {
        let inner = self.lock();
        let picture = inner.latest.clone()?;
        Some((self.seq(), picture))
    }

    /// State of the camera.
    pub fn state(&self) -> CameraState {
        let inner = self.lock();
        let fails = self.decode_failures.load(Ordering::Relaxed) >= DECODE_FAILURES;
        match (&inner.state, &inner.decode_fault) {
            (CameraState::Live | CameraState::Degraded { .. }, Some(fault)) => fault.clone(),
            (CameraState::Live | CameraState::Degraded { .. }, None) if fails => CameraState::DecodingFails {
                error: inner.decode_error.clone().into(),
            },
            (state, _) => state.clone(),
        }
    }

    /// The state as the receiver set it.
    pub(crate) fn received_state(&self) -> CameraState {
        self.lock().state.clone()
    }

    /// Sets why the pictures are not decoded, or that they are. True if that is new.
    pub fn set_decode_fault(&self, fault: Option<CameraState>) -> bool {
        let mut inner = self.lock();
        let is_new = inner.decode_fault != fault;
        inner.decode_fault = fault;
        is_new
    }

    /// A keyframe of this camera was decoded, or not, for the reason given.
    pub fn report_decoding(&self, outcome: Result<(), &dyn fmt::Display>) {
        match outcome {
            Ok(()) => self.decode_failures.store(0, Ordering::Relaxed),
            Err(error) => {
                self.lock().decode_error = error.to_string();
                self.decode_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A snapshot of the stream counters.
    pub fn stats(&self) -> StreamStats {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let last = i64::try_from(get(&self.last_frame_at)).unwrap_or(0);
        StreamStats {
            frames: get(&self.frames),
            bytes: get(&self.bytes),
            keyframes: get(&self.keyframes),
            lost_packets: get(&self.lost_packets),
            damaged: get(&self.damaged),
            crashes: get(&self.crashes),
            reconnects: get(&self.reconnects),
            keyframe_interval: self.lock().interval,
            last_frame_at: (last != 0).then(|| Timestamp::from_millisecond(last).ok()).flatten(),
        }
    }

    /// Counts a keyframe that proved incomplete or corrupt.
    pub fn count_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a keyframe that ended a decode worker.
    pub fn count_crash(&self) {
        self.crashes.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what arrived: frames, their bytes, and packets that were lost.
    pub(crate) fn count_received(&self, frames: u64, bytes: u64, lost: u64, now: Timestamp) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if lost > 0 {
            self.lost_packets.fetch_add(lost, Ordering::Relaxed);
        }
        if frames == 0 {
            return;
        }
        self.frames.fetch_add(frames, Ordering::Relaxed);
        let ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        self.last_frame_at.store(ms, Ordering::Relaxed);
    }

    pub(crate) fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.seq() + 1
    }

    /// Stores a complete keyframe. Its `seq` must be [`Slot::next_seq`].
    pub(crate) fn store_keyframe(&self, keyframe: Arc<Keyframe>) {
        self.keyframes.fetch_add(1, Ordering::Relaxed);
        self.store(Picture::Keyframe(keyframe));
    }

    /// Stores a decoded frame.
    pub(crate) fn store_frame(&self, frame: Arc<Frame>) {
        self.store(Picture::Frame(frame));
    }

    fn store(&self, picture: Picture) {
        let mut inner = self.lock();
        inner.latest = Some(picture);
        self.seq.fetch_add(1, Ordering::Release);
        drop(inner);
        self.changed.notify_one();
    }

    pub(crate) fn set_keyframe_interval(&self, interval: Option<Duration>) {
        self.lock().interval = interval;
    }

    pub(crate) fn set_state(&self, state: CameraState) {
        self.lock().state = state;
    }

    /// Sets [`CameraState::Down`]. Consecutive failures keep the time of the first.
    pub(crate) fn set_down(&self, error: Message, class: Class, now: Timestamp) {
        self.live.interrupt(&error);
        let mut inner = self.lock();
        let since = match inner.state {
            CameraState::Down { since, .. } => since,
            _ => now,
        };
        inner.state = CameraState::Down { error, class, since };
    }

    /// Sets [`CameraState::Refused`]. Consecutive refusals keep the time of the first.
    pub(crate) fn set_refused(&self, error: Message, now: Timestamp, until: Timestamp) {
        self.live.interrupt(&error);
        let mut inner = self.lock();
        let since = match inner.state {
            CameraState::Refused { since, .. } => since,
            _ => now,
        };
        inner.state = CameraState::Refused { error, since, until };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that holds this lock can panic and leave the state half updated.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Codec;

    fn store(slot: &Slot, bytes: usize) {
        slot.store_keyframe(Arc::new(Keyframe {
            camera: slot.camera().clone(),
            seq: slot.next_seq(),
            captured_at: Timestamp::UNIX_EPOCH,
            codec: Codec::H264,
            data: vec![0; bytes].into(),
        }));
    }

    #[test]
    fn latest_returns_the_newest_picture_and_its_number() {
        let slot = Slot::new("c".into(), Arc::default());
        assert!(slot.latest().is_none());
        store(&slot, 1);
        store(&slot, 2);
        let (seq, picture) = slot.latest().unwrap();
        assert_eq!((seq, slot.seq()), (2, 2));
        assert!(matches!(picture, Picture::Keyframe(k) if k.seq == 2 && k.data.len() == 2));
    }

    #[test]
    fn a_decode_fault_shows_while_the_camera_is_connected() {
        let slot = Slot::new("c".into(), Arc::default());
        let fault = CameraState::Unsupported { what: "12-bit".into() };
        assert!(slot.set_decode_fault(Some(fault.clone())) && !slot.set_decode_fault(Some(fault.clone())));
        assert_eq!(slot.state(), CameraState::Connecting);
        slot.set_state(CameraState::Live);
        assert_eq!(slot.state(), fault);
        slot.set_down("gone".into(), Class::Transient, Timestamp::UNIX_EPOCH);
        assert_eq!(slot.state().as_str(), "down");
        assert!(slot.set_decode_fault(None));
        slot.set_state(CameraState::Live);
        assert_eq!(slot.state(), CameraState::Live);
        assert!(CameraState::NAMES.contains(&fault.as_str()));
    }

    #[test]
    fn consecutive_failures_keep_the_time_of_the_first() {
        let slot = Slot::new("c".into(), Arc::default());
        let t = |s| Timestamp::from_second(s).unwrap();
        slot.set_down("a".into(), Class::Config, t(1));
        slot.set_down("b".into(), Class::Transient, t(2));
        assert_eq!(
            slot.state(),
            CameraState::Down {
                error: "b".into(),
                class: Class::Transient,
                since: t(1)
            }
        );
        slot.set_state(CameraState::Live);
        slot.set_down("c".into(), Class::Transient, t(3));
        assert!(matches!(slot.state(), CameraState::Down { since, .. } if since == t(3)));
    }
}
