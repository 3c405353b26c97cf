//! The `[console]` section: the web server of the pages and the JSON API.

use std::path::PathBuf;

use gridwatch_web::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The console: pages and JSON API on the box, for operators (docs/console.md).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Console {
    /// Address of the console. Default `127.0.0.1:9480`, reachable from the box only, without login as long as there are no users. With an address that others reach, such as `0.0.0.0:9480`, everybody must log in, and the connection is encrypted. `off`: no console.
    pub listen: String,
    /// The URL under which browsers reach the console through a reverse proxy, with the path that the proxy uses, such as `https://city.example/box-1/`. Unset: no proxy. With it, everybody must log in.
    pub public_url: Option<String>,
    /// Further host names under which browsers reach the console. Requests for other names are refused, as a page elsewhere could otherwise make its own name resolve to this box; IP addresses, `localhost` and the host of `public_url` are always accepted.
    pub hosts: Vec<String>,
    /// Addresses of reverse proxies, or networks such as `10.0.0.0/24`: what they say about the client's address and its identity is believed. Anyone who can connect from there can act as any user.
    pub trusted_proxies: Vec<String>,
    /// Header in which a trusted proxy names the user who has logged in there, such as `X-Forwarded-User`. The user must exist on the box, which gives the role. The proxy must remove the header from what clients send. Unset: none.
    pub identity_header: Option<String>,
    /// Encryption. Default `auto`.
    pub tls: TlsMode,
    /// PEM file of the certificate chain. Unset: one that is made at the first start and signed by itself; browsers ask once whether to trust it.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's private key. Set together with `certificate`.
    pub key: Option<PathBuf>,
    /// Roles that may see pictures without masks. Each view of one is in the audit log. Default: none.
    pub unmasked_roles: Vec<Role>,
    /// PMTiles file (version 3) with the city's map, shown under the map of cells. Unset: cells on a plain ground.
    pub basemap: Option<PathBuf>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9480".into(),
            public_url: None,
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            identity_header: None,
            tls: TlsMode::Auto,
            certificate: None,
            key: None,
            unmasked_roles: Vec::new(),
            basemap: None,
        }
    }
}

/// When the console's connections are encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// If `certificate` is set, or `listen` is not a loopback address.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never. On an address that is not loopback only behind `trusted_proxies`, which encrypt instead.
    Off,
}
