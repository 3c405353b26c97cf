//! Calls to one device, with the login that it asks for.

use std::net::IpAddr;

use gridwatch_base::text::printable;
use gridwatch_camera::receive::{LoginPolicy, LoginProblem, LoginSchemes};
use gridwatch_rtsp::{HttpLogin, LoginAttempt};
use jiff::{SignedDuration, Timestamp};
use url::Url;

use super::{DEVICE, DeviceClock, DeviceOptions, OnvifError, read};
use crate::{
    http::{self, HttpError, HttpRequest},
    soap::{self, Fault},
    xml::{Element, cut},
};

/// Requests for one call: the first without a login, one for each scheme, and one for a stale nonce.
const MAX_REQUESTS: usize = 5;

/// The call that needs no login.
const TIME: &str = "GetSystemDateAndTime";

/// Host and port, for errors.
pub(super) fn name(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

/// What the device asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// Nothing so far.
    None,
    /// HTTP Digest, or Basic where that is allowed.
    Http,
    /// A UsernameToken in the envelope.
    Token,
}

/// A client of one device.
pub(super) struct Client<'a> {
    own: &'a Url,
    options: &'a DeviceOptions,
    login: HttpLogin,
    scheme: Scheme,
    /// After a refusal nothing more is tried: cameras lock users after a few wrong passwords.
    refused: Option<OnvifError>,
    /// The device's clock minus this machine's.
    clock: SignedDuration,
    peer: Option<IpAddr>,
}

impl<'a> Client<'a> {
    pub(super) fn new(own: &'a Url, options: &'a DeviceOptions) -> Self {
        let schemes = match options.allows_plain_password {
            true => LoginSchemes::Auto,
            false => LoginSchemes::Digest,
        };
        let is_encrypted = own.scheme() == "https";
        let credentials = options.credentials.clone();
        Self {
            own,
            options,
            login: HttpLogin::new(credentials, LoginPolicy::new(schemes), is_encrypted, fastrand::u64(..)),
            scheme: Scheme::None,
            refused: None,
            clock: SignedDuration::ZERO,
            peer: None,
        }
    }

    /// The address that answered last.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// The login in use, for a person.
    pub(super) fn login(&self) -> Option<String> {
        match self.scheme {
            Scheme::None => None,
            Scheme::Http => self.login.in_use().map(|scheme| format!("HTTP {scheme}")),
            Scheme::Token => Some("UsernameToken".to_owned()),
        }
    }

    /// Whether `host` is the named one, its address, or a confirmed one.
    pub(super) fn is_own_host(&self, host: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(host);
        let address = host.parse::<IpAddr>().ok();
        is(http::host(self.own))
            || (address.is_some() && address == self.peer)
            || self.options.confirmed_hosts.iter().any(|own| is(own))
    }

    /// The device's clock. Asked without a login (ONVIF Core 5.9.4.5: pre-authentication).
    pub(super) async fn system_time(&mut self) -> Result<(Option<DeviceClock>, IpAddr), OnvifError> {
        let began = Timestamp::now();
        let answer = self.call(self.own, DEVICE, TIME, "").await?;
        let ended = Timestamp::now();
        // The device read its clock some time between the two.
        let here = began + ended.duration_since(began) / 2;
        let clock = read::system_time(&answer).map(|(time, is_ntp)| {
            self.clock = time.duration_since(here);
            DeviceClock {
                time,
                difference_s: self.clock.as_secs_f64(),
                is_ntp,
            }
        });
        Ok((clock, self.peer.unwrap_or(IpAddr::from([0, 0, 0, 0]))))
    }

