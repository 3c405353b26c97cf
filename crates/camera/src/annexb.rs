//! A minimal parser of Annex B byte streams (ITU-T H.264 and H.265, annex B) that finds recovery points.
//!
//! It reads NAL unit headers and SEI messages, and decodes nothing.

use memchr::memmem;

use super::Codec;

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
}
