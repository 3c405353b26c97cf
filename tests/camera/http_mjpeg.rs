//! Motion JPEG over HTTP at a few pictures a second, however the camera separates them.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    thread,
    time::Duration,
};

use crate::support::{
    http_camera::{HttpCamera, Multipart},
    until, workers,
};
use gridwatch_base::secret::{CredentialSource, Credentials, Secret};
use gridwatch_camera::{
    CameraState, Picture, Slot,
    gst_source::{GstSource, SourceSettings},
};

fn picture() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/rtsp/fixtures/420.jpg")).unwrap()
}

fn source(url: &str, credentials: Option<Credentials>) -> GstSource {
    let settings = SourceSettings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: credentials.map(CredentialSource::Fixed),
        ca_file: None,
        every: Duration::from_millis(100),
        looped: true,
        idle: Duration::from_secs(20),
        mode: workers(),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    GstSource::spawn(settings, slot).unwrap()
}

fn receives(multipart: Multipart) {
    let camera = HttpCamera::start(picture(), multipart.clone());
    let source = source(&camera.url(), None);
    until(&format!("three pictures of {multipart:?}"), || {
        (source.slot().seq() >= 3).then_some(())
    });
    assert_eq!(source.slot().state(), CameraState::Live);
    assert_eq!(source.slot().stats().reconnects, 0, "{multipart:?}");
    assert!(matches!(source.slot().latest(), Some((_, Picture::Frame(f))) if f.width > 0));
}

#[test]
fn one_picture_a_second_is_received() {
    for has_length in [true, false] {
        receives(Multipart {
            boundary: "frame",
            delimiter: "--frame",
            has_length,
            pictures_per_second: 1,
        });
    }
}

#[test]
fn five_pictures_a_second_are_received_with_any_boundary() {
    for (boundary, delimiter) in [
        ("frame", "--frame"),
        // The dashes are part of the boundary, or are taken for it.
        ("--frame", "--frame"),
        ("--frame", "----frame"),
        ("\"my boundary\"", "--my boundary"),
    ] {
        for has_length in [true, false] {
            receives(Multipart {
                boundary,
                delimiter,
                has_length,
                pictures_per_second: 5,
            });
        }
    }
}

/// A picture without its end has a grey part, which would be judged.
#[test]
fn cut_pictures_are_dropped() {
    let mut cut = picture();
    cut.truncate(cut.len() / 2);
    let multipart = Multipart {
        boundary: "frame",
        delimiter: "--frame",
        has_length: true,
        pictures_per_second: 5,
    };
    let camera = HttpCamera::start(cut, multipart.clone());
    let bad = source(&camera.url(), None);
    let intact = HttpCamera::start(picture(), multipart);
    let good = source(&intact.url(), None);
    until("twenty intact pictures", || (good.slot().seq() >= 20).then_some(()));
    assert_eq!(bad.slot().seq(), 0);
}

/// The login is for the camera, not for whom it names.
#[test]
fn a_redirect_gets_no_login() {
    let (camera, other) = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).into();
    let target = other.local_addr().unwrap();
    let url = format!("http://{}/stream", camera.local_addr().unwrap());
    thread::spawn(move || {
        for stream in camera.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let response =
                format!("HTTP/1.1 302 Found\r\nLocation: http://{target}/stream\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(response.as_bytes());
        }
    });
    let login = Credentials {
        user: Secret::new("admin"),
        password: Secret::new("hunter2"),
    };
    let source = source(&url, Some(login));
    until("two attempts", || (source.slot().stats().reconnects >= 1).then_some(()));
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "the target of the redirect was asked");
}
