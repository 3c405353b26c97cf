//! A version-independent MQTT client: connections, publishes, acknowledgements, and why a connection ended.
//!
//! [`v5`] and [`v311`] adapt two client crates of one family to it; `adapter` is what they share. They translate and make no
//! decisions.

mod adapter;
mod limits;
mod stream;
mod tls;
mod trust;
mod v311;
mod v5;

use std::{error::Error, fmt, io, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use self::limits::Shortcoming;
pub(super) use self::limits::{BrokerLimits, PACKET_OVERHEAD};
use super::{LinkError, Settings};
use crate::{Protocol, Receipts};
use gridwatch_contract::{Presence, SCHEMA_VERSION, StatusMessage, Topics, When, platform_topic};
use gridwatch_custody::PublicKey;

/// Replies that may be unacknowledged at once; the broker queues the rest.
const REPLIES_IN_FLIGHT: u16 = 16;

/// Timeout for establishing a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A broker sends the retained message with or right after its answer to the subscription; after this long there is none.
const RETAINED_WITHIN: Duration = Duration::from_secs(1);

const JSON: &str = "application/json";
const JPEG: &str = "image/jpeg";

/// Opens connections to the broker.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) settings: Settings,
    pub(super) topics: Topics,
    platform_topic: String,
    tls: Option<tls::TlsClientConfig>,
    /// Verifies this box's case signatures; published in the status message.
    pub(super) public_key: Option<PublicKey>,
}

/// A message to publish.
#[derive(Debug, Clone)]
pub(super) struct OutboundMessage {
    pub(super) topic: String,
    pub(super) payload: Vec<u8>,
    pub(super) kind: MessageKind,
}

/// The kind of a message, which decides QoS, retain flag and properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// QoS 1, retained.
    Status,
    /// QoS 1, retained; expires with the claim.
    Claim,
    /// QoS 0.
    Health,
    /// QoS 1; a JPEG.
    Evidence,
    /// QoS 1.
    Case {
        /// Correlation data of the replies.
        id: String,
        /// Response topic.
        reply_topic: String,
    },
}

impl MessageKind {
    fn is_retained(&self) -> bool {
        matches!(self, Self::Status | Self::Claim)
    }

    fn is_acknowledged(&self) -> bool {
        *self != Self::Health
    }
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PublishOutcome {
    /// Acknowledged, and with MQTT 5 matched by at least one subscription.
    Delivered,
    /// Acknowledged with "no matching subscribers" (0x10): the message is lost.
    NoSubscriber,
    /// Rejected permanently; retrying cannot help.
    Rejected(String),
    /// Rejected temporarily.
    Busy(String),
    /// The connection ended before the acknowledgement.
    Lost,
}

impl PublishOutcome {
    /// Value of the metric label `result`.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::NoSubscriber => "unheard",
            Self::Rejected(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Lost => "lost",
        }
    }
}

/// Why a request was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnqueueError {
    /// The topic is not a valid MQTT topic name.
    InvalidTopic,
    /// The client's queue is full, or the connection has failed and its disconnect event follows.
    QueueFull,
}

/// Retain handling of a subscription. MQTT 3.1.1 always sends retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetainHandling {
    /// Do not send retained messages.
    SkipRetained,
    /// Send retained messages on every subscribe.
    SendRetained,
}

/// The broker's answer to a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SubscribeOutcome {
    /// All filters were granted.
    Granted,
    /// A filter was denied; the reason as a sentence.
    Denied(String),
    /// Granted with QoS 0 only, so that messages may be lost.
    Downgraded,
    /// The connection ended first.
    Lost,
}

/// Sends requests over one connection. Never blocks: a request that cannot be queued is an error.
pub(super) trait Client: Send {
    /// Queues a publish; the future resolves when it is acknowledged or the connection ends.
    fn send(&self, message: OutboundMessage) -> Result<BoxFuture<'static, PublishOutcome>, EnqueueError>;

    /// Queues a subscription to `filters` with QoS 1.
    fn subscribe(
        &self,
        filters: Vec<String>,
        retain: RetainHandling,
    ) -> Result<BoxFuture<'static, SubscribeOutcome>, EnqueueError>;

    /// Queues an unsubscription; its acknowledgement is not awaited.
    fn unsubscribe(&self, filter: String) -> Result<(), EnqueueError>;

    /// Disconnects cleanly: the broker discards the last will.
    fn disconnect(&self);
}

/// Drives one connection. Must be polled continuously: requests, acknowledgements and keep-alives only move while
/// [`EventLoop::next`] is awaited.
pub(super) trait EventLoop: Send {
    /// The next event; not called again after [`Event::Disconnected`].
    fn next(&mut self) -> BoxFuture<'_, Event>;
}

