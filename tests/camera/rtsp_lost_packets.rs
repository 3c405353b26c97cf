//! Packets that never come cost the picture they belong to, not the connection; a keyframe that lacks one is not shown.

use std::{collections::HashSet, sync::Arc};

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    scripted_camera::{Script, Scripted, nals},
    settings, until,
};

#[test]
fn only_whole_keyframes_are_offered() {
    let clip = clips::clip(Spec {
        more: "slices=4",
        ..SMALL
    });
    let server = Scripted::start(
        &clip,
        Script {
            // Each second keyframe (every 25 units) loses its last packet, one in the middle, or its first slices,
            // of which the rest looks like a keyframe of its own.
            mangle: Arc::new(|place, packet| {
                let lost = place.keyframe
                    && match place.unit / 25 % 6 {
                        1 => place.packet == place.of - 1,
                        3 => place.packet == place.of / 2,
                        5 => place.nal + 2 < place.nals,
                        _ => false,
                    };
                if lost { Vec::new() } else { vec![packet] }
            }),
            ..Script::default()
        },
    );
    let slices =
        |data: &[u8]| -> Vec<Vec<u8>> { nals(data).filter(|n| n[0] & 0x1f == 5).map(<[u8]>::to_vec).collect() };
    let whole: HashSet<_> = clip
        .units()
        .iter()
        .filter(|u| u.keyframe)
        .map(|u| slices(&u.data))
        .collect();
    let camera = Camera::receive(settings(&server.url()));
    for n in 0..8 {
        let keyframe = camera.keyframe_after(n);
        assert!(whole.contains(&slices(&keyframe.data)), "keyframe {n} is torn");
    }
    let stats = until("a keyframe without its first slices", || {
        Some(camera.slot().stats()).filter(|s| s.damaged > 0)
    });
    assert_eq!((server.connections(), stats.reconnects), (1, 0));
    assert!(stats.lost_packets > stats.damaged, "{stats:?}");
}

#[test]
fn a_burst_of_losses_is_survived() {
    let server = Scripted::start(
        &clips::clip(SMALL),
        Script {
            mangle: Arc::new(|place, packet| {
                if place.unit % 60 >= 50 {
                    Vec::new()
                } else {
                    vec![packet]
                }
            }),
            ..Script::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    until("losses", || (camera.slot().stats().lost_packets > 20).then_some(()));
    let seen = camera.slot().seq();
    camera.keyframe_after(seen + 1);
    assert_eq!(server.connections(), 1);
}
