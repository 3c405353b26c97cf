//! JPEG pictures cut into packets as RFC 2435 says come out with the same pixels.

use super::*;
use crate::video::{PacketOrder, VideoFormat, VideoOutput, VideoReceiver};
use proptest::prelude::*;

/// A JPEG, and what RFC 2435 sends of it.
struct Source {
    kind: u8,
    width: u16,
    height: u16,
    tables: Vec<u8>,
    restart_interval: Option<u16>,
    scan: Vec<u8>,
}

fn parse(jpeg: &[u8]) -> Source {
    let mut source = Source {
        kind: 0,
        width: 0,
        height: 0,
        tables: Vec::new(),
        restart_interval: None,
        scan: Vec::new(),
    };
    let mut at = 2;
    loop {
        let len = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        let body = &jpeg[at + 4..at + 2 + len];
        match jpeg[at + 1] {
            0xdb => body
                .chunks(65)
                .for_each(|table| source.tables.extend_from_slice(&table[1..])),
            0xdd => source.restart_interval = Some(u16::from_be_bytes([body[0], body[1]])),
            0xc0 => {
                source.height = u16::from_be_bytes([body[1], body[2]]);
                source.width = u16::from_be_bytes([body[3], body[4]]);
                source.kind = u8::from(body[7] == 0x22);
            }
            0xda => {
                source.scan = jpeg[at + 2 + len..].strip_suffix(&END_OF_IMAGE).unwrap().to_vec();
                return source;
            }
            _ => {}
        }
        at += 2 + len;
    }
}

/// The quantisation tables in the packets: `None` leaves them out, for a Q below 128.
fn payloads(source: &Source, q: u8, tables: Option<&[u8]>, mtu: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (i, data) in source.scan.chunks(mtu).enumerate() {
        let offset = ((i * mtu) as u32).to_be_bytes();
        let kind = source.kind + if source.restart_interval.is_some() { 64 } else { 0 };
        let mut payload = vec![0, offset[1], offset[2], offset[3], kind, q];
        // Larger pictures have 0.
        payload.extend([source.width, source.height].map(|pixels| u8::try_from(pixels / 8).unwrap_or(0)));
        if let Some(interval) = source.restart_interval {
            payload.extend_from_slice(&interval.to_be_bytes());
            payload.extend_from_slice(&[0xff, 0xff]);
        }
        if let (0, Some(tables)) = (i, tables) {
            payload.extend_from_slice(&[0, 0, (tables.len() >> 8) as u8, tables.len() as u8]);
            payload.extend_from_slice(tables);
        }
        payload.extend_from_slice(data);
        out.push(payload);
    }
    out
}

struct Camera {
    receiver: VideoReceiver,
    now: Instant,
    sequence: u16,
    timestamp: u32,
}

impl Camera {
    fn new(fmtp: &str) -> Self {
        let format = VideoFormat {
            codec: VideoCodec::Jpeg,
            payload_type: 26,
            clock_rate: 90_000,
            fmtp: fmtp.to_owned(),
        };
        let now = Instant::now();
        Self {
            receiver: VideoReceiver::new(format, PacketOrder::Ordered, now),
            now,
            sequence: 0,
            timestamp: 0,
        }
    }

    /// Sends a picture without the packets of these indices, and the beginning of the next. Returns what comes out.
    fn send(&mut self, payloads: &[Vec<u8>], lost: &[usize]) -> Vec<VideoOutput> {
        for (i, payload) in payloads.iter().enumerate() {
            let marker = if i + 1 == payloads.len() { 0x80 } else { 0 };
            let mut packet = vec![0x80, marker | 26];
            packet.extend_from_slice(&self.sequence.to_be_bytes());
            packet.extend_from_slice(&self.timestamp.to_be_bytes());
            packet.extend_from_slice(&[0; 4]);
            packet.extend_from_slice(payload);
            if !lost.contains(&i) {
                self.receiver.rtp(&packet, self.now);
            }
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.timestamp += 9_000;
        self.now += crate::unit::QUIET;
        self.receiver.timeout(self.now);
        std::iter::from_fn(|| self.receiver.poll()).collect()
    }
}

fn picture(outputs: &[VideoOutput]) -> (Vec<u8>, bool) {
    match outputs {
        [VideoOutput::Unit(unit)] => (unit.data.clone(), unit.is_complete),
        other => panic!("{other:?}"),
    }
}

fn pixels(jpeg: &[u8]) -> Vec<u8> {
    image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg)
        .unwrap()
        .to_rgb8()
        .into_raw()
}

const JPEG_420: &[u8] = include_bytes!("../../../fixtures/420.jpg");
const JPEG_422: &[u8] = include_bytes!("../../../fixtures/422.jpg");
/// 4:2:0 with restart markers and a single quantisation table.
const JPEG_RESTART: &[u8] = include_bytes!("../../../fixtures/restart.jpg");

