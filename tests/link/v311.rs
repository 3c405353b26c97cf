//! A broker that speaks MQTT 3.1.1: what the contract promises holds there too, but for what that protocol cannot say.

use crate::broker::{Broker, Subscriber, topic, within};
use crate::filing;
use crate::filing::{NODE, at, file, file_with, form, revision, topics};
use crate::platform::{Platform, emptied, quarantined};
use gridwatch_base::secret::Credentials;
use gridwatch_engine::CaseState;
use gridwatch_link::{IncomingReply, LinkHandle, Protocol, Settings, probe};
use gridwatch_store::Store;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::Receiver,
};

fn settings(port: u16) -> Settings {
    Settings {
        protocol: Protocol::V311,
        ..filing::settings(port)
    }
}

fn link(port: u16, store: &Store) -> (LinkHandle, Receiver<IncomingReply>) {
    filing::link_with(settings(port), store)
}

async fn connected(link: &LinkHandle) {
    within(link.state().wait_for(|s| s.connected)).await.unwrap();
}

/// What mosquitto calls the protocol of a connection, and whether its session is clean, in the line it logs of each.
fn said_of(broker: &Broker, client_id: &str) -> Vec<String> {
    let log = broker.log();
    let lines = log.lines().filter(|l| l.contains("New client connected"));
    let ours = lines.filter_map(|l| l.split_once(&format!(" as {client_id} ("))?.1.split_once(", k"));
    ours.map(|(said, _)| said.to_owned()).collect()
}

/// What the daemon does with a reply.
fn commit(store: &mut Store, incoming: IncomingReply) {
    let decided = revision(incoming.reply.case.as_str(), incoming.reply.state, 5000, "已派单");
    store
        .apply_reply(&incoming.message, at(5000), Some(&decided), &form())
        .unwrap();
    incoming.committed.send(()).unwrap();
}

