//! A client without sockets, and what it said so far.

use std::time::{Duration, Instant};

use gridwatch_base::secret::Credentials;
use url::Url;

use crate::{Client, ClientSettings, Connection, Error, LoginPolicy, Output, Timeouts, Transport};

pub(super) const SDP: &str = "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n";
pub(super) const DIGEST: &str = "WWW-Authenticate: Digest realm=\"r\", nonce=\"secretnonce\"";

/// A client and what it said so far.
pub(super) struct Talk {
    pub(super) client: Client,
    pub(super) now: Instant,
    pub(super) sent: Vec<String>,
    pub(super) posted: Vec<String>,
    pub(super) connects: Vec<String>,
    pub(super) events: Vec<String>,
    pub(super) datagrams: usize,
    pub(super) end: Option<Error>,
}

pub(super) fn settings(transport: Transport) -> ClientSettings {
    ClientSettings {
        url: Url::parse("rtsp://user:geheim@cam/x").unwrap(),
        credentials: Some(Credentials {
            user: "admin".into(),
            password: "geheim".into(),
        }),
        login: LoginPolicy::default(),
        transport,
        user_agent: "test".into(),
        timeouts: Timeouts::default(),
        limits: Default::default(),
    }
}

impl Talk {
    pub(super) fn new(transport: Transport) -> Self {
        Self::with(settings(transport))
    }

    pub(super) fn with(settings: ClientSettings) -> Self {
        let now = Instant::now();
        let mut talk = Self {
            client: Client::new(settings, now, 1),
            now,
            sent: Vec::new(),
            posted: Vec::new(),
            connects: Vec::new(),
            events: Vec::new(),
            datagrams: 0,
            end: None,
        };
        talk.pump();
        talk
    }

    pub(super) fn pump(&mut self) {
        loop {
            match self.client.poll() {
                Output::Idle => return,
                Output::Connect { connection, endpoint } => {
                    self.connects
                        .push(format!("{connection:?} {endpoint} {}", endpoint.tls));
                    self.client.connected(connection, self.now);
                }
                Output::Disconnect(connection) => self.connects.push(format!("{connection:?} closed")),
                Output::Send { connection, data } => {
                    let text = data.iter().map(|&b| char::from(b)).collect();
                    match connection {
                        Connection::Main => self.sent.push(text),
                        Connection::Post => self.posted.push(text),
                    }
                }
                Output::OpenUdp => self.client.udp_ports_open(5000, 5001, self.now),
                Output::UdpPeer(peer) => self.events.push(format!("{peer:?}")),
                Output::SendDatagram { .. } => self.datagrams += 1,
                Output::Event(event) => self.events.push(format!("{event:?}")),
                Output::Closed(error) => {
                    assert!(self.end.is_none(), "closed twice");
                    self.end = Some(error);
                }
            }
        }
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(1 << 10) {
            self.client.read_buffer()[..chunk.len()].copy_from_slice(chunk);
            self.client.received(chunk.len(), self.now);
        }
        self.pump();
    }

    pub(super) fn reply(&mut self, status: u16, headers: &str) {
        let headers = headers.split('\n').map(|h| format!("{h}\r\n")).collect::<String>();
        self.hear(format!("RTSP/1.0 {status}\r\n{headers}\r\n").as_bytes());
    }

    pub(super) fn reply_sdp(&mut self, sdp: &str) {
        let length = sdp.len();
        self.hear(format!("RTSP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n{sdp}").as_bytes());
    }

    pub(super) fn video(&mut self, channel: u8) {
        self.hear(&frame(channel, 0xe0));
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        let is_due = |client: &Client, now| client.next_timeout().is_some_and(|at| at <= now);
        for _ in 0..10 {
            if !is_due(&self.client, self.now) {
                return;
            }
            self.client.timeout(self.now);
            self.pump();
        }
        panic!("a timer that does not move");
    }

    /// What was sent last, reports aside.
    pub(super) fn last(&self) -> &str {
        self.sent.iter().rfind(|s| !s.starts_with('$')).unwrap()
    }

    /// RTP packets given to the receiver of the video.
    pub(super) fn packets(&self) -> u64 {
        self.client.stream_counters().map_or(0, |c| c.packets)
    }

    /// First lines of what was sent.
    pub(super) fn requests(&self) -> Vec<&str> {
        self.sent
            .iter()
            .filter(|s| !s.starts_with('$'))
            .map(|s| s.lines().next().unwrap().trim_end_matches(" RTSP/1.0"))
            .collect()
    }

    pub(super) fn end(&self) -> &Error {
        self.end.as_ref().expect("the client goes on")
    }

    pub(super) fn playing(transport: Transport) -> Self {
        let mut talk = Self::new(transport);
        talk.reply_sdp(SDP);
        talk.reply(200, "Session: 4711;timeout=10");
        talk.reply(200, "X: y");
        talk
    }
}

/// An RTP packet of H.264 whose second byte is `second`, in an interleaved frame.
pub(super) fn frame(channel: u8, second: u8) -> Vec<u8> {
    let packet = [&[0x80, second][..], &[0; 10], &[0x65, 1, 2, 3]].concat();
    crate::message::write_frame(channel, &packet).unwrap()
}
