//! A file camera may be the first user of GStreamer in its process. Its thread once panicked because GStreamer was not
//! initialised, and the camera stayed "connecting". In a process of its own, because any other test would initialise GStreamer.
#![cfg(feature = "gst")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/camera.rs"]
mod support;

use std::time::Duration;

use gridwatch_camera::{
    Slot,
    decode::DecodeMode,
    gst_source::{self, GstSource, SourceSettings},
};
use support::{
    clips::{self, SMALL},
    until,
};

#[test]
fn file_source_initialises_gstreamer() {
    let settings = SourceSettings {
        camera: "cam".into(),
        url: gst_source::file_url(&clips::file(SMALL)).unwrap(),
        credentials: None,
        ca_file: None,
        every: Duration::from_millis(400),
        looped: true,
        idle: Duration::from_secs(10),
        mode: DecodeMode::InProcess,
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    let source = GstSource::spawn(settings, slot).unwrap();
    until("a frame", || (source.slot().seq() > 0).then_some(()));
}
