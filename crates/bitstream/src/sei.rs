//! Recovery points, the one SEI message that matters for finding pictures that decode on their own.

use crate::{Codec, bits::BitReader, nal};

/// Reads the recovery point SEI, if there is one: the number of pictures, in coding order, after which decoding from here
/// gives correct output. Payload type 6; `recovery_frame_cnt` ue(v) in H.264 D.1.8, `recovery_poc_cnt` se(v) in H.265
/// D.2.8. Intra-refresh streams mark the start of each refresh with it.
pub fn recovery_point(codec: Codec, data: &[u8]) -> Option<u32> {
    for nal in nal::starts(data) {
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
            let ue = BitReader::new(message).ue_up_to(1 << 16)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|n| [&[0, 0, 0, 1], *n].concat()).collect()
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
    }
}
