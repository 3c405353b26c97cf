//! Redirects: followed a few times, without loops, and with credentials only to the configured host.

use url::Url;

use super::{Session, address, tunnel::Tunnel};
use crate::{
    auth::Authenticator,
    client::{Connection, Event, Output},
    error::{Error, RedirectProblem, Step},
    sdp::MAX_URL,
    settings::{ClientSettings, Endpoint, is_tls},
};

/// Redirects followed in one connection attempt.
const MAX_REDIRECTS: usize = 5;
/// Characters of an invalid target that an error shows.
const MAX_SHOWN: usize = 120;

/// Where the camera redirected to so far.
#[derive(Debug)]
pub(super) struct Redirects {
    visited: Vec<String>,
}

impl Redirects {
    pub(super) fn new(first: &Url) -> Self {
        Self {
            visited: vec![address::request_uri(first)],
        }
    }

    /// The target of a redirect from `url`.
    fn follow(&mut self, url: &Url, status: u16, location: Option<&str>) -> Result<Url, RedirectProblem> {
        let location = location.map(str::trim).filter(|l| !l.is_empty());
        let location = location.ok_or(RedirectProblem::NoTarget { status })?;
        let invalid = || RedirectProblem::InvalidTarget { to: shown(location) };
        let target = url.join(location).map_err(|_| invalid())?;
        if location.len() > MAX_URL || is_tls(&target).is_none() || target.host_str().is_none_or(str::is_empty) {
            return Err(invalid());
        }
        let to = address::request_uri(&target);
        if self.visited.contains(&to) {
            return Err(RedirectProblem::Loop { to });
        }
        if self.visited.len() > MAX_REDIRECTS {
            return Err(RedirectProblem::TooMany {
                limit: MAX_REDIRECTS,
                to,
            });
        }
        self.visited.push(to);
        Ok(target)
    }
}

/// `location` for an error, without the user and password that it may contain.
fn shown(location: &str) -> String {
    let text = match location.rsplit_once('@') {
        Some((_, after)) => after,
        None => location,
    };
    text.chars().take(MAX_SHOWN).collect()
}

/// Whether credentials for `configured` may be sent to `target`: to the same host, and not from TLS to an unencrypted
/// connection.
fn may_send_credentials(configured: &Url, target: &Url) -> bool {
    let host = |url: &Url| url.host_str().map(str::to_ascii_lowercase);
    let is_downgrade = is_tls(configured) == Some(true) && is_tls(target) != Some(true);
    host(configured) == host(target) && !is_downgrade
}

impl Session {
    /// Follows a redirect: everything begins anew at its target.
    pub(super) fn redirected(&mut self, status: u16, location: Option<&str>) {
        let followed = self.redirects.follow(&self.url, status, location);
        let target = match followed.map_err(Error::Redirect) {
            Ok(target) => target,
            Err(error) => return self.fail(error),
        };
        let endpoint = match Endpoint::of(&target, self.settings.transport) {
            Ok(endpoint) => endpoint,
            Err(error) => return self.fail(error),
        };
        let with_credentials = may_send_credentials(&self.settings.url, &target);
        self.outputs.push_back(Output::Event(Event::Redirected {
            from: address::request_uri(&self.url),
            to: address::request_uri(&target),
            with_credentials,
        }));
        self.outputs.push_back(Output::Disconnect(Connection::Main));
        if self.tunnel.is_some() {
            self.outputs.push_back(Output::Disconnect(Connection::Post));
        }
        let auth = || {
            let ClientSettings { credentials, login, .. } = &self.settings;
            Authenticator::new(credentials.clone(), !with_credentials, login.clone(), endpoint.tls)
        };
        self.auth = auth();
        if self.tunnel.is_some() {
            self.tunnel = Some(Tunnel::new(auth(), &mut self.random));
        }
        (self.url, self.endpoint) = (target, endpoint);
        self.outstanding = None;
        self.presentation = None;
        self.id = None;
        self.delivery = None;
        self.last_packet_at = None;
        self.keep_alive = None;
        self.is_reset = true;
        self.enter(Step::Connect);
        self.connect(Connection::Main);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn credentials_go_to_the_same_host_alone() {
        let may = |from: &str, to: &str| may_send_credentials(&url(from), &url(to));
        assert!(may("rtsp://Cam/x", "rtsp://cam:8554/y"));
        assert!(may("rtsp://cam/x", "rtsps://cam/x"));
        assert!(!may("rtsp://cam/x", "rtsp://cam.evil/x"));
        assert!(!may("rtsps://cam/x", "rtsp://cam/x"));
    }

    #[test]
    fn redirects_are_bounded_and_loops_found() {
        let start = url("rtsp://c/0");
        let mut redirects = Redirects::new(&start);
        for n in 1..=5 {
            assert!(redirects.follow(&start, 302, Some(&format!("/{n}"))).is_ok());
        }
        let too_many = redirects.follow(&start, 302, Some("rtsp://u:p@c/6"));
        let to = "rtsp://c/6".to_owned();
        assert_eq!(too_many, Err(RedirectProblem::TooMany { limit: 5, to }));
        let to = "rtsp://c/3".to_owned();
        assert_eq!(
            redirects.follow(&start, 302, Some("3")),
            Err(RedirectProblem::Loop { to })
        );
    }

    #[test]
    fn targets_must_be_rtsp() {
        let mut redirects = Redirects::new(&url("rtsp://c/0"));
        let mut follow = |to| redirects.follow(&url("rtsp://c/0"), 301, to);
        assert_eq!(follow(None), Err(RedirectProblem::NoTarget { status: 301 }));
        assert_eq!(follow(Some(" ")), Err(RedirectProblem::NoTarget { status: 301 }));
        let invalid = follow(Some("http://u:p@c/")).unwrap_err();
        assert!(!invalid.to_string().contains("u:p"), "{invalid}");
        assert!(follow(Some("rtsp:///x")).is_err());
        assert_eq!(follow(Some("/y")), Ok(url("rtsp://c/y")));
    }
}
