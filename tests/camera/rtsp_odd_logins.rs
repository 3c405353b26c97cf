//! Logins that other players manage succeed; refused ones are few, because cameras lock users.

use std::os::unix::fs::PermissionsExt;

use crate::support::{
    Camera,
    clips::{self, SMALL},
    credentials,
    odd_camera::{OddCamera, Oddities, Offer, PASSWORD, USER},
    settings, until,
};
use gridwatch_base::secret::CredentialSource;
use gridwatch_camera::{CameraState, receive::ReceiverSettings};

fn digest(algorithm: &'static str, qop: &'static str) -> Offer {
    Offer::Digest { algorithm, qop }
}

fn logs_in(logins: &[Offer], nonce_once: bool) {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            logins: logins.to_vec(),
            nonce_once,
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(ReceiverSettings {
        credentials: credentials(USER, PASSWORD),
        ..settings(&server.url())
    });
    let end = until("a keyframe or a refusal", || match camera.slot().state() {
        CameraState::Refused { error, .. } | CameraState::Down { error, .. } => Some(Err(error.to_string())),
        _ => (camera.slot().seq() > 0).then_some(Ok(())),
    });
    assert_eq!(end, Ok(()));
}

#[test]
fn digest_with_integrity_of_the_body() {
    logs_in(&[digest("MD5", "auth-int")], false);
}

#[test]
fn the_strongest_of_several_challenges() {
    logs_in(&[digest("SHA-256", ""), digest("MD5", "")], false);
    logs_in(&[digest("MD5", "auth"), digest("SHA-256", "auth"), Offer::Basic], false);
}

#[test]
fn a_nonce_for_each_request() {
    logs_in(&[digest("MD5", "")], true);
    logs_in(&[digest("", "auth")], true);
}

/// Waits until the next login is minutes away.
fn wait_set_aside(camera: &Camera) -> String {
    until("the login is set aside", || match camera.slot().state() {
        CameraState::Refused { error, since, until } => {
            (until.duration_since(since).as_secs() >= 60).then_some(error.to_string())
        }
        _ => None,
    })
}

#[test]
fn a_wrong_password_is_tried_three_times_and_then_minutes_apart() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            logins: vec![digest("MD5", "")],
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(ReceiverSettings {
        credentials: credentials(USER, "wrong-horse"),
        ..settings(&server.url())
    });
    let error = wait_set_aside(&camera);
    assert_eq!(server.logins(), 3);
    assert!(error.contains("tried Digest") && !error.contains("horse"), "{error}");
    let shown = camera.slot().state().to_string();
    assert!(shown.contains("next try at"), "{shown}");
    assert_eq!(camera.slot().state().as_str(), "refused");
}

#[test]
fn a_corrected_password_file_is_noticed_while_the_login_is_set_aside() {
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            logins: vec![digest("MD5", "auth")],
            ..Oddities::default()
        },
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gate.secret");
    std::fs::write(&file, format!("{USER}:wrong-horse\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let camera = Camera::receive(ReceiverSettings {
        credentials: Some(CredentialSource::File(file.clone())),
        ..settings(&server.url())
    });
    wait_set_aside(&camera);
    std::fs::write(&file, format!("{USER}:{PASSWORD}\n")).unwrap();
    camera.keyframe_after(0);
    camera.wait_live();
}
