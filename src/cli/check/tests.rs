//! The row for each kind of camera and broker reply, and the table's format.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{CheckReport, CheckRow, CheckState, json_pretty, local, probe, table};
use gridwatch_base::secret::CredentialSource;
use gridwatch_camera::{Auth, StreamSource, Transport};
use gridwatch_config::{Aim, Camera, Credentials, Draft, Secret};

/// Long enough for the slowest machine; only reached by a camera that never answers.
const LIMIT: Duration = Duration::from_secs(20);

fn draft(port: u16, password: Option<&str>) -> Draft {
    let mut draft = Draft::default();
    let credentials = password.map(|p| Credentials {
        user: Secret::new("admin"),
        password: Secret::new(p),
    });
    draft.cameras = vec![Camera {
        id: "gate".into(),
        url: format!("rtsp://127.0.0.1:{port}/key-in-the-path").parse().unwrap(),
        credential_source: credentials.clone().map(CredentialSource::Fixed),
        credentials,
        ca_file: None,
        pin_sha256: None,
        auth: Auth::Auto,
        transport: Transport::Tcp,
        source: StreamSource::Auto,
        look_every: Duration::from_secs(10),
        models: vec![],
        read_numbers: false,
        gb_device_id: None,
        legal_review_ref: None,
        groups: vec![],
        aim: Aim::Fixed,
        change: None,
        presets: vec![],
    }];
    draft
}

/// Starts an RTSP server that answers each request with `RTSP/1.0 ` and what `answer` returns; gives its port.
async fn camera(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let (mut buffer, mut request) = ([0; 4096], String::new());
                while let Ok(n @ 1..) = socket.read(&mut buffer).await {
                    request.push_str(&String::from_utf8_lossy(&buffer[..n]));
                    if request.ends_with("\r\n\r\n") {
                        let cseq = request
                            .lines()
                            .find(|l| l.starts_with("CSeq"))
                            .unwrap_or_default()
                            .to_owned();
                        let reply = answer(&request);
                        let (status, rest) = reply.split_once("\r\n").unwrap();
                        let reply = format!("RTSP/1.0 {status}\r\n{cseq}\r\n{rest}");
                        socket.write_all(reply.as_bytes()).await.unwrap();
                        if request.starts_with("PLAY") {
                            socket.write_all(&keyframe_packets()).await.unwrap();
                        }
                        request.clear();
                    }
                }
            });
        }
    });
    port
}

fn describe_reply(media: &str) -> String {
    let sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n{media}a=control:track1\r\n");
    format!(
        "200 OK\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// The H.264 sample as interleaved RTP packets, one for each NAL unit.
fn keyframe_packets() -> Vec<u8> {
    let units = nal_units();
    let packet = |(i, unit): (usize, &&[u8])| {
        let marker = if i + 1 == units.len() { 0x80 } else { 0 };
        let mut packet = vec![b'$', 0];
        packet.extend(((12 + unit.len()) as u16).to_be_bytes());
        packet.extend([0x80, 96 | marker, 0, i as u8, 0, 0, 0, 9, 0, 0, 0, 7]);
        packet.extend_from_slice(unit);
        packet
    };
    units.iter().enumerate().flat_map(packet).collect()
}

/// The parameter sets of the H.264 sample in SDP form (`sprop-parameter-sets`).
fn sprop() -> String {
    let sets = nal_units().into_iter().take(2).map(|u| BASE64_STANDARD.encode(u));
    sets.collect::<Vec<_>>().join(",")
}

/// The NAL units of the H.264 sample: SPS, PPS, then the rest.
fn nal_units() -> Vec<&'static [u8]> {
    let sample: &'static [u8] = include_bytes!("keyframe.h264");
    let starts: Vec<usize> = (3..sample.len()).filter(|i| sample[i - 3..*i] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).map(|start| start - 3).chain([sample.len()]);
    let unit = |(start, end): (&usize, usize)| {
        let unit = &sample[*start..end];
        &unit[..unit.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1)]
    };
    starts.iter().zip(ends).map(unit).collect()
}

async fn probe_camera(port: u16, password: Option<&str>, limit: Duration) -> CheckRow {
    let mut rows = probe::rows(&draft(port, password), limit).await;
    // The draft has no broker.
    assert_eq!((rows.len(), rows[0].state), (2, CheckState::Skipped));
    rows.remove(1)
}

#[tokio::test]
async fn the_row_of_a_camera_gives_its_codec_and_size() {
    let media = format!(
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;sprop-parameter-sets={}\r\n",
        sprop()
    );
    let port = camera(move |_| describe_reply(&media)).await;
    let row = probe_camera(port, None, LIMIT).await;
    assert_eq!(
        (row.state, row.message),
        (CheckState::Ok, format!("127.0.0.1:{port} offers H264, 320×240"))
    );
}

