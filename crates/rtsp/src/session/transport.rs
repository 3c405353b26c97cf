//! The `Transport` header of SETUP (RFC 2326, section 12.39): what is asked for, and where the stream comes.

use crate::{
    error::Error,
    message::{leading_number, parameter},
    settings::Transport,
};

/// Where the server sends from; what it did not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UdpPeer {
    /// Address the packets come from, if it is another than that of the RTSP connection. As the camera wrote it: the
    /// driver decides whether to believe it.
    pub source: Option<String>,
    /// Port of RTP packets.
    pub rtp: Option<u16>,
    /// Port of RTCP packets.
    pub rtcp: Option<u16>,
}

/// Where the stream comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// On two channels of the RTSP connection.
    Interleaved {
        rtp: u8,
        rtcp: u8,
    },
    Udp(UdpPeer),
}

/// The header of the request. `ports` are the client's, for UDP.
pub(super) fn request_header(transport: Transport, ports: (u16, u16)) -> String {
    match transport {
        Transport::Tcp | Transport::HttpTunnel => "RTP/AVP/TCP;unicast;interleaved=0-1".into(),
        Transport::Udp => format!("RTP/AVP;unicast;client_port={}-{}", ports.0, ports.1),
    }
}

/// Reads the header of the answer. What it lacks is taken as asked for.
///
/// # Errors
/// The answer names another transport than `asked`.
pub(super) fn read_answer(asked: Transport, header: Option<&str>) -> Result<Delivery, Error> {
    let header = header.unwrap_or_default();
    let first = header.split(',').next().unwrap_or_default();
    let channels = parameter(first, "interleaved");
    let mut profile = first.split(';').next().unwrap_or_default().trim().to_ascii_uppercase();
    profile.retain(|c| !c.is_whitespace());
    if parameter(first, "multicast").is_some() {
        return Err(unsupported(asked, ": it answers with multicast"));
    }
    match asked {
        Transport::Tcp | Transport::HttpTunnel => {
            let is_udp = profile.ends_with("/UDP") || parameter(first, "server_port").is_some();
            if channels.is_none() && is_udp && !profile.ends_with("/TCP") {
                return Err(unsupported(asked, ": it answers with UDP"));
            }
            let (rtp, rtcp) = channels.and_then(pair::<u8>).unwrap_or((0, None));
            let rtcp = rtcp.filter(|c| *c != rtp).unwrap_or_else(|| rtp.wrapping_add(1));
            Ok(Delivery::Interleaved { rtp, rtcp })
        }
        Transport::Udp => {
            if channels.is_some() || profile.ends_with("/TCP") {
                return Err(unsupported(asked, ": it answers with TCP"));
            }
            let ports = parameter(first, "server_port").and_then(pair::<u16>);
            let rtp = ports.map(|(rtp, _)| rtp).filter(|p| *p != 0);
            let rtcp = ports.and_then(|(_, rtcp)| rtcp).or(rtp.and_then(|p| p.checked_add(1)));
            let source = parameter(first, "source").filter(|s| !s.is_empty());
            Ok(Delivery::Udp(UdpPeer {
                source: source.map(str::to_owned),
                rtp,
                rtcp: rtcp.filter(|p| *p != 0),
            }))
        }
    }
}

/// The error for a transport the camera does not offer.
pub(super) fn unsupported(asked: Transport, detail: &str) -> Error {
    Error::UnsupportedTransport {
        asked: asked.name(),
        detail: detail.into(),
        propose: match asked {
            Transport::Tcp | Transport::HttpTunnel => "udp",
            Transport::Udp => "tcp",
        },
    }
}

/// `4-5`, or `4` alone.
fn pair<N: TryFrom<u64>>(text: &str) -> Option<(N, Option<N>)> {
    let (first, second) = text.split_once('-').unwrap_or((text, ""));
    let number = |text| leading_number(text).and_then(|n| N::try_from(n).ok());
    Some((number(first)?, number(second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(header: &str) -> (u8, u8) {
        match read_answer(Transport::Tcp, Some(header)) {
            Ok(Delivery::Interleaved { rtp, rtcp }) => (rtp, rtcp),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn channels_follow_the_answer() {
        assert_eq!(tcp("RTP/AVP/TCP;unicast;interleaved=0-1"), (0, 1));
        assert_eq!(tcp(" RTP/AVP/TCP ; Interleaved = 6 - 9 ; ssrc=1,RTP/AVP"), (6, 9));
        assert_eq!(tcp("RTP/AVP;unicast;interleaved=4"), (4, 5));
        assert_eq!(tcp("RTP/AVP/TCP;interleaved=255-255"), (255, 0));
        assert_eq!(tcp("RTP/AVP/TCP;interleaved=300-301"), (0, 1));
        assert_eq!(tcp("RTP/AVP/TCP;unicast"), (0, 1));
        assert_eq!(tcp("RTP/AVP/TCP;unicast;server_port=1-2"), (0, 1));
        assert_eq!(tcp(""), (0, 1));
        let missing = read_answer(Transport::Tcp, None);
        assert_eq!(missing, Ok(Delivery::Interleaved { rtp: 0, rtcp: 1 }));
    }

    #[test]
    fn server_ports_may_be_missing() {
        let udp = |header| read_answer(Transport::Udp, Some(header));
        let peer = |source: Option<&str>, rtp, rtcp| {
            Ok(Delivery::Udp(UdpPeer {
                source: source.map(str::to_owned),
                rtp,
                rtcp,
            }))
        };
        let full = "RTP/AVP;unicast;client_port=1-2;server_port=6970-6971;source=10.0.0.1";
        assert_eq!(udp(full), peer(Some("10.0.0.1"), Some(6970), Some(6971)));
        assert_eq!(udp("RTP/AVP/UDP;server_port=65535"), peer(None, Some(65_535), None));
        assert_eq!(udp("RTP/AVP"), peer(None, None, None));
    }

    #[test]
    fn another_transport_than_asked_for_is_refused() {
        let error = read_answer(Transport::Tcp, Some("RTP/AVP;unicast;server_port=1-2")).unwrap_err();
        assert!(
            error.to_string().contains("answers with UDP; set `transport` to udp"),
            "{error}"
        );
        let error = read_answer(Transport::Udp, Some("RTP/AVP/TCP;interleaved=0-1")).unwrap_err();
        assert!(error.to_string().contains("set `transport` to tcp"), "{error}");
        assert!(read_answer(Transport::Udp, Some("RTP/AVP;multicast;port=1-2")).is_err());
    }
}
