//! The daemon is restarted while a heap dwells: the dwell continues.

use crate::broker::{Broker, Subscriber, topic};
use crate::daemon::{Daemon, farm};
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
}