/// An event of a connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The broker accepted the connection.
    Connected(ConnAck),
    /// A PUBLISH from the broker.
    Message(InboundMessage),
    /// The connection ended.
    Disconnected(Disconnect),
}

/// Contents of a CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnAck {
    /// The broker resumed a session, with its subscriptions and queued messages.
    pub(super) session_present: bool,
    /// What the broker supports.
    pub(super) limits: BrokerLimits,
}

/// A message received from the broker.
#[derive(Debug)]
pub(super) struct InboundMessage {
    /// Decoded lossily; a conforming broker only sends UTF-8.
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) is_retained: bool,
    /// Has no flow control and is not redelivered.
    pub(super) is_qos0: bool,
    /// Correlation data; MQTT 5 only.
    pub(super) correlation: Option<Bytes>,
    pub(super) ack: AckHandle,
}

/// Acknowledges one received message.
pub(super) struct AckHandle(Box<dyn FnOnce() + Send>);

impl AckHandle {
    /// Sends PUBACK. If the connection is gone, the broker redelivers the message, which is idempotent.
    pub(super) fn ack(self) {
        (self.0)();
    }
}

impl fmt::Debug for AckHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AckHandle")
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disconnect {
    /// The reason as a sentence; contains no credentials.
    pub(super) message: String,
    pub(super) cause: DisconnectCause,
}

impl Disconnect {
    fn unrelated(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            cause: DisconnectCause::Unrelated,
        }
    }

    /// The broker refused the connection with this CONNACK code.
    fn refused(code: impl fmt::Debug) -> Self {
        let code = format!("{code:?}");
        let remedy = match code.as_str() {
            "BadUserNamePassword" | "NotAuthorized" => {
                ": check broker.credentials, and what the broker's ACL allows this user"
            }
            "BadClientId" | "ClientIdentifierNotValid" => ": allow the client id, which is `gridwatch-` and node.id",
            "UseAnotherServer" | "ServerMoved" => ": set broker.url to the server that replaces it",
            "Banned" => ": have this box removed from its list of banned clients",
            _ => "",
        };
        Self::unrelated(format!("the broker refused the connection ({code}){remedy}"))
    }

    /// The broker lacks something the box needs.
    fn unsuitable(what: Shortcoming) -> Self {
        Self {
            message: what.to_string(),
            cause: DisconnectCause::Unsuitable,
        }
    }

    fn timed_out() -> Self {
        Self::unrelated("the broker did not answer in time")
    }

    fn without_reason() -> Self {
        Self {
            message: "the broker closed the connection without giving a reason".into(),
            cause: DisconnectCause::NoReason,
        }
    }
}

/// Whether a message may have caused a disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DisconnectCause {
    /// Not caused by a message.
    Unrelated,
    /// The peer closed the connection or stopped responding without giving a reason. Brokers do that over a message they
    /// reject (with MQTT 3.1.1 they have no other way), and so does every failing network.
    NoReason,
    /// An outgoing message, according to the broker or the client.
    Outgoing(String),
    /// The broker lacks something the box needs.
    Unsuitable,
    /// Another client connected with this box's client id.
    TakenOver,
}

/// The session a connection asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SessionKind {
    /// The box's persistent session, with its last will.
    Persistent,
    /// A session that ends with the connection, under this client id and without a last will.
    Clean(String),
    /// Like `Clean`, with a last will like the box's on a topic where it does no harm: an empty retained message on the
    /// health topic, where nothing is retained.
    Probe(String),
}

/// What a short connection learnt.
#[derive(Debug)]
struct Visit {
    limits: BrokerLimits,
    subscription: SubscribeOutcome,
    /// Payload of the first message received.
    message: Option<Bytes>,
}

/// Polls the client's event loop. The disconnect event is forwarded before the event loop is dropped, so that the
/// connection sees the cause before its pending publishes resolve as lost.
pub(super) async fn pump(mut event_loop: Box<dyn EventLoop>, events: mpsc::Sender<Event>) {
    loop {
        let event = event_loop.next().await;
        let last = matches!(event, Event::Disconnected(_));
        if events.send(event).await.is_err() || last {
            return;
        }
    }
}

impl Connector {
    pub(super) fn new(settings: Settings, public_key: Option<PublicKey>) -> Result<Self, LinkError> {
        if settings.keep_alive < Duration::from_secs(1) || settings.keep_alive.as_secs() > u64::from(u16::MAX) {
            return Err(LinkError::Settings("keep_alive must be 1 s to 65535 s".into()));
        }
        if settings.in_flight == 0 {
            return Err(LinkError::Settings("in_flight must be 1 or more".into()));
        }
        Ok(Self {
            topics: Topics::new(&settings.topic_prefix, &settings.node),
            platform_topic: platform_topic(&settings.topic_prefix),
            tls: settings.tls.as_ref().map(tls::TlsClientConfig::load).transpose()?,
            settings,
            public_key,
        })
    }

