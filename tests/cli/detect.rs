//! `gridwatch detect` on real pictures: the JSON output, EXIF rotation, and unreadable files.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use gridwatch::cli::detect;
use gridwatch_model::ModelError;
use serde_json::Value;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: detect::DetectArgs,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn model(name: &str) -> String {
    root().join("models").join(name).to_str().unwrap().into()
}

fn picture(name: &str) -> PathBuf {
    root().join("tests/fixtures/pictures").join(name)
}

/// Exit code, standard output, standard error.
fn detect(arguments: &[&str]) -> (u8, String, String) {
    let args = Command::try_parse_from([&["detect"], arguments].concat()).unwrap().args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = detect::run_to(args, &mut out, &mut err).unwrap_or_else(|e| panic!("{e}"));
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn lines(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn corners(detection: &Value) -> [f64; 4] {
    let list: Vec<f64> = detection["box"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    list.try_into().unwrap()
}

#[test]
fn each_picture_gives_one_line_of_json() {
    let (bags, cars) = (picture("bags.jpg"), picture("cars.jpg"));
    let (code, out, err) = detect(&[
        "--model",
        &model("garbage_nano_416"),
        "--json",
        bags.to_str().unwrap(),
        cars.to_str().unwrap(),
    ]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines = lines(&out);
    assert_eq!(lines.len(), 2);
    for (line, path) in lines.iter().zip([&bags, &cars]) {
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert_eq!(line["image"], path.to_str().unwrap());
        let (w, h) = image::image_dimensions(path).unwrap();
        assert_eq!(
            (line["width"].as_u64(), line["height"].as_u64()),
            (Some(w.into()), Some(h.into()))
        );
        for detection in line["detections"].as_array().unwrap() {
            assert_eq!(detection.as_object().unwrap().len(), 3);
            assert!(detection["label"].is_string());
            assert!((0.1..=1.0).contains(&detection["score"].as_f64().unwrap()));
            let [x1, y1, x2, y2] = corners(detection);
            assert!(
                0.0 <= x1 && x1 < x2 && x2 <= w.into() && 0.0 <= y1 && y1 < y2 && y2 <= h.into(),
                "{detection}"
            );
        }
    }
    // The heap was pasted at x 40 to 73 %, from y 65 % to the lower edge.
    let heap = &lines[0]["detections"][0];
    assert_eq!(heap["label"], "garbage");
    let wanted = [288.0, 264.0, 525.0, 405.0];
    assert!(
        corners(heap)
            .iter()
            .zip(wanted)
            .all(|(have, want)| (have - want).abs() < 12.0),
        "{heap}"
    );
}

#[test]
fn an_unreadable_picture_is_reported_and_the_others_are_processed() {
    let dir = tempfile::tempdir().unwrap();
    let (text, cut, none) = (
        dir.path().join("notes.jpg"),
        dir.path().join("cut.png"),
        dir.path().join("none.jpg"),
    );
    fs::write(&text, "not a picture").unwrap();
    let whole = fs::read(picture("person.416.png")).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let good = picture("person.jpg");
    let paths = [&text, &good, &cut, &none, &good].map(|p| p.to_str().unwrap());
    let (code, out, err) = detect(&[&["--model", &model("yolox_nano_416_coco"), "--json"], &paths[..]].concat());
    assert_eq!(code, 5);
    let lines = lines(&out);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], lines[1]);
    assert_eq!(lines[0]["detections"][0]["label"], "person");
    let complaints: Vec<_> = err.lines().collect();
    assert_eq!(complaints.len(), 3, "{err}");
    for (complaint, path) in complaints.iter().zip([&text, &cut, &none]) {
        assert!(complaint.starts_with(&format!("{}: ", path.display())), "{complaint}");
    }
}

#[test]
fn min_score_filters_detections() {
    let cars = picture("cars.jpg");
    let count = |score: &str| {
        let model = model("yolox_nano_416_coco");
        let (code, out, _) = detect(&[
            "--model",
            &model,
            "--json",
            "--min-score",
            score,
            cars.to_str().unwrap(),
        ]);
        assert_eq!(code, 0);
        let line = lines(&out).remove(0);
        let scores: Vec<_> = line["detections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d["score"].as_f64().unwrap())
            .collect();
        assert!(
            scores.iter().all(|s| *s >= score.parse::<f64>().unwrap() - 1e-6),
            "{scores:?}"
        );
        scores.len()
    };
    let (all, floor, sure) = (count("0.01"), count("0.1"), count("0.8"));
    assert!(all > floor && floor > sure && sure == 2, "{all} {floor} {sure}");
    for bad in ["1.5", "-0.1", "half", "NaN"] {
        let typed = ["detect", "--model", "m", &format!("--min-score={bad}"), "p"];
        assert!(Command::try_parse_from(typed).is_err(), "{bad}");
    }
}

/// A phone held upright stores the picture rotated, with its orientation in EXIF.
#[test]
fn the_exif_rotation_is_applied() {
    let upright = image::open(picture("cars.jpg")).unwrap();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)
        .encode_image(&upright.rotate270())
        .unwrap();
    // One APP1 segment after the start marker: TIFF, one entry, orientation 6 (turn right to show).
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    let dir = tempfile::tempdir().unwrap();
    let turned = dir.path().join("phone.jpg");
    fs::write(&turned, jpeg).unwrap();
    let (code, out, err) = detect(&[
        "--model",
        &model("yolox_nano_416_coco"),
        "--min-score",
        "0.8",
        "--json",
        turned.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{err}");
    let line = &lines(&out)[0];
    assert_eq!(line["width"].as_u64(), Some(upright.width().into()));
    assert_eq!(line["detections"].as_array().unwrap().len(), 2, "{line}");
}

#[test]
fn plain_text_lists_each_detection_with_its_position() {
    let (_, out, _) = detect(&[
        "--model",
        &model("yolox_nano_416_coco"),
        "--min-score",
        "0.8",
        picture("person.jpg").to_str().unwrap(),
    ]);
    let lines: Vec<_> = out.lines().collect();
    assert!(lines[0].ends_with("person.jpg (768×432): 1 found"), "{out}");
    assert!(lines[1].contains("person") && lines[1].contains("x 38"), "{out}");
    assert_eq!(lines.len(), 2);
}

#[test]
fn a_missing_model_folder_is_an_error() {
    let args = Command::try_parse_from(["detect", "--model", "/nowhere", "p.jpg"])
        .unwrap()
        .args;
    let error = detect::run_to(args, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, ModelError::Read { .. }), "{error}");
}

#[test]
fn overlays_are_readable_by_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, bags) = (dir.path().join("drawn"), picture("bags.jpg"));
    let arguments = ["--overlay", folder.to_str().unwrap(), bags.to_str().unwrap()];
    let (code, _, err) = detect(&[&["--model", &model("garbage_nano_416")][..], &arguments].concat());
    assert_eq!(code, 0, "{err}");
    let file = fs::metadata(folder.join("bags.png")).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&file);
    assert_eq!(mode & 0o777, 0o600, "it is not masked");
}
