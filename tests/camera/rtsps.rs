//! A camera over TLS: believed when its certificate, or its authority's, is the one the configuration names, and not
//! otherwise. The name on it may be any: cameras are called by their address.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::support::{
    clips::{self, SMALL},
    credentials, mount, until,
};
use gridwatch_camera::{
    Slot, State,
    gst_source::{GstSource, Settings},
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
    let settings = Settings {
        camera: "cam".into(),
        url: url.parse().unwrap(),
        credentials: credentials("viewer", "right-horse"),
        ca_file: ca.map(fixture),
        every: Duration::from_millis(400),
        looped: false,
        idle: Duration::from_secs(10),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    GstSource::spawn(settings, slot).unwrap()
}

fn refusal(source: &GstSource) -> String {
    until("it is down", || match source.slot().state() {
        State::Down { error, .. } => Some(error),
        _ => None,
    })
}

#[test]
fn a_camera_whose_authority_is_named_is_watched() {
    let farm = farm();
    let source = source(&farm, Some("ca.pem"));
    until("two pictures", || (source.slot().seq() >= 2).then_some(()));
}

#[test]
fn a_camera_of_another_authority_is_not_believed() {
    let farm = farm();
    let said = refusal(&source(&farm, Some("other_ca.pem")));
    assert!(said.contains("ca_file") && said.contains("UNKNOWN_CA"), "{said}");
}

#[test]
fn without_an_authority_of_its_own_the_systems_count() {
    let farm = farm();
    let said = refusal(&source(&farm, None));
    assert!(said.contains("ca_file") && said.contains("UNKNOWN_CA"), "{said}");
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let farm = farm();
    let said = refusal(&source(&farm, Some("passwords")));
    assert!(said.contains("passwords"), "{said}");
}
