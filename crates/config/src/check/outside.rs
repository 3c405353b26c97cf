//! External endpoints: URLs, credentials, and the broker section.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use url::{Host, Url};

use super::{Checker, FieldPath, Surroundings, section};
use crate::{Broker, Credentials, raw};
use gridwatch_base::{
    file,
    secret::{CredentialError, CredentialSource, Zeroizing},
};
use gridwatch_contract::Template;
use gridwatch_mqtt::{ServerTrust, Tls};

/// What systemd passes the directory of the unit's credentials in (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Stands for credentials that only the daemon's environment has, in commands that open no connection.
const DUMMY: &str = "unset:unset";

/// MQTT's ports without and with TLS (IANA).
const MQTT_PORT: u16 = 1883;
const MQTTS_PORT: u16 = 8883;

/// Below 5 s, the round trip of a slow link would look like a dead connection; beyond an hour, the outbox notices a dead broker
/// first. (MQTT stores seconds in 16 bits.)
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// A reply that arrived while the box was offline is worthless after a month.
const SESSION_EXPIRY: (Duration, Duration) = (Duration::from_secs(60), Duration::from_hours(31 * 24));

/// The TLS settings in `[broker]`.
struct TlsSettings {
    /// The outer `None`: not set; the inner one: not readable.
    trust: Option<Option<ServerTrust>>,
    /// Certificate and key; `None` if not set or not readable.
    client: Option<(PathBuf, PathBuf)>,
}

