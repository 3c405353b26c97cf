//! The daemon is restarted while a heap dwells: the dwell continues. What it leaves on the disk and in dumps shows nobody a picture.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::broker::{Broker, Subscriber, topic};
use crate::daemon::{Daemon, farm, gridwatch};
use gridwatch_contract::CaseRecord;
use jiff::Timestamp;

const CAMERAS: [&str; 1] = ["street-a"];

#[tokio::test(flavor = "multi_thread")]
async fn a_dwell_continues_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&CAMERAS);
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;

    let mut first = Daemon::start(dir.path(), &farm, &CAMERAS, broker.port);
    first.until("the heap as a candidate", |d| {
        (d.metric("gridwatch_presence_total", "rule=\"garbage\",reason=\"appeared\"") >= 1.0).then_some(())
    });
    let limits = fs::read_to_string(format!("/proc/{}/limits", first.id())).unwrap();
    let cores = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(
        cores.split_whitespace().filter(|word| *word == "0").count(),
        2,
        "{cores}"
    );
    assert!(first.stop().success());
    let restarted_at = Timestamp::now();

    let mut second = Daemon::start(dir.path(), &farm, &CAMERAS, broker.port);
    let message = second.until("the case at the platform", |_| {
        platform.drain().into_iter().find(|m| topic(m).ends_with("/case"))
    });
    assert!(second.stop().success());
    let record: CaseRecord = serde_json::from_slice(&message.payload).unwrap();
    let entry = |reason: &str| record.presence.iter().find(|e| e.reason == reason);
    assert!(
        entry("appeared").unwrap().first_at.timestamp() < restarted_at,
        "{:?}",
        record.presence
    );
    for reason in ["restarted", "picture_lost", "picture_taken", "confirmed"] {
        assert_eq!(
            entry(reason).map(|e| e.times),
            Some(1),
            "{reason} of {:?}",
            record.presence
        );
    }
    // Its first picture was too new to have been written to disk, so both of the case's pictures are from the second run.
    assert!(record.first_seen_at.timestamp() > restarted_at);
    let mut files = 0;
    assert_private(&dir.path().join("state"), &mut files);
    assert!(files > 10, "{files} files");
    let audit = gridwatch(&["audit", "--json", "--state"])
        .arg(dir.path().join("state"))
        .output()
        .unwrap();
    assert!(audit.status.success(), "{audit:?}");
    let acts = String::from_utf8(audit.stdout).unwrap();
    assert!(
        acts.contains("\"act\":\"configuration\"") && acts.contains(&record.config_sha256),
        "{acts}"
    );
}

/// Everything below `dir` is for its owner alone, and what is not masked evidence is no picture.
fn assert_private(dir: &Path, files: &mut usize) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        if metadata.is_dir() {
            assert_private(&path, files);
            continue;
        }
        *files += 1;
        let bytes = fs::read(&path).unwrap();
        let is_evidence = path.components().any(|part| part.as_os_str() == "evidence");
        let start = &bytes[..bytes.len().min(4096)];
        // Other binary files may have the bytes of a start code by chance.
        let is_binary = start.starts_with(b"SQLite format 3") || start.starts_with(b"GWLEDGER");
        let has_video = start.windows(4).any(|w| w == [0, 0, 0, 1]) && !is_binary;
        let is_picture = image::guess_format(&bytes).is_ok() || has_video;
        assert!(is_evidence || !is_picture, "{}", path.display());
    }
}
