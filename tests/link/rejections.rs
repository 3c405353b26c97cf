//! Messages that the broker rejects, and messages to the box that it cannot receive. The protocols differ in what they can
//! say, so each test is for one of them.

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing::{file, file_with, topics};
use crate::platform::{Platform, wait_outbox_empty, wait_quarantined};
use crate::{client_id, commit, connected, connections_of, link};
use gridwatch_contract::CaseRecord;
use gridwatch_engine::CaseState;
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use serde_json::json;

for_both_protocols!(an_oversized_message_to_the_box_does_not_lock_it_out);

/// MQTT 5 only: an MQTT 3.1.1 broker acknowledges a denied message and drops it.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_denied_by_the_acl_quarantines_the_case_until_it_is_allowed() {
    let mut broker = Broker::start_with("acl_file {dir}/acl");
    broker.write_file(
        "acl",
        "topic readwrite gridwatch/v1/+/evidence/#\ntopic readwrite gridwatch/v1/+/status\n",
    );
    broker.restart();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (link, _replies) = link(broker.port, Protocol::V5, &store);
    let reason = wait_quarantined(&store, &id).await;
    assert!(reason.contains(&topics().case()) && reason.contains("0x87"), "{reason}");
    let rejected = store.outbox_rejected().unwrap().expect("nothing newer was delivered");
    assert_eq!(rejected.quarantined, Some(reason));
    assert_eq!(store.outbox_depth().unwrap().waiting, 0);

    broker.write_file("acl", "topic readwrite gridwatch/#\n");
    broker.restart();
    subscriber.wait_subscribed().await;
    assert_eq!(
        store.outbox_release(Some(&id)).unwrap(),
        1,
        "its pictures were already delivered"
    );
    let case = loop {
        let publish = subscriber.next().await;
        if topic(&publish) == topics().case() {
            break publish;
        }
    };
    let record: CaseRecord = serde_json::from_slice(&case.payload).unwrap();
    assert_eq!(record.case_id, id);
    wait_outbox_empty(&store).await;
    assert_eq!(store.outbox_rejected().unwrap(), None);
    assert_eq!(link.state().borrow().unacknowledged_since, None);
}

/// MQTT 5 only: an MQTT 3.1.1 broker acknowledges a message over its limit and drops it.
#[tokio::test(flavor = "multi_thread")]
async fn a_picture_over_the_brokers_size_limit_quarantines_only_its_case() {
    let broker = Broker::start_with("message_size_limit 10000");
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let large = file_with(&mut store, 100, 11_000);
    let small = file(&mut store, 1);
    let (_link, _replies) = link(broker.port, Protocol::V5, &store);
    let mut platform = Platform::default();
    platform
        .receive_cases(&mut subscriber, std::slice::from_ref(&small))
        .await;
    wait_outbox_empty(&store).await;
    let found = store.case(&large).unwrap().unwrap();
    assert!(found.quarantined.is_some(), "{found:?}");
    assert_eq!(store.outbox_rejected().unwrap(), None, "a later case was delivered");
}

/// MQTT 3.1.1 only: with MQTT 5 the broker announces its maximum packet size.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_which_the_broker_closes_the_connection_is_found_and_quarantined() {
    // mosquitto closes the connection of a 3.1.1 client that sends a larger packet, without a reason.
    let broker = Broker::start_with("max_packet_size 15000");
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let before = file(&mut store, 1);
    let poison = file_with(&mut store, 100, 20_000);
    let after = file(&mut store, 2);
    let (_link, _replies) = link(broker.port, Protocol::V311, &store);
    let mut platform = Platform::default();
    platform.receive_cases(&mut subscriber, &[before, after]).await;
    let reason = wait_quarantined(&store, &poison).await;
    assert!(reason.contains("5 connections in a row"), "{reason}");
    wait_outbox_empty(&store).await;
}

async fn an_oversized_message_to_the_box_does_not_lock_it_out(protocol: Protocol) {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "elsewhere").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, mut replies) = link(broker.port, protocol, &store);
    connected(&link).await;
    let accepted = json!({"case_id": id, "state": "accepted"}).to_string();
    // More than may be unacknowledged at once.
    for _ in 0..20 {
        platform.publish(&topics().reply(), &"x".repeat(5 << 20), None).await;
    }
    platform.publish(&topics().reply(), &accepted, None).await;
    let incoming = within(replies.recv()).await.unwrap();
    assert_eq!(incoming.reply.state, CaseState::Accepted);
    commit(&mut store, incoming);
    assert_eq!(connections_of(&broker, &client_id()).len(), 1, "{}", broker.log());
}
