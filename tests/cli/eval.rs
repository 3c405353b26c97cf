//! `gridwatch eval` with a real model on real pictures, labelled with the detections of an independent implementation.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use crate::packages;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

const MODEL: &str = "models/garbage_nano_416";
const LABELS: [&str; 4] = ["garbage", "garbage_bin", "overflow", "sign"];

fn eval(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(["eval", "--model", MODEL])
        .args(arguments)
        .output()
        .unwrap()
}

/// Writes the fixture pictures to `dir`, labelled with the reference's boxes that score `min_score` or more; `class` maps labels to
/// class numbers.
fn labelled(dir: &Path, min_score: f64, class: impl Fn(&str) -> usize) {
    let goldens = fs::read_to_string("tests/fixtures/models/goldens.json").unwrap();
    let goldens: Vec<Value> = serde_json::from_str(&goldens).unwrap();
    for golden in goldens.iter().filter(|g| g["model"] == "garbage_nano_416") {
        let name = golden["picture"].as_str().unwrap();
        fs::copy(
            format!("tests/fixtures/pictures/{name}.jpg"),
            dir.join(format!("{name}.jpg")),
        )
        .unwrap();
        let boxes = golden["whole"].as_array().unwrap().iter();
        let lines: String = boxes
            .filter(|b| b["score"].as_f64().unwrap() >= min_score)
            .map(|b| {
                let c: Vec<f64> = b["box"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|v| v.as_f64().unwrap())
                    .collect();
                let (w, h) = (c[2] - c[0], c[3] - c[1]);
                let class = class(b["label"].as_str().unwrap());
                format!("{class} {} {} {w} {h}\n", c[0] + w / 2.0, c[1] + h / 2.0)
            })
            .collect();
        fs::write(dir.join(format!("{name}.txt")), lines).unwrap();
    }
}

