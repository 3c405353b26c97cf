//! The crate's main type: a session and the receiver of its video stream together.
//!
//! A driver loop: call [`Client::poll`] until [`Output::Idle`] and do what it says; then wait for bytes, a datagram or
//! [`Client::next_timeout`], whichever is first, and pass it in. After [`Output::Closed`] the client is done; a new
//! connection is a new client.

use std::{
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    buffer::Buffer,
    error::{Error, Step},
    message::{
        Limits, leading_number,
        parser::{Item, ParseError, Parser},
        text, write_frame,
    },
    session::{Delivery, Session, UdpPeer},
    settings::{ClientSettings, Endpoint, Transport},
    video::{
        AccessUnit, Assemble, PacketOrder, SenderClock, StreamCounters, StreamProblem, VideoFormat, VideoOutput,
        VideoParameters, VideoReceiver,
    },
};

/// Bytes of an RTP header without extensions (RFC 3550, section 5.1).
const RTP_HEADER: usize = 12;

/// One of the TCP connections to a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The RTSP connection; in the HTTP tunnel the one with the GET request. Its bytes go to [`Client::received`].
    Main,
    /// The connection with the POST request of the HTTP tunnel. Its bytes go to [`Client::post_received`].
    Post,
}

/// One of the two UDP ports of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpPort {
    /// The port of RTP packets.
    Rtp,
    /// The port of RTCP packets.
    Rtcp,
}

/// What the driver has to do next.
pub enum Output {
    /// Nothing, until something arrives or [`Client::next_timeout`] is reached.
    Idle,
    /// Open a connection, then call [`Client::connected`] or [`Client::connection_failed`].
    Connect {
        /// Which.
        connection: Connection,
        /// Where to.
        endpoint: Endpoint,
    },
    /// Close a connection, without a call back.
    Disconnect(Connection),
    /// Write to a connection. Errors of the socket go to [`Client::connection_failed`].
    Send {
        /// Which.
        connection: Connection,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Open two UDP sockets, the second on the port after the first, then call [`Client::udp_ports_open`].
    OpenUdp,
    /// Where the camera sends datagrams from. Only packets from the host of the RTSP connection should be passed in.
    UdpPeer(UdpPeer),
    /// Send a datagram from the client's `port` to the camera's port of the same kind. Without a known port it is
    /// dropped.
    SendDatagram {
        /// Which of the two.
        port: UdpPort,
        /// The datagram.
        data: Vec<u8>,
    },
    /// Something happened.
    Event(Event),
    /// The end. Close all sockets.
    Closed(Error),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("Idle"),
            Self::Connect { connection, endpoint } => write!(f, "Connect {connection:?} to {endpoint}"),
            Self::Disconnect(connection) => write!(f, "Disconnect {connection:?}"),
            // A request contains the login.
            Self::Send { connection, data } => write!(f, "Send {} bytes on {connection:?}", data.len()),
            Self::OpenUdp => f.write_str("OpenUdp"),
            Self::UdpPeer(peer) => peer.fmt(f),
            Self::SendDatagram { port, data } => write!(f, "Send {} bytes from the {port:?} port", data.len()),
            Self::Event(event) => event.fmt(f),
            Self::Closed(error) => write!(f, "Closed: {error}"),
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A step begins.
    Progress(Step),
    /// The camera redirected; the connection is opened anew.
    Redirected {
        /// The URL asked for.
        from: String,
        /// Its target, without a user or password.
        to: String,
        /// Whether credentials are sent there. They are sent to the configured host alone, and not from TLS to an
        /// unencrypted connection.
        with_credentials: bool,
    },
    /// The camera asked for the password in the clear (Basic over an unencrypted connection), and it is sent.
    PasswordInClear,
    /// The camera described its stream.
    Described {
        /// The video stream that is taken.
        format: VideoFormat,
        /// The `Server` header.
        server: Option<String>,
    },
    /// The stream was started.
    Playing {
        /// How it comes.
        transport: Transport,
        /// The session's time-out at the server.
        session_timeout: Duration,
        /// How often the session is kept alive.
        keep_alive: Duration,
    },
    /// A picture.
    Unit(AccessUnit),
    /// The camera ended the stream (RTCP BYE). Packets that come nevertheless are received as before.
    Bye,
    /// A problem of the stream that does not end it.
    Problem(StreamProblem),
}

/// What came over the connection beside the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Bytes that belonged to no frame or message.
    pub garbage_bytes: u64,
    /// Interleaved frames on channels that were not set up, such as metadata.
    pub unassigned_frames: u64,
    /// Responses that no request waited for.
    pub ignored_responses: u64,
    /// Requests of the camera.
    pub server_requests: u64,
}