    /// Opens a connection with the box's persistent session. Only the broker's side of the session (subscriptions, queued
    /// replies) outlives the connection; on this side the outbox holds whatever was not acknowledged.
    pub(super) fn connect(&self) -> (Box<dyn Client>, Box<dyn EventLoop>) {
        self.connect_with(&SessionKind::Persistent)
    }

    fn connect_with(&self, session: &SessionKind) -> (Box<dyn Client>, Box<dyn EventLoop>) {
        match self.settings.protocol {
            Protocol::V5 => v5::connect(self, session),
            Protocol::V311 => v311::connect(self, session),
        }
    }

    /// Where the platform announces what it does.
    pub(super) fn platform_topic(&self) -> &str {
        &self.platform_topic
    }

    /// The retained status of this box's node id, read under a client id that disturbs no session; `None` if there is none.
    ///
    /// # Errors
    /// Why it could not be read, as a sentence.
    pub(super) async fn retained_status(&self, suffix: &str) -> Result<Option<Bytes>, String> {
        let session = SessionKind::Clean(format!("{}-{suffix}", self.client_id()));
        let subscribe = Some((self.topics.status(), RETAINED_WITHIN));
        match self.visit(&session, subscribe).await {
            Ok(visit) => match visit.subscription {
                SubscribeOutcome::Denied(reason) => Err(reason),
                _ => Ok(visit.message),
            },
            Err(disconnect) => Err(disconnect.message),
        }
    }

    /// Connects, subscribes to a topic, waits for a message on it for the given time, and disconnects.
    async fn visit(&self, session: &SessionKind, topic: Option<(String, Duration)>) -> Result<Visit, Disconnect> {
        let (client, event_loop) = self.connect_with(session);
        let (events_in, mut events) = mpsc::channel(32);
        // Ends with this future.
        let mut tasks = JoinSet::new();
        tasks.spawn(pump(event_loop, events_in));
        let exchange = async {
            let limits = match events.recv().await {
                Some(Event::Connected(connack)) => connack.limits,
                Some(Event::Disconnected(disconnect)) => {
                    let cause = disconnect.cause.clone();
                    let message = self.describe(disconnect, false);
                    return Err(Disconnect { message, cause });
                }
                _ => return Err(Disconnect::without_reason()),
            };
            let mut visit = Visit {
                limits,
                subscription: SubscribeOutcome::Granted,
                message: None,
            };
            if let Some((topic, wait)) = topic {
                visit.subscription = match client.subscribe(vec![topic], RetainHandling::SendRetained) {
                    Ok(outcome) => outcome.await,
                    Err(_) => SubscribeOutcome::Lost,
                };
                let is_lost = visit.subscription == SubscribeOutcome::Lost;
                let is_refused = matches!(visit.subscription, SubscribeOutcome::Denied(_));
                let until = Instant::now() + if is_refused { Duration::ZERO } else { wait };
                while is_lost || visit.message.is_none() {
                    tokio::select! {
                        event = events.recv() => match event {
                            Some(Event::Message(message)) => visit.message = Some(message.payload),
                            Some(Event::Disconnected(disconnect)) => return Err(disconnect),
                            _ => return Err(Disconnect::without_reason()),
                        },
                        () = sleep_until(until), if !is_lost => break,
                    }
                }
            }
            client.disconnect();
            // So that the broker has read it, and discards the last will.
            while !matches!(events.recv().await, Some(Event::Disconnected(_)) | None) {}
            Ok(visit)
        };
        timeout(CONNECT_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(Disconnect::timed_out()))
    }

    /// The reason of a disconnect, with likely causes if the broker closed the connection before CONNACK without a reason.
    pub(super) fn describe(&self, disconnect: Disconnect, was_connected: bool) -> String {
        let Disconnect { mut message, cause } = disconnect;
        if was_connected || cause != DisconnectCause::NoReason {
            return message;
        }
        message += ", before CONNACK";
        match &self.settings.tls {
            Some(tls) if tls.client.is_none() => message += ": does it require a client certificate (broker.client)?",
            Some(_) => message += ": does it trust the CA of the client certificate (broker.client)?",
            None => message += ": does this port expect TLS (mqtts://)?",
        }
        if self.settings.protocol == Protocol::V5 {
            message += " Does it support MQTT 5 (otherwise set broker.protocol = \"3.1.1\")?";
        } else {
            message += " Does it support QoS 1 and retained messages?";
        }
        message
    }

