//! A misbehaving camera: a minimal RTSP server (RFC 2326) over TCP that sends a clip's access units as interleaved RTP
//! (RFC 6184). For faults that gst-rtsp-server cannot produce.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use gridwatch_farm::Clip;

/// One RTP packet before it is sent.
#[derive(Clone)]
pub struct Packet {
    pub seq: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload: Vec<u8>,
}

/// Position of a packet in the stream.
#[derive(Clone, Copy)]
pub struct Position {
    /// Index of the access unit since the start of the connection.
    pub unit: u32,
    /// The access unit is a keyframe.
    pub keyframe: bool,
    /// Index of the packet within the access unit, and their number.
    pub packet: usize,
    pub packets: usize,
    /// Index of the NAL unit within the access unit, and their number.
    pub nal: usize,
    pub nals: usize,
}

type Mangle = dyn Fn(Position, Packet) -> Vec<Packet> + Send + Sync;

/// The faults of a camera.
#[derive(Clone)]
pub struct Script {
    /// Accepts connections and never answers.
    pub mute: bool,
    /// Sends parameter sets in the SDP only.
    pub sets_in_sdp_only: bool,
    /// Timeout of the RTSP session in seconds; clients send two keep-alives in that time.
    pub session_timeout: u32,
    /// Status code and reason of the response to keep-alives.
    pub keepalive: &'static str,
    /// Replaces each packet. Sequence numbers count packets that are left out.
    pub mangle: Arc<Mangle>,
    /// Bytes sent after the response to PLAY, before the first packet.
    pub garbage: Vec<u8>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            mute: false,
            sets_in_sdp_only: false,
            session_timeout: 60,
            keepalive: "200 OK",
            mangle: Arc::new(|_, packet| vec![packet]),
            garbage: Vec::new(),
        }
    }
}

/// A running scripted camera.
pub struct ScriptedCamera {
    port: u16,
    stop: Arc<AtomicBool>,
    keepalives: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedCamera {
    pub fn start(clip: &Arc<Clip>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (keepalives, connections) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let thread = std::thread::spawn({
            let (clip, stop) = (Arc::clone(clip), Arc::clone(&stop));
            let (keepalives, connections) = (Arc::clone(&keepalives), Arc::clone(&connections));
            move || {
                let mut clients = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            connections.fetch_add(1, Ordering::Relaxed);
                            let client = Client {
                                stream,
                                clip: Arc::clone(&clip),
                                script: script.clone(),
                                stop: Arc::clone(&stop),
                                keepalives: Arc::clone(&keepalives),
                            };
                            // Ends with an error when the client disconnects.
                            clients.push(std::thread::spawn(move || drop(client.serve())));
                        }
                        Err(e) if e.kind() == ErrorKind::WouldBlock => {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        Err(e) => panic!("accept: {e}"),
                    }
                }
                for client in clients {
                    let _ = client.join();
                }
            }
        });
        Self {
            port,
            stop,
            keepalives,
            connections,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    /// Number of keep-alives answered.
    pub fn keepalives(&self) -> u32 {
        self.keepalives.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for ScriptedCamera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Client {
    stream: TcpStream,
    clip: Arc<Clip>,
    script: Script,
    stop: Arc<AtomicBool>,
    keepalives: Arc<AtomicU32>,
}

impl Client {
    fn serve(self) -> std::io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        // A client that does not read must not block the test.
        self.stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let out = Arc::new(Mutex::new(self.stream.try_clone()?));
        let mut requests = BufReader::new(self.stream.try_clone()?);
        let mut sender: Option<JoinHandle<()>> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(request) = read_request(&mut requests)? else {
                continue;
            };
            if self.script.mute {
                continue;
            }
            let (method, cseq) = request;
            let session = format!("Session: 1;timeout={}\r\n", self.script.session_timeout);
            let (status, headers, body) = match method.as_str() {
                "DESCRIBE" => {
                    let sdp = self.sdp();
                    let headers = format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", sdp.len());
                    ("200 OK", headers, sdp)
                }
                "SETUP" => {
                    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n";
                    ("200 OK", format!("{transport}{session}"), String::new())
                }
                "PLAY" => ("200 OK", session, String::new()),
                "TEARDOWN" => return Ok(()),
                _ => {
                    self.keepalives.fetch_add(1, Ordering::Relaxed);
                    (self.script.keepalive, String::new(), String::new())
                }
            };
            let reply = format!("RTSP/1.0 {status}\r\nCSeq: {cseq}\r\n{headers}\r\n{body}");
            out.lock().unwrap().write_all(reply.as_bytes())?;
            if method == "PLAY" && sender.is_none() {
                let (clip, script) = (Arc::clone(&self.clip), self.script.clone());
                let (out, stop) = (Arc::clone(&out), Arc::clone(&self.stop));
                sender = Some(std::thread::spawn(move || {
                    drop(send(&clip, &script, &out, &stop));
                }));
            }
        }
        Ok(())
    }

    fn sdp(&self) -> String {
        let first = &self.clip.units()[0].data;
        let sets: Vec<_> = nals(first)
            .filter(|n| is_parameter_set(n))
            .map(|n| BASE64_STANDARD.encode(n))
            .collect();
        let fmtp = if self.script.sets_in_sdp_only {
            format!(";sprop-parameter-sets={}", sets.join(","))
        } else {
            String::new()
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=scripted\r\nt=0 0\r\n\
             m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
             a=fmtp:96 packetization-mode=1{fmtp}\r\na=control:track1\r\n"
        )
    }
}

/// The method and CSeq of the next request; `None` on timeout or after an interleaved packet.
fn read_request(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, String)>> {
    match from.fill_buf() {
        Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
        // An interleaved RTCP receiver report: `$`, channel, length.
        Ok([b'$', ..]) => {
            let mut head = [0; 4];
            from.read_exact(&mut head)?;
            let mut body = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
            from.read_exact(&mut body)?;
            return Ok(None);
        }
        Ok(_) => {}
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    }
    let (mut method, mut cseq) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some((method, cseq)));
        }
        if method.is_empty() {
            method = line.split(' ').next().unwrap_or_default().to_owned();
        }
        if let Some(n) = line.strip_prefix("CSeq: ") {
            cseq = n.to_owned();
        }
    }
}

