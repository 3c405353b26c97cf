//! Everything that depends on the MQTT client: options, sessions, publishing, and what the broker's codes mean.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, DisconnectReasonCode, Event, EventLoop, Incoming, IncomingPacketSizeLimit,
    LastWill, LastWillProperties, MqttOptions, NetworkOptions, Outgoing, PersistedAckMode, PersistedSession,
    PubAckReason, PublishNotice, PublishNoticeError, PublishOptions, PublishProperties, PublishResult, QoS,
    SessionMode, SessionStore, SessionStoreError, SessionStoreKey, StateError, Transport,
};

use super::{
    LinkError, Settings, Tls, Topics,
    contract::{Presence, SCHEMA_VERSION, StatusMessage, When},
    read_pem,
};

/// A reply is a few hundred bytes. The client's own limit of 10 KiB breaks the connection at a bigger packet; this one
/// is told to the broker, which must not send such a packet at all (MQTT 5, 3.1.2.11.4).
pub(super) const MAX_INCOMING: u32 = 256 * 1024;

/// Replies that may be waiting for the daemon at once; the broker holds the others.
pub(super) const REPLIES_IN_FLIGHT: u16 = 16;

/// What a publish may add to its payload: topic (at most 64 KiB by the standard, about 150 bytes here), properties.
const PACKET_OVERHEAD: usize = 1024;

/// Everything that a connection is made from.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) settings: Settings,
    pub(super) topics: Topics,
    tls: Option<Pem>,
}

/// What TLS needs, as it was read when the link was made.
struct Pem {
    ca: Vec<u8>,
    /// Certificate and key.
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One of them is a private key.
        f.write_str("Pem")
    }
}

impl Wire {
    pub(super) fn new(settings: Settings) -> Result<Self, LinkError> {
        if settings.keep_alive < Duration::from_secs(1) || settings.keep_alive.as_secs() > u64::from(u16::MAX) {
            return Err(LinkError::Settings("keep_alive must be 1 s to 65535 s".into()));
        }
        if settings.in_flight == 0 {
            return Err(LinkError::Settings("in_flight must be 1 or more".into()));
        }
        let read = |tls: &Tls| {
            let client = tls.client.as_ref().map(|(cert, key)| {
                Ok::<_, LinkError>((
                    read_pem("broker.client.cert_file", cert)?,
                    read_pem("broker.client.key_file", key)?,
                ))
            });
            Ok::<_, LinkError>(Pem {
                ca: read_pem("broker.ca_file", &tls.ca_file)?,
                client: client.transpose()?,
            })
        };
        let tls = settings.tls.as_ref().map(read).transpose()?;
        Ok(Self {
            topics: Topics::new(&settings.topic_prefix, &settings.node),
            settings,
            tls,
        })
    }

