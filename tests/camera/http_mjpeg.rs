//! Motion JPEG over HTTP at a few pictures a second, however the camera separates them.

use std::{path::Path, time::Duration};

use crate::support::{
    http_camera::{HttpCamera, Multipart},
    until, workers,
};
use gridwatch_camera::{
    CameraState, Picture, Slot,
    gst_source::{GstSource, SourceSettings},
};

fn receives(multipart: Multipart) {
    let jpeg = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/rtsp/fixtures/420.jpg");
    let camera = HttpCamera::start(std::fs::read(jpeg).unwrap(), multipart.clone());
    let settings = SourceSettings {
        camera: "cam".into(),
        url: camera.url().parse().unwrap(),
        credentials: None,
        ca_file: None,
        every: Duration::from_millis(100),
        looped: true,
        idle: Duration::from_secs(20),
        mode: workers(),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    let source = GstSource::spawn(settings, slot).unwrap();
    until(&format!("three pictures of {multipart:?}"), || {
        (source.slot().seq() >= 3).then_some(())
    });
    assert_eq!(source.slot().state(), CameraState::Live);
    assert_eq!(source.slot().stats().reconnects, 0, "{multipart:?}");
    assert!(matches!(source.slot().latest(), Some((_, Picture::Frame(f))) if f.width > 0));
}

#[test]
fn one_picture_a_second_is_received() {
    for has_length in [true, false] {
        receives(Multipart {
            boundary: "frame",
            delimiter: "--frame",
            has_length,
            pictures_per_second: 1,
        });
    }
}

#[test]
fn five_pictures_a_second_are_received_with_any_boundary() {
    for (boundary, delimiter) in [
        ("frame", "--frame"),
        // The dashes are part of the boundary, or are taken for it.
        ("--frame", "--frame"),
        ("--frame", "----frame"),
        ("\"my boundary\"", "--my boundary"),
    ] {
        for has_length in [true, false] {
            receives(Multipart {
                boundary,
                delimiter,
                has_length,
                pictures_per_second: 5,
            });
        }
    }
}
