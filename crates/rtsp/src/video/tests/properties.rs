//! For every mixture of oddities: complete keyframes come out byte for byte, damaged ones are flagged, and no others.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// How a stream is sent and what happens to it on the way.
#[derive(Debug, Clone)]
struct Scenario {
    is_h265: bool,
    camera: CameraOddities,
    order: PacketOrder,
    assemble: Assemble,
    /// Packets that do not arrive, of a thousand.
    lost: BTreeSet<usize>,
    /// Packets that arrive this many places later; with 0, twice. UDP only.
    late: Vec<(usize, usize)>,
    /// The unit with which the SSRC changes, and whether numbers and timestamps begin anew.
    ssrc_change: Option<(usize, bool)>,
    without_delimiters: bool,
}

#[derive(Debug, Clone)]
struct CameraOddities {
    mtu: usize,
    marker: Marker,
    padding: u8,
    extension: Option<u16>,
    csrcs: u8,
    aggregate: bool,
    don: bool,
    end_bits: bool,
    sets_apart: bool,
}

fn oddities() -> impl Strategy<Value = CameraOddities> {
    let marker = prop_oneof![
        3 => Just(Marker::Right),
        1 => Just(Marker::Never),
        1 => Just(Marker::EachNal),
        1 => Just(Marker::Sets),
    ];
    let header = (prop_oneof![Just(0), 1..=255_u8], prop::option::of(0..3_u16), 0..3_u8);
    (60..1_500_usize, marker, header, any::<[bool; 4]>()).prop_map(|(mtu, marker, header, flags)| CameraOddities {
        mtu,
        marker,
        padding: header.0,
        extension: header.1,
        csrcs: header.2,
        aggregate: flags[0],
        don: flags[1],
        end_bits: flags[2],
        sets_apart: flags[3],
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let order = prop_oneof![Just(PacketOrder::Ordered), Just(PacketOrder::MayReorder)];
    let assemble = prop_oneof![3 => Just(Assemble::Keyframes), 1 => Just(Assemble::All)];
    let lost = prop_oneof![Just(BTreeSet::new()), prop::collection::btree_set(0..600_usize, 0..6)];
    let late = prop::collection::vec((1..600_usize, 0..6_usize), 0..12);
    let change = prop::option::of((1..24_usize, any::<bool>()));
    (any::<[bool; 2]>(), oddities(), order, assemble, lost, late, change).prop_map(
        |(flags, camera, order, assemble, lost, late, ssrc_change)| Scenario {
            is_h265: flags[0],
            camera,
            order,
            assemble,
            lost,
            late,
            ssrc_change,
            without_delimiters: flags[1],
        },
    )
}

/// A packet on its way.
struct Sent {
    bytes: Vec<u8>,
    unit: usize,
    arrives: bool,
    holds_slice: bool,
}

struct Stream {
    clip: Clip,
    sent: Vec<Sent>,
    timestamps: Vec<u32>,
    format: VideoFormat,
    reset_at: Option<usize>,
}

/// The clip twice, and a last picture that ends the one before.
const UNITS: usize = 27;

fn stream(s: &Scenario) -> Stream {
    let clip = if s.is_h265 { Clip::h265() } else { Clip::h264() };
    let clip = if s.without_delimiters {
        clip.without_delimiters()
    } else {
        clip
    };
    let mut camera = Camera::new(&clip);
    (camera.mtu, camera.marker, camera.padding) = (s.camera.mtu, s.camera.marker, s.camera.padding);
    (camera.extension, camera.csrcs, camera.aggregate) = (s.camera.extension, s.camera.csrcs, s.camera.aggregate);
    (camera.don, camera.end_bits) = (s.camera.don && s.is_h265, s.camera.end_bits);
    camera.sets_apart = s.camera.sets_apart;
    let format = camera.format();
    let (mut sent, mut timestamps) = (Vec::new(), Vec::new());
    let mut reset_at = None;
    for unit in 0..UNITS {
        // A new source begins with what its first unit needs.
        if let Some((_, begins_anew)) = s.ssrc_change.filter(|(at, _)| *at == unit) {
            camera.ssrc ^= 0x55;
            if begins_anew {
                (camera.sequence, camera.timestamp) = (7, 99_000);
                reset_at = Some(unit);
            }
        }
        timestamps.push(camera.timestamp);
        let nals = &clip.units[unit % clip.units.len()];
        for bytes in camera.unit(nals) {
            let index = sent.len();
            // What is lost around a new beginning cannot be known.
            let is_near_change = s.ssrc_change.is_some_and(|(at, _)| unit == at || unit + 1 == at);
            sent.push(Sent {
                holds_slice: holds_slice(&bytes, &format, &camera),
                bytes,
                unit,
                arrives: index == 0 || is_near_change || !s.lost.contains(&index),
            });
        }
    }
    Stream {
        clip,
        sent,
        timestamps,
        format,
        reset_at,
    }
}

fn holds_slice(bytes: &[u8], format: &VideoFormat, camera: &Camera) -> bool {
    use crate::depacketize::{NalKind, Piece, Syntax};
    let syntax = match format.codec {
        VideoCodec::H265 => Syntax::H265 { has_don: camera.don },
        _ => Syntax::H264,
    };
    let is_slice = |header: [u8; 2]| matches!(syntax.kind(header), NalKind::Slice { .. });
    let payload = RtpPacket::parse(bytes).unwrap().payload;
    syntax.pieces(payload).any(|piece| match piece {
        Piece::Nal(nal) => is_slice([nal[0], nal[1]]),
        Piece::Fragment(fragment) => is_slice(fragment.header),
        _ => false,
    })
}

/// The packets in the order of arrival.
fn arrivals<'a>(s: &Scenario, stream: &'a Stream) -> Vec<&'a Sent> {
    let mut keyed: Vec<(usize, &Sent)> = stream
        .sent
        .iter()
        .enumerate()
        .filter(|(_, p)| p.arrives)
        .map(|(i, p)| (i * 2, p))
        .collect();
    // Around a new beginning only the order tells the old from the new.
    if s.order == PacketOrder::MayReorder && s.ssrc_change.is_none() {
        for (index, places) in &s.late {
            if let Some(at) = keyed.iter().position(|(key, _)| *key == index * 2) {
                match places {
                    0 => keyed.push(keyed[at]),
                    places => keyed[at].0 += places * 2 + 1,
                }
            }
        }
    }
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, packet)| packet).collect()
}