#[tokio::test]
async fn an_unsupported_codec_is_an_error() {
    let port = camera(|_| describe_reply("m=video 0 RTP/AVP 32\r\n")).await;
    let row = probe_camera(port, None, LIMIT).await;
    assert_eq!(row.state, CheckState::Wrong);
    assert!(
        row.message.contains("offers no H.264, H.265 or Motion JPEG video"),
        "{row:?}"
    );
}

#[tokio::test]
async fn refusals_of_the_stream_come_with_their_own_advice() {
    let media = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n";
    let refusing = |method: &'static str, reply: &'static str| {
        move |request: &str| match request.starts_with(method) {
            true => reply.to_owned(),
            false => describe_reply(media),
        }
    };
    for (method, reply, message, remedy) in [
        ("DESCRIBE", "503 Busy\r\n\r\n", "no free stream", "close other players"),
        (
            "SETUP",
            "461 Unsupported\r\n\r\n",
            "does not send over TCP",
            "set `transport` to udp",
        ),
        (
            "DESCRIBE",
            "302 Moved\r\nLocation: http://192.0.2.7/else\r\n\r\n",
            "http://192.0.2.7/else",
            "",
        ),
    ] {
        let port = camera(refusing(method, reply)).await;
        let row = probe_camera(port, None, LIMIT).await;
        assert_eq!(row.state, CheckState::Wrong, "{row:?}");
        assert!(row.message.contains(message), "{row:?}");
        assert!(row.remedy.clone().unwrap_or_default().contains(remedy), "{row:?}");
    }
}

