//! The payload format of H.265 (RFC 7798). Decoding order numbers are skipped: units stay in the order of sending,
//! which is the decoding order in everything that cameras send. PACI packets are refused: no camera is known to use
//! them.

use super::{Fragment, NalKind, Piece, Pieces};
use crate::parameter_sets::SetType;

const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;
/// Bytes of the DONL field.
const DONL: usize = 2;
/// Bytes of the DOND field.
const DOND: usize = 1;

fn nal_type(header: u8) -> u8 {
    header >> 1 & 0x3f
}

/// `nuh_layer_id` is 0.
fn is_base_layer(header: [u8; 2]) -> bool {
    header[0] & 1 == 0 && header[1] >> 3 == 0
}

pub(super) fn pieces(payload: &[u8], has_don: bool) -> Pieces<'_> {
    let Some((&header, rest)) = payload.split_first_chunk::<2>() else {
        return Pieces::One((!payload.is_empty()).then_some(Piece::CutOff));
    };
    match nal_type(header[0]) {
        AGGREGATION => Pieces::Aggregate {
            rest,
            don: if has_don { (DONL, DOND) } else { (0, 0) },
        },
        FRAGMENTATION => Pieces::one(fragment(header, rest, has_don).map_or(Piece::CutOff, Piece::Fragment)),
        50 => Pieces::one(Piece::Unsupported("PACI")),
        51.. => Pieces::one(Piece::Unsupported("a reserved packet type")),
        // A number between header and body makes two parts of what is one NAL unit.
        _ if has_don => Pieces::one(match rest.get(DONL..) {
            Some(data) => Piece::Fragment(Fragment {
                header,
                is_start: true,
                is_end: true,
                data,
            }),
            None => Piece::CutOff,
        }),
        _ => Pieces::one(Piece::Nal(payload)),
    }
}

fn fragment(header: [u8; 2], rest: &[u8], has_don: bool) -> Option<Fragment<'_>> {
    let (&fu, rest) = rest.split_first()?;
    let is_start = fu & 0x80 != 0;
    Some(Fragment {
        header: [header[0] & 0x81 | (fu & 0x3f) << 1, header[1]],
        is_start,
        is_end: fu & 0x40 != 0,
        data: rest.get(if has_don && is_start { DONL } else { 0 }..)?,
    })
}

#[inline]
pub(super) fn delta_slice(payload: &[u8], has_don: bool) -> Option<bool> {
    let (&[first, second], body) = payload.split_first_chunk::<2>()?;
    if first & 0x81 != 0 || second >> 3 != 0 || second & 7 == 0 {
        return None;
    }
    let (kind, starts, body) = match nal_type(first) {
        FRAGMENTATION => {
            let (&fu, data) = body.split_first()?;
            (fu & 0x3f, fu & 0x80 != 0, data)
        }
        kind => (kind, true, body),
    };
    let slice = body.get(if has_don && starts { DONL } else { 0 }..)?;
    match kind {
        0..=15 | 24..=31 => Some(starts && slice.first().is_some_and(|b| b & 0x80 != 0)),
        _ => None,
    }
}

/// ITU-T H.265, table 7-1. Every IRAP picture (16 to 23: BLA, IDR, CRA) is a random access point.
pub(super) fn kind(header: [u8; 2]) -> NalKind {
    if !is_base_layer(header) {
        return NalKind::Dispensable;
    }
    match nal_type(header[0]) {
        16..=23 => NalKind::Slice { is_random_access: true },
        0..=31 => NalKind::Slice {
            is_random_access: false,
        },
        32 => NalKind::Set(SetType::Video),
        33 => NalKind::Set(SetType::Sequence),
        34 => NalKind::Set(SetType::Picture),
        39 | 40 => NalKind::Other,
        _ => NalKind::Dispensable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(payload: &[u8], has_don: bool) -> Vec<Piece<'_>> {
        pieces(payload, has_don).collect()
    }

    #[test]
    fn aggregates_are_split_with_and_without_decoding_order_numbers() {
        let plain = [0x60, 1, 0, 3, 0x40, 1, 7, 0, 2, 0x42, 1];
        let nals = [Piece::Nal(&[0x40, 1, 7]), Piece::Nal(&[0x42, 1])];
        assert_eq!(all(&plain, false), nals);
        let with_don = [0x60, 1, 0, 5, 0, 3, 0x40, 1, 7, 1, 0, 2, 0x42, 1];
        assert_eq!(all(&with_don, true), nals);
        assert_eq!(all(&[0x60, 1, 0, 9, 0x40], false), [Piece::CutOff]);
        assert_eq!(all(&[0x60, 1, 0], true), []);
    }

    #[test]
    fn fragments_get_the_header_of_their_nal_unit() {
        let fragment = |is_start| {
            let header = [0x2a, 1];
            Piece::Fragment(Fragment {
                header,
                is_start,
                is_end: false,
                data: &[0xaf],
            })
        };
        assert_eq!(all(&[0x62, 1, 0x95, 0xaf], false), [fragment(true)]);
        assert_eq!(all(&[0x62, 1, 0x95, 0, 5, 0xaf], true), [fragment(true)]);
        assert_eq!(all(&[0x62, 1, 0x15, 0xaf], true), [fragment(false)]);
        assert_eq!(all(&[0x62, 1], false), [Piece::CutOff]);
        assert_eq!(
            all(&[0x2a, 1, 0, 5, 0xaf], true)[..],
            [Piece::Fragment(Fragment {
                header: [0x2a, 1],
                is_start: true,
                is_end: true,
                data: &[0xaf],
            })]
        );
        assert_eq!(all(&[0x2a], false), [Piece::CutOff]);
    }

    #[test]
    fn paci_is_refused_by_name() {
        assert_eq!(all(&[0x64, 1, 0, 0], false), [Piece::Unsupported("PACI")]);
    }

    #[test]
    fn delta_slices_are_recognised_by_their_headers() {
        assert_eq!(delta_slice(&[0x02, 1, 0xd0], false), Some(true));
        assert_eq!(delta_slice(&[0x02, 1, 0x50], false), Some(false));
        assert_eq!(delta_slice(&[0x02, 1, 0, 0, 0xd0], true), Some(true));
        assert_eq!(delta_slice(&[0x62, 1, 0x81, 0xd0], false), Some(true));
        assert_eq!(delta_slice(&[0x62, 1, 0x01, 0xd0], false), Some(false));
        for other in [
            &[0x2a, 1, 0xaf][..],
            &[0x62, 1, 0x95, 0xaf],
            &[0x40, 1],
            &[0x02, 0, 0xd0],
            &[0x02, 9, 0xd0],
            &[2],
        ] {
            assert_eq!(delta_slice(other, false), None, "{other:x?}");
        }
        assert_eq!(kind([0x2a, 1]), NalKind::Slice { is_random_access: true }, "CRA");
        assert_eq!(kind([0x2a, 9]), NalKind::Dispensable, "layer 1");
    }
}
