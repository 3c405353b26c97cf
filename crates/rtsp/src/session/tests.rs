//! Conversations without sockets: what the client sends for what it is told.

use proptest::prelude::*;

use crate::{Error, LoginProblem, Step, Transport, UdpPort};

mod access;
mod talk;

use talk::{DIGEST, SDP, Talk, frame};

#[test]
fn a_session_is_set_up_played_kept_alive_and_torn_down() {
    let mut talk = Talk::playing(Transport::Tcp);
    assert_eq!(talk.connects, ["Main cam:554 false"]);
    assert!(talk.sent[0].contains("Accept: application/sdp\r\n") && !talk.sent[0].contains("geheim"));
    assert!(talk.sent[1].contains("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"));
    assert!(talk.sent[2].contains("Session: 4711\r\n") && talk.sent[2].contains("Range: npt=0.000-\r\n"));
    talk.video(0);
    assert_eq!(talk.packets(), 1);
    talk.pass(0);
    talk.reply(200, "Public: OPTIONS, GET_PARAMETER");
    talk.pass(5);
    talk.reply(451, "CSeq: 999");
    talk.video(0);
    talk.pass(5);
    talk.client.close(talk.now);
    talk.pump();
    let requests = [
        "DESCRIBE rtsp://cam/x",
        "SETUP rtsp://cam/x/track1",
        "PLAY rtsp://cam/x",
        "OPTIONS rtsp://cam/x",
    ];
    assert_eq!(talk.requests()[..4], requests);
    assert_eq!(
        talk.requests()[4..],
        [
            "GET_PARAMETER rtsp://cam/x",
            "OPTIONS rtsp://cam/x",
            "TEARDOWN rtsp://cam/x"
        ]
    );
    talk.reply(200, "X: y");
    assert_eq!(talk.end(), &Error::Stopped);
    assert!(
        talk.events
            .iter()
            .any(|e| e.contains("Playing") && e.contains("keep_alive: 5s")),
        "{:?}",
        talk.events
    );
}

#[test]
fn a_session_lasts_while_packets_come_and_ends_without_them() {
    let mut talk = Talk::playing(Transport::Tcp);
    for _ in 0..10 {
        talk.pass(5);
        talk.hear(&frame(0, 0x60));
    }
    assert!(talk.end.is_none());
    assert!(talk.requests().len() > 10, "keep-alives go on without an answer");
    talk.pass(9);
    assert!(talk.end.is_none());
    talk.reply(200, "X: y");
    talk.pass(1);
    assert_eq!(talk.end().to_string(), "no video packet received for 10s");
    assert!(talk.last().starts_with("TEARDOWN"));
}

#[test]
fn a_teardown_without_answer_ends_after_a_second() {
    let mut talk = Talk::playing(Transport::Tcp);
    talk.client.close(talk.now);
    talk.pump();
    assert!(talk.end.is_none());
    talk.pass(1);
    assert_eq!(talk.end(), &Error::Stopped);
    let mut early = Talk::new(Transport::Tcp);
    early.client.close(early.now);
    early.pump();
    assert_eq!((early.end(), early.sent.len()), (&Error::Stopped, 1));
}

#[test]
fn each_step_has_its_time_limit() {
    let mut talk = Talk::new(Transport::Tcp);
    talk.pass(4);
    talk.reply_sdp(SDP);
    talk.pass(6);
    let expected = "no answer from cam:554 within 10s (waiting for SETUP); check that the camera is on and reachable";
    assert_eq!(talk.end().to_string(), expected);
    let mut talk = Talk::new(Transport::Tcp);
    talk.client.received(0, talk.now);
    talk.pump();
    assert_eq!(talk.end(), &Error::ClosedByPeer { step: Step::Describe });
}

#[test]
fn a_play_without_answer_plays_if_pictures_come() {
    let mut talk = Talk::new(Transport::Tcp);
    talk.reply_sdp(SDP);
    talk.reply(200, "Session: 1");
    talk.video(0);
    talk.pass(10);
    assert!(talk.end.is_none());
    assert!(talk.last().starts_with("OPTIONS"));
}

#[test]
fn session_descriptions_that_cannot_be_used_are_explained() {
    let of = |reply: &str| {
        let mut talk = Talk::new(Transport::Tcp);
        talk.hear(reply.as_bytes());
        talk.client.received(0, talk.now);
        talk.pump();
        talk.end().to_string()
    };
    assert!(of("RTSP/1.0 200 OK\r\n\r\n").ends_with("empty session description"));
    assert!(of("RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n\r\n").ends_with("empty session description"));
    let html = of("RTSP/1.0 200 OK\r\nContent-Type: text/html; x\r\nContent-Length: 6\r\n\r\n<html>");
    assert!(
        html.contains("it sent text/html instead of a session description"),
        "{html}"
    );
    let short = of("RTSP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nv=0");
    assert!(short.contains("shorter than announced (3 of 99 bytes)"), "{short}");
    let audio = of("RTSP/1.0 200 OK\r\nContent-Length: 28\r\n\r\nv=0\r\nm=audio 0 RTP/AVP 0   \r\n");
    assert!(
        audio.contains("only audio payload type 0; change its video encoding"),
        "{audio}"
    );
    let large = of("RTSP/1.0 200 OK\r\nContent-Length: 4000000000\r\n\r\n");
    assert!(large.contains("a message body above the limit of 262144"), "{large}");
    assert!(of("HTTP/1.1 400 Bad Request\r\n\r\n").contains("the port serves HTTP"));
}

