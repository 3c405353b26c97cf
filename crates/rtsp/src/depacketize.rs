//! Payload formats: what an RTP payload holds. Nothing is copied, and nothing is remembered between packets.

pub(crate) mod h264;
pub(crate) mod h265;
pub(crate) mod mjpeg;

use crate::parameter_sets::SetType;

/// The payload format of H.264 or H.265.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    H264,
    H265 {
        /// Decoding order numbers are sent (`sprop-max-don-diff` > 0).
        has_don: bool,
    },
}

/// A part of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A NAL unit.
    Nal(&'a [u8]),
    /// A part of one.
    Fragment(Fragment<'a>),
    /// A packet type that is not taken, by its name.
    Unsupported(&'static str),
    /// A packet that is shorter than its headers or counts say.
    CutOff,
}

/// A part of a NAL unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    /// The header of the NAL unit, of which H.264 has one byte.
    pub(crate) header: [u8; 2],
    pub(crate) is_start: bool,
    pub(crate) is_end: bool,
    pub(crate) data: &'a [u8],
}

/// What a NAL unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NalKind {
    /// A coded slice, or a part of one.
    Slice {
        is_random_access: bool,
    },
    Set(SetType),
    /// Decoders do not need it: delimiters, ends of sequence, filler, other layers, reserved types.
    Dispensable,
    /// SEI and extensions: handed over as they are.
    Other,
}

impl Syntax {
    /// Bytes of a NAL unit header.
    pub(crate) fn header_len(self) -> usize {
        match self {
            Self::H264 => 1,
            Self::H265 { .. } => 2,
        }
    }

    /// The parts of a payload.
    pub(crate) fn pieces(self, payload: &[u8]) -> Pieces<'_> {
        match self {
            Self::H264 => h264::pieces(payload),
            Self::H265 { has_don } => h265::pieces(payload, has_don),
        }
    }

    /// If the payload is a slice, or a part of one, without random access: whether a picture starts with it.
    pub(crate) fn delta_slice(self, payload: &[u8]) -> Option<bool> {
        match self {
            Self::H264 => h264::delta_slice(payload),
            Self::H265 { has_don } => h265::delta_slice(payload, has_don),
        }
    }

    /// The kind of a NAL unit by its header.
    pub(crate) fn kind(self, header: [u8; 2]) -> NalKind {
        match self {
            Self::H264 => h264::kind(header[0]),
            Self::H265 { .. } => h265::kind(header),
        }
    }

    /// Whether the header has a value that the standard forbids: a transmission error (RFC 6184, 1.3).
    pub(crate) fn is_forbidden(self, header: [u8; 2]) -> bool {
        header[0] & 0x80 != 0 || (self != Self::H264 && header[1] & 7 == 0)
    }

    /// Whether a slice is the first of its picture, by its bytes after the NAL unit header: `first_mb_in_slice` ue(v)
    /// is 0 exactly if its first bit is 1 (H.264 7.3.3), and in H.265 that bit is `first_slice_segment_in_pic_flag`
    /// (7.3.6.1).
    pub(crate) fn is_first_slice(self, body: &[u8]) -> bool {
        body.first().is_some_and(|b| b & 0x80 != 0)
    }
}

/// The parts of one payload.
#[derive(Debug)]
pub(crate) enum Pieces<'a> {
    One(Option<Piece<'a>>),
    /// NAL units with 16 bits of length before each.
    Aggregate {
        rest: &'a [u8],
        /// Bytes of the decoding order number before the next length, and before each later one.
        don: (usize, usize),
    },
}

impl<'a> Pieces<'a> {
    fn one(piece: Piece<'a>) -> Self {
        Self::One(Some(piece))
    }

    fn next_aggregated(rest: &mut &'a [u8], don: &mut (usize, usize)) -> Option<Piece<'a>> {
        loop {
            let (&length, after) = rest.get(don.0..)?.split_first_chunk::<2>()?;
            don.0 = don.1;
            let length = usize::from(u16::from_be_bytes(length));
            let Some((nal, after)) = after.split_at_checked(length) else {
                *rest = &[];
                return Some(Piece::CutOff);
            };
            *rest = after;
            if !nal.is_empty() {
                return Some(Piece::Nal(nal));
            }
        }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        match self {
            Self::One(piece) => piece.take(),
            Self::Aggregate { rest, don } => Self::next_aggregated(rest, don),
        }
    }
}
