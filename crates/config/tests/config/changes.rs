//! What differs between two configurations.

use std::fs;

use gridwatch_config::{Config, diff};

use crate::sample::{Folder, root};

fn changes(old: &Config, new: &Config) -> Vec<String> {
    diff::changes(old, new).iter().map(ToString::to_string).collect()
}

#[test]
fn a_change_names_the_camera_the_zone_and_the_field_with_both_values() {
    let folder = Folder::new();
    let old = folder.load();
    folder.replace("edge.toml", "[0.1, 0.4], [0.6, 0.4]", "[0.15, 0.4], [0.6, 0.4]");
    folder.replace("edge.toml", "dwell = \"5m\"", "dwell = \"90s\"");
    folder.replace("edge.toml", "id = \"windows\"", "id = \"shop-windows\"");
    folder.replace("edge.toml", "state_dir = \"state\"", "state_dir = \"elsewhere\"");
    folder.replace("edge.toml", "[broker]", "[telemetry]\nfilter = \"debug\"\n\n[broker]");
    let new = folder.load();
    assert_eq!(
        changes(&old, &new),
        [
            "cameras[gate].zones[pavement].polygon: [[0.1, 0.9], [0.1, 0.4], [0.6, 0.4], [0.6, 0.9]] → [[0.1, 0.9], [0.15, 0.4], [0.6, 0.4], [0.6, 0.9]] (live)",
            "cameras[gate].zones[windows]: removed (live)",
            "cameras[gate].zones[shop-windows]: added (live)",
            "node.state_dir: state → elsewhere (restart)",
            "rules[vendor].dwell: 5m → 1m 30s (live)",
            "telemetry.filter: info → debug (live)",
        ]
    );
    assert_eq!(changes(&new, &new), [""; 0]);
    let json = serde_json::to_value(diff::changes(&old, &new)).unwrap();
    assert_eq!(
        json[0]["old"][1],
        serde_json::json!([0.1, 0.4]),
        "long values are whole"
    );
    assert_eq!(
        json[3],
        serde_json::json!({ "path": "node.state_dir", "kind": "set", "old": "state", "new": "elsewhere", "applies": "restart" })
    );
}

#[test]
fn what_means_the_same_is_no_change() {
    let folder = Folder::new();
    let old = folder.load();
    folder.replace(
        "edge.toml",
        "dwell = \"5m\"",
        "dwell = \"300s\" # five minutes\nmerge_radius_m = 8\nstart_score = 0.5",
    );
    folder.replace("edge.toml", "[node]", "[telemetry]\nlog = \"text\"\n[node]");
    let new = folder.load();
    assert_eq!(changes(&old, &new), [""; 0]);
    assert_ne!(old.config_sha256, new.config_sha256);
}

#[test]
fn the_order_of_rules_is_a_change_and_that_of_cameras_is_none() {
    let folder = Folder::new();
    let one = "[[rules]]\nid = \"vendor\"\ncategory = \"0501\"\nlabels = [\"umbrella\"]\ndwell = \"5m\"\n";
    let other = one.replace("vendor", "second");
    let camera =
        "[[cameras]]\nid = \"lane\"\nurl = \"rtsp://192.0.2.11/stream\"\nplace = { lon = 120.001, lat = 30.001 }\n";
    folder.replace("edge.toml", one, &format!("{one}\n{other}\n{camera}"));
    let old = folder.load();
    folder.replace(
        "edge.toml",
        &format!("{one}\n{other}\n{camera}"),
        &format!("{other}\n{one}\n"),
    );
    let text = folder.read("edge.toml");
    folder.write("edge.toml", &format!("{text}\n{camera}"));
    let new = folder.load();
    assert_eq!(new.cameras[1].id.as_str(), "lane");
    assert_eq!(changes(&old, &new), ["rules: order changed to second, vendor (live)"]);
}

#[test]
fn a_file_that_the_configuration_names_is_a_change_of_its_field() {
    let folder = Folder::new();
    let grid = root().join("configs/grid/example.geojson");
    folder.write("grid.geojson", &fs::read_to_string(grid).unwrap());
    folder.replace(
        "edge.toml",
        "@ROOT@/configs/grid/example.geojson"
            .replace("@ROOT@", root().to_str().unwrap())
            .as_str(),
        "grid.geojson",
    );
    folder.write("broker.pem", "one");
    folder.replace(
        "edge.toml",
        "url = \"mqtt://127.0.0.1:1883\"",
        "url = \"mqtts://127.0.0.1:8883\"\nca_file = \"broker.pem\"",
    );
    let signs = "camera = \"gate\"\nrecorded = \"2026-11-22T10:00:00+08:00\"\nmodel = \"m@1\"\n";
    folder.write("gate.toml", signs);
    folder.replace(
        "edge.toml",
        "credentials =",
        "approved_signs = \"gate.toml\"\ncredentials =",
    );
    let old = folder.load();
    let fields: Vec<&str> = old.sources.iter().map(|s| s.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "",
            "broker.ca_file",
            "grid.categories",
            "models[@ROOT@/models/yolox_nano_416_coco].dir"
                .replace("@ROOT@", root().to_str().unwrap())
                .as_str(),
            "grid.file",
            "cameras[gate].approved_signs"
        ]
    );
    assert!(old.sources.iter().all(|s| s.file.is_absolute() && s.sha256.is_some()));
    folder.write("gate.toml", &format!("{signs}# looked at again\n"));
    folder.write("grid.geojson", &format!("{} ", folder.read("grid.geojson")));
    folder.write("broker.pem", "other");
    assert_eq!(
        changes(&old, &folder.load()),
        [
            "broker.ca_file: contents changed (live)",
            "grid.file: contents changed (live)",
            "cameras[gate].approved_signs: contents changed (live)",
        ]
    );
    // A file that is missing is a source, too: it is watched until it is there.
    fs::remove_file(folder.path("grid.geojson")).unwrap();
    let sources = folder.examine().sources;
    let missing: Vec<&str> = sources
        .iter()
        .filter(|s| s.sha256.is_none())
        .map(|s| s.field.as_str())
        .collect();
    assert_eq!(missing, ["grid.file"]);
}

#[test]
fn a_credential_is_never_shown() {
    let folder = Folder::new();
    let old = folder.load();
    folder.secret("gate.secret", "admin:hunter3\n");
    let new = folder.load();
    assert_eq!(changes(&old, &new), ["cameras[gate].credentials: changed (live)"]);
    folder.secret("other.secret", "admin:hunter3\n");
    folder.replace("edge.toml", "gate.secret", "other.secret");
    folder.replace(
        "edge.toml",
        "[[cameras]]",
        "[[cameras]]\nid = \"lane\"\nurl = \"rtsp://192.0.2.11/s?password=hunter2\"\ncredentials = { file = \"other.secret\" }\nplace = { lon = 120.001, lat = 30.001 }\n\n[[cameras]]",
    );
    let third = folder.load();
    let all = diff::changes(&old, &third);
    let text = format!("{all:?} {}", serde_json::to_string(&all).unwrap());
    assert!(!text.contains("hunter") && !text.contains(".secret"), "{text}");
    assert_eq!(
        changes(&old, &third),
        [
            "cameras[gate].credentials: changed (live)",
            "cameras[lane]: added (live)"
        ]
    );
    assert!(!format!("{third:?}").contains("other.secret"));
}
