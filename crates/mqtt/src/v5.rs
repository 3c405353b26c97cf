//! MQTT 5 adapter over `rumqttc`.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, DisconnectReasonCode, IncomingPacketSizeLimit, LastWill,
    LastWillProperties, MqttOptions, NetworkOptions, PersistedAckMode, PersistedSession, PubAckReason,
    PublishNoticeError, PublishOptions, PublishProperties, PublishResult, QoS, RetainForwardRule, StateError, SubAck,
    SubscribeFilterInput, SubscribeNoticeError, SubscribeReasonCode,
};

use crate::{
    AckHandle, BrokerFeature, BrokerLimits, CONNECT_TIMEOUT, Client, ConnAck, ConnectOptions, Disconnect,
    DisconnectCause, EnqueueError, Event, EventLoop, InboundMessage, OutboundMessage, Protocol, PublishOutcome, Qos,
    RetainHandling, SessionMode, SubscribeOutcome, Wording,
    adapter::adapter,
    disconnect::{from_io_cause, likely_causes},
    stream, tls,
};

adapter!(rumqttc);

fn set_limits(mqtt: &mut MqttOptions, options: &ConnectOptions) {
    // Messages are awaited: do not delay them for coalescing.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    mqtt.set_connect_timeout(CONNECT_TIMEOUT)
        .set_network_options(network)
        .set_outgoing_inflight_upper_limit(options.outgoing_window())
        .set_receive_maximum(Some(options.incoming_window()))
        // The stream has a limit of its own.
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Unlimited);
}

fn set_session(mqtt: &mut MqttOptions, options: &ConnectOptions, expiry: Duration) {
    let expiry_s = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
    let session = PersistedSession {
        format_version: 1,
        client_id: options.client_id.clone(),
        clean_start: false,
        // These two must equal the client's own settings.
        session_expiry_interval: Some(expiry_s),
        outgoing_inflight_upper_limit: Some(options.outgoing_window()),
        ack_mode: PersistedAckMode::Manual,
        last_pkid: 0,
        last_puback: 0,
        replay: Vec::new(),
        incoming_qos2: Vec::new(),
    };
    mqtt.set_session_mode(rumqttc::SessionMode::Persistent)
        .set_session_expiry_interval(Some(expiry_s))
        .set_session_store_arc(Arc::new(EmptySessionStore(session)));
}

fn last_will(will: OutboundMessage, qos: QoS) -> LastWill {
    let properties = LastWillProperties {
        delay_interval: None,
        payload_format_indicator: will.is_text.then_some(1),
        message_expiry_interval: will.expiry_s(),
        content_type: will.content_type.map(Into::into),
        response_topic: will.response_topic,
        correlation_data: will.correlation,
        user_properties: Vec::new(),
    };
    LastWill::new(will.topic, will.payload, qos, will.is_retained, Some(properties))
}

fn build(options: MqttOptions, capacity: usize) -> (AsyncClient, rumqttc::EventLoop) {
    AsyncClient::builder(options).capacity(capacity).build()
}

fn with_properties(options: PublishOptions, message: &OutboundMessage) -> PublishOptions {
    options.properties(PublishProperties {
        payload_format_indicator: message.is_text.then_some(1),
        message_expiry_interval: message.expiry_s(),
        response_topic: message.response_topic.clone(),
        correlation_data: message.correlation.clone(),
        content_type: message.content_type.map(Into::into),
        ..Default::default()
    })
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
        has_shared_subscriptions: properties.shared_subscription_available != Some(0),
    }
}

fn response(publish: &rumqttc::Publish) -> (Option<String>, Option<Bytes>) {
    match &publish.properties {
        Some(properties) => (properties.response_topic.clone(), properties.correlation_data.clone()),
        None => (None, None),
    }
}

fn disconnect(error: &ConnectionError, wording: &Wording) -> Disconnect {
    // This error does not expose its cause through `source`.
    let cause: &(dyn Error + 'static) = match error {
        ConnectionError::MqttState(StateError::Deserialization(cause)) => cause,
        other => other,
    };
    if let Some(message) = tls::describe(cause, wording) {
        return Disconnect::unrelated(message);
    }
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion,
        ) => Disconnect::unsupported_version(Protocol::V5, wording),
        ConnectionError::ConnectionRefused(ConnectReturnCode::RetainNotSupported) => {
            Disconnect::unsuitable(BrokerFeature::Retain)
        }
        ConnectionError::ConnectionRefused(ConnectReturnCode::QoSNotSupported) => {
            Disconnect::unsuitable(BrokerFeature::Qos1)
        }
        ConnectionError::ConnectionRefused(code) => Disconnect::refused(code, wording),
        ConnectionError::Timeout(_) => Disconnect::timed_out(),
        ConnectionError::MqttState(state) => from_state_error(state, wording).unwrap_or_else(|| from_io_cause(cause)),
        _ => from_io_cause(cause),
    }
}

/// Classifies a protocol error. Brokers may close the connection instead of rejecting a message, and PUBACK codes that the
/// client does not know end it too.
fn from_state_error(state: &StateError, wording: &Wording) -> Option<Disconnect> {
    let outgoing = |reason: String| Disconnect {
        message: format!("the connection ended over a message: {reason}"),
        cause: DisconnectCause::Outgoing(reason),
    };
    Some(match state {
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        } => Disconnect {
            message: format!(
                "another client connected with this {}'s client id (0x8E, session taken over)",
                wording.machine
            ),
            cause: DisconnectCause::TakenOver,
        },
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::RetainNotSupported,
            ..
        } => Disconnect::unsuitable(BrokerFeature::Retain),
        StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::QoSNotSupported,
            ..
        } => Disconnect::unsuitable(BrokerFeature::Qos1),
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
        StateError::Deserialization(rumqttc::Error::InvalidConnectReturnCode(1..=5)) => {
            Disconnect::unsupported_version(Protocol::V5, wording)
        }
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