#[tokio::test]
async fn missing_credentials_a_wrong_password_and_a_wrong_path_have_different_messages() {
    let port = camera(|request| {
        if request.contains("Authorization: Basic YWRtaW46cmlnaHQ=") {
            return "404 Not Found\r\n\r\n".into();
        }
        "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"camera\"\r\n\r\n".into()
    })
    .await;
    let name = format!("127.0.0.1:{port}");
    for (password, expected) in [
        (None, "requires a user name and password"),
        (Some("hunter2"), "rejects the user name or password (tried Basic)"),
        (Some("right"), "has no stream at this path"),
    ] {
        let row = probe_camera(port, password, LIMIT).await;
        assert_eq!(
            (row.state, row.message.as_str()),
            (CheckState::Wrong, format!("{name} {expected}").as_str())
        );
        assert!(row.remedy.is_some());
        let shown = format!("{row:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("admin") && !shown.contains("key-in-the-path"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_closed_port_a_silent_camera_and_a_web_server_have_different_messages() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let row = probe_camera(closed, None, LIMIT).await;
    assert_eq!(row.message, format!("127.0.0.1:{closed} refused the connection"));

    // The kernel accepts connections into the backlog; nothing ever answers them.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = mute.local_addr().unwrap().port();
    let row = probe_camera(port, None, Duration::from_millis(100)).await;
    assert_eq!(row.message, format!("127.0.0.1:{port} did not answer within 100ms"));

    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = web.local_addr().unwrap().port();
    tokio::spawn(async move {
        drop(web.accept().await.unwrap()); // The first connection only tests that the port is open.
        let (mut socket, _) = web.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = socket.read(&mut [0; 1024]).await;
    });
    let row = probe_camera(port, None, LIMIT).await;
    assert_eq!(
        (row.state, row.remedy.as_deref()),
        (CheckState::Wrong, Some("check that this is an RTSP camera"))
    );
    assert_eq!(row.message.lines().count(), 1);
}

#[tokio::test]
async fn an_unreachable_broker_is_an_error() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut draft = Draft::default();
    draft.node = Some("box-01".into());
    draft.broker = Some(gridwatch_config::Broker {
        host: "127.0.0.1".into(),
        port: closed,
        protocol: gridwatch_mqtt::Protocol::V5,
        tls: None,
        credentials: Some(Credentials {
            user: Secret::new("box"),
            password: Secret::new("hunter2"),
        }),
        keep_alive: Duration::from_secs(30),
        in_flight: 16,
        topic_prefix: "gridwatch".into(),
        share_sites: true,
        session_expiry: Duration::from_secs(3600),
        receipts: gridwatch_link::Receipts::Auto,
        template: None,
    });
    let rows = probe::rows(&draft, LIMIT).await;
    assert_eq!(
        (rows.len(), rows[0].what.as_str(), rows[0].state),
        (1, "broker", CheckState::Wrong)
    );
    assert!(
        rows[0].message.contains(&format!("127.0.0.1:{closed}")) && rows[0].message.contains("refused"),
        "{rows:?}"
    );
    assert!(!format!("{rows:?}").contains("hunter2"));
}

#[test]
fn the_table_is_aligned_and_ends_with_counts() {
    let report = CheckReport {
        config: "edge.toml".into(),
        ok: false,
        checks: vec![
            CheckRow::ok("broker", "10.0.0.1:1883 accepts this box"),
            CheckRow::wrong("camera gate", "connection refused", "enable RTSP"),
            CheckRow::new("clock", CheckState::Warning, "not synchronised"),
        ],
    };
    assert_eq!(
        table(&report),
        "ok       broker       10.0.0.1:1883 accepts this box\n\
         WRONG    camera gate  connection refused\n\
         \u{20}                     → enable RTSP\n\
         warning  clock        not synchronised\n\
         \n\
         1 ok, 1 warning, 1 wrong\n"
    );
    let value: serde_json::Value = serde_json::from_str(&json_pretty(&report).unwrap()).unwrap();
    assert_eq!(value["ok"], false);
    assert_eq!(value["checks"][1]["state"], "wrong");
    assert_eq!(value["checks"][1]["remedy"], "enable RTSP");
}

#[test]
fn a_database_that_is_missing_newer_or_was_moved_aside_is_reported() {
    use gridwatch_store::Store;

    let dir = tempfile::tempdir().unwrap();
    let rows = || -> Vec<(CheckState, String)> {
        let rows = super::local::database(dir.path(), &gridwatch_custody::keys::KeyRing::of(dir.path()));
        rows.into_iter().map(|row| (row.state, row.message)).collect()
    };
    assert_eq!(rows()[0].0, CheckState::Ok, "none yet");
    drop(Store::open(dir.path()).unwrap());
    assert_eq!(rows().len(), 1, "{:?}", rows());
    assert_eq!(rows()[0].0, CheckState::Ok, "{:?}", rows());

    let path = dir.path().join("gridwatch.db");
    std::fs::write(&path, "not a database".repeat(1000)).unwrap();
    assert!(
        rows()[0].0 == CheckState::Wrong && rows()[0].1.contains("damaged"),
        "{:?}",
        rows()
    );
    drop(Store::open(dir.path()).unwrap());
    let [(sound, _), (CheckState::Warning, aside)] = &rows()[..] else {
        panic!("{:?}", rows())
    };
    assert!(
        *sound == CheckState::Ok && aside.contains("gridwatch.db.corrupt-"),
        "{aside}"
    );

    std::fs::remove_file(&path).unwrap();
    let (state, message) = &rows()[0];
    assert!(
        *state == CheckState::Wrong && message.contains("store restore FILE"),
        "{message}"
    );
    Store::start_anew(dir.path()).unwrap();
    // The header's user version, offset 60.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let (state, message) = &rows()[0];
    assert!(
        *state == CheckState::Wrong && message.contains("version 99 is newer"),
        "{message}"
    );
}

#[test]
fn only_the_daemon_of_this_state_directory_excuses_the_taken_port() {
    use std::io::{Read, Write};

    let dir = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"ready\":true}");
        }
    });
    let check = || super::local::endpoint(address, Some(dir.path()));
    let row = check();
    assert!(
        row.state == CheckState::Wrong && row.message.contains("another gridwatch"),
        "{row:?}"
    );
    let running = gridwatch_store::Store::open(dir.path()).unwrap();
    assert_eq!(check().state, CheckState::Ok);
    drop(running);
    assert_eq!(check().state, CheckState::Wrong);
}

/// What the start would refuse, the check names.
#[test]
fn a_state_directory_that_the_daemon_refuses_does_not_pass() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path();
    let draft = Draft::default();
    assert_eq!(local::state_dir(state).state, CheckState::Ok);
    for (name, is_folder) in [("gridwatch.lock", true), ("models", false), ("views", false)] {
        let path = state.join(name);
        if is_folder {
            std::fs::create_dir(&path).unwrap();
        } else {
            std::fs::write(&path, "").unwrap();
        }
        let row = local::state_dir(state);
        assert!(row.state == CheckState::Wrong && row.message.contains(name), "{row:?}");
        assert!(
            if is_folder {
                std::fs::remove_dir(&path)
            } else {
                std::fs::remove_file(&path)
            }
            .is_ok()
        );
    }
    let has_wrong = |part: &str| {
        let rows = local::keys(&draft, state);
        rows.iter()
            .any(|row| row.state == CheckState::Wrong && row.message.contains(part))
    };
    drop(gridwatch_store::Store::open(state).unwrap());
    assert!(!has_wrong(""), "{:?}", local::keys(&draft, state));
    let original = state.join("keys/originals.key");
    assert!(!original.exists(), "the check creates no key");
    std::fs::write(&original, "nonsense").unwrap();
    assert!(has_wrong("originals.key"));
    std::fs::remove_dir_all(state.join("keys")).unwrap();
    assert!(has_wrong("gridwatch keys new"));
}
