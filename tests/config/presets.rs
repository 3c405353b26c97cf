//! PTZ cameras: presets in the configuration, their faults, and what the engine gets.

use std::time::Duration;

use crate::config_support::*;
use gridwatch_config::{Aim, Draft};
use gridwatch_engine::{CameraId, Place};

/// A PTZ camera, inserted before the camera of good.toml.
const TURNING: &str = r#"[[cameras]]
id = "ptz"
url = "rtsp://192.0.2.11/stream"
tour = "10m"

[[cameras.presets]]
id = "north"
address = "North of the gate"
place = { lon = 120.001, lat = 30.001 }

[[cameras.presets.zones]]
id = "pavement"
kind = "watch"
polygon = [[0.1, 0.9], [0.1, 0.4], [0.6, 0.4], [0.6, 0.9]]

[[cameras.presets.zones]]
id = "windows"
kind = "privacy"
polygon = [[0.7, 0.0], [1.0, 0.0], [1.0, 0.3]]

[[cameras.presets]]
id = "south"
place = { lon = 120.0012, lat = 30.001 }

[[cameras]]
id = "gate"
"#;

/// good.toml with the PTZ camera, in which `old` is replaced by `new`.
fn turning(folder: &Folder, old: &str, new: &str) -> Draft {
    assert!(TURNING.contains(old), "{old:?} is not in the PTZ camera");
    folder.with("[[cameras]]\nid = \"gate\"\n", &TURNING.replacen(old, new, 1))
}

#[test]
fn each_preset_is_a_camera_to_the_engine() {
    let draft = turning(&Folder::new(), "", "");
    assert_eq!(messages(&draft.faults), [""; 0]);
    assert_eq!(messages(&draft.warnings), [""; 0]);
    let config = draft.into_config().unwrap();
    let views: Vec<&str> = config.plan.cameras.keys().map(CameraId::as_str).collect();
    assert_eq!(views, ["gate", "ptz.north", "ptz.south"]);
    let (ptz, gate) = (&config.cameras[0], &config.cameras[1]);
    let away = Duration::from_mins(10);
    assert_eq!((ptz.aim, gate.aim), (Aim::Tour { away }, Aim::Fixed));
    let [north, south] = &ptz.presets[..] else {
        panic!("two presets")
    };
    assert_eq!(north.id.as_deref(), Some("north"));
    assert_eq!(north.address.as_deref(), Some("North of the gate"));
    assert_eq!((north.privacy.len(), south.privacy.len()), (1, 0));
    assert_eq!(gate.presets[0].id, None);
    let plans = ["gate", "ptz.north", "ptz.south"].map(|view| &config.plan.cameras[&CameraId::from(view)]);
    assert_eq!(plans.map(|p| p.away), [Duration::ZERO, away, away]);
    assert_eq!(plans.map(|p| p.zones.len()), [1, 1, 0]);
    let Place::Fixed(place) = &plans[2].place else {
        panic!("no calibration")
    };
    assert_eq!(place.at.lon, 120.0012);
    assert_eq!(plans[1].look_every, Duration::from_secs(10));
    let id = CameraId::at_preset("ptz", "north");
    assert_eq!((id.as_str(), id.device()), ("ptz.north", "ptz"));
}

#[test]
fn a_preset_is_checked_like_a_camera() {
    let north = "place = { lon = 120.001, lat = 30.001 }";
    let faults = [
        (
            "id = \"south\"",
            "id = \"north\"",
            "cameras[0].presets[1].id: already used by cameras[0].presets[0]",
        ),
        (
            "id = \"south\"",
            "id = \"so.uth\"",
            "cameras[0].presets[1].id: invalid id",
        ),
        (north, "", "cameras[0].presets[0].place: missing"),
        (
            "polygon = [[0.1, 0.9]",
            "rules = [\"vender\"]\npolygon = [[0.1, 0.9]",
            "cameras[0].presets[0].zones[0].rules[0]: unknown rule \"vender\"",
        ),
        (
            "address = ",
            "approved_signs = \"none.toml\"\naddress = ",
            "cameras[0].presets[0].approved_signs: cannot read none.toml: No such file or directory (os error 2)",
        ),
        ("address = ", "adress = ", "cameras[0].presets[0].adress: unknown field"),
        (
            "tour = \"10m\"",
            "",
            "cameras[0].tour: required on a camera with presets",
        ),
        (
            "tour = \"10m\"",
            "tour = \"9s\"",
            "cameras[0].tour: 9s is below the minimum of 10s",
        ),
        (
            "tour = \"10m\"",
            "tour = \"10m\"\nlook_every = \"11m\"",
            "cameras[0].tour: 10m is less than look_every (11m)",
        ),
        (
            "tour = \"10m\"",
            "tour = \"10m\"\nplace = { lon = 120.001, lat = 30.001 }",
            "cameras[0].place: not allowed on a camera with presets",
        ),
        (
            "tour = \"10m\"",
            "tour = \"10m\"\naddress = \"here\"",
            "cameras[0].address: not allowed on a camera with presets",
        ),
    ];
    for (old, new, expected) in faults {
        let folder = Folder::new();
        let draft = turning(&folder, old, new);
        let messages = messages(&draft.faults);
        let root = format!("{}/", folder.dir.path().display());
        let is_reported = messages.iter().any(|fault| fault.replace(&root, "") == expected);
        assert!(is_reported, "{old} → {new}: {messages:?}");
    }
}

#[test]
fn a_camera_without_presets_needs_a_place_and_has_no_tour() {
    let place = "place = { lon = 120.001, lat = 30.001 }\n";
    assert_faults(&[
        (place, "", "cameras[0].place: missing"),
        (
            place,
            "place = { lon = 120.001, lat = 30.001 }\ntour = \"10m\"\n",
            "cameras[0].tour: not allowed on a camera without presets",
        ),
    ]);
}
