//! The parameter sets of a keyframe, as they stand in its access unit, and which SPS its pictures use.

use gridwatch_bitstream::{Codec, h264, h265};

/// Most sets of a type: `avcC` counts SPSs in 5 bits and PPSs in 8 (ISO/IEC 14496-15, 5.3.3.1.2).
pub(crate) const MAX_SEQUENCE_SETS: usize = 31;
pub(crate) const MAX_PICTURE_SETS: usize = 255;

/// Type of a parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SetKind {
    /// H.265 only.
    Video,
    Sequence,
    Picture,
}

/// What becomes of a NAL unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NalUse {
    Set(SetKind),
    /// A slice, or a part of one.
    Slice,
    Sei,
    /// Everything else, which no player needs: delimiters, ends of sequence, filler, extensions.
    Dropped,
}

/// What becomes of a NAL unit, by its header. `None` if it is shorter than its header.
pub(crate) fn nal_use(codec: Codec, nal: &[u8]) -> Option<NalUse> {
    Some(match codec {
        Codec::H264 => match nal.first()? & 0x1f {
            7 => NalUse::Set(SetKind::Sequence),
            8 => NalUse::Set(SetKind::Picture),
            1..=5 => NalUse::Slice,
            6 => NalUse::Sei,
            _ => NalUse::Dropped,
        },
        Codec::H265 => {
            nal.get(1)?;
            match nal_type_h265(nal) {
                32 => NalUse::Set(SetKind::Video),
                33 => NalUse::Set(SetKind::Sequence),
                34 => NalUse::Set(SetKind::Picture),
                0..=31 => NalUse::Slice,
                39 | 40 => NalUse::Sei,
                _ => NalUse::Dropped,
            }
        }
    })
}

fn nal_type_h265(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header >> 1 & 0x3f)
}

/// Whether a slice is of a picture that cannot be decoded after starting at the random access point before it: RASL (H.265, 7.4.2.2).
pub(crate) fn is_skipped_leading(codec: Codec, slice: &[u8]) -> bool {
    codec == Codec::H265 && matches!(nal_type_h265(slice), 8 | 9)
}

/// Parameter sets, in the order in which they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ParameterSets<T> {
    pub(crate) video: Vec<T>,
    pub(crate) sequence: Vec<T>,
    pub(crate) picture: Vec<T>,
}

impl<'a> ParameterSets<&'a [u8]> {
    /// Adds a set. Returns false if there are too many, or it is too long for its 16 bits of length.
    pub(crate) fn push(&mut self, kind: SetKind, nal: &'a [u8]) -> bool {
        let (sets, limit) = match kind {
            SetKind::Video => (&mut self.video, MAX_SEQUENCE_SETS),
            SetKind::Sequence => (&mut self.sequence, MAX_SEQUENCE_SETS),
            SetKind::Picture => (&mut self.picture, MAX_PICTURE_SETS),
        };
        if sets.contains(&nal) {
            return true;
        }
        sets.push(nal);
        sets.len() <= limit && nal.len() <= usize::from(u16::MAX)
    }

    pub(crate) fn to_owned(&self) -> ParameterSets<Vec<u8>> {
        let own = |sets: &[&[u8]]| sets.iter().map(|nal| nal.to_vec()).collect();
        ParameterSets {
            video: own(&self.video),
            sequence: own(&self.sequence),
            picture: own(&self.picture),
        }
    }

    /// The SPS that a slice refers to through its PPS; the first one if that cannot be told. Of sets with the same id the last one counts.
    pub(crate) fn active_sps(&self, codec: Codec, slice: &[u8]) -> Option<&'a [u8]> {
        let referred = || {
            type SetIds = (fn(&[u8]) -> Option<(u32, u32)>, fn(&[u8]) -> Option<u32>);
            let (slice_pps, (ids, sps_id)): (u32, SetIds) = match codec {
                Codec::H264 => (h264::slice_pps_id(slice.get(1..)?)?, (h264::pps_ids, h264::sps_id)),
                Codec::H265 => (
                    h265::slice_pps_id(*slice.first()?, slice.get(2..)?)?,
                    (h265::pps_ids, h265::sps_id),
                ),
            };
            let body = |nal: &'a [u8]| nal.get(header_len(codec)..);
            let ids = self.picture.iter().rev().filter_map(|nal| ids(body(nal)?));
            let wanted = ids.into_iter().find(|(pps, _)| *pps == slice_pps)?.1;
            let mut sets = self.sequence.iter().rev();
            sets.find(|nal| body(nal).and_then(sps_id) == Some(wanted)).copied()
        };
        referred().or_else(|| self.sequence.first().copied())
    }
}

impl<T: AsRef<[u8]>> ParameterSets<T> {
    /// Whether both have the same sets in the same order.
    pub(crate) fn equals<U: AsRef<[u8]>>(&self, other: &ParameterSets<U>) -> bool {
        let same = |a: &[T], b: &[U]| a.iter().map(AsRef::as_ref).eq(b.iter().map(AsRef::as_ref));
        same(&self.video, &other.video) && same(&self.sequence, &other.sequence) && same(&self.picture, &other.picture)
    }

    /// Whether every set of `other` is here.
    pub(crate) fn contains_all<U: AsRef<[u8]>>(&self, other: &ParameterSets<U>) -> bool {
        let all = |a: &[T], b: &[U]| b.iter().all(|b| a.iter().any(|a| a.as_ref() == b.as_ref()));
        all(&self.video, &other.video) && all(&self.sequence, &other.sequence) && all(&self.picture, &other.picture)
    }
}

/// Bytes of a NAL unit header.
pub(crate) fn header_len(codec: Codec) -> usize {
    match codec {
        Codec::H264 => 1,
        Codec::H265 => 2,
    }
}
