//! Whole conversations over real sockets of the loopback, with a scripted camera.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use base64::Engine;
use gridwatch_base::secret::Credentials;
use gridwatch_rtsp::{ClientSettings, Error, Event, Limits, LoginPolicy, LoginProblem, Step, Timeouts, Transport};

mod support;

use support::{
    camera::{Camera, Line, description, picture},
    driver,
};

fn settings(port: u16, transport: Transport) -> ClientSettings {
    ClientSettings {
        url: format!("rtsp://127.0.0.1:{port}/cam").parse().unwrap(),
        credentials: Some(Credentials {
            user: "u".into(),
            password: "p".into(),
        }),
        login: LoginPolicy::default(),
        transport,
        user_agent: "test".into(),
        timeouts: Timeouts {
            // Only a hang reaches it.
            connect: Duration::from_secs(60),
            idle: Duration::from_secs(60),
        },
        limits: Limits::default(),
    }
}

/// Runs until `wanted` pictures came; the pictures and the end.
fn run(settings: ClientSettings, wanted: usize) -> (usize, Error) {
    let mut pictures = 0;
    let end = driver::run(settings, 1, |_, event| {
        pictures += usize::from(matches!(event, Event::Unit(_)));
        pictures < wanted
    });
    (pictures, end)
}

fn on(parts: &'static [&'static str], answer: impl Into<String>) -> Line {
    Line::On(parts, answer.into())
}

fn ok(headers: &str) -> String {
    format!("RTSP/1.0 200 OK\r\n{headers}\r\n")
}

#[test]
fn a_redirected_camera_with_a_login_plays_and_is_torn_down() {
    let challenge =
        "RTSP/1.0 401 Unauthorized\nCSeq: 1\nWWW-Authenticate: Digest realm=\"cam\", nonce=\"n\", qop=\"auth-int\"\n\n";
    let camera = Camera::start(vec![
        vec![on(
            &["DESCRIBE rtsp://127.0.0.1:{port}/cam RTSP/1.0"],
            "RTSP/1.0 302 Moved Temporarily\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.1:{port}/new\r\n\r\n",
        )],
        vec![
            on(&["DESCRIBE rtsp://127.0.0.1:{port}/new RTSP/1.0"], challenge),
            on(
                &["DESCRIBE", "qop=auth-int", "username=\"u\""],
                format!("RTSP/1.0 200\r\n{}", description("track1")),
            ),
            on(
                &[
                    "SETUP rtsp://127.0.0.1:{port}/new/track1 ",
                    "interleaved=0-1",
                    "nc=00000002",
                ],
                ok("CSeq: x\r\nTransport: RTP/AVP/TCP;interleaved=4-5\r\nSession: 4711 ; timeout = 2\r\n"),
            ),
            Line::Write(b"\r\n$\x09\x00\x02<>".to_vec()),
            on(&["PLAY rtsp://127.0.0.1:{port}/new ", "Session: 4711\r\n"], ok("")),
            Line::Write([picture(4, 0), picture(4, 1)].concat()),
            on(&["OPTIONS "], ok("Public: GET_PARAMETER\r\n")),
            Line::Write([picture(4, 2), picture(4, 3)].concat()),
        ],
    ]);
    let (pictures, end) = run(settings(camera.port, Transport::Tcp), 3);
    assert_eq!((pictures >= 3, end), (true, Error::Stopped));
    assert_eq!(camera.heard().len(), 6);
}

#[test]
fn a_wrong_password_is_told_with_what_was_tried() {
    let challenge = "RTSP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"c\"\r\n\
        WWW-Authenticate: Digest realm=\"c\", nonce=\"n\", algorithm=SHA-256\r\n\r\n";
    let script = vec![
        on(&["DESCRIBE"], challenge),
        on(&["DESCRIBE", "algorithm=SHA-256"], challenge),
    ];
    let camera = Camera::start(vec![script]);
    let (_, end) = run(settings(camera.port, Transport::Tcp), 1);
    let tried = "Digest SHA-256".to_owned();
    let (status, step) = (401, Step::Describe);
    let login = LoginProblem::Rejected { tried };
    assert_eq!(end, Error::Unauthorized { status, step, login });
}

