//! Connects to the platform's broker: which session, topics, last will and status a box has, and what a short visit finds out.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use super::{LinkError, Receipts, Settings, shortcomings};
use gridwatch_contract::{Presence, SCHEMA_VERSION, StatusMessage, Topics, When, platform_topic};
use gridwatch_custody::PublicKey;
use gridwatch_mqtt::{
    BrokerFeature, BrokerLimits, CONNECT_TIMEOUT, Client, ConnectOptions, Disconnect, DisconnectCause, Event,
    EventLoop, OutboundMessage, RetainHandling, SessionMode, SubscribeOutcome, TlsClientConfig, Wording, pump,
};

/// Replies that may be unacknowledged at once; the broker queues the rest.
const REPLIES_IN_FLIGHT: u16 = 16;

/// Largest packet that is received whole, in bytes; replies and claims take a few hundred.
const MAX_INCOMING: usize = 256 * 1024;

/// A broker sends the retained message with or right after its answer to the subscription; after this long there is none.
const RETAINED_WITHIN: Duration = Duration::from_secs(1);

/// The configuration's keys, for messages of the client.
const WORDING: Wording = Wording {
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

/// Opens connections to the broker.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) settings: Settings,
    pub(super) topics: Topics,
    platform_topic: String,
    tls: Option<TlsClientConfig>,
    /// Verifies this box's case signatures; published in the status message.
    pub(super) public_key: Option<PublicKey>,
}

