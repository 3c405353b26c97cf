//! MQTT 3.1.1. It has no reasons: whoever does not like a message hangs up, or takes it and throws it away.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use rumqttc_v4::{
    AckMode, AsyncClient, ClientError, ConnectReturnCode, ConnectionError, EventLoop as ClientLoop, Incoming, LastWill,
    MqttOptions, NetworkOptions, PersistedAckMode, PersistedSession, Publish, PublishOptions, QoS, SessionMode,
    SessionStore, SessionStoreError, SessionStoreKey, StateError, SubscribeFilterInput, SubscribeNoticeError,
    Transport,
};

use super::{
    Blame, CONNECT_TIMEOUT, Client, ConnAck, Disconnect, Event, EventLoop, Message, OutboundMessage, Receipt, Role,
    SubscribeOutcome, Unsent, Verdict, Wanted, Wire, by_cause, hung_up, tls,
};
use gridwatch_contract::Presence;

/// A reply is a few hundred bytes. The broker cannot be told what is too much, so more than any sane one is taken; what is
/// larger still costs the session.
const MAX_INCOMING: usize = 4 << 20;

/// The most that the protocol's length field can say.
const MAX_OUTGOING: usize = 268_435_455;

pub(super) fn connect(wire: &Wire, role: &Role) -> (Box<dyn Client>, Box<dyn EventLoop>) {
    let options = match role {
        Role::Node => node(wire),
        Role::Visitor(name) => visitor(wire, name.clone()),
    };
    let (client, mut events) = AsyncClient::builder(options).capacity(wire.capacity()).build();
    // Messages are small and rare, and somebody waits for each.
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    events.set_network_options(network);
    let line = V311Line {
        client: client.clone(),
        events,
    };
    (Box::new(V311Client(client)), Box::new(line))
}

fn visitor(wire: &Wire, client_id: String) -> MqttOptions {
    let settings = &wire.settings;
    let mut options = MqttOptions::new(client_id, (settings.host.as_str(), settings.port));
    options
        .set_keep_alive(wire.keep_alive_s())
        .set_max_packet_size(MAX_INCOMING, MAX_OUTGOING)
        .set_session_mode(SessionMode::Clean);
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
    options
        .set_session_mode(SessionMode::Persistent)
        .set_session_store_arc(Arc::new(NothingHeld {
            in_flight: wire.unacknowledged(),
        }))
        .set_inflight(wire.unacknowledged())
        .set_ack_mode(AckMode::Manual)
        .set_last_will(LastWill::new(
            wire.topics.status(),
            wire.status_text(Presence::Offline, None),
            QoS::AtLeastOnce,
            true,
        ));
    options
}

/// See its namesake of MQTT 5.
#[derive(Debug)]
struct NothingHeld {
    /// The client's own limit, which a session that it resumes must state.
    in_flight: u16,
}

type StoreFuture<'a, T> = BoxFuture<'a, Result<T, SessionStoreError>>;

impl SessionStore for NothingHeld {
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
    fn send(&self, letter: OutboundMessage) -> Result<BoxFuture<'static, Verdict>, Unsent> {
        let qos = match letter.sort.is_acknowledged() {
            true => QoS::AtLeastOnce,
            false => QoS::AtMostOnce,
        };
        let options = PublishOptions::new(qos).retain(letter.sort.is_retained());
        let notice = self
            .0
            .try_publish_tracked(letter.topic, letter.payload, options)
            .map_err(|e| unsent(&e))?;
        let verdict = notice.wait_async().map(|answer| match answer {
            Ok(_) => Verdict::Delivered,
            Err(_) => Verdict::Lost,
        });
        Ok(verdict.boxed())
    }

    fn listen(&self, topics: Vec<String>, _: Wanted) -> Result<BoxFuture<'static, SubscribeOutcome>, Unsent> {
        let filters = topics
            .into_iter()
            .map(|topic| SubscribeFilterInput::new(topic, QoS::AtLeastOnce));
        let notice = self.0.try_subscribe_many_tracked(filters).map_err(|e| unsent(&e))?;
        let heard = notice.wait_completion_async().map(|answer| match answer {
            Ok(()) => SubscribeOutcome::Yes,
            Err(e @ SubscribeNoticeError::V4SubAckFailure(_)) => SubscribeOutcome::Forbidden(e.to_string()),
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

struct V311Line {
    client: AsyncClient,
    events: ClientLoop,
}

impl EventLoop for V311Line {
    fn next(&mut self) -> BoxFuture<'_, Event> {
        Box::pin(async {
            loop {
                match self.events.poll().await {
                    Ok(rumqttc_v4::Event::Incoming(Incoming::ConnAck(ack))) => {
                        return Event::Greeted(ConnAck {
                            session_present: ack.session_present,
                            max_packet: None,
                        });
                    }
                    Ok(rumqttc_v4::Event::Incoming(Incoming::Publish(publish))) => {
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
        correlation: None,
        payload: publish.payload,
        receipt: Receipt(Box::new(move || {
            if let Some(ack) = ack {
                let _ = client.try_manual_ack(ack);
            }
        })),
    }
}

fn trouble(error: &ConnectionError) -> Disconnect {
    if let Some(said) = tls::explain(error) {
        return Disconnect::of_nobody(said);
    }
    match error {
        ConnectionError::ConnectionRefused(ConnectReturnCode::RefusedProtocolVersion) => {
            Disconnect::of_nobody("the broker does not speak MQTT 3.1.1: set broker.protocol = \"5\"")
        }
        ConnectionError::ConnectionRefused(code) => {
            Disconnect::of_nobody(format!("the broker refused the connection: {code:?}"))
        }
        ConnectionError::NetworkTimeout => Disconnect::of_nobody("the broker did not answer in time"),
        ConnectionError::MqttState(StateError::Deserialization(
            rumqttc_v4::mqttbytes::Error::PayloadSizeLimitExceeded(_),
        )) => Disconnect {
            said: "somebody sent the box a message larger than it takes".into(),
            blame: Blame::Theirs,
        },
        ConnectionError::MqttState(StateError::ConnectionAborted) => hung_up(),
        other => by_cause(other),
    }
}
