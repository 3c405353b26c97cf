//! Parameter sets of real encoders (x264 and x265 through FFmpeg, with its reading of them), and of what encoders do
//! not make.

use super::*;
use gridwatch_bitstream::nal;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// Profile, chroma format, bit depths of luma and chroma, width, height.
type Read = (u8, u8, u8, u8, u32, u32);

fn read(codec: VideoCodec, hex: &str) -> Option<Read> {
    let v = parse_sps(codec, &bytes(hex))?.video;
    assert_eq!(v.codec, codec);
    Some((
        v.profile_idc,
        v.chroma_format_idc,
        v.bit_depth_luma,
        v.bit_depth_chroma,
        v.width,
        v.height,
    ))
}

/// In band of the trials' camera; one that the parser of another library refuses; then by format.
const H264: &[(&str, &str, Read)] = &[
    (
        "base",
        "67640016acb405017fcb3501010140000003004000000503c58ba8",
        (100, 1, 8, 8, 640, 360),
    ),
    (
        "odd",
        "67640016acb405017fcb08000003000800000300a46d04423c",
        (100, 1, 8, 8, 640, 360),
    ),
    (
        "baseline",
        "6742c00ad902c4ec0440000003004000000503c48992",
        (66, 1, 8, 8, 176, 144),
    ),
    (
        "cropped",
        "6764000cacd941419ea23011000003000100000300140f142996",
        (100, 1, 8, 8, 318, 178),
    ),
    (
        "1080p",
        "6742c028da01e0089f97011000000300100000030140f1832a",
        (66, 1, 8, 8, 1920, 1080),
    ),
    (
        "1080i",
        "67640028acd94078044fde022000000300200000030283e2c5b2c0",
        (100, 1, 8, 8, 1920, 1080),
    ),
    (
        "scaling lists",
        "6764000cacd941419f9f011000000300100000030140f1429960",
        (100, 1, 8, 8, 320, 180),
    ),
    (
        "10 bits",
        "676e000ca6cd941419f9f011000003000100000300140f142996",
        (110, 1, 10, 10, 320, 180),
    ),
    (
        "4:2:2",
        "677a000cbcd941419ea3f011000003000100000300140f142996",
        (122, 2, 8, 8, 318, 178),
    ),
    (
        "4:2:2, 10 bits",
        "677a000cb6cd941419f8dc0440000003004000000503c50a6580",
        (122, 2, 10, 10, 320, 180),
    ),
    (
        "4:4:4",
        "67f4000b919b28282fcbe022000003000200000300281e28532c",
        (244, 3, 8, 8, 316, 176),
    ),
    (
        "grey",
        "6764000cf36505067e37016c80000003008000000a078a14cb",
        (100, 0, 8, 8, 320, 180),
    ),
    (
        "grey, 10 bits",
        "676e000cdb36505067e37016c8000003000800000300a078a14cb0",
        (110, 0, 10, 10, 320, 180),
    ),
];

const H265: &[(&str, &str, Read)] = &[
    (
        "base",
        "42010101600000030090000003000003003fa005020171f2e5ba4a4c2e6a020203c20000030002000003001410",
        (1, 1, 8, 8, 640, 360),
    ),
    (
        "cropped",
        "42010101600000030090000003000003003ca00a080b9d4996566924caf0168080000003008000000504",
        (1, 1, 8, 8, 318, 178),
    ),
    (
        "1080p",
        "420101016000000300900000030000030078a003c0801107cb965654a4c2f0168080000003008000000504",
        (1, 1, 8, 8, 1920, 1080),
    ),
    (
        "temporal layers",
        "42010101600000030090000003000003003ca00a080b9f796566924caf0168080000030008000003005040",
        (1, 1, 8, 8, 320, 180),
    ),
    (
        "10 bits",
        "42010102200000030090000003000003003ca00a080b9f6d96566924caf0168080000003008000000504",
        (2, 1, 10, 10, 320, 180),
    ),
    (
        "12 bits",
        "420101040800000300998800000300003ca00a080b9f65296566924caf0168080000030008000003005040",
        (4, 1, 12, 12, 320, 180),
    ),
    (
        "4:2:2",
        "4201010408000003009d0800000300003cb00a080b9d4f96566924caf0168080000003008000000504",
        (4, 2, 8, 8, 318, 178),
    ),
    (
        "4:2:2, 10 bits",
        "4201010408000003009d0800000300003cb00a080b9d4ed96566924caf0168080000030008000003005040",
        (4, 2, 10, 10, 318, 178),
    ),
    (
        "4:4:4",
        "4201010408000003009e0800000300003c900141016397cb2b349265780b404000000300400000030282",
        (4, 3, 8, 8, 316, 176),
    ),
    (
        "grey",
        "4201010408000003009fc800000300003cc028202e7cb96566924caf016c080000030008000003005040",
        (4, 0, 8, 8, 320, 180),
    ),
    (
        "grey, 10 bits",
        "4201010408000003009dc800000300003cc028202e7cad96566924caf016c080000003008000000504",
        (4, 0, 10, 10, 320, 180),
    ),
];

