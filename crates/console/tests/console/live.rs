//! Live video over HTTP, of a camera that is received over RTSP.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};

use gridwatch_base::secret::{CredentialSource, Credentials};
use gridwatch_camera::{
    Slot,
    live::LiveLimits,
    receive::{Receiver, ReceiverSettings},
};
use gridwatch_web::{Role, audit::Outcome};

use crate::{
    http::Client,
    rtsp_camera::{self, RtspCamera},
    street::Served,
};

const PATH: &str = "/cameras/street-a/live.mp4";

/// A camera that is received, and shown as the live video of every view.
struct Received {
    // Dropped before the runtime that it runs on.
    receiver: Receiver,
    _runtime: tokio::runtime::Runtime,
    _camera: RtspCamera,
    limits: LiveLimits,
}

impl Received {
    fn shown_by(served: &Served, max_views: usize) -> Self {
        let camera = RtspCamera::start();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let settings = ReceiverSettings {
            credentials: Some(CredentialSource::Fixed(Credentials {
                user: rtsp_camera::USER.into(),
                password: rtsp_camera::PASSWORD.into(),
            })),
            ..ReceiverSettings::new("street-a".into(), camera.url().parse().unwrap(), Duration::from_secs(1))
        };
        let slot = Slot::new("street-a".into(), Arc::default());
        let receiver = Receiver::spawn(settings, Arc::clone(&slot), runtime.handle());
        let limits = LiveLimits::new(max_views, 8 << 20);
        *served.street.live.lock().unwrap() = Some((slot, limits.clone()));
        Self {
            receiver,
            _runtime: runtime,
            _camera: camera,
            limits,
        }
    }
}

/// Starts to read the stream; returns the head and the connection after it.
fn open(browser: &Client) -> (String, TcpStream) {
    let mut stream = browser.connect();
    let head = browser.head("GET", PATH).replace("Connection: close\r\n", "");
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    (String::from_utf8(answer).unwrap().to_lowercase(), stream)
}

/// Reads the next chunk of a body in chunks.
fn chunk(stream: &mut TcpStream) -> Vec<u8> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes).unwrap();
    bytes.truncate(size);
    bytes
}

fn unmasked_for_admins() -> Served {
    Served::with_users_and(|file| file.console.unmasked_roles = vec![Role::Admin])
}

#[test]
fn a_stream_begins_with_what_a_player_needs_and_ends_with_its_browser() {
    let served = unmasked_for_admins();
    let received = Received::shown_by(&served, 8);
    let admin = served.logged_in("admin");
    let (head, mut stream) = open(&admin);
    assert!(head.contains("content-type: video/mp4; codecs=\"avc1."), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!(&chunk(&mut stream)[4..8], b"ftyp");
    for _ in 0..30 {
        assert_eq!(&chunk(&mut stream)[4..8], b"moof");
    }
    assert_eq!(received.limits.open_views(), 1);
    assert_eq!(received.receiver.slot().live_stats().views, 1);
    let acts = served.street.acts.lock().unwrap().clone();
    let started = acts.last().unwrap();
    assert_eq!((started.name, &started.outcome), ("console live view", &Outcome::Done));
    assert_eq!(started.details, [("view", "street-a".to_owned())]);
    assert_eq!(started.by.user.as_deref(), Some("admin"));
    drop(stream);
    served.wait_until("the view is closed", |_| received.limits.open_views() == 0);
}

#[test]
fn a_stream_ends_when_the_camera_does() {
    let served = unmasked_for_admins();
    let received = Received::shown_by(&served, 8);
    let (_, mut stream) = open(&served.logged_in("admin"));
    chunk(&mut stream);
    drop(received);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "an end, not a broken connection");
}

#[test]
fn live_video_is_for_the_roles_that_may_see_unmasked_pictures() {
    let served = unmasked_for_admins();
    let received = Received::shown_by(&served, 8);
    for (user, page_has_player) in [("operator", false), ("viewer", false), ("admin", true)] {
        let mut browser = served.logged_in(user).with("Accept-Language", "en");
        let page = browser.get("/cameras/street-a");
        assert_eq!(page.contains("<live-player "), page_has_player, "{user}");
        assert_eq!(page.contains("js/live-player.js"), page_has_player, "{user}");
        assert_eq!(page.contains("Live video cannot be masked"), !page_has_player, "{user}");
        if !page_has_player {
            let answer = browser.get(PATH);
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (403, Some("application/json")),
                "{user}"
            );
            assert!(answer.json()["message"].as_str().unwrap().contains("cannot be masked"));
            assert_eq!(browser.get("/api/v1/views/street-a/live.mp4").status, 403, "{user}");
        }
    }
    let acts = served.street.acts.lock().unwrap().clone();
    let refused = acts.iter().filter(|act| act.name == "console live view");
    assert!(refused.clone().count() == 4 && refused.clone().all(|act| matches!(act.outcome, Outcome::Refused(_))));
    // Of another group, there is no such view.
    assert_eq!(served.logged_in("east").get(PATH).status, 404);
    // A login is recorded, too.
    let mut admin = served.logged_in("admin");
    *served.street.is_unrecordable.lock().unwrap() = true;
    let answer = admin.get(PATH);
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (500, Some("application/json"))
    );
    assert!(
        !answer.body.windows(4).any(|part| part == b"ftyp"),
        "not shown if not recorded"
    );
    served.wait_until("the view is closed", |_| received.limits.open_views() == 0);
}

#[test]
fn streams_are_bounded_and_the_reason_is_said_in_words() {
    let served = unmasked_for_admins();
    let mut admin = served.logged_in("admin").with("Accept-Language", "zh");
    let message = |admin: &mut Client| {
        let answer = admin.get(PATH);
        (
            answer.status,
            answer.json()["message"].as_str().unwrap_or_default().to_owned(),
        )
    };
    assert_eq!(message(&mut admin).0, 503);
    assert!(message(&mut admin).1.contains("没有接收视频"));
    let received = Received::shown_by(&served, 8);
    let streams: Vec<_> = (0..4).map(|_| open(&admin)).collect();
    let (status, text) = message(&mut admin);
    assert_eq!(status, 503, "one user takes four at most");
    assert!(text.contains("先关闭一个"), "{text}");
    assert_eq!(received.limits.open_views(), 4);
    drop(streams);
    served.wait_until("the views are closed", |_| received.limits.open_views() == 0);
    let (head, _stream) = open(&admin);
    assert!(head.contains(" 200 "), "{head}");
}
