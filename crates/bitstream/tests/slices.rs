//! Keyframes of x264 and x265 with many settings (`corpus/`), intact and damaged.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use gridwatch_bitstream::{Codec, Damage, Finding, SliceCheck, SliceFault, fuzzing, nal};
use proptest::prelude::*;

struct File {
    name: String,
    codec: Codec,
    data: Vec<u8>,
}

fn corpus() -> Vec<File> {
    let mut files = Vec::new();
    for (folder, codec) in [("h264_keyframe", Codec::H264), ("h265_keyframe", Codec::H265)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            files.push(File {
                name: path.display().to_string(),
                codec,
                data: fs::read(path).unwrap(),
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(files.len() >= 16);
    files
}

fn file(name: &str) -> File {
    let mut files = corpus().into_iter();
    files.find(|file| file.name.ends_with(name)).unwrap()
}

fn check(codec: Codec, data: &[u8]) -> Finding {
    SliceCheck::default().check(codec, data)
}

#[test]
fn keyframes_of_every_setting_are_intact() {
    let mut check = SliceCheck::default();
    for file in corpus() {
        assert_eq!(check.check(file.codec, &file.data), Finding::Intact, "{}", file.name);
        let padded = [&file.data[..], &[0; 5]].concat();
        assert_eq!(
            check.check(file.codec, &padded),
            Finding::Intact,
            "{} with zeros",
            file.name
        );
    }
}

#[test]
fn a_keyframe_that_is_cut_off_is_damaged_wherever_it_is_cut() {
    for file in corpus() {
        for len in 0..file.data.len() {
            let finding = check(file.codec, &file.data[..len]);
            assert!(
                matches!(finding, Finding::Damaged(_)),
                "{} cut to {len} of {} bytes: {finding:?}",
                file.name,
                file.data.len()
            );
        }
    }
}

/// What a flipped bit changes without taking the arithmetic decoder out of step cannot be seen: signs and suffixes of coefficients while the
/// range is a power of two, and fields of parameter sets and headers that do not concern the slice data.
#[test]
fn hardly_any_flipped_bit_goes_unnoticed() {
    // Samples of PCM and signs can be anything.
    for file in corpus().into_iter().filter(|file| !file.name.contains("pcm")) {
        // Flips in variable-length codes often leave the others in place.
        let is_cavlc = file.name.contains("cavlc");
        let slices = nal::split(&file.data).filter(|nal| match file.codec {
            Codec::H264 => matches!(nal[0] & 0x1f, 1 | 5),
            Codec::H265 => nal[0] >> 1 < 32,
        });
        let (mut flipped, mut missed) = (0, 0);
        for slice in slices {
            let start = slice.as_ptr() as usize - file.data.as_ptr() as usize;
            for bit in (start * 8..(start + slice.len()) * 8).step_by(13) {
                let mut data = file.data.clone();
                data[bit / 8] ^= 1 << (bit % 8);
                flipped += 1;
                missed += usize::from(check(file.codec, &data) == Finding::Intact);
            }
        }
        let allowed = if is_cavlc { flipped * 2 / 3 } else { flipped / 16 };
        assert!(missed <= allowed, "{}: {missed} of {flipped} missed", file.name);
    }
}

#[test]
fn faults_are_named() {
    let slices = file("wavefronts-slices");
    let units: Vec<&[u8]> = nal::split(&slices.data).collect();
    let joined = |parts: &[&[u8]]| {
        let units: Vec<u8> = parts.iter().flat_map(|nal| [&nal::START_CODE, *nal].concat()).collect();
        check(Codec::H265, &units)
    };
    let [vps, sps, pps, first, second, third] = units[..] else {
        panic!("{} NAL units", units.len());
    };
    assert_eq!(joined(&[vps, sps, pps, first, second, third]), Finding::Intact);
    let missing = |number, missing| {
        let fault = SliceFault::EndsEarly { missing };
        Finding::Damaged(Damage::Slice { number, fault })
    };
    assert_eq!(joined(&[vps, sps, pps, first, third]), missing(1, 12));
    assert_eq!(joined(&[vps, sps, pps, first, second]), missing(2, 12));
    let text = Damage::Slice {
        number: 2,
        fault: SliceFault::EndsEarly { missing: 14 },
    };
    assert_eq!(text.to_string(), "slice 2 ends 14 blocks early");
    assert_eq!(
        joined(&[vps, sps, pps, second, third]),
        Finding::Damaged(Damage::NoFirstSlice)
    );
    assert_eq!(joined(&[vps, sps, pps]), Finding::Damaged(Damage::NoSlices));
    let finding = joined(&[vps, sps, first, second, third]);
    assert_eq!(finding, Finding::Damaged(Damage::NoParameterSet("picture")));
    let repeated = joined(&[vps, sps, pps, first, second, second]);
    let fault = SliceFault::Repeats;
    assert_eq!(repeated, Finding::Damaged(Damage::Slice { number: 3, fault }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn altered_keyframes_do_not_panic(
        which in any::<prop::sample::Index>(),
        alterations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let files = corpus();
        let file = which.get(&files);
        let mut data = file.data.clone();
        for (at, byte, kind) in alterations {
            let at = at.index(data.len().max(1));
            match kind {
                0 if at < data.len() => data[at] ^= byte,
                1 => data.insert(at, byte),
                2 if at < data.len() => drop(data.remove(at)),
                _ => drop(data.drain(at..data.len().min(at + usize::from(byte)))),
            }
        }
        fuzzing::keyframe(file.codec, &data);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(data in prop::collection::vec(any::<u8>(), 0..200), is_h265: bool) {
        let codec = if is_h265 { Codec::H265 } else { Codec::H264 };
        fuzzing::keyframe(codec, &data);
        // As a slice of a picture whose parameter sets are intact.
        let file = file(if is_h265 { "h265_keyframe/plain" } else { "h264_keyframe/cabac" });
        let sets = nal::split(&file.data).take(3).flat_map(|nal| [&nal::START_CODE, nal].concat());
        let header: &[u8] = if is_h265 { &[0, 0, 1, 40, 1] } else { &[0, 0, 1, 0x65] };
        let altered: Vec<u8> = sets.chain(header.iter().copied()).chain(data).collect();
        fuzzing::keyframe(codec, &altered);
    }
}
