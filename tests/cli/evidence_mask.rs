//! `gridwatch evidence mask` on real pictures: labelled faces, heads and plates are covered, and the masked pictures are written.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use gridwatch::cli::{Failure, evidence::mask};
use gridwatch_base::error::Class;
use image::RgbImage;
use serde_json::Value;

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: mask::MaskArgs,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/masking")
}

/// Exit code, standard output, standard error.
fn run(arguments: &[&str]) -> Result<(u8, String, String), Failure> {
    let args = Command::try_parse_from([&["mask"], arguments].concat()).unwrap().args;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = mask::run_to(&args, &mut out, &mut err)?;
    Ok((code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap()))
}

fn mask(arguments: &[&str]) -> (u8, String, String) {
    run(arguments).unwrap_or_else(|e| panic!("{e}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn picture(path: &Path) -> RgbImage {
    image::open(path).unwrap().to_rgb8()
}

/// Mean absolute difference of two pictures' green channels in a box.
fn difference(a: &RgbImage, b: &RgbImage, [x1, y1, x2, y2]: [u32; 4]) -> f64 {
    let pixels = (y1..y2).flat_map(|y| (x1..x2).map(move |x| (x, y)));
    let difference = |(x, y)| f64::from(a.get_pixel(x, y).0[1].abs_diff(b.get_pixel(x, y).0[1]));
    let all: Vec<f64> = pixels.map(difference).collect();
    all.iter().sum::<f64>() / all.len() as f64
}

#[test]
fn every_face_head_and_plate_of_the_fixtures_stays_covered() {
    let dir = fixtures();
    let labels = dir.join("labels.json");
    let (code, out, err) = mask(&["--truth", text(&labels), "--json", text(&dir)]);
    assert_eq!((code, err.as_str()), (0, ""));

    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!(summary["pictures"], 6);
    let count = |kind: &str, column: &str| -> u64 {
        let sizes = summary["against_truth"][kind].as_array().unwrap();
        sizes.iter().map(|size| size[column].as_u64().unwrap()).sum()
    };
    for (kind, labels) in [("face", 11), ("head", 10), ("plate", 2)] {
        assert_eq!(count(kind, "labels"), labels, "{kind}");
        assert_eq!(count(kind, "covered"), labels, "{kind}: {out}");
    }
    // Masking the whole picture would cover everything, too.
    let masked = summary["masked"].as_f64().unwrap();
    assert!((0.01..0.05).contains(&masked), "{masked}");
}

#[test]
fn the_written_picture_is_masked_at_the_labels_and_unchanged_elsewhere() {
    let out = tempfile::tempdir().unwrap();
    let original = fixtures().join("img_500.jpg");
    let (code, stdout, _) = mask(&["--out", text(out.path()), text(&original)]);
    assert_eq!(code, 0);
    assert!(stdout.contains("img_500.jpg (720×405"), "{stdout}");
    assert!(stdout.contains("1 picture,"), "{stdout}");

    let (before, after) = (picture(&original), picture(&out.path().join("img_500.jpg")));
    for face in [[366, 280, 382, 297], [639, 288, 658, 306], [629, 311, 643, 330]] {
        assert!(difference(&before, &after, face) > 12.0, "{face:?}");
    }
    assert!(difference(&before, &after, [0, 0, 300, 200]) < 4.0);
}

#[test]
fn an_unreadable_picture_is_reported_and_the_others_are_masked() {
    let (out, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bad = inside.path().join("bad.jpg");
    fs::write(&bad, b"no picture").unwrap();
    let car = fixtures().join("car.jpg");
    let (code, stdout, err) = mask(&["--out", text(out.path()), text(&bad), text(&car)]);
    assert_eq!(code, Class::Data.exit_code());
    assert!(err.contains("bad.jpg"), "{err}");
    assert!(stdout.contains("car.jpg"), "{stdout}");
    assert!(out.path().join("car.jpg").is_file() && !out.path().join("bad.jpg").exists());
}

#[test]
fn input_pictures_are_never_overwritten() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (car, mine) = (fixtures().join("car.jpg"), dir.path().join("car.jpg"));
    fs::copy(&car, &mine).unwrap();
    for arguments in [
        &["--out", text(dir.path()), text(&mine)][..],
        &["--out", text(out.path()), text(&car), text(&mine)],
    ] {
        let error = run(arguments).unwrap_err().to_string();
        assert!(error.contains("car.jpg: would overwrite an input picture"), "{error}");
    }
    assert_eq!(fs::read(&mine).unwrap(), fs::read(&car).unwrap());
}

#[test]
fn an_invalid_truth_file_is_rejected_before_any_picture_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let truth = dir.path().join("truth.json");
    for (json, what) in [
        (r#"{"a.jpg": {"nose": [[0, 0, 1, 1]]}}"#, "nose"),
        (
            r#"{"a.jpg": {"face": [[5, 0, 1, 1]]}}"#,
            "a.jpg: face [5.0, 0.0, 1.0, 1.0] is not a box",
        ),
        ("[]", "expected the boxes of each picture"),
    ] {
        fs::write(&truth, json).unwrap();
        let failure = run(&["--truth", text(&truth), text(&fixtures())]).unwrap_err();
        assert_eq!(failure.class, Class::Config);
        assert!(
            failure.message.contains("truth.json") && failure.message.contains(what),
            "{failure}"
        );
    }
}
