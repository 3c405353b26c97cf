//! Servers that answer in odd ways: redirects, refusals, keep-alives without an answer, sessions that end.

use std::{sync::Arc, time::Duration};

use crate::support::{
    Camera,
    clips::{self, SMALL},
    odd_camera::{OddCamera, Oddities, Request},
    settings, until,
};
use gridwatch_camera::receive::{ReceiverSettings, Timeouts};

fn refusing(method: &'static str, status: &'static str) -> Oddities {
    Oddities {
        answer: Arc::new(move |request: &Request| {
            (request.method == method)
                .then(|| format!("RTSP/1.0 {status}\r\nCSeq: {}\r\n\r\n", request.cseq).into_bytes())
        }),
        ..Oddities::default()
    }
}

#[test]
fn a_redirect_is_followed() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            redirect: Some(("/old", "rtsp://127.0.0.1:{port}/cam".into())),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url().replace("/cam", "/old")));
    camera.keyframe_after(0);
}

#[test]
fn a_redirect_to_itself_is_told_with_its_target() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            redirect: Some(("/cam", "rtsp://127.0.0.1:{port}/cam".into())),
            ..Oddities::default()
        },
    );
    let error = Camera::receive(settings(&server.url())).wait_down();
    assert!(error.contains("redirect") && error.contains(&server.url()), "{error}");
}

#[test]
fn a_transport_that_is_not_supported_names_the_other_one() {
    let server = OddCamera::start(&clips::clip(SMALL), refusing("SETUP", "461 Unsupported Transport"));
    let error = Camera::receive(settings(&server.url())).wait_down();
    assert!(error.contains("set `transport` to udp"), "{error}");
}

#[test]
fn a_busy_camera_is_not_told_as_a_wrong_path() {
    let server = OddCamera::start(&clips::clip(SMALL), refusing("DESCRIBE", "503 Service Unavailable"));
    let error = Camera::receive(settings(&server.url())).wait_down();
    assert!(error.contains("no free stream") && !error.contains("path"), "{error}");
}

#[test]
fn pictures_are_life_enough_for_a_camera_that_answers_no_keep_alive() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            session: "4711;timeout=2",
            silent_keep_alive: true,
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    until("three keep-alives", || (server.keep_alives() >= 3).then_some(()));
    let seen = camera.slot().seq();
    camera.keyframe_after(seen + 1);
    assert_eq!(server.connections(), 1, "{:?}", camera.slot().state());
}

#[test]
fn a_silent_camera_is_down_with_the_step_and_is_tried_again() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            answer: Arc::new(|_| Some(Vec::new())),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(ReceiverSettings {
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            idle: Duration::from_secs(1),
        },
        ..settings(&server.url())
    });
    let error = camera.wait_down();
    assert!(error.contains("no answer") && error.contains("DESCRIBE"), "{error}");
    until("another attempt", || (server.connections() >= 3).then_some(()));
}

#[test]
fn a_camera_that_hangs_up_after_each_second_delivers_all_the_same() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            hang_up_after: Some(26),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    until("five connections", || (server.connections() >= 5).then_some(()));
    // Each brought at least its first keyframe.
    assert!(camera.slot().seq() >= 4, "{}", camera.slot().seq());
}
