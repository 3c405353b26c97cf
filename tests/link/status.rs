//! Status and health of the box.

use crate::broker::{Broker, Subscriber};
use crate::filing::{self, NODE, topics};
use crate::{connected, link};
use gridwatch_base::clock::ClockSync;
use gridwatch_contract::{ClockHealth, HealthMessage, SignedChainHead, When};
use gridwatch_custody::keys::KeyRing;
use gridwatch_mqtt::Protocol;
use gridwatch_store::Store;
use rumqttc::Publish;
use serde_json::Value;

for_both_protocols!(
    status_is_online_while_connected_and_offline_after,
    health_is_published_while_connected,
);

async fn status_is_online_while_connected_and_offline_after(protocol: Protocol) {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, &topics().status()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let key = KeyRing::of(dir.path()).existing().unwrap().public();
    let status = |publish: &Publish| -> (String, bool) {
        let status: Value = serde_json::from_slice(&publish.payload).unwrap();
        assert_eq!(status["node_id"], NODE);
        assert_eq!(status["public_key"], key.to_string());
        let state = status["state"].as_str().unwrap().to_owned();
        (state, status.get("since").is_some())
    };
    let (first, _replies) = link(broker.port, protocol, &store);
    assert_eq!(status(&subscriber.next().await), ("online".into(), true));
    first.shutdown().await;
    assert_eq!(status(&subscriber.next().await), ("offline".into(), true));

    let (second, _replies) = link(broker.port, protocol, &store);
    assert_eq!(status(&subscriber.next().await), ("online".into(), true));
    // Without a clean disconnect, as in a power failure: the last will, which does not know the time.
    drop(second);
    assert_eq!(status(&subscriber.next().await), ("offline".into(), false));
    let mut late = Subscriber::start(broker.port, &topics().status()).await;
    let retained = late.next().await;
    assert!(retained.retain);
    assert_eq!(status(&retained), ("offline".into(), false));
}

async fn health_is_published_while_connected(protocol: Protocol) {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, &topics().health()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link(broker.port, protocol, &store);
    connected(&link).await;
    let health = HealthMessage {
        schema_version: 1,
        node_id: NODE.into(),
        at: When::new(filing::at(0), &filing::zone()),
        clock: Some(ClockHealth::new(Some(ClockSync {
            offset_ms: 2,
            error_ms: 15,
        }))),
        chain: store
            .signed_chain_head(NODE, filing::at(0))
            .unwrap()
            .map(|(head, signature)| SignedChainHead { head, signature }),
        held_back: Vec::new(),
        awaiting_receipt: None,
        outbox_depth: 0,
        cameras: Vec::new(),
    };
    let SignedChainHead { head, signature } = health.chain.as_ref().unwrap();
    assert!(
        store.public_key().unwrap().verifies(head.as_bytes(), signature),
        "{head}"
    );
    link.publish_health(&serde_json::to_value(&health).unwrap());
    let received: HealthMessage = serde_json::from_slice(&subscriber.next().await.payload).unwrap();
    assert_eq!(received, health);
}
