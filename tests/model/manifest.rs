//! `model.toml`: every fault is reported with its line and remedy; the shipped manifests are valid and match their weights.

use std::{fs, path::Path};

use gridwatch_base::error::Class;
use gridwatch_model::{
    Manifest, Model, ModelError,
    manifest::{Adapter, Shape},
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

fn parse(text: &str) -> Result<Manifest, Vec<String>> {
    let line = |f: gridwatch_base::document::Fault| {
        let line = f.line.map_or("?".into(), |l| l.to_string());
        format!("{line}: {}: {} ({})", f.path, f.message, f.remedy)
    };
    Manifest::parse(Path::new("model.toml"), text.into()).map_err(|faults| faults.0.into_iter().map(line).collect())
}

#[test]
fn a_valid_manifest_is_read() {
    let manifest = parse(GOOD).unwrap();
    let floors: Vec<f32> = manifest.class_mappings().iter().map(|w| w.floor).collect();
    assert_eq!(floors, [0.1, 0.2]);
    assert_eq!((manifest.input.mean, manifest.input.std), ([0.0; 3], [1.0; 3]));
    assert_eq!(manifest.input.scale, 1.0);
    assert_eq!(manifest.input.shape, Shape::Fixed);
    // Without `adapter` the layout is recognised from the graph.
    let auto = parse(&GOOD.replace("adapter = \"yolox\"\n", "")).unwrap();
    assert_eq!(auto.adapter, Adapter::Auto);
}

#[test]
fn classes_are_renamed_and_ignored() {
    let text = GOOD
        .replace(
            "[\"bag\", \"bin\"]",
            "[\"trash bag\", \"window\", \"trash bin\", \"dust bin\"]\nignore = [\"window\"]",
        )
        .replace(
            "[label_floors]",
            "[rename]\n\"trash bag\" = \"bag\"\n\"trash bin\" = \"bin\"\n\"dust bin\" = \"bin\"\n\n[label_floors]",
        );
    let manifest = parse(&text).unwrap();
    assert_eq!(manifest.reported_labels(), ["bag", "bin"]);
    let wanted: Vec<_> = manifest.class_mappings().iter().map(|w| (w.label, w.floor)).collect();
    assert_eq!(wanted, [(0, 0.1), (0, f32::INFINITY), (1, 0.2), (1, 0.2)]);
}

#[test]
fn each_fault_is_reported_with_its_line_and_remedy() {
    let one = |from: &str, to: &str, wanted: &str| {
        assert!(GOOD.contains(from), "{from}");
        let found = parse(&GOOD.replace(from, to)).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(wanted), "{to}: {found:?}");
    };
    one(
        "nms_iou = 0.45",
        "nms_io = 0.45",
        "9: nms_io: unknown field (did you mean `nms_iou`?)",
    );
    one("score_floor = 0.1\n", "", "score_floor: missing (add it: ");
    one(
        "nms_iou = 0.45",
        "nms_iou = \"0.45\"",
        "9: nms_iou: expected a number, found a string",
    );
    one(
        "adapter = \"yolox\"",
        "adapter = \"yolov3\"",
        "6: adapter: unknown value (did you mean \"yolov",
    );
    one(
        "id = \"bags\"",
        "id = \"bags & bins\"",
        "1: id: \"bags & bins\" is not usable as a name",
    );
    one("\"1.0.0\"", "\"../1\"", "2: version: \"../1\" is not usable");
    one("e3b0", "E3B0", "3: sha256: ");
    one("\"CC0\"", "\" \"", "4: licence: is empty");
    one("\"nowhere\"", "\"\"", "5: source: is empty");
    one("\"bin\"]", "\"bag\", \"bin\"]", "7: labels: duplicate or empty name");
    one("labels = [\"bag\", \"bin\"]", "labels = [\"bin\", \"\"]", "7: labels: ");
    one(
        "score_floor = 0.1",
        "score_floor = 10",
        "8: score_floor: 10 is not between 0 and 1",
    );
    one("nms_iou = 0.45", "nms_iou = nan", "9: nms_iou: not a finite number");
    one(
        "bin = 0.2",
        "box = 0.2",
        "12: label_floors.box: the model does not report \"box\"",
    );
    one(
        "width = 416",
        "width = 8",
        "16: input.width: 8 is below the minimum of 16",
    );
    one(
        "width = 416",
        "width = 420\nshape = \"picture\"",
        "16: input.width: 420 is not a multiple of 32",
    );
    one("\"top_left\"", "\"stretch\"\nshape = \"picture\"", "19: input.fit: ");
    one("pad = 114", "pad = 300", "20: input.pad: ");
    one(
        "pad = 114",
        "scale = 0.0",
        "20: input.scale: 0 is not a positive number",
    );
    one("pad = 114", "std = [1.0, 0.0, 1.0]", "20: input.std: ");
    one("pad = 114", "mean = [1.0, inf, 1.0]", "20: input.mean");
    one(
        "[label_floors]",
        "[rename]\nbox = \"bag\"\n[label_floors]",
        "12: rename.box: \"box\" is not in `labels`",
    );
    one(
        "adapter = \"yolox\"",
        "adapter = \"ctc\"
alphabet = \"letters.txt\"",
        "8: labels: a text model has no labels",
    );
    one(
        "nms_iou",
        "alphabet = \"letters.txt\"
nms_iou",
        "9: alphabet: required with adapter `ctc`",
    );
}

