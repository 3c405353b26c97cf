//! The `[console]` section: who reaches the console, and how.

use std::{
    fs::File,
    io::Read as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use url::Url;

use super::{Checker, section};
use crate::{
    CONSOLE_DIR, Console,
    raw::{self, TlsMode},
};
use gridwatch_base::document::FieldPath;
use gridwatch_web::{ServerSettings, TlsSettings, accounts::USERS_FILE};

/// Headers that proxies or browsers send for another purpose, so that a user's name in them would be forged by accident.
const OTHER_HEADERS: [&str; 8] = [
    "authorization",
    "cookie",
    "forwarded",
    "host",
    "origin",
    "x-csrf-token",
    "x-forwarded-for",
    "x-forwarded-proto",
];

impl Checker<'_> {
    pub(super) fn console(&mut self) {
        let at = section("console");
        let Some(raw) = self.optional::<raw::Console>(&at) else {
            return;
        };
        let faults_before = self.draft.faults.len();
        let listen = self.console_address(&at.key("listen"), &raw.listen);
        let public_url = raw
            .public_url
            .as_ref()
            .and_then(|url| self.public_url(&at.key("public_url"), url));
        let mut trusted_proxies = Vec::new();
        for (i, proxy) in raw.trusted_proxies.iter().enumerate() {
            match proxy.parse() {
                Ok(network) => trusted_proxies.push(network),
                Err(reason) => self.fault(
                    &at.key("trusted_proxies").index(i),
                    format!("{proxy:?}: {reason}"),
                    "use an address like 10.0.0.5 or a network like 10.0.0.0/24",
                ),
            }
        }
        for (i, host) in raw.hosts.iter().enumerate() {
            // What the Host header holds, apart from the port.
            let is_name = !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
            if !is_name {
                self.fault(
                    &at.key("hosts").index(i),
                    format!("{host:?} is not a host name"),
                    "use a name without scheme, port and path, such as box-1.city.example",
                );
            }
        }
        let identity_header = raw.identity_header.as_ref().map(|name| name.to_ascii_lowercase());
        if let Some(name) = &identity_header {
            self.check_identity_header(&at.key("identity_header"), name, raw.trusted_proxies.is_empty());
        }
        let tls = self.console_tls(&at, &raw, listen);
        let basemap = raw
            .basemap
            .as_ref()
            .and_then(|file| self.basemap(&at.key("basemap"), file));
        // With a fault, what remains could be open to more people than the file says.
        if self.draft.faults.len() > faults_before || !self.draft.faults_in("console").is_empty() {
            return;
        }
        let mut unmasked_roles = raw.unmasked_roles;
        unmasked_roles.sort_unstable();
        unmasked_roles.dedup();
        let console = Console {
            server: ServerSettings {
                section: "console",
                listen,
                public_url,
                hosts: raw.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
                trusted_proxies,
                identity_header,
                tls,
            },
            unmasked_roles,
            basemap,
        };
        self.expect_users(&at, &console);
        self.draft.rest.console = Some(console);
    }

    fn console_address(&mut self, at: &FieldPath, text: &str) -> Option<SocketAddr> {
        if text.is_empty() || text == "off" || self.is_invalid(at) {
            return None;
        }
        let address = text.parse().ok();
        if address.is_none() {
            self.fault(
                at,
                "not an address with a port",
                "use an address like 127.0.0.1:9480, or \"off\"",
            );
        }
        address
    }

    fn public_url(&mut self, at: &FieldPath, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let Some(mut url) = url else {
            self.fault(
                at,
                "not a URL of the form https://HOST/PATH/",
                "use the address that people type into their browsers, such as https://city.example/box-1/",
            );
            return None;
        };
        // Used in links and as the path of cookies.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.' | b'~');
        if !url.path().bytes().all(is_plain) || url.path().contains("//") {
            self.fault(
                at,
                format!(
                    "the path {:?} has characters that links and cookies cannot hold",
                    url.path()
                ),
                "use letters, digits and - _ . ~ in the path",
            );
            return None;
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Some(url)
    }

    fn check_identity_header(&mut self, at: &FieldPath, name: &str, has_no_proxies: bool) {
        let is_token = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_token || OTHER_HEADERS.contains(&name) {
            self.fault(
                at,
                format!("{name:?} cannot carry a user's name"),
                "use a header of its own, such as X-Forwarded-User",
            );
        }
        if has_no_proxies {
            self.fault(
                at,
                "there is no trusted proxy that could set this header",
                "name the proxy's address in console.trusted_proxies",
            );
        }
    }

    /// Only the first bytes are read: a basemap may have gigabytes.
    fn basemap(&mut self, at: &FieldPath, file: &Path) -> Option<PathBuf> {
        let path = self.existing_file(at, file, "a PMTiles file with the map of the city")?;
        // https://github.com/protomaps/PMTiles/blob/main/spec/v3/spec.md: magic number and version.
        let mut head = [0; 8];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut head));
        if read.is_ok() && head == *b"PMTiles\x03" {
            return Some(path);
        }
        self.fault(
            at,
            format!("{} is not a PMTiles file of version 3", path.display()),
            "extract the city's part of a map, such as `pmtiles extract`, or remove console.basemap",
        );
        None
    }

    fn console_tls(&mut self, at: &FieldPath, raw: &raw::Console, listen: Option<SocketAddr>) -> TlsSettings {
        let is_open = listen.is_some_and(|address| !address.ip().is_loopback());
        let own = match (&raw.certificate, &raw.key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let mut existing = |name: &str, path: &Path, what| self.existing_file(&at.key(name), path, what);
                let certificate = existing("certificate", certificate, "a PEM file with the certificate chain");
                let key = existing("key", key, "a PEM file with the private key");
                certificate.zip(key)
            }
            (Some(_), None) => {
                self.fault(
                    &at.key("certificate"),
                    "console.key is not set",
                    "name the file of its private key",
                );
                None
            }
            (None, Some(_)) => {
                self.fault(
                    &at.key("key"),
                    "console.certificate is not set",
                    "name the file of its certificate",
                );
                None
            }
        };
        let mode_at = at.key("tls");
        match raw.tls {
            TlsMode::Off if raw.certificate.is_some() => {
                self.fault(
                    &mode_at,
                    "off, although a certificate is set",
                    "remove console.tls, or console.certificate and console.key",
                );
            }
            TlsMode::Off if is_open && raw.trusted_proxies.is_empty() => {
                self.fault(
                    &mode_at,
                    "passwords would cross the network unencrypted",
                    "remove console.tls, listen on a loopback address, or name the proxy that encrypts in console.trusted_proxies",
                );
            }
            TlsMode::Off | TlsMode::Auto | TlsMode::On => {}
        }
        match (raw.tls, own) {
            (TlsMode::Auto | TlsMode::On, Some((certificate, key))) => TlsSettings::Own { certificate, key },
            (TlsMode::On, None) => TlsSettings::SelfSigned,
            (TlsMode::Auto, None) if is_open => TlsSettings::SelfSigned,
            (TlsMode::Auto | TlsMode::Off, _) => TlsSettings::Off,
        }
    }

    /// Not a fault: the file may be checked on another machine, and the daemon serves no pages to the network until there is a user.
    fn expect_users(&mut self, at: &FieldPath, console: &Console) {
        let Some(state_dir) = &self.draft.state_dir else { return };
        let users = state_dir.join(CONSOLE_DIR).join(USERS_FILE);
        if console.server.listen.is_some() && console.server.is_exposed() && !users.exists() {
            self.warn(
                &at.key("listen"),
                "others than programs on the box reach the console, and there are no users who could log in: it will not start",
                "create the first one on the box: gridwatch users add NAME --role admin",
            );
        }
    }
}
