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
#[expect(dead_code, reason = "held for their drop")]
pub(crate) enum CameraSource {
    Rtsp(Receiver),
    Gst(GstSource),
}

/// True if a receiver made for one camera does for the other. A login that was corrected is tried at once, though it would be read anew.
pub(super) fn is_same_stream(a: &config::Camera, b: &config::Camera) -> bool {
    let settings = |c: &config::Camera| {
        let login = (c.credentials.clone(), c.credential_source.clone(), c.auth);
        let trust = (c.ca_file.clone(), c.pin_sha256.clone());
        (c.url.clone(), login, trust, c.transport, c.source, c.look_every)
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
