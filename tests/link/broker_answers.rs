//! What the link makes of each thing a broker may answer.

use std::time::Duration;

use crate::filing::{file, file_with, settings, topics};
use crate::scripted::{Scripted, Session};
use gridwatch_link::{Link, LinkHandle};
use gridwatch_store::Store;
use rumqttc::{DisconnectReasonCode, PubAckReason, Publish};
use tempfile::TempDir;
use tokio::sync::mpsc;

struct Box {
    dir: TempDir,
    store: Store,
    link: Option<LinkHandle>,
}

impl Box {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self { dir, store, link: None }
    }

    /// A keep-alive of a second: a link with nothing to say pings soon, which is how a test knows.
    fn connect(&mut self, port: u16) {
        let mut settings = settings(port);
        settings.keep_alive = Duration::from_secs(1);
        self.link = Some(Link::spawn(settings, &self.store, mpsc::channel(1).0, None).unwrap());
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this never comes")
}

/// Everything that comes until the link has nothing more to say, unanswered.
async fn all(session: &mut Session) -> Vec<Publish> {
    let mut publishes = Vec::new();
    while let Some(publish) = session.publish().await {
        publishes.push(publish);
    }
    publishes
}

fn names(publishes: &[Publish]) -> Vec<String> {
    publishes
        .iter()
        .map(|p| String::from_utf8(p.topic.to_vec()).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_is_sent_again_oldest_first_and_never_more_than_the_window() {
    let broker = Scripted::start().await;
    let mut it = Box::new();
    file(&mut it.store, 1);
    file(&mut it.store, 2);
    it.connect(broker.port);
    within(async {
        let mut first = broker.accept(None).await;
        let sent = all(&mut first).await;
        // Four may be in flight, and neither case may go before its pictures: three of the first, three of the second.
        assert_eq!(sent.len(), 4, "{:?}", names(&sent));
        first.answer(&sent[1], PubAckReason::Success).await;
        let next = all(&mut first).await;
        assert_eq!(next.len(), 1);
        drop(first);

        let mut second = broker.accept(None).await;
        let again = all(&mut second).await;
        // This broker does not know us any more: what it acknowledged before it may have forgotten, too.
        assert_eq!(names(&again), names(&sent));
        for publish in &again {
            second.answer(publish, PubAckReason::Success).await;
        }
        let mut rest = Vec::new();
        while let Some(publish) = second.publish().await {
            second.answer(&publish, PubAckReason::Success).await;
            rest.push(publish);
        }
        let cases = names(&rest).iter().filter(|t| **t == topics().case()).count();
        assert_eq!((rest.len(), cases), (4, 2), "two pictures and both cases");
    })
    .await;
    assert_eq!(it.store.outbox_depth().unwrap().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_broker_gets_the_message_again() {
    let broker = Scripted::start().await;
    let mut it = Box::new();
    file(&mut it.store, 1);
    it.connect(broker.port);
    within(async {
        let mut session = broker.accept(None).await;
        let mut refused = 0;
        let mut done = 0;
        while done < 4 {
            let Some(publish) = session.publish().await else {
                continue;
            };
            // Each is refused once.
            if publish.topic.ends_with(b"/case") || refused >= 3 {
                session.answer(&publish, PubAckReason::Success).await;
                done += 1;
            } else {
                refused += 1;
                session.answer(&publish, PubAckReason::QuotaExceeded).await;
            }
        }
        assert!(all(&mut session).await.is_empty());
    })
    .await;
    assert_eq!(it.store.outbox_depth().unwrap(), Default::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_ends_every_connection_is_found_and_quarantined() {
    let broker = Scripted::start().await;
    let mut it = Box::new();
    let poison = file_with(&mut it.store, 1, 20_000);
    let good = file(&mut it.store, 2);
    it.connect(broker.port);
    within(async {
        loop {
            let mut session = broker.accept(None).await;
            loop {
                match session.publish().await {
                    Some(p) if p.payload.len() > 15_000 => break,
                    Some(p) => session.answer(&p, PubAckReason::Success).await,
                    None => return,
                }
            }
            session.disconnect(DisconnectReasonCode::PacketTooLarge).await;
        }
    })
    .await;
    assert!(
        it.store
            .case(&poison)
            .unwrap()
            .unwrap()
            .quarantined
            .unwrap()
            .contains("PacketTooLarge")
    );
    let good = it.store.case(&good).unwrap().unwrap();
    assert_eq!((good.queued, good.quarantined), (0, None), "it went out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_larger_than_the_broker_said_it_takes_is_not_sent() {
    let broker = Scripted::start().await;
    let mut it = Box::new();
    let large = file_with(&mut it.store, 1, 20_000);
    file(&mut it.store, 2);
    it.connect(broker.port);
    within(async {
        let mut session = broker.accept(Some(15_000)).await;
        while let Some(publish) = session.publish().await {
            assert!(publish.payload.len() < 15_000);
            session.answer(&publish, PubAckReason::Success).await;
        }
    })
    .await;
    let said = it.store.case(&large).unwrap().unwrap().quarantined.unwrap();
    assert!(said.contains("15000"), "{said}");
    assert_eq!(it.store.outbox_depth().unwrap().waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_was_tampered_with_is_not_sent_and_neither_is_its_case() {
    let broker = Scripted::start().await;
    let mut it = Box::new();
    let tampered = file(&mut it.store, 1);
    let path = it.store.case(&tampered).unwrap().unwrap().evidence["e1"].clone();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    it.connect(broker.port);
    within(async {
        let mut session = broker.accept(None).await;
        for publish in all(&mut session).await {
            assert!(
                !path
                    .to_string_lossy()
                    .contains(names(std::slice::from_ref(&publish))[0].rsplit('/').next().unwrap())
            );
            assert!(!publish.topic.ends_with(b"/case"));
        }
    })
    .await;
    assert!(it.store.case(&tampered).unwrap().unwrap().quarantined.is_some());
    assert!(it.dir.path().exists());
}
