//! Takes single pictures from a live camera, for commands that need no daemon.

use std::{
    sync::Arc,
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
};
use gridwatch_config::Camera;
use gridwatch_frame::Frame;

/// Timeout for a picture: three times the longest GOP of smart codecs (10 s).
const TIMEOUT: Duration = Duration::from_secs(30);
/// Interval between polls of the slot.
const POLL: Duration = Duration::from_millis(50);

/// A camera received with the daemon's code; stops on drop.
pub(super) struct LiveCamera {
    // Declared first, to be dropped before the runtime it runs on.
    _camera: daemon::CameraSource,
    _receive: tokio::runtime::Runtime,
    slot: Arc<Slot>,
    decoder: Decoder,
    newest: Option<Timestamp>,
}

impl LiveCamera {
    pub(super) fn start(camera: &Camera, backend: Backend) -> Result<Self, Failure> {
        let receive = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| Failure::new(Class::Transient, format!("cannot start the async runtime: {e}")))?;
        let slot = Slot::new(camera.id.clone(), Arc::new(Notify::new()));
        let mode = decoders::mode(CrashLog::default());
        let decoder = Decoder::with_mode("live", backend, &mode).map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let received = daemon::receive_camera(camera, Arc::clone(&slot), receive.handle())?;
        Ok(Self {
            _camera: received,
            _receive: receive,
            slot,
            decoder,
            newest: None,
        })
    }

    /// Waits for the next picture, captured at least `after` the previous one.
    pub(super) fn next(&mut self, after: Duration) -> Result<Frame, Failure> {
        let deadline = Instant::now() + after + TIMEOUT;
        loop {
            let is_due = |p: &Picture| {
                self.newest
                    .is_none_or(|before| p.captured_at().duration_since(before).unsigned_abs() >= after)
            };
            if let Some((_, picture)) = self.slot.latest().filter(|(_, p)| is_due(p)) {
                self.newest = Some(picture.captured_at());
                return match picture {
                    Picture::Frame(frame) => Ok(Frame::clone(&frame)),
                    Picture::Keyframe(keyframe) => self
                        .decoder
                        .decode(&keyframe)
                        .map_err(|e| Failure::new(e.class(), format!("{}: {e}", keyframe.camera))),
                };
            }
            if Instant::now() > deadline {
                return Err(Failure::new(
                    Class::Transient,
                    format!(
                        "no new picture from camera {} for {} s ({}); run `gridwatch check`",
                        self.slot.camera(),
                        (after + TIMEOUT).as_secs(),
                        self.slot.state().as_str()
                    ),
                ));
            }
            thread::sleep(POLL);
        }
    }
}