#[test]
fn sps_of_real_encoders_are_read() {
    for (codec, all) in [(VideoCodec::H264, H264), (VideoCodec::H265, H265)] {
        for (name, hex, expected) in all {
            assert_eq!(read(codec, hex), Some(*expected), "{codec:?} {name}");
        }
    }
}

#[test]
fn interlaced_streams_are_told_apart() {
    let frames_only = |hex| parse_sps(VideoCodec::H264, &bytes(hex)).unwrap().frames_only;
    assert!(!frames_only("67640028acd94078044fde022000000300200000030283e2c5b2c0"));
    assert!(frames_only("6742c028da01e0089f97011000000300100000030140f1832a"));
}

#[test]
fn an_sps_that_cannot_be_read_is_kept() {
    let whole = bytes(H264[0].1);
    for len in 0..10 {
        assert_eq!(parse_sps(VideoCodec::H264, &whole[..len]), None);
    }
    let mut sets = ParameterSets::new(VideoCodec::H264);
    assert_eq!(
        sets.insert(SetType::Sequence, &whole[..6]),
        SetOutcome::Stored,
        "the decoder may know better"
    );
    assert_eq!(sets.parameters(), None);
}

fn written(sets: &ParameterSets) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    sets.write(&mut out);
    assert_eq!(out.len(), sets.written_len());
    nal::split(&out).map(<[u8]>::to_vec).collect()
}

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x0a, 0xd9, 0x02, 0xc4, 0xec, 0x04, 0x40];
/// PPS 0 and 1 of SPS 0, and another PPS 1.
const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];
const PPS_1: &[u8] = &[0x68, 0x5b, 0x83, 0xcb, 0x20];
const PPS_1B: &[u8] = &[0x68, 0x5b, 0x83, 0xcb, 0x21];

#[test]
fn sets_of_every_id_are_kept_and_replaced_by_those_of_the_same_id() {
    let mut sets = ParameterSets::new(VideoCodec::H264);
    assert_eq!(sets.insert(SetType::Picture, PPS_1), SetOutcome::Stored);
    assert_eq!(sets.insert(SetType::Picture, PPS), SetOutcome::Stored);
    assert_eq!(sets.insert(SetType::Sequence, SPS), SetOutcome::Stored);
    assert_eq!(
        sets.insert(SetType::Picture, &[PPS, &[0, 0]].concat()),
        SetOutcome::Known,
        "zeros after it"
    );
    assert_eq!(written(&sets), [SPS, PPS_1, PPS]);
    assert_eq!(sets.insert(SetType::Picture, PPS_1B), SetOutcome::Stored);
    assert_eq!(written(&sets), [SPS, PPS_1B, PPS]);
    assert_eq!(sets.insert(SetType::Picture, &[0x68]), SetOutcome::Refused);
    assert_eq!(sets.insert(SetType::Sequence, &[0x67, 1, 2]), SetOutcome::Refused);
    assert_eq!(
        sets.insert(SetType::Picture, &[&[0x68], &[0xcb; MAX_SET_BYTES][..]].concat()),
        SetOutcome::Refused
    );
}

#[test]
fn the_parameters_are_those_of_the_sps_in_use() {
    let mut sets = ParameterSets::new(VideoCodec::H264);
    sets.insert(SetType::Sequence, &bytes(H264[0].1));
    // The same with id 1: 0b010 in place of 0b1.
    sets.insert(
        SetType::Sequence,
        &[
            0x67,
            0x42,
            0xc0,
            0x0a,
            0b0101_0110,
            0b0100_0000,
            0b1011_0001,
            0b0011_1011,
            0x01,
            0x10,
        ],
    );
    sets.insert(SetType::Picture, PPS);
    let width = |sets: &ParameterSets| sets.parameters().map(|p| p.video.width);
    assert_eq!(width(&sets), Some(176), "the newest id");
    sets.activate(Some(0));
    assert_eq!(width(&sets), Some(640));
}

