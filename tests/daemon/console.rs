//! The console of a running daemon: what a camera shows, a look on request, pages that are told what changes, and settings that change
//! while it serves.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
};

use serde_json::Value;

use crate::broker::Broker;
use crate::daemon::{Daemon, PATIENCE, farm};
use gridwatch_config::raw;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn connect(port: u16, request: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n").ok()?;
    Some(stream)
}

/// Status and body; `None` if nothing listens there.
fn ask(port: u16, request: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = connect(port, request)?;
    write!(
        stream,
        "Origin: http://127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_off(end + 4)))
}

fn json(port: u16, request: &str) -> (u16, Value) {
    let (status, body) = ask(port, request).unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn the_console_shows_what_the_cameras_see_and_follows_its_settings() {
    let dir = tempfile::tempdir().unwrap();
    let (farm, broker, port) = (farm(&["street-a"]), Broker::start(), free_port());
    let mut daemon = Daemon::start_with(dir.path(), &farm, &["street-a"], broker.port, |file| {
        file.console.listen = format!("127.0.0.1:{port}");
    });
    daemon.until("a look", |_| {
        let (status, _) = ask(port, "GET /api/v1/views/street-a/picture")?;
        (status == 200).then_some(())
    });
    let (_, wall) = ask(port, "GET /").unwrap();
    assert!(String::from_utf8_lossy(&wall).contains("street-a"));
    let (status, view) = json(port, "GET /api/v1/views/street-a");
    assert_eq!((status, &view["connection"]), (200, &Value::from("live")), "{view}");
    let (_, picture) = ask(port, "GET /api/v1/views/street-a/picture").unwrap();
    assert_eq!(image::guess_format(&picture).unwrap(), image::ImageFormat::Jpeg);
    assert_eq!(ask(port, "GET /api/v1/views/none/picture").unwrap().0, 404);

    // An open page is told of looks, and its thumbnails are small.
    let mut events = connect(port, "GET /wall/events").unwrap();
    write!(events, "Accept: text/event-stream\r\n\r\n").unwrap();
    let events = BufReader::new(events).lines().map_while(Result::ok);
    let told = events
        .take(400)
        .any(|line| line.starts_with("event:") || line.starts_with("data:"));
    assert!(told, "no event came");
    let (status, thumbnail) = ask(port, "GET /cameras/street-a/thumbnail").unwrap();
    assert_eq!(status, 200);
    assert!(thumbnail.len() <= 8 << 10, "{} bytes", thumbnail.len());
    let width = image::load_from_memory(&thumbnail).unwrap().width();
    assert!((200..=320).contains(&width), "{width} pixels");

    // The settings change while it serves.
    let other = free_port();
    let text = fs::read_to_string(daemon.config()).unwrap();
    let mut file: raw::File = toml::from_str(&text).unwrap();
    file.console.listen = format!("127.0.0.1:{other}");
    fs::write(Path::new(daemon.config()), toml::to_string(&file).unwrap()).unwrap();
    daemon.until("the other address", |_| {
        ask(other, "GET /").filter(|(status, _)| *status == 200)
    });
    assert!(ask(port, "GET /").is_none());
    assert!(daemon.stop().success());
}
