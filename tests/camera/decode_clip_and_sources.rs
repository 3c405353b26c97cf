//! Sources read through GStreamer: a clip frame by frame, a file as a camera, and RTSP with a password.

use std::{path::Path, time::Duration};

use crate::support::{
    clips::{self, SMALL},
    credentials, farm, until, workers,
};
use gridwatch_camera::{
    CameraState, Picture, Slot, clip,
    gst_source::{self, GstSource, SourceSettings},
};
use gridwatch_farm::{Auth, AuthMethod};

fn source(url: &str, looped: bool) -> GstSource {
    let settings = SourceSettings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: credentials("viewer", "right-horse"),
        ca_file: None,
        every: Duration::from_millis(400),
        looped,
        idle: Duration::from_secs(10),
        mode: workers(),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    GstSource::spawn(settings, slot).unwrap()
}

fn file_url(path: &Path) -> String {
    gst_source::file_url(path).unwrap().to_string()
}

#[test]
fn clip_yields_every_frame_in_order() {
    let frames: Vec<_> = clip::frames(&clips::file(SMALL))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(frames.len(), 50);
    assert!(frames.windows(2).all(|w| w[0].captured_at < w[1].captured_at));
    assert!(frames.iter().all(|f| (f.width, f.height) == (320, 240)));
}

#[test]
fn unreadable_clip_is_an_error_that_names_the_file() {
    let error = clip::frames(Path::new("/no/such.mp4")).unwrap_err();
    assert!(error.to_string().contains("/no/such.mp4"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.mp4");
    std::fs::write(&text, "not a clip").unwrap();
    let mut frames = clip::frames(&text).unwrap();
    let error = frames.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("text.mp4"), "{error}");
    assert!(frames.next().is_none());
}

#[test]
fn file_plays_once_and_ends() {
    let source = source(&file_url(&clips::file(SMALL)), false);
    until("its end", || {
        (source.slot().state() == CameraState::Ended).then_some(())
    });
    // Two seconds in real time, a frame every 400 ms.
    let frames = source.slot().seq();
    assert!((3..=7).contains(&frames), "{frames}");
    assert!(matches!(source.slot().latest(), Some((_, Picture::Frame(f))) if f.width == 320));
}

#[test]
fn looped_file_restarts_at_its_end() {
    let source = source(&file_url(&clips::file(SMALL)), true);
    until("a second pass", || (source.slot().seq() > 8).then_some(()));
    assert_eq!(source.slot().state(), CameraState::Live);
}

#[test]
fn missing_file_is_down() {
    let source = source("file:///no/such.mp4", false);
    until("it is down", || match source.slot().state() {
        CameraState::Down { error, .. } => Some(error.to_string()),
        _ => None,
    });
}

#[test]
fn rtsp_with_a_password_is_received() {
    let farm = farm(
        &clips::clip(SMALL),
        Some(Auth {
            method: AuthMethod::Digest,
            user: "viewer".into(),
            password: "right-horse".into(),
        }),
    );
    let source = source(&farm.url("cam"), false);
    until("two frames", || (source.slot().seq() >= 2).then_some(()));
}
