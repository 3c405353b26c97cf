//! What lies outside the box: addresses, and who the box is there.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use url::{Host, Url};

use super::{At, Checker, top};
use crate::{
    Broker, Credentials, Tls, raw,
    secret::{self, CredentialFault},
};
use gridwatch_contract::Template;

/// MQTT's ports without and with TLS (IANA).
const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Below 5 s a slow line's round trip is taken for death; MQTT counts it in 16 bits of seconds, and past an hour a dead
/// broker is found out by the outbox first.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// A reply that came while the box was away is worth nothing after a month.
const SESSION_EXPIRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_hours(31 * 24));

impl Checker<'_> {
    pub(super) fn broker(&mut self) {
        let at = top("broker");
        let Some(raw) = self.required::<raw::Broker>(&at) else {
            return;
        };
        let url_at = at.key("url");
        let url = self.url(&url_at, &raw.url, "mqtt://broker.example:1883");
        let credentials = raw
            .credentials
            .as_ref()
            .and_then(|c| self.credentials(&at.key("credentials"), c));
        let ca_at = at.key("ca_file");
        let ca = raw.ca_file.as_ref().map(|p| {
            self.existing(
                &ca_at,
                p,
                "the PEM file of the authority that signed the broker's certificate",
            )
        });
        let client = raw.client.as_ref().map(|c| self.client(&at.key("client"), c));
        let template = raw
            .template
            .as_ref()
            .and_then(|p| self.template(&at.key("template"), p));
        self.between(&at.key("keep_alive"), raw.keep_alive, KEEP_ALIVE);
        self.between(&at.key("session_expiry"), raw.session_expiry, SESSION_EXPIRY);
        let Some(url) = url else { return };
        let tls = match url.scheme() {
            "mqtt" => false,
            "mqtts" => true,
            other => {
                let message = format!("{other}:// is not spoken here");
                self.fault(&url_at, message, "write mqtt:// (plain) or mqtts:// (TLS)");
                return;
            }
        };
        let Some(host) = url.host_str().filter(|h| !h.is_empty()) else {
            self.fault(&url_at, "names no host", "write mqtt://broker.example:1883");
            return;
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            self.fault(
                &url_at,
                "has a path",
                "end it after the port: topics are fixed by the contract",
            );
        }
        let tls = match (tls, ca) {
            (true, Some(ca)) => ca.map(|ca_file| Tls {
                ca_file,
                client: client.flatten(),
            }),
            (true, None) if self.is_taken(&ca_at) => None,
            (true, None) => {
                let remedy = "name the PEM file of the authority that signed the broker's certificate; on Debian all public ones \
                              are in /etc/ssl/certs/ca-certificates.crt";
                self.fault(&ca_at, "missing, and the broker's URL is mqtts://", remedy);
                None
            }
            (false, Some(_)) => {
                self.fault(
                    &ca_at,
                    "is set, but the broker's URL is mqtt://, which encrypts nothing",
                    "write mqtts://, or remove ca_file",
                );
                None
            }
            (false, None) => {
                if raw.client.is_some() {
                    self.fault(
                        &at.key("client"),
                        "is set, but the broker's URL is mqtt://: a certificate is shown over TLS alone",
                        "write mqtts:// and ca_file, or remove it",
                    );
                }
                if raw.credentials.is_some() && !is_loopback(&url) {
                    self.warn(
                        &url_at,
                        "the password and every case travel unencrypted",
                        "use mqtts:// and ca_file",
                    );
                }
                None
            }
        };
        self.draft.broker = Some(Broker {
            host: host.trim_start_matches('[').trim_end_matches(']').into(),
            port: url.port().unwrap_or(if tls.is_some() { MQTTS_PORT } else { MQTT_PORT }),
            protocol: raw.protocol,
            tls,
            credentials,
            keep_alive: raw.keep_alive.0,
            in_flight: raw.in_flight,
            topic_prefix: raw.topic_prefix,
            session_expiry: raw.session_expiry.0,
            share_sites: raw.share_sites,
            template,
        });
    }

    fn template(&mut self, at: &At, path: &Path) -> Option<Template> {
        let file = self.existing(at, path, "a JSON template")?;
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(e) => {
                let message = format!("{} cannot be read: {e}", path.display());
                self.fault(at, message, "save it as UTF-8 that this user may read");
                return None;
            }
        };
        match Template::parse(&text) {
            Ok(template) => Some(template),
            Err(faults) => {
                for fault in faults {
                    let message = format!("{}: {fault}", path.display());
                    self.fault(at, message, "docs/contract.md has the template's form");
                }
                None
            }
        }
    }

    /// The box's certificate and key.
    fn client(&mut self, at: &At, raw: &raw::ClientCertificate) -> Option<(PathBuf, PathBuf)> {
        let cert = self.existing(
            &at.key("cert_file"),
            &raw.cert_file,
            "the PEM file of the box's certificate",
        );
        let key_at = at.key("key_file");
        let key = self.existing(&key_at, &raw.key_file, "the PEM file of the certificate's private key")?;
        let mode = fs::metadata(&key).map_or(0, |m| m.permissions().mode() & 0o777);
        if mode & 0o007 != 0 {
            self.fault(
                &key_at,
                format!("may be read by everybody (mode {mode:03o})"),
                format!("chmod 600 {}", key.display()),
            );
        }
        Some((cert?, key))
    }

    /// Parses a URL without ever showing it: it may hold a password. What comes back holds none.
    pub(super) fn url(&mut self, at: &At, text: &str, example: &str) -> Option<Url> {
        if self.is_taken(at) {
            return None;
        }
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(e) => {
                self.fault(at, format!("not a URL: {e}"), format!("write it like {example}"));
                return None;
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.fault(
                at,
                "holds a user or a password",
                "take them out of the URL; put user:password into an environment variable or a file, and name that under `credentials`",
            );
            // Neither can fail: a URL with a user has a host.
            let _ = (url.set_username(""), url.set_password(None));
        }
        let lower = text.to_lowercase();
        if ["password=", "passwd=", "pwd="].iter().any(|p| lower.contains(p)) {
            self.warn(
                at,
                "seems to hold a password as a parameter",
                "cameras' URLs are logged; set the camera to Digest authentication and use `credentials`",
            );
        }
        Some(url)
    }

    /// Reads credentials from where they are said to be.
    pub(super) fn credentials(&mut self, at: &At, raw: &raw::Credentials) -> Option<Credentials> {
        if self.is_taken(at) {
            return None;
        }
        match (&raw.env, &raw.file) {
            (None, None) | (Some(_), Some(_)) => {
                let message = if raw.env.is_some() {
                    "both env and file are set"
                } else {
                    "neither env nor file is set"
                };
                self.fault(
                    at,
                    message,
                    "name exactly one: env = \"VARIABLE\" or file = \"/path\", which hold user:password",
                );
                None
            }
            (Some(name), None) => {
                let at = at.key("env");
                let Some(text) = (self.env)(name) else {
                    let remedy =
                        format!("start with {name}=user:password in the environment (systemd: EnvironmentFile=)");
                    self.fault(&at, format!("the environment variable {name} is not set"), remedy);
                    return None;
                };
                secret::parse(&text)
                    .map_err(|_| {
                        self.fault(
                            &at,
                            format!("what {name} holds is not user:password"),
                            "set it to user:password",
                        )
                    })
                    .ok()
            }
            (None, Some(path)) => {
                let at = at.key("file");
                // `admin:secret` typed where a path belongs must not be shown.
                let shown = if path.as_os_str().as_encoded_bytes().contains(&b':') {
                    "the file".to_owned()
                } else {
                    self.shown(path).display().to_string()
                };
                let (message, remedy) = match secret::read(&self.shown(path)) {
                    Ok(credentials) => return Some(credentials),
                    Err(CredentialFault::Missing) => (
                        format!("{shown} does not exist"),
                        "make it: one line, user:password, mode 0600".into(),
                    ),
                    Err(CredentialFault::NotAFile) => (format!("{shown} is no file"), "name a file".into()),
                    Err(CredentialFault::Unreadable(kind)) => (
                        format!("{shown} cannot be read: {kind}"),
                        "let the daemon's user read it: chown, chmod 0600".into(),
                    ),
                    Err(CredentialFault::ReadableByAll(mode)) => (
                        format!("{shown} is open to every user of the box (mode {mode:04o})"),
                        "chmod 0600 it, and change the password".into(),
                    ),
                    Err(CredentialFault::Malformed) => (
                        format!("the first line of {shown} is not user:password"),
                        "write one line: user:password".to_owned(),
                    ),
                };
                self.fault(&at, message, remedy);
                None
            }
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(a)) => a.is_loopback(),
        Some(Host::Ipv6(a)) => a.is_loopback(),
        // Schemes that url does not know keep an address as a name.
        Some(Host::Domain(name)) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback()),
        None => false,
    }
}
