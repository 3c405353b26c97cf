//! How the link reacts to what a broker may answer, tested with a scripted one (MQTT 5).

use std::time::Duration;

use crate::filing::{file, file_with, settings, topics};
use crate::scripted_broker::{ScriptedBroker, ScriptedSession};
use gridwatch_link::{Link, LinkHandle};
use gridwatch_store::Store;
use rumqttc::{DisconnectReasonCode, PubAckReason, Publish};
use tempfile::TempDir;
use tokio::sync::mpsc;

struct BoxUnderTest {
    dir: TempDir,
    store: Store,
    link: Option<LinkHandle>,
}

impl BoxUnderTest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store, link: None }
    }

    /// With a keep-alive of one second: a link with nothing to send soon pings, which tells the test.
    fn connect(&mut self, port: u16) {
        let mut settings = settings(port);
        settings.keep_alive = Duration::from_secs(1);
        self.link = Some(Link::spawn(settings, &self.store, mpsc::channel(1).0, None).unwrap());
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("timed out")
}

/// Everything that the link publishes until it has nothing more to send, without acknowledging node.
async fn publishes_of(session: &mut ScriptedSession) -> Vec<Publish> {
    let mut publishes = Vec::new();
    while let Some(publish) = session.next_publish().await {
        publishes.push(publish);
    }
    publishes
}

