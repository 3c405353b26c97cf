//! Just enough of the Annex B byte stream (ITU-T H.264 and H.265, annex B) to tell a whole keyframe from a torn one.
//!
//! Reads NAL headers and the first bit of a slice; it never decodes.

use memchr::memmem;

use super::Codec;

/// What an access unit begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Parameter sets, then the first slice of a random access picture: it decodes alone.
    Keyframe,
    /// The same, with the parameter sets still missing.
    KeyframeWithoutParameters,
    /// A random access picture whose first slice is missing.
    Torn,
    /// Any other picture, or none.
    Other,
}

/// Looks at `data` up to its first slice.
pub(super) fn start(codec: Codec, data: &[u8]) -> Start {
    let (mut sps, mut pps) = (false, false);
    for nal in from_headers(data) {
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
            Nal::Slice { random: false } => return Start::Other,
            // first_mb_in_slice ue(v) is 0 exactly when its first bit is 1; first_slice_segment_in_pic_flag is that bit.
            Nal::Slice { random: true } if body.first().is_none_or(|b| b & 0x80 == 0) => {
                return Start::Torn;
            }
            Nal::Slice { random: true } if sps && pps => return Start::Keyframe,
            Nal::Slice { random: true } => return Start::KeyframeWithoutParameters,
        }
    }
    Start::Other
}

enum Nal {
    Sps,
    Pps,
    Slice { random: bool },
    Other,
}

/// The data from each NAL unit's header on, to the end of `data`: where a unit ends is nobody's question here, and finding
/// it would mean reading through slices of hundreds of kilobytes.
fn from_headers(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let code = memmem::find(rest, &[0, 0, 1])?;
        rest = &rest[code + 3..];
        Some(rest)
    })
}

/// How many pictures after this one, in coding order, the stream is whole again, where the access unit says so: the
/// recovery point SEI (payload type 6; `recovery_frame_cnt` ue(v) in H.264 D.1.8, `recovery_poc_cnt` se(v) in H.265
/// D.2.8). Streams with intra refresh mark the start of each refresh with it.
#[cfg(any(feature = "gst", test))]
pub(super) fn recovery_point(codec: Codec, data: &[u8]) -> Option<u32> {
    for nal in from_headers(data) {
        let payload = match (codec, nal) {
            (Codec::H264, [h, body @ ..]) if h & 0x1f == 6 => body,
            (Codec::H265, [h, _, body @ ..]) if (h >> 1) & 0x3f == 39 => body,
            // SEI comes before the slices, which are long: no need to look through them.
            (Codec::H264, [h, ..]) if matches!(h & 0x1f, 1..=5) => return None,
            (Codec::H265, [h, ..]) if (h >> 1) & 0x3f < 32 => return None,
            _ => continue,
        };
        // Payload type and size are one byte each for this message; it is put first, or in a NAL unit of its own.
        if let [6, _size, message @ ..] = payload {
            let ue = exp_golomb(message)?;
            return Some(match codec {
                Codec::H264 => ue,
                // se(v): 1, -1, 2, -2 .. are 1, 2, 3, 4 ..; nought and below mean at once.
                Codec::H265 if ue % 2 == 1 => ue / 2 + 1,
                Codec::H265 => 0,
            });
        }
    }
    None
}

/// ue(v) at the start of `bits` (9.1 of H.264), below 2^16.
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
    fn units_are_found_behind_both_kinds_of_start_code() {
        let data = [9, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 1, 0x65, 9, 0, 0, 1];
        let headers: Vec<_> = from_headers(&data).map(|unit| unit.first().copied()).collect();
        assert_eq!(headers, [Some(0x67), Some(0x68), Some(0x65), None]);
        assert_eq!(from_headers(&[]).count(), 0);
        assert_eq!(from_headers(&[0, 0]).count(), 0);
    }

    #[test]
    fn recovery_points_are_read() {
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
    fn h264_keyframes_are_told_from_the_rest() {
        let at = |n: &[&[u8]]| start(Codec::H264, &stream(n));
        assert_eq!(at(&[SPS, PPS, IDR]), Start::Keyframe);
        assert_eq!(at(&[SPS, IDR]), Start::KeyframeWithoutParameters);
        assert_eq!(at(&[SPS, PPS, &[0x65, 0x42]]), Start::Torn);
        assert_eq!(at(&[SPS, PPS, &[0x65]]), Start::Torn);
        assert_eq!(at(&[SPS, PPS, &[0x41, 0x9a]]), Start::Other);
        assert_eq!(at(&[SPS, PPS]), Start::Other);
    }

    #[test]
    fn h265_keyframes_are_told_from_the_rest() {
        let (vps, sps, pps) = (&[0x40, 1, 0][..], &[0x42, 1, 0][..], &[0x44, 1, 0][..]);
        let at = |n: &[&[u8]]| start(Codec::H265, &stream(n));
        assert_eq!(at(&[vps, sps, pps, &[0x26, 1, 0xaf]]), Start::Keyframe);
        assert_eq!(at(&[vps, sps, pps, &[0x2a, 1, 0xaf]]), Start::Keyframe, "CRA");
        assert_eq!(at(&[vps, sps, pps, &[0x26, 1, 0x2f]]), Start::Torn);
        assert_eq!(at(&[&[0x02, 1, 0xd0]]), Start::Other);
    }
}
