//! RTP in datagrams, where the configuration says so.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    farm, settings,
};
use gridwatch_camera::{Transport, receive::Settings};

#[test]
fn keyframes_arrive_over_udp() {
    let farm = farm(&clips::clip(SMALL), None);
    let camera = Camera::receive(Settings {
        transport: Transport::Udp,
        ..settings(&farm.url("cam"))
    });
    camera.keyframe_after(1);
}
