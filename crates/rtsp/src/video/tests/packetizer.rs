//! Cuts an Annex B clip into RTP packets as cameras do, rightly and wrongly.

use base64::{Engine, prelude::BASE64_STANDARD};
use gridwatch_bitstream::nal::{self, START_CODE};

use super::*;
use crate::parameter_sets::set_type;

/// NAL units by access unit.
pub(super) struct Clip {
    pub(super) codec: VideoCodec,
    pub(super) units: Vec<Vec<Vec<u8>>>,
}

impl Clip {
    /// 13 pictures, 4 of them IDR, of 3 slices.
    pub(super) fn h264() -> Self {
        Self::parse(VideoCodec::H264, include_bytes!("../../../fixtures/slices.h264"))
    }

    /// 13 pictures, an IDR and 3 CRA, of 2 slices.
    pub(super) fn h265() -> Self {
        Self::parse(VideoCodec::H265, include_bytes!("../../../fixtures/cra.h265"))
    }

    fn parse(codec: VideoCodec, stream: &[u8]) -> Self {
        let mut units: Vec<Vec<Vec<u8>>> = Vec::new();
        for nal in nal::split(stream) {
            if kind(codec, nal) == delimiter(codec) {
                units.push(Vec::new());
            }
            units.last_mut().unwrap().push(nal.to_vec());
        }
        Self { codec, units }
    }

    /// Without delimiters.
    pub(super) fn without_delimiters(mut self) -> Self {
        for unit in &mut self.units {
            unit.retain(|nal| kind(self.codec, nal) != delimiter(self.codec));
        }
        self
    }

    pub(super) fn sets(&self) -> Vec<Vec<u8>> {
        self.units[0]
            .iter()
            .filter(|nal| is_set(self.codec, nal))
            .cloned()
            .collect()
    }

    pub(super) fn is_keyframe(&self, unit: usize) -> bool {
        self.units[unit].iter().any(|nal| match self.codec {
            VideoCodec::H264 => kind(self.codec, nal) == 5,
            _ => (16..=23).contains(&kind(self.codec, nal)),
        })
    }

    /// What is to come out for a unit: its parameter sets first if it is a keyframe, and no delimiter.
    pub(super) fn annex_b(&self, unit: usize) -> Vec<u8> {
        let sets = if self.is_keyframe(unit) {
            self.sets()
        } else {
            Vec::new()
        };
        let rest = self.units[unit]
            .iter()
            .filter(|nal| !is_set(self.codec, nal) && kind(self.codec, nal) != delimiter(self.codec));
        sets.iter()
            .chain(rest)
            .flat_map(|nal| [&START_CODE, nal.as_slice()].concat())
            .collect()
    }
}

pub(super) fn kind(codec: VideoCodec, nal: &[u8]) -> u8 {
    match codec {
        VideoCodec::H264 => nal[0] & 0x1f,
        _ => nal[0] >> 1 & 0x3f,
    }
}

fn delimiter(codec: VideoCodec) -> u8 {
    if codec == VideoCodec::H264 { 9 } else { 35 }
}

pub(super) fn is_set(codec: VideoCodec, nal: &[u8]) -> bool {
    set_type(codec, nal[0]).is_some()
}

/// Where the marker is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marker {
    /// On the last packet of a picture.
    Right,
    Never,
    /// On the last packet of each NAL unit.
    EachNal,
    /// On parameter sets too.
    Sets,
}

/// A camera's way of sending.
#[derive(Debug, Clone)]
pub(super) struct Camera {
    codec: VideoCodec,
    fmtp: String,
    pub(super) payload_type: u8,
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    /// Largest payload.
    pub(super) mtu: usize,
    pub(super) marker: Marker,
    /// Bytes of padding; 0: none.
    pub(super) padding: u8,
    /// Words of header extension.
    pub(super) extension: Option<u16>,
    pub(super) csrcs: u8,
    /// Joins small NAL units.
    pub(super) aggregate: bool,
    /// Sends decoding order numbers (H.265).
    pub(super) don: bool,
    pub(super) end_bits: bool,
    /// Parameter sets go out under the timestamp of the picture before, each with a marker.
    pub(super) sets_apart: bool,
}

impl Camera {
    pub(super) fn new(clip: &Clip) -> Self {
        let sets: Vec<String> = clip.sets().iter().map(|set| BASE64_STANDARD.encode(set)).collect();
        let fmtp = match clip.codec {
            VideoCodec::H264 => format!("packetization-mode=1;sprop-parameter-sets={}", sets.join(",")),
            _ => format!("sprop-vps={};sprop-sps={};sprop-pps={}", sets[0], sets[1], sets[2]),
        };
        Self {
            codec: clip.codec,
            fmtp,
            payload_type: 96,
            ssrc: 0x1122_3344,
            sequence: 65_500,
            timestamp: 4_294_900_000,
            mtu: 1_200,
            marker: Marker::Right,
            padding: 0,
            extension: None,
            csrcs: 0,
            aggregate: false,
            don: false,
            end_bits: true,
            sets_apart: false,
        }
    }

    pub(super) fn format(&self) -> VideoFormat {
        let don = if self.don { ";sprop-max-don-diff=2" } else { "" };
        VideoFormat {
            codec: self.codec,
            payload_type: 96,
            clock_rate: 90_000,
            fmtp: format!("{}{don}", self.fmtp),
        }
    }