    fn options(&self, client_id: String) -> MqttOptions {
        let settings = &self.settings;
        let mut options = MqttOptions::new(client_id, (settings.host.as_str(), settings.port));
        options
            .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX))
            .set_connect_timeout(Duration::from_secs(10));
        // Messages are small and rare, and somebody waits for each.
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options.set_network_options(network);
        if let Some(Pem { ca, client }) = &self.tls {
            options.set_transport(Transport::tls(ca.clone(), client.clone(), None));
        }
        if let Some(login) = &settings.login {
            options.set_credentials(login.user.expose().to_owned(), login.password.expose().to_owned());
        }
        options
    }

    /// A client and its event loop for one connection. The broker's side of the session (subscription, waiting replies)
    /// outlives it; ours does not: what was not acknowledged is in the outbox.
    pub(super) fn connect(&self) -> (AsyncClient, EventLoop) {
        let mut options = self.options(format!("gridwatch-{}", self.settings.node));
        options
            .set_session_mode(SessionMode::Persistent)
            .set_session_expiry_interval(Some(self.session_expiry_s()))
            .set_session_store_arc(Arc::new(NothingHeld {
                in_flight: self.unacknowledged(),
                session_expiry_s: self.session_expiry_s(),
            }))
            .set_outgoing_inflight_upper_limit(self.unacknowledged())
            .set_ack_mode(AckMode::Manual)
            .set_receive_maximum(Some(REPLIES_IN_FLIGHT))
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INCOMING))
            .set_last_will(LastWill::new(
                self.topics.status(),
                self.status(Presence::Offline, None),
                QoS::AtLeastOnce,
                true,
                Some(LastWillProperties {
                    delay_interval: None,
                    payload_format_indicator: Some(1),
                    message_expiry_interval: None,
                    content_type: Some(JSON.into()),
                    response_topic: None,
                    correlation_data: None,
                    user_properties: Vec::new(),
                }),
            ));
        let capacity = usize::from(self.unacknowledged()) + usize::from(REPLIES_IN_FLIGHT);
        AsyncClient::builder(options).capacity(capacity).build()
    }

    fn session_expiry_s(&self) -> u32 {
        u32::try_from(self.settings.session_expiry.as_secs()).unwrap_or(u32::MAX)
    }

    /// The most publishes of ours that wait for an acknowledgement: the outbox's, and what is said about the box itself. The
    /// client holds a slot for each from the start; for all that MQTT allows they would be 14 MB.
    fn unacknowledged(&self) -> u16 {
        self.settings.in_flight.saturating_add(8)
    }

    pub(super) fn status(&self, state: Presence, since: Option<jiff::Timestamp>) -> String {
        let message = StatusMessage {
            schema_version: SCHEMA_VERSION,
            node_id: self.settings.node.to_string(),
            state,
            since: since.map(|at| When::new(at, &self.settings.zone)),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        serde_json::to_string(&message).unwrap_or_default()
    }

    pub(super) fn status_options() -> PublishOptions {
        PublishOptions::at_least_once().retained().properties(json_properties())
    }

    pub(super) fn health_options() -> PublishOptions {
        PublishOptions::at_most_once().properties(json_properties())
    }

    pub(super) fn evidence_options() -> PublishOptions {
        PublishOptions::at_least_once().properties(PublishProperties {
            content_type: Some("image/jpeg".into()),
            ..Default::default()
        })
    }

    pub(super) fn case_options(&self, case_id: &str) -> PublishOptions {
        PublishOptions::at_least_once().properties(PublishProperties {
            response_topic: Some(self.topics.reply()),
            correlation_data: Some(Bytes::copy_from_slice(case_id.as_bytes())),
            ..json_properties()
        })
    }
}

const JSON: &str = "application/json";

fn json_properties() -> PublishProperties {
    PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some(JSON.into()),
        ..Default::default()
    }
}

/// True where a payload of `bytes` fits into the largest packet the broker takes.
pub(super) fn fits(bytes: usize, max_packet: Option<u32>) -> bool {
    max_packet.is_none_or(|max| bytes + PACKET_OVERHEAD <= max as usize)
}

/// Our side of every MQTT session: nothing is in flight. True by construction, because each connection begins with a new
/// client and the outbox holds whatever was not acknowledged; and said to the client, because without a stored session
/// it refuses to resume the broker's, where replies wait for us.
#[derive(Debug)]
struct NothingHeld {
    /// The client's own limit, which a session that it resumes must state.
    in_flight: u16,
    /// The same.
    session_expiry_s: u32,
}

type StoreFuture<'a, T> = futures::future::BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for NothingHeld {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        Box::pin(async {
            Ok(Some(PersistedSession {
                format_version: 1,
                client_id: key.client_id().to_owned(),
                clean_start: false,
                session_expiry_interval: Some(self.session_expiry_s),
                outgoing_inflight_upper_limit: Some(self.in_flight),
                ack_mode: PersistedAckMode::Manual,
                last_pkid: 0,
                last_puback: 0,
                replay: Vec::new(),
                incoming_qos2: Vec::new(),
            }))
        })
    }

    fn save<'a>(&'a self, _: &'a SessionStoreKey, _: &'a PersistedSession) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn clear<'a>(&'a self, _: &'a SessionStoreKey) -> StoreFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What became of one publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The broker has it, and somebody to give it to.
    Delivered,
    /// The broker has it and nobody to give it to: as good as lost.
    Unheard,
    /// Never: what it says will not change by trying again.
    Refused(String),
    /// Not now.
    Busy(String),
    /// The connection ended first; the row is sent again on the next.
    Lost,
}

