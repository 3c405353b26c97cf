//! `gridwatch ocr` on real pictures: the JSON output and the accuracy summary.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::path::{Path, PathBuf};

use clap::Parser;
use gridwatch::cli::ocr;
use gridwatch_base::error::Class;
use serde_json::Value;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: ocr::OcrArgs,
}

fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/reading")
        .join(name)
}

fn parsed(arguments: &[&str]) -> ocr::OcrArgs {
    // Models are named from the working directory, which is the repository's root.
    Command::try_parse_from([&["ocr"], arguments].concat()).unwrap().args
}

/// Exit code, standard output, standard error.
fn read(arguments: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = ocr::run_to(&parsed(arguments), &mut out, &mut err).unwrap_or_else(|e| panic!("{e}"));
    (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

#[test]
fn a_line_of_json_for_each_picture_and_a_summary() {
    let (wall, clock) = (picture("wall-4.jpg"), picture("clock.jpg"));
    let (code, out, err) = read(&["--json", wall.to_str().unwrap(), clock.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    let mut numbers: Vec<&str> = lines[0]["numbers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n["number"].as_str().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["02144268128", "14771885142"]);
    let left_top = &lines[0]["numbers"][0]["corners"][0];
    assert!(left_top[0].as_f64().unwrap() > 1.0, "pixels: {left_top}");
    assert_eq!(lines[0]["adverts"].as_array().unwrap().len(), 2);
    assert!(lines[0]["lines"].as_array().unwrap().len() >= 2);
    assert_eq!(lines[1]["numbers"], serde_json::json!([]));
    assert_eq!(lines[2]["summary"]["pictures"], 2);
    assert_eq!(lines[2]["summary"]["with_numbers"], 1);
}

#[test]
fn the_accuracy_is_measured_against_the_true_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let truth = dir.path().join("truth.json");
    // One of the picture's two numbers, and one that is not in it.
    let there = r#"{"wall-4.jpg": [{"number": "02144268128", "height": 17.5}, {"number": "13800138000"}]}"#;
    std::fs::write(&truth, there).unwrap();
    let (wall, clock) = (picture("wall-4.jpg"), picture("clock.jpg"));
    let (code, out, _) = read(&[
        "--truth",
        truth.to_str().unwrap(),
        wall.to_str().unwrap(),
        clock.to_str().unwrap(),
    ]);
    assert_eq!(code, 0);
    assert!(
        out.contains("1 of 2 true numbers read exactly (50.0 %); 1 false number in 1 picture (50.0 %)."),
        "{out}"
    );
    assert!(out.contains("2 pictures, 1 with numbers (50.0 %)"), "{out}");
    assert!(out.contains("   16 to  20 pixels: 1 of 1 numbers (100.0 %)"), "{out}");
}

#[test]
fn chinese_ads_and_banners_are_read_judged_and_measured() {
    let walls: Vec<PathBuf> = (1..=4).map(|n| picture(&format!("zh-{n}.jpg"))).collect();
    let mut arguments: Vec<&str> = walls.iter().map(|w| w.to_str().unwrap()).collect();
    let truth = picture("zh.json");
    arguments.extend(["--json", "--truth", truth.to_str().unwrap()]);
    let (code, out, err) = read(&arguments);
    assert_eq!((code, err.as_str()), (0, ""));
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let advert = |row: usize, field: &str| rows[row]["adverts"][0][field].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (advert(0, "kind"), advert(0, "number")),
        ("small_ad".into(), "02030644484".into())
    );
    assert_eq!(rows[0]["adverts"][0]["trades"][0], "locks");
    assert_eq!(advert(1, "messenger"), "wechat mqhbgb113099");
    assert_eq!(
        (advert(2, "kind"), advert(2, "text")),
        ("banner".into(), "最后三天清仓大甩卖".into())
    );
    let accuracy = &rows[4]["summary"]["against_truth"];
    let figure = |of: &Value, name: &str| of[name].as_u64().unwrap();
    assert_eq!((figure(accuracy, "lines"), figure(accuracy, "wrong")), (12, 0));
    assert!(
        figure(accuracy, "errors") * 20 <= figure(accuracy, "characters"),
        "{accuracy}"
    );
    assert_eq!(figure(accuracy, "exact"), figure(accuracy, "there"));
    let by_height = accuracy["by_height"].as_array().unwrap();
    assert_eq!(by_height.iter().map(|at| figure(at, "lines")).sum::<u64>(), 12);
}

#[test]
fn looks_at_one_wall_are_voted_on_and_reported_once() {
    let wall = picture("zh-1.jpg");
    let wall = wall.to_str().unwrap();
    let (_, out, _) = read(&["--looks", "3", wall, wall, wall, wall]);
    assert!(
        out.contains("1 picture, 1 with numbers"),
        "three looks are one view, the fourth waits: {out}"
    );
}

#[test]
fn a_bad_picture_does_not_stop_the_others_and_a_bad_truth_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.jpg");
    std::fs::write(&bad, "\u{ff}\u{d8}no picture").unwrap();
    let wall = picture("wall-4.jpg");
    let (code, out, err) = read(&[bad.to_str().unwrap(), wall.to_str().unwrap()]);
    assert_eq!(code, Class::Data.exit_code());
    assert!(out.contains("02144268128"), "{out}");
    assert!(err.contains("bad.jpg"), "{err}");
    let args = parsed(&["--truth", bad.to_str().unwrap(), wall.to_str().unwrap()]);
    let error = ocr::run_to(&args, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert!(
        error.to_string().contains("expected the texts of each picture"),
        "{error}"
    );
}

#[test]
fn the_default_models_are_found_from_any_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    image::RgbImage::from_pixel(64, 64, image::Rgb([128; 3]))
        .save(dir.path().join("grey.png"))
        .unwrap();
    // `read` is the command's former name.
    for arguments in [&["ocr"][..], &["read"], &["evidence", "mask", "--out", "masked"]] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(arguments)
            .arg("grey.png")
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}