#[test]
fn refusals_have_their_own_errors() {
    let of = |status| {
        let mut talk = Talk::new(Transport::Tcp);
        talk.reply_sdp(SDP);
        for _ in 0..4 {
            talk.reply(status, "X: y");
        }
        talk.end().clone()
    };
    let (step, status) = (Step::Setup, 404);
    assert_eq!(of(404), Error::NotFound { status, step });
    assert_eq!(of(503), Error::Busy { status: 503, step });
    assert_eq!(of(453), Error::Busy { status: 453, step });
    assert_eq!(of(454), Error::SessionLost { step });
    assert!(
        of(461)
            .to_string()
            .contains("over TCP (status 461); set `transport` to udp")
    );
    assert!(of(459).to_string().contains("status 459 on SETUP"));
    assert!(of(551).to_string().contains("lacks an option"));
    let tried = String::new();
    let login = LoginProblem::Forbidden { tried };
    assert_eq!(
        of(403),
        Error::Unauthorized {
            status: 403,
            step,
            login
        }
    );
}

#[test]
fn a_strict_server_gets_the_url_it_wants() {
    let mut talk = Talk::new(Transport::Tcp);
    talk.reply_sdp(SDP);
    talk.reply(404, "X: y");
    assert_eq!(
        talk.requests()[1..],
        ["SETUP rtsp://cam/x/track1", "SETUP rtsp://cam/track1"]
    );
    talk.reply(200, "Session: 1");
    talk.reply(459, "X: y");
    talk.reply(457, "X: y");
    talk.reply(200, "X: y");
    assert_eq!(
        talk.requests()[3..6],
        [
            "PLAY rtsp://cam/x",
            "PLAY rtsp://cam/x/track1",
            "PLAY rtsp://cam/x/track1"
        ]
    );
    assert!(!talk.sent[5].contains("Range:"));
}

#[test]
fn requests_of_the_camera_are_answered() {
    let mut talk = Talk::playing(Transport::Tcp);
    talk.pass(0);
    for method in ["OPTIONS", "ANNOUNCE", "GET_PARAMETER", "SET_PARAMETER", "PLAY_NOTIFY"] {
        talk.hear(format!("{method} rtsp://cam/x RTSP/1.0\r\nCSeq: 77\r\nSession: 4711\r\n\r\n").as_bytes());
        assert!(
            talk.last()
                .starts_with("RTSP/1.0 200 OK\r\nCSeq: 77\r\nSession: 4711\r\n"),
            "{}",
            talk.last()
        );
    }
    talk.hear(b"JUMP rtsp://cam/x RTSP/1.0\r\n\r\n");
    assert_eq!(talk.last(), "RTSP/1.0 501 Not Implemented\r\n\r\n");
    talk.hear(b"REDIRECT rtsp://cam/x RTSP/1.0\nLocation: rtsp://cam/y\n\n");
    assert_eq!(talk.last().lines().next(), Some("DESCRIBE rtsp://cam/y RTSP/1.0"));
    assert!(talk.requests().contains(&"TEARDOWN rtsp://cam/x"));
    let mut talk = Talk::playing(Transport::Tcp);
    talk.hear(&b"OPTIONS * RTSP/1.0\n\n".repeat(101));
    assert!(
        talk.end()
            .to_string()
            .contains("requests in 10 s above the limit of 100")
    );
}

#[test]
fn frames_on_other_channels_are_counted_or_followed() {
    let mut talk = Talk::new(Transport::Tcp);
    talk.reply_sdp(SDP);
    talk.reply(200, "Transport: RTP/AVP/TCP;interleaved=6-7\nSession: 1");
    talk.video(6);
    talk.video(2);
    assert_eq!((talk.packets(), talk.client.counters().unassigned_frames), (1, 1));
    talk.pass(8);
    let is_report = |sent: &String| sent.starts_with("$\u{7}\0");
    assert!(talk.sent.iter().any(is_report), "reports go out on the second channel");
    let mut talk = Talk::playing(Transport::Tcp);
    talk.hear(b"$\x04\x00\x05<xml>");
    talk.video(4);
    talk.video(4);
    assert_eq!((talk.packets(), talk.client.counters().unassigned_frames), (2, 1));
}

