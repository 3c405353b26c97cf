//! The payload format of H.264 (RFC 6184), packetisation modes 0 and 1. The interleaved mode 2 (STAP-B, MTAP, FU-B) is
//! refused: no camera is known to use it.

use super::{Fragment, NalKind, Piece, Pieces};
use crate::parameter_sets::SetType;

const STAP_A: u8 = 24;
const FU_A: u8 = 28;

pub(super) fn pieces(payload: &[u8]) -> Pieces<'_> {
    let Some((&header, rest)) = payload.split_first() else {
        return Pieces::One(None);
    };
    match header & 0x1f {
        STAP_A => Pieces::Aggregate { rest, don: (0, 0) },
        FU_A => Pieces::one(match rest.split_first() {
            Some((&fu, data)) => Piece::Fragment(Fragment {
                header: [header & 0xe0 | fu & 0x1f, 0],
                is_start: fu & 0x80 != 0,
                is_end: fu & 0x40 != 0,
                data,
            }),
            None => Piece::CutOff,
        }),
        25 => Pieces::one(Piece::Unsupported("STAP-B")),
        26 => Pieces::one(Piece::Unsupported("MTAP16")),
        27 => Pieces::one(Piece::Unsupported("MTAP24")),
        29 => Pieces::one(Piece::Unsupported("FU-B")),
        30 | 31 => Pieces::one(Piece::Unsupported("a reserved packet type")),
        _ => Pieces::one(Piece::Nal(payload)),
    }
}

#[inline]
pub(super) fn delta_slice(payload: &[u8]) -> Option<bool> {
    let (header, starts, body) = match payload {
        &[indicator, fu, ref data @ ..] if indicator & 0x1f == FU_A => {
            (indicator & 0x80 | fu & 0x1f, fu & 0x80 != 0, data)
        }
        &[header, ref body @ ..] => (header & 0x9f, true, body),
        [] => return None,
    };
    match header {
        // Partitions B and C begin with another field than first_mb_in_slice.
        1 | 2 => Some(starts && body.first().is_some_and(|b| b & 0x80 != 0)),
        3 | 4 => Some(false),
        _ => None,
    }
}

/// ITU-T H.264, table 7-1.
pub(super) fn kind(header: u8) -> NalKind {
    match header & 0x1f {
        1..=4 => NalKind::Slice {
            is_random_access: false,
        },
        5 => NalKind::Slice { is_random_access: true },
        7 => NalKind::Set(SetType::Sequence),
        8 => NalKind::Set(SetType::Picture),
        6 | 13..=21 => NalKind::Other,
        _ => NalKind::Dispensable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(payload: &[u8]) -> Vec<Piece<'_>> {
        pieces(payload).collect()
    }

    #[test]
    fn single_nal_units_and_aggregates_are_split() {
        assert_eq!(all(&[0x65, 1]), [Piece::Nal(&[0x65, 1])]);
        assert_eq!(all(&[]), []);
        let aggregate = [0x78, 0, 2, 0x67, 1, 0, 0, 0, 1, 0x68];
        assert_eq!(all(&aggregate), [Piece::Nal(&[0x67, 1]), Piece::Nal(&[0x68])]);
        assert_eq!(all(&[0x78, 0, 1, 0x67, 0]), [Piece::Nal(&[0x67])], "a stray byte");
        assert_eq!(all(&[0x78, 0, 9, 0x67]), [Piece::CutOff]);
    }

    #[test]
    fn fragments_get_the_header_of_their_nal_unit() {
        let fragment = |is_start, is_end| {
            let header = [0x65, 0];
            Piece::Fragment(Fragment {
                header,
                is_start,
                is_end,
                data: &[9],
            })
        };
        assert_eq!(all(&[0x7c, 0x85, 9]), [fragment(true, false)]);
        assert_eq!(all(&[0x7c, 0x05, 9]), [fragment(false, false)]);
        assert_eq!(all(&[0x7c, 0x45, 9]), [fragment(false, true)]);
        assert_eq!(all(&[0x7c]), [Piece::CutOff]);
    }

    #[test]
    fn the_interleaved_mode_is_refused_by_name() {
        for (kind, name) in [(25, "STAP-B"), (26, "MTAP16"), (27, "MTAP24"), (29, "FU-B")] {
            assert_eq!(all(&[kind, 0, 0, 0]), [Piece::Unsupported(name)]);
        }
    }

    #[test]
    fn delta_slices_are_recognised_by_their_headers() {
        assert_eq!(delta_slice(&[0x41, 0x9a]), Some(true));
        assert_eq!(delta_slice(&[0x41, 0x1a]), Some(false));
        assert_eq!(delta_slice(&[0x5c, 0x81, 0x9a]), Some(true));
        assert_eq!(delta_slice(&[0x5c, 0x01, 0x9a]), Some(false), "not its beginning");
        for other in [
            &[0x65, 0x88][..],
            &[0x7c, 0x85, 0x88],
            &[0x67],
            &[0x78, 0, 1, 0x41],
            &[0xc1, 0x9a],
            &[0x5c],
            &[],
        ] {
            assert_eq!(delta_slice(other), None, "{other:x?}");
        }
    }
}
