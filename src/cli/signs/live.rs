//! A camera's own pictures, one at a time, for a command that looks a few times and goes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::{cli::Failure, daemon};
use gridwatch_base::error::Class;
use gridwatch_camera::{Backend, Picture, Slot, decode::Decoder};
use gridwatch_config::Camera;
use gridwatch_frame::Frame;

/// A camera whose stream is quiet for so long gives no picture: three of the longest GOPs that smart codecs make.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a new picture is looked for.
const NAP: Duration = Duration::from_millis(50);

/// A camera that is received as the daemon would.
pub(super) struct Live {
    // Before the runtime that it lives on.
    _camera: daemon::Camera,
    _receive: tokio::runtime::Runtime,
    slot: Arc<Slot>,
    decoder: Decoder,
    newest: Option<Timestamp>,
}

impl Live {
    pub(super) fn start(camera: &Camera, decoders: Backend) -> Result<Self, Failure> {
        let receive = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| Failure::new(Class::Transient, format!("no runtime can be started: {e}")))?;
        let slot = Slot::new(camera.id.clone(), Arc::new(Notify::new()));
        let decoder = Decoder::new("signs", decoders).map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let received = daemon::receive_camera(camera, Arc::clone(&slot), receive.handle())?;
        Ok(Self {
            _camera: received,
            _receive: receive,
            slot,
            decoder,
            newest: None,
        })
    }

    /// The first picture that was taken `after` the one before it.
    pub(super) fn next(&mut self, after: Duration) -> Result<Frame, Failure> {
        let give_up = Instant::now() + after + PATIENCE;
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
            if Instant::now() > give_up {
                return Err(Failure::new(
                    Class::Transient,
                    format!(
                        "the camera {} gave no new picture for {} s ({}): `gridwatch check` says how it is",
                        self.slot.camera(),
                        (after + PATIENCE).as_secs(),
                        self.slot.state().as_str()
                    ),
                ));
            }
            thread::sleep(NAP);
        }
    }
}
