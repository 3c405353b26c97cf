//! The database is deleted while the daemon runs: it stops filing and says so, does not start without one, and once it is started
//! anew on purpose, its own claims at the broker keep it from filing what the platform already has.

use std::fs;

use crate::broker::{Broker, Subscriber};
use crate::daemon::{Daemon, farm, gridwatch};

const CAMERAS: [&str; 1] = ["street-a"];

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_database_is_noticed_and_nothing_is_filed_twice() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&CAMERAS);
    let broker = Broker::start();
    let mut platform = Subscriber::start(broker.port, "gridwatch/v1/+/case").await;
    let mut daemon = Daemon::start(dir.path(), &farm, &CAMERAS, broker.port);
    let filed = daemon.until("the case at the platform", |_| platform.drain().into_iter().next());
    // Its claim says so, too.
    let mut claims = Subscriber::start(broker.port, "gridwatch/v1/site/#").await;
    daemon.until("the claim of the filed case", |_| {
        let is_filed = |payload: &[u8]| String::from_utf8_lossy(payload).contains("\"filed\":true");
        claims.drain().iter().any(|m| is_filed(&m.payload)).then_some(())
    });
    assert_eq!(daemon.get("/readyz").unwrap().0, 200);

    let state = dir.path().join("state");
    for name in ["gridwatch.db", "gridwatch.db-wal", "gridwatch.db-shm"] {
        fs::remove_file(state.join(name)).unwrap();
    }
    let reason = daemon
        .until("not ready", |d| d.get("/readyz").filter(|(status, _)| *status == 503))
        .1;
    assert!(reason.contains("gridwatch.db was deleted or replaced"), "{reason}");
    assert!(
        daemon.log().contains("Database is gone or cannot be read"),
        "{}",
        daemon.log()
    );
    let config = daemon.config().to_owned();
    assert!(daemon.stop().success());

    let refused = gridwatch(&["run", "--config", &config]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(
        message.contains("store restore FILE") && message.contains("store new"),
        "{message}"
    );
    let anew = gridwatch(&["store", "new", "--config", &config]).output().unwrap();
    assert!(anew.status.success(), "{anew:?}");

    let mut daemon = Daemon::start(dir.path(), &farm, &CAMERAS, broker.port);
    daemon.until("the heap recognised as the lost case", |d| {
        (d.metric("gridwatch_candidates_not_filed_total", "open_elsewhere") >= 1.0).then_some(())
    });
    let again = platform.drain();
    assert!(again.iter().all(|m| m.payload == filed.payload), "{again:?}");
    assert!(daemon.stop().success());
}
