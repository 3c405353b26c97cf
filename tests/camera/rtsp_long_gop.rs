//! A stream with a keyframe every ten seconds is not degraded.

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    farm, settings,
};
use gridwatch_camera::CameraState;

#[test]
fn ten_second_gop_is_live() {
    let farm = farm(
        &clips::clip(Spec {
            frames: 250,
            gop: 250,
            b_frames: 2,
            ..SMALL
        }),
        None,
    );
    let camera = Camera::receive(settings(&farm.url("cam")));
    camera.keyframe_after(1);
    assert_eq!(camera.slot().state(), CameraState::Live);
    let interval = camera.slot().stats().keyframe_interval.unwrap();
    assert!((9..=11).contains(&interval.as_secs()), "{interval:?}");
}
