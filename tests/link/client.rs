//! The MQTT client below the link, as another program uses it: shared subscriptions, acknowledgements after a reconnect, large
//! messages, retained messages and last wills.

use std::{collections::BTreeSet, time::Duration};

use gridwatch_mqtt::{
    Client, ConnAck, ConnectOptions, Event, InboundMessage, OutboundMessage, Protocol, PublishOutcome, Qos,
    RetainHandling, SessionMode, SubscribeOutcome, Wording, connect, pump,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::broker::{Broker, within};

const WORDING: Wording = Wording {
    machine: "server",
    client_id: "mqtt.client_id",
    url: "mqtt.url",
    protocol: "mqtt.protocol",
    credentials: "mqtt.credentials",
    ca_file: "mqtt.ca_file",
    pin_sha256: "mqtt.pin_sha256",
    client: "mqtt.client",
    cert_file: "mqtt.client.cert_file",
    key_file: "mqtt.client.key_file",
};

fn options(broker: &Broker, protocol: Protocol, client_id: &str) -> ConnectOptions {
    ConnectOptions {
        host: "127.0.0.1".into(),
        port: broker.port,
        protocol,
        tls: None,
        login: None,
        client_id: client_id.into(),
        keep_alive: Duration::from_secs(30),
        session: SessionMode::Clean,
        will: None,
        max_unacknowledged: 16,
        receive_maximum: 20,
        max_incoming: 16 << 20,
        wording: &WORDING,
    }
}

/// A connection, polled until it is dropped.
struct Connection {
    client: Box<dyn Client>,
    events: mpsc::Receiver<Event>,
    pump: JoinHandle<()>,
    connack: ConnAck,
}

impl Connection {
    async fn open(options: &ConnectOptions) -> Self {
        let (client, event_loop) = connect(options);
        let (sender, mut events) = mpsc::channel(64);
        let pump = tokio::spawn(pump(event_loop, sender));
        match within(events.recv()).await {
            Some(Event::Connected(connack)) => Self {
                client,
                events,
                pump,
                connack,
            },
            other => panic!("{other:?}"),
        }
    }

    async fn subscribe(&self, filter: &str, retain: RetainHandling) {
        let outcome = self.client.subscribe(vec![filter.into()], retain).unwrap();
        assert_eq!(within(outcome).await, SubscribeOutcome::Granted);
    }

    async fn publish(&self, message: OutboundMessage) -> PublishOutcome {
        within(self.client.send(message).unwrap()).await
    }

    async fn next(&mut self) -> InboundMessage {
        match within(self.events.recv()).await {
            Some(Event::Message(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// Disconnects, after what is queued.
    async fn close(mut self) {
        self.client.disconnect();
        loop {
            match within(self.events.recv()).await {
                Some(Event::Message(_)) => {}
                Some(Event::Disconnected(_)) => return,
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

for_both_protocols!(
    a_shared_subscription_gives_each_message_to_one_member,
    what_was_not_acknowledged_comes_again_on_the_next_connection,
    a_picture_arrives_whole_and_what_exceeds_the_limit_without_its_payload,
    retained_messages_come_as_the_subscription_asks,
    a_last_will_is_published_if_the_connection_is_cut,
    a_refusal_names_the_settings_of_the_program,
);

async fn a_shared_subscription_gives_each_message_to_one_member(protocol: Protocol) {
    const MESSAGES: usize = 40;
    let broker = Broker::start();
    let mut members = [
        Connection::open(&options(&broker, protocol, "hub-1")).await,
        Connection::open(&options(&broker, protocol, "hub-2")).await,
    ];
    let sender = Connection::open(&options(&broker, protocol, "box")).await;
    for member in &members {
        assert!(member.connack.limits.has_shared_subscriptions);
        member
            .subscribe("$share/hub/box/+/case", RetainHandling::SkipRetained)
            .await;
    }
    for n in 0..MESSAGES {
        let message = OutboundMessage::json(format!("box/{n}/case"), "{}");
        assert_eq!(sender.publish(message).await, PublishOutcome::Delivered);
    }
    let mut counts = [0, 0];
    let mut topics = BTreeSet::new();
    while topics.len() < MESSAGES {
        let [first, second] = &mut members;
        let (member, message) = tokio::select! {
            message = first.next() => (0, message),
            message = second.next() => (1, message),
        };
        counts[member] += 1;
        assert!(topics.insert(message.topic.clone()), "{} came twice", message.topic);
        message.ack.ack();
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}

async fn what_was_not_acknowledged_comes_again_on_the_next_connection(protocol: Protocol) {
    let broker = Broker::start();
    let options = ConnectOptions {
        session: SessionMode::Persistent {
            expiry: Duration::from_secs(3600),
        },
        ..options(&broker, protocol, "hub")
    };
    let mut hub = Connection::open(&options).await;
    assert!(!hub.connack.session_present);
    hub.subscribe("case", RetainHandling::SkipRetained).await;
    for payload in ["first", "second", "third"] {
        let outcome = hub.publish(OutboundMessage::new("case", payload)).await;
        assert_eq!(outcome, PublishOutcome::Delivered);
    }
    let first = hub.next().await;
    assert_eq!(&first.payload[..], b"first");
    first.ack.ack();
    assert_eq!(&hub.next().await.payload[..], b"second");
    assert_eq!(&hub.next().await.payload[..], b"third");
    hub.close().await;
    let mut hub = Connection::open(&options).await;
    assert!(hub.connack.session_present);
    for expected in ["second", "third"] {
        let message = hub.next().await;
        assert_eq!(message.payload, expected);
        message.ack.ack();
    }
    // The acknowledgements were sent before this message, which is answered.
    hub.publish(OutboundMessage::new("elsewhere", "")).await;
    hub.close().await;
    let mut hub = Connection::open(&options).await;
    hub.publish(OutboundMessage::new("case", "fourth")).await;
    assert_eq!(&hub.next().await.payload[..], b"fourth");
}

async fn a_picture_arrives_whole_and_what_exceeds_the_limit_without_its_payload(protocol: Protocol) {
    const LIMIT: usize = 6 << 20;
    let broker = Broker::start();
    let mut hub = Connection::open(&ConnectOptions {
        max_incoming: LIMIT,
        ..options(&broker, protocol, "hub")
    })
    .await;
    let sender = Connection::open(&options(&broker, protocol, "box")).await;
    hub.subscribe("evidence", RetainHandling::SkipRetained).await;
    for size in [LIMIT - 1024, LIMIT + 1, 3] {
        let picture = OutboundMessage {
            content_type: Some("image/jpeg"),
            ..OutboundMessage::new("evidence", vec![7; size])
        };
        assert_eq!(sender.publish(picture).await, PublishOutcome::Delivered);
        let message = hub.next().await;
        let expected = if size > LIMIT { 0 } else { size };
        assert_eq!((message.topic.as_str(), message.payload.len()), ("evidence", expected));
        message.ack.ack();
    }
}

async fn retained_messages_come_as_the_subscription_asks(protocol: Protocol) {
    let broker = Broker::start();
    let sender = Connection::open(&options(&broker, protocol, "box")).await;
    let retained = OutboundMessage {
        is_retained: true,
        expiry: Some(Duration::from_secs(3600)),
        response_topic: Some("reply".into()),
        correlation: Some("case-1".into()),
        ..OutboundMessage::json("status", "old")
    };
    sender.publish(retained).await;
    for retain in [RetainHandling::SendRetained, RetainHandling::SkipRetained] {
        let mut hub = Connection::open(&options(&broker, protocol, "hub")).await;
        hub.subscribe("status", retain).await;
        let new = OutboundMessage {
            qos: Qos::AtMostOnce,
            ..OutboundMessage::json("status", "new")
        };
        sender.publish(new).await;
        let mut message = hub.next().await;
        // MQTT 3.1.1 cannot skip it.
        if retain == RetainHandling::SendRetained || protocol == Protocol::V311 {
            assert!(message.is_retained && !message.is_qos0);
            assert_eq!(&message.payload[..], b"old");
            let response = (message.response_topic.as_deref(), message.correlation.as_deref());
            match protocol {
                Protocol::V5 => assert_eq!(response, (Some("reply"), Some(&b"case-1"[..]))),
                Protocol::V311 => assert_eq!(response, (None, None)),
            }
            message = hub.next().await;
        }
        assert!(message.is_qos0 && !message.is_retained);
        assert_eq!((&message.payload[..], message.response_topic), (&b"new"[..], None));
        message.ack.ack();
        hub.close().await;
    }
}

async fn a_last_will_is_published_if_the_connection_is_cut(protocol: Protocol) {
    let broker = Broker::start();
    let mut hub = Connection::open(&options(&broker, protocol, "hub")).await;
    hub.subscribe("status", RetainHandling::SendRetained).await;
    let sender = Connection::open(&ConnectOptions {
        will: Some(OutboundMessage::json("status", "gone")),
        ..options(&broker, protocol, "box")
    })
    .await;
    drop(sender);
    let will = hub.next().await;
    assert_eq!(
        (&will.payload[..], will.is_retained, will.is_qos0),
        (&b"gone"[..], false, false)
    );
}

async fn a_refusal_names_the_settings_of_the_program(protocol: Protocol) {
    let closed = Broker::start_with("allow_anonymous false");
    let (_client, mut event_loop) = connect(&options(&closed, protocol, "hub"));
    let Event::Disconnected(disconnect) = within(event_loop.next()).await else {
        panic!("accepted");
    };
    assert!(disconnect.message.contains("mqtt.credentials"), "{disconnect:?}");
}
