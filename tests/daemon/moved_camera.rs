//! A camera is turned while the daemon runs: nothing is filed from its new view, the operator is warned and shown the view, and
//! once the operator confirms it, cases are filed again.

use std::time::Duration;

use crate::broker::Broker;
use crate::daemon::{Daemon, changed_clip, gridwatch, json_lines};
use gridwatch_engine::{Light, View};
use gridwatch_farm::{Farm, FarmConfig, MountConfig};
use gridwatch_ledger::{Reader, RecordedEvent};

const CAMERA: &str = "street-a";

fn standing(daemon: &Daemon) -> String {
    let lines = json_lines(&["view", "list", "--json", "--config", daemon.config()]);
    lines[0]["standing"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_filed_from_a_camera_that_was_moved_until_its_new_view_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    // Before the heap is there; then with the heap, from the camera turned and zoomed in.
    let before = changed_clip(dir.path(), "before", &["-t", "4"]);
    let turned = changed_clip(dir.path(), "turned", &["-vf", "crop=1200:676:80:44,scale=1280:720"]);
    let night = changed_clip(
        dir.path(),
        "night",
        &["-t", "4", "-vf", "crop=1200:676:80:44,scale=1280:720,hue=s=0"],
    );
    let farm = Farm::start(FarmConfig {
        mounts: vec![MountConfig {
            name: CAMERA.into(),
            clip: before,
            offset: Duration::ZERO,
        }],
        ..FarmConfig::default()
    })
    .unwrap();
    let broker = Broker::start();
    let mut daemon = Daemon::start(dir.path(), &farm, &[CAMERA], broker.port);
    daemon.until("a learned view", |d| (standing(d) == "aimed").then_some(()));
    assert_eq!(daemon.metric("gridwatch_view_moved", CAMERA), 0.0);

    farm.swap(CAMERA, turned).unwrap();
    daemon.until("a moved camera", |d| (standing(d) == "moved").then_some(()));
    assert_eq!(daemon.metric("gridwatch_view_moved", CAMERA), 1.0);
    // Twice as many looks as the heap would have needed.
    daemon.until("many more looks", |d| {
        (d.metric("gridwatch_looks_total", "view=\"moved\"") >= 8.0).then_some(())
    });
    assert_eq!(daemon.metric("gridwatch_cases_total", ""), 0.0);
    assert_eq!(
        daemon.log().matches("Camera was moved; nothing").count(),
        1,
        "{}",
        daemon.log()
    );

    let sheet = dir.path().join("view.png");
    let shown = gridwatch(&["view", "show", CAMERA, "--out", sheet.to_str().unwrap(), "--config"])
        .arg(daemon.config())
        .output()
        .unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&sheet).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it is not masked");
    let (w, h) = image::image_dimensions(&sheet).unwrap();
    assert!(w > 2 * 640 && h > 2 * 360, "{w}×{h}");

    let confirmed = gridwatch(&["view", "confirm", CAMERA, "--config"])
        .arg(daemon.config())
        .output()
        .unwrap();
    assert!(confirmed.status.success(), "{confirmed:?}");
    daemon.until("the new view learned", |d| (standing(d) == "aimed").then_some(()));
    daemon.until("the heap filed", |d| {
        (d.metric("gridwatch_cases_total", "") == 1.0).then_some(())
    });
    assert_eq!(daemon.metric("gridwatch_view_moved", CAMERA), 0.0);

    // Night falls: the same view without colour is recognised from the day's reference, and learned.
    farm.swap(CAMERA, night).unwrap();
    daemon.until("the night learned", |d| {
        (d.log().matches("View learned").count() == 3).then_some(())
    });
    assert!(daemon.stop().success());

    let mut recorded = Reader::open(&dir.path().join("state/ledger"), None).unwrap();
    let (mut reaimed, mut looks) = (Vec::new(), Vec::new());
    while let Some(entry) = recorded.next_entry().unwrap() {
        match entry.event {
            RecordedEvent::Reaimed(r) => reaimed.push(r.camera),
            RecordedEvent::Observed(look) => looks.push((look.view, look.light)),
            _ => {}
        }
    }
    assert_eq!(reaimed, [CAMERA.into()]);
    assert_eq!(looks.first(), Some(&(View::Clear, Light::Day)));
    assert_eq!(looks.last(), Some(&(View::Clear, Light::Night)));
}
