//! What a connection is opened with.

use std::time::Duration;

use gridwatch_base::secret::Credentials;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OutboundMessage, TlsClientConfig};

/// Timeout for establishing a TCP connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// MQTT protocol version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// MQTT 5.
    #[default]
    #[serde(rename = "5")]
    V5,
    /// MQTT 3.1.1.
    #[serde(rename = "3.1.1")]
    V311,
}

impl Protocol {
    /// The value as written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }
}

/// What a connection is opened with.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// Host name or IP address of the broker.
    pub host: String,
    /// TCP port of the broker.
    pub port: u16,
    /// MQTT version.
    pub protocol: Protocol,
    /// TLS; `None` connects in plain text.
    pub tls: Option<TlsClientConfig>,
    /// User name and password, if the broker asks for them.
    pub login: Option<Credentials>,
    /// Client id. Of two connections with one client id, the broker closes the older.
    pub client_id: String,
    /// MQTT keep-alive; a dead connection is detected within 1.5 times this. Whole seconds, 1 to 65535; what is outside is
    /// brought into this range.
    pub keep_alive: Duration,
    /// How long the broker keeps subscriptions and queued messages.
    pub session: SessionMode,
    /// Last will: published by the broker if the connection ends without [`Client::disconnect`](crate::Client::disconnect).
    pub will: Option<OutboundMessage>,
    /// Maximum number of own publishes that await their acknowledgement; further ones wait in the queue. At least 1; 0 counts
    /// as 1. A slot is allocated for each when the connection is opened: 65535 take 14 MB.
    pub max_unacknowledged: u16,
    /// Maximum number of received messages that await [`AckHandle::ack`](crate::AckHandle::ack); the broker queues the rest.
    /// At least 1; 0 counts as 1. MQTT 3.1.1 has no such limit: there it must be at least the broker's own
    /// (`max_inflight_messages` of mosquitto, 20 by default), as the queue has room for so many acknowledgements.
    pub receive_maximum: u16,
    /// Largest packet that is received whole, in bytes. A larger message arrives without its payload and properties.
    pub max_incoming: usize,
    /// Words for messages to the operator.
    pub wording: &'static Wording,
}

/// How long the broker keeps a client's subscriptions, and the messages queued for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionMode {
    /// Beyond the connection. Only the broker's side is resumed; this client has nothing of its own to send again.
    Persistent {
        /// For so long after a disconnect; whole seconds, at most 2^32 - 2, and forever beyond. MQTT 5 only: with MQTT 3.1.1 the
        /// broker decides.
        expiry: Duration,
    },
    /// Until the connection ends; an earlier session of this client id is deleted.
    Clean,
}

/// How a program calls its settings and itself, in messages to its operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wording {
    /// What the program runs on or is, completing "this …" and "this …'s client id".
    pub machine: &'static str,
    /// What the client id is made of, completing "allow the client id, which is …".
    pub client_id: &'static str,
    /// The setting of the broker's address.
    pub url: &'static str,
    /// The setting of the MQTT version, whose values are `"5"` and `"3.1.1"`.
    pub protocol: &'static str,
    /// The setting of the user name and password.
    pub credentials: &'static str,
    /// The setting of [`ServerTrust::CaFile`](crate::ServerTrust::CaFile).
    pub ca_file: &'static str,
    /// The setting of [`ServerTrust::Pin`](crate::ServerTrust::Pin).
    pub pin_sha256: &'static str,
    /// The setting, or group of settings, of the client certificate.
    pub client: &'static str,
    /// The setting of the client certificate's file.
    pub cert_file: &'static str,
    /// The setting of its private key's file.
    pub key_file: &'static str,
}

/// The box's wording, for unit tests.
#[cfg(test)]
pub(crate) const WORDING: Wording = Wording {
    machine: "box",
    client_id: "`gridwatch-` and node.id",
    url: "broker.url",
    protocol: "broker.protocol",
    credentials: "broker.credentials",
    ca_file: "broker.ca_file",
    pin_sha256: "broker.pin_sha256",
    client: "broker.client",
    cert_file: "broker.client.cert_file",
    key_file: "broker.client.key_file",
};

impl ConnectOptions {
    pub(crate) fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX).max(1)
    }

    pub(crate) fn outgoing_window(&self) -> u16 {
        self.max_unacknowledged.max(1)
    }

    pub(crate) fn incoming_window(&self) -> u16 {
        self.receive_maximum.max(1)
    }

    /// Capacity of the client's request queue: publishes and acknowledgements.
    pub(crate) fn queue_capacity(&self) -> usize {
        usize::from(self.outgoing_window()) + usize::from(self.incoming_window())
    }
}
