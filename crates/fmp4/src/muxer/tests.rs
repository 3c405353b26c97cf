use gridwatch_bitstream::nal::START_CODE;
use proptest::prelude::*;

use super::*;
use crate::fuzzing;

const H264: &[u8] = include_bytes!("../../../rtsp/fixtures/slices.h264");
const H265: &[u8] = include_bytes!("../../../rtsp/fixtures/cra.h265");
const FRAME: u32 = TIMESCALE / 25;

/// The access units of a stream with delimiters, and whether each is a keyframe.
fn units(codec: Codec, stream: &[u8]) -> Vec<(Vec<u8>, bool)> {
    let mut units: Vec<(Vec<u8>, bool)> = Vec::new();
    for nal in nal::split(stream) {
        let kind = match codec {
            Codec::H264 => nal[0] & 0x1f,
            Codec::H265 => nal[0] >> 1 & 0x3f,
        };
        let (delimiter, random_access) = match codec {
            Codec::H264 => (9, 5..=5),
            Codec::H265 => (35, 16..=23),
        };
        if kind == delimiter {
            units.push(Default::default());
        }
        let unit = units.last_mut().unwrap();
        unit.0.extend([&START_CODE, nal].concat());
        unit.1 |= random_access.contains(&kind);
    }
    units
}

/// Pushes units 40 ms apart.
struct Camera {
    muxer: Muxer,
    timestamp: u32,
    at: Instant,
}

impl Camera {
    fn new(codec: Codec) -> Self {
        Self {
            muxer: Muxer::new(codec, TIMESCALE),
            timestamp: u32::MAX - 5_000,
            at: Instant::now(),
        }
    }

    fn push(&mut self, data: &[u8], is_keyframe: bool) -> Result<Option<Fragment>, MuxError> {
        let unit = Unit {
            data,
            is_keyframe,
            rtp_timestamp: self.timestamp,
            received_at: self.at,
        };
        self.timestamp = self.timestamp.wrapping_add(FRAME);
        self.at += Duration::from_millis(40);
        self.muxer.push(unit)
    }

    fn push_all(&mut self, units: &[(Vec<u8>, bool)]) -> Vec<Fragment> {
        let pushed = units
            .iter()
            .map(|(data, is_keyframe)| self.push(data, *is_keyframe).unwrap());
        pushed.flatten().collect()
    }
}

/// The NAL units of a fragment's sample.
fn nals(fragment: &Fragment) -> Vec<&[u8]> {
    let mut rest = &fragment.bytes[FRAGMENT_HEADER..];
    let mut nals = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (nal, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(nal);
        rest = after;
    }
    nals
}

#[test]
fn each_picture_becomes_a_fragment_without_its_parameter_sets() {
    for (codec, stream, name) in [(Codec::H264, H264, "avc1."), (Codec::H265, H265, "hvc1.1.6.L")] {
        let units = units(codec, stream);
        let mut camera = Camera::new(codec);
        let mut fragments = camera.push_all(&units);
        assert_eq!(fragments.len(), units.len() - 1, "the newest is held");
        fragments.extend(camera.muxer.flush());
        assert!(camera.muxer.flush().is_none());
        let init = &fragments[0].init;
        assert!(init.codec.starts_with(name), "{init:?}");
        for (fragment, (data, is_keyframe)) in fragments.iter().zip(&units) {
            assert!(Arc::ptr_eq(&fragment.init, init), "the parameter sets do not change");
            assert_eq!(fragment.is_keyframe, *is_keyframe);
            assert_eq!(fragment.duration, Duration::from_millis(40));
            let kept = |nal: &&[u8]| matches!(nal_use(codec, nal), Some(NalUse::Slice | NalUse::Sei));
            let expected: Vec<_> = nal::split(data).filter(kept).collect();
            assert_eq!(nals(fragment), expected);
        }
        let shown: Vec<_> = fragments.iter().map(|f| f.shown_at).collect();
        assert!(
            shown.windows(2).all(|w| w[1] - w[0] == Duration::from_millis(40)),
            "{shown:?}"
        );
    }
}

#[test]
fn the_segment_states_a_duration_so_that_chromium_buffers() {
    let units = units(Codec::H264, H264);
    let mut camera = Camera::new(Codec::H264);
    let init = camera.push_all(&units[..2])[0].init.bytes.clone();
    let at = init.windows(4).position(|w| w == b"mehd").unwrap();
    let version_1 = &init[at + 4..at + 8];
    let ticks = u64::from_be_bytes(init[at + 8..at + 16].try_into().unwrap());
    assert_eq!(
        (version_1, ticks / u64::from(TIMESCALE)),
        (&[1, 0, 0, 0][..], 365 * 86_400)
    );
}

#[test]
fn writing_begins_at_a_keyframe_and_again_after_an_interruption() {
    let units = units(Codec::H264, H264);
    let second = units.iter().rposition(|(_, is_keyframe)| *is_keyframe).unwrap();
    let mut camera = Camera::new(Codec::H264);
    assert!(camera.push_all(&units[1..3]).is_empty());
    let first = camera.push_all(&units[..2]);
    assert!(first.len() == 1 && first[0].is_keyframe);
    camera.muxer.interrupt();
    assert!(
        camera.push_all(&units[2..4]).is_empty(),
        "they refer to what is missing"
    );
    let after = camera.push_all(&units[second..second + 1]);
    assert_eq!(
        after[0].duration,
        Duration::from_millis(120),
        "the last one is shown until the keyframe"
    );
    assert!(camera.muxer.flush().unwrap().is_keyframe);
}

