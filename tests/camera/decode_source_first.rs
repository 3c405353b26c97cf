//! A file camera may be the first in its process to use GStreamer. It once panicked on its thread, and stayed
//! "connecting" for ever. Alone in its file, so that no other test has started GStreamer before.

use std::time::Duration;

use crate::support::{
    clips::{self, SMALL},
    until,
};
use gridwatch_camera::{
    Slot,
    gst_source::{self, GstSource, Settings},
};

#[test]
fn it_starts_gstreamer_itself() {
    let settings = Settings {
        camera: "cam".into(),
        url: gst_source::file_url(&clips::file(SMALL)).unwrap(),
        credentials: None,
        ca_file: None,
        every: Duration::from_millis(400),
        looped: true,
        idle: Duration::from_secs(10),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    let source = GstSource::spawn(settings, slot).unwrap();
    until("a picture", || (source.slot().seq() > 0).then_some(()));
}
