//! RTP over UDP, if configured.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    farm, settings,
};
use gridwatch_camera::{Transport, receive::ReceiverSettings};

#[test]
fn keyframes_arrive_over_udp() {
    let farm = farm(&clips::clip(SMALL), None);
    let camera = Camera::receive(ReceiverSettings {
        transport: Transport::Udp,
        ..settings(&farm.url("cam"))
    });
    camera.keyframe_after(1);
}
