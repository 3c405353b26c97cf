//! RTCP packets (RFC 3550, 6): reads sender reports and BYE, writes receiver reports.

use super::reception::ReportBlock;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
/// SDES item type of the canonical name.
const CNAME: u8 = 1;

/// What is of interest in a compound packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RtcpItem<'a> {
    /// The sender's time as an NTP timestamp: seconds since 1900 in the upper 32 bits, their fraction in the lower.
    SenderReport { ssrc: u32, ntp: u64 },
    /// The sources that leave, 4 bytes each.
    Bye { ssrcs: &'a [u8] },
}

impl RtcpItem<'_> {
    /// Whether a BYE names this source.
    pub(crate) fn says_bye_of(&self, ssrc: u32) -> bool {
        matches!(self, Self::Bye { ssrcs } if ssrcs.chunks_exact(4).any(|s| s == ssrc.to_be_bytes()))
    }
}

/// The items of a compound packet up to its end or the first part that is not RTCP. A length that reaches past the end
/// is cut: cameras count wrongly, and what is needed lies in the first words.
pub(crate) fn items(mut compound: &[u8]) -> impl Iterator<Item = RtcpItem<'_>> {
    std::iter::from_fn(move || {
        loop {
            let (&[flags, kind, hi, lo], rest) = compound.split_first_chunk::<4>()?;
            if flags >> 6 != 2 {
                return None;
            }
            let length = usize::from(u16::from_be_bytes([hi, lo])) * 4;
            let (body, after) = rest.split_at(length.min(rest.len()));
            compound = after;
            let word = |at: usize| body.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
            match kind {
                SENDER_REPORT => {
                    let (Some(ssrc), Some(seconds), Some(fraction)) = (word(0), word(4), word(8)) else {
                        continue;
                    };
                    let ntp = u64::from(seconds) << 32 | u64::from(fraction);
                    return Some(RtcpItem::SenderReport { ssrc, ntp });
                }
                BYE => {
                    let count = usize::from(flags & 0x1f) * 4;
                    let ssrcs = &body[..count.min(body.len())];
                    return Some(RtcpItem::Bye { ssrcs });
                }
                _ => {}
            }
        }
    })
}

/// A receiver report with the CNAME that every compound packet must carry (RFC 3550, 6.1). The name is the receiver's
/// SSRC in hexadecimal: unique enough, and it tells nothing of the host.
pub(crate) fn receiver_report(receiver_ssrc: u32, block: &ReportBlock) -> Vec<u8> {
    let mut out = Vec::with_capacity(56);
    out.extend_from_slice(&[0x81, RECEIVER_REPORT, 0, 7]);
    out.extend_from_slice(&receiver_ssrc.to_be_bytes());
    out.extend_from_slice(&block.ssrc.to_be_bytes());
    let lost = block.cumulative_lost.to_be_bytes();
    out.extend_from_slice(&[block.fraction_lost, lost[1], lost[2], lost[3]]);
    for word in [
        block.highest_sequence,
        block.jitter,
        block.last_sender_report,
        block.delay_since_sender_report,
    ] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let name = format!("{receiver_ssrc:08x}");
    // SSRC, one item of 2 + 8 bytes, and the end marker up to the next word.
    out.extend_from_slice(&[0x81, SOURCE_DESCRIPTION, 0, 4]);
    out.extend_from_slice(&receiver_ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, name.len() as u8]);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_compound_packet_is_read() {
        let mut compound = vec![0x80, 200, 0, 6, 1, 2, 3, 4, 0xaa, 0xbb, 0x11, 0x22, 0x33, 0x44, 0, 0];
        compound.extend_from_slice(&[0; 12]);
        compound.extend_from_slice(&[0x81, 202, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0]);
        compound.extend_from_slice(&[0x81, 203, 0, 1, 1, 2, 3, 4]);
        let read: Vec<_> = items(&compound).collect();
        let report = RtcpItem::SenderReport {
            ssrc: 0x0102_0304,
            ntp: 0xaabb_1122_3344_0000,
        };
        assert_eq!(read[0], report);
        assert!(read[1].says_bye_of(0x0102_0304) && !read[1].says_bye_of(1));
        assert_eq!(read.len(), 2);
    }

    #[test]
    fn lengths_past_the_end_are_cut() {
        let read: Vec<_> = items(&[0x81, 203, 0xff, 0xff, 0, 0, 0, 9]).collect();
        assert!(read[0].says_bye_of(9));
        let read: Vec<_> = items(&[0x9f, 203, 0, 1, 0, 0, 0, 9]).collect();
        assert!(read[0].says_bye_of(9), "31 sources counted, one there");
        assert_eq!(
            items(&[0x80, 200, 0, 1, 0, 0, 0, 9]).count(),
            0,
            "a sender report without its time"
        );
        assert_eq!(items(&[0x80, 203, 0, 0]).next(), Some(RtcpItem::Bye { ssrcs: &[] }));
    }

    #[test]
    fn a_receiver_report_carries_its_block_and_a_name() {
        let block = ReportBlock {
            ssrc: 0xaabb_ccdd,
            fraction_lost: 5,
            cumulative_lost: -2,
            highest_sequence: 0x0001_0002,
            jitter: 3,
            last_sender_report: 4,
            delay_since_sender_report: 6,
        };
        let report = receiver_report(0x0102_0304, &block);
        assert_eq!(report.len() % 4, 0);
        assert_eq!(&report[..12], &[0x81, 201, 0, 7, 1, 2, 3, 4, 0xaa, 0xbb, 0xcc, 0xdd]);
        assert_eq!(&report[12..16], &[5, 0xff, 0xff, 0xfe]);
        assert_eq!(&report[32..40], &[0x81, 202, 0, 4, 1, 2, 3, 4]);
        assert_eq!(&report[40..], b"\x01\x0801020304\0\0");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            prop_assert!(items(&bytes).count() <= bytes.len() / 4);
        }
    }
}