fn topics_of(publishes: &[Publish]) -> Vec<String> {
    publishes
        .iter()
        .map(|p| String::from_utf8(p.topic.to_vec()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn unacknowledged_messages_are_resent_oldest_first_within_the_window() {
    let broker = ScriptedBroker::start().await;
    let mut node = BoxUnderTest::new();
    file(&mut node.store, 1);
    file(&mut node.store, 2);
    node.connect(broker.port);
    within(async {
        let mut first = broker.accept(None).await;
        let sent = publishes_of(&mut first).await;
        // Four may be in flight, and no case goes before its three pictures.
        assert_eq!(sent.len(), 4, "{:?}", topics_of(&sent));
        let state = node.link.as_ref().unwrap().state();
        let unacknowledged_since = || state.borrow().unacknowledged_since;
        let sent_at = unacknowledged_since().expect("four are in flight");
        first.acknowledge(&sent[1], PubAckReason::Success).await;
        let next = publishes_of(&mut first).await;
        assert_eq!(next.len(), 1);
        let acknowledged_at = unacknowledged_since().expect("four are in flight again");
        assert!(acknowledged_at > sent_at);
        drop(first);

        let mut second = broker.accept(None).await;
        let again = publishes_of(&mut second).await;
        assert_eq!(
            unacknowledged_since(),
            Some(acknowledged_at),
            "a new connection acknowledges nothing"
        );
        // The broker has no session any more, so it may also have lost what it acknowledged.
        assert_eq!(topics_of(&again), topics_of(&sent));
        for publish in &again {
            second.acknowledge(publish, PubAckReason::Success).await;
        }
        let mut rest = Vec::new();
        while let Some(publish) = second.next_publish().await {
            second.acknowledge(&publish, PubAckReason::Success).await;
            rest.push(publish);
        }
        let cases = topics_of(&rest).iter().filter(|t| **t == topics().case()).count();
        assert_eq!((rest.len(), cases), (4, 2), "two pictures and both cases");
        assert_eq!(unacknowledged_since(), None);
    })
    .await;
    assert_eq!(node.store.outbox_depth().unwrap().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_subscription_to_replies_is_in_the_state_until_it_is_granted() {
    let broker = ScriptedBroker::start().await;
    let mut node = BoxUnderTest::new();
    node.connect(broker.port);
    let mut state = node.link.as_ref().unwrap().state();
    within(async {
        let mut first = broker.accept(None).await;
        first.denies_subscriptions = true;
        assert!(first.next_publish().await.is_none());
        let denied = state.wait_for(|s| s.connected).await.unwrap().replies_denied.clone();
        assert!(
            denied.as_ref().is_some_and(|reason| reason.contains("NotAuthorized")),
            "{denied:?}"
        );
        drop(first);
        state.wait_for(|s| !s.connected).await.unwrap();

        let mut second = broker.accept(None).await;
        assert!(second.next_publish().await.is_none());
        assert_eq!(state.wait_for(|s| s.connected).await.unwrap().replies_denied, None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_resent_to_a_busy_broker() {
    let broker = ScriptedBroker::start().await;
    let mut node = BoxUnderTest::new();
    file(&mut node.store, 1);
    node.connect(broker.port);
    within(async {
        let mut session = broker.accept(None).await;
        let mut rejected = 0;
        let mut done = 0;
        while done < 4 {
            let Some(publish) = session.next_publish().await else {
                continue;
            };
            // Each picture is rejected once.
            if publish.topic.ends_with(b"/case") || rejected >= 3 {
                session.acknowledge(&publish, PubAckReason::Success).await;
                done += 1;
            } else {
                rejected += 1;
                session.acknowledge(&publish, PubAckReason::QuotaExceeded).await;
            }
        }
        assert!(publishes_of(&mut session).await.is_empty());
    })
    .await;
    assert_eq!(node.store.outbox_depth().unwrap(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_breaks_every_connection_is_found_and_quarantined() {
    let broker = ScriptedBroker::start().await;
    let mut node = BoxUnderTest::new();
    let poison = file_with(&mut node.store, 1, 20_000);
    let good = file(&mut node.store, 2);
    node.connect(broker.port);
    within(async {
        loop {
            let mut session = broker.accept(None).await;
            loop {
                match session.next_publish().await {
                    Some(p) if p.payload.len() > 15_000 => break,
                    Some(p) => session.acknowledge(&p, PubAckReason::Success).await,
                    None => return,
                }
            }
            session.disconnect(DisconnectReasonCode::PacketTooLarge).await;
        }
    })
    .await;
    assert!(
        node.store
            .case(&poison)
            .unwrap()
            .unwrap()
            .quarantined
            .unwrap()
            .contains("PacketTooLarge")
    );
    let good = node.store.case(&good).unwrap().unwrap();
    assert_eq!((good.queued, good.quarantined), (0, None), "it was delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_announced_packet_size_is_not_sent() {
    let broker = ScriptedBroker::start().await;
    let mut node = BoxUnderTest::new();
    let large = file_with(&mut node.store, 1, 20_000);
    file(&mut node.store, 2);
    node.connect(broker.port);
    within(async {
        let mut session = broker.accept(Some(15_000)).await;
        while let Some(publish) = session.next_publish().await {
            assert!(publish.payload.len() < 15_000);
            session.acknowledge(&publish, PubAckReason::Success).await;
        }
    })
    .await;
    let reason = node.store.case(&large).unwrap().unwrap().quarantined.unwrap();
    assert!(reason.contains("15000"), "{reason}");
    assert_eq!(node.store.outbox_depth().unwrap().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_picture_and_its_case_are_not_sent() {
    let broker = ScriptedBroker::start().await;
    let mut node = BoxUnderTest::new();
    let tampered = file(&mut node.store, 1);
    let path = node.store.case(&tampered).unwrap().unwrap().evidence["e1"].clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    node.connect(broker.port);
    within(async {
        let mut session = broker.accept(None).await;
        for publish in publishes_of(&mut session).await {
            assert!(
                !path
                    .to_string_lossy()
                    .contains(topics_of(std::slice::from_ref(&publish))[0].rsplit('/').next().unwrap())
            );
            assert!(!publish.topic.ends_with(b"/case"));
        }
    })
    .await;
    assert!(node.store.case(&tampered).unwrap().unwrap().quarantined.is_some());
    assert!(node.dir.path().exists());
}
