//! Receives a camera's stream over RTSP, or through GStreamer for every other kind of source.

use std::{sync::Arc, time::Duration};

use super::error::StartError;
use gridwatch_camera::{
    gst_source::{GstSource, SourceSettings},
    receive::{Receiver, ReceiverSettings, Timeouts},
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

/// Receives `camera` into `slot` until the returned source is dropped.
pub(crate) fn receive_camera(
    camera: &config::Camera,
    slot: Arc<Slot>,
    runtime: &tokio::runtime::Handle,
) -> Result<CameraSource, StartError> {
    let credentials = camera.credentials.clone();
    if camera.url.scheme() == "rtsp" {
        let settings = ReceiverSettings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials,
            transport: camera.transport,
            look_every: camera.look_every,
            timeouts: Timeouts::default(),
        };
        Ok(CameraSource::Rtsp(Receiver::spawn(settings, slot, runtime)))
    } else {
        let settings = SourceSettings {
            camera: camera.id.clone(),
            url: camera.url.clone(),
            credentials,
            ca_file: camera.ca_file.clone(),
            every: camera.look_every / 2,
            looped: true,
            idle: SOURCE_IDLE.max(camera.look_every * 3),
        };
        GstSource::spawn(settings, slot)
            .map(CameraSource::Gst)
            .map_err(StartError::Thread)
    }
}
