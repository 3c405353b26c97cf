//! A damaged keyframe is an error and never yields a frame. A complete keyframe always yields a frame, even right after a
//! damaged one.

use crate::support::clips::{self, SMALL, Spec};
use bytes::Bytes;
use gridwatch_base::error::Class;
use gridwatch_camera::{
    Backend, Codec, Keyframe,
    decode::{DecodeError, Decoder},
};
use gridwatch_frame::Frame;

/// Side of the blocks in which pictures are compared.
const BLOCK: usize = 32;
/// Mean difference of the luma of a block from which on a picture looks damaged.
const VISIBLE: u64 = 8;

/// What happens to a keyframe on its way.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// So many bits are flipped.
    Bits(usize),
    /// A twentieth in the middle is lost.
    Gap,
    /// The last tenth is lost.
    Cut,
}

/// Xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

impl Damage {
    fn apply(self, data: &[u8], random: &mut Random) -> Bytes {
        let mut data = data.to_vec();
        let len = data.len();
        match self {
            Self::Bits(count) => {
                for _ in 0..count {
                    data[random.below(len)] ^= 1 << random.below(8);
                }
            }
            Self::Gap => {
                let at = len / 4 + random.below(len / 2);
                data.drain(at..at + len / 20);
            }
            Self::Cut => data.truncate(len - len / 10 + random.below(len / 20)),
        }
        data.into()
    }
}

struct Trial {
    decoder: Decoder,
    codec: Codec,
    random: Random,
    /// Damaged keyframes that were an error.
    found: usize,
    /// … that were not, although they look different.
    missed: usize,
    /// … that look the same.
    harmless: usize,
}

impl Trial {
    fn new(codec: Codec, seed: u64) -> Self {
        Self {
            decoder: Decoder::new("decode0", Backend::Software).unwrap(),
            codec,
            random: Random(seed),
            found: 0,
            missed: 0,
            harmless: 0,
        }
    }

    fn decode(&mut self, data: Bytes) -> Result<Frame, DecodeError> {
        self.decoder.decode(&Keyframe {
            camera: "cam".into(),
            seq: 1,
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            codec: self.codec,
            data,
        })
    }

    /// Damages a complete keyframe `times` times.
    fn run(&mut self, intact: &Bytes, damage: Damage, times: usize) {
        let expected = self.decode(intact.clone()).expect("a complete keyframe decodes");
        for _ in 0..times {
            let damaged = damage.apply(intact, &mut self.random);
            match self.decode(damaged) {
                Ok(frame) if differ(&expected, &frame) => self.missed += 1,
                Ok(_) => self.harmless += 1,
                Err(e @ (DecodeError::Damaged { .. } | DecodeError::Unsupported { .. })) => {
                    assert_eq!(e.class(), Class::Data);
                    self.found += 1;
                }
                Err(other) => panic!("{other}"),
            }
        }
        self.decode(intact.clone())
            .expect("a complete keyframe decodes after a damaged one");
    }
}

/// Whether the pictures look different.
fn differ(a: &Frame, b: &Frame) -> bool {
    let (width, height) = (a.width as usize, a.height as usize);
    if (a.width, a.height) != (b.width, b.height) {
        return true;
    }
    let luma = |frame: &Frame, x: usize, y: usize| {
        let plane = &frame.planes[0];
        i64::from(frame.data[plane.offset + y * plane.stride + x])
    };
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            let (right, bottom) = ((left + BLOCK).min(width), (top + BLOCK).min(height));
            let mut sum = 0;
            for y in top..bottom {
                for x in left..right {
                    sum += luma(a, x, y).abs_diff(luma(b, x, y));
                }
            }
            if sum > VISIBLE * ((right - left) * (bottom - top)) as u64 {
                return true;
            }
        }
    }
    false
}

#[test]
fn measure() {
    for h265 in [false, true] {
        for more in if h265 {
            ["wpp=0", "wpp=1", "wpp=1:slices=4", "wpp=0:sao=1"]
        } else {
            ["cabac=1", "cabac=1:slices=4", "cabac=1:8x8dct=1", "cabac=0"]
        } {
            let clip = clips::clip(Spec {
                h265,
                width: 640,
                height: 360,
                frames: 40,
                gop: 4,
                more,
                ..SMALL
            });
            for damage in [Damage::Bits(1), Damage::Bits(8)] {
                let mut trial = Trial::new(if h265 { Codec::H265 } else { Codec::H264 }, 7);
                for unit in clip.units().iter().filter(|u| u.keyframe) {
                    trial.run(&unit.data, damage, 20);
                }
                println!(
                    "h265 {h265} {more} {damage:?}: found {} missed {} harmless {}",
                    trial.found, trial.missed, trial.harmless
                );
            }
        }
    }
}
