//! A dead, silent or hostile camera is reported down with a reason and retried, and does not affect other cameras.

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
    scripted_camera::{Script, ScriptedCamera},
    settings, until,
};
use gridwatch_camera::receive::{ReceiverSettings, Timeouts};

fn short_timeouts(url: &str) -> ReceiverSettings {
    ReceiverSettings {
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        },
        ..settings(url)
    }
}

#[test]
fn hostile_cameras_are_down_with_a_reason_and_others_stay_live() {
    let clip = clips::clip(SMALL);
    let farm = farm(&clip, None);
    let good = Camera::receive(settings(&farm.url("cam")));
    good.keyframe_after(0);

    let script = Script::default;
    let mute = Script { mute: true, ..script() };
    let garbage = Script {
        garbage: b"$\x09 neither RTP nor RTSP\r\n\r\n".repeat(100),
        ..script()
    };
    // An access unit that never ends: no marker bits, no FU-A end bits, one timestamp.
    let endless = Script {
        mangle: Arc::new(|at, mut packet| {
            packet.marker = false;
            packet.timestamp = 0;
            if at.unit > 0 && at.packet == 0 {
                Vec::new()
            } else {
                packet.payload[1] &= !0x40;
                vec![packet]
            }
        }),
        ..script()
    };
    // One NAL unit of 12 MB: the same fragment 10,000 times, with consecutive sequence numbers.
    let shift = AtomicU16::new(0);
    let huge = Script {
        mangle: Arc::new(move |at, mut packet| {
            packet.seq = packet.seq.wrapping_add(shift.load(Ordering::Relaxed));
            if !(at.keyframe && at.packet == at.packets / 2) {
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
        .map(|s| ScriptedCamera::start(&clip, s))
        .collect();
    let bad: Vec<_> = servers
        .iter()
        .map(|s| Camera::receive(short_timeouts(&s.url())))
        .collect();
    let closed_port = Camera::receive(short_timeouts("rtsp://127.0.0.1:1/cam"));

    assert!(bad[0].wait_down().contains("no answer"));
    // Skipped as other players do: the stream goes on behind it.
    bad[1].keyframe_after(0);
    let endless = bad[2].wait_down();
    assert!(endless.contains("no frame"), "{endless}");
    // On a machine that is slow, the unit has not come whole when the first attempt ends.
    until("the unit exceeds the limit", || {
        bad[3].wait_down().contains("exceeds the limit").then_some(())
    });
    let refused = closed_port.wait_down();
    assert!(refused.contains("refused"), "{refused}");
    // Each is retried.
    for (server, camera) in servers.iter().zip(&bad).filter(|(_, c)| !std::ptr::eq(*c, &bad[1])) {
        until("a second attempt", || (server.connections() >= 2).then_some(()));
        assert!(camera.slot().stats().reconnects >= 1);
    }
    let before = good.slot().seq();
    good.keyframe_after(before + 1);
    let stats = good.slot().stats();
    assert_eq!((stats.reconnects, stats.lost_packets), (0, 0));
}
