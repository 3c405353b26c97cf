//! The process is killed between committing cases and sending them: nothing is lost.
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

const VICTIM: &str = "GRIDWATCH_TEST_VICTIM";

/// What the child process does: files cases and says so, until it is killed.
#[test]
fn victim() {
    let Some(dir) = std::env::var_os(VICTIM) else {
        return; // Not the child: the test below is the one that counts.
    };
    let mut store = Store::open(Path::new(&dir)).unwrap();
    for n in 0.. {
        println!("committed {}", file(&mut store, n));
    }
}

/// Ids of the cases that a child committed before it was killed in the middle of its work.
fn killed_after(dir: &Path, count: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["victim", "--exact", "--nocapture"])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut committed = Vec::new();
    while committed.len() < count {
        let line = lines.next().expect("the child files for ever").unwrap();
        if let Some((_, id)) = line.split_once("committed ") {
            committed.push(id.to_owned());
        }
    }
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    committed
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_committed_is_lost_by_kill_9() {
    let broker = Broker::start();
    let mut subscriber = Subscriber::start(broker.port, "gridwatch/#").await;
    let dir = tempfile::tempdir().unwrap();
    let said = killed_after(dir.path(), 5);

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
    // The child may have committed one more than it could say; it may not have said one that is not there.
    assert!(said.iter().all(|id| stored.contains(id)), "{said:?} {stored:?}");
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
    assert_eq!(case(0).id.as_str(), said[0]);
}