/// What the losses say of a unit.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Complete,
    /// A packet directly after it is lost, and no marker that can be trusted says that it was over.
    Unknown,
    Damaged,
    /// None of its slices arrived.
    Gone,
}

fn fate(s: &Scenario, stream: &Stream, unit: usize) -> Fate {
    let sent = &stream.sent;
    let first = sent.iter().position(|p| p.unit == unit).unwrap();
    let after = sent.iter().rposition(|p| p.unit == unit).unwrap() + 1;
    let slices_before = sent[..first]
        .iter()
        .rposition(|p| p.arrives && p.holds_slice)
        .map_or(0, |at| at + 1);
    if !sent[first..after].iter().any(|p| p.arrives && p.holds_slice) {
        return Fate::Gone;
    }
    if sent[slices_before..after].iter().any(|p| !p.arrives) {
        return Fate::Damaged;
    }
    // Parameter sets sent apart have its timestamp, so it is not over before them.
    let own = |p: &&Sent| p.arrives && s.camera.sets_apart && !p.holds_slice;
    let next = sent[after..].iter().find(|p| !own(p));
    let is_followed_by_loss = next.is_some_and(|p| !p.arrives) || stream.reset_at == Some(unit + 1);
    let is_end_certain = matches!(s.camera.marker, Marker::Right | Marker::Sets) && is_trusted_before(stream, unit);
    match is_followed_by_loss && !is_end_certain {
        true => Fate::Unknown,
        false => Fate::Complete,
    }
}

/// Markers have proven right in a whole keyframe before this unit.
fn is_trusted_before(stream: &Stream, unit: usize) -> bool {
    let is_whole = |u: usize| {
        let first = stream.sent.iter().position(|p| p.unit == u).unwrap();
        let around = stream
            .sent
            .iter()
            .enumerate()
            .filter(|(i, p)| (p.unit == u) || *i + 1 == first || p.unit == u + 1);
        around.into_iter().all(|(_, p)| p.arrives)
    };
    (0..unit)
        .any(|u| stream.clip.is_keyframe(u % stream.clip.units.len()) && stream.reset_at != Some(u + 1) && is_whole(u))
}

