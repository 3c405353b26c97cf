//! The files that teach hold: the schema is that of the types, and the examples keep to it and to the checks.

use std::{fs, path::Path, time::Duration};

use gridwatch::{
    config::{self, schema},
    engine::{CameraId, Place},
};

/// Every configuration under configs/ keeps to the schema, whatever else it needs around it.
#[test]
fn the_examples_keep_to_the_schema() {
    let validator = jsonschema::validator_for(&schema::generate()).unwrap();
    let files: Vec<_> = fs::read_dir("configs").unwrap().map(|e| e.unwrap().path()).collect();
    let tomls: Vec<_> = files
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .collect();
    assert!(!tomls.is_empty());
    for file in tomls {
        let value: toml::Value = toml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let value = serde_json::to_value(value).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{}: {e}", e.instance_path()))
            .collect();
        assert_eq!(errors, [""; 0], "{}", file.display());
    }
}

/// `cargo run -- schema > configs/schema/config.schema.json` mends it.
#[test]
fn the_schema_that_is_checked_in_is_current() {
    let checked_in = fs::read_to_string("configs/schema/config.schema.json").unwrap();
    assert!(
        checked_in == schema::generate_text(),
        "run: cargo run -- schema > configs/schema/config.schema.json"
    );
}

/// On a fresh clone nothing is wrong with edge.toml but the credentials that only its owner has.
#[test]
fn edge_toml_wants_nothing_but_its_credentials() {
    let draft = config::examine_with(Path::new("configs/edge.toml"), &|_| None);
    let paths: Vec<&str> = draft.faults.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, ["cameras[0].credentials.env", "cameras[1].credentials.file"]);
    assert_eq!(draft.warnings, []);
}

#[test]
fn edge_toml_becomes_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string("configs/edge.toml")
        .unwrap()
        .replace("{ file = \"/etc/gridwatch/lane-north.secret\" }", "{ env = \"LANE\" }")
        .replace("\"../models", &format!("\"{root}/models"))
        .replace("\"grid/", &format!("\"{root}/configs/grid/"))
        .replace("\"calendar/", &format!("\"{root}/configs/calendar/"))
        .replace("\"categories/", &format!("\"{root}/configs/categories/"));
    let file = dir.path().join("edge.toml");
    fs::write(&file, &text).unwrap();
    let config = config::examine_with(&file, &|_| Some("admin:secret".into()))
        .into_config()
        .unwrap();

    assert_eq!(config.node.as_str(), "box-01");
    assert_eq!((config.broker.host.as_str(), config.broker.port), ("127.0.0.1", 1883));
    assert_eq!(
        config.models.iter().map(|m| m.id.as_str()).collect::<Vec<_>>(),
        ["garbage_nano_416", "yolox_nano_416_coco"]
    );
    let [gate, lane] = &config.cameras[..] else {
        panic!("two cameras")
    };
    assert_eq!((&gate.models[..], &lane.models[..]), (&[0, 1][..], &[0][..]));
    assert_eq!(gate.privacy.len(), 1);
    assert_eq!(gate.calibration_version.as_ref().map(String::len), Some(12));
    assert_eq!(config.config_sha256.len(), 64);
    let ledger = config.ledger.as_ref().unwrap();
    assert_eq!(ledger.dir, Path::new("/var/lib/gridwatch/ledger"));
    assert_eq!((ledger.file_bytes, ledger.keep_bytes), (64 << 20, 2048 << 20));
    assert_eq!(config.plan.rules[0].dwell, Duration::from_secs(1800));
    assert_eq!(config.plan.rules[1].category.name_zh, "无照经营游商");
    let gate = &config.plan.cameras[&CameraId::from("gate-east")];
    assert_eq!(gate.zones.len(), 3, "the engine does not know privacy zones");
    assert!(matches!(gate.place, Place::Calibrated { .. }));
    assert!(matches!(
        config.plan.cameras[&CameraId::from("lane-north")].place,
        Place::Fixed(_)
    ));
    assert!(!format!("{config:?}").contains("secret"));
}