/// A connection to one camera.
pub struct Client {
    session: Session,
    parser: Parser,
    limits: Limits,
    seed: u64,
    buffer: Buffer,
    received_at: Instant,
    /// Nothing more can be read from the buffer until more arrives.
    is_drained: bool,
    /// An output of `video`.
    pending: Option<VideoOutput>,
    video: Option<VideoReceiver>,
    assemble: Option<Assemble>,
    /// A packet came on the channel that SETUP named.
    is_channel_proven: bool,
    counters: ClientCounters,
    /// Garbage of earlier connections, before a redirect.
    earlier_garbage: u64,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("step", &self.session.step())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that wants to connect. `seed` makes its client nonces and cookies differ from those of others.
    pub fn new(settings: ClientSettings, now: Instant, seed: u64) -> Self {
        let limits = settings.limits;
        Self {
            session: Session::new(settings, now, seed),
            parser: Parser::new(limits),
            limits,
            seed,
            buffer: Buffer::new(),
            received_at: now,
            is_drained: true,
            pending: None,
            video: None,
            assemble: None,
            is_channel_proven: false,
            counters: ClientCounters::default(),
            earlier_garbage: 0,
        }
    }

    /// Which pictures are assembled from now on.
    pub fn set_assemble(&mut self, assemble: Assemble) {
        if let Some(video) = &mut self.video {
            video.set_assemble(assemble);
        }
        self.assemble = Some(assemble);
    }

    /// A connection that [`Output::Connect`] asked for is open, TLS included.
    pub fn connected(&mut self, connection: Connection, _now: Instant) {
        self.session.connected(connection);
    }

    /// A connection could not be opened, or reading or writing failed with `what`.
    pub fn connection_failed(&mut self, what: &str, _now: Instant) {
        self.session.connection_failed(what);
    }

    /// The sockets that [`Output::OpenUdp`] asked for are bound to these ports.
    pub fn udp_ports_open(&mut self, rtp: u16, rtcp: u16, _now: Instant) {
        self.session.udp_ports_open(rtp, rtcp);
    }

    /// Room for bytes of [`Connection::Main`]; never empty.
    pub fn read_buffer(&mut self) -> &mut [u8] {
        self.buffer.room()
    }

    /// The first `len` bytes of [`Client::read_buffer`] were filled; 0: the camera closed the connection.
    pub fn received(&mut self, len: usize, now: Instant) {
        if self.session.is_closed() {
            return self.discard();
        }
        if len == 0 {
            return self
                .session
                .closed_by_peer(Connection::Main, self.parser.partial_body());
        }
        self.buffer.filled(len);
        self.received_at = now;
        self.is_drained = false;
        self.read();
    }

    /// Takes what is unread, up to the next output of the stream: what a driver does not ask for is not piled up.
    fn read(&mut self) {
        let now = self.received_at;
        while self.pending.is_none() && !self.is_drained {
            let (used, item) = match self.parser.next(self.buffer.unread()) {
                Ok(found) => found,
                Err(error) => return self.unreadable(error),
            };
            match item {
                Item::Incomplete => self.is_drained = true,
                Item::Frame { channel, payload } => self.frame(channel, payload, now),
                Item::Response(response) => {
                    let is_expected = self.session.response(&response, now);
                    self.counters.ignored_responses += u64::from(!is_expected);
                }
                Item::Request(request) => {
                    self.counters.server_requests += 1;
                    self.session.server_request(&request, now);
                }
            }
            self.buffer.consume(used);
            if self.session.take_reset() {
                return self.reset();
            }
            if self.session.is_closed() {
                return self.discard();
            }
            self.start_video(now);
            self.pending = self.video.as_mut().and_then(VideoReceiver::poll);
        }
    }

