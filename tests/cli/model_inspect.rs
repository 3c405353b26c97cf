//! `gridwatch model inspect` and `draft` on the shipped models, and on networks that are not supported.
#![cfg(all(feature = "gst", feature = "ort"))]

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::daemon::{gridwatch, root};
use serde_json::Value;

/// Runs `gridwatch model ARGUMENTS`: whether it succeeded, standard output, standard error.
fn model(arguments: &[&str]) -> (bool, String, String) {
    let output = gridwatch(&[&["model"], arguments].concat()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

fn inspect(path: &Path) -> Value {
    let (is_ok, stdout, stderr) = model(&["inspect", path.to_str().unwrap(), "--json"]);
    assert!(is_ok, "{}: {stderr}", path.display());
    serde_json::from_str(&stdout).unwrap()
}

fn family(name: &str) -> PathBuf {
    root().join("tests/fixtures/models/families").join(name)
}

#[test]
fn every_shipped_model_can_be_inspected_as_a_folder_and_as_a_file() {
    let folders = fs::read_dir(root().join("models")).unwrap().map(|e| e.unwrap().path());
    let folders: Vec<PathBuf> = folders.filter(|dir| dir.join("model.onnx").is_file()).collect();
    assert!(folders.len() >= 7, "{folders:?}");
    let alone = tempfile::tempdir().unwrap();
    for dir in folders {
        let manifest: toml::Table = toml::from_str(&fs::read_to_string(dir.join("model.toml")).unwrap()).unwrap();
        let report = inspect(&dir);
        assert_eq!(report, inspect(&dir.join("model.onnx")), "{}", dir.display());
        let [id, version, sha256, adapter] =
            ["id", "version", "sha256", "adapter"].map(|key| manifest[key].as_str().unwrap());
        assert_eq!(report["package"], format!("{id}@{version}"));
        assert_eq!(report["sha256"], sha256);
        assert_eq!(report["refusal"], Value::Null, "{report}");
        let fits: Vec<&str> = report["readings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["adapter"].as_str().unwrap())
            .collect();
        let reads_text = matches!(adapter, "db" | "ctc");
        assert_eq!(fits, if reads_text { vec![] } else { vec![adapter] }, "{id}");
        // A file without its manifest, as it comes from an exporter: it tells its size, or another one does to look at it. A text
        // recogniser runs at its own height only.
        let file = alone.path().join(format!("{id}.onnx"));
        fs::copy(dir.join("model.onnx"), &file).unwrap();
        let file = file.to_str().unwrap();
        let (is_ok, _, stderr) = model(&["inspect", file]);
        assert!(
            is_ok || (reads_text && stderr.contains("--size 320x48")),
            "{id}: {stderr}"
        );
        let side = |key: &str| manifest["input"][key].as_integer().unwrap();
        let size = format!("{}x{}", side("width"), side("height"));
        let (is_ok, stdout, stderr) = model(&["inspect", file, "--size", &size]);
        assert!(
            is_ok && stdout.contains(sha256) && !stdout.starts_with("package"),
            "{id}: {stdout} {stderr}"
        );
    }
}

#[test]
fn a_network_of_another_task_is_refused_with_what_it_looks_like_and_what_is_supported() {
    for (file, looks_like) in [
        (
            "yolov8_seg.onnx",
            "It looks like instance segmentation: boxes with 32 mask coefficients each",
        ),
        (
            "yolov8_obb.onnx",
            "It looks like oriented boxes (OBB), which have an angle after the 4 classes",
        ),
        (
            "classifier.onnx",
            "It looks like a classifier: 1000 scores for the whole picture",
        ),
    ] {
        let path = family(file);
        let report = inspect(&path);
        let refusal = report["refusal"].as_str().unwrap_or_else(|| panic!("{file}: {report}"));
        assert!(
            refusal.contains(looks_like) && refusal.contains("Only object detectors are supported"),
            "{file}: {refusal}"
        );
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("drafted");
        let (is_ok, _, stderr) = model(&["draft", path.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        assert!(
            !is_ok && stderr.contains(looks_like) && !out.exists(),
            "{file}: {stderr}"
        );
    }
}

#[test]
fn a_wrong_number_of_classes_is_refused_with_the_number_that_fits() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("drafted");
    let (file, out) = (family("yolov8.onnx"), out.to_str().unwrap());
    let (is_ok, _, stderr) = model(&["draft", file.to_str().unwrap(), "--labels", "a,b,c,d,e,f", "--out", out]);
    assert!(
        !is_ok && stderr.contains("a detector of 5 classes, or of 4 with an objectness, where 6 are named"),
        "{stderr}"
    );
}

#[test]
fn weights_in_another_file_are_refused_with_how_to_embed_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.onnx");
    let mut bytes = fs::read(root().join("tests/fixtures/models/swap/model.onnx")).unwrap();
    // One more initializer (ModelProto.graph, GraphProto.initializer) whose data_location is EXTERNAL.
    bytes.extend([0x3a, 4, 0x2a, 2, 0x70, 1]);
    fs::write(&file, bytes).unwrap();
    for command in ["inspect", "draft"] {
        let (is_ok, _, stderr) = model(&[command, file.to_str().unwrap()]);
        assert!(!is_ok && stderr.contains("onnx.save(onnx.load("), "{stderr}");
    }
}
