//! The MQTT link to the grid platform: publishes the outbox, receives replies and maintains the box's status topic.
//!
//! The store is the source of truth; the link holds no state that must survive. Every connection starts again from the
//! oldest row of the outbox, so anything lost by the broker, the network or this process is sent again. Receivers
//! deduplicate by `case_id` and `revision`. The messages and topics are defined in [`gridwatch_contract`]; `session` runs the
//! connections.
//!
//! The link runs on its own thread because store calls block: a slow disk must not stall other tasks.

mod claims;
mod connector;
mod limit;
mod poison;
mod receipt;
mod reply;
mod session;
mod shortcomings;

use std::{collections::BTreeSet, io, thread, time::Duration};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use self::session::{Channels, Session};
pub use self::{
    claims::{CellOf, EnrolledBoxes},
    connector::probe,
    receipt::Receipts,
    reply::IncomingReply,
    session::find_duplicate,
};
use gridwatch_base::{error::Class, installation::Installation, secret::Credentials};
use gridwatch_contract::Template;
use gridwatch_engine::{CaseId, CellCode, NodeId};
use gridwatch_mqtt::{Protocol, Tls, TlsError};
use gridwatch_store::Store;

/// Broker connection settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This box's id; part of the topics and of the client id.
    pub node: NodeId,
    /// Host name or IP address of the broker.
    pub host: String,
    /// TCP port of the broker.
    pub port: u16,
    /// MQTT version.
    pub protocol: Protocol,
    /// TLS files; `None` connects in plain text.
    pub tls: Option<Tls>,
    /// User name and password, if the broker asks for them.
    pub login: Option<Credentials>,
    /// MQTT keep-alive; a dead connection is detected within 1.5 times this. Whole seconds, 1 to 65535.
    pub keep_alive: Duration,
    /// Maximum number of outbox messages awaiting acknowledgement; at least 1.
    pub in_flight: u16,
    /// Topic levels before `/v1/`.
    pub topic_prefix: String,
    /// How long the broker keeps the session, and queued replies, of a disconnected box. Whole seconds. MQTT 5 only.
    pub session_expiry: Duration,
    /// Time zone of the times in status messages.
    pub zone: jiff::tz::TimeZone,
    /// Size of the largest message that the box may publish, in bytes. A broker that takes only smaller ones is refused.
    pub largest_payload: usize,
    /// Tells this box apart from another one with the same node id. `None` checks for no other box.
    pub installation: Option<Installation>,
    /// Whether a message counts as delivered without the platform's receipt.
    pub receipts: Receipts,
    /// The platform's own format of case records ([`Form::template`](gridwatch_contract::Form::template)), in which one is queued again whose
    /// pictures the platform lacks.
    pub template: Option<Template>,
}

/// Why the link could not start or the broker could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A certificate or key is missing or unusable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A setting is outside the range MQTT allows.
    #[error("broker: {0}")]
    Settings(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] gridwatch_store::StoreError),
    /// The operating system refused a thread or a runtime.
    #[error("cannot start the MQTT thread: {0}")]
    Thread(#[source] io::Error),
    /// The connection failed or the broker refused it.
    #[error("broker {host}:{port}: {reason}")]
    Refused {
        /// Host of the broker.
        host: String,
        /// Port of the broker.
        port: u16,
        /// What happened and, where known, the remedy.
        reason: String,
    },
    /// The broker accepts the connection, but lacks what the box needs.
    #[error("broker {host}:{port} cannot serve this box: {}", .reasons.join("; "))]
    Unsuitable {
        /// Host of the broker.
        host: String,
        /// Port of the broker.
        port: u16,
        /// What it lacks, each with the remedy.
        reasons: Vec<String>,
    },
}

impl LinkError {
    /// The class that decides between retry and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::Tls(_) | Self::Settings(_) | Self::Unsuitable { .. } => Class::Config,
            Self::Store(e) => e.class(),
            Self::Thread(_) | Self::Refused { .. } => Class::Transient,
        }
    }
}

/// Site sharing with other boxes on the same broker: one case per problem, whichever box sees it.
pub struct SiteSharing {
    /// Cells that cameras of other boxes may also see.
    pub cells: BTreeSet<CellCode>,
    /// The cell at a location in the grid's coordinates: a claim must lie in the cell that it names.
    pub cell_of: CellOf,
    /// Boxes whose claims are obeyed, by the configuration. The others need to be confirmed ([`Store::confirm_box`]), except that a box that is
    /// listed here can only sign with the keys listed.
    pub boxes: EnrolledBoxes,
    /// How long a case is held back for another box's that is not filed.
    pub wait: Duration,
    /// Cases of other boxes for which the engine held cases back in the last run.
    pub yielded_to: BTreeSet<CaseId>,
    /// Receives what follows from other boxes' claims. [`SiteNews::Yielded`] is repeated on each connection until the store has
    /// recorded it ([`Store::yield_case`]).
    pub news: mpsc::Sender<SiteNews>,
}

