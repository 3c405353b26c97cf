//! MQTT 5 adapter over `rumqttc`.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rumqttc::{
    AckMode, AsyncClient, ClientError, ConnectReturnCode, ConnectionError, DisconnectReasonCode, Incoming,
    IncomingPacketSizeLimit, LastWill, LastWillProperties, MqttOptions, NetworkOptions, PersistedAckMode,
    PersistedSession, PubAckReason, Publish, PublishNoticeError, PublishOptions, PublishProperties, PublishResult, QoS,
    RetainForwardRule, SessionMode, SessionStore, SessionStoreError, SessionStoreKey, StateError, SubscribeFilterInput,
    SubscribeNoticeError, Transport,
};

use super::{
    AckHandle, CONNECT_TIMEOUT, Client, ConnAck, Connector, Disconnect, DisconnectCause, EnqueueError, Event,
    EventLoop, InboundMessage, JPEG, JSON, MessageKind, OutboundMessage, PublishOutcome, REPLIES_IN_FLIGHT,
    RetainHandling, SessionKind, SubscribeOutcome, closed_without_reason, from_io_cause, tls,
};
use crate::claims::CLAIM_TTL;
use gridwatch_contract::Presence;

/// Maximum size of an incoming packet, in bytes; replies take a few hundred. Announced to the broker, which must not send
/// larger packets (MQTT 5, 3.1.2.11.4). The client's default of 10 KiB would end the connection instead.
const MAX_INCOMING: u32 = 256 * 1024;

pub(super) fn connect(connector: &Connector, session: &SessionKind) -> (Box<dyn Client>, Box<dyn EventLoop>) {
    let options = match session {
        SessionKind::Persistent => persistent_options(connector),
        SessionKind::Clean(client_id) => clean_options(connector, client_id.clone()),
    };
    let (client, events) = AsyncClient::builder(options)
        .capacity(connector.queue_capacity())
        .build();
    let event_loop = V5EventLoop {
        client: client.clone(),
        events,
    };
    (Box::new(V5Client(client)), Box::new(event_loop))
}

fn clean_options(connector: &Connector, client_id: String) -> MqttOptions {
    let settings = &connector.settings;
    let mut options = MqttOptions::new(client_id, (settings.host.as_str(), settings.port));
    options
        .set_keep_alive(connector.keep_alive_s())
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_session_mode(SessionMode::Clean);
    // Messages are small, rare and awaited: do not delay them for coalescing.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(tls) = &connector.tls {
        options.set_transport(Transport::tls_with_config(tls.configuration()));
    }
    if let Some(login) = &settings.login {
        options.set_credentials(login.user.expose().to_owned(), login.password.expose().to_owned());
    }
    options
}

