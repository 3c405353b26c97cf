//! Requests of the server (RFC 2326, section 10; RFC 7826, 13.5): each is answered, and REDIRECT followed.

use std::time::{Duration, Instant};

use super::Session;
use crate::{
    error::{Error, Step},
    message::{ServerRequest, write_response},
};

/// Requests of the server answered per window. Cameras send one a minute, if any; a flood would fill the way back.
const MAX_REQUESTS: u32 = 100;
const WINDOW: Duration = Duration::from_secs(10);
/// Longest header value sent back.
const MAX_ECHO: usize = 256;

/// Counts the requests of the server.
#[derive(Debug)]
pub(super) struct RequestBudget {
    since: Instant,
    count: u32,
}

impl RequestBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, count: 0 }
    }

    /// Counts one more; `false` if that is too many.
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= WINDOW {
            *self = Self::new(now);
        }
        self.count += 1;
        self.count <= MAX_REQUESTS
    }
}

impl Session {
    /// Answers a request of the server.
    pub(crate) fn server_request(&mut self, request: &ServerRequest, now: Instant) {
        if self.is_closed || self.step == Step::Tunnel {
            return;
        }
        if !self.requests.take(now) {
            return self.fail(Error::LimitExceeded {
                what: "a number of requests in 10 s",
                limit: MAX_REQUESTS as usize,
            });
        }
        let is_known = matches!(
            request.method.as_str(),
            "OPTIONS" | "ANNOUNCE" | "GET_PARAMETER" | "SET_PARAMETER" | "REDIRECT" | "PLAY_NOTIFY"
        );
        let (status, reason) = if is_known {
            (200, "OK")
        } else {
            (501, "Not Implemented")
        };
        let mut headers = Vec::new();
        for (name, from) in [("CSeq", "cseq"), ("Session", "session")] {
            if let Some(value) = request.headers.get(from) {
                headers.push((name, value.chars().take(MAX_ECHO).collect()));
            }
        }
        if request.method == "OPTIONS" {
            let methods = "OPTIONS, ANNOUNCE, GET_PARAMETER, SET_PARAMETER, REDIRECT, PLAY_NOTIFY";
            headers.push(("Public", methods.into()));
        }
        self.write(write_response(status, reason, &headers));
        if request.method == "REDIRECT" && self.step == Step::Playing {
            self.redirect_requested(request, now);
        }
    }

    /// The server asks to go on elsewhere, or here after a reconnect (RFC 2326, 10.10; RFC 7826, 13.10).
    fn redirect_requested(&mut self, request: &ServerRequest, now: Instant) {
        if let Some(location) = request.headers.get("location") {
            let uri = self.aggregate_uri();
            self.send("TEARDOWN", uri, Default::default());
            self.deadline = now + self.settings.timeouts.connect;
            self.redirected(302, Some(location));
        } else {
            self.fail(Error::Redirect(crate::error::RedirectProblem::NoTarget { status: 302 }));
        }
    }
}
