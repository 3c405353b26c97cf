//! A camera with oddities that users of cameras and recorders report: an RTSP server (RFC 2326) on loopback that serves a
//! clip over TCP or UDP (RFC 6184, 7798), with switches.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use gridwatch_base::digest::sha256_hex;
use gridwatch_camera::Codec;
use gridwatch_farm::Clip;
use md5::{Digest, Md5};

/// The user and the password of every odd camera that asks for a login.
pub const USER: &str = "viewer";
pub const PASSWORD: &str = "right-horse";

/// A request as the camera sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub uri: String,
    pub cseq: String,
    pub authorization: Option<String>,
    pub transport: String,
}

/// A login scheme that the camera offers.
#[derive(Debug, Clone, Copy)]
pub enum Offer {
    Basic,
    /// Digest with this algorithm and `qop`; empty: not named.
    Digest {
        algorithm: &'static str,
        qop: &'static str,
    },
}

/// Where the RTP marker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    EndOfPicture,
    EndOfSlice,
    Never,
}

type Answer = dyn Fn(&Request) -> Option<Vec<u8>> + Send + Sync;

/// The oddities of a camera.
#[derive(Clone)]
pub struct Oddities {
    /// Answers a request with these bytes instead of the usual response.
    pub answer: Arc<Answer>,
    /// Schemes offered; empty: no login.
    pub logins: Vec<Offer>,
    /// Accepts each nonce once.
    pub nonce_once: bool,
    /// A redirect of this path's DESCRIBE to that URL.
    pub redirect: Option<(&'static str, String)>,
    /// The `Session` header.
    pub session: &'static str,
    /// Never answers keep-alives.
    pub silent_keep_alive: bool,
    /// The whole session description, in place of the usual one.
    pub sdp: Option<String>,
    /// Access units a second.
    pub fps: u32,
    /// The first unit of the loop: those before are sent once.
    pub loop_from: usize,
    /// Sent in band in place of the SPS.
    pub sps: Option<Vec<u8>>,
    /// A new SSRC after so many units.
    pub ssrc_every: Option<u32>,
    /// Leaves access unit delimiters out.
    pub no_delimiters: bool,
    pub marker: Marker,
    /// Sends another PPS of another id after each.
    pub second_pps: Option<Vec<u8>>,
    /// Loses each packet with this number, counted modulo.
    pub lose_every: Option<u32>,
    /// After PLAY, sends packets of this length at full speed.
    pub flood: Option<usize>,
    /// Closes the connection after so many units.
    pub hang_up_after: Option<u32>,
    /// Leaves keyframes out.
    pub no_keyframes: bool,
    /// Sends this baseline JPEG as every picture (RFC 2435), and not the clip.
    pub jpeg: Option<Vec<u8>>,
}

impl Default for Oddities {
    fn default() -> Self {
        Self {
            answer: Arc::new(|_| None),
            logins: Vec::new(),
            nonce_once: false,
            redirect: None,
            session: "4711;timeout=60",
            silent_keep_alive: false,
            sdp: None,
            fps: 25,
            loop_from: 0,
            sps: None,
            ssrc_every: None,
            no_delimiters: false,
            marker: Marker::EndOfPicture,
            second_pps: None,
            lose_every: None,
            flood: None,
            hang_up_after: None,
            no_keyframes: false,
            jpeg: None,
        }
    }
}

#[derive(Default)]
struct Counts {
    connections: AtomicU32,
    logins: AtomicU32,
    keep_alives: AtomicU32,
}

/// A running odd camera; stops on drop.
pub struct OddCamera {
    port: u16,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl OddCamera {
    pub fn start(clip: &Arc<Clip>, oddities: Oddities) -> Self {
        Self::start_on(0, clip, oddities)
    }

    /// Starts it on this port; 0: any.
    pub fn start_on(port: u16, clip: &Arc<Clip>, oddities: Oddities) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let client = Client {
            clip: Arc::clone(clip),
            oddities: Arc::new(oddities),
            stop: Arc::clone(&stop),
            counts: Arc::clone(&counts),
            port,
        };
        let thread = std::thread::spawn(move || {
            let mut clients = Vec::new();
            while !client.stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        client.counts.connections.fetch_add(1, Ordering::Relaxed);
                        let client = client.clone();
                        // Ends with an error when the other side disconnects.
                        clients.push(std::thread::spawn(move || drop(client.serve(&stream))));
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
                    Err(e) => panic!("accept: {e}"),
                }
            }
            drop(listener);
            for client in clients {
                let _ = client.join();
            }
        });
        Self {
            port,
            stop,
            counts,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/cam", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Connections so far.
    pub fn connections(&self) -> u32 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Requests with a login so far.
    pub fn logins(&self) -> u32 {
        self.counts.logins.load(Ordering::Relaxed)
    }

    /// Keep-alives so far, answered or not.
    pub fn keep_alives(&self) -> u32 {
        self.counts.keep_alives.load(Ordering::Relaxed)
    }
}

impl Drop for OddCamera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Clone)]
struct Client {
    clip: Arc<Clip>,
    oddities: Arc<Oddities>,
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    port: u16,
}

