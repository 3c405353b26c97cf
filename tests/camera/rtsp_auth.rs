//! Digest and Basic let the right user in; a wrong password is named as what it is, and never printed.

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

fn lets_in(method: AuthMethod) {
    let farm = farm(&clips::clip(SMALL), auth(method));
    let camera = Camera::receive(gridwatch_camera::receive::Settings {
        credentials: credentials("viewer", "right-horse"),
        ..settings(&farm.url("cam"))
    });
    camera.keyframe_after(0);
}

#[test]
fn digest_lets_the_right_user_in() {
    lets_in(AuthMethod::Digest);
}

#[test]
fn basic_lets_the_right_user_in() {
    lets_in(AuthMethod::Basic);
}

#[test]
fn a_wrong_password_is_named_and_not_printed() {
    let farm = farm(&clips::clip(SMALL), auth(AuthMethod::Digest));
    let settings = gridwatch_camera::receive::Settings {
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
fn no_password_is_refused_too() {
    let farm = farm(&clips::clip(SMALL), auth(AuthMethod::Digest));
    let camera = Camera::receive(settings(&farm.url("cam")));
    assert!(camera.wait_down().contains("401"));
}
