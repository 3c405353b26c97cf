//! RTSP over TLS, through the built-in client and through GStreamer. A camera is trusted only if its certificate, or its authority's, is the configured `ca_file`. The host
//! name in the certificate is not checked, because cameras are addressed by IP.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::support::{
    Camera,
    clips::{self, SMALL},
    credentials, mount, settings, until, workers,
};
use gridwatch_camera::{
    CameraState, Slot,
    gst_source::{GstSource, SourceSettings},
    receive::{ReceiverSettings, Trust},
};
use gridwatch_farm::{Auth, AuthMethod, Certificate, Farm, FarmConfig};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

fn farm() -> Farm {
    Farm::start(FarmConfig {
        auth: Some(Auth {
            method: AuthMethod::Digest,
            user: "viewer".into(),
            password: "right-horse".into(),
        }),
        certificate: Some(Certificate {
            file: fixture("server.pem"),
            key: fixture("server.key"),
        }),
        mounts: vec![mount("cam", &clips::clip(SMALL))],
        ..FarmConfig::default()
    })
    .unwrap()
}

fn source(farm: &Farm, ca: Option<&str>) -> GstSource {
    let url = farm.url("cam");
    assert!(url.starts_with("rtsps://"), "{url}");
    let settings = SourceSettings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: credentials("viewer", "right-horse"),
        ca_file: ca.map(fixture),
        every: Duration::from_millis(400),
        looped: false,
        idle: Duration::from_secs(10),
        mode: workers(),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    GstSource::spawn(settings, slot).unwrap()
}

fn wait_down(source: &GstSource) -> String {
    until("it is down", || match source.slot().state() {
        CameraState::Down { error, .. } => Some(error.to_string()),
        _ => None,
    })
}

#[test]
fn camera_of_the_configured_authority_is_received() {
    let farm = farm();
    let source = source(&farm, Some("ca.pem"));
    until("two frames", || (source.slot().seq() >= 2).then_some(()));
}

#[test]
fn camera_of_another_authority_is_not_trusted() {
    let farm = farm();
    let error = wait_down(&source(&farm, Some("other_ca.pem")));
    assert!(error.contains("ca_file") && error.contains("UNKNOWN_CA"), "{error}");
}

#[test]
fn without_ca_file_the_systems_authorities_apply() {
    let farm = farm();
    let error = wait_down(&source(&farm, None));
    assert!(error.contains("ca_file") && error.contains("UNKNOWN_CA"), "{error}");
}

#[test]
fn invalid_ca_file_is_named_in_the_error() {
    let farm = farm();
    let error = wait_down(&source(&farm, Some("passwords")));
    assert!(error.contains("passwords"), "{error}");
}

fn built_in(farm: &Farm, trust: Trust) -> Camera {
    Camera::receive(ReceiverSettings {
        credentials: credentials("viewer", "right-horse"),
        trust,
        ..settings(&farm.url("cam"))
    })
}

#[test]
fn built_in_client_trusts_the_configured_authority_or_certificate() {
    let farm = farm();
    for file in ["ca.pem", "server.pem"] {
        built_in(&farm, Trust::CaFile(fixture(file))).keyframe_after(0);
    }
}

#[test]
fn built_in_client_tells_the_hash_of_an_untrusted_certificate_and_trusts_it_by_that() {
    let farm = farm();
    for trust in [
        Trust::System,
        Trust::CaFile(fixture("other_ca.pem")),
        Trust::Pin("00".repeat(32)),
    ] {
        let error = built_in(&farm, trust).wait_down();
        assert!(error.contains("not trusted") && error.contains("pin_sha256"), "{error}");
    }
    let error = built_in(&farm, Trust::System).wait_down();
    let pin: String = error.split("SHA-256: ").nth(1).unwrap().chars().take(64).collect();
    built_in(&farm, Trust::Pin(pin)).keyframe_after(0);
}

#[test]
fn built_in_client_names_an_invalid_ca_file() {
    let farm = farm();
    let error = built_in(&farm, Trust::CaFile(fixture("passwords"))).wait_down();
    assert!(error.contains("passwords") && error.contains("PEM"), "{error}");
}