#[test]
fn the_number_and_size_of_sets_are_bounded() {
    let mut sets = ParameterSets::new(VideoCodec::H264);
    for id in 0..256_u32 {
        // ue(v) of 8 or 9 bits and more, after a prefix of zeros.
        let code = u64::from(id + 1);
        let len = 63 - code.leading_zeros();
        let bits = code << (63 - 2 * len) | 1 << (62 - 2 * len);
        sets.insert(
            SetType::Picture,
            &[&[0x68], &bits.to_be_bytes()[..], &[0x55; 100]].concat(),
        );
    }
    assert_eq!(sets.sets[SetType::Picture as usize].len(), MAX_SETS);
    assert!(
        sets.sets[SetType::Picture as usize].iter().any(|s| s.id == 255),
        "the newest"
    );
    for _ in 0..3 {
        sets.insert(SetType::Sequence, &[SPS, &vec![0x55; MAX_SET_BYTES / 2]].concat());
        sets.insert(
            SetType::Sequence,
            &[&[0x67, 0x42, 0, 0x0a, 0x55][..], &vec![0x55; MAX_SET_BYTES * 3 / 4]].concat(),
        );
    }
    assert_eq!(sets.sets[SetType::Sequence as usize].len(), 1);
}

fn from_sdp(codec: VideoCodec, fmtp: &str) -> Vec<Vec<u8>> {
    let mut sets = ParameterSets::new(codec);
    from_fmtp(&mut sets, fmtp);
    written(&sets)
}

#[test]
fn sets_of_sdp_are_read_however_odd_their_base64() {
    let both = [SPS.to_vec(), PPS.to_vec()];
    for fmtp in [
        "packetization-mode=1;sprop-parameter-sets=Z0LACtkCxOwEQA==,aMuDyyA=;profile-level-id=42c00a",
        "96 SPROP-Parameter-Sets = Z0LACtkCxOwEQA,aMuDyyA",
        "sprop-parameter-sets=\"Z0LACtkCxOwEQA==, aMuDyyA=,,\"",
        "sprop-parameter-sets=,aMuDyyA=,Z0LA CtkCxOwE QA==,*,x",
        "sprop-parameter-sets=AAAAAWdCwArZAsTsBEAAAAABaMuDyyA=",
        "sprop-parameter-sets=AAABZ0LACtkCxOwEQA==,AAABaMuDyyA=====",
    ] {
        assert_eq!(from_sdp(VideoCodec::H264, fmtp), both, "{fmtp}");
    }
    assert!(from_sdp(VideoCodec::H264, "sprop-parameter-sets").is_empty());
}

#[test]
fn sets_of_h265_are_told_by_their_header_not_by_their_name() {
    let (vps, pps) = ("40010c01ffff01600000030090000003000003003fba0240", "4401c073c189");
    let fmtp = "sprop-sps=QAEMAf//AWAAAAMAkAAAAwAAAwA/ugJA;sprop-vps=RAHAc8GJ; sprop-pps=";
    assert_eq!(from_sdp(VideoCodec::H265, fmtp), [bytes(vps), bytes(pps)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(nal in prop::collection::vec(any::<u8>(), 0..80), is_h265: bool) {
        let codec = if is_h265 { VideoCodec::H265 } else { VideoCodec::H264 };
        if let Some(p) = parse_sps(codec, &nal) {
            prop_assert!(p.video.width > 0 && p.video.width <= 65_536);
            prop_assert!(p.video.height > 0 && p.video.height <= 131_072);
            prop_assert!(p.video.chroma_format_idc <= 3 && p.video.bit_depth_luma <= 16);
        }
        let mut sets = ParameterSets::new(codec);
        for kind in [SetType::Video, SetType::Sequence, SetType::Picture] {
            sets.insert(kind, &nal);
        }
    }

    #[test]
    fn flipped_bits_do_not_panic(which in 0..24_usize, bit in 0..400_usize) {
        let all = || H264.iter().map(|s| (VideoCodec::H264, s.1)).chain(H265.iter().map(|s| (VideoCodec::H265, s.1)));
        let (codec, hex) = all().nth(which % all().count()).unwrap();
        let mut sps = bytes(hex);
        let at = bit / 8 % sps.len();
        sps[at] ^= 1 << (bit % 8);
        parse_sps(codec, &sps);
    }

    #[test]
    fn arbitrary_format_parameters_do_not_panic(
        fmtp in "(sprop-(parameter-sets|sps|vps|pps) ?=[A-Za-z0-9+/=, -]{0,40};?){0,4}",
    ) {
        for codec in [VideoCodec::H264, VideoCodec::H265] {
            from_sdp(codec, &fmtp);
        }
    }
}