/// Where packets go.
enum Way {
    Interleaved(Arc<Mutex<TcpStream>>),
    Udp(UdpSocket, SocketAddr),
}

impl Way {
    fn send(&self, packet: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Interleaved(stream) => {
                let mut frame = vec![b'$', 0];
                frame.extend((packet.len() as u16).to_be_bytes());
                frame.extend(packet);
                stream.lock().unwrap().write_all(&frame)
            }
            Self::Udp(socket, to) => socket.send_to(packet, to).map(|_| ()),
        }
    }
}

impl Client {
    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        let out = Arc::new(Mutex::new(stream.try_clone()?));
        let mut requests = BufReader::new(stream.try_clone()?);
        let (mut nonce, mut udp, mut sender) = (String::new(), None, None);
        let mut is_over = false;
        while !self.stop.load(Ordering::Relaxed) && !is_over {
            let Some(request) = read_request(&mut requests)? else {
                continue;
            };
            if request.authorization.is_some() {
                self.counts.logins.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(bytes) = (self.oddities.answer)(&request) {
                out.lock().unwrap().write_all(&bytes)?;
                continue;
            }
            if !self.may_pass(&request, &mut nonce) {
                nonce = format!("{:016x}", fastrand::u64(..));
                self.reply(&out, &request, "401 Unauthorized", &self.challenges(&nonce), "")?;
                continue;
            }
            let session = format!("Session: {}\r\n", self.oddities.session);
            match request.method.as_str() {
                "DESCRIBE" => match &self.oddities.redirect {
                    Some((path, to)) if request.uri.ends_with(path) => {
                        let to = to.replace("{port}", &self.port.to_string());
                        self.reply(
                            &out,
                            &request,
                            "302 Moved Temporarily",
                            &format!("Location: {to}\r\n"),
                            "",
                        )?;
                    }
                    _ => {
                        let type_ = "Content-Type: application/sdp\r\n";
                        self.reply(&out, &request, "200 OK", type_, &self.sdp())?;
                    }
                },
                "SETUP" => {
                    let (header, socket) = set_up(&request, stream)?;
                    udp = socket;
                    self.reply(&out, &request, "200 OK", &(header + &session), "")?;
                }
                "PLAY" => {
                    self.reply(&out, &request, "200 OK", &session, "")?;
                    let way = match udp.take() {
                        Some((socket, to)) => Way::Udp(socket, to),
                        None => Way::Interleaved(Arc::clone(&out)),
                    };
                    let (client, closing) = (self.clone(), stream.try_clone()?);
                    sender = Some(std::thread::spawn(move || {
                        let _ = client.send(&way);
                        let _ = closing.shutdown(std::net::Shutdown::Both);
                    }));
                }
                "TEARDOWN" => is_over = true,
                _ => {
                    self.counts.keep_alives.fetch_add(1, Ordering::Relaxed);
                    if !self.oddities.silent_keep_alive {
                        self.reply(&out, &request, "200 OK", "", "")?;
                    }
                }
            }
        }
        let _ = stream.shutdown(std::net::Shutdown::Both);
        if let Some(sender) = sender {
            let _ = sender.join();
        }
        Ok(())
    }

    fn reply(
        &self,
        out: &Mutex<TcpStream>,
        request: &Request,
        status: &str,
        headers: &str,
        body: &str,
    ) -> std::io::Result<()> {
        let length = match body.len() {
            0 => String::new(),
            n => format!("Content-Length: {n}\r\n"),
        };
        let reply = format!(
            "RTSP/1.0 {status}\r\nCSeq: {}\r\n{headers}{length}\r\n{body}",
            request.cseq
        );
        out.lock().unwrap().write_all(reply.as_bytes())
    }

