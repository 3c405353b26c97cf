//! MQTT 3.1.1 adapter over `rumqttc_v4`. This version has no reason codes: a broker that rejects a message closes the
//! connection, or acknowledges the message and drops it.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rumqttc_v4::{
    AckMode, AsyncClient, ConnectReturnCode, ConnectionError, LastWill, MqttOptions, NetworkOptions, PersistedAckMode,
    PersistedSession, PublishNoticeError, PublishOptions, PublishResult, QoS, SessionMode, StateError, SubAck,
    SubscribeFilterInput, SubscribeNoticeError, SubscribeReasonCode,
};

use super::{
    AckHandle, BrokerLimits, CONNECT_TIMEOUT, Client, ConnAck, Connector, Disconnect, EnqueueError, Event, EventLoop,
    InboundMessage, MessageKind, OutboundMessage, PublishOutcome, RetainHandling, SessionKind, SubscribeOutcome,
    adapter::adapter, from_io_cause, stream, tls,
};
use gridwatch_contract::Presence;

adapter!(rumqttc_v4);

/// Largest length that the protocol's length field can express.
const MAX_PACKET: usize = 268_435_455;

fn set_limits(options: &mut MqttOptions) {
    // The stream has a limit of its own.
    options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
}

fn set_session(options: &mut MqttOptions, connector: &Connector) {
    let session = PersistedSession {
        format_version: 1,
        client_id: connector.client_id(),
        clean_session: false,
        // Must equal the client's own limit.
        max_inflight: connector.max_unacknowledged(),
        ack_mode: PersistedAckMode::Manual,
        last_pkid: 0,
        last_puback: 0,
        replay: Vec::new(),
        incoming_qos2: Vec::new(),
    };
    options
        .set_session_mode(SessionMode::Persistent)
        .set_session_store_arc(Arc::new(EmptySessionStore(session)))
        .set_inflight(connector.max_unacknowledged())
        .set_ack_mode(AckMode::Manual);
}

fn set_will(options: &mut MqttOptions, topic: String, payload: String) {
    options.set_last_will(LastWill::new(topic, payload, QoS::AtLeastOnce, true));
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
fn with_properties(options: PublishOptions, _: MessageKind) -> PublishOptions {
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

fn correlation(_: &rumqttc_v4::Publish) -> Option<Bytes> {
    None
}

fn disconnect(error: &ConnectionError) -> Disconnect {
    if let Some(message) = tls::describe(error) {
        return Disconnect::unrelated(message);
    }
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion) => {
            Disconnect::unrelated("the broker does not support MQTT 3.1.1; set broker.protocol = \"5\"")
        }
        ConnectionError::ConnectionRefused(code) => Disconnect::refused(code),
        ConnectionError::NetworkTimeout => Disconnect::timed_out(),
        ConnectionError::MqttState(StateError::ConnectionAborted) => Disconnect::without_reason(),
        other => from_io_cause(other),
    }
}
