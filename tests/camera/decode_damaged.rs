//! A damaged keyframe is an error and never yields a frame. A complete keyframe always yields a frame, even right after a
//! damaged one.

use crate::support::clips::{self, SMALL, Spec};
use bytes::Bytes;
use gridwatch_base::error::Class;
use gridwatch_bitstream::nal;
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
    /// A bit of the parameter sets or of the first slice's header is flipped.
    Header,
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
            Self::Header => {
                let is_slice = |nal: &[u8]| matches!(nal[0], 0x65 | 0x26 | 0x28 | 0x2a);
                let first = nal::starts(&data).find(|nal| is_slice(nal));
                let end = len - first.map_or(0, |nal| nal.len().saturating_sub(6));
                data[random.below(end)] ^= 1 << random.below(8);
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

/// Encodings that differ in how slices are coded.
const H264: [&str; 4] = ["cabac=1", "cabac=1:8x8dct=1:slices=4", "cabac=1:qp=12", "cabac=0"];
const H265: [&str; 6] = [
    "wpp=0",
    "wpp=1:slices=3",
    "wpp=0:ctu=16:tskip=1:tu-intra-depth=3",
    "wpp=0:ctu=32:sao=0:signhide=0:qp=14",
    "wpp=1:cu-lossless=1:aq-mode=3",
    "wpp=0:lossless=1",
];

fn damaged_keyframes_are_found(h265: bool, encodings: &[&'static str]) {
    for damage in [Damage::Bits(1), Damage::Bits(8), Damage::Gap, Damage::Cut] {
        let (mut found, mut missed, mut harmless) = (0, 0, 0);
        for (seed, more) in encodings.iter().enumerate() {
            let clip = clips::clip(Spec {
                h265,
                frames: 5,
                gop: 1,
                more,
                ..SMALL
            });
            let mut trial = Trial::new(clip.codec(), 0x9e37_79b9 + seed as u64);
            for unit in clip.units() {
                trial.run(&unit.data, damage, 8);
            }
            found += trial.found;
            missed += trial.missed;
            harmless += trial.harmless;
        }
        println!("{damage:?}: {found} found, {missed} missed, {harmless} harmless");
        assert!(
            missed * 45 <= found + missed,
            "{damage:?}: {missed} missed, {found} found"
        );
        assert!(harmless * 3 <= found, "{damage:?}: {harmless} harmless, {found} found");
    }
}

#[test]
fn damaged_h264_keyframes_are_errors() {
    damaged_keyframes_are_found(false, &H264);
}

#[test]
fn damaged_h265_keyframes_are_errors() {
    damaged_keyframes_are_found(true, &H265);
}

#[test]
fn what_is_no_video_is_an_error() {
    for codec in [Codec::H264, Codec::H265] {
        let clip = clips::clip(Spec {
            h265: codec == Codec::H265,
            ..SMALL
        });
        let intact = &clip.units()[0].data;
        let mut trial = Trial::new(codec, 1);
        let mut zeroed = intact.to_vec();
        zeroed[intact.len() / 2..].fill(0);
        for noise in [&b""[..], b"\0\0\0\x01", b"no start code", &[0x5a; 5000], &zeroed] {
            let result = trial.decode(Bytes::copy_from_slice(noise));
            assert!(matches!(result, Err(DecodeError::Damaged { .. })), "{result:?}");
        }
        trial
            .decode(intact.clone())
            .expect("a complete keyframe decodes after noise");
    }
}

/// Measures for docs/cameras.md, with the clips whose files `GRIDWATCH_TRIAL_CLIPS` names, separated by colons. What ffmpeg makes of a damaged
/// keyframe tells whether the damage is visible.
#[test]
#[ignore = "takes minutes; run by hand"]
fn measure_clips() {
    let files = std::env::var("GRIDWATCH_TRIAL_CLIPS").expect("GRIDWATCH_TRIAL_CLIPS");
    for file in files.split(':') {
        let clip = gridwatch_farm::clip(file).unwrap();
        let keyframes: Vec<_> = clip.units().iter().filter(|u| u.keyframe).map(|u| &u.data).collect();
        for damage in [Damage::Bits(1), Damage::Bits(8), Damage::Header] {
            let mut trial = Trial::new(clip.codec(), 99);
            let mut refused = 0;
            let (mut visible, mut missed, mut tried) = (0, 0, 0);
            for intact in &keyframes {
                refused += usize::from(trial.decode((*intact).clone()).is_err());
                let expected = decode_with_ffmpeg(clip.codec(), intact);
                for _ in 0..(50 / keyframes.len()).max(1) {
                    let damaged = damage.apply(intact, &mut trial.random);
                    tried += 1;
                    let shown = decode_with_ffmpeg(clip.codec(), &damaged);
                    if shown.is_empty() || !planes_differ(&expected, &shown, clip_width(&mut trial, intact)) {
                        continue;
                    }
                    visible += 1;
                    missed += usize::from(trial.decode(damaged).is_ok());
                }
            }
            println!(
                "{file} {damage:?}: {missed} of {visible} visibly damaged missed ({tried} tried); {refused} of {} intact refused",
                keyframes.len()
            );
        }
    }
}

fn clip_width(trial: &mut Trial, intact: &Bytes) -> usize {
    trial.decode(intact.clone()).unwrap().width as usize
}

/// The luma of the picture; empty if there is none.
fn decode_with_ffmpeg(codec: Codec, data: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keyframe");
    std::fs::write(&file, data).unwrap();
    let format = if codec == Codec::H265 { "hevc" } else { "h264" };
    let out = std::process::Command::new("ffmpeg")
        .args(["-v", "quiet", "-threads", "1", "-f", format, "-i"])
        .arg(file)
        .args(["-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo", "-"])
        .output();
    out.unwrap().stdout
}

fn planes_differ(a: &[u8], b: &[u8], width: usize) -> bool {
    let frame = |luma: &[u8]| Frame {
        width: width as u32,
        height: (luma.len() / width) as u32,
        layout: gridwatch_frame::Layout::Nv12,
        matrix: gridwatch_frame::Matrix::Bt601,
        full_range: true,
        planes: [gridwatch_frame::Plane {
            offset: 0,
            stride: width,
        }; 3],
        data: Bytes::copy_from_slice(luma),
        captured_at: jiff::Timestamp::UNIX_EPOCH,
    };
    differ(&frame(a), &frame(b))
}
