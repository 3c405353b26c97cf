//! Why a connection failed or ended. No text contains a user name, a password or a nonce.

use std::{fmt, time::Duration};

use gridwatch_base::{error::Class, message, message::Message};

use crate::settings::Transport;

/// What the client was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening the TCP or TLS connection.
    Connect,
    /// Opening the RTSP-over-HTTP tunnel.
    Tunnel,
    /// Asking which methods the camera supports.
    Options,
    /// Asking for the session description.
    Describe,
    /// Setting up the video stream.
    Setup,
    /// Starting the stream.
    Play,
    /// Receiving the stream.
    Playing,
    /// Ending the session.
    Teardown,
}

impl Step {
    /// The step as its RTSP method or a noun.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tunnel => "HTTP tunnel",
            Self::Options => "OPTIONS",
            Self::Describe => "DESCRIBE",
            Self::Setup => "SETUP",
            Self::Play => "PLAY",
            Self::Playing => "video",
            Self::Teardown => "TEARDOWN",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a connection failed or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The driver could not open a connection, or lost it.
    Connection {
        /// Host and port.
        host: String,
        /// The error of the operating system, the resolver or TLS.
        what: String,
    },
    /// RTSP status 401 or 403, or the same from the HTTP tunnel.
    Unauthorized {
        /// The status code.
        status: u16,
        /// The request.
        step: Step,
        /// Why, and what was tried.
        login: LoginProblem,
    },
    /// RTSP status 404 or 410.
    NotFound {
        /// The status code.
        status: u16,
        /// The request.
        step: Step,
    },
    /// RTSP status 453 or 503.
    Busy {
        /// The status code.
        status: u16,
        /// The request.
        step: Step,
    },
    /// RTSP status 461, or a transport in the answer that was not asked for.
    UnsupportedTransport {
        /// The transport asked for.
        asked: &'static str,
        /// What the camera answered, as the rest of the sentence.
        detail: String,
        /// What to try instead.
        propose: &'static str,
    },
    /// RTSP status 454.
    SessionLost {
        /// The request.
        step: Step,
    },
    /// Any other status that is not a success.
    Status {
        /// The status code.
        status: u16,
        /// The request.
        step: Step,
    },
    /// The session description contains no video that can be received.
    NoVideo {
        /// Media types and encodings offered.
        offers: String,
    },
    /// A step was not completed in time.
    Timeout {
        /// Host and port.
        host: String,
        /// The step in progress.
        step: Step,
        /// The time limit.
        limit: Duration,
    },
    /// The stream was set up, but no packet of it arrived within the idle limit.
    Idle {
        /// The time limit.
        limit: Duration,
        /// How packets should come.
        transport: Transport,
    },
    /// The camera closed the connection.
    ClosedByPeer {
        /// The step in progress.
        step: Step,
    },
    /// What the camera sent cannot be understood.
    Protocol {
        /// The step in progress.
        step: Step,
        /// What is wrong with it.
        what: String,
    },
    /// The camera sent more than is accepted.
    LimitExceeded {
        /// What exceeds the limit.
        what: &'static str,
        /// The limit, in bytes unless `what` names a number of things.
        limit: usize,
    },
    /// A redirect that is not followed.
    Redirect(RedirectProblem),
    /// The URL cannot be used.
    Url {
        /// What is wrong with it.
        what: String,
    },
    /// Closed on request.
    Stopped,
}

impl Error {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Unauthorized { .. }
            | Self::NotFound { .. }
            | Self::UnsupportedTransport { .. }
            | Self::NoVideo { .. }
            | Self::Url { .. } => Class::Config,
            Self::Protocol { .. } | Self::LimitExceeded { .. } => Class::Data,
            _ => Class::Transient,
        }
    }

    /// What happened and what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::Connection { host, what } if what.contains("; ") => {
                message!("connection to {host} failed: {what}", host, what)
            }
            Self::Connection { host, what } => message!(
                "connection to {host} failed: {what}; check the address and port in its url, and that the camera is on and serves RTSP there",
                host,
                what
            ),
            Self::Unauthorized { status, step, login } => message!(
                "login rejected by the camera (status {status} on {step}): {login}",
                status = u32::from(*status),
                step = step.as_str(),
                login = login.message()
            ),
            Self::NotFound { status, step } => message!(
                "the camera has no stream at this path (status {status} on {step}); correct the path in the camera's url",
                status = u32::from(*status),
                step = step.as_str()
            ),
            Self::Busy { status, step } => message!(
                "the camera has no free stream or bandwidth (status {status} on {step}); close other players or recorders of this camera, or raise its limit of connections",
                status = u32::from(*status),
                step = step.as_str()
            ),
            Self::UnsupportedTransport { asked, detail, propose } => message!(
                "the camera does not send over {asked}{detail}; set `transport` to {propose}",
                asked = *asked,
                detail,
                propose = *propose
            ),
            Self::SessionLost { step } => message!(
                "the camera lost the session (status 454 on {step}); it is set up again at the next connection",
                step = step.as_str()
            ),
            Self::Status { status, step } => message!(
                "status {status} on {step}; {advice}",
                status = u32::from(*status),
                step = step.as_str(),
                advice = advice(*status)
            ),
            Self::NoVideo { offers } => message!(
                "the camera offers no H.264, H.265 or Motion JPEG video, only {offers}; change its video encoding",
                offers
            ),
            Self::Timeout { host, step, limit } => message!(
                "no answer from {host} within {limit} (waiting for {step}); check that the camera is on and reachable",
                host,
                limit = format!("{limit:?}"),
                step = step.as_str()
            ),
            Self::Idle {
                limit,
                transport: Transport::Udp,
            } => message!(
                "no video packet received for {limit}; if the network blocks UDP, set `transport` to tcp",
                limit = format!("{limit:?}")
            ),
            Self::Idle { limit, .. } => message!("no video packet received for {limit}", limit = format!("{limit:?}")),
            Self::ClosedByPeer { step } => {
                message!("the camera closed the connection (during {step})", step = step.as_str())
            }
            Self::Protocol { step, what } => message!(
                "invalid answer from the camera (during {step}): {what}",
                step = step.as_str(),
                what
            ),
            Self::LimitExceeded { what, limit } => message!(
                "the camera sent {what} above the limit of {limit}; the connection was cut to protect this box",
                what = *what,
                limit = *limit
            ),
            Self::Redirect(problem) => message!(
                "the camera redirects, and the redirect is not followed: {problem}",
                problem = problem.message()
            ),
            Self::Url { what } => message!("invalid camera url: {what}", what),
            Self::Stopped => message!("closed on request"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

impl std::error::Error for Error {}

/// Why a login failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginProblem {
    /// The camera wants a login, and none is configured.
    NoCredentials,
    /// The camera redirected to another host, or from TLS to an unencrypted connection; credentials are not sent there.
    Withheld,
    /// None of the schemes the camera offers is supported.
    UnsupportedSchemes {
        /// The schemes offered.
        offered: String,
    },
    /// The camera asks for Basic over an unencrypted connection although it asked for Digest before.
    Downgraded,
    /// The configuration allows none of the schemes the camera offers.
    NotAllowed {
        /// The schemes offered.
        offered: String,
    },
    /// User or password are wrong.
    Rejected {
        /// The schemes tried, such as `Digest SHA-256, Digest MD5`.
        tried: String,
    },
    /// Status 403: the user lacks the right, or is locked.
    Forbidden {
        /// The schemes tried; empty if the camera asked for none.
        tried: String,
    },
}