#[test]
fn other_parameter_sets_begin_another_initialization_segment() {
    let units = units(Codec::H264, H264);
    // Another PPS id, which no slice uses: pps 1 refers to sps 0.
    let more = [&[0, 0, 0, 1, 0x68, 0b0101_1100][..], &units[0].0].concat();
    let mut camera = Camera::new(Codec::H264);
    assert!(camera.push(&units[0].0, true).unwrap().is_none());
    let first = camera.push(&more, true).unwrap().unwrap();
    let second = camera.push(&more, true).unwrap().unwrap();
    assert!(!Arc::ptr_eq(&first.init, &second.init) && first.init != second.init);
    let third = camera.push(&units[0].0, true).unwrap().unwrap();
    assert!(Arc::ptr_eq(&second.init, &third.init));
    // In a picture that is no keyframe they cannot: it is left out with all that depend on it.
    let delta = [&[0, 0, 0, 1, 0x68, 0b0110_1100][..], &units[1].0].concat();
    assert!(camera.push(&delta, false).unwrap().is_none());
    assert!(camera.push(&units[1].0, false).unwrap().is_none());
    assert!(camera.push(&units[0].0, true).unwrap().is_some());
}

#[test]
fn another_stream_continues_on_the_same_timeline() {
    let mut camera = Camera::new(Codec::H264);
    let h264 = units(Codec::H264, H264);
    camera.push_all(&h264[..3]);
    let last = camera.muxer.flush().unwrap();
    camera.muxer.restart(Codec::H265, TIMESCALE);
    camera.timestamp = 12_345;
    let fragments = camera.push_all(&units(Codec::H265, H265)[..2]);
    assert_eq!(fragments[0].shown_at, last.shown_at + last.duration);
    assert!(fragments[0].init.codec.starts_with("hvc1."));
}

#[test]
fn leading_pictures_of_the_first_keyframe_are_left_out() {
    let units = units(Codec::H265, H265);
    let leading = |data: &[u8]| {
        let mut data = data.to_vec();
        // The delimiter's NAL unit is of 3 bytes: RASL_R instead of what the slice is.
        let slice = nal::split(&data)
            .find(|nal| matches!(nal_use(Codec::H265, nal), Some(NalUse::Slice)))
            .unwrap();
        let at = data.windows(slice.len()).position(|w| w == slice).unwrap();
        data[at] = 9 << 1;
        data
    };
    let rasl = leading(&units[1].0);
    let mut camera = Camera::new(Codec::H265);
    camera.push(&units[0].0, true).unwrap();
    assert!(camera.push(&rasl, false).unwrap().is_none());
    assert!(camera.push(&units[0].0, true).unwrap().is_some());
    assert!(
        camera.push(&rasl, false).unwrap().is_some(),
        "the pictures before the keyframe are there"
    );
}

#[test]
fn what_cannot_be_written_is_an_error_until_the_next_keyframe() {
    let units = units(Codec::H264, H264);
    let keyframe = &units[0].0;
    let slices_only: Vec<u8> = nal::split(keyframe)
        .filter(|nal| nal_use(Codec::H264, nal) == Some(NalUse::Slice))
        .flat_map(|nal| [&START_CODE, nal].concat())
        .collect();
    let mut camera = Camera::new(Codec::H264);
    let mut fails = |data: &[u8], is_keyframe| {
        camera.push(keyframe, true).unwrap();
        let error = camera.push(data, is_keyframe).unwrap_err();
        assert!(camera.push(&units[1].0, false).unwrap().is_none());
        assert!(!error.to_string().is_empty());
        error
    };
    assert_eq!(fails(&slices_only, true), MuxError::NoParameterSets);
    assert_eq!(fails(&[0, 0, 1, 9, 0xf0], false), MuxError::NoSlice);
    assert_eq!(fails(&[], true), MuxError::NoSlice);
    assert_eq!(fails(&vec![1; MAX_UNIT_BYTES + 1], false), MuxError::Oversized);
    let many: Vec<u8> = [0, 0, 1, 0x41].repeat(MAX_NAL_UNITS + 1);
    assert_eq!(fails(&many, false), MuxError::TooManyNalUnits);
    let bad_sps = [
        &[0, 0, 1, 0x67, 100, 0, 30, 0][..],
        &[0, 0, 1, 0x68, 0xff, 0, 0, 1, 0x65, 0xff],
    ]
    .concat();
    assert_eq!(fails(&bad_sps, true), MuxError::UnreadableParameterSets);
    let sets: Vec<u8> = (0..=255).flat_map(|n| [0, 0, 1, 0x68, 0xff, n, 1]).collect();
    assert_eq!(
        fails(&[&sets, &keyframe[..]].concat(), true),
        MuxError::TooManyParameterSets
    );
}

proptest! {
    #[test]
    fn altered_streams_give_boxes_or_errors(
        is_h264 in any::<bool>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        actions in prop::collection::vec((0_u8..16, any::<u8>(), any::<u32>()), 13),
    ) {
        let (codec, stream) = if is_h264 { (Codec::H264, H264) } else { (Codec::H265, H265) };
        let mut input = vec![u8::from(!is_h264)];
        for ((data, is_keyframe), (action, wait, timestamp)) in units(codec, stream).iter().zip(actions) {
            // Rarely restarted or interrupted, often with steps that a camera makes.
            let action = if action < 12 { u8::from(*is_keyframe) } else { action };
            input.extend([action, wait]);
            input.extend(timestamp.to_be_bytes());
            input.extend((data.len() as u16).to_be_bytes());
            input.extend(data);
        }
        for (at, value) in flips {
            let at = at.index(input.len());
            input[at] = value;
        }
        fuzzing::mux(&input);
    }
}