    /// The same without parameter sets in SDP.
    pub(super) fn without_sprop(mut self) -> Self {
        self.fmtp = "profile-id=1".to_owned();
        self
    }

    /// The packets of an access unit. The timestamp then moves on.
    pub(super) fn unit(&mut self, nals: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        let (apart, together): (Vec<_>, Vec<_>) =
            nals.iter().partition(|nal| self.sets_apart && is_set(self.codec, nal));
        for nal in apart {
            payloads.extend(self.single(nal));
        }
        let apart = payloads.len();
        payloads.extend(self.payloads(&together));
        let last = payloads.len() - 1;
        let mut packets = Vec::new();
        for (i, (payload, ends_nal, is_set)) in payloads.iter().enumerate() {
            let marker = match self.marker {
                Marker::Right => i == last,
                Marker::Never => false,
                Marker::EachNal => *ends_nal,
                Marker::Sets => i == last || *is_set,
            };
            let back = if i < apart { 9_000 } else { 0 };
            let timestamp = self.timestamp.wrapping_sub(back);
            packets.push(self.packet(payload, if i < apart { *ends_nal } else { marker }, timestamp));
        }
        self.timestamp = self.timestamp.wrapping_add(9_000);
        packets
    }

    /// Payloads, and whether each ends a NAL unit and is a parameter set.
    fn payloads(&self, nals: &[&Vec<u8>]) -> Vec<(Vec<u8>, bool, bool)> {
        let mut payloads: Vec<(Vec<u8>, bool, bool)> = Vec::new();
        let mut group: Vec<&Vec<u8>> = Vec::new();
        for nal in nals {
            let size = |group: &[&Vec<u8>]| group.iter().map(|n| n.len() + 3).sum::<usize>() + 4;
            if self.aggregate && size(&group) + nal.len() + 3 <= self.mtu {
                group.push(nal);
                continue;
            }
            payloads.extend(self.aggregated(&std::mem::take(&mut group)));
            if self.aggregate && size(&[nal]) <= self.mtu {
                group.push(nal);
            } else {
                payloads.extend(self.single(nal));
            }
        }
        payloads.extend(self.aggregated(&group));
        payloads
    }

    fn aggregated(&self, group: &[&Vec<u8>]) -> Vec<(Vec<u8>, bool, bool)> {
        let [first, _, ..] = group else {
            return group.iter().flat_map(|nal| self.single(nal)).collect();
        };
        let mut payload = match self.codec {
            VideoCodec::H264 => vec![first[0] & 0x60 | 24],
            _ => vec![48 << 1, first[1]],
        };
        for (i, nal) in group.iter().enumerate() {
            if self.don {
                payload.extend_from_slice(if i == 0 { &[0, 7] } else { &[0] });
            }
            payload.extend_from_slice(&(nal.len() as u16).to_be_bytes());
            payload.extend_from_slice(nal);
        }
        vec![(payload, true, group.iter().all(|nal| is_set(self.codec, nal)))]
    }

    fn single(&self, nal: &[u8]) -> Vec<(Vec<u8>, bool, bool)> {
        let is_set = is_set(self.codec, nal);
        let header_len = if self.codec == VideoCodec::H264 { 1 } else { 2 };
        let (header, body) = nal.split_at(header_len);
        let don: &[u8] = if self.don { &[0, 7] } else { &[] };
        if nal.len() <= self.mtu {
            return vec![([header, don, body].concat(), true, is_set)];
        }
        let parts: Vec<&[u8]> = body.chunks(self.mtu).collect();
        let fragment = |(i, part): (usize, &&[u8])| {
            let (is_start, is_end) = (i == 0, i + 1 == parts.len());
            let mut bits = u8::from(is_start) << 7 | u8::from(is_end && self.end_bits) << 6;
            bits |= kind(self.codec, nal);
            let indicator: &[u8] = match self.codec {
                VideoCodec::H264 => &[nal[0] & 0xe0 | 28, bits],
                _ => &[nal[0] & 0x81 | 49 << 1, nal[1], bits],
            };
            let don = if is_start { don } else { &[] };
            ([indicator, don, part].concat(), is_end, is_set)
        };
        parts.iter().enumerate().map(fragment).collect()
    }

    /// A packet with the next sequence number.
    pub(super) fn packet(&mut self, payload: &[u8], marker: bool, timestamp: u32) -> Vec<u8> {
        let mut flags = 0x80 | self.csrcs;
        flags |= u8::from(self.padding > 0) << 5 | u8::from(self.extension.is_some()) << 4;
        let mut packet = vec![flags, u8::from(marker) << 7 | self.payload_type];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet.extend(std::iter::repeat_n(0xcc, usize::from(self.csrcs) * 4));
        if let Some(words) = self.extension {
            packet.extend_from_slice(&[0xab, 0xac, 0, words as u8]);
            packet.extend(std::iter::repeat_n(0xee, usize::from(words) * 4));
        }
        packet.extend_from_slice(payload);
        if self.padding > 0 {
            packet.extend(std::iter::repeat_n(0, usize::from(self.padding) - 1));
            packet.push(self.padding);
        }
        self.sequence = self.sequence.wrapping_add(1);
        packet
    }
}
