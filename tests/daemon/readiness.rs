//! Ready means that a problem in front of the cameras would be filed now.

use crate::broker::Broker;
use crate::daemon::{Daemon, farm};
use gridwatch_config::raw::Backend;

/// Status, and the JSON body.
fn readyz(daemon: &Daemon) -> Option<(u16, serde_json::Value)> {
    let (status, body) = daemon.get("/readyz")?;
    Some((status, serde_json::from_str(&body).expect("JSON")))
}

fn text(value: &serde_json::Value) -> String {
    value.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_with_a_clear_view_and_a_broker_is_ready_and_names_the_blind_camera() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["square-c"]);
    let mut broker = Broker::start();
    // street-a is configured but not served.
    let mut daemon = Daemon::start(dir.path(), &farm, &["square-c", "street-a"], broker.port);
    let body = daemon
        .until("readiness", |d| readyz(d).filter(|(status, _)| *status == 200))
        .1;
    assert_eq!(body["ready"], true);
    let degraded = text(&body["degraded"]);
    assert!(
        degraded.contains("camera street-a") && !degraded.contains("square-c"),
        "{body}"
    );
    assert_eq!(daemon.metric("gridwatch_ready", ""), 1.0);

    // An outage of seconds changes nothing.
    broker.kill();
    daemon.until("the outage noticed", |d| {
        (d.metric("gridwatch_link_connected", "") == 0.0).then_some(())
    });
    assert_eq!(readyz(&daemon).unwrap().0, 200);
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_with_more_blind_cameras_than_its_share_allows_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["square-c"]);
    let broker = Broker::start();
    // One of two has a clear view.
    let mut daemon = Daemon::start_with(dir.path(), &farm, &["square-c", "street-a"], broker.port, |file| {
        file.telemetry.max_blind_share = 0.4;
    });
    daemon.until("a clear look", |d| {
        let body = readyz(d)?.1;
        (text(&body).contains("1 of 2 cameras have no clear view")).then_some(())
    });
    let (status, body) = readyz(&daemon).unwrap();
    assert_eq!((status, &body["ready"]), (503, &false.into()), "{body}");
    let reasons = text(&body["reasons"]);
    assert!(
        reasons.contains("camera street-a") && !reasons.contains("square-c"),
        "{body}"
    );
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_box_with_its_only_camera_and_the_broker_refused_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["square-c"]);
    let broker = {
        let broker = Broker::start();
        broker.port
    };
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a"], broker);
    daemon.until("the camera refused", |d| {
        (d.metric("gridwatch_camera_state", "street-a\",state=\"down") == 1.0).then_some(())
    });
    let (status, body) = readyz(&daemon).unwrap();
    let reasons = text(&body["reasons"]);
    assert_eq!((status, &body["ready"]), (503, &false.into()), "{body}");
    assert!(
        reasons.contains("cameras: ") && reasons.contains("camera street-a"),
        "{body}"
    );
    assert!(reasons.contains(&format!("broker: 127.0.0.1:{broker}")), "{body}");
    assert_eq!(daemon.get("/healthz").unwrap().0, 200);
    assert_eq!(daemon.metric("gridwatch_ready", ""), 0.0);
    assert!(daemon.stop().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_hardware_decoder_it_is_told_to_use_the_daemon_does_not_start() {
    let has_hardware = gridwatch_camera::decode::Decoder::new("test", Backend::Hardware).is_ok_and(|mut decoder| {
        let keyframe = gridwatch_camera::Keyframe {
            camera: "test".into(),
            seq: 0,
            captured_at: jiff::Timestamp::UNIX_EPOCH,
            codec: gridwatch_camera::Codec::H264,
            data: include_bytes!("../../src/cli/check/keyframe.h264").as_slice().into(),
        };
        decoder.decode(&keyframe).is_ok()
    });
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["square-c"]);
    let mut daemon = Daemon::start_with(dir.path(), &farm, &["square-c"], 1, |file| {
        file.decode.backend = Backend::Hardware;
    });
    if has_hardware {
        daemon.until("the start", |d| d.get("/healthz"));
    } else {
        assert_eq!(daemon.wait_for_exit().code(), Some(3), "{}", daemon.log());
        assert!(daemon.log().contains("decode.backend"), "{}", daemon.log());
    }
}
