//! Packets that never come cost the picture they belong to, not the connection; a keyframe that lacks one is not shown.

mod support;

use std::{collections::HashSet, sync::Arc};

use support::{
    Camera,
    clips::{self, SMALL},
    scripted::{Script, Scripted, nals},
    settings, until,
};

#[test]
fn only_whole_keyframes_are_offered() {
    let clip = clips::clip(SMALL);
    let server = Scripted::start(
        &clip,
        Script {
            // Each second keyframe (every 25 units) loses one packet: the first slice's start, the middle, or the end.
            mangle: Arc::new(|place, packet| {
                let nth = place.unit / 25;
                let lost = match nth % 6 {
                    1 => place.of - 1,
                    3 => place.of / 2,
                    5 => place.of.saturating_sub(2),
                    _ => usize::MAX,
                };
                if place.keyframe && place.packet == lost {
                    Vec::new()
                } else {
                    vec![packet]
                }
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
    for n in 0..6 {
        let keyframe = camera.keyframe_after(n);
        assert!(whole.contains(&slices(&keyframe.data)), "keyframe {n} is torn");
    }
    let stats = until("twelve seconds of stream", || {
        Some(camera.slot().stats()).filter(|s| s.lost_packets >= 4)
    });
    assert_eq!((server.connections(), stats.reconnects), (1, 0));
    // Half of the keyframes lost a packet.
    assert!(stats.keyframes * 25 < stats.frames, "{stats:?}");
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
