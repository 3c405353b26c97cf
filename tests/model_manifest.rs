//! `model.toml`: every fault with its line and what to do; the manifests that ship are good and their weights are theirs.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{fs, path::Path};

use gridwatch::{
    error::Class,
    model::{Manifest, Model, ModelError},
};

const GOOD: &str = r#"id = "bags"
version = "1.0.0"
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
licence = "CC0"
source = "nowhere"
adapter = "yolox"
labels = ["bag", "bin"]
score_floor = 0.1
nms_iou = 0.45

[label_floors]
bin = 0.2

[input]
name = "images"
width = 416
height = 416
colour = "bgr"
fit = "top_left"
pad = 114
"#;

fn faults(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    let faults = Manifest::parse(&GOOD.replace(from, to)).unwrap_err();
    faults
        .into_iter()
        .map(|f| format!("{}: {}", f.line.map_or("?".into(), |l| l.to_string()), f.message))
        .collect()
}

#[test]
fn a_good_one_is_read() {
    let manifest = Manifest::parse(GOOD).unwrap();
    assert_eq!(manifest.floors(), [0.1, 0.2]);
    assert_eq!(manifest.input.mean, [0.0; 3]);
    assert_eq!(manifest.input.std, [1.0; 3]);
}

#[test]
fn each_fault_is_named_with_its_line_and_remedy() {
    let one = |from, to, wanted: &str| {
        let found = faults(from, to);
        assert!(found.len() == 1 && found[0].contains(wanted), "{to}: {found:?}");
    };
    one("score_floor = 0.1", "score_flor = 0.1", "8: unknown field `score_flor`");
    one("score_floor = 0.1\n", "", "missing field `score_floor`");
    one("nms_iou = 0.45", "nms_iou = \"0.45\"", "9: invalid type");
    one(
        "adapter = \"yolox\"",
        "adapter = \"yolov5\"",
        "6: unknown variant `yolov5`, expected `yolox` or `picodet`",
    );
    one(
        "id = \"bags\"",
        "id = \"bags & bins\"",
        "1: id: \"bags & bins\": 1 to 64 letters",
    );
    one("e3b0", "E3B0", "3: sha256: ");
    one("\"CC0\"", "\" \"", "4: licence: empty");
    one("\"bin\"]", "\"bag\", \"bin\"]", "7: labels: ");
    one("labels = [\"bag\", \"bin\"]", "labels = [\"bin\", \"\"]", "7: labels: ");
    one(
        "score_floor = 0.1",
        "score_floor = 10",
        "8: score_floor: 10: it must lie between 0 and 1",
    );
    one("nms_iou = 0.45", "nms_iou = nan", "9: nms_iou: NaN");
    one(
        "bin = 0.2",
        "box = 0.2",
        "11: label_floors: \"box\" is not among the labels",
    );
    one("width = 416", "width = 420", "16: input.width: 420: ");
    one("height = 416", "height = 0", "17: input.height: 0: ");
    one("pad = 114", "pad = 300", "20: ");
    one("pad = 114", "std = [1.0, 0.0, 1.0]", "20: input.std: ");
    one("pad = 114", "mean = [1.0, inf, 1.0]", "20: input.mean: ");
}

#[test]
fn all_faults_come_at_once() {
    let text = GOOD
        .replace("0.45", "2")
        .replace("0.1", "-1")
        .replace("width = 416", "width = 5");
    let lines: Vec<_> = Manifest::parse(&text)
        .unwrap_err()
        .into_iter()
        .map(|f| f.line)
        .collect();
    assert_eq!(lines, [Some(8), Some(9), Some(16)]);
}

#[test]
fn other_weights_than_the_manifest_describes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Model::load(dir.path());
    assert!(matches!(load(), Err(ModelError::Read { path, .. }) if path.ends_with("model.toml")));
    fs::write(dir.path().join("model.toml"), GOOD).unwrap();
    assert!(matches!(load(), Err(ModelError::Read { path, .. }) if path.ends_with("model.onnx")));
    // The sum in GOOD is that of nothing.
    fs::write(dir.path().join("model.onnx"), "").unwrap();
    assert_eq!(load().unwrap().manifest().id, "bags");
    fs::write(dir.path().join("model.onnx"), "one byte more").unwrap();
    let error = load().unwrap_err();
    assert_eq!(error.class(), Class::Config);
    let text = error.to_string();
    assert!(
        text.contains("model.onnx: its sha256 is ") && text.contains("model.toml says e3b0c442"),
        "{text}"
    );
}

#[test]
fn an_error_names_the_file_and_every_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("model.toml"),
        GOOD.replace("0.45", "2").replace("0.1", "-1"),
    )
    .unwrap();
    let text = Model::load(dir.path()).unwrap_err().to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].contains("model.toml:8: score_floor") && lines[1].contains("model.toml:9: nms_iou"),
        "{text}"
    );
}

#[test]
fn every_model_that_ships_has_its_weights_its_licence_and_its_card() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut ids = Vec::new();
    for entry in fs::read_dir(models).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("model.toml").exists() {
            continue;
        }
        let model = Model::load(&dir).unwrap_or_else(|e| panic!("{e}"));
        let id = model.manifest().id.clone();
        assert_eq!(
            dir.file_name().unwrap().to_str(),
            Some(id.as_str()),
            "folder and id differ"
        );
        let card = fs::read_to_string(dir.join("CARD.md")).unwrap();
        for heading in ["## Data", "## Figures", "## What it cannot do", "## Licence"] {
            assert!(card.contains(heading), "{id}: CARD.md lacks {heading:?}");
        }
        ids.push(id);
    }
    ids.sort();
    assert_eq!(ids, ["garbage_nano_416", "picodet_s_416_coco", "yolox_nano_416_coco"]);
}