#[test]
fn self_test_expectations_are_validated() {
    let with = |test: &str| parse(&format!("{GOOD}\n[[self_test]]\n{test}\n"));
    assert!(with("picture = \"street.jpg\"\nexpect = []").is_ok());
    assert!(
        with("picture = \"t/a.png\"\nexpect = [{ label = \"bin\", score = 0.5, box = [0.1, 0.1, 0.2, 0.2] }]").is_ok()
    );
    let one = |test: &str, wanted: &str| {
        let found = with(test).unwrap_err();
        assert!(found.len() == 1 && found[0].contains(wanted), "{test}: {found:?}");
    };
    one(
        "picture = \"../street.jpg\"\nexpect = []",
        "self_test[0].picture: path leads outside the model folder",
    );
    one(
        "picture = \"/etc/passwd\"\nexpect = []",
        "self_test[0].picture: path leads outside",
    );
    one(
        "picture = \"a.jpg\"\nexpect = [{ label = \"cat\", score = 0.5, box = [0.1, 0.1, 0.2, 0.2] }]",
        "self_test[0].expect[0].label: the model does not report \"cat\"",
    );
    one(
        "picture = \"a.jpg\"\nexpect = [{ label = \"bin\", score = 0.5, box = [0.3, 0.1, 0.2, 0.2] }]",
        "self_test[0].expect[0].box: [0.3, 0.1, 0.2, 0.2] is not a box",
    );
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = GOOD
        .replace("0.45", "2")
        .replace("0.1", "-1")
        .replace("colour = \"bgr\"", "color = \"bgr\"")
        .replace("width = 416", "width = 5");
    let faults = parse(&text).unwrap_err();
    let lines: Vec<&str> = faults.iter().filter_map(|f| f.split(':').next()).collect();
    // The misspelt field is reported as unknown and as missing.
    assert_eq!(lines, ["8", "9", "14", "16", "18"], "{faults:#?}");
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
        text.contains("model.onnx: SHA-256 is ") && text.contains("model.toml says e3b0c442"),
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
    assert_eq!(lines.len(), 4, "each with its remedy");
    assert!(
        text.contains("model.toml:8") && text.contains("score_floor: -1") && text.contains("nms_iou: 2"),
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
    assert_eq!(
        ids,
        [
            "adverts_nano_416",
            "garbage_nano_416",
            "picodet_s_416_coco",
            "ppocr_v6_rec",
            "ppocr_v6_text_det",
            "yolox_nano_416_coco",
            "yunet_n"
        ]
    );
}
