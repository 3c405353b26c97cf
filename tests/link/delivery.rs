//! Whatever happens to the broker, every case arrives, with its pictures before it.

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing;
use crate::filing::{NODE, file, form, link, record, revision, topics, unsealed};
use crate::platform::{Platform, emptied, quarantined};
use gridwatch_base::clock::ClockSync;
use gridwatch_contract::{CaseRecord, ClockHealth, HealthMessage, When};
use gridwatch_custody::keys::KeyRing;
use gridwatch_engine::CaseState;
use gridwatch_link::probe;
use gridwatch_store::Store;
use rumqttc::Publish;

/// MQTT 5 says beside a case where its reply goes, and what it is about.
fn assert_addressed(publish: &Publish) {
    let record: CaseRecord = serde_json::from_slice(&publish.payload).unwrap();
    let properties = publish.properties.as_ref().expect("a case has properties");
    assert_eq!(properties.response_topic.as_deref(), Some(&*topics().reply()));
    assert_eq!(properties.correlation_data.as_deref(), Some(record.case_id.as_bytes()));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_arrives_with_its_pictures_before_it() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link(broker.port, &store);
    let id = file(&mut store, 1);
    let mut platform = Platform::default();
    platform.until(&mut subscriber, std::slice::from_ref(&id)).await;
    let sent = &platform.cases[&id];
    assert_eq!(unsealed(sent), record(&filing::case(1), sent.evidence.clone()));
    emptied(&store).await;
    link.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_filed_while_the_broker_is_away_arrive_when_it_is_back() {
    let mut broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (link, _replies) = link(broker.port, &store);
    let mut platform = Platform::default();
    let mut filed = vec![file(&mut store, 0)];
    platform.until(&mut subscriber, &filed).await;

    broker.kill();
    let mut state = link.state();
    within(state.wait_for(|s| !s.connected)).await.unwrap();
    filed.extend((1..8).map(|n| file(&mut store, n)));
    broker.restart();
    platform.until(&mut subscriber, &filed).await;
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgets_everything_again_and_again_costs_no_case() {
    let mut broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (_link, _replies) = link(broker.port, &store);
    let mut platform = Platform::default();
    let mut filed = Vec::new();
    for round in 0..4 {
        filed.extend((0..5).map(|n| file(&mut store, round * 10 + n)));
        platform.until(&mut subscriber, &filed).await;
        emptied(&store).await;
        // Frozen, it acknowledges nothing: what is sent now dies with it.
        broker.freeze();
        filed.extend((5..10).map(|n| file(&mut store, round * 10 + n)));
        broker.restart();
    }
    platform.until(&mut subscriber, &filed).await;
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_nobody_listens_to_is_kept_until_somebody_does() {
    let broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let filed = [file(&mut store, 1), file(&mut store, 2)];
    let (link, _replies) = link(broker.port, &store);
    let mut state = link.state();
    within(state.wait_for(|s| s.connected)).await.unwrap();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let mut platform = Platform::default();
    platform.until(&mut subscriber, &filed).await;
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_wants_no_pictures_gets_the_cases() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (_link, _replies) = link(broker.port, &store);
    let publish = subscriber.next().await;
    assert_addressed(&publish);
    let record: CaseRecord = serde_json::from_slice(&publish.payload).unwrap();
    assert_eq!(record.case_id, id);
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_reaches_the_platform_as_a_newer_revision() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    store
        .revise(
            &revision(&id, CaseState::Withdrawn, 4000, "gone before it was filed"),
            &form(),
        )
        .unwrap();
    let (_link, _replies) = link(broker.port, &store);
    let mut platform = Platform::default();
    while platform.cases.get(&id).is_none_or(|r| r.state != CaseState::Withdrawn) {
        platform.take(&subscriber.next().await);
    }
    assert_eq!(platform.cases[&id].revision, 2);
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_forbids_quarantines_the_case_until_an_operator_allows_it() {
    let mut broker = Broker::start_with("acl_file {dir}/acl");
    broker.write(
        "acl",
        "topic readwrite gridwatch/v1/+/evidence/#\ntopic readwrite gridwatch/v1/+/status\n",
    );
    broker.restart();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (_link, _replies) = link(broker.port, &store);
    let reason = quarantined(&store, &id).await;
    assert!(reason.contains(&topics().case()) && reason.contains("0x87"), "{reason}");
    assert_eq!(store.outbox_depth().unwrap().waiting, 0);

    broker.write("acl", "topic readwrite gridwatch/#\n");
    broker.restart();
    subscriber.listens().await;
    assert_eq!(
        store.outbox_release(Some(&id)).unwrap(),
        1,
        "its pictures were delivered before"
    );
    let case = loop {
        let publish = subscriber.next().await;
        if topic(&publish) == topics().case() {
            break publish;
        }
    };
    let record: CaseRecord = serde_json::from_slice(&case.payload).unwrap();
    assert_eq!(record.case_id, id);
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_the_broker_finds_too_large_quarantines_its_case_alone() {
    let broker = Broker::start_with("message_size_limit 10000");
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let large = filing::file_with(&mut store, 100, 11_000);
    let small = file(&mut store, 1);
    let (_link, _replies) = link(broker.port, &store);
    let mut platform = Platform::default();
    platform.until(&mut subscriber, std::slice::from_ref(&small)).await;
    emptied(&store).await;
    let found = store.case(&large).unwrap().unwrap();
    assert!(found.quarantined.is_some(), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_says_whether_the_broker_takes_us() {
    let broker = Broker::start();
    within(probe(filing::settings(broker.port))).await.expect("it is there");

    let closed = Broker::start_with("allow_anonymous false");
    let refused = within(probe(filing::settings(closed.port)))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("NotAuthorized") && refused.contains(&closed.port.to_string()),
        "{refused}"
    );
    drop(closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_online_while_the_box_is_there_and_offline_after() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, &topics().status()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let key = KeyRing::of(dir.path()).existing().unwrap().public();
    let state = |publish: &Publish| {
        let status: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
        assert_eq!(status["node_id"], NODE);
        assert_eq!(
            status["public_key"],
            key.to_string(),
            "what a platform checks signatures with"
        );
        status["state"].as_str().unwrap().to_owned()
    };
    let (first, _replies) = link(broker.port, &store);
    assert_eq!(state(&subscriber.next().await), "online");
    first.shutdown().await;
    assert_eq!(state(&subscriber.next().await), "offline");

    let (second, _replies) = link(broker.port, &store);
    assert_eq!(state(&subscriber.next().await), "online");
    // Without a farewell, as when the power goes: the broker says it for us.
    drop(second);
    assert_eq!(state(&subscriber.next().await), "offline");
    let mut late = Subscriber::start(broker.port, &topics().status()).await;
    let retained = late.next().await;
    assert!(retained.retain);
    assert_eq!(state(&retained), "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_goes_out_while_the_broker_is_there() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, &topics().health()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link(broker.port, &store);
    let mut state = link.state();
    within(state.wait_for(|s| s.connected)).await.unwrap();
    let health = HealthMessage {
        schema_version: 1,
        node_id: NODE.into(),
        at: When::new(filing::at(0), &filing::zone()),
        clock: Some(ClockHealth::new(Some(ClockSync {
            offset_ms: 2,
            error_ms: 15,
        }))),
        outbox_depth: 0,
        cameras: Vec::new(),
    };
    link.publish_health(&serde_json::to_value(&health).unwrap());
    let heard: HealthMessage = serde_json::from_slice(&subscriber.next().await.payload).unwrap();
    assert_eq!(heard, health);
}