    fn client_id(&self) -> String {
        format!("gridwatch-{}", self.settings.node)
    }

    fn keep_alive_s(&self) -> u16 {
        u16::try_from(self.settings.keep_alive.as_secs()).unwrap_or(u16::MAX)
    }

    /// Maximum number of publishes awaiting acknowledgement: the outbox window plus status messages and claims. The
    /// client allocates a slot for each up front; MQTT's own maximum would take 14 MB.
    fn max_unacknowledged(&self) -> u16 {
        self.settings.in_flight.saturating_add(12)
    }

    /// Capacity of the client's request queue.
    fn queue_capacity(&self) -> usize {
        usize::from(self.max_unacknowledged()) + usize::from(REPLIES_IN_FLIGHT)
    }

    /// The status message of this box.
    pub(super) fn status(&self, state: Presence, since: Option<jiff::Timestamp>) -> OutboundMessage {
        OutboundMessage {
            topic: self.topics.status(),
            payload: self.status_json(state, since).into_bytes(),
            kind: MessageKind::Status,
        }
    }

    fn status_json(&self, state: Presence, since: Option<jiff::Timestamp>) -> String {
        let message = StatusMessage {
            schema_version: SCHEMA_VERSION,
            node_id: self.settings.node.to_string(),
            state,
            since: since.map(|at| When::new(at, &self.settings.zone)),
            version: env!("CARGO_PKG_VERSION").into(),
            public_key: self.public_key.as_ref().map(ToString::to_string),
            installation: self.settings.installation.as_ref().map(|i| i.id().to_owned()),
        };
        serde_json::to_string(&message).unwrap_or_default()
    }
}

/// Classifies a connection error that is neither a TLS nor an MQTT error. The clients wrap I/O errors differently on read
/// and on write, so the whole source chain is searched.
fn from_io_cause(error: &(dyn Error + 'static)) -> Disconnect {
    let causes = std::iter::successors(Some(error), |e| (*e).source());
    match causes.filter_map(|e| e.downcast_ref::<io::Error>()).next() {
        Some(e) => match e.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Disconnect::without_reason(),
            _ => Disconnect::unrelated(e.to_string()),
        },
        None => Disconnect::unrelated(error.to_string()),
    }
}

/// Checks that the broker can serve the box: connects once as the link does, with a retained last will of QoS 1, but with a
/// clean session under a client id of its own, so the box's session is not disturbed; subscribes to the replies, and
/// disconnects.
///
/// # Errors
/// [`LinkError::TlsFile`], [`LinkError::Tls`], [`LinkError::Settings`], [`LinkError::Refused`] or
/// [`LinkError::Unsuitable`].
pub async fn probe(settings: Settings) -> Result<(), LinkError> {
    let connector = Connector::new(settings, None)?;
    let client_id = format!("{}-check-{}", connector.client_id(), std::process::id());
    let (host, port) = (connector.settings.host.clone(), connector.settings.port);
    let replies = (connector.topics.reply(), Duration::ZERO);
    let reasons = match connector
        .visit(&SessionKind::Probe(client_id.clone()), Some(replies))
        .await
    {
        Ok(visit) => {
            let mut reasons = visit.limits.shortcomings(connector.settings.largest_payload);
            match visit.subscription {
                SubscribeOutcome::Denied(reason) => reasons.push(format!(
                    "it denies the subscription to replies on {} ({reason}): allow it in the broker's ACL",
                    connector.topics.reply()
                )),
                SubscribeOutcome::Downgraded if visit.limits.has_qos1 => {
                    reasons.extend(BrokerLimits::NO_QOS1.shortcomings(0));
                }
                _ => {}
            }
            if connector.settings.receipts == Receipts::Required {
                let announcement = Some((connector.platform_topic.clone(), RETAINED_WITHIN));
                let session = SessionKind::Probe(format!("{client_id}-receipts"));
                if !connector
                    .visit(&session, announcement)
                    .await
                    .is_ok_and(|visit| visit.message.is_some())
                {
                    reasons.push(format!(
                        "no platform announces receipts on {}, and broker.receipts is \"required\": start the platform and allow the topic in the \
                         broker's ACL, or set broker.receipts = \"auto\"",
                        connector.platform_topic
                    ));
                }
            }
            reasons
        }
        Err(disconnect) if disconnect.cause == DisconnectCause::Unsuitable => vec![disconnect.message],
        Err(disconnect) => {
            let reason = disconnect.message;
            return Err(LinkError::Refused { host, port, reason });
        }
    };
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(LinkError::Unsuitable { host, port, reasons })
    }
}
