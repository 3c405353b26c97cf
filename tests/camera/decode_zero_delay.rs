//! Each keyframe yields its own frame at once, with streams alternating and with B-frames.

use crate::support::clips::{self, SMALL, Spec};
use gridwatch_camera::{Backend, Codec, Keyframe, decode::Decoder};
use gridwatch_farm::Clip;
use jiff::Timestamp;

fn keyframes(clip: &Clip) -> Vec<Keyframe> {
    clip.units()
        .iter()
        .filter(|u| u.keyframe)
        .enumerate()
        .map(|(i, u)| Keyframe {
            camera: "cam".into(),
            seq: i as u64,
            captured_at: Timestamp::from_second(i as i64).unwrap(),
            codec: clip.codec(),
            data: u.data.clone(),
        })
        .collect()
}

fn alternate(h265: bool) {
    let spec = |width, height| Spec {
        h265,
        width,
        height,
        frames: 40,
        gop: 5,
        b_frames: 2,
        ..SMALL
    };
    let streams = [(1280, 720), (1920, 1080)].map(|(w, h)| (w, h, clips::clip(spec(w, h))));
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    let mut pictures = 0;
    for i in 0..8 {
        for (width, height, clip) in &streams {
            let keyframe = &keyframes(clip)[i];
            // If the decoder held the picture back, this call would return an error.
            let frame = decoder.decode(keyframe).unwrap();
            assert_eq!((frame.width, frame.height), (*width, *height));
            assert_eq!(frame.captured_at, keyframe.captured_at);
            pictures += 1;
        }
    }
    assert_eq!(pictures, 16);
    let codec = if h265 { Codec::H265 } else { Codec::H264 };
    assert!(decoder.element(codec).unwrap().starts_with("avdec_h26"));
}

#[test]
fn alternating_h264_streams_decode_without_delay() {
    alternate(false);
}

#[test]
fn alternating_h265_streams_decode_without_delay() {
    alternate(true);
}