#[test]
fn a_camera_that_hangs_up_is_told_with_the_step() {
    let script = vec![
        on(&["DESCRIBE"], format!("RTSP/1.0 200 OK\r\n{}", description("*"))),
        on(&["SETUP"], String::new()),
        Line::Close,
    ];
    let camera = Camera::start(vec![script]);
    let (_, end) = run(settings(camera.port, Transport::Tcp), 1);
    assert_eq!(end, Error::ClosedByPeer { step: Step::Setup });
}

#[test]
fn an_endless_header_is_cut_off() {
    let script = vec![
        on(&["DESCRIBE"], "RTSP/1.0 200 OK\r\nX: "),
        Line::Write(vec![b'x'; 9 << 10]),
    ];
    let camera = Camera::start(vec![script]);
    let (_, end) = run(settings(camera.port, Transport::Tcp), 1);
    assert!(matches!(end, Error::LimitExceeded { limit: 8192, .. }), "{end}");
}

#[test]
fn a_closed_port_is_a_failed_connection() {
    let port = Camera::start(vec![]).port;
    let (_, end) = run(settings(port, Transport::Tcp), 1);
    assert!(matches!(end, Error::Connection { .. }), "{end}");
}

#[test]
fn pictures_come_in_datagrams() {
    let sockets = ["127.0.0.1:0", "127.0.0.1:0"].map(|a| UdpSocket::bind(a).unwrap());
    let [rtp, rtcp] = [0, 1].map(|n: usize| sockets[n].local_addr().unwrap().port());
    let answer = format!("Transport: RTP/AVP;unicast;server_port={rtp}-{rtcp}\r\nSession: 1\r\n");
    let camera = Camera::start(vec![vec![
        on(&["DESCRIBE"], format!("RTSP/1.0 200 OK\r\n{}", description("track1"))),
        on(&["SETUP", "Transport: RTP/AVP;unicast;client_port="], ok(&answer)),
        on(&["PLAY"], ok("")),
        on(&["OPTIONS"], ok("")),
    ]]);
    let sender = std::thread::spawn(move || {
        // The client's first datagram opens the path and tells its port.
        let (_, to) = sockets[0].recv_from(&mut [0; 100]).unwrap();
        let mut frames = &[picture(0, 0), picture(0, 1)].concat()[..];
        while let [_, _, high, low, rest @ ..] = frames {
            let (packet, rest) = rest.split_at(u16::from_be_bytes([*high, *low]).into());
            sockets[0].send_to(packet, to).unwrap();
            frames = rest;
        }
        sockets
    });
    let (pictures, end) = run(settings(camera.port, Transport::Udp), 1);
    assert_eq!((pictures >= 1, end), (true, Error::Stopped));
    sender.join().unwrap();
}

#[test]
fn pictures_come_through_an_http_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let camera = std::thread::spawn(move || {
        let (mut get, _) = listener.accept().unwrap();
        let head = read_until(&mut get, b"\r\n\r\n");
        assert!(head.starts_with("GET /cam HTTP/1.0\r\n"), "{head}");
        get.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\n\r\n")
            .unwrap();
        let (mut post, _) = listener.accept().unwrap();
        let head = read_until(&mut post, b"\r\n\r\n");
        assert!(head.starts_with("POST /cam HTTP/1.0\r\n"), "{head}");
        let mut answer = |begin: &str, answer: &str| {
            let mut request = String::new();
            while !request.ends_with("\r\n\r\n") {
                let text = read_until(&mut post, b"");
                request += &String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text).unwrap()).unwrap();
            }
            assert!(request.starts_with(begin), "{request}");
            get.write_all(answer.as_bytes()).unwrap();
        };
        answer("DESCRIBE", &format!("RTSP/1.0 200 OK\r\n{}", description("track1")));
        answer("SETUP", &ok("Session: 1\r\n"));
        answer("PLAY", &ok(""));
        answer("OPTIONS", &ok(""));
        get.write_all(&[picture(0, 0), picture(0, 1)].concat()).unwrap();
        read_until(&mut post, b"");
    });
    let (pictures, end) = run(settings(port, Transport::HttpTunnel), 1);
    // The camera hangs up on TEARDOWN.
    assert_eq!((pictures >= 1, end), (true, Error::Stopped));
    camera.join().unwrap();
}

/// Reads up to `end`, or with an empty one a group of four base64 characters at least.
fn read_until(stream: &mut TcpStream, end: &[u8]) -> String {
    let mut bytes = Vec::new();
    while bytes.is_empty() || !bytes.ends_with(end) || (end.is_empty() && bytes.len() % 4 != 0) {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}
