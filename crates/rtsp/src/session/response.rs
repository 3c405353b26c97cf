//! What each response leads to.

use std::time::Instant;

use super::{Outstanding, Presentation, Session, address, keep_alive::KeepAlive, keep_alive::SessionId, transport};
use crate::{
    client::{Connection, Event, Output},
    error::{Error, LoginProblem, Step},
    message::{Protocol, Response},
    sdp::{self, SdpError},
    session::Delivery,
    settings::Transport,
};

/// Smallest datagrams that open a path through a firewall or NAT before the camera sends: an RTP header of a payload
/// type without meaning, and an empty receiver report (RFC 3550, 6.4.2).
const PUNCH_RTP: [u8; 12] = [0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const PUNCH_RTCP: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 0];

impl Session {
    /// Takes a response; `false` if no request waits for it.
    pub(crate) fn response(&mut self, response: &Response, now: Instant) -> bool {
        if self.is_closed || response.status < 200 {
            return !self.is_closed;
        }
        if self.step == Step::Tunnel {
            self.tunnel_response(response);
            return true;
        }
        if response.protocol == Protocol::Http {
            self.fail(Error::Protocol {
                step: self.step,
                what: format!(
                    "the port serves HTTP (status {}), not RTSP; use the camera's RTSP port, usually 554, or set \
                     `transport` to http",
                    response.status
                ),
            });
            return true;
        }
        let Some(request) = self.outstanding.take() else {
            return false;
        };
        match response.status {
            401 => self.unauthorized(request, response),
            300..=399 if self.step != Step::Playing && self.step != Step::Teardown => {
                self.redirected(response.status, response.headers.get("location"));
            }
            _ => self.answered(&request, response, now),
        }
        true
    }

    fn unauthorized(&mut self, mut request: Outstanding, response: &Response) {
        let headers = response.headers.all("www-authenticate");
        match self.auth.challenge(headers, &mut request.attempt, &mut self.random) {
            Ok(()) => {
                if self.auth.exposes_password() {
                    self.outputs.push_back(Output::Event(Event::PasswordInClear));
                }
                self.send(request.method, request.uri, request.attempt);
            }
            // As long as pictures come, a keep-alive may be refused.
            Err(_) if self.step == Step::Playing => self.auth.start_over(),
            Err(_) if self.step == Step::Teardown => self.fail(Error::Stopped),
            Err(login) => self.fail(Error::Unauthorized {
                status: response.status,
                step: self.step,
                login,
            }),
        }
    }

    fn answered(&mut self, request: &Outstanding, response: &Response, now: Instant) {
        match (self.step, response.status) {
            (Step::Options, _) => self.describe(),
            (Step::Describe, 200..=299) => self.described(response),
            (Step::Describe, 405 | 455) if !self.options_tried => {
                self.options_tried = true;
                self.enter(Step::Options);
                self.send("OPTIONS", request.uri.clone(), Default::default());
            }
            (Step::Setup, 200..=299) => self.set_up(response),
            (Step::Play, 200..=299) => self.playing(now),
            (Step::Setup | Step::Play, status) => self.refused(status),
            (Step::Playing, status) => {
                if let Some(keep_alive) = &mut self.keep_alive {
                    keep_alive.answered(request.method, status, &response.headers);
                }
            }
            (Step::Teardown, _) => self.fail(Error::Stopped),
            (step, status) => self.fail(self.status_error(status, step)),
        }
    }

    fn described(&mut self, response: &Response) {
        let protocol = |what: String| Error::Protocol {
            step: Step::Describe,
            what,
        };
        let kind = response.headers.get("content-type").unwrap_or_default();
        let kind: String = kind
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .chars()
            .take(40)
            .collect();
        let description = match sdp::parse(&response.body) {
            Ok(description) => description,
            Err(SdpError::NoVideo { offers }) => return self.fail(Error::NoVideo { offers }),
            Err(SdpError::NotSdp) if response.body.trim_ascii().is_empty() => {
                return self.fail(protocol("it sent an empty session description".into()));
            }
            Err(SdpError::NotSdp) if kind.is_empty() || kind.eq_ignore_ascii_case("application/sdp") => {
                return self.fail(protocol("what it sent is not a session description (SDP)".into()));
            }
            Err(SdpError::NotSdp) => {
                return self.fail(protocol(format!(
                    "it sent {kind} instead of a session description (SDP)"
                )));
            }
        };
        let addresses = address::addresses(&self.url, &response.headers, &description);
        self.outputs.push_back(Output::Event(Event::Described {
            format: description.format.clone(),
            server: response.headers.get("server").map(str::to_owned),
        }));
        self.presentation = Some(Presentation {
            description,
            addresses,
            stream: 0,
            aggregate: 0,
            refused: None,
            with_range: true,
        });
        self.enter(Step::Setup);
        if self.settings.transport == Transport::Udp {
            self.outputs.push_back(Output::OpenUdp);
        } else {
            self.setup();
        }
    }