fn persistent_options(connector: &Connector) -> MqttOptions {
    let mut options = clean_options(connector, connector.client_id());
    let session_expiry_s = u32::try_from(connector.settings.session_expiry.as_secs()).unwrap_or(u32::MAX);
    options
        .set_session_mode(SessionMode::Persistent)
        .set_session_expiry_interval(Some(session_expiry_s))
        .set_session_store_arc(Arc::new(EmptySessionStore {
            in_flight: connector.max_unacknowledged(),
            session_expiry_s,
        }))
        .set_outgoing_inflight_upper_limit(connector.max_unacknowledged())
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(REPLIES_IN_FLIGHT))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INCOMING))
        .set_last_will(LastWill::new(
            connector.topics.status(),
            connector.status_json(Presence::Offline, None),
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
    options
}

/// A session store that always loads an empty session: nothing in flight. That is true, because each connection starts
/// with a new client and the outbox holds whatever was not acknowledged. The client needs a stored session to resume the
/// broker's, in which replies are queued.
#[derive(Debug)]
struct EmptySessionStore {
    /// Must equal the client's own limit.
    in_flight: u16,
    /// Must equal the client's own setting.
    session_expiry_s: u32,
}

type StoreFuture<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for EmptySessionStore {
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

struct V5Client(AsyncClient);

impl Client for V5Client {
    fn send(&self, message: OutboundMessage) -> Result<BoxFuture<'static, PublishOutcome>, EnqueueError> {
        let qos = match message.kind.is_acknowledged() {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        let options = PublishOptions::new(qos)
            .retain(message.kind.is_retained())
            .properties(properties(message.kind));
        let notice = self
            .0
            .try_publish_tracked(message.topic, message.payload, options)
            .map_err(|e| enqueue_error(&e))?;
        let outcome = notice.wait_async().map(|answer| match answer {
            Ok(PublishResult::Qos1(ack)) => publish_outcome(ack.reason),
            Err(PublishNoticeError::V5PubAck(reason)) => publish_outcome(reason),
            Ok(_) => PublishOutcome::Delivered,
            Err(_) => PublishOutcome::Lost,
        });
        Ok(outcome.boxed())
    }

    fn subscribe(
        &self,
        filters: Vec<String>,
        retain: RetainHandling,
    ) -> Result<BoxFuture<'static, SubscribeOutcome>, EnqueueError> {
        let rule = match retain {
            RetainHandling::SkipRetained => RetainForwardRule::Never,
            RetainHandling::SendRetained => RetainForwardRule::OnEverySubscribe,
        };
        let filters = filters
            .into_iter()
            .map(|filter| SubscribeFilterInput::new(filter, QoS::AtLeastOnce).retain_forward_rule(rule.clone()));
        let notice = self
            .0
            .try_subscribe_many_tracked(filters)
            .map_err(|e| enqueue_error(&e))?;
        let outcome = notice.wait_completion_async().map(|answer| match answer {
            Ok(()) => SubscribeOutcome::Granted,
            Err(e @ SubscribeNoticeError::V5SubAckFailure(_)) => SubscribeOutcome::Denied(e.to_string()),
            Err(_) => SubscribeOutcome::Lost,
        });
        Ok(outcome.boxed())
    }

    fn disconnect(&self) {
        // An error means that the connection has already ended.
        let _ = self.0.try_disconnect();
    }
}

fn enqueue_error(error: &ClientError) -> EnqueueError {
    match error {
        ClientError::InvalidRequest(_) => EnqueueError::InvalidTopic,
        _ => EnqueueError::QueueFull,
    }
}

fn properties(kind: MessageKind) -> PublishProperties {
    let json = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some(JSON.into()),
        ..Default::default()
    };
    match kind {
        MessageKind::Status | MessageKind::Health => json,
        MessageKind::Claim => PublishProperties {
            message_expiry_interval: Some(u32::try_from(CLAIM_TTL.as_secs()).unwrap_or(u32::MAX)),
            ..json
        },
        MessageKind::Evidence => PublishProperties {
            content_type: Some(JPEG.into()),
            ..Default::default()
        },
        MessageKind::Case { id, reply_topic } => PublishProperties {
            response_topic: Some(reply_topic),
            correlation_data: Some(Bytes::from(id)),
            ..json
        },
    }
}

fn publish_outcome(reason: PubAckReason) -> PublishOutcome {
    match reason {
        PubAckReason::Success => PublishOutcome::Delivered,
        PubAckReason::NoMatchingSubscribers => PublishOutcome::NoSubscriber,
        PubAckReason::NotAuthorized => PublishOutcome::Rejected(
            "not authorised to publish to this topic (0x87); allow it in the broker's ACL".into(),
        ),
        PubAckReason::TopicNameInvalid => PublishOutcome::Rejected("invalid topic name (0x90)".into()),
        PubAckReason::PayloadFormatInvalid => PublishOutcome::Rejected("invalid payload format (0x99)".into()),
        PubAckReason::UnspecifiedError
        | PubAckReason::ImplementationSpecificError
        | PubAckReason::PacketIdentifierInUse
        | PubAckReason::QuotaExceeded => PublishOutcome::Busy(format!("{reason:?} (0x{:02x})", reason as u8)),
    }
}

struct V5EventLoop {
    client: AsyncClient,
    events: rumqttc::EventLoop,
}

