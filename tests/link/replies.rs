//! A reply is acknowledged once it is committed, and not before; invalid messages are rejected and block nothing.

use crate::broker::{Broker, Subscriber, within};
use crate::filing::{file, topics};
use crate::{client_id, commit, connected, connections_of, link, logged_as};
use gridwatch_engine::CaseState;
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use serde_json::json;

for_both_protocols!(
    a_reply_reaches_the_daemon_and_the_store,
    a_reply_is_redelivered_until_committed_and_queued_while_the_box_is_offline,
    invalid_replies_are_rejected_and_block_nothing,
    more_replies_than_the_daemon_takes_at_once_arrive_in_order,
    a_flood_about_one_case_is_cut_off_and_delays_no_other_case,
);

fn reply(case: &str, state: &str) -> String {
    json!({"case_id": case, "state": state, "reason": "已派单", "platform_task_no": "T-1"}).to_string()
}

async fn a_reply_reaches_the_daemon_and_the_store(protocol: Protocol) {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, mut replies) = link(broker.port, protocol, &store);
    connected(&link).await;
    platform
        .publish(&topics().reply(), &reply(&id, "dispatched"), Some(&id))
        .await;
    let incoming = within(replies.recv()).await.unwrap();
    assert_eq!(
        (incoming.reply.case.as_str(), incoming.reply.state),
        (id.as_str(), CaseState::Dispatched)
    );
    commit(&mut store, incoming);
    let record = store.case(&id).unwrap().unwrap().record;
    assert_eq!(
        (record.state, record.platform_task_no.as_deref()),
        (CaseState::Dispatched, Some("T-1"))
    );
}

async fn a_reply_is_redelivered_until_committed_and_queued_while_the_box_is_offline(protocol: Protocol) {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (first, mut replies) = link(broker.port, protocol, &store);
    connected(&first).await;
    platform
        .publish(&topics().reply(), &reply(&id, "accepted"), Some(&id))
        .await;
    // Not committed, as with a full disk.
    drop(within(replies.recv()).await.unwrap());
    let again = within(replies.recv()).await.unwrap();
    assert_eq!(again.reply.state, CaseState::Accepted);
    commit(&mut store, again);
    first.shutdown().await;

    platform
        .publish(&topics().reply(), &reply(&id, "dispatched"), None)
        .await;
    let (_second, mut replies) = link(broker.port, protocol, &store);
    let next = within(replies.recv()).await.unwrap();
    assert_eq!(
        next.reply.state,
        CaseState::Dispatched,
        "queued while the box was offline, and the committed one not redelivered: {}",
        broker.log()
    );
    commit(&mut store, next);
    assert_eq!(store.case(&id).unwrap().unwrap().record.state, CaseState::Dispatched);
    let connections = connections_of(&broker, &client_id());
    assert!(
        connections.len() >= 3 && connections.iter().all(|c| *c == logged_as(protocol, false)),
        "{connections:?}"
    );
}

async fn invalid_replies_are_rejected_and_block_nothing(protocol: Protocol) {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (id, other) = (file(&mut store, 1), file(&mut store, 2));
    let (link, mut replies) = link(broker.port, protocol, &store);
    connected(&link).await;
    let topic = topics().reply();
    let invalid = [
        "not JSON\nERROR forged log line".into(),
        json!({"case_id": id}).to_string(),
        json!({"case_id": id, "state": "accepted", "reson": "misspelt"}).to_string(),
        json!({"case_id": id, "state": "exploded"}).to_string(),
        json!({"case_id": "01JW0000000000000000000000", "state": "accepted"}).to_string(),
        json!({"case_id": "' OR 1=1 --", "state": "accepted"}).to_string(),
        json!({"case_id": id, "state": "accepted", "reason": "x".repeat(2001)}).to_string(),
        "x".repeat(200_000),
        reply(&id, "filed"),
        reply(&id, "withdrawn"),
    ];
    // More than the broker may have unacknowledged: if they blocked the queue, the last reply would never arrive.
    for _ in 0..3 {
        for payload in &invalid {
            platform.publish(&topic, payload, None).await;
        }
    }
    if protocol == Protocol::V5 {
        // MQTT 3.1.1 does not transmit correlation data.
        platform.publish(&topic, &reply(&id, "accepted"), Some(&other)).await;
    }
    platform.publish(&topic, &reply(&id, "accepted"), Some(&id)).await;
    let incoming = within(replies.recv()).await.unwrap();
    assert_eq!(
        (incoming.reply.case.as_str(), incoming.reply.state),
        (id.as_str(), CaseState::Accepted)
    );
    commit(&mut store, incoming);
    assert!(replies.try_recv().is_err());
    assert_eq!(store.case(&other).unwrap().unwrap().record.revision, 1);
}

async fn more_replies_than_the_daemon_takes_at_once_arrive_in_order(protocol: Protocol) {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let ids: Vec<_> = (0..60).map(|n| file(&mut store, n)).collect();
    let (link, mut replies) = link(broker.port, protocol, &store);
    connected(&link).await;
    for id in &ids {
        platform.publish(&topics().reply(), &reply(id, "accepted"), None).await;
    }
    for id in &ids {
        let incoming = within(replies.recv()).await.unwrap();
        assert_eq!(incoming.reply.case.as_str(), id);
        commit(&mut store, incoming);
    }
}

async fn a_flood_about_one_case_is_cut_off_and_delays_no_other_case(protocol: Protocol) {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (flooded, other) = (file(&mut store, 1), file(&mut store, 2));
    let (link, mut replies) = link(broker.port, protocol, &store);
    connected(&link).await;
    for n in 0..150 {
        let state = ["dispatched", "verify_requested"][n % 2];
        platform.publish(&topics().reply(), &reply(&flooded, state), None).await;
    }
    platform
        .publish(&topics().reply(), &reply(&other, "accepted"), None)
        .await;
    let mut taken = 0;
    loop {
        let incoming = within(replies.recv()).await.unwrap();
        let is_last = incoming.reply.case.as_str() == other;
        commit(&mut store, incoming);
        if is_last {
            break;
        }
        taken += 1;
    }
    // A slow machine may take a few more, one each 30 s.
    assert!((20..30).contains(&taken), "{taken} of 150");
}
