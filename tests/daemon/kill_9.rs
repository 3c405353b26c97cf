//! The daemon files a case while its broker is down, is killed and restarted: the case and its pictures reach the subscriber, and
//! the heap that still lies there is not filed again.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::{Broker, Subscriber, topic};
use crate::daemon::{Daemon, farm, gridwatch, json_lines};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;

const CAMERAS: [&str; 1] = ["street-a"];

#[tokio::test(flavor = "multi_thread")]
async fn a_case_survives_a_broker_outage_and_a_killed_daemon_and_is_filed_once() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&CAMERAS);
    let mut broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/#").await;
    broker.kill();

    let mut first = Daemon::start(dir.path(), &farm, &CAMERAS, broker.port);
    first.until("a committed case", |d| {
        (d.metric("gridwatch_cases_total", "") == 1.0).then_some(())
    });
    let listed = json_lines(&["cases", "list", "--json", "--config", first.config()]);
    let [case] = listed.as_slice() else {
        panic!("one case, not {listed:?}")
    };
    assert_eq!(case["category_code"], "0102");
    // Five pictures and the case itself.
    assert_eq!(case["queued"], 6, "{case}");
    let id = case["case_id"].as_str().unwrap().to_owned();
    let shown = gridwatch(&["cases", "show", &id, "--config", first.config()])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "暴露垃圾",
        "6 messages that the platform may not have",
        "overlay",
        "closeup",
        "filed",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    first.kill();

    broker.restart();
    platform.wait_subscribed().await;
    let mut second = Daemon::start(dir.path(), &farm, &CAMERAS, broker.port);
    second.until("an empty outbox", |d| {
        let listed = json_lines(&["cases", "list", "--json", "--config", d.config()]);
        (listed[0]["queued"] == 0).then_some(())
    });
    // The heap has dwelt again for as long as it took to be filed, and is recognised as an open case.
    second.until("the heap recognised", |d| {
        (d.metric("gridwatch_candidates_not_filed_total", "open_case_at_site") >= 1.0).then_some(())
    });
    assert_eq!(second.metric("gridwatch_cases_total", ""), 0.0);
    assert!(second.stop().success());

    let mut pictures = BTreeSet::new();
    let mut cases = BTreeMap::new();
    for message in platform.drain() {
        let topic = topic(&message);
        if topic.contains("/evidence/") {
            let sha256 = sha256_hex(&message.payload);
            assert!(topic.ends_with(&sha256), "{topic} carries {sha256}");
            pictures.insert(sha256);
        } else if topic.ends_with("/case") {
            let record: CaseRecord = serde_json::from_slice(&message.payload).unwrap();
            assert!(
                record.evidence.iter().all(|e| pictures.contains(&e.sha256)),
                "the pictures come before their case"
            );
            cases.insert(record.case_id.clone(), record);
        }
    }
    assert_eq!(cases.keys().collect::<Vec<_>>(), [&id]);
    let record = &cases[&id];
    assert!(record.evidence.iter().all(|e| e.masked));
}

/// The health and metrics endpoints of a daemon whose broker and one of two cameras are unreachable.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_its_broker_and_a_camera_is_healthy_and_reports_both() {
    let dir = tempfile::tempdir().unwrap();
    // street-a is configured but not served.
    let cameras = ["square-c", "street-a"];
    let farm = farm(&["square-c"]);
    let broker = {
        let broker = Broker::start();
        broker.port
    };
    let mut daemon = Daemon::start(dir.path(), &farm, &cameras, broker);
    daemon.until("a look", |d| {
        (d.metric("gridwatch_looks_total", "square-c") >= 2.0).then_some(())
    });
    daemon.signal(rustix::process::Signal::HUP);
    daemon.until("a word about SIGHUP", |d| {
        d.log().contains("Configuration unchanged").then_some(())
    });
    daemon.signal(rustix::process::Signal::USR1);
    daemon.signal(rustix::process::Signal::USR2);
    daemon.until("a word about SIGUSR1 and SIGUSR2", |d| {
        let log = d.log();
        (log.contains("SIGUSR1 ignored") && log.contains("SIGUSR2 ignored")).then_some(())
    });
    let open = open_to_others(&dir.path().join("state"));
    assert_eq!(open, [""; 0], "the state directory is for the daemon's user only");
    assert_eq!(daemon.get("/healthz").unwrap(), (200, "ok\n".to_owned()));
    let (status, body) = daemon.get("/readyz").unwrap();
    assert_eq!(status, 503, "the broker was never reached: {body}");
    assert!(body.contains("broker: ") && body.contains("camera street-a"), "{body}");
    assert!(!body.contains("cameras: "), "square-c sees: {body}");
    assert_eq!(daemon.get("/nothing").unwrap().0, 404);
    let (status, metrics) = daemon.get("/metrics").unwrap();
    assert_eq!(status, 200);
    for name in [
        "gridwatch_camera_state{",
        "gridwatch_last_look_timestamp_seconds{camera=\"square-c\"}",
        "gridwatch_keyframe_interval_seconds{camera=\"square-c\"}",
        "gridwatch_decode_seconds_bucket",
        "gridwatch_detect_seconds_bucket{model=\"garbage_nano_416\"",
        "gridwatch_look_lateness_seconds_bucket",
        "gridwatch_schedule_stretch 1",
        "gridwatch_outbox_depth 0",
        "gridwatch_link_connected 0",
    ] {
        assert!(
            metrics.lines().any(|l| l.starts_with(name)),
            "{name} is not in\n{metrics}"
        );
    }
    let state = |camera: &str, state: &str| {
        metrics.lines().any(|l| {
            l.starts_with("gridwatch_camera_state{") && l.contains(camera) && l.contains(state) && l.ends_with(" 1")
        })
    };
    assert!(state("square-c", "live"), "{metrics}");
    assert!(state("street-a", "down"), "{metrics}");
    assert!(daemon.stop().success());
}

/// The files and folders in `path`, and itself, that the group or others may use.
fn open_to_others(path: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    // A temporary file may be gone by now.
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if metadata.mode() & 0o077 != 0 {
        found.push(format!("{:o} {}", metadata.mode() & 0o777, path.display()));
    }
    if metadata.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        found.extend(entries.flat_map(|entry| open_to_others(&entry.path())));
    }
    found
}