/// Sends the clip in a loop at four times its speed.
fn send(clip: &Clip, script: &Script, out: &Mutex<TcpStream>, stop: &AtomicBool) -> std::io::Result<()> {
    out.lock().unwrap().write_all(&script.garbage)?;
    let (mut seq, mut timestamp) = (65_530u16, 1000u32);
    for (unit, au) in (0u32..).zip(clip.units().iter().cycle()) {
        let sets = !script.sets_in_sdp_only;
        let units: Vec<_> = nals(&au.data).filter(|n| sets || !is_parameter_set(n)).collect();
        let nals = units.len();
        let payloads: Vec<_> = units
            .into_iter()
            .enumerate()
            .flat_map(|(i, nal)| fragments(nal).into_iter().map(move |f| (i, f)))
            .collect();
        let packets = payloads.len();
        for (packet, (nal, payload)) in payloads.into_iter().enumerate() {
            let position = Position {
                unit,
                keyframe: au.keyframe,
                packet,
                packets,
                nal,
                nals,
            };
            let original = Packet {
                seq,
                timestamp,
                marker: packet + 1 == packets,
                payload,
            };
            seq = seq.wrapping_add(1);
            for p in (script.mangle)(position, original) {
                let mut bytes = vec![b'$', 0];
                bytes.extend(((p.payload.len() + 12) as u16).to_be_bytes());
                bytes.extend([0x80, 96 | if p.marker { 0x80 } else { 0 }]);
                bytes.extend(p.seq.to_be_bytes());
                bytes.extend(p.timestamp.to_be_bytes());
                bytes.extend(7u32.to_be_bytes());
                bytes.extend(p.payload);
                out.lock().unwrap().write_all(&bytes)?;
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
        }
        timestamp = timestamp.wrapping_add(3600);
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The NAL units of an Annex B stream, without start codes.
pub fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut starts: Vec<_> = data
        .windows(3)
        .enumerate()
        .filter(|(_, w)| *w == [0, 0, 1])
        .map(|(i, _)| i)
        .collect();
    starts.push(data.len());
    let cuts: Vec<_> = starts.windows(2).map(|w| (w[0] + 3, w[1])).collect();
    cuts.into_iter().map(|(from, to)| {
        let nal = &data[from..to];
        nal.strip_suffix(&[0]).unwrap_or(nal)
    })
}

fn is_parameter_set(nal: &[u8]) -> bool {
    matches!(nal[0] & 0x1f, 7 | 8)
}

/// RTP payloads of one NAL unit: the NAL unit itself, or FU-A fragments.
fn fragments(nal: &[u8]) -> Vec<Vec<u8>> {
    const MAX_PAYLOAD: usize = 1200;
    if nal.len() <= MAX_PAYLOAD {
        return vec![nal.to_vec()];
    }
    let (head, body) = (nal[0], &nal[1..]);
    let count = body.len().div_ceil(MAX_PAYLOAD);
    body.chunks(MAX_PAYLOAD)
        .enumerate()
        .map(|(i, chunk)| {
            let start = if i == 0 { 0x80 } else { 0 };
            let end = if i + 1 == count { 0x40 } else { 0 };
            let mut payload = vec![(head & 0xe0) | 28, start | end | (head & 0x1f)];
            payload.extend_from_slice(chunk);
            payload
        })
        .collect()
}
