//! MQTT 3.1.1 adapter over `rumqttc_v4`. This version has no reason codes: a broker that rejects a message closes the
//! connection, or acknowledges the message and drops it.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use rumqttc_v4::{
    AckMode, AsyncClient, ClientError, ConnectReturnCode, ConnectionError, Incoming, LastWill, MqttOptions,
    NetworkOptions, PersistedAckMode, PersistedSession, Publish, PublishOptions, QoS, SessionMode, SessionStore,
    SessionStoreError, SessionStoreKey, StateError, SubscribeFilterInput, SubscribeNoticeError, Transport,
};

use super::{
    AckHandle, CONNECT_TIMEOUT, Client, ConnAck, Connector, Disconnect, DisconnectCause, EnqueueError, Event,
    EventLoop, InboundMessage, OutboundMessage, PublishOutcome, RetainHandling, SessionKind, SubscribeOutcome,
    closed_without_reason, from_io_cause, tls,
};
use gridwatch_contract::Presence;

/// Maximum size of an incoming packet, in bytes; replies take a few hundred. This version cannot announce a limit to the
/// broker, so the limit is generous: a larger message costs the session.
const MAX_INCOMING: usize = 4 << 20;

/// Largest length that the protocol's length field can express.
const MAX_OUTGOING: usize = 268_435_455;

pub(super) fn connect(connector: &Connector, session: &SessionKind) -> (Box<dyn Client>, Box<dyn EventLoop>) {
    let options = match session {
        SessionKind::Persistent => persistent_options(connector),
        SessionKind::Clean(client_id) => clean_options(connector, client_id.clone()),
    };
    let (client, mut events) = AsyncClient::builder(options)
        .capacity(connector.queue_capacity())
        .build();
    // Messages are small, rare and awaited: do not delay them for coalescing.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    events.set_network_options(network);
    let event_loop = V311EventLoop {
        client: client.clone(),
        events,
    };
    (Box::new(V311Client(client)), Box::new(event_loop))
}

fn clean_options(connector: &Connector, client_id: String) -> MqttOptions {
    let settings = &connector.settings;
    let mut options = MqttOptions::new(client_id, (settings.host.as_str(), settings.port));
    options
        .set_keep_alive(connector.keep_alive_s())
        .set_max_packet_size(MAX_INCOMING, MAX_OUTGOING)
        .set_session_mode(SessionMode::Clean);
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
    options
        .set_session_mode(SessionMode::Persistent)
        .set_session_store_arc(Arc::new(EmptySessionStore {
            in_flight: connector.max_unacknowledged(),
        }))
        .set_inflight(connector.max_unacknowledged())
        .set_ack_mode(AckMode::Manual)
        .set_last_will(LastWill::new(
            connector.topics.status(),
            connector.status_json(Presence::Offline, None),
            QoS::AtLeastOnce,
            true,
        ));
    options
}

/// As the MQTT 5 adapter's.
#[derive(Debug)]
struct EmptySessionStore {
    /// Must equal the client's own limit.
    in_flight: u16,
}

type StoreFuture<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for EmptySessionStore {
    fn load<'a>(&'a self, key: &'a SessionStoreKey) -> StoreFuture<'a, Option<PersistedSession>> {
        Box::pin(async {
            Ok(Some(PersistedSession {
                format_version: 1,
                client_id: key.client_id().to_owned(),
                clean_session: false,
                max_inflight: self.in_flight,
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

struct V311Client(AsyncClient);

impl Client for V311Client {
    fn send(&self, message: OutboundMessage) -> Result<BoxFuture<'static, PublishOutcome>, EnqueueError> {
        let qos = match message.kind.is_acknowledged() {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        let options = PublishOptions::new(qos).retain(message.kind.is_retained());
        let notice = self
            .0
            .try_publish_tracked(message.topic, message.payload, options)
            .map_err(|e| enqueue_error(&e))?;
        let outcome = notice.wait_async().map(|answer| match answer {
            Ok(_) => PublishOutcome::Delivered,
            Err(_) => PublishOutcome::Lost,
        });
        Ok(outcome.boxed())
    }

    fn subscribe(
        &self,
        filters: Vec<String>,
        _: RetainHandling,
    ) -> Result<BoxFuture<'static, SubscribeOutcome>, EnqueueError> {
        let filters = filters
            .into_iter()
            .map(|filter| SubscribeFilterInput::new(filter, QoS::AtLeastOnce));
        let notice = self
            .0
            .try_subscribe_many_tracked(filters)
            .map_err(|e| enqueue_error(&e))?;
        let outcome = notice.wait_completion_async().map(|answer| match answer {
            Ok(()) => SubscribeOutcome::Granted,
            Err(e @ SubscribeNoticeError::V4SubAckFailure(_)) => SubscribeOutcome::Denied(e.to_string()),
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

struct V311EventLoop {
    client: AsyncClient,
    events: rumqttc_v4::EventLoop,
}

impl EventLoop for V311EventLoop {
    fn next(&mut self) -> BoxFuture<'_, Event> {
        Box::pin(async {
            loop {
                match self.events.poll().await {
                    Ok(rumqttc_v4::Event::Incoming(Incoming::ConnAck(ack))) => {
                        return Event::Connected(ConnAck {
                            session_present: ack.session_present,
                            max_packet: None,
                        });
                    }
                    Ok(rumqttc_v4::Event::Incoming(Incoming::Publish(publish))) => {
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
        correlation: None,
        payload: publish.payload,
        ack: AckHandle(Box::new(move || {
            if let Some(ack) = ack {
                let _ = client.try_manual_ack(ack);
            }
        })),
    }
}

fn disconnect(error: &ConnectionError) -> Disconnect {
    if let Some(message) = tls::describe(error) {
        return Disconnect::unrelated(message);
    }
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion) => {
            Disconnect::unrelated("the broker does not support MQTT 3.1.1; set broker.protocol = \"5\"")
        }
        ConnectionError::ConnectionRefused(code) => {
            Disconnect::unrelated(format!("the broker refused the connection: {code:?}"))
        }
        ConnectionError::NetworkTimeout => Disconnect::unrelated("the broker did not answer in time"),
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc_v4::mqttbytes::Error::PayloadSizeLimitExceeded(_),
        )) => Disconnect {
            message: "received a message larger than the box accepts".into(),
            cause: DisconnectCause::Incoming,
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => closed_without_reason(),
        other => from_io_cause(other),
    }
}
