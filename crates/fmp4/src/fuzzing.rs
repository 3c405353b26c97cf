//! The entry point for fuzzing: arbitrary access units must neither panic nor give segments that contradict themselves. Not part of the
//! crate's interface.

use std::time::{Duration, Instant};

use gridwatch_bitstream::Codec;

use crate::{Fragment, Muxer, Unit};

/// The first byte is the codec. Then each access unit follows a head of 8 bytes: what happens (bits: 0 keyframe, 1 interruption before it,
/// 2 restart before it, 3 flush after it), milliseconds since the one before, RTP timestamp (4), length (2).
pub fn mux(data: &[u8]) {
    let [codec, units @ ..] = data else { return };
    let mut rest = units;
    let codec = if *codec % 2 == 0 { Codec::H264 } else { Codec::H265 };
    let mut muxer = Muxer::new(codec, 90_000);
    let mut at = Instant::now();
    let mut check = FragmentCheck::default();
    while let [action, wait, t0, t1, t2, t3, l0, l1, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let (data, after) = after.split_at(after.len().min(length));
        rest = after;
        at += Duration::from_millis(u64::from(*wait));
        if action & 2 != 0 {
            muxer.interrupt();
        }
        if action & 4 != 0 {
            muxer.restart(codec, u32::from(*wait));
        }
        let unit = Unit {
            data,
            is_keyframe: action & 1 != 0,
            rtp_timestamp: u32::from_be_bytes([*t0, *t1, *t2, *t3]),
            received_at: at,
        };
        if let Ok(Some(fragment)) = muxer.push(unit) {
            check.fragment(&fragment);
        }
        if action & 8 != 0
            && let Some(fragment) = muxer.flush()
        {
            check.fragment(&fragment);
        }
    }
    if let Some(fragment) = muxer.flush() {
        check.fragment(&fragment);
    }
}

#[derive(Default)]
struct FragmentCheck {
    decode_time: u64,
}

impl FragmentCheck {
    fn fragment(&mut self, fragment: &Fragment) {
        expect_boxes(&fragment.init.bytes, &[*b"ftyp", *b"moov"]);
        expect_boxes(&fragment.bytes, &[*b"moof", *b"mdat"]);
        assert!(!fragment.init.codec.is_empty() && fragment.init.width > 0 && fragment.init.height > 0);
        // `moof` 8, `mfhd` 16, `traf` 8, `tfhd` 16, head of `tfdt` 12.
        let decode_time = fragment.bytes.get(60..68).and_then(|bytes| bytes.try_into().ok());
        let decode_time = decode_time.map_or(0, u64::from_be_bytes);
        assert!(decode_time > self.decode_time, "decoding times grow");
        self.decode_time = decode_time;
        assert!(!fragment.duration.is_zero());
    }
}

/// The bytes are boxes of these types, one after the other.
fn expect_boxes(mut bytes: &[u8], kinds: &[[u8; 4]]) {
    for kind in kinds {
        let Some((&[s0, s1, s2, s3, k0, k1, k2, k3], _)) = bytes.split_first_chunk::<8>() else {
            panic!("no header of a box");
        };
        assert_eq!([k0, k1, k2, k3], *kind);
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        assert!((8..=bytes.len()).contains(&size), "a box beyond its end");
        bytes = &bytes[size..];
    }
    assert!(bytes.is_empty(), "bytes after the last box");
}