impl EventLoop for V5EventLoop {
    fn next(&mut self) -> BoxFuture<'_, Event> {
        Box::pin(async {
            loop {
                match self.events.poll().await {
                    Ok(rumqttc::Event::Incoming(Incoming::ConnAck(ack))) => {
                        return Event::Connected(ConnAck {
                            session_present: ack.session_present,
                            max_packet: ack.properties.as_ref().and_then(|p| p.max_packet_size),
                        });
                    }
                    Ok(rumqttc::Event::Incoming(Incoming::Publish(publish))) => {
                        return Event::Message(inbound_message(&self.client, publish));
                    }
                    Ok(_) => {}
                    Err(e) => return Event::Disconnected(disconnect(&e)),
                }
            }
        })
    }
}

fn inbound_message(client: &AsyncClient, publish: Publish) -> InboundMessage {
    let (client, ack) = (client.clone(), client.prepare_ack(&publish));
    InboundMessage {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        is_retained: publish.retain,
        is_qos0: publish.qos == QoS::AtMostOnce,
        correlation: publish.properties.and_then(|p| p.correlation_data),
        payload: publish.payload,
        ack: AckHandle(Box::new(move || {
            if let Some(ack) = ack {
                let _ = client.try_manual_ack(ack);
            }
        })),
    }
}

fn disconnect(error: &ConnectionError) -> Disconnect {
    // This error does not expose its cause through `source`.
    let cause: &(dyn Error + 'static) = match error {
        ConnectionError::MqttState(StateError::Deserialization(cause)) => cause,
        other => other,
    };
    if let Some(message) = tls::describe(cause) {
        return Disconnect::unrelated(message);
    }
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion,
        ) => unsupported_version(),
        ConnectionError::ConnectionRefused(code) => {
            Disconnect::unrelated(format!("the broker refused the connection: {code:?}"))
        }
        ConnectionError::Timeout(_) => Disconnect::unrelated("the broker did not answer in time"),
        ConnectionError::MqttState(state) => from_state_error(state).unwrap_or_else(|| from_io_cause(cause)),
        _ => from_io_cause(cause),
    }
}

fn unsupported_version() -> Disconnect {
    Disconnect::unrelated("the broker does not support MQTT 5; set broker.protocol = \"3.1.1\"")
}

/// Classifies a protocol error. Brokers may close the connection instead of rejecting a message, and PUBACK codes that the
/// client does not know end it too.
fn from_state_error(state: &StateError) -> Option<Disconnect> {
    let outgoing = |reason: String| Disconnect {
        message: format!("the connection ended over a message: {reason}"),
        cause: DisconnectCause::Outgoing(reason),
    };
    Some(match state {
        StateError::ServerDisconnect {
            reason_code,
            reason_string,
        } => Disconnect {
            message: match reason_string {
                Some(text) => format!("the broker closed the connection: {reason_code:?} ({text:?})"),
                None => format!("the broker closed the connection: {reason_code:?}"),
            },
            cause: match reason_code {
                DisconnectReasonCode::PacketTooLarge
                | DisconnectReasonCode::TopicNameInvalid
                | DisconnectReasonCode::PayloadFormatInvalid
                | DisconnectReasonCode::MalformedPacket => {
                    DisconnectCause::Outgoing(format!("the broker closed the connection over it ({reason_code:?})"))
                }
                _ => DisconnectCause::Unrelated,
            },
        },
        StateError::OutgoingPacketTooLarge { pkt_size, max } => outgoing(format!(
            "packet of {pkt_size} bytes exceeds the broker's maximum of {max} bytes"
        )),
        StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded { .. }) => Disconnect {
            message: "received a message larger than the box accepts".into(),
            cause: DisconnectCause::Incoming,
        },
        // CONNACK return codes of MQTT 3.1.1. A 3.1.1 broker answers 1 to a protocol level it does not support.
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(1..=5)) => unsupported_version(),
        // mosquitto 2.0 answers a message over its message_size_limit with 0x95, which is not a PUBACK reason code. The
        // client reports it as an error named after CONNACK.
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(code)) => outgoing(match code {
            0x95 => "message exceeds the broker's size limit (0x95)".into(),
            _ => format!("the broker rejected the message with 0x{code:02x}, which is not a PUBACK reason code"),
        }),
        StateError::ConnectionAborted => closed_without_reason(),
        _ => return None,
    })
}
