//! Cameras that send too much are cut off with a reason and cost the others nothing; many that come back at once are
//! received within seconds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::support::{
    Camera,
    clips::{self, SMALL},
    odd_camera::{OddCamera, Oddities, Request},
    settings, until,
};
use gridwatch_camera::{CameraState, Slot, receive::Receiver};

fn answering(bytes: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Oddities {
    Oddities {
        answer: Arc::new(move |request: &Request| (request.method == "DESCRIBE").then(&bytes)),
        ..Oddities::default()
    }
}

/// Receives an odd camera and a healthy one on one receive thread. Returns why the odd one is cut off, after its third
/// connection.
fn cut_off(oddities: Oddities) -> String {
    let clip = clips::clip(SMALL);
    let (good, bad) = (
        OddCamera::start(&clip, Oddities::default()),
        OddCamera::start(&clip, oddities),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let receive = |server: &OddCamera| {
        Receiver::spawn(
            settings(&server.url()),
            Slot::new("cam".into(), Arc::default()),
            runtime.handle(),
        )
    };
    let (healthy, odd) = (receive(&good), receive(&bad));
    until("the healthy camera", || (healthy.slot().seq() > 0).then_some(()));
    let error = until("the odd camera is down", || match odd.slot().state() {
        CameraState::Down { error, .. } => Some(error.to_string()),
        _ => None,
    });
    until("three attempts", || (bad.connections() >= 3).then_some(()));
    let seen = healthy.slot().seq();
    until("more keyframes", || (healthy.slot().seq() > seen + 1).then_some(()));
    let stats = healthy.slot().stats();
    assert_eq!((stats.reconnects, stats.lost_packets, stats.damaged), (0, 0, 0));
    error
}

#[test]
fn an_endless_header_line_is_cut_off() {
    let error = cut_off(answering(|| vec![b'a'; 8 << 20]));
    assert!(
        error.contains("above the limit") || error.contains("belong to no RTSP message"),
        "{error}"
    );
    let error = cut_off(answering(|| {
        let mut line = b"RTSP/1.0 200 OK\r\nX-Endless: ".to_vec();
        line.resize(8 << 20, b'a');
        line
    }));
    assert!(error.contains("above the limit"), "{error}");
}

#[test]
fn an_announced_body_of_gigabytes_is_cut_off() {
    let error = cut_off(answering(|| {
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: 4000000000\r\n\r\nv=0\r\n"
            .to_vec()
    }));
    assert!(error.contains("above the limit"), "{error}");
}

#[test]
fn a_flood_of_packets_is_cut_off() {
    let error = cut_off(Oddities {
        flood: Some(20),
        ..Oddities::default()
    });
    assert!(
        error.contains("packets") && error.contains("exceeds the limit"),
        "{error}"
    );
}

#[test]
fn thirty_cameras_that_come_back_at_once_are_live_within_seconds() {
    let clip = clips::clip(SMALL);
    let slow = || Oddities {
        fps: 5,
        ..Oddities::default()
    };
    let server = OddCamera::start(&clip, slow());
    let port = server.port();
    let cameras: Vec<_> = (0..30).map(|_| Camera::receive(settings(&server.url()))).collect();
    for camera in &cameras {
        camera.keyframe_after(0);
    }
    drop(server);
    for camera in &cameras {
        camera.wait_down();
    }
    let seen: Vec<u64> = cameras.iter().map(|c| c.slot().seq()).collect();
    let began = Instant::now();
    let _server = OddCamera::start_on(port, &clip, slow());
    for (camera, seen) in cameras.iter().zip(seen) {
        camera.keyframe_after(seen);
    }
    // Aim: 10 s on an idle machine; `--no-capture` shows the measurement.
    println!("30 cameras are live again after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