#[test]
fn udp_ports_are_asked_for_and_followed() {
    let mut talk = Talk::new(Transport::Udp);
    talk.reply_sdp(SDP);
    assert!(
        talk.last()
            .contains("Transport: RTP/AVP;unicast;client_port=5000-5001\r\n")
    );
    talk.reply(
        200,
        "Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=7000-7001\nSession: 1",
    );
    assert!(
        talk.events
            .iter()
            .any(|e| e.contains("rtp: Some(7000), rtcp: Some(7001)")),
        "{:?}",
        talk.events
    );
    assert_eq!(talk.datagrams, 2);
    talk.reply(200, "X: y");
    let packet = frame(0, 0xe0)[4..].to_vec();
    talk.client.datagram(UdpPort::Rtp, &packet, talk.now);
    talk.client
        .datagram(UdpPort::Rtcp, &[0x80, 200, 0, 1, 0, 0, 0, 0], talk.now);
    talk.pump();
    talk.pass(8);
    assert_eq!(talk.packets(), 1);
    assert!(talk.datagrams > 2, "reports go out as datagrams");
}

#[test]
fn a_tunnel_takes_two_connections() {
    let mut talk = Talk::new(Transport::HttpTunnel);
    assert!(talk.last().starts_with("GET /x HTTP/1.0\r\n"));
    talk.hear(b"HTTP/1.0 401 No\r\nWWW-Authenticate: Basic realm=\"r\"\r\n\r\n");
    assert!(talk.last().contains("Authorization: Basic "));
    talk.hear(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n");
    assert_eq!(
        talk.connects,
        [
            "Main cam:80 false",
            "Main closed",
            "Main cam:80 false",
            "Post cam:80 false"
        ]
    );
    assert!(talk.posted[0].starts_with("POST /x HTTP/1.0\r\n"));
    assert!(
        talk.posted[1].starts_with("REVTQ1JJQkUg"),
        "DESCRIBE in base64: {}",
        talk.posted[1]
    );
    talk.reply_sdp(SDP);
    talk.reply(200, "Session: 1");
    talk.reply(200, "X: y");
    talk.video(0);
    talk.client.post_received(&[], talk.now);
    talk.pass(0);
    assert_eq!((talk.packets(), talk.connects.len()), (1, 6), "{:?}", talk.connects);
    assert!(
        talk.posted.last().unwrap().contains("T1BUSU9OUy"),
        "OPTIONS waited for the new POST connection"
    );
    let mut talk = Talk::new(Transport::HttpTunnel);
    talk.hear(b"HTTP/1.0 404 Not Found\r\n\r\n");
    assert!(
        talk.end()
            .to_string()
            .contains("over HTTP (status 404 of its web server); set `transport` to tcp")
    );
}

/// All that a camera says, up to a few packets.
fn transcript() -> Vec<u8> {
    let length = SDP.len();
    let replies = format!(
        "RTSP/1.0 401 No\r\n{DIGEST}\r\n\r\nRTSP/1.0 200 OK\nContent-Length: {length}\n\n{SDP}\
         RTSP/1.0 200\r\nSession: 1\r\n\r\nRTSP/1.0 200 OK\r\n\r\nOPTIONS * RTSP/1.0\r\n\r\n"
    );
    [replies.as_bytes(), &frame(0, 0x60), b"$\x09\x00\x01x", &frame(0, 0xe0)].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn splits_at_any_byte_change_no_conversation(mut at in proptest::collection::vec(0..transcript().len(), 0..8)) {
        let all = transcript();
        let mut whole = Talk::new(Transport::Tcp);
        whole.hear(&all);
        prop_assert_eq!((whole.packets(), whole.sent.len()), (2, 5));
        at.sort_unstable();
        at.push(all.len());
        let (mut split, mut from) = (Talk::new(Transport::Tcp), 0);
        for to in at {
            split.hear(&all[from..to]);
            from = to;
        }
        prop_assert_eq!(&split.sent, &whole.sent);
        prop_assert_eq!((split.packets(), split.client.counters()), (2, whole.client.counters()));
    }

    #[test]
    fn no_bytes_at_any_step_do_harm(
        step in 0..5,
        udp in any::<bool>(),
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 1..40),
                (100_u16..600).prop_map(|status| format!("RTSP/1.0 {status}\r\n").into_bytes()),
                Just(b"Location: rtsp://cam/y\r\n\r\n".to_vec()),
                Just(b"WWW-Authenticate: Digest nonce=1, Basic\r\n\r\n".to_vec()),
                Just(b"Content-Length: 30\r\n\r\n".to_vec()),
                Just(b"Session: 1;timeout=0\r\n\r\n".to_vec()),
                Just(SDP.as_bytes().to_vec()),
                Just(b"REDIRECT * RTSP/1.0\r\n\r\n".to_vec()),
                any::<u8>().prop_map(|channel| frame(channel, 0xe0)),
            ],
            0..20,
        ),
    ) {
        let mut talk = Talk::new(if udp { Transport::Udp } else { Transport::Tcp });
        if step > 0 { talk.reply_sdp(SDP) }
        if step > 1 { talk.reply(200, "Session: 1") }
        if step > 2 { talk.reply(200, "X: y") }
        for part in parts {
            talk.hear(&part);
            prop_assert!(!talk.client.read_buffer().is_empty());
        }
        for seconds in [3, 30, 30] {
            talk.pass(seconds);
        }
        prop_assert!(talk.end.is_some());
    }
}
