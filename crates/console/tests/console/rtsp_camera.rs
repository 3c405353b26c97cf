//! A camera on loopback: RTSP over TCP with a Digest login, which sends a clip's pictures in a loop (RFC 2326, RFC 6184).

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use md5::{Digest, Md5};

const CLIP: &[u8] = include_bytes!("../../../rtsp/fixtures/slices.h264");
const REALM: &str = "IP Camera";
const NONCE: &str = "4d6a51784d7a4a";
const MAX_PAYLOAD: usize = 1200;

pub(crate) const USER: &str = "admin";
pub(crate) const PASSWORD: &str = "hunter2:Correct&horse";

/// A running camera; it stops when dropped.
pub(crate) struct RtspCamera {
    pub(crate) port: u16,
    stop: Arc<AtomicBool>,
    /// Logins that were refused.
    pub(crate) refused: Arc<AtomicUsize>,
}

impl RtspCamera {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ends, counts) = (Arc::clone(&stop), Arc::clone(&refused));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (ends, counts) = (Arc::clone(&ends), Arc::clone(&counts));
                // Ends with an error when the client goes.
                thread::spawn(move || serve(&stream, &ends, &counts).ok());
            }
        });
        Self { port, stop, refused }
    }

    pub(crate) fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/Streaming/Channels/101", self.port)
    }
}

impl Drop for RtspCamera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: &TcpStream, stop: &Arc<AtomicBool>, refused: &AtomicUsize) -> std::io::Result<()> {
    let out = Arc::new(Mutex::new(stream.try_clone()?));
    out.lock().unwrap().set_write_timeout(Some(Duration::from_secs(20)))?;
    let mut requests = BufReader::new(stream.try_clone()?);
    let mut is_playing = false;
    while let Some(request) = read_request(&mut requests)? {
        let header = |name: &str| {
            let mut lines = request.lines().filter_map(|line| line.split_once(": "));
            lines
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
        };
        let cseq = header("CSeq").unwrap_or_default();
        let method = request.split(' ').next().unwrap_or_default();
        let (status, more, body) = match method {
            "OPTIONS" => (
                "200 OK",
                "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n".to_owned(),
                String::new(),
            ),
            _ if !is_right(method, header("Authorization").as_deref()) => {
                refused.fetch_add(usize::from(header("Authorization").is_some()), Ordering::Relaxed);
                let ask = format!("WWW-Authenticate: Digest realm=\"{REALM}\", nonce=\"{NONCE}\"\r\n");
                ("401 Unauthorized", ask, String::new())
            }
            "DESCRIBE" => {
                let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
                           a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n";
                let kind = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", sdp.len());
                ("200 OK", kind, sdp.to_owned())
            }
            "SETUP" => {
                let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1;timeout=60\r\n";
                ("200 OK", transport.to_owned(), String::new())
            }
            _ => ("200 OK", "Session: 1\r\n".to_owned(), String::new()),
        };
        let reply = format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{more}\r\n{body}");
        out.lock().unwrap().write_all(reply.as_bytes())?;
        if method == "TEARDOWN" {
            break;
        }
        if method == "PLAY" && status == "200 OK" && !std::mem::replace(&mut is_playing, true) {
            let (out, stop) = (Arc::clone(&out), Arc::clone(stop));
            thread::spawn(move || send(&out, &stop).ok());
        }
    }
    Ok(())
}

/// A request up to its empty line; reports of the client are skipped. `None` at the end of the connection.
fn read_request(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<String>> {
    loop {
        match from.fill_buf()? {
            [] => return Ok(None),
            [b'$', ..] => {
                let mut head = [0; 4];
                from.read_exact(&mut head)?;
                let mut body = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
                from.read_exact(&mut body)?;
            }
            _ => break,
        }
    }
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if from.read_line(&mut text)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(text))
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a login is right (RFC 2069).
fn is_right(method: &str, authorization: Option<&str>) -> bool {
    let Some(fields) = authorization.and_then(|value| value.strip_prefix("Digest ")) else {
        return false;
    };
    let get = |name: &str| {
        let found = fields.split(',').find_map(|field| {
            let (n, value) = field.trim().split_once('=')?;
            (n == name).then(|| value.trim_matches('"').to_owned())
        });
        found.unwrap_or_default()
    };
    let a1 = md5(&format!("{USER}:{REALM}:{PASSWORD}"));
    let a2 = md5(&format!("{method}:{}", get("uri")));
    get("username") == USER && get("response") == md5(&format!("{a1}:{NONCE}:{a2}"))
}

/// The pictures of the clip, each as its NAL units.
fn pictures() -> Vec<Vec<&'static [u8]>> {
    let mut starts: Vec<usize> = (0..CLIP.len() - 2)
        .filter(|i| CLIP[*i..].starts_with(&[0, 0, 1]))
        .collect();
    starts.push(CLIP.len());
    let mut pictures: Vec<Vec<&[u8]>> = Vec::new();
    for pair in starts.windows(2) {
        let nal = &CLIP[pair[0] + 3..pair[1]];
        let nal = nal.strip_suffix(&[0]).unwrap_or(nal);
        // An access unit delimiter.
        if nal[0] & 0x1f == 9 {
            pictures.push(Vec::new());
        }
        pictures.last_mut().unwrap().push(nal);
    }
    // Three groups of four; what follows is the beginning of another.
    pictures.truncate(12);
    pictures
}

/// Sends the clip for as long as the client takes it, four times as fast as it was recorded.
fn send(out: &Mutex<TcpStream>, stop: &AtomicBool) -> std::io::Result<()> {
    let (mut seq, mut timestamp) = (1_u16, 1000_u32);
    for picture in pictures().iter().cycle() {
        let mut payloads: Vec<Vec<u8>> = Vec::new();
        for nal in picture {
            if nal.len() <= MAX_PAYLOAD {
                payloads.push(nal.to_vec());
                continue;
            }
            let (head, chunks) = (nal[0], nal[1..].chunks(MAX_PAYLOAD));
            let count = chunks.len();
            payloads.extend(chunks.enumerate().map(|(i, chunk)| {
                let flags = if i == 0 { 0x80 } else { 0 } | if i + 1 == count { 0x40 } else { 0 };
                [&[(head & 0xe0) | 28, flags | (head & 0x1f)], chunk].concat()
            }));
        }
        let count = payloads.len();
        for (i, payload) in payloads.into_iter().enumerate() {
            let marker = if i + 1 == count { 0xe0 } else { 0x60 };
            let packet = [
                &[0x80, marker][..],
                &seq.to_be_bytes(),
                &timestamp.to_be_bytes(),
                &7_u32.to_be_bytes(),
                &payload,
            ]
            .concat();
            let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
            let frame = [&[b'$', 0][..], &length, &packet].concat();
            out.lock().unwrap().write_all(&frame)?;
            seq = seq.wrapping_add(1);
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        timestamp = timestamp.wrapping_add(3600);
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