    /// Calls `operation` of the service at `url` with the content `body`, and returns the element of the answer.
    pub(super) async fn call(
        &mut self,
        url: &Url,
        namespace: &str,
        operation: &'static str,
        body: &str,
    ) -> Result<Element, OnvifError> {
        let name = name(url);
        if !self.is_own_host(http::host(url)) {
            // The caller has moved it before; this is what keeps the login at home.
            return Err(OnvifError::NotOnvif {
                host: name,
                what: "an address at another host".to_owned(),
            });
        }
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        let content = format!("<{operation} xmlns=\"{namespace}\">{body}</{operation}>");
        let content_type = format!("application/soap+xml; charset=utf-8; action=\"{namespace}/{operation}\"");
        let mut attempt = LoginAttempt::default();
        for _ in 0..MAX_REQUESTS {
            let envelope = soap::envelope(&content, &self.token(&name)?);
            let target = http::target(url);
            let authorization = self
                .login
                .authorization("POST", &target, envelope.as_bytes(), &mut attempt);
            let request = HttpRequest {
                url,
                content_type: &content_type,
                authorization: authorization.as_deref().filter(|_| self.scheme == Scheme::Http),
                body: envelope,
            };
            let response = http::post(request, &self.options.trust, self.options.call_limit).await;
            let response = response.map_err(|error| in_words(&name, error))?;
            self.peer = Some(response.peer);
            if (300..400).contains(&response.status) {
                let to = response.location.unwrap_or_default();
                return Err(OnvifError::Redirected {
                    host: name,
                    to: without_login(&to),
                });
            }
            let answer = Element::parse(&response.body);
            let body = answer.as_ref().ok().and_then(|envelope| envelope.at(&["Body"]));
            let fault = body.and_then(Fault::of);
            let asks_for_login = response.status == 401 || fault.as_ref().is_some_and(Fault::is_about_login);
            if asks_for_login && operation == TIME {
                // Asked before any login; a device that wants one even for this is asked on without its clock.
                return Err(OnvifError::LoginRequired { host: name });
            }
            if asks_for_login {
                self.log_in(&name, &response.challenges, &mut attempt)?;
                continue;
            }
            if let Some(fault) = fault {
                return Err(OnvifError::Fault {
                    host: name,
                    call: operation,
                    reason: fault.reason,
                });
            }
            let what = match (&answer, response.status) {
                (_, status @ (..200 | 300..)) => format!("HTTP status {status}"),
                (Err(error), _) => error.to_string(),
                (Ok(_), _) => "its answer has no content".to_owned(),
            };
            let content = body.and_then(|body| body.children().first());
            return match content.filter(|_| (200..300).contains(&response.status)) {
                Some(content) => Ok(content.clone()),
                None => Err(OnvifError::NotOnvif { host: name, what }),
            };
        }
        Err(self.refuse(OnvifError::LoginRefused {
            host: name,
            tried: self.login().unwrap_or_default(),
        }))
    }

    /// The UsernameToken, if the device asked for it.
    fn token(&self, name: &str) -> Result<String, OnvifError> {
        let Some(credentials) = self
            .options
            .credentials
            .as_ref()
            .filter(|_| self.scheme == Scheme::Token)
        else {
            return Ok(String::new());
        };
        let now = Timestamp::now();
        let created = now.checked_add(self.clock).unwrap_or(now);
        soap::username_token(credentials, created).ok_or_else(|| OnvifError::Unreachable {
            host: name.to_owned(),
            what: "this system has no random numbers for the login".to_owned(),
        })
    }

    /// Chooses the next login to try. After `Ok` the request is sent again.
    fn log_in(&mut self, name: &str, challenges: &[String], attempt: &mut LoginAttempt) -> Result<(), OnvifError> {
        let host = name.to_owned();
        if self.options.credentials.is_none() {
            return Err(self.refuse(OnvifError::LoginRequired { host }));
        }
        let refused = |client: &Self| OnvifError::LoginRefused {
            host: host.clone(),
            tried: client.login().unwrap_or_default(),
        };
        if self.scheme == Scheme::Token {
            let error = refused(self);
            return Err(self.refuse(error));
        }
        match self.login.challenged(challenges.iter().map(String::as_str), attempt) {
            Ok(()) => {
                self.scheme = Scheme::Http;
                Ok(())
            }
            Err(LoginProblem::Rejected { tried }) => {
                let tried = format!("HTTP {tried}");
                Err(self.refuse(OnvifError::LoginRefused { host, tried }))
            }
            // A token has the password as a digest only.
            Err(_) if self.scheme == Scheme::None && !is_http_only(challenges) => {
                self.scheme = Scheme::Token;
                Ok(())
            }
            Err(_) => Err(self.refuse(OnvifError::PasswordInClear { host })),
        }
    }

    fn refuse(&mut self, error: OnvifError) -> OnvifError {
        self.refused = Some(error.clone());
        error
    }
}

/// Whether a device asks for Basic alone, in HTTP, which it would not do if it took tokens.
fn is_http_only(challenges: &[String]) -> bool {
    !challenges.is_empty()
        && challenges
            .iter()
            .all(|c| c.trim_start().to_ascii_lowercase().starts_with("basic"))
}

fn in_words(name: &str, error: HttpError) -> OnvifError {
    let (host, what) = (name.to_owned(), error.to_string());
    match error {
        HttpError::Timeout(_) | HttpError::Connect(_) => OnvifError::Unreachable { host, what },
        HttpError::TooLarge | HttpError::Protocol(_) => OnvifError::NotOnvif { host, what },
    }
}

/// A redirect's target for an error, without the login that it may contain.
fn without_login(location: &str) -> String {
    let text = location.rsplit_once('@').map_or(location, |(_, after)| after);
    printable(cut(text, 120))
}
