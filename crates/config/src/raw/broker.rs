//! The `[broker]` section.

use std::{path::PathBuf, time::Duration};

use gridwatch_link::Receipts;
use gridwatch_mqtt::Protocol;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Credentials, PIN_PATTERN, Span};

/// Connection to the MQTT broker of the grid platform.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Broker URL: `mqtt://host:1883` or `mqtts://host:8883`. Must not contain a user name or password.
    pub url: String,
    /// MQTT version. Default `5`. A 3.1.1 broker gives no reason codes and does not report missing subscribers; see docs/contract.md for the consequences.
    #[serde(default)]
    pub protocol: Protocol,
    /// User name and password for the broker.
    #[serde(default)]
    #[schemars(extend("x-secret" = true))]
    pub credentials: Option<Credentials>,
    /// PEM file of the CA that signed the broker's certificate, or of that certificate itself. `mqtts` requires this or `pin_sha256`; there is no default, so that no CA is trusted by accident.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of the broker's certificate, as printed by `openssl x509 -noout -fingerprint -sha256`: only this certificate is trusted, and its name, dates and issuer do not matter. Instead of `ca_file`. Must be changed when the broker's certificate is renewed.
    #[serde(default)]
    #[schemars(regex(pattern = PIN_PATTERN))]
    pub pin_sha256: Option<String>,
    /// Client certificate, for brokers that require mutual TLS.
    #[serde(default)]
    pub client: Option<ClientCertificate>,
    /// Prefix of all topics, before `/v1/`: names separated by slashes, without `+` and `#`. Default `gridwatch`. The platform must subscribe to the same prefix.
    #[serde(default = "topic_prefix")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,7}$"))]
    pub topic_prefix: String,
    /// Share open cases with other boxes over the broker, so that each problem is filed once. Default true. Boxes that see the same
    /// street need the same broker and `topic_prefix`.
    #[serde(default = "share_sites")]
    pub share_sites: bool,
    /// How long the broker keeps replies for a box that is offline, up to the broker's own limit. Default `168h`. With MQTT 3.1.1, only the broker's setting counts.
    #[serde(default = "session_expiry")]
    pub session_expiry: Span,
    /// Whether a case counts as delivered only with the platform's receipt: `auto`, if the platform announces that it gives receipts; `required`, always; `off`, never: the broker's acknowledgement is enough. Default `auto`. See docs/contract.md.
    #[serde(default)]
    pub receipts: Receipts,
    /// JSON template that converts case messages to the city's own format (see docs/contract.md). Unset: the format of the contract.
    #[serde(default)]
    pub template: Option<PathBuf>,
    /// MQTT keep-alive interval, 5s to 1h. Default `30s`. A dead connection is detected after 1.5 times this; shorter intervals cost traffic on metered links.
    #[serde(default = "keep_alive")]
    pub keep_alive: Span,
    /// Maximum number of unacknowledged publishes. Default 16. A higher limit helps on links with high latency, but needs memory on the broker.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 1000))]
    pub in_flight: u16,
}

/// The box's client certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    /// PEM file of the certificate, followed by its intermediate certificates.
    pub cert_file: PathBuf,
    /// PEM file of the private key. Other users must not have access to it (mode 0600).
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
