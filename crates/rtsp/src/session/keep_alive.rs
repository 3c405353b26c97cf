//! When and how the session is kept alive.
//!
//! A session ends at the server if no request comes for its time-out (RFC 2326, section 12.37). Whether the server
//! answers does not matter: pictures show that it lives.

use std::time::{Duration, Instant};

use crate::message::{Headers, leading_number, parameter};

/// Time-out of a session that names none (RFC 2326, section 12.37).
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Bounds of the interval: often enough for NAT and firewalls in between, rare enough to cost nothing.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// The server's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SessionId {
    /// Empty if the server gave none.
    pub(super) id: String,
    pub(super) timeout: Duration,
}

impl SessionId {
    /// Reads a `Session` header.
    pub(super) fn read(headers: &Headers) -> Self {
        let value = headers.get("session").unwrap_or_default();
        let timeout = parameter(value, "timeout").and_then(leading_number);
        Self {
            id: value.split(';').next().unwrap_or_default().trim().to_owned(),
            timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
        }
    }

    /// Half of the time-out, within bounds.
    pub(super) fn interval(&self) -> Duration {
        (self.timeout / 2).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }
}

/// The keep-alive requests of one session.
#[derive(Debug)]
pub(super) struct KeepAlive {
    pub(super) interval: Duration,
    pub(super) due_at: Instant,
    get_parameter: Support,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Support {
    /// The server did not say yet.
    Unknown,
    Yes,
    No,
}

impl KeepAlive {
    /// The first request asks at once for the methods the server supports.
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            due_at: now,
            get_parameter: Support::Unknown,
        }
    }

    /// The request to send now.
    pub(super) fn next_method(&mut self, now: Instant) -> &'static str {
        self.due_at = now + self.interval;
        match self.get_parameter {
            Support::Yes => "GET_PARAMETER",
            Support::Unknown | Support::No => "OPTIONS",
        }
    }

    /// Takes the answer to a keep-alive, or to another OPTIONS request.
    pub(super) fn answered(&mut self, method: &str, status: u16, headers: &Headers) {
        if method == "GET_PARAMETER" && status >= 300 {
            self.get_parameter = Support::No;
        }
        if method == "OPTIONS" && self.get_parameter != Support::No {
            self.get_parameter = match is_listed(headers, "GET_PARAMETER") {
                Some(true) => Support::Yes,
                Some(false) => Support::No,
                None => Support::Unknown,
            };
        }
    }
}

/// Whether the server lists `method`; `None` if it lists none.
fn is_listed(headers: &Headers, method: &str) -> Option<bool> {
    let mut words = headers
        .all("public")
        .flat_map(|list| list.split([',', ' ', ';']))
        .peekable();
    words.peek()?;
    Some(words.any(|word| word.eq_ignore_ascii_case(method)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parser::{Item, Parser};

    fn headers(lines: &str) -> Headers {
        match Parser::new(Default::default()).next(format!("RTSP/1.0 200\n{lines}\n\n").as_bytes()) {
            Ok((_, Item::Response(response))) => response.headers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sessions_of_any_timeout_are_kept_alive() {
        let of = |line: &str| {
            let session = SessionId::read(&headers(line));
            (session.id.clone(), session.interval().as_secs())
        };
        assert_eq!(of("Session: 4711;timeout=10"), ("4711".into(), 5));
        assert_eq!(of("session : 4711 ; Timeout = 0"), ("4711".into(), 1));
        assert_eq!(of("Session: a b;timeout=1"), ("a b".into(), 1));
        assert_eq!(of("Session: 1;timeout=99999999999999999999999"), ("1".into(), 30));
        assert_eq!(of("Session: 1;timeout=soon"), ("1".into(), 30));
        assert_eq!(of("X: y"), (String::new(), 30));
    }

    #[test]
    fn the_method_follows_what_the_server_offers() {
        let now = Instant::now();
        let mut alive = KeepAlive::new(Duration::from_secs(5), now);
        assert_eq!(alive.next_method(now), "OPTIONS");
        assert_eq!(alive.due_at, now + Duration::from_secs(5));
        alive.answered("OPTIONS", 200, &headers("Public: OPTIONS, get_parameter"));
        assert_eq!(alive.next_method(now), "GET_PARAMETER");
        alive.answered("GET_PARAMETER", 501, &headers("X: y"));
        assert_eq!(alive.next_method(now), "OPTIONS");
        alive.answered("OPTIONS", 200, &headers("Public: GET_PARAMETER"));
        assert_eq!(alive.next_method(now), "OPTIONS", "it was refused before");
    }
}
