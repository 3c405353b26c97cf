//! A dead, silent or hostile camera is down with a reason, again and again, and costs the cameras beside it nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use crate::support::{
    Camera,
    clips::{self, SMALL},
    farm,
    scripted_camera::{Script, Scripted},
    settings, until,
};
use gridwatch_camera::receive::{Patience, Settings};

fn hasty(url: &str) -> Settings {
    Settings {
        patience: Patience {
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        },
        ..settings(url)
    }
}

#[test]
fn each_is_down_with_its_reason_and_a_good_one_goes_on() {
    let clip = clips::clip(SMALL);
    let farm = farm(&clip, None);
    let good = Camera::receive(settings(&farm.url("cam")));
    good.keyframe_after(0);

    let script = Script::default;
    let mute = Script { mute: true, ..script() };
    let garbage = Script {
        garbage: b"$\x09 this is no RTP, nor RTSP\r\n\r\n".repeat(100),
        ..script()
    };
    // An access unit that never ends: the last fragment of every NAL unit is left out, no marker is set.
    let endless = Script {
        mangle: Arc::new(|place, mut packet| {
            packet.marker = false;
            packet.timestamp = 0;
            if place.unit > 0 && place.packet == 0 {
                Vec::new()
            } else {
                packet.payload[1] &= !0x40;
                vec![packet]
            }
        }),
        ..script()
    };
    // One NAL unit of 12 MB, made of the same fragment again and again, its sequence numbers in order.
    let shift = AtomicU16::new(0);
    let huge = Script {
        mangle: Arc::new(move |place, mut packet| {
            packet.seq = packet.seq.wrapping_add(shift.load(Ordering::Relaxed));
            if !(place.keyframe && place.packet == place.of / 2) {
                return vec![packet];
            }
            shift.fetch_add(9_999, Ordering::Relaxed);
            (0..10_000)
                .map(|i| {
                    let mut p = packet.clone();
                    p.seq = p.seq.wrapping_add(i);
                    p
                })
                .collect()
        }),
        ..script()
    };
    let servers: Vec<_> = [mute, garbage, endless, huge]
        .into_iter()
        .map(|s| Scripted::start(&clip, s))
        .collect();
    let bad: Vec<_> = servers.iter().map(|s| Camera::receive(hasty(&s.url()))).collect();
    let nobody = Camera::receive(hasty("rtsp://127.0.0.1:1/cam"));

    assert!(bad[0].wait_down().contains("no answer"));
    bad[1].wait_down();
    let endless = bad[2].wait_down();
    assert!(endless.contains("no picture"), "{endless}");
    let huge = bad[3].wait_down();
    assert!(huge.contains("the limit is"), "{huge}");
    let refused = nobody.wait_down();
    assert!(refused.contains("refused"), "{refused}");
    // Each is tried again.
    for (server, camera) in servers.iter().zip(&bad) {
        until("a second attempt", || (server.connections() >= 2).then_some(()));
        assert!(camera.slot().stats().reconnects >= 1);
    }
    let before = good.slot().seq();
    good.keyframe_after(before + 1);
    let stats = good.slot().stats();
    assert_eq!((stats.reconnects, stats.lost_packets), (0, 0));
}
