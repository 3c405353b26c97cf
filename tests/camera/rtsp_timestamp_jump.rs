//! RTP timestamps that jump by hours in either direction do no harm: frames are timed by arrival.

use std::sync::Arc;

use crate::support::{
    Camera,
    clips::{self, SMALL},
    scripted_camera::{Script, ScriptedCamera},
    settings,
};

#[test]
fn timestamp_jumps_keep_the_connection_and_all_keyframes() {
    let server = ScriptedCamera::start(
        &clips::clip(SMALL),
        Script {
            mangle: Arc::new(|at, mut packet| {
                const HOUR: u32 = 3600 * 90_000;
                packet.timestamp = packet.timestamp.wrapping_add(match at.unit / 10 % 4 {
                    0 => 0,
                    1 => HOUR,
                    2 => HOUR.wrapping_mul(9),
                    _ => 0u32.wrapping_sub(HOUR),
                });
                vec![packet]
            }),
            ..Script::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    let mut before = None;
    for n in 0..6 {
        let at = camera.keyframe_after(n).captured_at;
        assert!(before.is_none_or(|b| b < at), "captured_at increases");
        before = Some(at);
    }
    let stats = camera.slot().stats();
    assert_eq!((server.connections(), stats.damaged, stats.reconnects), (1, 0, 0));
}