impl Checker<'_> {
    pub(super) fn broker(&mut self) {
        let at = section("broker");
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
        let ca = raw.ca_file.as_ref().map(|path| {
            // Only its content is noted here: the connection reads it, and says what is wrong with it.
            let _ = self.read_source(&ca_at, path, file::MAX_KEY);
            self.existing_file(
                &ca_at,
                path,
                "the PEM file of the CA that signed the broker's certificate",
            )
        });
        if ca.is_some() && raw.pin_sha256.is_some() {
            let remedy = "keep pin_sha256 to trust that one certificate, or ca_file to trust what the CA signs";
            self.fault(&at.key("pin_sha256"), "not allowed together with ca_file", remedy);
        }
        let pin = raw.pin_sha256.as_ref().map(|pin| pin.replace(':', "").to_lowercase());
        let trust = ca
            .map(|file| file.map(ServerTrust::CaFile))
            .or_else(|| pin.map(|pin| Some(ServerTrust::Pin(pin))));
        let client = raw.client.as_ref().map(|c| self.client(&at.key("client"), c));
        let template = raw
            .template
            .as_ref()
            .and_then(|p| self.template(&at.key("template"), p));
        self.check_range(&at.key("keep_alive"), raw.keep_alive, KEEP_ALIVE);
        self.check_range(&at.key("session_expiry"), raw.session_expiry, SESSION_EXPIRY);
        let Some(url) = url else { return };
        if !matches!(url.scheme(), "mqtt" | "mqtts") {
            let message = format!("unsupported scheme {:?}", url.scheme());
            self.fault(&url_at, message, "use mqtt:// (plain TCP) or mqtts:// (TLS)");
            return;
        }
        let Some(host) = url.host_str().filter(|h| !h.is_empty()) else {
            self.fault(&url_at, "missing host", "use a URL like mqtt://broker.example:1883");
            return;
        };
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            self.fault(
                &url_at,
                "must not have a path or a query",
                "end the URL after the port; to change the topics, set broker.topic_prefix",
            );
        }
        let settings = TlsSettings {
            trust,
            client: client.flatten(),
        };
        let tls = self.broker_tls(&at, &raw, &url, settings);
        // Each faulty field was replaced by a default: mqtts:// with a faulty ca_file would be plain TCP here.
        if !self.draft.faults_in("broker").is_empty() {
            return;
        }
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
            receipts: raw.receipts,
            template,
        });
    }

    /// The TLS settings of the broker connection; `None` for plain TCP, or if they are faulty.
    fn broker_tls(&mut self, at: &FieldPath, raw: &raw::Broker, url: &Url, settings: TlsSettings) -> Option<Tls> {
        let ca_at = at.key("ca_file");
        let pin_at = at.key("pin_sha256");
        match (url.scheme() == "mqtts", settings.trust) {
            (true, Some(trust)) => trust.map(|trust| Tls {
                trust,
                client: settings.client,
            }),
            (true, None) if self.is_invalid(&ca_at) || self.is_invalid(&pin_at) => None,
            (true, None) => {
                let remedy = "name the PEM file of the CA that signed the broker's certificate; on Debian, all public CAs are in \
                              /etc/ssl/certs/ca-certificates.crt; or set pin_sha256 to the SHA-256 of the certificate";
                self.fault(&ca_at, "required with an mqtts:// broker URL", remedy);
                None
            }
            (false, Some(_)) => {
                let at = if raw.ca_file.is_some() { ca_at } else { pin_at };
                self.fault(
                    &at,
                    "not allowed with an mqtt:// broker URL, which is not encrypted",
                    "use mqtts://, or remove the line",
                );
                None
            }
            (false, None) => {
                if raw.client.is_some() {
                    self.fault(
                        &at.key("client"),
                        "client certificates need TLS, but the broker URL is mqtt://",
                        "use mqtts:// with ca_file, or remove broker.client",
                    );
                }
                if raw.credentials.is_some() && !is_loopback(url) {
                    self.warn(
                        &at.key("url"),
                        "the password and all cases are sent unencrypted",
                        "use mqtts:// with ca_file",
                    );
                }
                None
            }
        }
    }

    fn template(&mut self, at: &FieldPath, path: &Path) -> Option<Template> {
        let bytes = self.read_source(at, path, file::MAX_TEXT);
        self.existing_file(at, path, "a JSON template")?;
        let text = match bytes.and_then(file::text) {
            Ok(text) => text,
            Err(e) => {
                let message = format!("cannot read {}: {e}", path.display());
                self.fault(at, message, "save it as UTF-8 and make it readable by this user");
                return None;
            }
        };
        match Template::parse(&text) {
            Ok(template) => Some(template),
            Err(faults) => {
                for fault in faults {
                    let message = format!("{}: {fault}", path.display());
                    self.fault(at, message, "see docs/contract.md for the template format");
                }
                None
            }
        }
    }

    /// Checks the box's certificate and private key.
    fn client(&mut self, at: &FieldPath, raw: &raw::ClientCertificate) -> Option<(PathBuf, PathBuf)> {
        let cert_at = at.key("cert_file");
        let _ = self.read_source(&cert_at, &raw.cert_file, file::MAX_KEY);
        let cert = self.existing_file(&cert_at, &raw.cert_file, "the PEM file of the box's certificate");
        let key_at = at.key("key_file");
        let key = self.existing_file(&key_at, &raw.key_file, "the PEM file of the certificate's private key")?;
        let mode = fs::metadata(&key).map_or(0, |m| m.permissions().mode() & 0o777);
        if mode & 0o007 != 0 {
            self.fault(
                &key_at,
                format!("the private key is accessible to other users (mode {mode:04o})"),
                format!("run: chmod 600 {}", key.display()),
            );
        }
        Some((cert?, key))
    }

    /// Parses a URL without ever printing it, because it may contain a password. The returned URL has no user information.
    pub(super) fn url(&mut self, at: &FieldPath, text: &str, example: &str) -> Option<Url> {
        if self.is_invalid(at) {
            return None;
        }
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(e) => {
                self.fault(at, format!("invalid URL: {e}"), format!("use a URL like {example}"));
                return None;
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.fault(
                at,
                "contains a user name or password",
                "remove them from the URL; put user:password into an environment variable or a file, and name that under `credentials`",
            );
            // Neither call can fail: a URL with user information has a host.
            let _ = (url.set_username(""), url.set_password(None));
        }
        let lower = text.to_lowercase();
        if ["password=", "passwd=", "pwd="].iter().any(|p| lower.contains(p)) {
            self.warn(
                at,
                "appears to contain a password",
                "camera URLs are logged; switch the camera to Digest authentication and use `credentials`",
            );
        }
        Some(url)
    }

    /// Where the credentials are, to read them again later; `None` if that is faulty or unknown.
    pub(super) fn credential_source(&self, raw: &raw::Credentials) -> Option<CredentialSource> {
        match (&raw.env, &raw.file, &raw.credential) {
            (Some(name), None, None) => Some(CredentialSource::Variable(name.clone())),
            (None, Some(path), None) => Some(CredentialSource::File(self.resolve(path))),
            (None, None, Some(name)) => Some(CredentialSource::File(self.credentials_directory()?.join(name))),
            _ => None,
        }
    }

    /// Where systemd puts the credentials of the unit; it does not change while the process runs.
    fn credentials_directory(&self) -> Option<PathBuf> {
        (self.surroundings.variable)(CREDENTIALS_DIRECTORY).map(PathBuf::from)
    }

    /// Reads credentials from the environment variable, the file or the systemd credential that the configuration names.
    pub(super) fn credentials(&mut self, at: &FieldPath, raw: &raw::Credentials) -> Option<Credentials> {
        if self.is_invalid(at) {
            return None;
        }
        match (&raw.env, &raw.file, &raw.credential) {
            (Some(name), None, None) => self.credentials_in_variable(&at.key("env"), name),
            (None, Some(path), None) => self.credentials_in_file(&at.key("file"), path),
            (None, None, Some(name)) => self.systemd_credentials(&at.key("credential"), name),
            (env, file, credential) => {
                let places = [
                    ("env", env.is_some()),
                    ("file", file.is_some()),
                    ("credential", credential.is_some()),
                ];
                let set: Vec<&str> = places
                    .iter()
                    .filter(|(_, is_set)| *is_set)
                    .map(|(name, _)| *name)
                    .collect();
                let message = match set.as_slice() {
                    [] => "none of env, file and credential is set".to_owned(),
                    [one, other] => format!("both {one} and {other} are set"),
                    _ => "env, file and credential are all set".to_owned(),
                };
                let remedy = "set exactly one: env = \"VARIABLE\", file = \"/path\" or credential = \"NAME\", holding user:password";
                self.fault(at, message, remedy);
                None
            }
        }
    }

    fn credentials_in_variable(&mut self, at: &FieldPath, name: &str) -> Option<Credentials> {
        let Surroundings {
            variable, is_offline, ..
        } = *self.surroundings;
        let Some(text) = variable(name).or_else(|| is_offline.then(|| DUMMY.into())) else {
            let (message, remedy) = match std::env::var_os(name) {
                Some(_) => (
                    format!("environment variable {name} is not UTF-8 text"),
                    "save its value as UTF-8".to_owned(),
                ),
                None => (
                    format!("environment variable {name} is not set"),
                    format!("set {name}=user:password in the daemon's environment (systemd: EnvironmentFile=)"),
                ),
            };
            self.fault(at, message, remedy);
            return None;
        };
        let credentials = Credentials::parse(&Zeroizing::new(text));
        if credentials.is_err() {
            let message = format!("the value of {name} is not of the form user:password");
            self.fault(at, message, "set it to user:password");
        }
        credentials.ok()
    }

    fn credentials_in_file(&mut self, at: &FieldPath, path: &Path) -> Option<Credentials> {
        // Do not print `admin:secret`, or the password alone, typed in place of a path.
        let bytes = path.as_os_str().as_encoded_bytes();
        let may_be_password = !bytes.contains(&b'/') && !self.resolve(path).exists();
        let shown = if bytes.contains(&b':') || may_be_password {
            "the file".to_owned()
        } else {
            self.resolve(path).display().to_string()
        };
        let error = match Credentials::read(&self.resolve(path)) {
            Ok(credentials) => return Some(credentials),
            Err(error) => error,
        };
        let (message, remedy) = match error {
            CredentialError::Missing if may_be_password => (
                format!("{shown} does not exist; its name is not shown, as it may be a password"),
                "name a file, such as \"/etc/gridwatch/login\", that has one line, user:password, and mode 0600".into(),
            ),
            CredentialError::Missing => (
                format!("{shown} does not exist"),
                "create it with one line, user:password, and mode 0600".into(),
            ),
            other => unreadable_credentials(&shown, &other),
        };
        self.fault(at, message, remedy);
        None
    }

    fn systemd_credentials(&mut self, at: &FieldPath, name: &str) -> Option<Credentials> {
        let Some(dir) = self.credentials_directory() else {
            if self.surroundings.is_offline {
                return Credentials::parse(DUMMY).ok();
            }
            self.fault(
                at,
                format!("no systemd credentials: {CREDENTIALS_DIRECTORY} is not set"),
                "add LoadCredential= to the unit and start gridwatch with systemd; for a check: systemd-run -P -p LoadCredential=NAME:FILE gridwatch check …",
            );
            return None;
        };
        let error = match Credentials::read(&dir.join(name)) {
            Ok(credentials) => return Some(credentials),
            Err(error) => error,
        };
        let (message, remedy) = match error {
            CredentialError::Missing if !dir.is_dir() => (
                format!("no systemd credentials: the directory that {CREDENTIALS_DIRECTORY} names does not exist"),
                "start gridwatch with systemd".into(),
            ),
            // The name may be a password.
            CredentialError::Missing => (
                "the unit has no credential of this name".into(),
                "add LoadCredential=NAME:FILE or LoadCredentialEncrypted=NAME to the unit, and restart it".into(),
            ),
            other => unreadable_credentials("the credential", &other),
        };
        self.fault(at, message, remedy);
        None
    }
}

/// Message and remedy for credentials in a file that exists.
fn unreadable_credentials(shown: &str, error: &CredentialError) -> (String, String) {
    match error {
        CredentialError::NotAFile => (format!("{shown} is not a regular file"), "name a regular file".into()),
        CredentialError::Unreadable(io::ErrorKind::InvalidData) => (
            format!("{shown} is not UTF-8 text"),
            "save it as UTF-8 with one line, user:password".into(),
        ),
        CredentialError::Unreadable(kind) => (
            format!("cannot read {shown}: {kind}"),
            "make it readable by the daemon's user (chown, chmod 0600)".into(),
        ),
        CredentialError::OpenToOthers(mode) => (
            format!("{shown} is accessible to other users (mode {mode:04o})"),
            "run chmod 0600 on it, and change the password".into(),
        ),
        CredentialError::Malformed | CredentialError::Unset | CredentialError::Missing => (
            format!("the first line of {shown} is not of the form user:password"),
            "write one line: user:password".to_owned(),
        ),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(a)) => a.is_loopback(),
        Some(Host::Ipv6(a)) => a.is_loopback(),
        // For schemes unknown to the url crate, an IP address stays a domain.
        Some(Host::Domain(name)) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|a| a.is_loopback()),
        None => false,
    }
}
