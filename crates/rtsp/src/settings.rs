//! What a client is told about its camera.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gridwatch_base::secret::Credentials;
use url::Url;

use crate::{error::Error, message::Limits};

/// How RTP packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// Interleaved with RTSP on its connection (RFC 2326, section 10.12).
    #[default]
    Tcp,
    /// In UDP datagrams, unicast.
    Udp,
    /// Interleaved with RTSP, which is tunnelled over two HTTP connections (Apple's RTSP over HTTP).
    HttpTunnel,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::HttpTunnel => "HTTP",
        }
    }
}

/// Which logins a camera may ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoginSchemes {
    /// Any; Basic over an unencrypted connection only as long as the camera never asked for Digest.
    #[default]
    Auto,
    /// Digest alone.
    Digest,
    /// Basic alone, which sends the password in the clear if the connection is not encrypted.
    Basic,
}

/// Which logins are answered. Clones share the memory of whether the camera asked for Digest: keep one policy for each camera, so that an
/// impostor that answers later cannot ask for Basic.
#[derive(Debug, Clone, Default)]
pub struct LoginPolicy {
    /// What the camera may ask for.
    pub schemes: LoginSchemes,
    asked_for_digest: Arc<AtomicBool>,
}

impl LoginPolicy {
    /// A policy that remembers nothing yet.
    pub fn new(schemes: LoginSchemes) -> Self {
        Self {
            schemes,
            asked_for_digest: Arc::default(),
        }
    }

    /// The camera asked for Digest.
    pub(crate) fn note_digest(&self) {
        self.asked_for_digest.store(true, Ordering::Relaxed);
    }

    pub(crate) fn allows_digest(&self) -> bool {
        self.schemes != LoginSchemes::Basic
    }

    pub(crate) fn allows_basic(&self, is_encrypted: bool) -> bool {
        match self.schemes {
            LoginSchemes::Digest => false,
            LoginSchemes::Basic => true,
            LoginSchemes::Auto => is_encrypted || !self.asked_for_digest.load(Ordering::Relaxed),
        }
    }
}

/// Time limits of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the start to the response to PLAY, redirects and logins included.
    pub connect: Duration,
    /// Longest time without a packet of the video stream once it plays.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            // After a reboot some cameras take seconds to answer DESCRIBE.
            connect: Duration::from_secs(10),
            // Street cameras send at least one picture a second, at night too.
            idle: Duration::from_secs(10),
        }
    }
}

/// How to receive one camera.
#[derive(Clone)]
pub struct ClientSettings {
    /// `rtsp://host[:port]/path` or `rtsps://…`. A user or password in it is ignored.
    pub url: Url,
    /// For Basic or Digest logins.
    pub credentials: Option<Credentials>,
    /// Which logins are answered.
    pub login: LoginPolicy,
    /// How RTP packets come.
    pub transport: Transport,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Bounds on what the camera may send.
    pub limits: Limits,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may contain a password, although it should not.
        f.debug_struct("ClientSettings")
            .field("host", &self.url.host_str())
            .field("path", &self.url.path())
            .field("transport", &self.transport)
            .field("timeouts", &self.timeouts)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is encrypted (RTSPS, HTTPS).
    pub tls: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Endpoint {
    /// The endpoint of `url`. Ports by default: RTSP 554, RTSPS 322 (RFC 7826, 22.16), in the tunnel those of HTTP.
    pub(crate) fn of(url: &Url, transport: Transport) -> Result<Self, Error> {
        let invalid = |what: String| Error::Url { what };
        let tls = is_tls(url).ok_or_else(|| {
            invalid(format!(
                "unsupported URL scheme `{}`; use rtsp:// or rtsps://",
                url.scheme()
            ))
        })?;
        let host = url.host_str().filter(|h| !h.is_empty());
        let host = host.ok_or_else(|| invalid("it names no host".into()))?;
        let default = match (transport, tls) {
            (Transport::HttpTunnel, false) => 80,
            (Transport::HttpTunnel, true) => 443,
            (_, false) => 554,
            (_, true) => 322,
        };
        Ok(Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().filter(|p| *p != 0).unwrap_or(default),
            tls,
        })
    }
}

/// Whether `url` asks for TLS; `None` if it is not an RTSP URL.
pub(crate) fn is_tls(url: &Url) -> Option<bool> {
    match url.scheme() {
        "rtsp" | "rtspu" | "rtspt" => Some(false),
        "rtsps" => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_has_the_port_of_its_scheme() {
        let of = |url: &str, transport| {
            let endpoint = Endpoint::of(&Url::parse(url).unwrap(), transport);
            endpoint.map(|e| format!("{e} {}", e.tls)).map_err(|e| e.to_string())
        };
        assert_eq!(of("rtsp://c/x", Transport::Tcp).unwrap(), "c:554 false");
        assert_eq!(of("rtsps://[::1]/x", Transport::Udp).unwrap(), "[::1]:322 true");
        assert_eq!(of("rtsp://c/x", Transport::HttpTunnel).unwrap(), "c:80 false");
        assert_eq!(of("rtsps://c:8443/x", Transport::HttpTunnel).unwrap(), "c:8443 true");
        assert!(of("http://c/x", Transport::Tcp).unwrap_err().contains("`http`"));
        assert!(of("rtsp:/x", Transport::Tcp).unwrap_err().contains("no host"));
    }
}
