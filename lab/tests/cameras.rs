//! `gridwatch-lab cameras`: serves the clips that it is given, names their URLs, and ends when it is told to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use support::lab;

struct Cameras(Child);

impl Drop for Cameras {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn clip(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/clips").join(name);
    path.with_extension("mp4").to_str().unwrap().to_owned()
}

/// The running command and its cameras, as names and URLs.
fn serve(arguments: &[&str]) -> (Cameras, Vec<(String, String)>) {
    let command = [&["cameras", "--json"], arguments].concat();
    let mut cameras = Cameras(lab(&command).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(cameras.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let served: Vec<serde_json::Value> = serde_json::from_str(&line).unwrap();
    let text = |camera: &serde_json::Value, key: &str| camera[key].as_str().unwrap().to_owned();
    let served = served.iter().map(|camera| (text(camera, "name"), text(camera, "url")));
    (cameras, served.collect())
}

/// The status line of a camera's answer to DESCRIBE.
fn describe(url: &str) -> String {
    let authority = url.strip_prefix("rtsp://").unwrap().split('/').next().unwrap();
    let mut stream = TcpStream::connect(authority).unwrap();
    write!(stream, "DESCRIBE {url} RTSP/1.0\r\nCSeq: 1\r\n\r\n").unwrap();
    let mut answer = [0; 32];
    stream.read_exact(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.lines().next().unwrap().to_owned()
}

#[test]
fn each_clip_is_served_as_often_as_asked_until_the_command_is_told_to_end() {
    let (mut cameras, served) = serve(&[&clip("street-a"), &clip("square-c"), "--count", "2"]);
    let names: Vec<_> = served.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["street-a-1", "street-a-2", "square-c-1", "square-c-2"]);
    for (name, url) in &served {
        assert!(url.ends_with(&format!("/{name}")), "{url}");
        assert_eq!(describe(url), "RTSP/1.0 200 OK");
    }
    kill_process(Pid::from_child(&cameras.0), Signal::TERM).unwrap();
    assert!(cameras.0.wait().unwrap().success());
}

#[test]
fn a_login_is_asked_for() {
    let (_cameras, served) = serve(&[&clip("street-b"), "--user", "admin", "--password", "of-this-test"]);
    assert_eq!(describe(&served[0].1), "RTSP/1.0 401 Unauthorized");
}

#[test]
fn what_cannot_be_served_is_named() {
    for (arguments, message) in [
        (vec!["no-such-clip.mp4".to_owned()], "no-such-clip.mp4"),
        (
            vec![clip("street-a"), clip("street-a")],
            "another clip is served as street-a",
        ),
    ] {
        let arguments = [vec!["cameras".to_owned()], arguments].concat();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = lab(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(message), "{stderr}");
    }
}
