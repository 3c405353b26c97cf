//! A reply is acknowledged once it is committed, and not before; what is no reply is thrown away and holds up nothing.

use crate::broker::{Broker, Subscriber, within};
use crate::filing;
use crate::filing::{at, file, form, link, revision, topics};
use gridwatch_engine::CaseState;
use gridwatch_link::{IncomingReply, LinkHandle};
use gridwatch_store::Store;
use serde_json::json;

async fn connected(link: &LinkHandle) {
    within(link.state().wait_for(|s| s.connected)).await.unwrap();
}

fn text(case: &str, state: &str) -> String {
    json!({"case_id": case, "state": state, "reason": "已派单", "platform_task_no": "T-1"}).to_string()
}

/// What the daemon does with a reply.
fn commit(store: &mut Store, incoming: IncomingReply) {
    let decided = revision(incoming.reply.case.as_str(), incoming.reply.state, 5000, "已派单");
    store
        .apply_reply(&incoming.message, at(5000), Some(&decided), &form())
        .unwrap();
    incoming.committed.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_reaches_the_daemon_and_the_store() {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, mut replies) = link(broker.port, &store);
    connected(&link).await;
    platform
        .say(&topics().reply(), &text(&id, "dispatched"), Some(&id))
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

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_was_not_committed_comes_again_and_a_committed_one_does_not() {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let id = file(&mut store, 1);
    let (link, mut replies) = link(broker.port, &store);
    connected(&link).await;
    platform.say(&topics().reply(), &text(&id, "accepted"), None).await;
    // The disk is full, say: nothing is answered.
    drop(within(replies.recv()).await.unwrap());
    let again = within(replies.recv()).await.unwrap();
    assert_eq!(again.reply.state, CaseState::Accepted);
    commit(&mut store, again);

    // Another connection of the same box: the broker has nothing left but what is said now.
    link.shutdown().await;
    platform.say(&topics().reply(), &text(&id, "dispatched"), None).await;
    let (_link, mut replies) = filing::link(broker.port, &store);
    let next = within(replies.recv()).await.unwrap();
    assert_eq!(
        next.reply.state,
        CaseState::Dispatched,
        "the broker kept it while the box was away: {}",
        broker.log()
    );
    commit(&mut store, next);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_replies_are_thrown_away_and_hold_up_nothing() {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let (id, other) = (file(&mut store, 1), file(&mut store, 2));
    let (link, mut replies) = link(broker.port, &store);
    connected(&link).await;
    let reply = topics().reply();
    let forged = [
        "not JSON\nERROR forged log line".into(),
        json!({"case_id": id}).to_string(),
        json!({"case_id": id, "state": "accepted", "reson": "misspelt"}).to_string(),
        json!({"case_id": id, "state": "exploded"}).to_string(),
        json!({"case_id": "01JW0000000000000000000000", "state": "accepted"}).to_string(),
        json!({"case_id": "' OR 1=1 --", "state": "accepted"}).to_string(),
        json!({"case_id": id, "state": "accepted", "reason": "x".repeat(2001)}).to_string(),
        "x".repeat(200_000),
        text(&id, "filed"),
        text(&id, "withdrawn"),
    ];
    // More than the broker may have unacknowledged at us: had they stopped the queue, the last would never come.
    for _ in 0..3 {
        for payload in &forged {
            platform.say(&reply, payload, None).await;
        }
    }
    platform.say(&reply, &text(&id, "accepted"), Some(&other)).await;
    platform.say(&reply, &text(&id, "accepted"), Some(&id)).await;
    let incoming = within(replies.recv()).await.unwrap();
    assert_eq!(
        (incoming.reply.case.as_str(), incoming.reply.state),
        (id.as_str(), CaseState::Accepted)
    );
    commit(&mut store, incoming);
    assert!(replies.try_recv().is_err());
    assert_eq!(store.case(&other).unwrap().unwrap().record.revision, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replies_than_the_daemon_takes_at_once_all_come_in_order() {
    let broker = Broker::start();
    let platform = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    let ids: Vec<_> = (0..60).map(|n| file(&mut store, n)).collect();
    let (link, mut replies) = link(broker.port, &store);
    connected(&link).await;
    for id in &ids {
        platform.say(&topics().reply(), &text(id, "accepted"), None).await;
    }
    for id in &ids {
        let incoming = within(replies.recv()).await.unwrap();
        assert_eq!(incoming.reply.case.as_str(), id);
        commit(&mut store, incoming);
    }
}