fn reply(case: &str, state: &str) -> String {
    json!({"case_id": case, "state": state}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_arrives_once_with_its_pictures_before_it() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link(broker.port, &store);
    let filed: Vec<_> = (0..12).map(|n| file(&mut store, n)).collect();
    let mut platform = Platform::default();
    platform.until(&mut subscriber, &filed).await;
    emptied(&store).await;
    link.shutdown().await;
    // The farewell goes behind everything else.
    loop {
        let message = subscriber.next().await;
        platform.take(&message);
        if topic(&message) == topics().status() && String::from_utf8_lossy(&message.payload).contains("offline") {
            break;
        }
    }
    assert_eq!((platform.cases.len(), platform.pictures.len()), (12, 36));
    assert_eq!(
        platform.repeated, 0,
        "nothing happened that would make the box repeat itself"
    );
    for (id, record) in &platform.cases {
        assert_eq!(store.case(id).unwrap().unwrap().record, *record);
    }
    assert_eq!(
        said_of(&broker, "gridwatch-box-7"),
        ["p2, c0"],
        "MQTT 3.1.1: {}",
        broker.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_forgets_everything_costs_no_case() {
    let mut broker = Broker::start();
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let (_link, _replies) = link(broker.port, &store);
    let mut platform = Platform::default();
    let mut filed = Vec::new();
    for round in 0..3 {
        filed.extend((0..4).map(|n| file(&mut store, round * 10 + n)));
        platform.until(&mut subscriber, &filed).await;
        emptied(&store).await;
        // Frozen, it acknowledges nothing: what is sent now dies with it.
        broker.freeze();
        filed.extend((4..8).map(|n| file(&mut store, round * 10 + n)));
        broker.restart();
    }
    platform.until(&mut subscriber, &filed).await;
    emptied(&store).await;
    // What it had acknowledged before it died comes again: it may have forgotten it unsent.
    assert!(platform.repeated > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_wait_for_the_box_and_come_again_until_they_are_committed() {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (first, mut replies) = link(broker.port, &store);
    connected(&first).await;
    platform
        .say(&topics().reply(), &reply(&id, "accepted"), Some(&id))
        .await;
    // The disk is full, say: nothing is answered.
    drop(within(replies.recv()).await.unwrap());
    let again = within(replies.recv()).await.unwrap();
    assert_eq!(again.reply.state, CaseState::Accepted);
    commit(&mut store, again);
    first.shutdown().await;

    platform.say(&topics().reply(), &reply(&id, "dispatched"), None).await;
    let (_second, mut replies) = link(broker.port, &store);
    let next = within(replies.recv()).await.unwrap();
    assert_eq!(next.reply.state, CaseState::Dispatched, "the accepted one is done with");
    commit(&mut store, next);
    assert_eq!(store.case(&id).unwrap().unwrap().record.state, CaseState::Dispatched);
    let connections = said_of(&broker, "gridwatch-box-7");
    assert!(
        connections.len() >= 3 && connections.iter().all(|c| c == "p2, c0"),
        "{connections:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_that_dies_without_a_word_is_said_to_be_offline() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, &topics().status()).await;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (link, _replies) = link(broker.port, &store);
    let mut status = async || -> Value { serde_json::from_slice(&subscriber.next().await.payload).unwrap() };
    let online = status().await;
    assert_eq!((&online["state"], &online["node_id"]), (&json!("online"), &json!(NODE)));
    // Without a farewell, as when the power goes: the broker says it for us, and does not know when.
    drop(link);
    let offline = status().await;
    assert_eq!((&offline["state"], offline.get("since")), (&json!("offline"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_which_the_broker_hangs_up_is_found_and_quarantined() {
    // mosquitto closes the connection of an older client that sends a larger packet, and says nothing.
    let broker = Broker::start_with("max_packet_size 15000");
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let before = file(&mut store, 1);
    let poison = file_with(&mut store, 100, 20_000);
    let behind = file(&mut store, 2);
    let (_link, _replies) = link(broker.port, &store);
    let mut platform = Platform::default();
    platform.until(&mut subscriber, &[before, behind]).await;
    let reason = quarantined(&store, &poison).await;
    assert!(reason.contains("5 connections in a row"), "{reason}");
    emptied(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_the_box_that_is_too_large_does_not_shut_it_out() {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "elsewhere").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, mut replies) = link(broker.port, &store);
    connected(&link).await;
    platform.say(&topics().reply(), &"x".repeat(5 << 20), None).await;
    within(link.state().wait_for(|s| !s.connected)).await.unwrap();
    connected(&link).await;
    let incoming = within(async {
        loop {
            // What is said before the broker forgot goes with the rest, so it is said until it comes.
            platform.say(&topics().reply(), &reply(&id, "accepted"), None).await;
            let soon = tokio::time::timeout(std::time::Duration::from_secs(1), replies.recv()).await;
            if let Ok(Some(incoming)) = soon {
                return incoming;
            }
        }
    })
    .await;
    assert_eq!(incoming.reply.state, CaseState::Accepted);
    commit(&mut store, incoming);
    assert!(
        said_of(&broker, "gridwatch-box-7").contains(&"p2, c1".to_owned()),
        "once with a clean session: {}",
        broker.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probe_says_whether_the_broker_takes_us() {
    let broker = Broker::start();
    within(probe(settings(broker.port))).await.expect("it is there");
    let named = format!("gridwatch-box-7-check-{}", std::process::id());
    assert_eq!(said_of(&broker, &named), ["p2, c1"], "{}", broker.log());

    let closed = Broker::start_with("allow_anonymous false");
    let login = Some(Credentials {
        user: NODE.into(),
        password: "hunter2".into(),
    });
    let refused = within(probe(Settings {
        login,
        ..settings(closed.port)
    }))
    .await
    .unwrap_err()
    .to_string();
    assert!(
        refused.contains("NotAuthorized") && refused.contains(&closed.port.to_string()),
        "{refused}"
    );
    assert!(!refused.contains("hunter2"), "{refused}");
}

/// A broker that answers a greeting with `answer` and hangs up.
async fn one_that_answers(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(1024)).await.unwrap();
        stream.write_all(answer).await.unwrap();
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_of_the_other_version_is_told_with_what_to_write() {
    // MQTT 3.1.1, 3.1.2.2: the refusal of a protocol level that the broker does not know.
    const REFUSED: &[u8] = &[0x20, 2, 0, 1];
    let old = one_that_answers(REFUSED).await;
    let said = within(probe(filing::settings(old))).await.unwrap_err().to_string();
    assert!(said.contains("broker.protocol = \"3.1.1\""), "{said}");
    // Some hang up instead.
    let silent = one_that_answers(&[]).await;
    let said = within(probe(filing::settings(silent))).await.unwrap_err().to_string();
    assert!(said.contains("broker.protocol = \"3.1.1\""), "{said}");
    let new = one_that_answers(REFUSED).await;
    let said = within(probe(settings(new))).await.unwrap_err().to_string();
    assert!(said.contains("broker.protocol = \"5\""), "{said}");
}