#[test]
fn pictures_come_out_with_the_same_pixels() {
    for (jpeg, chroma_format) in [(JPEG_420, 1), (JPEG_422, 2), (JPEG_RESTART, 1)] {
        let source = parse(jpeg);
        assert_eq!(source.restart_interval.is_some(), jpeg == JPEG_RESTART);
        let mut camera = Camera::new("");
        let outputs = camera.send(&payloads(&source, 255, Some(&source.tables), 1_000), &[]);
        let (data, is_complete) = picture(&outputs);
        assert!(is_complete);
        assert!(pixels(&data) == pixels(jpeg));
        let parameters = camera.receiver.parameters().unwrap();
        assert_eq!((parameters.width, parameters.height), (192, 112));
        assert_eq!(parameters.chroma_format_idc, chroma_format);
    }
}

#[test]
fn the_standard_tables_are_those_of_the_independent_jpeg_group() {
    // `image` scales the same tables for its quality, so a picture of that quality needs no tables in band.
    for q in [1, 10, 49, 50, 51, 75, 99] {
        let mut jpeg = Vec::new();
        let image = image::load_from_memory(JPEG_420).unwrap().to_rgb8();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, q)
            .encode_image(&image)
            .unwrap();
        let tables = parse(&jpeg).tables;
        let standard = QuantizationTables::standard(q);
        let (luma, chroma) = (standard.table(0).unwrap().0, standard.table(1).unwrap().0);
        assert_eq!([luma, chroma].concat(), tables, "Q {q}");
    }
    assert_eq!(QuantizationTables::standard(127), QuantizationTables::standard(99));
}

#[test]
fn tables_are_remembered_by_their_q() {
    let source = parse(JPEG_420);
    let tables = source.tables.clone();
    let mut camera = Camera::new("");
    let early = camera.send(&payloads(&source, 200, Some(&[]), 1_000), &[]);
    assert!(
        matches!(early[..], [VideoOutput::Problem(StreamProblem::UnusableJpeg { .. })]),
        "{early:?}"
    );
    camera.send(&payloads(&source, 200, Some(&tables), 1_000), &[]);
    let outputs = camera.send(&payloads(&source, 200, Some(&[]), 1_000), &[]);
    assert!(pixels(&picture(&outputs).0) == pixels(JPEG_420));
    camera.send(&payloads(&source, 255, Some(&tables), 1_000), &[]);
    camera.send(&payloads(&source, 255, Some(&[]), 1_000), &[]);
    assert_eq!(camera.receiver.counters().damaged_keyframes, 2, "255 is not remembered");
}

#[test]
fn three_tables_and_one_are_taken() {
    let source = parse(JPEG_420);
    let three = [&source.tables[..], &source.tables[64..]].concat();
    let outputs = Camera::new("").send(&payloads(&source, 128, Some(&three), 1_000), &[]);
    assert!(pixels(&picture(&outputs).0) == pixels(JPEG_420));
    let outputs = Camera::new("").send(&payloads(&source, 128, Some(&source.tables[..64]), 1_000), &[]);
    assert_eq!(pixels(&picture(&outputs).0).len(), 192 * 112 * 3);
    let cut = &source.tables[..63];
    let outputs = Camera::new("").send(&payloads(&source, 128, Some(cut), 1_000), &[]);
    assert!(matches!(outputs[..], [VideoOutput::Problem(_)]));
}

#[test]
fn the_size_of_large_pictures_comes_from_sdp() {
    let mut source = parse(JPEG_420);
    (source.width, source.height) = (2_560, 1_920);
    let tables = source.tables.clone();
    let large = payloads(&source, 255, Some(&tables), 1_000);
    assert!(matches!(
        Camera::new("").send(&large, &[])[..],
        [VideoOutput::Problem(StreamProblem::UnusableJpeg { .. })]
    ));
    for fmtp in [
        "x-dimensions=192,112",
        "26 framesize=26 192-112",
        "a=1; X-Dimensions = 192x112",
    ] {
        let outputs = Camera::new(fmtp).send(&large, &[]);
        assert!(pixels(&picture(&outputs).0) == pixels(JPEG_420), "{fmtp}");
    }
}

#[test]
fn a_type_that_is_not_taken_is_named() {
    let mut source = parse(JPEG_420);
    source.kind = 2;
    let mut camera = Camera::new("");
    let outputs = camera.send(&payloads(&source, 50, None, 1_000), &[]);
    assert!(matches!(
        outputs[..],
        [VideoOutput::Problem(StreamProblem::UnusableJpeg { .. })]
    ));
    assert_eq!(camera.receiver.counters().unsupported_packets, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_picture_is_complete_if_all_its_packets_came(
        mtu in 50..2_000_usize,
        lost in prop::collection::vec(0..20_usize, 0..2),
    ) {
        let source = parse(JPEG_420);
        let mut camera = Camera::new("");
        let packets = payloads(&source, 75, None, mtu);
        let whole = picture(&camera.send(&packets, &[])).0;
        camera.send(&packets, &lost);
        let is_lossy = lost.iter().any(|i| *i < packets.len());
        // A lost end is known only when the next picture comes.
        camera.send(&packets, &[]);
        let counters = camera.receiver.counters();
        prop_assert_eq!(counters.damaged_keyframes > 0, is_lossy, "{:?}", counters);
        prop_assert_eq!(&whole[whole.len() - 2..], &END_OF_IMAGE);
    }

    #[test]
    fn arbitrary_payloads_do_not_panic(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
    ) {
        let mut camera = Camera::new("");
        for payload in &payloads {
            camera.send(&[payload.clone(), payload.clone()], &[]);
        }
    }
}
