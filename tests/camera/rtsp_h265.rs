//! Keyframes of an H.265 stream with B-frames are received over RTSP and decode.

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    farm, settings,
};
use gridwatch_camera::{Backend, Codec, decode::Decoder};

#[test]
fn h265_keyframes_decode() {
    let farm = farm(
        &clips::clip(Spec {
            h265: true,
            b_frames: 3,
            ..SMALL
        }),
        None,
    );
    let camera = Camera::receive(settings(&farm.url("cam")));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    for n in 0..3 {
        let keyframe = camera.keyframe_after(n);
        assert_eq!(keyframe.codec, Codec::H265);
        let frame = decoder.decode(&keyframe).unwrap();
        assert_eq!((frame.width, frame.height), (320, 240));
    }
    assert_eq!(camera.slot().stats().damaged, 0);
}
