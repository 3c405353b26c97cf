//! The state machine of one RTSP session: DESCRIBE, SETUP, PLAY, playing, TEARDOWN, with logins, redirects, keep-alive,
//! requests of the server and time limits.
//!
//! It owns no bytes and no packets: the client gives it messages and says when packets arrive. OPTIONS is not sent
//! first, as it costs a round trip and some cameras do not answer it; it is asked for once the stream plays, for the
//! keep-alive.

use std::{collections::VecDeque, time::Instant};

use url::Url;

use crate::{
    auth::{Attempt, Authenticator},
    client::{Connection, Event, Output},
    error::{Error, Step},
    message::write_request,
    random::Random,
    sdp::Description,
    settings::{ClientSettings, Endpoint, Transport},
};

mod address;
mod keep_alive;
mod redirect;
mod response;
mod server_request;
mod transport;
mod tunnel;

use address::Addresses;
use keep_alive::{KeepAlive, SessionId};
use redirect::Redirects;
use server_request::RequestBudget;
pub(crate) use transport::Delivery;
pub use transport::UdpPeer;
use tunnel::{Sending, Tunnel};

/// How long an orderly end waits for the answer to TEARDOWN.
const TEARDOWN_LIMIT: std::time::Duration = std::time::Duration::from_secs(1);

/// The request that waits for a response. There is never more than one, so a response belongs to it whatever its CSeq:
/// some servers send none, or always the same.
#[derive(Debug)]
struct Outstanding {
    method: &'static str,
    uri: String,
    attempt: Attempt,
}

/// What is known of the stream between DESCRIBE and the end.
#[derive(Debug)]
struct Presentation {
    description: Description,
    addresses: Addresses,
    /// Candidate in use, for SETUP and for PLAY.
    stream: usize,
    aggregate: usize,
    /// The first refusal of SETUP or PLAY; it is reported if no candidate works.
    refused: Option<Error>,
    /// PLAY is sent with a `Range` header.
    with_range: bool,
}

/// See the module's documentation.
pub(crate) struct Session {
    settings: ClientSettings,
    random: Random,
    /// The configured URL, or where the camera redirected to.
    url: Url,
    endpoint: Endpoint,
    redirects: Redirects,
    step: Step,
    is_closed: bool,
    /// When the step must be over; while playing, see `last_packet_at`.
    deadline: Instant,
    auth: Authenticator,
    tunnel: Option<Tunnel>,
    outstanding: Option<Outstanding>,
    cseq: u32,
    options_tried: bool,
    presentation: Option<Presentation>,
    id: Option<SessionId>,
    udp_ports: (u16, u16),
    delivery: Option<Delivery>,
    last_packet_at: Option<Instant>,
    keep_alive: Option<KeepAlive>,
    requests: RequestBudget,
    outputs: VecDeque<Output>,
    /// What arrived on the old connection is to be dropped.
    is_reset: bool,
}

impl Session {
    pub(crate) fn new(mut settings: ClientSettings, now: Instant, seed: u64) -> Self {
        let mut random = Random::new(seed);
        // A line end in it would begin another header.
        settings.user_agent.retain(|c| !c.is_control());
        let url = settings.url.clone();
        let endpoint = Endpoint::of(&url, settings.transport);
        let is_encrypted = endpoint.as_ref().is_ok_and(|e| e.tls);
        let auth = || {
            Authenticator::new(
                settings.credentials.clone(),
                false,
                settings.login.clone(),
                is_encrypted,
            )
        };
        let mut session = Self {
            url: url.clone(),
            endpoint: endpoint.clone().unwrap_or_else(|_| Endpoint {
                host: String::new(),
                port: 0,
                tls: false,
            }),
            redirects: Redirects::new(&url),
            step: Step::Connect,
            is_closed: false,
            deadline: now + settings.timeouts.connect,
            auth: auth(),
            tunnel: (settings.transport == Transport::HttpTunnel).then(|| Tunnel::new(auth(), &mut random)),
            outstanding: None,
            cseq: 0,
            options_tried: false,
            presentation: None,
            id: None,
            udp_ports: (0, 0),
            delivery: None,
            last_packet_at: None,
            keep_alive: None,
            requests: RequestBudget::new(now),
            outputs: VecDeque::new(),
            is_reset: false,
            settings,
            random,
        };
        match endpoint {
            Ok(_) => session.connect(Connection::Main),
            Err(error) => session.fail(error),
        }
        session
    }

