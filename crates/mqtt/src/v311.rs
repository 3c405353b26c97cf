//! MQTT 3.1.1 adapter over `rumqttc_v4`. This version has no reason codes: a broker that rejects a message closes the
//! connection, or acknowledges the message and drops it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rumqttc_v4::{
    AsyncClient, ConnectReturnCode, ConnectionError, LastWill, MqttOptions, NetworkOptions, PersistedAckMode,
    PersistedSession, PublishNoticeError, PublishOptions, PublishResult, QoS, StateError, SubAck, SubscribeFilterInput,
    SubscribeNoticeError, SubscribeReasonCode,
};

use crate::{
    AckHandle, BrokerLimits, CONNECT_TIMEOUT, Client, ConnAck, ConnectOptions, Disconnect, EnqueueError, Event,
    EventLoop, InboundMessage, OutboundMessage, Protocol, PublishOutcome, Qos, RetainHandling, SessionMode,
    SubscribeOutcome, Wording,
    adapter::adapter,
    disconnect::{from_io_cause, likely_causes},
    stream, tls,
};

adapter!(rumqttc_v4);

/// Largest length that the protocol's length field can express.
const MAX_PACKET: usize = 268_435_455;

fn set_limits(mqtt: &mut MqttOptions, options: &ConnectOptions) {
    mqtt.set_inflight(options.outgoing_window())
        // The stream has a limit of its own.
        .set_max_packet_size(MAX_PACKET, MAX_PACKET);
}

/// How long the session is kept is the broker's choice in this version.
fn set_session(mqtt: &mut MqttOptions, options: &ConnectOptions, _expiry: Duration) {
    let session = PersistedSession {
        format_version: 1,
        client_id: options.client_id.clone(),
        clean_session: false,
        // Must equal the client's own limit.
        max_inflight: options.outgoing_window(),
        ack_mode: PersistedAckMode::Manual,
        last_pkid: 0,
        last_puback: 0,
        replay: Vec::new(),
        incoming_qos2: Vec::new(),
    };
    mqtt.set_session_mode(rumqttc_v4::SessionMode::Persistent)
        .set_session_store_arc(Arc::new(EmptySessionStore(session)));
}

fn last_will(will: OutboundMessage, qos: QoS) -> LastWill {
    LastWill::new(will.topic, will.payload, qos, will.is_retained)
}

fn build(options: MqttOptions, capacity: usize) -> (AsyncClient, rumqttc_v4::EventLoop) {
    let (client, mut events) = AsyncClient::builder(options).capacity(capacity).build();
    // Messages are small, rare and awaited: do not delay them for coalescing.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    events.set_network_options(network);
    (client, events)
}

/// This version has no properties.
fn with_properties(options: PublishOptions, _: &OutboundMessage) -> PublishOptions {
    options
}

fn publish_outcome(answer: Result<PublishResult, PublishNoticeError>) -> PublishOutcome {
    match answer {
        Ok(_) => PublishOutcome::Delivered,
        Err(_) => PublishOutcome::Lost,
    }
}

/// This version has no retain handling: retained messages are always sent.
fn subscribe_filter(filter: String, _: RetainHandling) -> SubscribeFilterInput {
    SubscribeFilterInput::new(filter, QoS::AtLeastOnce)
}

fn subscribe_outcome(answer: Result<SubAck, SubscribeNoticeError>) -> SubscribeOutcome {
    let Ok(ack) = answer else {
        return SubscribeOutcome::Lost;
    };
    if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
        return SubscribeOutcome::Denied("the broker's answer is Failure".into());
    }
    match ack
        .return_codes
        .contains(&SubscribeReasonCode::Success(QoS::AtMostOnce))
    {
        true => SubscribeOutcome::Downgraded,
        false => SubscribeOutcome::Granted,
    }
}

fn limits(_: &rumqttc_v4::ConnAck) -> BrokerLimits {
    BrokerLimits::UNKNOWN
}

fn response(_: &rumqttc_v4::Publish) -> (Option<String>, Option<Bytes>) {
    (None, None)
}

fn disconnect(error: &ConnectionError, wording: &Wording) -> Disconnect {
    if let Some(message) = tls::describe(error, wording) {
        return Disconnect::unrelated(message);
    }
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion) => {
            Disconnect::unsupported_version(Protocol::V311, wording)
        }
        ConnectionError::ConnectionRefused(code) => Disconnect::refused(code, wording),
        ConnectionError::NetworkTimeout => Disconnect::timed_out(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Disconnect::without_reason(),
        other => from_io_cause(other),
    }
}
