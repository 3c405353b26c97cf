//! MQTT 5 adapter over `rumqttc`.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rumqttc::{
    AckMode, AsyncClient, ConnectReturnCode, ConnectionError, DisconnectReasonCode, IncomingPacketSizeLimit, LastWill,
    LastWillProperties, MqttOptions, NetworkOptions, PersistedAckMode, PersistedSession, PubAckReason,
    PublishNoticeError, PublishOptions, PublishProperties, PublishResult, QoS, RetainForwardRule, SessionMode,
    StateError, SubAck, SubscribeFilterInput, SubscribeNoticeError, SubscribeReasonCode,
};

use super::{
    AckHandle, BrokerLimits, CONNECT_TIMEOUT, Client, ConnAck, Connector, Disconnect, DisconnectCause, EnqueueError,
    Event, EventLoop, InboundMessage, JPEG, JSON, MessageKind, OutboundMessage, PublishOutcome, REPLIES_IN_FLIGHT,
    RetainHandling, SessionKind, Shortcoming, SubscribeOutcome, adapter::adapter, from_io_cause, stream, tls,
};
use crate::claims::CLAIM_TTL;
use gridwatch_contract::Presence;

adapter!(rumqttc);

fn set_limits(options: &mut MqttOptions) {
    options.set_connect_timeout(CONNECT_TIMEOUT);
    // Messages are small, rare and awaited: do not delay them for coalescing.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
}

fn set_session(options: &mut MqttOptions, connector: &Connector) {
    let session_expiry_s = u32::try_from(connector.settings.session_expiry.as_secs()).unwrap_or(u32::MAX);
    let session = PersistedSession {
        format_version: 1,
        client_id: connector.client_id(),
        clean_start: false,
        // These two must equal the client's own settings.
        session_expiry_interval: Some(session_expiry_s),
        outgoing_inflight_upper_limit: Some(connector.max_unacknowledged()),
        ack_mode: PersistedAckMode::Manual,
        last_pkid: 0,
        last_puback: 0,
        replay: Vec::new(),
        incoming_qos2: Vec::new(),
    };
    options
        .set_session_mode(SessionMode::Persistent)
        .set_session_expiry_interval(Some(session_expiry_s))
        .set_session_store_arc(Arc::new(EmptySessionStore(session)))
        .set_outgoing_inflight_upper_limit(connector.max_unacknowledged())
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(REPLIES_IN_FLIGHT))
        // The stream has a limit of its own.
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Unlimited);
}

fn set_will(options: &mut MqttOptions, topic: String, payload: String) {
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some(JSON.into()),
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true, Some(properties)));
}

fn build(options: MqttOptions, capacity: usize) -> (AsyncClient, rumqttc::EventLoop) {
    AsyncClient::builder(options).capacity(capacity).build()
}

fn with_properties(options: PublishOptions, kind: MessageKind) -> PublishOptions {
    options.properties(properties(kind))
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

fn publish_outcome(answer: Result<PublishResult, PublishNoticeError>) -> PublishOutcome {
    match answer {
        Ok(PublishResult::Qos1(ack)) => by_reason(ack.reason),
        Err(PublishNoticeError::V5PubAck(reason)) => by_reason(reason),
        Ok(_) => PublishOutcome::Delivered,
        Err(_) => PublishOutcome::Lost,
    }
}

fn by_reason(reason: PubAckReason) -> PublishOutcome {
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

fn subscribe_filter(filter: String, retain: RetainHandling) -> SubscribeFilterInput {
    let rule = match retain {
        RetainHandling::SkipRetained => RetainForwardRule::Never,
        RetainHandling::SendRetained => RetainForwardRule::OnEverySubscribe,
    };
    SubscribeFilterInput::new(filter, QoS::AtLeastOnce).retain_forward_rule(rule)
}

fn subscribe_outcome(answer: Result<SubAck, SubscribeNoticeError>) -> SubscribeOutcome {
    let Ok(ack) = answer else {
        return SubscribeOutcome::Lost;
    };
    let mut outcome = SubscribeOutcome::Granted;
    for code in ack.return_codes {
        match code {
            SubscribeReasonCode::Success(QoS::AtMostOnce) => outcome = SubscribeOutcome::Downgraded,
            SubscribeReasonCode::Success(_) => {}
            denied => return SubscribeOutcome::Denied(format!("the broker's answer is {denied:?}")),
        }
    }
    outcome
}

fn limits(ack: &rumqttc::ConnAck) -> BrokerLimits {
    let Some(properties) = &ack.properties else {
        return BrokerLimits::UNKNOWN;
    };
    BrokerLimits {
        max_packet: properties.max_packet_size,
        has_qos1: properties.max_qos != Some(0),
        has_retain: properties.retain_available != Some(0),
    }
}

fn correlation(publish: &rumqttc::Publish) -> Option<Bytes> {
    publish.properties.as_ref()?.correlation_data.clone()
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
        ConnectionError::ConnectionRefused(ConnectReturnCode::RetainNotSupported) => {
            Disconnect::unsuitable(Shortcoming::Retain)
        }
        ConnectionError::ConnectionRefused(ConnectReturnCode::QoSNotSupported) => {
            Disconnect::unsuitable(Shortcoming::Qos1)
        }
        ConnectionError::ConnectionRefused(code) => Disconnect::refused(code),
        ConnectionError::Timeout(_) => Disconnect::timed_out(),
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
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        } => Disconnect {
            message: "another client connected with this box's client id (0x8E, session taken over)".into(),
            cause: DisconnectCause::TakenOver,
        },
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::RetainNotSupported,
            ..
        } => Disconnect::unsuitable(Shortcoming::Retain),
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::QoSNotSupported,
            ..
        } => Disconnect::unsuitable(Shortcoming::Qos1),
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
        // CONNACK return codes of MQTT 3.1.1. A 3.1.1 broker answers 1 to a protocol level it does not support.
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(1..=5)) => unsupported_version(),
        // mosquitto 2.0 answers a message over its message_size_limit with 0x95, which is not a PUBACK reason code. The
        // client reports it as an error named after CONNACK.
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(code)) => outgoing(match code {
            0x95 => "message exceeds the broker's size limit (0x95)".into(),
            _ => format!("the broker rejected the message with 0x{code:02x}, which is not a PUBACK reason code"),
        }),
        StateError::ConnectionAborted => Disconnect::without_reason(),
        _ => return None,
    })
}