/// How a short connection presents itself to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Visitor {
    /// Under this client id and without a last will.
    Reader(String),
    /// Under this client id, with a last will like the box's on a topic where it does no harm: an empty retained message on the
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
            tls: settings
                .tls
                .as_ref()
                .map(|tls| TlsClientConfig::load(tls, &WORDING))
                .transpose()?,
            settings,
            public_key,
        })
    }

    /// Opens a connection with the box's persistent session. Only the broker's side of the session (subscriptions, queued
    /// replies) outlives the connection; on this side the outbox holds whatever was not acknowledged.
    pub(super) fn connect(&self) -> (Box<dyn Client>, Box<dyn EventLoop>) {
        gridwatch_mqtt::connect(&ConnectOptions {
            session: SessionMode::Persistent {
                expiry: self.settings.session_expiry,
            },
            will: Some(self.status(Presence::Offline, None)),
            ..self.clean(self.client_id())
        })
    }

    /// Opens a connection whose session ends with it.
    fn connect_as(&self, visitor: &Visitor) -> (Box<dyn Client>, Box<dyn EventLoop>) {
        gridwatch_mqtt::connect(&match visitor {
            Visitor::Reader(client_id) => self.clean(client_id.clone()),
            Visitor::Probe(client_id) => ConnectOptions {
                will: Some(OutboundMessage {
                    is_retained: true,
                    ..OutboundMessage::json(self.topics.health(), "")
                }),
                ..self.clean(client_id.clone())
            },
        })
    }

    /// A session that ends with the connection, without a last will.
    fn clean(&self, client_id: String) -> ConnectOptions {
        ConnectOptions {
            host: self.settings.host.clone(),
            port: self.settings.port,
            protocol: self.settings.protocol,
            tls: self.tls.clone(),
            login: self.settings.login.clone(),
            client_id,
            keep_alive: self.settings.keep_alive,
            session: SessionMode::Clean,
            will: None,
            // The outbox window plus status messages and claims.
            max_unacknowledged: self.settings.in_flight.saturating_add(12),
            receive_maximum: REPLIES_IN_FLIGHT,
            max_incoming: MAX_INCOMING,
            wording: &WORDING,
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
        let visitor = Visitor::Reader(format!("{}-{suffix}", self.client_id()));
        let subscribe = Some((self.topics.status(), RETAINED_WITHIN));
        match self.visit(&visitor, subscribe).await {
            Ok(visit) => match visit.subscription {
                SubscribeOutcome::Denied(reason) => Err(reason),
                _ => Ok(visit.message),
            },
            Err(disconnect) => Err(disconnect.message),
        }
    }

    /// Connects, subscribes to a topic, waits for a message on it for the given time, and disconnects.
    async fn visit(&self, visitor: &Visitor, topic: Option<(String, Duration)>) -> Result<Visit, Disconnect> {
        let (client, event_loop) = self.connect_as(visitor);
        let (events_in, mut events) = mpsc::channel(32);
        // Ends with this future.
        let mut tasks = JoinSet::new();
        tasks.spawn(pump(event_loop, events_in));
        let exchange = async {
            let limits = match events.recv().await {
                Some(Event::Connected(connack)) => connack.limits,
                Some(Event::Disconnected(disconnect)) => return Err(disconnect),
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
                            Some(Event::Message(message)) => {
                                visit.message = Some(message.payload);
                                message.ack.ack();
                            }
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

    fn client_id(&self) -> String {
        format!("gridwatch-{}", self.settings.node)
    }

    /// The status message of this box.
    pub(super) fn status(&self, state: Presence, since: Option<jiff::Timestamp>) -> OutboundMessage {
        let message = StatusMessage {
            schema_version: SCHEMA_VERSION,
            node_id: self.settings.node.to_string(),
            state,
            since: since.map(|at| When::new(at, &self.settings.zone)),
            version: env!("CARGO_PKG_VERSION").into(),
            public_key: self.public_key.as_ref().map(ToString::to_string),
            installation: self.settings.installation.as_ref().map(|i| i.id().to_owned()),
        };
        OutboundMessage {
            is_retained: true,
            ..OutboundMessage::json(
                self.topics.status(),
                serde_json::to_string(&message).unwrap_or_default(),
            )
        }
    }
}

/// Checks that the broker can serve the box: connects once as the link does, with a retained last will of QoS 1, but with a
/// clean session under a client id of its own, so the box's session is not disturbed; subscribes to the replies, and
/// disconnects.
///
/// # Errors
/// [`LinkError::Tls`], [`LinkError::Settings`], [`LinkError::Refused`] or
/// [`LinkError::Unsuitable`].
pub async fn probe(settings: Settings) -> Result<(), LinkError> {
    let connector = Connector::new(settings, None)?;
    let client_id = format!("{}-check-{}", connector.client_id(), std::process::id());
    let (host, port) = (connector.settings.host.clone(), connector.settings.port);
    let replies = (connector.topics.reply(), Duration::ZERO);
    let reasons = match connector.visit(&Visitor::Probe(client_id.clone()), Some(replies)).await {
        Ok(visit) => {
            let mut reasons = shortcomings::of(visit.limits, connector.settings.largest_payload);
            match visit.subscription {
                SubscribeOutcome::Denied(reason) => reasons.push(format!(
                    "it denies the subscription to replies on {} ({reason}): allow it in the broker's ACL",
                    connector.topics.reply()
                )),
                SubscribeOutcome::Downgraded if visit.limits.has_qos1 => {
                    reasons.push(shortcomings::without(BrokerFeature::Qos1).to_owned());
                }
                _ => {}
            }
            if connector.settings.receipts == Receipts::Required {
                let announcement = Some((connector.platform_topic.clone(), RETAINED_WITHIN));
                let visitor = Visitor::Probe(format!("{client_id}-receipts"));
                if !connector
                    .visit(&visitor, announcement)
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
        Err(disconnect) => match disconnect.cause {
            DisconnectCause::Unsuitable(lacking) => vec![shortcomings::without(lacking).to_owned()],
            _ => {
                let reason = disconnect.message;
                return Err(LinkError::Refused { host, port, reason });
            }
        },
    };
    if reasons.is_empty() {
        Ok(())
    } else {
        Err(LinkError::Unsuitable { host, port, reasons })
    }
}
