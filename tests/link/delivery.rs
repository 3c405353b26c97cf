//! Whatever happens to the broker, every case arrives, with its pictures first.

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{self, file, form, record, revision, topics, unsealed};
use crate::platform::{Platform, wait_outbox_empty};
use crate::{client_id, connected, connections_of, disconnected, link, logged_as};
use gridwatch_contract::CaseRecord;
use gridwatch_engine::CaseState;
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use rumqttc::Publish;

for_both_protocols!(
    each_case_arrives_once_with_its_pictures_first,
    a_broker_that_loses_its_state_loses_no_case,
    a_platform_not_subscribed_to_pictures_gets_the_cases,
    a_withdrawal_arrives_as_a_newer_revision,
);

async fn each_case_arrives_once_with_its_pictures_first(protocol: Protocol) {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link(broker.port, protocol, &store);
    let filed: Vec<_> = (0..12).map(|n| file(&mut store, n)).collect();
    let mut platform = Platform::default();
    platform.receive_cases(&mut subscriber, &filed).await;
    wait_outbox_empty(&store).await;
    link.shutdown().await;
    // The status message is published after everything else.
    loop {
        let message = subscriber.next().await;
        platform.receive(&message);
        if topic(&message) == topics().status() && String::from_utf8_lossy(&message.payload).contains("offline") {
            break;
        }
    }
    assert_eq!((platform.cases.len(), platform.pictures.len()), (12, 36));
    assert_eq!(platform.repeated, 0, "nothing gave a reason to resend");
    for (n, id) in (0..).zip(&filed) {
        let sent = &platform.cases[id];
        assert_eq!(store.case(id).unwrap().unwrap().record, *sent);
        assert_eq!(unsealed(sent), record(&filing::case(n), sent.evidence.clone()));
    }
    assert_eq!(
        connections_of(&broker, &client_id()),
        [logged_as(protocol, false)],
        "{}",
        broker.log()
    );
}

/// MQTT 5 only: an MQTT 3.1.1 broker does not report a missing subscriber, so the subscriber would have to reconnect first.
#[tokio::test(flavor = "multi_thread")]
async fn cases_filed_during_an_outage_arrive_after_it() {
    let mut broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (link, _replies) = link(broker.port, Protocol::V5, &store);
    let mut platform = Platform::default();
    let mut filed = vec![file(&mut store, 0)];
    platform.receive_cases(&mut subscriber, &filed).await;

    broker.kill();
    disconnected(&link).await;
    filed.extend((1..8).map(|n| file(&mut store, n)));
    broker.restart();
    platform.receive_cases(&mut subscriber, &filed).await;
    wait_outbox_empty(&store).await;
}

async fn a_broker_that_loses_its_state_loses_no_case(protocol: Protocol) {
    let mut broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (_link, _replies) = link(broker.port, protocol, &store);
    let mut platform = Platform::default();
    let mut filed = Vec::new();
    for round in 0..4 {
        filed.extend((0..5).map(|n| file(&mut store, round * 10 + n)));
        platform.receive_cases(&mut subscriber, &filed).await;
        wait_outbox_empty(&store).await;
        // A frozen broker acknowledges nothing: what is sent now is lost with it.
        broker.freeze();
        filed.extend((5..10).map(|n| file(&mut store, round * 10 + n)));
        broker.restart();
    }
    platform.receive_cases(&mut subscriber, &filed).await;
    wait_outbox_empty(&store).await;
    // Messages acknowledged shortly before the restart are resent: the broker may have lost them.
    assert!(platform.repeated > 0);
}

/// MQTT 5 only: an MQTT 3.1.1 broker does not report a missing subscriber.
#[tokio::test(flavor = "multi_thread")]
async fn a_case_without_a_subscriber_is_kept_until_there_is_one() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let filed = [file(&mut store, 1), file(&mut store, 2)];
    let (link, _replies) = link(broker.port, Protocol::V5, &store);
    connected(&link).await;
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let mut platform = Platform::default();
    platform.receive_cases(&mut subscriber, &filed).await;
    wait_outbox_empty(&store).await;
}

async fn a_platform_not_subscribed_to_pictures_gets_the_cases(protocol: Protocol) {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (_link, _replies) = link(broker.port, protocol, &store);
    let publish = subscriber.next().await;
    if protocol == Protocol::V5 {
        assert_properties(&publish);
    }
    let record: CaseRecord = serde_json::from_slice(&publish.payload).unwrap();
    assert_eq!(record.case_id, id);
    wait_outbox_empty(&store).await;
}

/// With MQTT 5 a case carries its reply topic and its id as properties.
fn assert_properties(publish: &Publish) {
    let record: CaseRecord = serde_json::from_slice(&publish.payload).unwrap();
    let properties = publish.properties.as_ref().expect("a case has properties");
    assert_eq!(properties.response_topic.as_deref(), Some(&*topics().reply()));
    assert_eq!(properties.correlation_data.as_deref(), Some(record.case_id.as_bytes()));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
}

async fn a_withdrawal_arrives_as_a_newer_revision(protocol: Protocol) {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    store
        .revise(
            &revision(&id, CaseState::Withdrawn, 4000, "cleared before it was filed"),
            &form(),
        )
        .unwrap();
    let (_link, _replies) = link(broker.port, protocol, &store);
    let mut platform = Platform::default();
    within(async {
        while platform.cases.get(&id).is_none_or(|r| r.state != CaseState::Withdrawn) {
            platform.receive(&subscriber.next().await);
        }
    })
    .await;
    assert_eq!(platform.cases[&id].revision, 2);
    wait_outbox_empty(&store).await;
}
