//! Every keyframe carries its parameter sets, whether they come in the SDP, in band, or change mid-stream.

use std::sync::Arc;

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    farm,
    scripted_camera::{Script, ScriptedCamera},
    settings, until,
};
use gridwatch_camera::{Backend, decode::Decoder};

/// Size in pixels of the first keyframe numbered above `after`.
fn size(decoder: &mut Decoder, camera: &Camera, after: u64) -> (u32, u32) {
    let frame = decoder.decode(&camera.keyframe_after(after)).unwrap();
    (frame.width, frame.height)
}

#[test]
fn parameter_sets_only_in_the_sdp() {
    let server = ScriptedCamera::start(
        &clips::clip(SMALL),
        Script {
            sets_in_sdp_only: true,
            ..Script::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    assert_eq!(size(&mut decoder, &camera, 0), (320, 240));
}

#[test]
fn parameter_sets_only_in_band() {
    let server = ScriptedCamera::start(&clips::clip(SMALL), Script::default());
    let camera = Camera::receive(settings(&server.url()));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    assert_eq!(size(&mut decoder, &camera, 0), (320, 240));
}

fn follows_a_resolution_change(h265: bool) {
    let small = clips::clip(Spec { h265, ..SMALL });
    let large = clips::clip(Spec {
        h265,
        width: 640,
        height: 368,
        ..SMALL
    });
    let farm = farm(&small, None);
    let camera = Camera::receive(settings(&farm.url("cam")));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    assert_eq!(size(&mut decoder, &camera, 0), (320, 240));
    farm.swap("cam", Arc::clone(&large)).unwrap();
    until("the new size", || {
        let after = camera.slot().seq();
        (size(&mut decoder, &camera, after) == (640, 368)).then_some(())
    });
    assert_eq!(camera.slot().stats().reconnects, 0, "on the same connection");
}

#[test]
fn h264_resolution_change_mid_stream() {
    follows_a_resolution_change(false);
}

#[test]
fn h265_resolution_change_mid_stream() {
    follows_a_resolution_change(true);
}
