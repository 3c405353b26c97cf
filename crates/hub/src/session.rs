//! The connection to the broker: receives, hands to [`Ingest`], and publishes receipts and replies.
//!
//! The broker sends [`IN_FLIGHT`] messages ahead of their acknowledgements and queues the rest, so a slow database fills neither the memory nor a
//! queue here. Messages of one box are taken one after the other, since a case follows its pictures; those of different boxes side by side. Each is
//! acknowledged once it is committed and its receipt is on the way, in the order in which they came, as MQTT wants it.

mod connection;
mod replies;
mod workers;

use std::{sync::Arc, time::Duration};

use gridwatch_base::backoff::Backoff;
use gridwatch_contract::{PlatformMessage, SCHEMA_VERSION, When, platform_topic};
use gridwatch_mqtt::{ConnectOptions, OutboundMessage, Wording};
use jiff::{Timestamp, tz::TimeZone};
use tokio::{sync::watch, time::Instant};
use tracing::{error, warn};

use self::connection::{Connection, Ended};
use crate::{HubError, database::Database, ingest::Ingest, metric};

/// Messages that may be unacknowledged at once. With [`MAX_MESSAGE`], these and what the connection holds take at most 400 MiB; with MQTT 3.1.1 the broker
/// decides how many it sends.
pub const IN_FLIGHT: u16 = 20;

/// Largest message that is received whole, in bytes; a larger one arrives without its payload.
pub const MAX_MESSAGE: usize = crate::pictures::MAX_PICTURE + 4096;

/// Own publishes that may be unacknowledged at once.
const OUTGOING: u16 = 64;

/// How long the broker keeps what boxes publish while no hub is connected.
const SESSION_EXPIRY: Duration = Duration::from_hours(30 * 24);

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A connection that lasted for so long resets the delay before the next one.
const HEALTHY: Duration = Duration::from_secs(60);

/// How the settings of the broker are called in messages.
pub static WORDING: Wording = Wording {
    machine: "hub",
    client_id: "--client-id",
    url: "--broker",
    protocol: "--broker-protocol",
    credentials: "--broker-credentials",
    ca_file: "--broker-ca",
    pin_sha256: "--broker-pin",
    client: "--broker-cert and --broker-key",
    cert_file: "--broker-cert",
    key_file: "--broker-key",
};

/// What a session runs with.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// The connection, as [`connect_options`] makes it.
    pub connect: ConnectOptions,
    /// Topic levels before `/v1/`.
    pub prefix: String,
    /// Name of the shared subscription by which several hubs divide the messages; `None`: this hub receives all.
    pub group: Option<String>,
    /// Who gives receipts, in the announcement.
    pub name: String,
}

/// A broker's address and login, as a person gives them.
#[derive(Debug, Clone)]
pub struct BrokerAddress {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// MQTT version.
    pub protocol: gridwatch_mqtt::Protocol,
    /// TLS; `None` connects in plain text.
    pub tls: Option<gridwatch_mqtt::TlsClientConfig>,
    /// User name and password.
    pub login: Option<gridwatch_base::secret::Credentials>,
    /// Client id: each hub on a broker has one of its own, and keeps it over restarts.
    pub client_id: String,
}

/// The options of a hub's connections.
pub fn connect_options(broker: BrokerAddress) -> ConnectOptions {
    ConnectOptions {
        host: broker.host,
        port: broker.port,
        protocol: broker.protocol,
        tls: broker.tls,
        login: broker.login,
        client_id: broker.client_id,
        keep_alive: KEEP_ALIVE,
        session: gridwatch_mqtt::SessionMode::Persistent { expiry: SESSION_EXPIRY },
        will: None,
        max_unacknowledged: OUTGOING,
        receive_maximum: IN_FLIGHT,
        max_incoming: MAX_MESSAGE,
        wording: &WORDING,
    }
}

/// Receives, and sends receipts and replies.
pub struct Session {
    settings: SessionSettings,
    ingest: Arc<Ingest>,
    database: Database,
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(settings: SessionSettings, ingest: Ingest, database: Database) -> Self {
        Self {
            settings,
            ingest: Arc::new(ingest),
            database,
        }
    }

    /// Runs until `shutdown` is true, and connects again after every failure.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        let mut since = Timestamp::now();
        loop {
            let began = Instant::now();
            match Connection::run(&self, &mut since, &mut shutdown).await {
                Ended::Shutdown => return,
                Ended::Lost(reason) => {
                    warn!(broker = %self.broker(), %reason, "Broker unreachable; boxes keep their cases");
                }
                Ended::Unusable(reason) => {
                    error!(broker = %self.broker(), %reason, "Cannot receive from the broker; boxes keep their cases");
                }
            }
            metrics::gauge!(metric::CONNECTED).set(0.0);
            let delay = backoff.next_delay_after(began.elapsed(), HEALTHY, fastrand::f64());
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = ends(&mut shutdown) => return,
            }
        }
    }

    fn broker(&self) -> String {
        format!("{}:{}", self.settings.connect.host, self.settings.connect.port)
    }
}

/// Completes when `shutdown` becomes true or its sender is dropped.
async fn ends(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|ends| *ends).await;
}

/// The retained announcement that receipts are given. Boxes that see a later `since` than before send at once what has no receipt.
fn announcement(settings: &SessionSettings, since: Timestamp) -> Result<OutboundMessage, HubError> {
    let message = PlatformMessage {
        schema_version: SCHEMA_VERSION,
        receipts: true,
        name: settings.name.clone(),
        since: Some(When::new(since, &TimeZone::UTC)),
    };
    let payload = serde_json::to_vec(&message).map_err(|e| HubError::Broker(e.to_string()))?;
    Ok(OutboundMessage {
        is_retained: true,
        ..OutboundMessage::json(platform_topic(&settings.prefix), payload)
    })
}