/// What follows from other boxes' claims for the cases of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiteNews {
    /// This box's case yields to one that another box has filed.
    Yielded {
        /// This box's case.
        case: CaseId,
        /// The other box's case.
        to: CaseId,
        /// The other box.
        node: NodeId,
    },
    /// A case that cases of this box yielded to has ended, or its box has been silent for too long.
    Released(CaseId),
}

/// Connection state of the link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkState {
    /// True while connected and subscribed to the reply topic.
    pub connected: bool,
    /// When the last usable connection ended; `None` while connected, and before the first connection.
    pub down_since: Option<Timestamp>,
    /// The kind of the last failure; `None` while connected, and before the first attempt has ended.
    pub problem: Option<LinkProblem>,
    /// Why the last connection ended; kept after a reconnect.
    pub last_error: Option<String>,
    /// Why the broker denies the subscription to replies, as of the last connection.
    pub replies_denied: Option<String>,
    /// While messages of the outbox await acknowledgement: when the broker last acknowledged one, or when the first was sent. A
    /// lost connection does not change it.
    pub unacknowledged_since: Option<Timestamp>,
}

/// Why no case is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkProblem {
    /// The broker cannot be reached, or refuses or ends the connection.
    Unreachable,
    /// The broker lacks what the box needs, such as retained messages.
    Unsuitable,
    /// Another box uses the same node id.
    DuplicateNodeId,
}

impl LinkProblem {
    /// Every problem.
    pub const ALL: [Self; 3] = [Self::Unreachable, Self::Unsuitable, Self::DuplicateNodeId];

    /// The problem as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unsuitable => "unsuitable",
            Self::DuplicateNodeId => "duplicate_node_id",
        }
    }
}

/// Handle of the running link. Dropping it without [`LinkHandle::shutdown`] closes the connection uncleanly, so the
/// broker publishes the last will.
#[derive(Debug)]
pub struct LinkHandle {
    health: mpsc::Sender<String>,
    state: watch::Receiver<LinkState>,
    stop: Option<oneshot::Sender<()>>,
    ended: oneshot::Receiver<()>,
}

/// The MQTT link; [`Link::spawn`] starts it.
#[derive(Debug)]
pub struct Link;

/// A link whose settings were found usable, to be started.
pub struct PreparedLink {
    connector: connector::Connector,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Link {
    /// Starts the link thread, which publishes `store`'s outbox and sends replies to `replies`. The receiver commits each
    /// reply and then signals its `committed` channel; only then is the reply acknowledged to the broker.
    ///
    /// With `sharing`, a case in a shared cell is published only after its claim has been granted.
    ///
    /// # Errors
    /// [`LinkError::Tls`], [`LinkError::Settings`], [`LinkError::Store`] or
    /// [`LinkError::Thread`]. An unreachable broker is not an error: the link keeps retrying.
    pub fn spawn(
        settings: Settings,
        store: &Store,
        replies: mpsc::Sender<IncomingReply>,
        sharing: Option<SiteSharing>,
    ) -> Result<LinkHandle, LinkError> {
        let state = watch::Sender::new(LinkState::default());
        Self::prepare(settings, store)?.start(&state, replies, sharing)
    }

    /// Reads what the settings name, without connecting.
    ///
    /// # Errors
    /// As [`Link::spawn`].
    pub fn prepare(settings: Settings, store: &Store) -> Result<PreparedLink, LinkError> {
        Ok(PreparedLink {
            connector: connector::Connector::new(settings, store.public_key())?,
            store: store.outbox_handle()?,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(LinkError::Thread)?,
        })
    }
}

impl PreparedLink {
    /// Starts the link thread; see [`Link::spawn`]. `state` is told the state of the connection. A link that it takes the place of must
    /// have been shut down.
    ///
    /// # Errors
    /// [`LinkError::Thread`].
    pub fn start(
        self,
        state: &watch::Sender<LinkState>,
        replies: mpsc::Sender<IncomingReply>,
        sharing: Option<SiteSharing>,
    ) -> Result<LinkHandle, LinkError> {
        let Self {
            connector,
            store,
            runtime,
        } = self;
        let (health, health_out) = mpsc::channel(4);
        state.send_replace(LinkState::default());
        let channels = Channels {
            replies,
            health: health_out,
            state: state.clone(),
        };
        let (stop, stopped) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        thread::Builder::new()
            .name("link".into())
            .spawn(move || {
                let session = Session::new(connector, store, channels, sharing);
                runtime.block_on(session.run(stopped));
                // The handle may have been dropped.
                let _ = end.send(());
            })
            .map_err(LinkError::Thread)?;
        Ok(LinkHandle {
            health,
            state: state.subscribe(),
            stop: Some(stop),
            ended,
        })
    }
}

impl LinkHandle {
    /// Publishes `health` (a [`HealthMessage`](gridwatch_contract::HealthMessage) as JSON) if connected; otherwise drops it.
    pub fn publish_health(&self, health: &serde_json::Value) {
        // Full: four are queued already, and the next is due soon.
        let _ = self.health.try_send(health.to_string());
    }

    /// Watches the connection state.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Publishes status `offline`, disconnects and stops the thread, within about five seconds. Unacknowledged messages
    /// stay in the outbox.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // An error means that the thread has already ended.
        let _ = (&mut self.ended).await;
    }
}
