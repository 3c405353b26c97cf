//! The example files are valid: the checked-in schema matches the types, and the examples pass the schema and all checks.

use std::{fs, path::Path, time::Duration};

use gridwatch_config as config;

use gridwatch_config::{Aim, schema};
use gridwatch_engine::{CameraId, Place};

/// Every configuration in configs/ satisfies the schema.
#[test]
fn the_examples_satisfy_the_schema() {
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

/// Update it with `cargo run -- schema > configs/schema/config.schema.json`.
#[test]
fn the_checked_in_schema_is_current() {
    let checked_in = fs::read_to_string("configs/schema/config.schema.json").unwrap();
    assert!(
        checked_in == schema::generate_text(),
        "run: cargo run -- schema > configs/schema/config.schema.json"
    );
}

/// On a fresh clone, the only faults of edge.toml are its missing credentials.
#[test]
fn edge_toml_lacks_only_its_credentials() {
    let draft = config::examine_with(Path::new("configs/edge.toml"), &|_| None);
    let paths: Vec<&str> = draft.faults.iter().map(|f| f.path.as_str()).collect();
    let expected =
        ["[0].credentials.env", "[1].credentials.file", "[2].credentials.file"].map(|p| format!("cameras{p}"));
    assert_eq!(paths, expected);
    assert_eq!(draft.warnings, []);
}

/// The demo shows what the shipped rule does: only times that a clip of 40 s cannot wait for differ.
#[test]
fn the_demo_files_vendors_by_the_rule_of_edge_toml() {
    let vendor = |file: &str| {
        let file: toml::Table = fs::read_to_string(file).unwrap().parse().unwrap();
        let rules = file["rules"].as_array().unwrap();
        let mut rule = rules
            .iter()
            .find(|r| r["id"].as_str() == Some("vendor"))
            .unwrap()
            .clone();
        for time in ["dwell", "unidentified_dwell", "forget_after", "max_gap"] {
            rule.as_table_mut().unwrap().remove(time).unwrap();
        }
        rule
    };
    assert_eq!(vendor("configs/demo.toml"), vendor("configs/edge.toml"));
}

#[test]
fn edge_toml_loads_with_its_values() {
    let dir = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string("configs/edge.toml")
        .unwrap()
        .replace("{ file = \"/etc/gridwatch/lane-north.secret\" }", "{ env = \"LANE\" }")
        .replace("{ file = \"/etc/gridwatch/plaza-ptz.secret\" }", "{ env = \"PLAZA\" }")
        .replace("\"../models", &format!("\"{root}/models"))
        .replace("\"grid/", &format!("\"{root}/configs/grid/"))
        .replace("\"signs/", &format!("\"{root}/configs/signs/"))
        .replace("\"adverts/", &format!("\"{root}/configs/adverts/"))
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
    let [gate, lane, plaza] = &config.cameras[..] else {
        panic!("three cameras")
    };
    let away = Duration::from_mins(10);
    assert_eq!(
        [gate.aim, lane.aim, plaza.aim],
        [Aim::Fixed, Aim::Fixed, Aim::Tour { away }]
    );
    let views: Vec<&str> = plaza.presets.iter().map(|p| p.view.as_str()).collect();
    assert_eq!(views, ["plaza-ptz.arcade", "plaza-ptz.bus-stop"]);
    assert_eq!((&gate.models[..], &lane.models[..]), (&[0, 1][..], &[0][..]));
    assert_eq!(gate.presets[0].privacy.len(), 1);
    assert_eq!(gate.presets[0].calibration_version.as_ref().map(String::len), Some(12));
    assert_eq!(config.config_sha256.len(), 64);
    let ledger = config.ledger.as_ref().unwrap();
    assert_eq!(ledger.dir, Path::new("/var/lib/gridwatch/ledger"));
    assert_eq!((ledger.file_bytes, ledger.keep_bytes), (64 << 20, 2048 << 20));
    assert_eq!(config.plan.rules[0].dwell, Duration::from_secs(1800));
    assert_eq!(config.plan.rules[1].category.name_zh, "无照经营游商");
    let gate = &config.plan.cameras[&CameraId::from("gate-east")];
    assert_eq!(gate.zones.len(), 6, "privacy zones are not passed to the engine");
    let approved = |camera: &str| config.plan.cameras[&camera.into()].approved.as_ref().map(Vec::len);
    assert_eq!((approved("gate-east"), approved("lane-north")), (Some(2), Some(0)));
    assert!(matches!(gate.place, Place::Calibrated { .. }));
    assert!(matches!(
        config.plan.cameras[&CameraId::from("lane-north")].place,
        Place::Fixed(_)
    ));
    assert!(!format!("{config:?}").contains("secret"));
}

/// Each rule of the catalogue passes every check, given a model with its labels and a schedule with its name.
#[test]
fn the_rules_of_the_catalogue_are_valid() {
    let dir = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let catalogue = fs::read_to_string("configs/rules/catalogue.toml").unwrap();
    let rules: toml::Table = toml::from_str(&catalogue).unwrap();
    let rules = rules["rules"].as_array().unwrap();
    let strings = |rule: &toml::Value, field: &str| -> Vec<String> {
        let list = rule.get(field).and_then(toml::Value::as_array);
        list.into_iter()
            .flatten()
            .map(|l| l.as_str().unwrap().to_owned())
            .collect()
    };
    let mut labels: Vec<String> = rules.iter().flat_map(|r| strings(r, "labels")).collect();
    labels.extend(["person".into(), "car".into()]);
    labels.sort_unstable();
    labels.dedup();
    // From the change map, not from a model.
    labels.retain(|l| l != "object");

    // good.toml with the catalogue in place of its own rule.
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let (head, rest) = good.split_once("[[models]]").unwrap();
    let (_, cameras) = rest.split_once("[[cameras]]").unwrap();
    let night = "[[schedules]]\nid = \"night\"\nwindows = [{ from = \"18:00\", to = \"02:00\" }]\n";
    let text = format!("{head}{night}[[models]]\ndir = \"model\"\n\n{catalogue}\n[[cameras]]{cameras}")
        .replace("{ file = \"gate.secret\" }", "{ env = \"GATE\" }")
        .replace("rules = [\"vendor\"]", "")
        .replace(
            "\n[cameras.calibration]",
            "approved_signs = \"signs.toml\"\n\n[cameras.calibration]",
        )
        .replace("@ROOT@", root);
    let model = fs::read_to_string("models/yolox_nano_416_coco/model.toml").unwrap();
    let (before, after) = model.split_once("labels = [").unwrap();
    let (_, after) = after.split_once(']').unwrap();
    // Its self-test pictures show the labels that were removed.
    let (after, _) = after.split_once("[[self_test]]").unwrap();
    let model_dir = dir.path().join("model");
    fs::create_dir(&model_dir).unwrap();
    fs::write(model_dir.join("model.onnx"), "").unwrap();
    fs::write(
        model_dir.join("model.toml"),
        format!("{before}labels = {labels:?}{after}"),
    )
    .unwrap();
    let signs = "camera = \"gate\"\nrecorded = \"2026-11-22T10:00:00+08:00\"\nmodel = \"m@1\"\n";
    fs::write(dir.path().join("signs.toml"), signs).unwrap();
    let file = dir.path().join("edge.toml");
    fs::write(&file, text).unwrap();

    let draft = config::examine_with(&file, &|_| Some("admin:secret".into()));
    assert_eq!((&draft.faults, &draft.warnings), (&vec![], &vec![]));
    let compiled = draft.into_config().unwrap();
    assert_eq!(compiled.plan.rules.len(), rules.len());

    // The first rule shows every field, some of them commented out.
    let first = catalogue.split("\n[[rules]]\n").nth(1).unwrap();
    let schema = serde_json::to_value(schema::generate()).unwrap();
    for field in schema["$defs"]["Rule"]["properties"].as_object().unwrap().keys() {
        let is_shown = first.lines().any(|l| {
            l.trim_start_matches("# ")
                .split_once(" = ")
                .is_some_and(|(key, _)| key == field)
        });
        assert!(is_shown, "{field} is not in the catalogue's first rule");
    }
}

/// The configuration to start with is complete as it is.
#[test]
fn first_toml_has_no_fault_and_no_warning() {
    let draft = config::examine_with(Path::new("configs/first.toml"), &|_| None);
    assert_eq!((draft.faults, draft.warnings), (Vec::new(), Vec::new()));
}
