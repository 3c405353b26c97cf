//! A lost packet costs the access unit it belongs to, not the connection. A keyframe with a lost packet is not stored.

use std::{collections::HashSet, sync::Arc};

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    scripted_camera::{Script, ScriptedCamera, nals},
    settings, until,
};

#[test]
fn only_complete_keyframes_are_stored() {
    let clip = clips::clip(Spec {
        more: "slices=4",
        ..SMALL
    });
    let server = ScriptedCamera::start(
        &clip,
        Script {
            // Every other keyframe (a GOP is 25 units) loses its last packet, one in the middle, or its first slices. In
            // the last case the rest looks like a keyframe of its own.
            mangle: Arc::new(|at, packet| {
                let lost = at.keyframe
                    && match at.unit / 25 % 6 {
                        1 => at.packet == at.packets - 1,
                        3 => at.packet == at.packets / 2,
                        5 => at.nal + 2 < at.nals,
                        _ => false,
                    };
                if lost { Vec::new() } else { vec![packet] }
            }),
            ..Script::default()
        },
    );
    let slices =
        |data: &[u8]| -> Vec<Vec<u8>> { nals(data).filter(|n| n[0] & 0x1f == 5).map(<[u8]>::to_vec).collect() };
    let complete: HashSet<_> = clip
        .units()
        .iter()
        .filter(|u| u.keyframe)
        .map(|u| slices(&u.data))
        .collect();
    let camera = Camera::receive(settings(&server.url()));
    for n in 0..8 {
        let keyframe = camera.keyframe_after(n);
        assert!(complete.contains(&slices(&keyframe.data)), "keyframe {n} is incomplete");
    }
    let stats = until("a keyframe without its first slices", || {
        Some(camera.slot().stats()).filter(|s| s.damaged > 0)
    });
    assert_eq!((server.connections(), stats.reconnects), (1, 0));
    assert!(stats.lost_packets > stats.damaged, "{stats:?}");
}

#[test]
fn burst_of_lost_packets_keeps_the_connection() {
    let server = ScriptedCamera::start(
        &clips::clip(SMALL),
        Script {
            mangle: Arc::new(|at, packet| if at.unit % 60 >= 50 { Vec::new() } else { vec![packet] }),
            ..Script::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    until("losses", || (camera.slot().stats().lost_packets > 20).then_some(()));
    let seen = camera.slot().seq();
    camera.keyframe_after(seen + 1);
    assert_eq!(server.connections(), 1);
}