    fn set_up(&mut self, response: &Response) {
        let session = SessionId::read(&response.headers);
        let transport = self.settings.transport;
        self.id = Some(session);
        let delivery = match transport::read_answer(transport, response.headers.get("transport")) {
            Ok(delivery) => delivery,
            Err(error) => return self.fail(error),
        };
        if let Delivery::Udp(peer) = &delivery {
            self.outputs.push_back(Output::UdpPeer(peer.clone()));
            for (port, data) in [
                (crate::client::UdpPort::Rtp, &PUNCH_RTP[..]),
                (crate::client::UdpPort::Rtcp, &PUNCH_RTCP[..]),
            ] {
                self.outputs.push_back(Output::SendDatagram {
                    port,
                    data: data.to_vec(),
                });
            }
        }
        self.delivery = Some(delivery);
        if let Some(presentation) = &mut self.presentation {
            presentation.refused = None;
        }
        self.play();
    }

    pub(super) fn playing(&mut self, now: Instant) {
        let interval = self.id.as_ref().map(SessionId::interval).unwrap_or_default();
        self.keep_alive = Some(KeepAlive::new(interval, now));
        self.last_packet_at = Some(now);
        self.enter(Step::Playing);
        self.outputs.push_back(Output::Event(Event::Playing {
            transport: self.settings.transport,
            session_timeout: self.id.as_ref().map(|s| s.timeout).unwrap_or_default(),
            keep_alive: interval,
        }));
    }

    /// SETUP or PLAY was refused with `status`: tries the next URL, if that may be the reason.
    fn refused(&mut self, status: u16) {
        let (step, error) = (self.step, self.status_error(status, self.step));
        let Some(presentation) = &mut self.presentation else {
            return self.fail(error);
        };
        let first = presentation.refused.get_or_insert(error).clone();
        if step == Step::Setup && matches!(status, 400 | 404 | 410 | 451 | 454 | 455 | 459 | 460) {
            presentation.stream += 1;
            if presentation.stream < presentation.addresses.stream.len() {
                return self.setup();
            }
        }
        if step == Step::Play && status == 457 && presentation.with_range {
            presentation.with_range = false;
            return self.play();
        }
        if step == Step::Play && matches!(status, 400 | 404 | 451 | 454 | 455 | 459 | 460) {
            presentation.aggregate += 1;
            if presentation.aggregate < presentation.addresses.aggregate.len() {
                return self.play();
            }
            presentation.aggregate = 0;
        }
        self.fail(first);
    }

    fn status_error(&self, status: u16, step: Step) -> Error {
        match status {
            401 | 403 => {
                let tried = self.auth.tried();
                let login = match status {
                    401 => LoginProblem::Rejected { tried },
                    _ => LoginProblem::Forbidden { tried },
                };
                Error::Unauthorized { status, step, login }
            }
            404 | 410 => Error::NotFound { status, step },
            453 | 503 => Error::Busy { status, step },
            454 => Error::SessionLost { step },
            461 => transport::unsupported(self.settings.transport, " (status 461)"),
            _ => Error::Status { status, step },
        }
    }

    /// Takes the status of an answer to the tunnel's POST request.
    pub(crate) fn post_answered(&mut self, status: u16) {
        match status {
            100..=299 => {}
            401 | 403 | 503 => self.fail(self.status_error(status, Step::Tunnel)),
            status => self.fail(no_tunnel(status)),
        }
    }

    /// Takes the answer to the tunnel's GET request.
    fn tunnel_response(&mut self, response: &Response) {
        let Some(tunnel) = &mut self.tunnel else {
            return;
        };
        match response.status {
            200..=299 => {
                if tunnel.post == super::tunnel::Post::Closed {
                    tunnel.post = super::tunnel::Post::Connecting;
                    self.connect(Connection::Post);
                }
            }
            401 => {
                let headers = response.headers.all("www-authenticate");
                match tunnel.auth.challenge(headers, &mut tunnel.attempt, &mut self.random) {
                    Ok(()) => {
                        if tunnel.auth.exposes_password() {
                            self.outputs.push_back(Output::Event(Event::PasswordInClear));
                        }
                        self.is_reset = true;
                        self.step = Step::Connect;
                        self.outputs.push_back(Output::Disconnect(Connection::Main));
                        self.connect(Connection::Main);
                    }
                    Err(login) => self.fail(Error::Unauthorized {
                        status: 401,
                        step: Step::Tunnel,
                        login,
                    }),
                }
            }
            status @ (403 | 503) => self.fail(self.status_error(status, Step::Tunnel)),
            status => self.fail(no_tunnel(status)),
        }
    }
}

fn no_tunnel(status: u16) -> Error {
    Error::UnsupportedTransport {
        asked: Transport::HttpTunnel.name(),
        detail: format!(" (status {status} of its web server)"),
        propose: "tcp",
    }
}
