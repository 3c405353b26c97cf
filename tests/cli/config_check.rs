//! `gridwatch check`: reports every fault of a broken copy of the example, as a table and as JSON, with the right exit code.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("check")
        .args(arguments)
        .env_remove("GRIDWATCH_CAMERA_GATE_EAST")
        .env_remove("GRIDWATCH_CONFIG")
        .output()
        .unwrap()
}

/// A copy of edge.toml with absolute paths, broken in four places.
fn broken_copy(dir: &Path) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string("configs/edge.toml").unwrap();
    let broken = text
        .replace("\"../models", &format!("\"{root}/models"))
        .replace("\"grid/", &format!("\"{root}/configs/grid/"))
        .replace("\"categories/", &format!("\"{root}/configs/categories/"))
        .replace("\"signs/", &format!("\"{root}/configs/signs/"))
        .replace("\"adverts/", &format!("\"{root}/configs/adverts/"))
        .replace("\"calendar/", &format!("\"{root}/configs/calendar/"))
        .replace("rtsp://192.0.2.10", "rtsp://admin:hunter2@192.0.2.10")
        .replace("keep_score = 0.3 ", "keep_score = 0.7 ")
        .replace("jpeg_quality", "jpg_quality")
        .replace("kind = \"container\"", "kind = \"containers\"");
    let file = dir.join("edge.toml");
    fs::write(&file, broken).unwrap();
    file.display().to_string()
}

const FAULTS: [&str; 7] = [
    "evidence.jpg_quality",
    "rules[0].keep_score",
    "cameras[0].url",
    "cameras[0].credentials.env",
    "cameras[0].zones[2].kind",
    "cameras[1].credentials.file",
    "cameras[2].credentials.file",
];

#[test]
fn the_table_lists_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = broken_copy(dir.path());
    let output = check(&["--config", &file, "--offline"]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    let wrong: Vec<&str> = table
        .lines()
        .filter_map(|l| l.strip_prefix("WRONG    configuration"))
        .collect();
    let paths: Vec<&str> = wrong.iter().map(|l| l.trim().split(": ").next().unwrap()).collect();
    assert_eq!(paths, FAULTS, "{table}");
    for line in wrong {
        let (_, place) = line
            .rsplit_once(&format!("({file}:"))
            .unwrap_or_else(|| panic!("no line: {line}"));
        assert!(place.trim_end_matches(')').parse::<usize>().is_ok(), "{line}");
    }
    assert!(table.contains("→ did you mean `jpeg_quality`?"), "{table}");
    assert!(!table.contains("hunter2"), "{table}");
    // The valid part is still checked.
    assert!(table.contains("model garbage_nano_416"), "{table}");
    assert!(table.contains("skipped  camera lane-north"), "{table}");
}

#[test]
fn the_json_object_lists_every_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = broken_copy(dir.path());
    let output = check(&["--config", &file, "--offline", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let checks = report["checks"].as_array().unwrap();
    let faults: Vec<_> = checks
        .iter()
        .filter(|c| c["what"] == "configuration" && c["state"] == "wrong")
        .collect();
    assert_eq!(
        faults
            .iter()
            .map(|c| c["fault"]["path"].as_str().unwrap())
            .collect::<Vec<_>>(),
        FAULTS
    );
    assert!(
        faults
            .iter()
            .all(|c| c["fault"]["line"].is_u64() && c["fault"]["remedy"].is_string())
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"));
}

#[test]
fn an_unreadable_file_exits_with_3() {
    let dir = tempfile::tempdir().unwrap();
    let no_toml = dir.path().join("a.toml");
    fs::write(&no_toml, "[node\n").unwrap();
    for file in ["no/such.toml", no_toml.to_str().unwrap()] {
        let output = check(&["--config", file, "--offline"]);
        assert_eq!(output.status.code(), Some(3), "{file}");
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .starts_with("WRONG    configuration"),
            "{file}"
        );
    }
}

#[test]
fn without_a_file_the_usage_is_printed() {
    let output = check(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--config <FILE>"));
}

#[test]
fn the_checked_in_schemas_are_current() {
    for (arguments, file) in [
        (&["schema"][..], "configs/schema/config.schema.json"),
        (&["schema", "--model"], "configs/schema/model.schema.json"),
        (&["schema", "--adverts"], "configs/schema/adverts.schema.json"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
        let is_same = output.stdout == fs::read(file).unwrap();
        assert!(
            is_same,
            "{file} is stale; run: gridwatch {} > {file}",
            arguments.join(" ")
        );
    }
}

/// Runs `gridwatch check` under a limit of open files; `kind` is `-Sn` (the soft one) or `-n` (both).
fn check_with_files(config: &str, kind: &str, files: u32) -> String {
    let script = format!("ulimit {kind} {files} && exec \"$0\" check --offline --config \"$1\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_gridwatch"), config])
        .env_remove("GRIDWATCH_CONFIG")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_low_limit_of_open_files_is_raised_or_reported() {
    let dir = tempfile::tempdir().unwrap();
    let config = broken_copy(dir.path());
    let row = |table: &str| {
        let row = table.lines().find(|l| l.contains(" open files ")).map(str::to_owned);
        row.unwrap_or_else(|| panic!("no such row: {table}"))
    };
    let raised = row(&check_with_files(&config, "-Sn", 80));
    assert!(raised.starts_with("ok ") && !raised.contains(" 80 allowed"), "{raised}");
    let table = check_with_files(&config, "-n", 80);
    let low = row(&table);
    assert!(low.starts_with("WRONG ") && low.contains(" 80 allowed"), "{low}");
    assert!(table.contains("LimitNOFILE"), "{table}");
}

/// A version of the registry replaces the configuration's folder, so masking depends on its labels.
#[test]
fn the_live_versions_of_the_registry_must_find_what_is_masked() {
    use gridwatch_model::registry::{Event, Registry};

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let mut file: gridwatch_config::raw::File =
        toml::from_str(&fs::read_to_string(root.join("configs/first.toml")).unwrap()).unwrap();
    for path in file.data_paths_mut() {
        *path = root.join("configs").join(&*path);
    }
    file.node.state_dir = dir.path().join("state");
    file.telemetry.listen = String::new();
    // Only the camera's own models find persons.
    file.evidence.mask_models.clear();
    let config = dir.path().join("edge.toml");
    fs::write(&config, toml::to_string(&file).unwrap()).unwrap();
    let row = || {
        let output = check(&["--offline", "--json", "--config", config.to_str().unwrap()]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = report["checks"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["what"] == "masking")
    };
    assert_eq!(row(), None, "the configuration's own models find them");

    let id = "yolox_nano_416_coco";
    let registry = Registry::new(&file.node.state_dir, Vec::new());
    for (version, persons, expected) in [("2.0.0", "person", "ok"), ("3.0.0", "pedestrian", "wrong")] {
        let package = dir.path().join(version);
        crate::packages::copy(&root.join("models").join(id), &package);
        crate::packages::set_version(&package, version);
        crate::packages::without_self_test(&package);
        let manifest = package.join("model.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(&manifest, text.replace("\"person\"", &format!("{persons:?}"))).unwrap();
        registry.install(&package, |_| Ok(())).unwrap();
        let live = Event::WentLive {
            request: version.into(),
            version: Some(version.into()),
            camera: None,
            report: None,
        };
        registry.journal().append(id, jiff::Timestamp::now(), live).unwrap();
        let row = row().unwrap();
        assert_eq!(row["state"], expected, "{row}");
        let message = row["message"].as_str().unwrap();
        assert!(
            expected == "ok" || message.contains(&format!("{id}@{version}")),
            "{message}"
        );
    }
}