    fn challenges(&self, nonce: &str) -> String {
        let challenge = |offer: &Offer| match offer {
            Offer::Basic => "WWW-Authenticate: Basic realm=\"cam\"\r\n".to_owned(),
            Offer::Digest { algorithm, qop } => {
                let mut header = format!("WWW-Authenticate: Digest realm=\"cam\", nonce=\"{nonce}\"");
                if !algorithm.is_empty() {
                    header += &format!(", algorithm={algorithm}");
                }
                if !qop.is_empty() {
                    header += &format!(", qop=\"{qop}\"");
                }
                header + "\r\n"
            }
        };
        self.oddities.logins.iter().map(challenge).collect()
    }

    /// RFC 7616, 3.4.1.
    fn may_pass(&self, request: &Request, nonce: &mut String) -> bool {
        if self.oddities.logins.is_empty() {
            return true;
        }
        let Some(given) = &request.authorization else {
            return false;
        };
        if let Some(basic) = given.strip_prefix("Basic ") {
            let is_offered = self.oddities.logins.iter().any(|o| matches!(o, Offer::Basic));
            return is_offered && basic == BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"));
        }
        let field = |name: &str| digest_field(given, name);
        if nonce.is_empty() || field("nonce") != *nonce {
            return false;
        }
        let named = field("algorithm");
        let offered = self.oddities.logins.iter().find_map(|o| match o {
            Offer::Digest { algorithm, qop } if named == *algorithm || algorithm.is_empty() => Some((*algorithm, *qop)),
            _ => None,
        });
        let Some((algorithm, qop)) = offered else { return false };
        let hash = |text: String| match algorithm.starts_with("SHA-256") {
            true => sha256_hex(text.as_bytes()),
            false => hex(&Md5::digest(text.as_bytes())),
        };
        let first = hash(format!("{USER}:cam:{PASSWORD}"));
        let mut second = format!("{}:{}", request.method, field("uri"));
        if qop == "auth-int" {
            second += &format!(":{}", hash(String::new()));
        }
        let second = hash(second);
        let wanted = match qop {
            "" => hash(format!("{first}:{nonce}:{second}")),
            _ => hash(format!(
                "{first}:{nonce}:{}:{}:{}:{second}",
                field("nc"),
                field("cnonce"),
                field("qop")
            )),
        };
        let is_right = field("username") == USER && wanted == field("response");
        if is_right && self.oddities.nonce_once {
            nonce.clear();
        }
        is_right
    }

