//! The MQTT link to the grid platform: sends what the outbox holds, brings in replies, says whether the box is there.
//!
//! The store is the truth and this is a pipe: it keeps nothing that matters. Each connection is begun from the outbox's
//! oldest row, so whatever broker, network or this process forgot is sent again; the receiver tells a case by its
//! `case_id` and `revision`. The contract is in [`contract`]; how one connection lives, in `session`.
//!
//! The link has a thread of its own because the store's calls block: a slow disk holds up nobody else's task.

mod backoff;
mod claims;
mod poison;
mod reply;
mod session;

mod wire;

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

pub use self::{reply::IncomingReply, wire::probe};
use gridwatch_base::{error::Class, secret::Credentials};
use gridwatch_engine::{CellCode, Claim, Known, NodeId};
use gridwatch_store::Store;

/// A version of MQTT.
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
    /// As it is written in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }
}

/// How the broker is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This box.
    pub node: NodeId,
    /// The broker's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which MQTT it speaks.
    pub protocol: Protocol,
    /// TLS, where the URL says `mqtts`.
    pub tls: Option<Tls>,
    /// Who the box is to the broker.
    pub login: Option<Credentials>,
    /// A dead connection is noticed after one and a half of it. Whole seconds, at least 1.
    pub keep_alive: Duration,
    /// Publishes not yet acknowledged, at most; at least 1.
    pub in_flight: u16,
    /// What topics begin with, before `/v1/`.
    pub topic_prefix: String,
    /// How long the broker is asked to keep replies for a box that is away. Whole seconds. MQTT 3.1.1 cannot ask.
    pub session_expiry: Duration,
    /// Of the times in status messages.
    pub zone: jiff::tz::TimeZone,
}

/// TLS to the broker.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Certificate of the authority that signed the broker's, in PEM. No other authority is trusted.
    pub ca_file: PathBuf,
    /// The box's own certificate and its key, in PEM, for a broker that asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Why the link could not be begun, or the broker not be reached.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A certificate or its key cannot be read.
    #[error("{field}: cannot read {}: {source}", .path.display())]
    TlsFile {
        /// What names it.
        field: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate or its key is there and cannot be used.
    #[error("{field}: {} {what}", .path.display())]
    Tls {
        /// What names it.
        field: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Settings that MQTT does not allow.
    #[error("broker: {0}")]
    Settings(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] gridwatch_store::StoreError),
    /// No thread was to be had.
    #[error("cannot start the link's thread: {0}")]
    Thread(#[source] io::Error),
    /// The broker did not take us.
    #[error("broker {host}:{port}: {reason}")]
    Refused {
        /// Its name.
        host: String,
        /// Its port.
        port: u16,
        /// What happened.
        reason: String,
    },
}

impl LinkError {
    /// What it means for whoever meets it.
    pub fn class(&self) -> Class {
        match self {
            Self::TlsFile { .. } | Self::Tls { .. } | Self::Settings(_) => Class::Config,
            Self::Store(e) => e.class(),
            Self::Thread(_) | Self::Refused { .. } => Class::Transient,
        }
    }
}

/// What is shared with other boxes that see the same sites: `claims` tells how.
#[derive(Debug)]
pub struct Sharing {
    /// The cells in which they may.
    pub cells: BTreeSet<CellCode>,
    /// What the engine knows of other boxes' cases from before.
    pub known: Vec<Claim>,
    /// Told what becomes known of them. [`Known::Yielded`] comes again with each connection until the store has it
    /// ([`Store::yielded`]).
    pub news: mpsc::UnboundedSender<Known>,
}

/// How the link is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// True while the broker has us.
    pub connected: bool,
    /// Why not, as a sentence; kept while connected: the newest trouble.
    pub trouble: Option<String>,
}

/// The running link. Dropped without [`LinkHandle::shutdown`], it ends as a dead box would: the broker publishes the
/// last will.
#[derive(Debug)]
pub struct LinkHandle {
    health: mpsc::Sender<String>,
    state: watch::Receiver<LinkState>,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

/// Starts the link; see the module's head.
#[derive(Debug)]
pub struct Link;

impl Link {
    /// Starts sending what `store`'s outbox holds. Replies go to `replies`: whoever receives one commits it and then
    /// answers on its `committed` channel, and only then is it acknowledged to the broker.
    ///
    /// With `sharing`, a case of a site that another box sees, too, waits for its claim; without, it is sent at once.
    ///
    /// # Errors
    /// [`LinkError::TlsFile`], [`LinkError::Tls`], [`LinkError::Settings`] or [`LinkError::Store`]. A broker that is away is no error.
    pub fn spawn(
        settings: Settings,
        store: &Store,
        replies: mpsc::Sender<IncomingReply>,
        sharing: Option<Sharing>,
    ) -> Result<LinkHandle, LinkError> {
        let wire = wire::Wire::new(settings, store.public_key())?;
        let store = store.outbox_handle()?;
        let (health, health_out) = mpsc::channel(4);
        let (state_in, state) = watch::channel(LinkState::default());
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LinkError::Thread)?;
        thread::Builder::new()
            .name("link".into())
            .spawn(move || {
                runtime.block_on(session::run(
                    wire, store, replies, health_out, state_in, sharing, stopped,
                ));
                // The other side may have stopped listening: then nobody waits.
                let _ = end.send(());
            })
            .map_err(LinkError::Thread)?;
        Ok(LinkHandle {
            health,
            state,
            stop: Some(stop),
            ended,
        })
    }
}

impl LinkHandle {
    /// Publishes `health` (a JSON object, [`contract::HealthMessage`]) if the broker is there now. Health is of the
    /// moment: what cannot go now is dropped.
    pub fn publish_health(&self, health: &serde_json::Value) {
        // Full means that four are waiting already: the newer one will be here in a moment.
        let _ = self.health.try_send(health.to_string());
    }

    /// How the link is, now and as it changes.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Says `offline`, takes leave of the broker and ends. Takes at most about five seconds; what was not acknowledged
    /// stays in the outbox.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // An error means that the thread is gone already.
        let _ = (&mut self.ended).await;
    }
}

/// A file that TLS needs; `field` names it in the configuration.
fn read_pem(field: &'static str, path: &Path) -> Result<Vec<u8>, LinkError> {
    fs::read(path).map_err(|source| LinkError::TlsFile {
        field,
        path: path.to_path_buf(),
        source,
    })
}
