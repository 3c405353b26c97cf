//! A stream with few or no keyframes (intra refresh) is decoded in full and reported degraded, until keyframes come again.

use std::time::Duration;

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    farm, settings, until, workers,
};
use gridwatch_camera::{CameraState, Picture, receive::ReceiverSettings};

fn falls_back_to_full_decoding(spec: Spec) {
    let h265 = spec.h265;
    let farm = farm(&clips::clip(spec), None);
    let camera = Camera::receive(ReceiverSettings {
        full_decoding: workers(),
        ..settings(&farm.url("cam"))
    });
    let reason = until("the camera is degraded", || match camera.slot().state() {
        CameraState::Degraded { reason } => Some(reason),
        _ => None,
    });
    assert!(reason.contains("GOP"), "{reason}");
    let frame = until("a decoded frame", || match camera.slot().latest() {
        Some((_, Picture::Frame(f))) => Some(f),
        _ => None,
    });
    assert_eq!((frame.width, frame.height), (320, 240));
    let age = jiff::Timestamp::now().duration_since(frame.captured_at);
    assert!(age.unsigned_abs() < Duration::from_secs(30), "{age}");
    let seen = camera.slot().seq();
    until("the next frame", || (camera.slot().seq() > seen).then_some(()));

    farm.swap("cam", clips::clip(Spec { h265, ..SMALL })).unwrap();
    camera.wait_live();
    let seen = camera.slot().seq();
    camera.keyframe_after(seen);
}

#[test]
fn h264_intra_refresh_is_decoded_in_full() {
    // Only the first of forty seconds has a keyframe; a refresh every two seconds.
    falls_back_to_full_decoding(Spec {
        frames: 1000,
        gop: 50,
        more: "intra-refresh=1",
        ..SMALL
    });
}

#[test]
fn h265_with_rare_keyframes_is_decoded_in_full() {
    falls_back_to_full_decoding(Spec {
        h265: true,
        frames: 450,
        gop: 450,
        ..SMALL
    });
}
