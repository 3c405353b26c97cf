//! MQTT 5.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rumqttc::{
    AckMode, AsyncClient, ClientError, ConnectReturnCode, ConnectionError, DisconnectReasonCode,
    EventLoop as ClientLoop, Incoming, IncomingPacketSizeLimit, LastWill, LastWillProperties, MqttOptions,
    NetworkOptions, PersistedAckMode, PersistedSession, PubAckReason, Publish, PublishNoticeError, PublishOptions,
    PublishProperties, PublishResult, QoS, RetainForwardRule, SessionMode, SessionStore, SessionStoreError,
    SessionStoreKey, StateError, SubscribeFilterInput, SubscribeNoticeError, Transport,
};

use super::{
    Blame, CONNECT_TIMEOUT, Client, ConnAck, Disconnect, Event, EventLoop, JPEG, JSON, Message, MessageKind,
    OutboundMessage, REPLIES_IN_FLIGHT, Receipt, Role, SubscribeOutcome, Unsent, Verdict, Wanted, Wire, by_cause,
    hung_up, tls,
};
use crate::claims::KEPT;
use gridwatch_contract::Presence;

/// A reply is a few hundred bytes. The client's own limit of 10 KiB breaks the connection at a bigger packet; this one
/// is told to the broker, which must not send such a packet at all (MQTT 5, 3.1.2.11.4).
const MAX_INCOMING: u32 = 256 * 1024;

pub(super) fn connect(wire: &Wire, role: &Role) -> (Box<dyn Client>, Box<dyn EventLoop>) {
    let options = match role {
        Role::Node => node(wire),
        Role::Visitor(name) => visitor(wire, name.clone()),
    };
    let (client, events) = AsyncClient::builder(options).capacity(wire.capacity()).build();
    let line = V5Line {
        client: client.clone(),
        events,
    };
    (Box::new(V5Client(client)), Box::new(line))
}

fn visitor(wire: &Wire, client_id: String) -> MqttOptions {
    let settings = &wire.settings;
    let mut options = MqttOptions::new(client_id, (settings.host.as_str(), settings.port));
    options
        .set_keep_alive(wire.keep_alive_s())
        .set_connect_timeout(CONNECT_TIMEOUT)
        .set_session_mode(SessionMode::Clean);
    // Messages are small and rare, and somebody waits for each.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(tls) = &wire.tls {
        options.set_transport(Transport::tls_with_config(tls.configuration()));
    }
    if let Some(login) = &settings.login {
        options.set_credentials(login.user.expose().to_owned(), login.password.expose().to_owned());
    }
    options
}

