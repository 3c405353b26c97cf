//! Takes single pictures from a live camera, for commands that need no daemon.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{cli::Failure, daemon, decoders};
use gridwatch_base::error::Class;
use gridwatch_camera::{
    Backend, Picture, Slot,
    decode::{CrashLog, Decoder},
    slot::CameraState,
};
use gridwatch_config::Camera;
use gridwatch_frame::Frame;

/// Timeout for a picture: three times the longest GOP of smart codecs (10 s).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between polls of the slot.
const POLL: Duration = Duration::from_millis(50);
/// Failed connections after which a camera that has sent nothing yet is given up: a camera may have no free session at once, but
/// a person waits for the reason.
const MAX_ATTEMPTS: u64 = 3;

/// A camera received with the daemon's code; stops on drop.
pub(super) struct LiveCamera {
    // Declared first, to be dropped before the runtime it runs on.
    _camera: daemon::CameraSource,
    _receive: tokio::runtime::Runtime,
    slot: Arc<Slot>,
    decoder: Decoder,
    /// The camera in messages.
    name: String,
    newest: Option<Timestamp>,
}

impl LiveCamera {
    /// Starts receiving; `name` is the camera in messages, without credentials.
    pub(super) fn start(camera: &Camera, name: String, backend: Backend) -> Result<Self, Failure> {
        let receive = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| Failure::new(Class::Transient, format!("cannot start the async runtime: {e}")))?;
        let slot = Slot::new(camera.id.clone(), Arc::new(Notify::new()));
        let mode = decoders::mode(CrashLog::default());
        let decoder = Decoder::with_mode("live", backend, &mode).map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let received = daemon::receive_camera(camera, Arc::clone(&slot), receive.handle(), &mode)?;
        Ok(Self {
            _camera: received,
            _receive: receive,
            slot,
            decoder,
            name,
            newest: None,
        })
    }

    /// Waits for the next picture, captured at least `after` the previous one.
    pub(super) fn next(&mut self, after: Duration) -> Result<Frame, Failure> {
        let never = AtomicBool::new(false);
        match self.next_unless(&never, after)? {
            Some(frame) => Ok(frame),
            None => Err(self.gives_up(after)),
        }
    }

    /// Like [`LiveCamera::next`]; `None` as soon as `interrupted` is set.
    pub(super) fn next_unless(&mut self, interrupted: &AtomicBool, after: Duration) -> Result<Option<Frame>, Failure> {
        let deadline = Instant::now() + after + TIMEOUT;
        while !interrupted.load(Ordering::Relaxed) {
            let is_due = |p: &Picture| {
                self.newest
                    .is_none_or(|before| p.captured_at().duration_since(before).unsigned_abs() >= after)
            };
            if let Some((_, picture)) = self.slot.latest().filter(|(_, p)| is_due(p)) {
                self.newest = Some(picture.captured_at());
                return match picture {
                    Picture::Frame(frame) => Ok(Some(Frame::clone(&frame))),
                    Picture::Keyframe(keyframe) => self
                        .decoder
                        .decode(&keyframe)
                        .map(Some)
                        .map_err(|e| Failure::new(e.class(), format!("{}: {e}", self.name))),
                };
            }
            let is_hopeless = match self.slot.state() {
                CameraState::Down { class, .. } => {
                    let attempts = self.slot.stats().reconnects;
                    class == Class::Config || (self.newest.is_none() && attempts >= MAX_ATTEMPTS)
                }
                CameraState::Refused { .. } | CameraState::Unsupported { .. } | CameraState::Ended => true,
                _ => false,
            };
            if is_hopeless || Instant::now() > deadline {
                return Err(self.gives_up(after));
            }
            thread::sleep(POLL);
        }
        Ok(None)
    }

    /// Why there is no picture: the receiver's own reason, if it has one.
    fn gives_up(&self, after: Duration) -> Failure {
        let seconds = (after + TIMEOUT).as_secs();
        let (class, reason) = match self.slot.state() {
            CameraState::Down { error, class, .. } => (class, error.to_string()),
            CameraState::Refused { error, .. } => (Class::Config, error.to_string()),
            CameraState::Unsupported { what } => (Class::Config, what),
            CameraState::DecodingFails { error } => (Class::Data, format!("its keyframes cannot be decoded: {error}")),
            CameraState::Ended => (Class::Data, "the file ended".to_owned()),
            CameraState::Resolving | CameraState::Connecting => (
                Class::Transient,
                format!("no answer for {seconds} s; check that it is on and reachable from this machine"),
            ),
            CameraState::Live => (
                Class::Transient,
                format!("connected, but no complete keyframe for {seconds} s; set its keyframe interval (GOP) to 2 s"),
            ),
            state @ (CameraState::Degraded { .. }
            | CameraState::NoKeyframes { .. }
            | CameraState::Loss { .. }
            | CameraState::SetAside { .. }) => (
                Class::Transient,
                format!("no picture for {seconds} s, although it sends its stream: {state}"),
            ),
        };
        Failure::new(class, format!("{}: {reason}", self.name))
    }
}
