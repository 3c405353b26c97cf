//! A stream that refreshes itself without keyframes is decoded whole, shown, and called degraded; when keyframes come,
//! it is received as any other.

use std::time::Duration;

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    farm, settings, until,
};
use gridwatch_camera::{Picture, State};

fn falls_back(rare: Spec) {
    let h265 = rare.h265;
    let rare = clips::clip(rare);
    let farm = farm(&rare, None);
    let camera = Camera::receive(settings(&farm.url("cam")));
    let reason = until("the camera is degraded", || match camera.slot().state() {
        State::Degraded { reason } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("GOP"), "{reason}");
    let frame = until("a decoded picture", || match camera.slot().latest() {
        Some((_, Picture::Frame(f))) => Some(f),
        _ => None,
    });
    assert_eq!((frame.width, frame.height), (320, 240));
    let age = jiff::Timestamp::now().duration_since(frame.captured_at);
    assert!(age.unsigned_abs() < Duration::from_secs(30), "{age}");
    let seen = camera.slot().seq();
    until("the next", || (camera.slot().seq() > seen).then_some(()));

    farm.swap("cam", clips::clip(Spec { h265, ..SMALL })).unwrap();
    camera.wait_live();
    let seen = camera.slot().seq();
    camera.keyframe_after(seen);
}

#[test]
fn intra_refresh_in_h264() {
    // One keyframe in forty seconds, the first unit; a refresh every two.
    falls_back(Spec {
        frames: 1000,
        gop: 50,
        more: "intra-refresh=1",
        ..SMALL
    });
}

#[test]
fn rare_keyframes_in_h265() {
    falls_back(Spec {
        h265: true,
        frames: 450,
        gop: 450,
        ..SMALL
    });
}
