//! With receipts of the platform, over a real broker: nothing counts as delivered without one, missing pictures come again, and boxes and platforms without
//! receipts work as before.

use std::time::Duration;

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{file, link_with, topics};
use crate::platform::wait_outbox_empty;
use crate::{connected, settings};
use gridwatch_contract::platform_topic;
use gridwatch_link::{LinkError, Receipts, Settings, probe};
use gridwatch_mqtt::Protocol;
use gridwatch_store::{OutboxDepth, Store};
use serde_json::json;

for_both_protocols!(
    a_case_leaves_the_outbox_with_its_receipt,
    missing_pictures_are_sent_again,
    a_platform_that_gives_none_any_more_ends_the_waiting,
    receipts_can_be_required_or_turned_off,
    invalid_receipts_change_nothing,
);

fn receipt(case: &str, missing: &[&str]) -> String {
    json!({"case_id": case, "revision": 1, "missing": missing}).to_string()
}

async fn announce(platform: &Subscriber, receipts: bool) {
    let announced = json!({"schema_version": 1, "receipts": receipts, "name": "test"});
    platform
        .publish_retained(&platform_topic("gridwatch"), &announced.to_string())
        .await;
}

/// Waits until the outbox is as wanted.
async fn until(store: &Store, wanted: impl Fn(OutboxDepth) -> bool) {
    within(async {
        while !wanted(store.outbox_depth().unwrap()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Receives until a case has come; returns the hashes of the pictures before it.
async fn case_received(platform: &mut Subscriber) -> Vec<String> {
    let mut pictures = Vec::new();
    loop {
        let message = platform.next().await;
        match topic(&message) {
            topic if topic.ends_with("/case") => return pictures,
            topic => pictures.extend(topic.split_once("/evidence/").map(|(_, sha256)| sha256.to_owned())),
        }
    }
}

async fn a_case_leaves_the_outbox_with_its_receipt(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    announce(&platform, true).await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (_link, _replies) = link_with(settings(broker.port, protocol), &store);
    case_received(&mut platform).await;
    until(&store, |depth| depth.sent == 4).await;
    platform.publish(&topics().receipt(), &receipt(&id, &[]), None).await;
    until(&store, |depth| depth == OutboxDepth::default()).await;
}

async fn missing_pictures_are_sent_again(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    announce(&platform, true).await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (_link, _replies) = link_with(settings(broker.port, protocol), &store);
    let pictures = case_received(&mut platform).await;
    until(&store, |depth| depth.sent == 4).await;
    platform
        .publish(&topics().receipt(), &receipt(&id, &[&pictures[0]]), None)
        .await;
    assert_eq!(case_received(&mut platform).await, [pictures[0].clone()]);
    platform.publish(&topics().receipt(), &receipt(&id, &[]), None).await;
    until(&store, |depth| depth == OutboxDepth::default()).await;
}

async fn a_platform_that_gives_none_any_more_ends_the_waiting(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    announce(&platform, true).await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 1);
    let (_link, _replies) = link_with(settings(broker.port, protocol), &store);
    case_received(&mut platform).await;
    until(&store, |depth| depth.sent == 4).await;
    // A retained message that is removed takes nothing back.
    platform.publish_retained(&platform_topic("gridwatch"), "").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(store.outbox_depth().unwrap().sent, 4);
    announce(&platform, false).await;
    until(&store, |depth| depth == OutboxDepth::default()).await;
    // And from then on as without receipts.
    file(&mut store, 2);
    wait_outbox_empty(&store).await;
}

async fn receipts_can_be_required_or_turned_off(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    file(&mut store, 1);
    let with = |receipts| Settings {
        receipts,
        ..settings(broker.port, protocol)
    };
    let lacking = within(probe(with(Receipts::Required))).await;
    assert!(
        matches!(&lacking, Err(LinkError::Unsuitable { reasons, .. }) if reasons[0].contains("no platform announces receipts")),
        "{lacking:?}"
    );
    let (link, _replies) = link_with(with(Receipts::Required), &store);
    case_received(&mut platform).await;
    until(&store, |depth| depth.sent == 4).await;
    link.shutdown().await;

    announce(&platform, true).await;
    within(probe(with(Receipts::Required))).await.unwrap();
    // Turned off: the broker's acknowledgement is enough.
    let (_link, _replies) = link_with(with(Receipts::Off), &store);
    until(&store, |depth| depth == OutboxDepth::default()).await;
    file(&mut store, 2);
    until(&store, |depth| depth == OutboxDepth::default()).await;
}

async fn invalid_receipts_change_nothing(protocol: Protocol) {
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    announce(&platform, true).await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, _replies) = link_with(settings(broker.port, protocol), &store);
    connected(&link).await;
    case_received(&mut platform).await;
    until(&store, |depth| depth.sent == 4).await;
    let many = vec!["0".repeat(64); 201];
    for wrong in [
        "{".to_owned(),
        receipt("01KQGKEW01000000000000ZZZZ", &[]),
        json!({"case_id": id, "revision": 7, "missing": []}).to_string(),
        json!({"case_id": id, "revision": 1}).to_string(),
        json!({"case_id": id, "revision": 1, "missing": ["../../etc/passwd"]}).to_string(),
        json!({"case_id": id, "revision": 1, "missing": many}).to_string(),
        json!({"case_id": id, "revision": 1, "missing": [], "more": " ".repeat(40_000)}).to_string(),
    ] {
        platform.publish(&topics().receipt(), &wrong, None).await;
    }
    platform
        .publish(&platform_topic("gridwatch"), "{\"receipts\": false}", None)
        .await;
    // Applied in order: with this one, the others have been.
    let other = file(&mut store, 2);
    case_received(&mut platform).await;
    until(&store, |depth| depth.sent == 8).await;
    platform.publish(&topics().receipt(), &receipt(&other, &[]), None).await;
    until(&store, |depth| depth.sent == 4).await;
    assert!(store.case(&id).unwrap().unwrap().queued == 4 && link.state().borrow().connected);
}
