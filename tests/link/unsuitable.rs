//! A broker that lacks what the box needs is refused with the reason, by the probe and by the link, which keeps its cases.

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{file, link_with, topics};
use crate::scripted_broker::ScriptedBroker;
use crate::settings;
use gridwatch_link::{LinkError, LinkHandle, LinkProblem, LinkState, Settings, probe};
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use rumqttc::QoS;

const LARGEST: usize = 400_000;

/// mosquitto's setting that takes something away, and what the box says about it.
const LIMITS: [(&str, &str); 3] = [
    ("retain_available false", "retained messages"),
    ("max_qos 0", "QoS 1"),
    ("max_packet_size 15000", "evidence.max_picture_bytes"),
];

fn settings_of(broker: &Broker) -> Settings {
    Settings {
        largest_payload: LARGEST,
        ..settings(broker.port, Protocol::V5)
    }
}

async fn problem(link: &LinkHandle) -> LinkState {
    within(link.state().wait_for(|s| s.problem.is_some()))
        .await
        .unwrap()
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_names_what_the_broker_lacks() {
    for (limit, expected) in LIMITS {
        let broker = Broker::start_with(limit);
        let error = within(probe(settings_of(&broker))).await.unwrap_err();
        assert!(matches!(error, LinkError::Unsuitable { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let enough = Broker::start_with("max_packet_size 500000");
    within(probe(settings_of(&enough))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_leaves_nothing_behind_and_does_not_disturb_the_box() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link_with(settings_of(&broker), &store);
    crate::connected(&link).await;
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let mut next = async || {
        let publish = subscriber.next().await;
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        (topic(&publish).to_owned(), payload)
    };
    let (at, payload) = next().await;
    assert!(at == topics().status() && payload.contains("online"), "{payload}");
    within(probe(settings_of(&broker))).await.unwrap();
    assert!(link.state().borrow().connected);
    link.shutdown().await;
    // Had its last will been published, it would come first.
    let (at, payload) = next().await;
    assert!(
        at == topics().status() && payload.contains("offline"),
        "{at}: {payload}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_refuses_it_with_a_named_state_and_keeps_its_cases() {
    for (limit, expected) in LIMITS {
        let broker = Broker::start_with(limit);
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap();
        file(&mut store, 1);
        let waiting = store.outbox_depth().unwrap().waiting;
        let (link, _replies) = link_with(settings_of(&broker), &store);
        let state = problem(&link).await;
        assert_eq!((state.problem, state.connected), (Some(LinkProblem::Unsuitable), false));
        let reason = state.last_error.unwrap();
        assert!(reason.contains(expected), "{reason}");
        assert_eq!(store.outbox_depth().unwrap().waiting, waiting, "{limit}");
        link.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_grants_qos_0_for_replies_is_refused() {
    let broker = ScriptedBroker::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 1);
    let (link, _replies) = link_with(settings(broker.port, Protocol::V5), &store);
    let mut session = broker.accept(None).await;
    session.granted = QoS::AtMostOnce;
    session.until_disconnected().await;
    let state = problem(&link).await;
    assert_eq!(state.problem, Some(LinkProblem::Unsuitable));
    assert!(state.last_error.unwrap().contains("QoS 1"));
}
