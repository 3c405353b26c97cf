//! Three boxes watch the same street on one broker: its heap is filed once, even if one of them dies.

use crate::broker::{Broker, Subscriber};
use crate::daemon::{Daemon, farm, gridwatch, json_lines};
use gridwatch_config::raw::EnrolledBox;
use gridwatch_contract::CaseRecord;
use gridwatch_store::Store;

const CAMERAS: [&str; 1] = ["street-a"];
/// Twice the looks that a case takes.
const LOOKS: f64 = 8.0;

fn cases(platform: &mut Subscriber) -> Vec<CaseRecord> {
    let heard = platform.drain().into_iter();
    heard
        .map(|message| serde_json::from_slice(&message.payload).unwrap())
        .collect()
}

fn linked(daemon: &Daemon) -> bool {
    daemon.metric("gridwatch_candidates_not_filed_total", "open_elsewhere") >= 1.0
}

#[tokio::test(flavor = "multi_thread")]
async fn three_daemons_that_see_one_heap_file_it_once() {
    let farm = farm(&CAMERAS);
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    // Each is enrolled with the others by its configuration.
    let enrolled: Vec<EnrolledBox> = (1..)
        .zip(&dirs)
        .map(|(n, dir)| EnrolledBox {
            node: format!("box-{n}"),
            public_key: Store::open(&dir.path().join("state"))
                .unwrap()
                .public_key()
                .unwrap()
                .to_string(),
        })
        .collect();
    let mut boxes: Vec<(String, Daemon)> = (1..)
        .zip(&dirs)
        .map(|(n, dir)| {
            let node = format!("box-{n}");
            let daemon = Daemon::start_with(dir.path(), &farm, &CAMERAS, broker.port, |file| {
                file.node.id.clone_from(&node);
                file.claims.boxes.clone_from(&enrolled);
            });
            (node, daemon)
        })
        .collect();

    let mut filed = Vec::new();
    boxes[0].1.until("a case", |_| {
        filed.extend(cases(&mut platform));
        (!filed.is_empty()).then_some(())
    });
    let owner = filed[0].node_id.clone();
    for (_, daemon) in boxes.iter_mut().filter(|(node, _)| *node != owner) {
        daemon.until("the link to the other's case", |d| linked(d).then_some(()));
    }

    // The box that filed the case dies; the case stays open.
    let place = boxes.iter().position(|(node, _)| *node == owner).unwrap();
    boxes.remove(place).1.kill();
    for (_, daemon) in &mut boxes {
        let looks = |d: &Daemon| d.metric("gridwatch_looks_total", "");
        let before = looks(daemon);
        daemon.until("many looks", |d| (looks(d) >= before + LOOKS).then_some(()));
    }
    filed.extend(cases(&mut platform));
    let ids: Vec<&str> = filed.iter().map(|r| r.case_id.as_str()).collect();
    assert_eq!(filed.len(), 1, "{ids:?}");

    // A case that another box confirmed but did not file is recorded there as a duplicate.
    for (n, dir) in (1..).zip(&dirs).filter(|(n, _)| format!("box-{n}") != owner) {
        let state = dir.path().join("state");
        let state = state.to_str().unwrap();
        let cases = json_lines(&["cases", "list", "--json", "--state", state]);
        assert_eq!(cases.len(), 1, "box-{n}: {cases:?}");
        assert_eq!(cases[0]["state"], "duplicate_of");
        assert_eq!(cases[0]["held_back_for"]["node_id"], owner.as_str());
        assert_eq!(cases[0]["held_back_for"]["case_id"], ids[0]);
        let listed = gridwatch(&["cases", "list", "--state", state]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("= Held back for another box's case"), "{listed}");
    }
}
