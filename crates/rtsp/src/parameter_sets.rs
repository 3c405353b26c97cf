//! Parameter sets: VPS, SPS and PPS of every id, from SDP and in band. They are written before each keyframe, in that
//! order, so that any keyframe can be decoded on its own. A set replaces the one of the same id.
//!
//! Bounded in sets and bytes of each type; over the bounds the set that came first goes.

mod sdp;

use gridwatch_bitstream::{bits::BitReader, h264, h265, nal::START_CODE};

use crate::video::{VideoCodec, VideoParameters};

pub(crate) use sdp::{fmtp_value, from_fmtp};

/// Sets kept of each type. H.264 allows 32 SPS and 256 PPS, H.265 16 and 64; cameras send one or two.
pub(crate) const MAX_SETS: usize = 64;
/// Bytes kept of each type. A set takes 10 to 100 bytes, an SPS with all scaling lists about 2,000.
pub(crate) const MAX_SET_BYTES: usize = 16 << 10;

/// Type of a parameter set, in the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetType {
    /// H.265 only.
    Video = 0,
    Sequence = 1,
    Picture = 2,
}

/// What became of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetOutcome {
    /// An identical one was there.
    Known,
    /// New, or it replaced a different one.
    Stored,
    /// Too large, or cut off before its id.
    Refused,
}

#[derive(Debug)]
struct ParameterSet {
    id: u32,
    /// The NAL unit without start code and trailing zeros.
    nal: Vec<u8>,
    /// Of an SPS: its content, if it could be read.
    parameters: Option<SequenceParameters>,
    /// Of a PPS: the SPS it refers to.
    refers_to: Option<u32>,
}

/// What an SPS says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SequenceParameters {
    pub(crate) video: VideoParameters,
    /// `frame_mbs_only_flag`: two pictures with one timestamp cannot be a pair of fields.
    pub(crate) frames_only: bool,
}

/// The parameter sets of one stream.
#[derive(Debug)]
pub(crate) struct ParameterSets {
    codec: VideoCodec,
    /// By [`SetType`], in order of arrival of their ids.
    sets: [Vec<ParameterSet>; 3],
    /// Id of the SPS that the newest keyframe uses.
    active: Option<u32>,
}

impl ParameterSets {
    pub(crate) fn new(codec: VideoCodec) -> Self {
        Self {
            codec,
            sets: Default::default(),
            active: None,
        }
    }

    /// Stores a NAL unit that is a parameter set.
    pub(crate) fn insert(&mut self, kind: SetType, nal: &[u8]) -> SetOutcome {
        let end = nal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let nal = &nal[..end];
        let Some((id, refers_to)) = self.ids(kind, nal).filter(|_| nal.len() <= MAX_SET_BYTES) else {
            return SetOutcome::Refused;
        };
        let sets = &mut self.sets[kind as usize];
        let same_id = sets.iter().position(|s| s.id == id);
        if let Some(at) = same_id
            && sets[at].nal == nal
        {
            return SetOutcome::Known;
        }
        let parameters = (kind == SetType::Sequence)
            .then(|| parse_sps(self.codec, nal))
            .flatten();
        let set = ParameterSet {
            id,
            nal: nal.to_vec(),
            parameters,
            refers_to,
        };
        match same_id {
            Some(at) => sets[at] = set,
            None => sets.push(set),
        }
        while sets.len() > MAX_SETS || sets.iter().map(|s| s.nal.len()).sum::<usize>() > MAX_SET_BYTES {
            // Not the new one, even if it replaced the first.
            let at = usize::from(sets[0].id == id);
            sets.remove(at);
        }
        SetOutcome::Stored
    }

