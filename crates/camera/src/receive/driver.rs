//! Runs one connection: passes bytes, datagrams and time to the client, and does what it asks for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gridwatch_base::secret::Credentials;
use gridwatch_rtsp as rtsp;
use gridwatch_rtsp::{Client, ClientSettings, Connection, Event, Limits, Output, VideoCodec, VideoFormat};
use tokio_rustls::TlsConnector;

use super::{
    ReceiveError, ReceiverSettings,
    budget::{Budget, Overspent},
    log::CameraLog,
    sockets::{Sockets, Wake},
    stream::StreamHandler,
    tls,
};
use crate::{
    Codec, Transport,
    live::VideoSource,
    slot::{CameraState, Slot},
};

mod measure;

pub use measure::{KeyframeArrival, MeasureLimits, MeasuredStream, measure, probe};

/// Longest wait for the second connection of an HTTP tunnel, during which nothing is read.
const POST_LIMIT: Duration = Duration::from_secs(3);
/// Longest wait of a task that has no timer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What one attempt reached, for the one who decides on the next.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// A picture arrived.
    pub(super) has_delivered: AtomicBool,
}

/// Receives until the connection ends.
pub(super) async fn receive(
    settings: &ReceiverSettings,
    credentials: Option<Credentials>,
    slot: &Arc<Slot>,
    log: &CameraLog,
    attempt: &Attempt,
) -> ReceiveError {
    Driver::new(settings, credentials, slot, log, attempt).run().await
}

/// The settings of the client for one connection.
pub(super) fn client_settings(settings: &ReceiverSettings, credentials: Option<Credentials>) -> ClientSettings {
    ClientSettings {
        url: settings.url.clone(),
        credentials,
        login: settings.login.clone(),
        transport: match settings.transport {
            Transport::Tcp => rtsp::Transport::Tcp,
            Transport::Udp => rtsp::Transport::Udp,
            Transport::Http => rtsp::Transport::HttpTunnel,
        },
        user_agent: concat!("gridwatch/", env!("CARGO_PKG_VERSION")).to_owned(),
        timeouts: settings.timeouts,
        limits: Limits::default(),
    }
}

struct Driver<'a> {
    settings: &'a ReceiverSettings,
    slot: &'a Arc<Slot>,
    log: &'a CameraLog,
    attempt: &'a Attempt,
    client: Client,
    sockets: Sockets,
    tls: Option<TlsConnector>,
    budget: Budget,
    /// Counted in the budget so far.
    packets: u64,
    handler: Option<StreamHandler<'a>>,
}

impl<'a> Driver<'a> {
    fn new(
        settings: &'a ReceiverSettings,
        credentials: Option<Credentials>,
        slot: &'a Arc<Slot>,
        log: &'a CameraLog,
        attempt: &'a Attempt,
    ) -> Self {
        let now = Instant::now();
        Self {
            settings,
            slot,
            log,
            attempt,
            client: Client::new(client_settings(settings, credentials), now, fastrand::u64(..)),
            sockets: Sockets::new(),
            tls: None,
            budget: Budget::new(now),
            packets: 0,
            handler: None,
        }
    }
}

