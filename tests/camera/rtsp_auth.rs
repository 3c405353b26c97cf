//! Digest and Basic authentication. A wrong password is reported as such, and never printed.

use crate::support::{
    Camera,
    clips::{self, SMALL},
    credentials, farm, settings,
};
use gridwatch_farm::{Auth, AuthMethod};

fn auth(method: AuthMethod) -> Option<Auth> {
    Some(Auth {
        method,
        user: "viewer".into(),
        password: "right-horse".into(),
    })
}

fn logs_in(method: AuthMethod) {
    let farm = farm(&clips::clip(SMALL), auth(method));
    let camera = Camera::receive(gridwatch_camera::receive::ReceiverSettings {
        credentials: credentials("viewer", "right-horse"),
        ..settings(&farm.url("cam"))
    });
    camera.keyframe_after(0);
}

#[test]
fn digest_login_succeeds() {
    logs_in(AuthMethod::Digest);
}

#[test]
fn basic_login_succeeds() {
    logs_in(AuthMethod::Basic);
}

#[test]
fn wrong_password_is_reported_without_credentials() {
    let farm = farm(&clips::clip(SMALL), auth(AuthMethod::Digest));
    let settings = gridwatch_camera::receive::ReceiverSettings {
        credentials: credentials("viewer", "wrong-horse"),
        ..settings(&farm.url("cam"))
    };
    assert!(!format!("{settings:?}").contains("wrong-horse"));
    let camera = Camera::receive(settings);
    let error = camera.wait_down();
    assert!(error.contains("401") && error.contains("credentials"), "{error}");
    assert!(!error.contains("horse") && !error.contains("viewer"), "{error}");
    assert_eq!(camera.slot().seq(), 0);
}

#[test]
fn missing_password_is_reported() {
    let farm = farm(&clips::clip(SMALL), auth(AuthMethod::Digest));
    let camera = Camera::receive(settings(&farm.url("cam")));
    assert!(camera.wait_down().contains("401"));
}
