//! Receives a camera's stream with the built-in RTSP client, or through GStreamer for every other kind of source and by
//! choice.

use std::{sync::Arc, time::Duration};

use super::error::StartError;
use crate::receiver::{is_built_in, receiver_settings};
use gridwatch_camera::{
    decode::DecodeMode,
    gst_source::{GstSource, SourceSettings},
    receive::{Receiver, Timeouts},
    slot::Slot,
};
use gridwatch_config as config;

/// A GStreamer source may take this long to deliver its first picture.
const SOURCE_IDLE: Duration = Duration::from_secs(20);

/// A running receiver; stops on drop.
pub(crate) enum CameraSource {
    Rtsp(Receiver),
    Gst(#[expect(dead_code, reason = "held for its drop")] GstSource),
}

impl CameraSource {
    /// Changes the look period of a stream that is kept ([`is_same_stream`]).
    pub(super) fn set_look_every(&self, period: Duration) {
        match self {
            Self::Rtsp(receiver) => receiver.set_look_every(period),
            // One with another period is made anew.
            Self::Gst(_) => {}
        }
    }
}

/// True if a receiver made for one camera does for the other. The built-in client takes another look period as it runs; a GStreamer pipeline,
/// which may run in another process, thins out its frames as it was started. A login that was corrected is tried at once, though it would be read anew.
pub(super) fn is_same_stream(a: &config::Camera, b: &config::Camera) -> bool {
    let settings = |c: &config::Camera| {
        let login = (c.credentials.clone(), c.credential_source.clone(), c.auth);
        let trust = (c.ca_file.clone(), c.pin_sha256.clone());
        let pace = (!is_built_in(c)).then_some(c.look_every);
        (c.url.clone(), login, trust, c.transport, c.source, pace)
    };
    settings(a) == settings(b)
}

/// Receives `camera` into `slot` until the returned source is dropped. What needs native decoders or GStreamer for that runs where `mode` says.
pub(crate) fn receive_camera(
    camera: &config::Camera,
    slot: Arc<Slot>,
    runtime: &tokio::runtime::Handle,
    mode: &DecodeMode,
) -> Result<CameraSource, StartError> {
    if is_built_in(camera) {
        let settings = receiver_settings(camera, Timeouts::default(), mode.clone());
        Ok(CameraSource::Rtsp(Receiver::spawn(settings, slot, runtime)))
    } else {
        let settings = SourceSettings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials: camera.credential_source.clone(),
            ca_file: camera.ca_file.clone(),
            every: camera.look_every / 2,
            looped: true,
            idle: SOURCE_IDLE.max(camera.look_every * 3),
            mode: mode.clone(),
        };
        GstSource::spawn(settings, slot)
            .map(CameraSource::Gst)
            .map_err(StartError::Thread)
    }
}
