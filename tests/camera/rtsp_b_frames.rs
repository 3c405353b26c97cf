//! Keyframes of a stream with B-frames are received over RTSP in order and undamaged, and decode without delay.

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    farm, settings,
};
use gridwatch_camera::{Backend, Codec, decode::Decoder};

#[test]
fn keyframes_of_a_stream_with_b_frames_decode() {
    let clip = clips::clip(Spec { b_frames: 3, ..SMALL });
    let farm = farm(&clip, None);
    let camera = Camera::receive(settings(&farm.url("cam")));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    let mut last = 0;
    // More keyframes than the clip has, so that its loop is covered.
    for _ in 0..4 {
        let keyframe = camera.keyframe_after(last);
        assert!(keyframe.seq > last);
        last = keyframe.seq;
        assert_eq!(keyframe.codec, Codec::H264);
        let frame = decoder.decode(&keyframe).unwrap();
        assert_eq!((frame.width, frame.height), (320, 240));
    }
    let stats = camera.slot().stats();
    assert_eq!((stats.damaged, stats.lost_packets, stats.reconnects), (0, 0, 0));

    let interval = stats.keyframe_interval.unwrap().as_secs_f64();
    assert!((0.5..2.0).contains(&interval), "one per second: {interval}");
}