    /// The id of a set, and for a PPS that of its SPS.
    fn ids(&self, kind: SetType, nal: &[u8]) -> Option<(u32, Option<u32>)> {
        let payload = nal.get(header_len(self.codec)..)?;
        match (kind, self.codec) {
            (SetType::Video, _) => Some((BitReader::new(payload).bits(4)?, None)),
            (SetType::Sequence, VideoCodec::H265) => Some((h265::sps_id(payload)?, None)),
            (SetType::Sequence, _) => Some((h264::sps_id(payload)?, None)),
            (SetType::Picture, VideoCodec::H265) => h265::pps_ids(payload).map(|(id, sps)| (id, Some(sps))),
            (SetType::Picture, _) => h264::pps_ids(payload).map(|(id, sps)| (id, Some(sps))),
        }
    }

    /// Whether a keyframe can be decoded: there is an SPS and a PPS.
    pub(crate) fn is_decodable(&self) -> bool {
        !self.sets[SetType::Sequence as usize].is_empty() && !self.sets[SetType::Picture as usize].is_empty()
    }

    /// Length of [`ParameterSets::write`].
    pub(crate) fn written_len(&self) -> usize {
        self.sets.iter().flatten().map(|s| START_CODE.len() + s.nal.len()).sum()
    }

    /// Appends all sets in Annex B.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for set in self.sets.iter().flatten() {
            out.extend_from_slice(&START_CODE);
            out.extend_from_slice(&set.nal);
        }
    }

    /// Notes which SPS the picture uses to which this PPS id belongs.
    pub(crate) fn activate(&mut self, pps_id: Option<u32>) {
        let pps = self.sets[SetType::Picture as usize].iter();
        self.active = pps_id.and_then(|id| pps.into_iter().find(|s| s.id == id)?.refers_to);
    }

    /// The content of the SPS in use; of the newest id before the first keyframe.
    pub(crate) fn parameters(&self) -> Option<&SequenceParameters> {
        let sps = &self.sets[SetType::Sequence as usize];
        let set = match self.active {
            Some(id) => sps.iter().find(|s| s.id == id),
            None => sps.last(),
        };
        set?.parameters.as_ref()
    }
}

/// Bytes of a NAL unit header.
pub(crate) fn header_len(codec: VideoCodec) -> usize {
    if codec == VideoCodec::H265 { 2 } else { 1 }
}

/// Type of a parameter set by its NAL unit header.
pub(crate) fn set_type(codec: VideoCodec, header: u8) -> Option<SetType> {
    match (codec, header & 0x1f, header >> 1 & 0x3f) {
        (VideoCodec::H264, 7, _) | (VideoCodec::H265, _, 33) => Some(SetType::Sequence),
        (VideoCodec::H264, 8, _) | (VideoCodec::H265, _, 34) => Some(SetType::Picture),
        (VideoCodec::H265, _, 32) => Some(SetType::Video),
        _ => None,
    }
}

fn parse_sps(codec: VideoCodec, nal: &[u8]) -> Option<SequenceParameters> {
    match codec {
        VideoCodec::H264 => h264::SpsHead::parse(nal).map(|sps| SequenceParameters {
            video: VideoParameters {
                codec,
                profile_idc: sps.profile_idc,
                level_idc: sps.level_idc,
                chroma_format_idc: sps.chroma_format_idc,
                separate_colour_planes: sps.separate_colour_planes,
                bit_depth_luma: sps.bit_depth_luma,
                bit_depth_chroma: sps.bit_depth_chroma,
                width: sps.cropped.width,
                height: sps.cropped.height,
            },
            frames_only: sps.frames_only,
        }),
        VideoCodec::H265 => h265::SpsHead::parse(nal).map(|sps| SequenceParameters {
            video: VideoParameters {
                codec,
                profile_idc: sps.profile_idc,
                level_idc: sps.level_idc,
                chroma_format_idc: sps.chroma_format_idc,
                separate_colour_planes: sps.separate_colour_planes,
                bit_depth_luma: sps.bit_depth_luma,
                bit_depth_chroma: sps.bit_depth_chroma,
                width: sps.cropped.width,
                height: sps.cropped.height,
            },
            // Fields are access units of their own.
            frames_only: true,
        }),
        VideoCodec::Jpeg => None,
    }
}

#[cfg(test)]
mod tests;
