//! A camera that dies in the middle of a GOP is down; when it is back, its pictures are too, by themselves.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    farm, mount, settings, until,
};
use gridwatch_camera::State;
use gridwatch_farm::{Farm, FarmConfig};

#[test]
fn death_and_return_of_one_camera() {
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
    assert_eq!(newest, Some(camera.slot().seq()), "what was seen stays");
    let gone = until("it is known to be gone", || match camera.slot().state() {
        State::Down { error, .. } if error.contains("404") => Some(error),
        _ => None,
    });
    assert!(gone.contains("path"), "{gone}");

    let seen = camera.slot().seq();
    farm.revive("cam").unwrap();
    camera.keyframe_after(seen);
    camera.wait_live();
    let stats = other.slot().stats();
    assert_eq!((stats.reconnects, stats.lost_packets), (0, 0));
}

#[test]
fn death_and_return_of_all_on_the_same_port() {
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