    /// Bytes of [`Connection::Post`]; none: the camera closed it.
    pub fn post_received(&mut self, data: &[u8], _now: Instant) {
        if data.is_empty() {
            return self.session.closed_by_peer(Connection::Post, None);
        }
        // A server that accepts the POST request does not answer it before its end.
        let line = text(&data[..data.len().min(64)]);
        let status = line
            .starts_with("HTTP/")
            .then(|| line.split_ascii_whitespace().nth(1))
            .flatten();
        if let Some(status) = status.and_then(leading_number).and_then(|n| u16::try_from(n).ok()) {
            self.session.post_answered(status);
        }
    }

    /// A datagram from the camera arrived at one of the UDP ports.
    pub fn datagram(&mut self, port: UdpPort, data: &[u8], now: Instant) {
        let is_udp = matches!(self.session.delivery(), Some(Delivery::Udp(_)));
        let Some(video) = self.video.as_mut().filter(|_| is_udp && !self.session.is_closed()) else {
            return;
        };
        match port {
            UdpPort::Rtp if is_rtp(data) => {
                self.session.packet_received(now);
                video.rtp(data, now);
            }
            _ => video.rtcp(data, now),
        }
    }

    /// [`Client::next_timeout`] is reached. Early or late calls do no harm.
    pub fn timeout(&mut self, now: Instant) {
        self.session.timeout(now, self.parser.partial_body());
        if let Some(video) = &mut self.video {
            video.timeout(now);
        }
    }

