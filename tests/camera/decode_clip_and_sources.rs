//! What GStreamer opens: a clip picture by picture, a file as a camera, RTSP with a password by the second way.

use std::{path::Path, time::Duration};

use crate::support::{
    clips::{self, SMALL},
    credentials, farm, until,
};
use gridwatch_camera::{
    Picture, Slot, State, clip,
    gst_source::{self, GstSource, Settings},
};
use gridwatch_farm::{Auth, AuthMethod};

fn source(url: &str, looped: bool) -> GstSource {
    let settings = Settings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: credentials("viewer", "right-horse"),
        ca_file: None,
        every: Duration::from_millis(400),
        looped,
        idle: Duration::from_secs(10),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    GstSource::spawn(settings, slot).unwrap()
}

fn file_url(path: &Path) -> String {
    gst_source::file_url(path).unwrap().to_string()
}

#[test]
fn a_clip_gives_every_picture_in_order() {
    let frames: Vec<_> = clip::frames(&clips::file(SMALL))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(frames.len(), 50);
    assert!(frames.windows(2).all(|w| w[0].captured_at < w[1].captured_at));
    assert!(frames.iter().all(|f| (f.width, f.height) == (320, 240)));
}

#[test]
fn what_is_no_clip_is_an_error_that_names_it() {
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
fn a_file_is_a_camera_until_its_end() {
    let source = source(&file_url(&clips::file(SMALL)), false);
    until("its end", || (source.slot().state() == State::Ended).then_some(()));
    // Two seconds shown as they were filmed, a picture every 400 ms.
    let shown = source.slot().seq();
    assert!((3..=7).contains(&shown), "{shown}");
    assert!(matches!(source.slot().latest(), Some((_, Picture::Frame(f))) if f.width == 320));
}

#[test]
fn a_looped_file_goes_on() {
    let source = source(&file_url(&clips::file(SMALL)), true);
    until("a second pass", || (source.slot().seq() > 8).then_some(()));
    assert_eq!(source.slot().state(), State::Live);
}

#[test]
fn a_missing_file_is_down_with_its_reason() {
    let source = source("file:///no/such.mp4", false);
    until("it is down", || match source.slot().state() {
        State::Down { error, .. } => Some(error),
        _ => None,
    });
}

#[test]
fn rtsp_with_a_password() {
    let farm = farm(
        &clips::clip(SMALL),
        Some(Auth {
            method: AuthMethod::Digest,
            user: "viewer".into(),
            password: "right-horse".into(),
        }),
    );
    let source = source(&farm.url("cam"), false);
    until("two pictures", || (source.slot().seq() >= 2).then_some(()));
}