    fn sdp(&self) -> String {
        if let Some(sdp) = &self.oddities.sdp {
            return sdp.clone();
        }
        if self.oddities.jpeg.is_some() {
            return "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=odd\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"
                .into();
        }
        let codec = self.clip.codec();
        let units = self.clip.units();
        let sets: Vec<_> = nals(&units[0].data).filter(|n| is_parameter_set(codec, n)).collect();
        let sets: Vec<_> = sets.iter().map(|set| BASE64_STANDARD.encode(set)).collect();
        let (name, parameters) = match codec {
            Codec::H264 => (
                "H264",
                format!("packetization-mode=1;sprop-parameter-sets={}", sets.join(",")),
            ),
            Codec::H265 => (
                "H265",
                format!("sprop-vps={};sprop-sps={};sprop-pps={}", sets[0], sets[1], sets[2]),
            ),
        };
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=odd\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n\
             a=rtpmap:96 {name}/90000\r\na=fmtp:96 {parameters}\r\na=control:track1\r\n"
        )
    }

    fn send(&self, way: &Way) -> std::io::Result<()> {
        let oddities = &self.oddities;
        let (mut sequence, mut timestamp, mut ssrc, mut sent) = (65_500_u16, 4_294_900_000_u32, 0x1122_3344_u32, 0_u32);
        let payload_type = if oddities.jpeg.is_some() { 26 } else { 96 };
        let header = |sequence: u16, timestamp: u32, ssrc: u32, marker: bool| {
            let mut packet = vec![0x80, payload_type | if marker { 0x80 } else { 0 }];
            packet.extend(sequence.to_be_bytes());
            packet.extend(timestamp.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet
        };
        if let Some(length) = oddities.flood {
            while !self.stop.load(Ordering::Relaxed) {
                let mut packet = header(sequence, timestamp, ssrc, false);
                packet.extend([0x41, 0xe0]);
                packet.resize(length.max(14), 0x5a);
                way.send(&packet)?;
                sequence = sequence.wrapping_add(1);
            }
            return Ok(());
        }
        let units = self.clip.units();
        let began = Instant::now();
        for number in 0.. {
            let index = match number as usize {
                n if n < units.len() => n,
                n => oddities.loop_from + (n - units.len()) % (units.len() - oddities.loop_from),
            };
            if number > 0 && oddities.ssrc_every.is_some_and(|every| number % every == 0) {
                ssrc = ssrc.wrapping_add(0x0101_0101);
            }
            if self.stop.load(Ordering::Relaxed) || oddities.hang_up_after == Some(number) {
                return Ok(());
            }
            if oddities.no_keyframes && units[index].keyframe {
                continue;
            }
            let payloads = match &oddities.jpeg {
                Some(jpeg) => jpeg_payloads(jpeg),
                None => self.payloads(&units[index].data),
            };
            for (payload, ends_nal, ends_unit) in payloads {
                let marker = match oddities.marker {
                    Marker::EndOfPicture => ends_unit,
                    Marker::EndOfSlice => ends_nal,
                    Marker::Never => false,
                };
                let mut packet = header(sequence, timestamp, ssrc, marker);
                packet.extend(payload);
                sequence = sequence.wrapping_add(1);
                sent += 1;
                if oddities.lose_every.is_none_or(|every| sent % every != 0) {
                    way.send(&packet)?;
                }
            }
            timestamp = timestamp.wrapping_add(90_000 / oddities.fps);
            let due = began + Duration::from_secs(1) * (number + 1) / oddities.fps;
            while Instant::now() < due && !self.stop.load(Ordering::Relaxed) {
                std::thread::sleep(
                    due.saturating_duration_since(Instant::now())
                        .min(Duration::from_millis(50)),
                );
            }
        }
        Ok(())
    }

    /// RTP payloads of an access unit, and whether each ends a NAL unit and the access unit.
    fn payloads(&self, unit: &[u8]) -> Vec<(Vec<u8>, bool, bool)> {
        let (codec, oddities) = (self.clip.codec(), &self.oddities);
        let mut payloads = Vec::new();
        for nal in nals(unit) {
            let kind = nal_kind(codec, nal);
            let is_delimiter = kind == if codec == Codec::H264 { 9 } else { 35 };
            if is_delimiter && oddities.no_delimiters {
                continue;
            }
            let is_sps = kind == if codec == Codec::H264 { 7 } else { 33 };
            let nal = match &oddities.sps {
                Some(sps) if is_sps => sps,
                _ => nal,
            };
            fragment(codec, nal, &mut payloads);
            if kind == 8
                && codec == Codec::H264
                && let Some(pps) = &oddities.second_pps
            {
                fragment(codec, pps, &mut payloads);
            }
        }
        let count = payloads.len();
        let numbered = payloads.into_iter().enumerate();
        numbered
            .map(|(i, (payload, ends_nal))| (payload, ends_nal, i + 1 == count))
            .collect()
    }
}

/// The transport header of the answer, and for UDP the camera's socket and where it sends to.
fn set_up(request: &Request, stream: &TcpStream) -> std::io::Result<(String, Option<(UdpSocket, SocketAddr)>)> {
    let Some(ports) = request.transport.split("client_port=").nth(1) else {
        return Ok(("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n".into(), None));
    };
    let port: u16 = ports.split('-').next().and_then(|p| p.parse().ok()).unwrap_or(0);
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let own = socket.local_addr()?.port();
    let to = (stream.peer_addr()?.ip(), port).into();
    let header = format!(
        "Transport: RTP/AVP;unicast;client_port={ports};server_port={own}-{}\r\n",
        own.wrapping_add(1)
    );
    Ok((header, Some((socket, to))))
}