fn node(wire: &Wire) -> MqttOptions {
    let mut options = visitor(wire, wire.client_id());
    let session_expiry_s = u32::try_from(wire.settings.session_expiry.as_secs()).unwrap_or(u32::MAX);
    options
        .set_session_mode(SessionMode::Persistent)
        .set_session_expiry_interval(Some(session_expiry_s))
        .set_session_store_arc(Arc::new(NothingHeld {
            in_flight: wire.unacknowledged(),
            session_expiry_s,
        }))
        .set_outgoing_inflight_upper_limit(wire.unacknowledged())
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(REPLIES_IN_FLIGHT))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_INCOMING))
        .set_last_will(LastWill::new(
            wire.topics.status(),
            wire.status_text(Presence::Offline, None),
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

type StoreFuture<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

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

struct V5Client(AsyncClient);

impl Client for V5Client {
    fn send(&self, letter: OutboundMessage) -> Result<BoxFuture<'static, Verdict>, Unsent> {
        let qos = match letter.sort.is_acknowledged() {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        let options = PublishOptions::new(qos)
            .retain(letter.sort.is_retained())
            .properties(properties(letter.sort));
        let notice = self
            .0
            .try_publish_tracked(letter.topic, letter.payload, options)
            .map_err(|e| unsent(&e))?;
        let verdict = notice.wait_async().map(|answer| match answer {
            Ok(PublishResult::Qos1(ack)) => by_reason(ack.reason),
            Err(PublishNoticeError::V5PubAck(reason)) => by_reason(reason),
            Ok(_) => Verdict::Delivered,
            Err(_) => Verdict::Lost,
        });
        Ok(verdict.boxed())
    }

    fn listen(&self, topics: Vec<String>, what: Wanted) -> Result<BoxFuture<'static, SubscribeOutcome>, Unsent> {
        let rule = match what {
            Wanted::New => RetainForwardRule::Never,
            Wanted::Retained => RetainForwardRule::OnEverySubscribe,
        };
        let filters = topics
            .into_iter()
            .map(|topic| SubscribeFilterInput::new(topic, QoS::AtLeastOnce).retain_forward_rule(rule.clone()));
        let notice = self.0.try_subscribe_many_tracked(filters).map_err(|e| unsent(&e))?;
        let heard = notice.wait_completion_async().map(|answer| match answer {
            Ok(()) => SubscribeOutcome::Yes,
            Err(e @ SubscribeNoticeError::V5SubAckFailure(_)) => SubscribeOutcome::Forbidden(e.to_string()),
            Err(_) => SubscribeOutcome::Lost,
        });
        Ok(heard.boxed())
    }

    fn leave(&self) {
        // An error means that there is nobody to take leave of.
        let _ = self.0.try_disconnect();
    }
}

fn unsent(error: &ClientError) -> Unsent {
    match error {
        ClientError::InvalidRequest(_) => Unsent::Topic,
        _ => Unsent::Now,
    }
}

fn properties(sort: MessageKind) -> PublishProperties {
    let json = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some(JSON.into()),
        ..Default::default()
    };
    match sort {
        MessageKind::Status | MessageKind::Health => json,
        MessageKind::Claim => PublishProperties {
            message_expiry_interval: Some(u32::try_from(KEPT.as_secs()).unwrap_or(u32::MAX)),
            ..json
        },
        MessageKind::Evidence => PublishProperties {
            content_type: Some(JPEG.into()),
            ..Default::default()
        },
        MessageKind::Case { id, reply } => PublishProperties {
            response_topic: Some(reply),
            correlation_data: Some(Bytes::from(id)),
            ..json
        },
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

struct V5Line {
    client: AsyncClient,
    events: ClientLoop,
}

impl EventLoop for V5Line {
    fn next(&mut self) -> BoxFuture<'_, Event> {
        Box::pin(async {
            loop {
                match self.events.poll().await {
                    Ok(rumqttc::Event::Incoming(Incoming::ConnAck(ack))) => {
                        return Event::Greeted(ConnAck {
                            session_present: ack.session_present,
                            max_packet: ack.properties.as_ref().and_then(|p| p.max_packet_size),
                        });
                    }
                    Ok(rumqttc::Event::Incoming(Incoming::Publish(publish))) => {
                        return Event::Message(message(&self.client, publish));
                    }
                    Ok(_) => {}
                    Err(e) => return Event::Ended(trouble(&e)),
                }
            }
        })
    }
}

fn message(client: &AsyncClient, publish: Publish) -> Message {
    let (client, ack) = (client.clone(), client.prepare_ack(&publish));
    Message {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        is_retained: publish.retain,
        is_fleeting: publish.qos == QoS::AtMostOnce,
        correlation: publish.properties.and_then(|p| p.correlation_data),
        payload: publish.payload,
        receipt: Receipt(Box::new(move || {
            if let Some(ack) = ack {
                let _ = client.try_manual_ack(ack);
            }
        })),
    }
}

fn trouble(error: &ConnectionError) -> Disconnect {
    // This one does not name its cause as `source`.
    let cause: &(dyn Error + 'static) = match error {
        ConnectionError::MqttState(StateError::Deserialization(cause)) => cause,
        other => other,
    };
    if let Some(said) = tls::explain(cause) {
        return Disconnect::of_nobody(said);
    }
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion,
        ) => older(),
        ConnectionError::ConnectionRefused(code) => {
            Disconnect::of_nobody(format!("the broker refused the connection: {code:?}"))
        }
        ConnectionError::Timeout(_) => Disconnect::of_nobody("the broker did not answer in time"),
        ConnectionError::MqttState(state) => by_state(state).unwrap_or_else(|| by_cause(cause)),
        _ => by_cause(cause),
    }
}

fn older() -> Disconnect {
    Disconnect::of_nobody("the broker does not speak MQTT 5: set broker.protocol = \"3.1.1\"")
}

/// Brokers may close the connection instead of refusing one message, and PUBACK codes that the client does not know end it
/// too.
fn by_state(state: &StateError) -> Option<Disconnect> {
    let ours = |blame: String| Disconnect {
        said: format!("the connection ended over a message: {blame}"),
        blame: Blame::Ours(blame),
    };
    Some(match state {
        StateError::ServerDisconnect {
            reason_code,
            reason_string,
        } => Disconnect {
            said: match reason_string {
                Some(said) => format!("the broker closed the connection: {reason_code:?} ({said:?})"),
                None => format!("the broker closed the connection: {reason_code:?}"),
            },
            blame: match reason_code {
                DisconnectReasonCode::PacketTooLarge
                | DisconnectReasonCode::TopicNameInvalid
                | DisconnectReasonCode::PayloadFormatInvalid
                | DisconnectReasonCode::MalformedPacket => {
                    Blame::Ours(format!("the broker closed the connection over it ({reason_code:?})"))
                }
                _ => Blame::Nobody,
            },
        },
        StateError::OutgoingPacketTooLarge { pkt_size, max } => ours(format!(
            "its packet of {pkt_size} bytes is larger than the broker takes ({max})"
        )),
        StateError::Deserialization(rumqttc::Error::PayloadSizeLimitExceeded { .. }) => Disconnect {
            said: "somebody sent the box a message larger than it takes".into(),
            blame: Blame::Theirs,
        },
        // The codes that MQTT 3.1.1 has for CONNACK, the lowest of which a broker must answer to a protocol that it does not know.
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(1..=5)) => older(),
        // mosquitto 2.0 refuses what is over its message_size_limit with 0x95, a code that PUBACK does not have; the
        // client's error is named after another packet.
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(code)) => ours(match code {
            0x95 => "the broker finds it too large (0x95)".into(),
            _ => format!("the broker refused it with code 0x{code:02x}, which MQTT does not have there"),
        }),
        StateError::ConnectionAborted => hung_up(),
        _ => return None,
    })
}