impl Driver<'_> {
    async fn run(mut self) -> ReceiveError {
        loop {
            if let Some(end) = self.do_outputs().await {
                self.sockets.send_last().await;
                return end;
            }
            let now = Instant::now();
            if self.budget.is_turn_over(now) {
                tokio::task::yield_now().await;
                self.budget.begin_turn(Instant::now());
            }
            let until = self.next_wake(now);
            let (wake, has_waited) = self.sockets.wait(&mut self.client, until).await;
            let now = Instant::now();
            if has_waited {
                self.budget.begin_turn(now);
            }
            if let Err(error) = self.handle(wake, now) {
                self.client.close(now);
                let _ = self.do_outputs().await;
                self.sockets.send_last().await;
                return error;
            }
        }
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let tick = self.handler.as_ref().map(StreamHandler::next_tick);
        let timers = self.client.next_timeout().into_iter().chain(tick);
        timers.min().unwrap_or(now + LONGEST_WAIT)
    }

    fn handle(&mut self, wake: Wake, now: Instant) -> Result<(), ReceiveError> {
        let mut bytes = 0;
        let mut more_packets = 0;
        match wake {
            Wake::Main(len) => {
                bytes = len;
                self.client.received(len, now);
            }
            Wake::Post(len) => {
                bytes = len;
                self.client.post_received(self.sockets.post_data(len), now);
            }
            Wake::Datagram(port, len, from) => {
                bytes = len;
                if self.sockets.is_camera(from) {
                    self.client.datagram(port, self.sockets.datagram(len), now);
                } else {
                    more_packets = 1;
                }
            }
            Wake::Failed(error) => self.client.connection_failed(&error.to_string(), now),
            Wake::Timer => {}
        }
        if self.client.next_timeout().is_some_and(|at| at <= now) {
            self.client.timeout(now);
        }
        self.spend(bytes as u64, more_packets, now)?;
        let Some(handler) = &mut self.handler else {
            return Ok(());
        };
        if let Some(counters) = self.client.stream_counters() {
            handler.count(counters, now);
        }
        handler.update_live(&mut self.client, now);
        if handler.has_delivered() {
            self.attempt.has_delivered.store(true, Ordering::Relaxed);
        }
        if now >= handler.next_tick() {
            handler.tick(&mut self.client, now);
            let idle = self.settings.timeouts.idle;
            if handler.idle(now) >= idle {
                return Err(ReceiveError::NoFrames(idle));
            }
            if let Some(tried) = handler.decodes_nothing(now) {
                return Err(ReceiveError::NothingDecoded(tried));
            }
        }
        Ok(())
    }

    fn spend(&mut self, bytes: u64, more_packets: u64, now: Instant) -> Result<(), ReceiveError> {
        let stream = self.client.stream_counters().map_or(0, |c| c.packets + c.rtcp_packets);
        let beside = self.client.counters();
        let packets = stream + beside.unassigned_frames + beside.ignored_responses + beside.server_requests;
        let new = packets.saturating_sub(self.packets) + more_packets;
        self.packets = packets;
        self.budget.spend(bytes, new, now).map_err(|Overspent { what, limit }| {
            // It may send pictures in the flood, and is not welcome again at once.
            self.attempt.has_delivered.store(false, Ordering::Relaxed);
            ReceiveError::TooMuch { what, limit }
        })
    }

    /// Does what the client asks for, until it waits. Returns why the connection ended.
    async fn do_outputs(&mut self) -> Option<ReceiveError> {
        loop {
            match self.client.poll() {
                Output::Idle => return None,
                output => {
                    if let Some(end) = self.apply(output, Instant::now()).await {
                        return Some(end);
                    }
                }
            }
        }
    }

    async fn apply(&mut self, output: Output, now: Instant) -> Option<ReceiveError> {
        match output {
            Output::Idle => {}
            Output::Closed(error) => return Some(ReceiveError::Rtsp(error)),
            Output::Connect { connection, endpoint } => self.connect(connection, &endpoint).await,
            Output::Disconnect(connection) => self.sockets.disconnect(connection),
            Output::Send { connection, data } => {
                if let Err(error) = self.sockets.send(connection, &data) {
                    self.client.connection_failed(&error.to_string(), now);
                }
            }
            Output::OpenUdp => match self.sockets.open_udp() {
                Ok((rtp, rtcp)) => self.client.udp_ports_open(rtp, rtcp, now),
                Err(error) => {
                    let what = format!("no free UDP ports: {error}");
                    self.client.connection_failed(&what, now);
                }
            },
            Output::UdpPeer(peer) => self.sockets.set_udp_peer(peer),
            Output::SendDatagram { port, data } => self.sockets.send_datagram(port, &data),
            Output::Event(event) => self.event(event, now),
        }
        None
    }

    async fn connect(&mut self, connection: Connection, endpoint: &rtsp::Endpoint) {
        let limit = match connection {
            Connection::Main => self.settings.timeouts.connect,
            Connection::Post => POST_LIMIT.min(self.settings.timeouts.connect),
        };
        if matches!(
            self.slot.received_state(),
            CameraState::Resolving | CameraState::Connecting
        ) {
            let is_name = endpoint.host.parse::<std::net::IpAddr>().is_err();
            self.slot.set_state(if is_name {
                CameraState::Resolving
            } else {
                CameraState::Connecting
            });
        }
        let opened = async {
            if endpoint.tls && self.tls.is_none() {
                self.tls = Some(self.set_up_tls().await?);
            }
            let tls = self.tls.as_ref();
            self.sockets.connect(connection, endpoint, tls).await
        };
        let opened = tokio::time::timeout(limit, opened).await;
        let now = Instant::now();
        match opened {
            Ok(Ok(())) => {
                if self.slot.received_state() == CameraState::Resolving {
                    self.slot.set_state(CameraState::Connecting);
                }
                self.client.connected(connection, now);
            }
            Ok(Err(error)) => self.client.connection_failed(&error.to_string(), now),
            Err(_) if connection == Connection::Main => {
                // The client's own limit is the same, and its error names host and step.
                let due = self.client.next_timeout().unwrap_or(now);
                self.client.timeout(now.max(due));
            }
            Err(_) => self.client.connection_failed("no answer", now),
        }
    }

    async fn set_up_tls(&self) -> std::io::Result<TlsConnector> {
        let trust = self.settings.trust.clone();
        let loaded = tokio::task::spawn_blocking(move || tls::connector(&trust)).await;
        loaded.map_err(std::io::Error::other)?.map_err(std::io::Error::other)
    }

    fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Described { format, .. } => {
                self.handler = Some(StreamHandler::new(self.settings, self.slot, self.log, format.codec, now));
                self.slot.live().begin(video_source(&format));
            }
            Event::Playing { .. } => {
                // The time before does not count.
                if let Some(handler) = &mut self.handler {
                    handler.restart(now);
                }
                if let Err(error) = self.sockets.read_in_ticks() {
                    self.client.connection_failed(&error.to_string(), now);
                }
            }
            Event::Unit(unit) => {
                if let Some(handler) = &mut self.handler {
                    handler.unit(&mut self.client, unit, now);
                }
            }
            Event::Problem(problem) => {
                if let Some(handler) = &mut self.handler {
                    handler.problem(&problem, now);
                }
            }
            Event::Redirected { from, to, .. } => {
                self.log.info(format_args!("Camera redirects from {from} to {to}"));
            }
            Event::PasswordInClear => self.log.warn(format_args!(
                "Camera asks for the password in the clear (Basic); use rtsps, or enable Digest in the camera and set auth = \"digest\""
            )),
            Event::Progress(_) | Event::Bye => {}
        }
    }
}

/// What live views can be made of.
fn video_source(format: &VideoFormat) -> VideoSource {
    let codec = match format.codec {
        VideoCodec::H264 => Codec::H264,
        VideoCodec::H265 => Codec::H265,
        VideoCodec::Jpeg => return VideoSource::MotionJpeg,
    };
    VideoSource::Video {
        codec,
        clock_rate: format.clock_rate,
    }
}
