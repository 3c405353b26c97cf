//! A minimal parser of Annex B byte streams (ITU-T H.264 and H.265, annex B) that recognises complete keyframes.
//!
//! It reads NAL unit headers and the first bit of a slice header, and decodes nothing.

use memchr::memmem;

use super::Codec;

/// Kind of an access unit, by its NAL units up to the first slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnitKind {
    /// Parameter sets, then the first slice of a random access picture.
    Keyframe,
    /// A random access picture without parameter sets.
    MissingParameterSets,
    /// A random access picture without its first slice.
    MissingFirstSlice,
    /// Any other picture, or no picture.
    Other,
}

/// Classifies an access unit. Reads `data` up to its first slice.
pub(super) fn classify(codec: Codec, data: &[u8]) -> UnitKind {
    let (mut sps, mut pps) = (false, false);
    for nal in nal_units(data) {
        let (kind, body) = match (codec, nal) {
            // H.264 7.3.1: forbidden_zero_bit, nal_ref_idc u(2), nal_unit_type u(5).
            (Codec::H264, [h, body @ ..]) => (
                match h & 0x1f {
                    1..=4 => Nal::Slice { random: false },
                    5 => Nal::Slice { random: true },
                    7 => Nal::Sps,
                    8 => Nal::Pps,
                    _ => Nal::Other,
                },
                body,
            ),
            // H.265 7.3.1.2: forbidden_zero_bit, nal_unit_type u(6), nuh_layer_id u(6), nuh_temporal_id_plus1 u(3).
            (Codec::H265, [h, _, body @ ..]) => (
                match (h >> 1) & 0x3f {
                    16..=23 => Nal::Slice { random: true },
                    0..=31 => Nal::Slice { random: false },
                    33 => Nal::Sps,
                    34 => Nal::Pps,
                    _ => Nal::Other,
                },
                body,
            ),
            _ => continue,
        };
        match kind {
            Nal::Sps => sps = true,
            Nal::Pps => pps = true,
            Nal::Other => {}
            Nal::Slice { random: false } => return UnitKind::Other,
            // H.264: first_mb_in_slice ue(v) is 0 exactly if its first bit is 1. H.265: that bit is
            // first_slice_segment_in_pic_flag.
            Nal::Slice { random: true } if body.first().is_none_or(|b| b & 0x80 == 0) => {
                return UnitKind::MissingFirstSlice;
            }
            Nal::Slice { random: true } if sps && pps => return UnitKind::Keyframe,
            Nal::Slice { random: true } => return UnitKind::MissingParameterSets,
        }
    }
    UnitKind::Other
}

enum Nal {
    Sps,
    Pps,
    Slice { random: bool },
    Other,
}

/// For each NAL unit, the data from its header to the end of `data`. The end of a unit is not searched for, because that
/// would mean scanning slices of hundreds of kilobytes.
pub(super) fn nal_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let code = memmem::find(rest, &[0, 0, 1])?;
        rest = &rest[code + 3..];
        Some(rest)
    })
}

/// Reads the recovery point SEI, if there is one: the number of pictures, in coding order, after which decoding from here
/// gives correct output. Payload type 6; `recovery_frame_cnt` ue(v) in H.264 D.1.8, `recovery_poc_cnt` se(v) in H.265
/// D.2.8. Intra-refresh streams mark the start of each refresh with it.
#[cfg(any(feature = "gst", test))]
pub(super) fn recovery_point(codec: Codec, data: &[u8]) -> Option<u32> {
    for nal in nal_units(data) {
        let payload = match (codec, nal) {
            (Codec::H264, [h, body @ ..]) if h & 0x1f == 6 => body,
            (Codec::H265, [h, _, body @ ..]) if (h >> 1) & 0x3f == 39 => body,
            // SEI precedes the slices.
            (Codec::H264, [h, ..]) if matches!(h & 0x1f, 1..=5) => return None,
            (Codec::H265, [h, ..]) if (h >> 1) & 0x3f < 32 => return None,
            _ => continue,
        };
        // Payload type and size take one byte each. The message is the first or only one of its NAL unit.
        if let [6, _size, message @ ..] = payload {
            let ue = exp_golomb(message)?;
            return Some(match codec {
                Codec::H264 => ue,
                // se(v) codes 1, -1, 2, -2, … as 1, 2, 3, 4, …; zero or less means immediately.
                Codec::H265 if ue % 2 == 1 => ue / 2 + 1,
                Codec::H265 => 0,
            });
        }
    }
    None
}

