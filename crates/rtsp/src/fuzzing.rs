//! Entry points for fuzzing, one for each layer that reads what cameras send. Each takes arbitrary bytes and must neither
//! panic nor grow beyond the named limits. Not part of the crate's interface.

use std::time::{Duration, Instant};

use url::Url;

use gridwatch_base::secret::Credentials;

use crate::{
    Client, ClientSettings, Event, Limits, LoginPolicy, Output, Timeouts, Transport,
    auth::{Attempt, Authenticator},
    message::{
        self,
        parser::{Item, Parser},
    },
    random::Random,
    sdp,
    video::{Assemble, MAX_ACCESS_UNIT, PacketOrder, UnitKind, VideoCodec, VideoFormat, VideoOutput, VideoReceiver},
};

/// RTSP messages and interleaved frames.
pub fn message(data: &[u8]) {
    let mut parser = Parser::new(Limits::default());
    let mut rest = data;
    while let Ok((used, item)) = parser.next(rest) {
        assert!(used <= rest.len(), "consumed more than there is");
        if let Item::Frame { payload, .. } = &item {
            assert!(payload.end <= rest.len(), "a payload beyond the input");
        }
        rest = &rest[used..];
        if matches!(item, Item::Incomplete) {
            break;
        }
    }
}

/// Session descriptions.
pub fn session_description(data: &[u8]) {
    if let Ok(description) = sdp::parse(data) {
        video_stream(description.format, data);
    }
}

/// Challenges of a login, one a line.
pub fn challenge(data: &[u8]) {
    let credentials = Credentials {
        user: "user".into(),
        password: "a-secret-word".into(),
    };
    // As header values are read from a message.
    let headers: Vec<String> = data.split(|b| *b == b'\n').map(message::text).collect();
    let mut random = Random::new(1);
    let mut authenticator = Authenticator::new(Some(credentials), false, LoginPolicy::default(), false);
    let mut attempt = Attempt::default();
    for _ in 0..4 {
        let answered = authenticator.challenge(headers.iter().map(String::as_str), &mut attempt, &mut random);
        let header = authenticator.authorize("DESCRIBE", "rtsp://camera/x", b"", &mut attempt);
        if let Some(header) = header {
            assert!(!header.contains(['\r', '\n']), "a line end in a header");
            assert!(!header.contains("a-secret-word"), "the password in a header");
        }
        match answered {
            Ok(()) => {}
            Err(problem) => {
                assert!(
                    !problem.to_string().contains("a-secret-word"),
                    "the password in an error"
                );
                return;
            }
        }
    }
}

/// RTP and RTCP packets of one codec, each preceded by its length (one byte, times 8) and milliseconds to pass.
pub fn video(codec: VideoCodec, data: &[u8]) {
    let format = VideoFormat {
        codec,
        payload_type: 96,
        clock_rate: 90_000,
        fmtp: String::new(),
    };
    video_stream(format, data);
}

fn video_stream(format: VideoFormat, data: &[u8]) {
    for order in [PacketOrder::Ordered, PacketOrder::MayReorder] {
        for assemble in [Assemble::Keyframes, Assemble::All] {
            let mut now = Instant::now();
            let mut receiver = VideoReceiver::new(format.clone(), order, now).with_seed(1);
            receiver.set_assemble(assemble);
            let mut rest = data;
            while let [length, wait, after @ ..] = rest {
                let (packet, after) = after.split_at(after.len().min(usize::from(*length) * 8));
                rest = after;
                now += Duration::from_millis(u64::from(*wait));
                match packet.get(1) {
                    Some(200..=204) => receiver.rtcp(packet, now),
                    _ => receiver.rtp(packet, now),
                }
                receiver.timeout(now);
                while let Some(output) = receiver.poll() {
                    if let VideoOutput::Unit(unit) = output {
                        // Parameter sets come in addition.
                        assert!(unit.data.len() < 2 * MAX_ACCESS_UNIT, "a unit above the limit");
                        assert!(
                            assemble == Assemble::All || unit.kind == UnitKind::Keyframe,
                            "a delta unit"
                        );
                    }
                }
                let _ = receiver.parameters();
            }
        }
    }
}

/// A whole conversation: what the camera sends, in pieces whose length and distance in time the first bytes give.
pub fn client(data: &[u8]) {
    let [transport, piece, wait, sent @ ..] = data else {
        return;
    };
    let Ok(url) = Url::parse("rtsp://192.0.2.1/stream") else {
        return;
    };
    let settings = ClientSettings {
        url,
        credentials: Some(Credentials {
            user: "user".into(),
            password: "a-secret-word".into(),
        }),
        login: LoginPolicy::default(),
        transport: match transport % 3 {
            0 => Transport::Tcp,
            1 => Transport::Udp,
            _ => Transport::HttpTunnel,
        },
        user_agent: "fuzz".into(),
        timeouts: Timeouts::default(),
        limits: Limits::default(),
    };
    let mut now = Instant::now();
    let mut client = Client::new(settings, now, 1);
    for piece in sent.chunks(usize::from(*piece) + 1) {
        if !do_outputs(&mut client, now) {
            return;
        }
        now += Duration::from_millis(u64::from(*wait));
        client.timeout(now);
        let len = {
            let room = client.read_buffer();
            assert!(!room.is_empty(), "no room to read");
            let len = piece.len().min(room.len());
            room[..len].copy_from_slice(&piece[..len]);
            len
        };
        client.received(len, now);
        client.datagram(crate::UdpPort::Rtp, piece, now);
    }
    do_outputs(&mut client, now);
    client.received(0, now);
    do_outputs(&mut client, now);
}

/// Does what the client asks for. Returns false once it is closed.
fn do_outputs(client: &mut Client, now: Instant) -> bool {
    // Each piece leads to a bounded number of outputs.
    for _ in 0..10_000 {
        match client.poll() {
            Output::Idle => return true,
            Output::Closed(error) => {
                assert!(!error.to_string().contains("a-secret-word"), "the password in an error");
                return false;
            }
            Output::Connect { connection, .. } => client.connected(connection, now),
            Output::OpenUdp => client.udp_ports_open(50_000, 50_001, now),
            Output::Event(Event::Unit(unit)) => {
                assert!(unit.data.len() < 2 * MAX_ACCESS_UNIT, "a unit above the limit")
            }
            _ => {}
        }
    }
    panic!("the client never waits");
}
