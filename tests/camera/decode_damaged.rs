//! A damaged keyframe is an error and never yields a frame. A complete keyframe always yields a frame, even right after a
//! damaged one.

use crate::support::clips::{self, SMALL, Spec};
use bytes::Bytes;
use gridwatch_base::error::Class;
use gridwatch_camera::{
    Backend, Codec, Keyframe,
    decode::{DecodeError, Decoder},
};

struct Counts {
    keyframes: usize,
    cut_found: usize,
    zeroed_found: usize,
}

fn decode_damaged(h265: bool, more: &'static str) -> Counts {
    let clip = clips::clip(Spec {
        h265,
        width: 1280,
        height: 720,
        frames: 48,
        gop: 4,
        more,
        ..SMALL
    });
    let mut decoder = Decoder::new("decode0", Backend::Software).unwrap();
    let mut decode = |data: Bytes| {
        decoder.decode(&Keyframe {
            camera: "cam".into(),
            seq: 1,
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            codec: if h265 { Codec::H265 } else { Codec::H264 },
            data,
        })
    };
    let found = |result: Result<_, DecodeError>| match result {
        Ok(_) => 0,
        Err(e @ DecodeError::Damaged { .. }) => {
            assert_eq!(e.class(), Class::Data);
            1
        }
        Err(other) => panic!("{other}"),
    };
    let mut counts = Counts {
        keyframes: 0,
        cut_found: 0,
        zeroed_found: 0,
    };
    for unit in clip.units().iter().filter(|u| u.keyframe) {
        let (data, half) = (&unit.data, unit.data.len() / 2);
        counts.keyframes += 1;
        decode(data.clone()).expect("a complete keyframe decodes");
        counts.cut_found += found(decode(data.slice(..half)));
        decode(data.clone()).expect("a complete keyframe decodes after a truncated one");
        let mut zeroed = data.to_vec();
        zeroed[half..].fill(0);
        counts.zeroed_found += found(decode(zeroed.into()));
    }
    // No video at all.
    for noise in [&b""[..], b"\0\0\0\x01", b"no start code", &[0x5a; 5000]] {
        assert_eq!(found(decode(Bytes::copy_from_slice(noise))), 1);
    }
    decode(clip.units()[0].data.clone()).expect("a complete keyframe decodes after noise");
    counts
}

#[test]
fn damaged_h264_keyframes_are_errors() {
    let c = decode_damaged(false, "");
    assert_eq!((c.cut_found, c.zeroed_found), (c.keyframes, c.keyframes));
}

#[test]
fn damaged_h265_keyframes_are_errors() {
    // One substream, as cameras encode. About one truncation in 25 happens to decode an end-of-slice flag and is missed.
    let c = decode_damaged(true, "wpp=0");
    assert_eq!(c.zeroed_found, c.keyframes);
    assert!(c.cut_found * 4 >= c.keyframes * 3, "{} of {}", c.cut_found, c.keyframes);
}