    pub(crate) fn step(&self) -> Step {
        self.step
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether only [`Output::Closed`] is left.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.outputs.front(), Some(Output::Closed(_)))
    }

    /// Whether the connection was replaced since the last call.
    pub(crate) fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.is_reset)
    }

    /// Where the stream comes, once SETUP is answered.
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        self.delivery.as_ref()
    }

    pub(crate) fn description(&self) -> Option<&Description> {
        self.presentation.as_ref().map(|p| &p.description)
    }

    /// Frames come on other channels than the answer to SETUP says.
    pub(crate) fn set_channels(&mut self, rtp: u8, rtcp: u8) {
        self.delivery = Some(Delivery::Interleaved { rtp, rtcp });
    }

    /// A packet of the video stream arrived.
    pub(crate) fn packet_received(&mut self, now: Instant) {
        self.last_packet_at = Some(now);
    }

    pub(crate) fn connected(&mut self, connection: Connection) {
        if self.is_closed {
            return;
        }
        let user_agent = self.settings.user_agent.clone();
        match (connection, &mut self.tunnel) {
            (Connection::Main, None) => self.describe(),
            (Connection::Main, Some(tunnel)) => {
                let data = tunnel.get_request(&self.url, &user_agent);
                self.outputs.push_back(Output::Send {
                    connection: Connection::Main,
                    data,
                });
                self.enter(Step::Tunnel);
            }
            (Connection::Post, Some(tunnel)) => {
                let data = tunnel.post_opened(&self.url, &user_agent);
                self.outputs.push_back(Output::Send {
                    connection: Connection::Post,
                    data,
                });
                if self.step == Step::Tunnel {
                    self.describe();
                }
            }
            (Connection::Post, None) => {}
        }
    }

    pub(crate) fn udp_ports_open(&mut self, rtp: u16, rtcp: u16) {
        if !self.is_closed && self.step == Step::Setup && self.outstanding.is_none() {
            self.udp_ports = (rtp, rtcp);
            self.setup();
        }
    }

    /// `partial_body` tells of a response whose body is incomplete.
    pub(crate) fn timeout(&mut self, now: Instant, partial_body: Option<(usize, usize)>) {
        if self.is_closed {
            return;
        }
        if self.step == Step::Playing {
            self.timeout_playing(now);
        } else if now >= self.deadline {
            match (self.step, self.last_packet_at) {
                (Step::Teardown, _) => self.fail(Error::Stopped),
                // Packets come, so the server accepted the request.
                (Step::Play, Some(_)) => {
                    self.outstanding = None;
                    self.playing(now);
                }
                _ => self.fail(match partial_body {
                    Some(partial) => self.short_body(partial),
                    None => Error::Timeout {
                        host: self.endpoint.to_string(),
                        step: self.step,
                        limit: self.settings.timeouts.connect,
                    },
                }),
            }
        }
    }

    fn timeout_playing(&mut self, now: Instant) {
        let limit = self.settings.timeouts.idle;
        if self.last_packet_at.is_none_or(|at| now.duration_since(at) >= limit) {
            let transport = self.settings.transport;
            self.fail(Error::Idle { limit, transport });
            return;
        }
        let due = self.keep_alive.as_mut().filter(|k| now >= k.due_at);
        if let Some(method) = due.map(|k| k.next_method(now)) {
            // A request that was not answered is given up.
            let uri = self.aggregate_uri();
            self.send(method, uri, Attempt::default());
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        if self.step != Step::Playing {
            return Some(self.deadline);
        }
        let idle = self.last_packet_at.map(|at| at + self.settings.timeouts.idle);
        let keep_alive = self.keep_alive.as_ref().map(|k| k.due_at);
        idle.into_iter().chain(keep_alive).min()
    }

    pub(crate) fn closed_by_peer(&mut self, connection: Connection, partial_body: Option<(usize, usize)>) {
        if self.is_closed {
            return;
        }
        if let (Connection::Post, Some(tunnel)) = (connection, &mut self.tunnel)
            && self.step == Step::Playing
        {
            // It is opened again when there is something to send.
            tunnel.post = tunnel::Post::Closed;
            self.outputs.push_back(Output::Disconnect(Connection::Post));
            return;
        }
        // Nothing can be sent any more.
        self.id = None;
        self.fail(match (self.step, partial_body) {
            (Step::Teardown, _) => Error::Stopped,
            (_, Some(partial)) => self.short_body(partial),
            (step, None) => Error::ClosedByPeer { step },
        });
    }

    pub(crate) fn connection_failed(&mut self, what: &str) {
        self.id = None;
        let host = self.endpoint.to_string();
        self.fail(Error::Connection {
            host,
            what: what.to_owned(),
        });
    }

    /// Ends the session in an orderly way.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.is_closed || self.step == Step::Teardown {
            return;
        }
        if self.id.is_none() {
            self.fail(Error::Stopped);
            return;
        }
        self.enter(Step::Teardown);
        self.deadline = now + TEARDOWN_LIMIT;
        let uri = self.aggregate_uri();
        self.send("TEARDOWN", uri, Attempt::default());
    }

    /// Ends the session because of `error`. The server is told, so that it frees the stream, but not waited for.
    pub(crate) fn fail(&mut self, error: Error) {
        if self.is_closed {
            return;
        }
        if self.id.is_some() && self.step != Step::Teardown {
            let uri = self.aggregate_uri();
            self.send("TEARDOWN", uri, Attempt::default());
        }
        self.is_closed = true;
        self.outputs.push_back(Output::Closed(error));
    }

    fn short_body(&self, (received, announced): (usize, usize)) -> Error {
        Error::Protocol {
            step: self.step,
            what: format!("the body is shorter than announced ({received} of {announced} bytes)"),
        }
    }

    fn connect(&mut self, connection: Connection) {
        self.outputs.push_back(Output::Connect {
            connection,
            endpoint: self.endpoint.clone(),
        });
    }

    fn enter(&mut self, step: Step) {
        if self.step != step {
            self.step = step;
            self.outputs.push_back(Output::Event(Event::Progress(step)));
        }
    }

    fn describe(&mut self) {
        self.enter(Step::Describe);
        self.send("DESCRIBE", address::request_uri(&self.url), Attempt::default());
    }

    fn setup(&mut self) {
        let uri = self
            .presentation
            .as_ref()
            .and_then(|p| p.addresses.stream.get(p.stream));
        if let Some(uri) = uri.cloned() {
            self.send("SETUP", uri, Attempt::default());
        }
    }

    fn play(&mut self) {
        self.enter(Step::Play);
        let uri = self.aggregate_uri();
        self.send("PLAY", uri, Attempt::default());
    }

    fn aggregate_uri(&self) -> String {
        let known = self.presentation.as_ref();
        let uri = known.and_then(|p| p.addresses.aggregate.get(p.aggregate));
        uri.cloned().unwrap_or_else(|| address::request_uri(&self.url))
    }

    /// The scheme of the login in use.
    pub(crate) fn login(&self) -> Option<String> {
        let tunnel = self.tunnel.as_ref().and_then(Tunnel::login);
        self.auth.in_use().or(tunnel)
    }

    /// Sends a request, with a login if the camera asked for one before.
    fn send(&mut self, method: &'static str, uri: String, mut attempt: Attempt) {
        self.cseq = self.cseq.wrapping_add(1);
        let mut headers = vec![("CSeq", self.cseq.to_string())];
        if let Some(value) = self.auth.authorize(method, &uri, b"", &mut attempt) {
            headers.push(("Authorization", value));
        }
        headers.push(("User-Agent", self.settings.user_agent.clone()));
        if let Some(session) = self.id.as_ref().filter(|s| !s.id.is_empty()) {
            headers.push(("Session", session.id.clone()));
        }
        match method {
            "DESCRIBE" => headers.push(("Accept", "application/sdp".into())),
            "SETUP" => {
                let transport = transport::request_header(self.settings.transport, self.udp_ports);
                headers.push(("Transport", transport));
            }
            "PLAY" if self.presentation.as_ref().is_some_and(|p| p.with_range) => {
                headers.push(("Range", "npt=0.000-".into()));
            }
            _ => {}
        }
        let request = write_request(method, &uri, &headers);
        self.outstanding = Some(Outstanding { method, uri, attempt });
        self.write(request);
    }

    /// Sends bytes on the RTSP connection, or through the tunnel.
    pub(crate) fn write(&mut self, data: Vec<u8>) {
        let Some(tunnel) = &mut self.tunnel else {
            self.outputs.push_back(Output::Send {
                connection: Connection::Main,
                data,
            });
            return;
        };
        match tunnel.send(&data) {
            Sending::Now(data) => self.outputs.push_back(Output::Send {
                connection: Connection::Post,
                data,
            }),
            Sending::Connect => self.connect(Connection::Post),
            Sending::Later => {}
        }
    }
}

#[cfg(test)]
mod tests;
