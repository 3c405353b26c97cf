//! A process killed between committing cases and sending them loses none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/broker.rs"]
mod broker;
#[path = "support/filing.rs"]
mod filing;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use broker::{Broker, Subscriber, topic};
use filing::{case, file, link, topics};
use gridwatch_contract::CaseRecord;
use gridwatch_store::{Filter, Store};

const CHILD_DIR: &str = "GRIDWATCH_TEST_CHILD_DIR";

/// The child process: files cases and prints their ids until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return; // Not the child process; the test is below.
    };
    let mut store = Store::open(Path::new(&dir)).unwrap();
    for n in 0.. {
        println!("committed {}", file(&mut store, n));
    }
}

/// Runs a child, kills it after it has printed `count` ids, and returns them.
fn killed_after(dir: &Path, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut committed = Vec::new();
    while committed.len() < count {
        let line = lines.next().expect("the child never ends by itself").unwrap();
        if let Some((_, id)) = line.split_once("committed ") {
            committed.push(id.to_owned());
        }
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn no_committed_case_is_lost_by_kill_9() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let printed = killed_after(dir.path(), 5);

    let store = Store::open(dir.path()).unwrap();
    let stored: BTreeSet<_> = store
        .cases(Filter {
            state: None,
            limit: 100_000,
        })
        .unwrap()
        .into_iter()
        .map(|c| c.case_id)
        .collect();
    // The child may have committed one more case than it printed.
    assert!(printed.iter().all(|id| stored.contains(id)), "{printed:?} {stored:?}");
    assert!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .all(|e| !e.unwrap().file_name().to_string_lossy().contains("corrupt"))
    );

    let (_link, _replies) = link(broker.port, &store);
    let mut pictures = BTreeSet::new();
    let mut arrived = BTreeSet::new();
    while arrived != stored {
        let publish = subscriber.next().await;
        if topic(&publish) == topics().case() {
            let record: CaseRecord = serde_json::from_slice(&publish.payload).unwrap();
            assert!(record.evidence.iter().all(|e| pictures.contains(&e.sha256)));
            arrived.insert(record.case_id);
        } else if topic(&publish).contains("/evidence/") {
            pictures.insert(gridwatch_base::digest::sha256_hex(&publish.payload));
        }
    }
    assert_eq!(case(0).id.as_str(), printed[0]);
}
