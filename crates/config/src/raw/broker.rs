//! The form of the broker's section: where it is, what it speaks, and how the two know each other.

use std::{path::PathBuf, time::Duration};

use gridwatch_link::Protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Credentials, Span};

/// The MQTT broker of the grid platform.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// `mqtt://host:1883` or `mqtts://host:8883`. User and password are not part of it.
    pub url: String,
    /// Which MQTT the broker speaks. One of 3.1.1 gives no reasons and no word on who listens: docs/contract.md says what that costs.
    #[serde(default)]
    pub protocol: Protocol,
    /// Who the box is to the broker.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Certificate of the authority that signed the broker's, in PEM, for `mqtts`. Unset: refused, so that nothing is trusted by accident.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// How the box proves to the broker who it is, for a broker that asks for certificates (mutual TLS).
    #[serde(default)]
    pub client: Option<ClientCertificate>,
    /// What every topic begins with, before `/v1/`. Names between slashes; no `+`, no `#`.
    #[serde(default = "topic_prefix")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,7}$"))]
    pub topic_prefix: String,
    /// Tells other boxes, over the broker, of the cases that this one has open, and files none that another has. Boxes that see the
    /// same street share a broker and a `topic_prefix`.
    #[serde(default = "share_sites")]
    pub share_sites: bool,
    /// How long the broker keeps replies for a box that is away, where it keeps them so long. With MQTT 3.1.1 its own setting counts alone.
    #[serde(default = "session_expiry")]
    pub session_expiry: Span,
    /// A template that puts case messages into the city's own JSON: names, codes, nesting (docs/contract.md). Unset: the contract's form.
    #[serde(default)]
    pub template: Option<PathBuf>,
    /// Keep-alive. A dead connection is noticed after one and a half of it.
    #[serde(default = "keep_alive")]
    pub keep_alive: Span,
    /// Publishes not yet acknowledged, at most. More is faster on a long line; the broker must hold them.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 1000))]
    pub in_flight: u16,
}

/// The box's certificate, and the key that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// The certificate, with those that lead to its authority behind it, in PEM.
    pub cert_file: PathBuf,
    /// Its private key in PEM; readable by the daemon's user alone.
    pub key_file: PathBuf,
}

fn topic_prefix() -> String {
    "gridwatch".into()
}

fn share_sites() -> bool {
    true
}

fn session_expiry() -> Span {
    Span(Duration::from_hours(7 * 24))
}

fn keep_alive() -> Span {
    Span(Duration::from_secs(30))
}

fn in_flight() -> u16 {
    16
}