impl LoginProblem {
    /// Why, with what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::NoCredentials => message!("it requires a user and a password; set `credentials`"),
            Self::Withheld => message!(
                "it redirected to another host or to an unencrypted connection, where credentials are not sent; set the camera's url to the redirect's target"
            ),
            Self::UnsupportedSchemes { offered } => message!(
                "it offers only {offered}, which is not supported; enable Digest or Basic authentication in the camera",
                offered
            ),
            Self::Downgraded => message!(
                "it asks for the password in the clear (Basic), although it asked for Digest before: something else may answer in its place; if the camera was changed, set `auth = \"basic\"` or restart"
            ),
            Self::NotAllowed { offered } => message!(
                "it offers only {offered}, which its `auth` setting does not allow; enable the other scheme in the camera, or change `auth`",
                offered
            ),
            Self::Forbidden { tried } if tried.is_empty() => message!(
                "the user may not view this stream, or is locked after wrong passwords (tried no login); check the user in the camera"
            ),
            Self::Forbidden { tried } => message!(
                "the user may not view this stream, or is locked after wrong passwords (tried {tried}); check the user in the camera",
                tried
            ),
            Self::Rejected { tried } => message!(
                "tried {tried}; correct the user or password that its `credentials` setting refers to",
                tried
            ),
        }
    }
}

impl fmt::Display for LoginProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectProblem {
    /// More redirects in a row than are followed.
    TooMany {
        /// How many are followed.
        limit: usize,
        /// Where the last one points.
        to: String,
    },
    /// The target was already visited.
    Loop {
        /// The target.
        to: String,
    },
    /// A redirect without a target.
    NoTarget {
        /// The status code.
        status: u16,
    },
    /// A target that is not an RTSP URL.
    InvalidTarget {
        /// The target, shortened.
        to: String,
    },
}

impl RedirectProblem {
    /// Why, with what to do, for a person.
    pub fn message(&self) -> Message {
        match self {
            Self::TooMany { limit, to } => message!(
                "more than {limit} redirects in a row, the last to {to}; correct the camera's url",
                limit = *limit,
                to
            ),
            Self::Loop { to } => message!("it leads back to {to}; correct the camera's url", to),
            Self::NoTarget { status } => message!("status {status} names no target", status = u32::from(*status)),
            Self::InvalidTarget { to } => message!("its target \"{to}\" is not an rtsp:// or rtsps:// URL", to),
        }
    }
}

impl fmt::Display for RedirectProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.message().fmt(f)
    }
}

/// What to do about a status that has no error of its own.
fn advice(status: u16) -> Message {
    match status {
        300..=399 => message!("the camera points elsewhere; correct the camera's url"),
        400 | 405 | 451 | 455 | 456 | 501 => {
            message!(
                "the camera does not understand the request; check the path in the camera's url and its firmware version"
            )
        }
        457 => message!("the camera cannot play live from here; check the path in the camera's url"),
        459 | 460 => {
            message!("the camera cannot play this stream by itself; choose another stream in the camera's url")
        }
        551 => {
            message!("the camera lacks an option of RTSP; check the path in the camera's url and its firmware version")
        }
        500..=599 => message!("the camera has an internal error; restart it if this lasts"),
        _ => message!("check the path in the camera's url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_wrong_and_what_to_do() {
        let busy = Error::Busy {
            status: 503,
            step: Step::Setup,
        };
        assert!(busy.to_string().contains("no free stream"), "{busy}");
        assert_eq!(busy.class(), Class::Transient);
        let login = Error::Unauthorized {
            status: 401,
            step: Step::Describe,
            login: LoginProblem::Rejected {
                tried: "Digest MD5".into(),
            },
        };
        assert!(login.to_string().contains("tried Digest MD5"), "{login}");
        assert_eq!(login.class(), Class::Config);
        let status = Error::Status {
            status: 551,
            step: Step::Play,
        };
        assert!(status.to_string().contains("firmware"), "{status}");
    }
}