fn own(label: &str) -> usize {
    LABELS.iter().position(|l| *l == label).unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_objects_that_the_reference_finds_are_found() {
    let dir = tempfile::tempdir().unwrap();
    labelled(dir.path(), 0.4, own);
    let (curves, misses) = (dir.path().join("curves.svg"), dir.path().join("misses.png"));
    let data = dir.path().to_str().unwrap();
    let output = eval(&[
        "--data",
        data,
        "--json",
        "--at",
        "0.4",
        "--curves",
        curves.to_str().unwrap(),
        "--misses",
        misses.to_str().unwrap(),
    ]);
    let report = json(&output);
    assert_eq!(report["pictures"], 4);
    assert!(report["ms_per_picture"].as_f64().unwrap() > 0.0);
    for label in report["labels"].as_array().unwrap() {
        let things = label["all"]["things"].as_u64().unwrap();
        match label["all"]["ap50"].as_f64() {
            // Not exactly 1: boxes below the labelling threshold count as false, at lower scores.
            Some(ap50) => assert!(things > 0 && ap50 > 0.95, "{label}"),
            None => assert_eq!(things, 0, "{label}"),
        }
    }
    assert!(
        report["mean"]["all"]["ap50_95"].as_f64().unwrap() > 0.6,
        "{}",
        report["mean"]
    );
    assert_eq!(report["confusion"].as_array().unwrap().len(), LABELS.len() + 1);
    assert!(fs::read_to_string(&curves).unwrap().contains("garbage: AP50"));
    let (wide, high) = image::image_dimensions(&misses).unwrap();
    assert_eq!((wide, high % 240), (6 * 240, 0));
}

#[test]
fn a_second_look_only_removes_boxes() {
    let dir = tempfile::tempdir().unwrap();
    labelled(dir.path(), 0.4, own);
    let data = dir.path().to_str().unwrap();
    let options = ["--data", data, "--json", "--at", "0.3"];
    let without = json(&eval(&options));
    assert!(without.get("second_look").is_none());
    let other = "--second-look=models/yolox_nano_416_coco";
    for (option, model) in [("--second-look", "garbage_nano_416@"), (other, "yolox_nano_416_coco@")] {
        let report = json(&eval(&[&options[..], &[option]].concat()));
        let second = &report["second_look"];
        assert!(second["model"].as_str().unwrap().starts_with(model), "{second}");
        assert!(second["looks"].as_u64().unwrap() > 0);
        for (label, whole) in second["labels"]
            .as_array()
            .unwrap()
            .iter()
            .zip(report["labels"].as_array().unwrap())
        {
            let points = label["asked"].as_array().unwrap();
            let of = |p: &Value, what: &str| p[what].as_f64().unwrap_or(0.0);
            for (before, after) in points.iter().zip(&points[1..]) {
                assert!(
                    of(after, "wrong") <= of(before, "wrong") && of(after, "recall") <= of(before, "recall"),
                    "{label}"
                );
            }
            // A minimum score of 0 gives the first look's result.
            assert!(
                (of(&points[0], "recall") - of(&whole["at"], "recall")).abs() < 0.02,
                "{label} {whole}"
            );
        }
        if option == other {
            let garbage = &second["labels"][own("garbage")]["asked"];
            assert_eq!(
                garbage[1]["recall"], 0.0,
                "that model has no label for garbage: {garbage}"
            );
        }
    }
}

#[test]
fn classes_are_mapped_by_name_and_unmapped_ones_left_out() {
    let dir = tempfile::tempdir().unwrap();
    labelled(dir.path(), 0.4, |label| match label {
        "garbage" => 0,
        _ => 1,
    });
    let data = dir.path().to_str().unwrap();
    let report = json(&eval(&[
        "--data",
        data,
        "--json",
        "--names",
        "rubbish,other",
        "--map",
        "rubbish=garbage",
    ]));
    let things = |label: usize| report["labels"][label]["all"]["things"].as_u64().unwrap();
    assert!(things(0) > 0);
    assert_eq!((things(1), things(2), things(3)), (0, 0, 0));
    assert_eq!(report["left_out"][0][0], "other");

    let text = String::from_utf8(eval(&["--data", data]).stdout).unwrap();
    assert!(
        text.contains("garbage_nano_416@") && text.contains("best threshold"),
        "{text}"
    );

    let failed = eval(&["--data", data, "--names", "rubbish,other", "--map", "rubbish=garbag"]);
    assert_eq!(failed.status.code(), Some(3));
    let stderr = String::from_utf8(failed.stderr).unwrap();
    assert!(
        stderr.contains("the model has no label \"garbag\"; use one of garbage, garbage_bin"),
        "{stderr}"
    );
}

#[test]
fn an_unreadable_data_set_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let fails_with = |expected: &str| {
        let output = eval(&["--data", dir.path().to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(5), "{output:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(expected), "{stderr}");
    };
    fails_with("contains no pictures");
    fs::write(dir.path().join("a.jpg"), "no picture").unwrap();
    fs::write(dir.path().join("a.txt"), "0 1 2\n").unwrap();
    fails_with("a.txt:1: 2 numbers after the class");
    fs::write(dir.path().join("a.txt"), "").unwrap();
    fails_with("a.jpg: cannot decode the picture");
}

#[test]
fn two_models_are_compared_with_each_other_and_with_the_labels() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    labelled(&data, 0.4, own);
    // With the wrong scale its input is almost black.
    let spoiled = packages::package(&dir.path().join("spoiled"), "9.9.9");
    packages::edit(&spoiled, "pad", "pad = 114\nstd = [255.0, 255.0, 255.0]");
    let sheet = dir.path().join("differ.png");
    let output = Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args([
            "model",
            "compare",
            MODEL,
            spoiled.to_str().unwrap(),
            "--json",
            "--at",
            "0.4",
            "--data",
        ])
        .arg(&data)
        .arg("--sheet")
        .arg(&sheet)
        .output()
        .unwrap();
    let report = json(&output);
    assert!(report["new"].as_str().unwrap().ends_with("@9.9.9"));
    assert_eq!(report["differences"]["pictures"], 4);
    let garbage = &report["differences"]["labels"]["garbage"];
    assert_eq!(
        (&garbage["both"], &garbage["only_new"]),
        (&0.into(), &0.into()),
        "{garbage}"
    );
    assert!(garbage["only_old"].as_u64().unwrap() > 0);
    let mean = report["measured"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["label"] == "mean")
        .unwrap();
    assert!(mean["old"]["ap50"].as_f64().unwrap() > 0.95, "{mean}");
    assert!(mean["new"]["ap50"].as_f64().unwrap() < 0.5, "{mean}");
    assert!(image::image_dimensions(&sheet).unwrap().1 > 0);
}
