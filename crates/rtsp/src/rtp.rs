//! Headers of RTP packets (RFC 3550, 5.1). Payloads are borrowed, not copied.

pub(crate) mod reception;
pub(crate) mod rtcp;

/// Bytes of the fixed header.
const FIXED_HEADER: usize = 12;

/// An RTP packet: the fields that receiving needs, and the payload without padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpPacket<'a> {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> RtpPacket<'a> {
    /// `None` if the version is not 2, or the header, its extension or the padding is larger than the packet: such a
    /// packet counts as one that never arrived (RFC 3550, A.1).
    pub(crate) fn parse(packet: &'a [u8]) -> Option<Self> {
        let (header, mut payload) = packet.split_first_chunk::<FIXED_HEADER>()?;
        let flags = header[0];
        if flags >> 6 != 2 {
            return None;
        }
        if flags & 0x3f != 0 {
            payload = payload.get(usize::from(flags & 0x0f) * 4..)?;
            if flags & 0x10 != 0 {
                let (&[_, _, hi, lo], rest) = payload.split_first_chunk::<4>()?;
                payload = rest.get(usize::from(u16::from_be_bytes([hi, lo])) * 4..)?;
            }
            if flags & 0x20 != 0 {
                // The last byte counts itself. A count of 0 is wrong but harmless: nothing is cut off.
                let padding = usize::from(*payload.last()?);
                payload = payload.get(..payload.len().checked_sub(padding)?)?;
            }
        }
        Some(Self {
            marker: header[1] & 0x80 != 0,
            payload_type: header[1] & 0x7f,
            sequence: u16::from_be_bytes([header[2], header[3]]),
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: [u8; 12] = [0x80, 0xe0, 0x12, 0x34, 0, 0, 0, 5, 1, 2, 3, 4];

    fn with(flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = HEADER.to_vec();
        packet[0] |= flags;
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn a_plain_header_is_read() {
        let packet = with(0, b"ab");
        let expected = RtpPacket {
            marker: true,
            payload_type: 96,
            sequence: 0x1234,
            timestamp: 5,
            ssrc: 0x0102_0304,
            payload: b"ab",
        };
        assert_eq!(RtpPacket::parse(&packet), Some(expected));
    }

    #[test]
    fn csrc_extension_and_padding_are_left_out() {
        let payload = |flags, rest: &[u8]| RtpPacket::parse(&with(flags, rest)).map(|p| p.payload.to_vec());
        assert_eq!(payload(0x02, b"csrccsrcab"), Some(b"ab".to_vec()));
        assert_eq!(payload(0x10, b"\xab\xac\0\x01extnab"), Some(b"ab".to_vec()));
        assert_eq!(payload(0x10, b"\xab\xac\0\0ab"), Some(b"ab".to_vec()));
        assert_eq!(payload(0x20, b"ab\0\0\x03"), Some(b"ab".to_vec()));
        assert_eq!(payload(0x31, b"csrc\0\0\0\x01extnab\x01"), Some(b"ab".to_vec()));
        assert_eq!(payload(0x20, b"\0\x02"), Some(vec![]), "only padding");
        assert_eq!(payload(0x20, b"a\0"), Some(b"a\0".to_vec()), "padding of 0");
    }

    #[test]
    fn parts_larger_than_the_packet_are_refused() {
        assert_eq!(RtpPacket::parse(&with(0x20, b"ab\x04")), None, "padding");
        assert_eq!(RtpPacket::parse(&with(0x20, b"")), None, "padding without a count");
        assert_eq!(RtpPacket::parse(&with(0x01, b"csr")), None, "csrc");
        assert_eq!(RtpPacket::parse(&with(0x10, b"\0\0\0\x02extn")), None, "extension");
        assert_eq!(RtpPacket::parse(&HEADER[..11]), None);
        assert_eq!(RtpPacket::parse(&[0; 12]), None, "version 0");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(packet) = RtpPacket::parse(&bytes) {
                prop_assert!(packet.payload.len() + FIXED_HEADER <= bytes.len());
            }
        }
    }
}
