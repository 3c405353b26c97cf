//! A camera that plays a script: what it expects to read, and what it then writes.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread::JoinHandle,
};

/// One step of a connection.
pub(crate) enum Line {
    /// Reads a request that begins so and contains the rest, and answers it.
    On(&'static [&'static str], String),
    /// Writes bytes.
    Write(Vec<u8>),
    /// Hangs up.
    Close,
}

/// A running camera. Each script is one connection, in order.
pub(crate) struct Camera {
    pub(crate) port: u16,
    thread: JoinHandle<Vec<String>>,
}

impl Camera {
    /// Serves the connections of `scripts`, whose texts may contain `{port}`.
    pub(crate) fn start(scripts: Vec<Vec<Line>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for script in scripts {
                let (stream, _) = listener.accept().unwrap();
                play(stream, script, port, &mut heard);
            }
            heard
        });
        Self { port, thread }
    }

    /// Every request read, once all connections are over.
    pub(crate) fn heard(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

fn play(mut stream: TcpStream, script: Vec<Line>, port: u16, heard: &mut Vec<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for line in script {
        match line {
            Line::On(parts, answer) => {
                let request = read_request(&mut reader);
                for part in parts {
                    let part = part.replace("{port}", &port.to_string());
                    assert!(request.contains(&part), "expected {part:?} in {request:?}");
                }
                heard.push(request);
                let answer = answer.replace("{port}", &port.to_string());
                stream.write_all(answer.as_bytes()).unwrap();
            }
            Line::Write(bytes) => stream.write_all(&bytes).unwrap(),
            Line::Close => return,
        }
    }
    // Whatever else, such as TEARDOWN, until the client hangs up.
    while !read_request(&mut reader).is_empty() {
        let _ = stream.write_all(b"RTSP/1.0 200 OK\r\n\r\n");
    }
}

/// A request up to its empty line; empty at the end of the connection. Interleaved frames are skipped.
fn read_request(reader: &mut impl BufRead) -> String {
    let mut text = String::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return text;
        }
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() && !text.is_empty() {
            return text;
        }
        text.push_str(&line);
    }
}

/// A session description of H.264 with this control URL.
pub(crate) fn description(control: &str) -> String {
    let sdp = format!("v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:{control}\r\n");
    format!(
        "Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

/// A keyframe as one RTP packet each for SPS, PPS and IDR slice, in interleaved frames. `n` numbers the pictures.
pub(crate) fn picture(channel: u8, n: u16) -> Vec<u8> {
    // 640x480 baseline.
    let sps = &[
        0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x3d, 0xb0, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03,
        0x00, 0x32, 0x0f, 0x16, 0x2e, 0x48,
    ][..];
    let pps = &[0x68, 0xcb, 0x83, 0xcb, 0x20][..];
    let idr = &[0x65, 0x88, 0x84, 0x0a, 0xf2, 0x62, 0x80, 0x00, 0xa7, 0xbe][..];
    let mut frames = Vec::new();
    for (i, nal) in [sps, pps, idr].into_iter().enumerate() {
        let [high, low] = (3 * n + u16::try_from(i).unwrap()).to_be_bytes();
        let marker = if i == 2 { 0xe0 } else { 0x60 };
        let time = (u32::from(n) * 9000).to_be_bytes();
        let packet = [&[0x80, marker, high, low][..], &time, &[1, 2, 3, 4], nal].concat();
        let [high, low] = u16::try_from(packet.len()).unwrap().to_be_bytes();
        frames.extend([b'$', channel, high, low]);
        frames.extend(packet);
    }
    frames
}
