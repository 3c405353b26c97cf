//! A camera that rejects keep-alives is received as long as it sends frames.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    scripted_camera::{Script, ScriptedCamera},
    settings, until,
};

fn survives_keepalive_response(keepalive: &'static str) {
    let server = ScriptedCamera::start(
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
fn keepalive_501_keeps_the_connection() {
    survives_keepalive_response("501 Not Implemented");
}

#[test]
fn keepalive_400_keeps_the_connection() {
    survives_keepalive_response("400 Bad Request");
}

#[test]
fn keepalive_454_keeps_the_connection() {
    survives_keepalive_response("454 Session Not Found");
}
