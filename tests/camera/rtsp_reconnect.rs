//! A camera that dies is reported down, and received again as soon as it is back.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    farm, mount, settings, until,
};
use gridwatch_camera::CameraState;
use gridwatch_farm::{Farm, FarmConfig};

#[test]
fn stopped_camera_is_down_and_recovers() {
    let clip = clips::clip(SMALL);
    let farm = Farm::start(FarmConfig {
        mounts: vec![mount("cam", &clip), mount("other", &clip)],
        ..FarmConfig::default()
    })
    .unwrap();
    let camera = Camera::receive(settings(&farm.url("cam")));
    let other = Camera::receive(settings(&farm.url("other")));
    camera.keyframe_after(0);
    other.keyframe_after(0);

    farm.stop("cam").unwrap();
    camera.wait_down();
    let newest = camera.slot().latest().map(|(seq, _)| seq);
    assert_eq!(newest, Some(camera.slot().seq()), "the newest picture is kept");
    let error = until("status 404", || match camera.slot().state() {
        CameraState::Down { error, .. } if error.contains("404") => Some(error.to_string()),
        _ => None,
    });
    assert!(error.contains("path"), "{error}");

    let seen = camera.slot().seq();
    farm.restart("cam").unwrap();
    camera.keyframe_after(seen);
    camera.wait_live();
    let stats = other.slot().stats();
    assert_eq!((stats.reconnects, stats.lost_packets), (0, 0));
}

#[test]
fn restarted_server_on_the_same_port_is_received_again() {
    let clip = clips::clip(SMALL);
    let first = farm(&clip, None);
    let (url, port) = (first.url("cam"), first.port());
    let camera = Camera::receive(settings(&url));
    camera.keyframe_after(0);
    drop(first);
    camera.wait_down();
    let seen = camera.slot().seq();
    let _second = Farm::start(FarmConfig {
        port: Some(port),
        auth: None,
        certificate: None,
        mounts: vec![mount("cam", &clip)],
    })
    .unwrap();
    camera.keyframe_after(seen);
}