/// The ue(v) at the start of `bits` (H.264 9.1); `None` with more than 16 leading zero bits.
#[cfg(any(feature = "gst", test))]
fn exp_golomb(bits: &[u8]) -> Option<u32> {
    let mut word = [0; 8];
    let n = bits.len().min(8);
    word[..n].copy_from_slice(&bits[..n]);
    let word = u64::from_be_bytes(word);
    let zeros = word.leading_zeros();
    if zeros > 16 {
        return None;
    }
    let code = word >> (63 - 2 * zeros);
    u32::try_from(code - 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|n| [&[0, 0, 0, 1], *n].concat()).collect()
    }

    const SPS: &[u8] = &[0x67, 0x64, 0x00, 0x1f];
    const PPS: &[u8] = &[0x68, 0xeb];
    const IDR: &[u8] = &[0x65, 0x88, 0x84, 0x00];

    #[test]
    fn nal_units_are_found_after_short_and_long_start_codes() {
        let data = [9, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 1, 0x65, 9, 0, 0, 1];
        let headers: Vec<_> = nal_units(&data).map(|unit| unit.first().copied()).collect();
        assert_eq!(headers, [Some(0x67), Some(0x68), Some(0x65), None]);
        assert_eq!(nal_units(&[]).count(), 0);
        assert_eq!(nal_units(&[0, 0]).count(), 0);
    }

    #[test]
    fn recovery_point_sei_is_read() {
        let at = |codec, n: &[&[u8]]| recovery_point(codec, &stream(n));
        // 0b0000111_1 ..: ue = 0b111 - 1 + 8 ..; from x264 --intra-refresh: recovery_frame_cnt = 15, exact_match = 1.
        let refresh = &[0x06, 0x06, 0x02, 0x08, 0x60, 0x80][..];
        assert_eq!(at(Codec::H264, &[refresh, &[0x41, 0x9a]]), Some(15));
        assert_eq!(at(Codec::H264, &[&[0x41, 0x9a], refresh]), None);
        assert_eq!(at(Codec::H264, &[&[0x06, 0x05, 0x01, 0xff, 0x80]]), None);
        let refresh = |b| [0x4e, 0x01, 0x06, 0x01, b];
        assert_eq!(at(Codec::H265, &[&refresh(0x80)]), Some(0));
        assert_eq!(at(Codec::H265, &[&refresh(0b0010_1000)]), Some(0), "-2");
        assert_eq!(at(Codec::H265, &[&refresh(0b0010_0000)]), Some(2));
        assert_eq!(exp_golomb(&[]), None);
        assert_eq!(exp_golomb(&[0, 0, 0, 0]), None);
    }

    #[test]
    fn h264_access_units_are_classified() {
        let at = |n: &[&[u8]]| classify(Codec::H264, &stream(n));
        assert_eq!(at(&[SPS, PPS, IDR]), UnitKind::Keyframe);
        assert_eq!(at(&[SPS, IDR]), UnitKind::MissingParameterSets);
        assert_eq!(at(&[SPS, PPS, &[0x65, 0x42]]), UnitKind::MissingFirstSlice);
        assert_eq!(at(&[SPS, PPS, &[0x65]]), UnitKind::MissingFirstSlice);
        assert_eq!(at(&[SPS, PPS, &[0x41, 0x9a]]), UnitKind::Other);
        assert_eq!(at(&[SPS, PPS]), UnitKind::Other);
    }

    #[test]
    fn h265_access_units_are_classified() {
        let (vps, sps, pps) = (&[0x40, 1, 0][..], &[0x42, 1, 0][..], &[0x44, 1, 0][..]);
        let at = |n: &[&[u8]]| classify(Codec::H265, &stream(n));
        assert_eq!(at(&[vps, sps, pps, &[0x26, 1, 0xaf]]), UnitKind::Keyframe);
        assert_eq!(at(&[vps, sps, pps, &[0x2a, 1, 0xaf]]), UnitKind::Keyframe, "CRA");
        assert_eq!(at(&[vps, sps, pps, &[0x26, 1, 0x2f]]), UnitKind::MissingFirstSlice);
        assert_eq!(at(&[&[0x02, 1, 0xd0]]), UnitKind::Other);
    }
}