impl Verdict {
    /// The metric label's value.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Unheard => "unheard",
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Lost => "lost",
        }
    }
}

/// Waits for the broker's word on a publish.
pub(super) async fn verdict(notice: PublishNotice) -> Verdict {
    match notice.wait_async().await {
        Ok(PublishResult::Qos1(ack)) => by_reason(ack.reason),
        Err(PublishNoticeError::V5PubAck(reason)) => by_reason(reason),
        Ok(_) => Verdict::Delivered,
        Err(_) => Verdict::Lost,
    }
}

fn by_reason(reason: PubAckReason) -> Verdict {
    match reason {
        PubAckReason::Success => Verdict::Delivered,
        PubAckReason::NoMatchingSubscribers => Verdict::Unheard,
        PubAckReason::NotAuthorized => Verdict::Refused(
            "the broker does not authorise the box for this topic (0x87): allow it in the broker's ACL".into(),
        ),
        PubAckReason::TopicNameInvalid => Verdict::Refused("the broker does not accept the topic's name (0x90)".into()),
        PubAckReason::PayloadFormatInvalid => {
            Verdict::Refused("the broker does not accept the payload's form (0x99)".into())
        }
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => Verdict::Busy(format!("{reason:?} (0x{:02x})", reason as u8)),
    }
}

/// Why a connection ended, where the broker laid the blame on what it was sent. Brokers may close the connection
/// instead of refusing one message, and PUBACK codes that the client does not know end it too.
pub(super) fn blamed_on_message(error: &ConnectionError) -> Option<String> {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => match reason_code {
            DisconnectReasonCode::PacketTooLarge
            | DisconnectReasonCode::TopicNameInvalid
            | DisconnectReasonCode::PayloadFormatInvalid
            | DisconnectReasonCode::MalformedPacket => {
                Some(format!("the broker closed the connection over it ({reason_code:?})"))
            }
            _ => None,
        },
        ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { pkt_size, max }) => Some(format!(
            "its packet of {pkt_size} bytes is larger than the broker takes ({max})"
        )),
        // mosquitto 2.0 refuses what is over its message_size_limit with 0x95, a code that PUBACK does not have; the
        // client's error is named after another packet.
        ConnectionError::MqttState(StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(code))) => {
            Some(match code {
                0x95 => "the broker finds it too large (0x95)".into(),
                _ => format!("the broker refused it with code 0x{code:02x}, which MQTT does not have there"),
            })
        }
        _ => None,
    }
}

/// What happened to a connection, as a sentence without credentials.
pub(super) fn explain(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(code) => format!("the broker refused the connection: {code:?}"),
        ConnectionError::Timeout(_) => "the broker did not answer in time".into(),
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code,
            reason_string,
        }) => match reason_string {
            Some(said) => format!("the broker closed the connection: {reason_code:?} ({said:?})"),
            None => format!("the broker closed the connection: {reason_code:?}"),
        },
        ConnectionError::Tls(e) => {
            format!("TLS: {e}: is broker.ca_file the authority of this broker, and is its name right?")
        }
        other => other.to_string(),
    }
}

/// Connects once, with another client id and a session of its own, and takes leave again: is the broker there, does it
/// take us?
///
/// # Errors
/// [`LinkError::TlsFile`], [`LinkError::Settings`] or [`LinkError::Refused`].
pub async fn probe(settings: Settings) -> Result<(), LinkError> {
    let (host, port) = (settings.host.clone(), settings.port);
    let refused = |reason| LinkError::Refused {
        host: host.clone(),
        port,
        reason,
    };
    let wire = Wire::new(settings)?;
    let options = wire.options(format!("gridwatch-{}-check-{}", wire.settings.node, std::process::id()));
    let (client, mut events) = AsyncClient::builder(options).capacity(4).build();
    let talk = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => client.disconnect().await.map_err(|e| e.to_string())?,
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return Ok(()),
                Ok(_) => {}
                Err(e) => return Err(explain(&e)),
            }
        }
    };
    match tokio::time::timeout(Duration::from_secs(10), talk).await {
        Ok(done) => done.map_err(refused),
        Err(_) => Err(refused("it did not answer within 10 s".into())),
    }
}