    /// When [`Client::timeout`] must be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let session = self.session.next_timeout()?;
        let video = self.video.as_ref().and_then(VideoReceiver::next_timeout);
        Some(video.map_or(session, |video| video.min(session)))
    }

    /// What to do next; to be called until [`Output::Idle`].
    pub fn poll(&mut self) -> Output {
        loop {
            // Pictures come before the end.
            if !self.session.is_closing()
                && let Some(output) = self.session.poll()
            {
                return output;
            }
            let pending = self.pending.take();
            match pending.or_else(|| self.video.as_mut().and_then(VideoReceiver::poll)) {
                Some(VideoOutput::Unit(unit)) => return Output::Event(Event::Unit(unit)),
                Some(VideoOutput::Bye) => return Output::Event(Event::Bye),
                Some(VideoOutput::Problem(problem)) => return Output::Event(Event::Problem(problem)),
                Some(VideoOutput::Rtcp(report)) => {
                    if let Some(output) = self.send_report(report) {
                        return output;
                    }
                }
                None if !self.is_drained => self.read(),
                None => return self.session.poll().unwrap_or(Output::Idle),
            }
        }
    }

    /// Ends the session: sends TEARDOWN and waits a second for its answer. [`Output::Closed`] follows.
    pub fn close(&mut self, now: Instant) {
        self.session.close(now);
    }

    /// What came beside the stream.
    pub fn counters(&self) -> ClientCounters {
        ClientCounters {
            garbage_bytes: self.earlier_garbage.saturating_add(self.parser.garbage()),
            ..self.counters.clone()
        }
    }

    /// Counters of the stream, once it is set up.
    pub fn stream_counters(&self) -> Option<&StreamCounters> {
        self.video.as_ref().map(VideoReceiver::counters)
    }

    /// What the stream's parameter sets say.
    pub fn parameters(&self) -> Option<VideoParameters> {
        self.video.as_ref().and_then(VideoReceiver::parameters)
    }

    /// The camera's clock by the stream's sender reports.
    pub fn sender_clock(&self) -> Option<SenderClock> {
        self.video.as_ref().and_then(VideoReceiver::sender_clock)
    }

    /// The scheme of the login in use, such as `Digest MD5`; `None` if the camera asked for none.
    pub fn login(&self) -> Option<String> {
        self.session.login()
    }

    /// The stream's parameter sets in Annex B, as far as they are known.
    pub fn parameter_sets(&self) -> Vec<u8> {
        self.video
            .as_ref()
            .map(VideoReceiver::parameter_sets)
            .unwrap_or_default()
    }

    /// Takes the interleaved frame whose payload is this range of the unread bytes.
    fn frame(&mut self, channel: u8, payload: Range<usize>, now: Instant) {
        let payload = self.buffer.unread().get(payload).unwrap_or_default();
        let (Some(video), Some(&Delivery::Interleaved { rtp, rtcp })) = (&mut self.video, self.session.delivery())
        else {
            self.counters.unassigned_frames += 1;
            return;
        };
        let is_assigned = channel == rtp || channel == rtcp;
        // Some cameras send on another channel than they said.
        let is_stray = !is_assigned
            && !self.is_channel_proven
            && is_rtp(payload)
            && self
                .session
                .description()
                .is_some_and(|d| d.format.payload_type == payload[1] & 0x7f);
        if is_stray {
            self.session.set_channels(channel, channel.wrapping_add(1));
            self.parser.set_channels(channel, channel.wrapping_add(1));
        }
        if is_rtp(payload) && (channel == rtp || is_stray) {
            self.is_channel_proven = true;
            self.session.packet_received(now);
            video.rtp(payload, now);
        } else if is_assigned {
            video.rtcp(payload, now);
        } else {
            self.counters.unassigned_frames += 1;
        }
    }

    fn start_video(&mut self, now: Instant) {
        if self.video.is_some() {
            return;
        }
        let (Some(delivery), Some(description)) = (self.session.delivery(), self.session.description()) else {
            return;
        };
        let order = match delivery {
            Delivery::Interleaved { rtp, rtcp } => {
                self.parser.set_channels(*rtp, *rtcp);
                PacketOrder::Ordered
            }
            Delivery::Udp(_) => PacketOrder::MayReorder,
        };
        let mut video = VideoReceiver::new(description.format.clone(), order, now).with_seed(self.seed);
        if let Some(assemble) = self.assemble {
            video.set_assemble(assemble);
        }
        self.video = Some(video);
    }

    fn send_report(&mut self, report: Vec<u8>) -> Option<Output> {
        if self.session.is_closed() {
            return None;
        }
        match self.session.delivery()? {
            &Delivery::Interleaved { rtcp, .. } => {
                let frame = write_frame(rtcp, &report)?;
                self.session.write(frame);
                self.session.poll()
            }
            Delivery::Udp(_) => Some(Output::SendDatagram {
                port: UdpPort::Rtcp,
                data: report,
            }),
        }
    }

    /// A redirect: nothing of the old connection is left.
    fn reset(&mut self) {
        self.earlier_garbage = self.earlier_garbage.saturating_add(self.parser.garbage());
        self.parser = Parser::new(self.limits);
        self.discard();
        self.video = None;
        self.pending = None;
        self.is_channel_proven = false;
    }

    fn discard(&mut self) {
        self.buffer.clear();
        self.is_drained = true;
    }

    fn unreadable(&mut self, error: ParseError) {
        self.discard();
        self.session.fail(match error {
            ParseError::Limit { what, limit } => Error::LimitExceeded { what, limit },
            ParseError::Garbage { limit } => Error::Protocol {
                step: self.session.step(),
                what: format!("{limit} bytes in a row belong to no RTSP message or RTP packet"),
            },
        });
    }
}

/// Whether `packet` is RTP rather than RTCP, whose packet types lie in 192..=223 (RFC 5761, section 4).
fn is_rtp(packet: &[u8]) -> bool {
    packet.len() >= RTP_HEADER && packet[0] >> 6 == 2 && !(192..=223).contains(&packet[1])
}