fn receive(s: &Scenario, stream: &Stream) -> (Vec<AccessUnit>, StreamCounters) {
    let mut now = Instant::now();
    let mut receiver = VideoReceiver::new(stream.format.clone(), s.order, now);
    receiver.set_assemble(s.assemble);
    let mut units = Vec::new();
    let mut unit = 0;
    for packet in arrivals(s, stream) {
        // The latest packet is 5 places late: within the 100 ms that it is waited for.
        let step = if packet.unit > unit { 10 } else { 0 };
        unit = unit.max(packet.unit);
        let arrives_at = now + Duration::from_millis(step) + Duration::from_micros(100);
        while let Some(at) = receiver.next_timeout().filter(|at| *at <= arrives_at) {
            now = now.max(at);
            receiver.timeout(now);
        }
        now = arrives_at;
        receiver.rtp(&packet.bytes, now);
        while let Some(output) = receiver.poll() {
            match output {
                VideoOutput::Unit(unit) => units.push(unit),
                VideoOutput::Rtcp(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    // What still waits is given up.
    receiver.timeout(now + Duration::from_millis(120));
    while let Some(output) = receiver.poll() {
        if let VideoOutput::Unit(unit) = output {
            units.push(unit);
        }
    }
    (units, receiver.counters().clone())
}

proptest! {
    #![proptest_config(ProptestConfig::default())]
    #[test]
    fn complete_units_come_out_whole_and_damaged_ones_are_flagged(s in scenario()) {
        let stream = stream(&s);
        let (units, counters) = receive(&s, &stream);
        let is_wanted = |unit: usize| {
            s.assemble == Assemble::All || stream.clip.is_keyframe(unit % stream.clip.units.len())
        };
        // The last unit ends with the next one.
        for unit in (0..UNITS - 1).filter(|unit| is_wanted(*unit)) {
            let timestamp = stream.timestamps[unit];
            let of_unit: Vec<&AccessUnit> = units.iter().filter(|u| u.rtp_timestamp == timestamp).collect();
            let fate = fate(&s, &stream, unit);
            prop_assert!(of_unit.len() <= 1, "unit {} came {} times", unit, of_unit.len());
            match (of_unit.first(), &fate) {
                (None, Fate::Gone) => {}
                (Some(out), Fate::Damaged | Fate::Gone) => {
                    prop_assert!(!out.is_complete, "unit {} is {:?}", unit, fate);
                }
                (Some(out), Fate::Complete | Fate::Unknown) => {
                    prop_assert!(out.is_complete || fate == Fate::Unknown, "unit {} is {:?}", unit, fate);
                    let expected = stream.clip.annex_b(unit % stream.clip.units.len());
                    // Pictures with parameter sets of their own have them first, too.
                    let (len, of) = (out.data.len(), expected.len());
                    prop_assert!(out.data == expected, "unit {} differs: {} of {}", unit, len, of);
                }
                (None, _) => prop_assert!(false, "unit {} is {:?} and did not come", unit, fate),
            }
        }
        let lost = stream.sent.iter().filter(|p| !p.arrives).count() as u64;
        prop_assert!(counters.lost <= lost, "{:?}", counters);
        prop_assert_eq!(counters.ssrc_changes, u64::from(s.ssrc_change.is_some()));
    }

    #[test]
    fn arbitrary_packets_do_not_panic(
        payloads in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<[u8; 3]>()), 0..60),
        is_h265: bool,
        all: bool,
        may_reorder: bool,
    ) {
        let (_, mut camera) = if is_h265 { h265() } else { h264() };
        let order = if may_reorder { PacketOrder::MayReorder } else { PacketOrder::Ordered };
        let mut setup = Setup::new(&camera, order);
        setup.receiver.set_assemble(if all { Assemble::All } else { Assemble::Keyframes });
        for (payload, [kind, step, time]) in &payloads {
            // Types that matter come often: the first byte is one of them half the time.
            let mut payload = payload.clone();
            if let Some(first) = payload.first_mut().filter(|_| kind & 1 == 1) {
                *first = if is_h265 { kind & 0x7e } else { 0x60 | kind >> 1 & 0x1f };
            }
            camera.timestamp = camera.timestamp.wrapping_add(u32::from(step & 1) * 3_000);
            camera.sequence = camera.sequence.wrapping_add(u16::from(step >> 6));
            let packet = camera.packet(&payload, step & 2 != 0, camera.timestamp);
            setup.rtp(&packet);
            setup.receiver.rtcp(&payload, setup.now);
            setup.pass(Duration::from_millis(u64::from(time & 0x3f)));
        }
        prop_assert_eq!(setup.receiver.counters().packets, payloads.len() as u64);
    }
}
