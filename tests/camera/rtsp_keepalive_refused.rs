//! A camera that refuses keep-alives is received on, as long as it sends pictures.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    scripted_camera::{Script, Scripted},
    settings, until,
};

fn refused_with(keepalive: &'static str) {
    let server = Scripted::start(
        &clips::clip(SMALL),
        Script {
            session_timeout: 2,
            keepalive,
            ..Script::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    until("three keep-alives", || (server.keepalives() >= 3).then_some(()));
    let seen = camera.slot().seq();
    camera.keyframe_after(seen + 1);
    assert_eq!(server.connections(), 1, "{:?}", camera.slot().state());
}

#[test]
fn refused_as_unknown() {
    refused_with("501 Not Implemented");
}

#[test]
fn refused_as_bad() {
    refused_with("400 Bad Request");
}

#[test]
fn refused_as_no_session() {
    refused_with("454 Session Not Found");
}