/// The next request; `None` on timeout or after an interleaved packet.
fn read_request(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    match from.fill_buf() {
        Ok([]) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok([b'$', ..]) => {
            let mut head = [0; 4];
            from.read_exact(&mut head)?;
            let mut body = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
            from.read_exact(&mut body)?;
            return Ok(None);
        }
        Ok(_) => {}
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
        Err(e) => return Err(e),
    }
    let mut line = String::new();
    from.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        uri: words.next().unwrap_or_default(),
        cseq: String::new(),
        authorization: None,
        transport: String::new(),
    };
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(request));
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name {
                "CSeq" => request.cseq = value.to_owned(),
                "Authorization" => request.authorization = Some(value.to_owned()),
                "Transport" => request.transport = value.to_owned(),
                _ => {}
            }
        }
    }
}

/// The field of a `Digest` header, quoted or not.
fn digest_field(header: &str, name: &str) -> String {
    let found = header.trim_start_matches("Digest").split(',').find_map(|part| {
        let (key, value) = part.trim().split_once('=')?;
        (key == name).then(|| value.trim_matches('"').to_owned())
    });
    found.unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The NAL units of an Annex B stream, without start codes.
pub fn nals(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    super::scripted_camera::nals(data)
}

pub fn nal_kind(codec: Codec, nal: &[u8]) -> u8 {
    match codec {
        Codec::H264 => nal[0] & 0x1f,
        Codec::H265 => (nal[0] >> 1) & 0x3f,
    }
}

fn is_parameter_set(codec: Codec, nal: &[u8]) -> bool {
    match codec {
        Codec::H264 => matches!(nal_kind(codec, nal), 7 | 8),
        Codec::H265 => matches!(nal_kind(codec, nal), 32..=34),
    }
}

/// Appends the RTP payloads of a NAL unit, and whether each is its last.
fn fragment(codec: Codec, nal: &[u8], payloads: &mut Vec<(Vec<u8>, bool)>) {
    const MAX_PAYLOAD: usize = 1200;
    if nal.len() <= MAX_PAYLOAD {
        payloads.push((nal.to_vec(), true));
        return;
    }
    let head = if codec == Codec::H264 { 1 } else { 2 };
    let chunks = nal[head..].chunks(MAX_PAYLOAD);
    let count = chunks.len();
    for (i, chunk) in chunks.enumerate() {
        let (start, end) = (if i == 0 { 0x80 } else { 0 }, if i + 1 == count { 0x40 } else { 0 });
        let mut payload = match codec {
            Codec::H264 => vec![(nal[0] & 0xe0) | 28, start | end | (nal[0] & 0x1f)],
            Codec::H265 => vec![(nal[0] & 0x81) | (49 << 1), nal[1], start | end | nal_kind(codec, nal)],
        };
        payload.extend_from_slice(chunk);
        payloads.push((payload, i + 1 == count));
    }
}

/// The RTP payloads of a baseline JPEG with 8-bit tables and 4:2:0 or 4:2:2 (RFC 2435, 3.1).
fn jpeg_payloads(jpeg: &[u8]) -> Vec<(Vec<u8>, bool, bool)> {
    const MAX_PAYLOAD: usize = 1200;
    let (mut tables, mut size, mut kind, mut at) = (Vec::new(), [0_u8; 2], 1, 2);
    let scan = loop {
        let (marker, length) = (
            jpeg[at + 1],
            usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])),
        );
        let segment = &jpeg[at + 4..at + 2 + length];
        match marker {
            0xdb => segment.chunks(65).for_each(|table| tables.extend(&table[1..])),
            0xc0 => {
                let side = |high: usize| (u16::from_be_bytes([segment[high], segment[high + 1]]) / 8) as u8;
                size = [side(3), side(1)];
                kind = if segment[7] == 0x21 { 0 } else { 1 };
            }
            0xda => break &jpeg[at + 2 + length..jpeg.len() - 2],
            _ => {}
        }
        at += 2 + length;
    };
    let count = scan.len().div_ceil(MAX_PAYLOAD);
    let payload = |(i, chunk): (usize, &[u8])| {
        let offset = ((i * MAX_PAYLOAD) as u32).to_be_bytes();
        let mut payload = vec![0, offset[1], offset[2], offset[3], kind, 255, size[0], size[1]];
        if i == 0 {
            payload.extend([0, 0]);
            payload.extend((tables.len() as u16).to_be_bytes());
            payload.extend(&tables);
        }
        payload.extend(chunk);
        (payload, i + 1 == count, i + 1 == count)
    };
    scan.chunks(MAX_PAYLOAD).enumerate().map(payload).collect()
}
