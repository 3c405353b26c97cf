//! `gridwatch evidence mask` on real pictures: what was labelled by eye stays covered, and what leaves is written.
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
    args: mask::Args,
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

/// Mean difference of two pictures in a box, in grey levels.
fn difference(a: &RgbImage, b: &RgbImage, [x1, y1, x2, y2]: [u32; 4]) -> f64 {
    let pixels = (y1..y2).flat_map(|y| (x1..x2).map(move |x| (x, y)));
    let apart = |(x, y)| f64::from(a.get_pixel(x, y).0[1].abs_diff(b.get_pixel(x, y).0[1]));
    let all: Vec<f64> = pixels.map(apart).collect();
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
    let counted = |kind: &str, what: &str| -> u64 {
        let sizes = summary["against_truth"][kind].as_array().unwrap();
        sizes.iter().map(|size| size[what].as_u64().unwrap()).sum()
    };
    for (kind, labels) in [("face", 11), ("head", 10), ("plate", 2)] {
        assert_eq!(counted(kind, "labels"), labels, "{kind}");
        assert_eq!(counted(kind, "covered"), labels, "{kind}: {out}");
    }
    // Masking everything would cover everything, too.
    let masked = summary["masked"].as_f64().unwrap();
    assert!((0.01..0.05).contains(&masked), "{masked}");
}

#[test]
fn what_is_written_is_masked_where_the_labels_are_and_the_rest_is_the_picture() {
    let out = tempfile::tempdir().unwrap();
    let original = fixtures().join("img_500.jpg");
    let (code, told, _) = mask(&["--out", text(out.path()), text(&original)]);
    assert_eq!(code, 0);
    assert!(told.contains("img_500.jpg (720×405"), "{told}");
    assert!(told.contains("1 pictures"), "{told}");

    let (before, after) = (picture(&original), picture(&out.path().join("img_500.jpg")));
    for face in [[366, 280, 382, 297], [639, 288, 658, 306], [629, 311, 643, 330]] {
        assert!(difference(&before, &after, face) > 12.0, "{face:?}");
    }
    assert!(difference(&before, &after, [0, 0, 300, 200]) < 4.0);
}

#[test]
fn a_bad_picture_is_named_and_the_others_are_masked() {
    let (out, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bad = inside.path().join("bad.jpg");
    fs::write(&bad, b"no picture").unwrap();
    let car = fixtures().join("car.jpg");
    let (code, told, err) = mask(&["--out", text(out.path()), text(&bad), text(&car)]);
    assert_eq!(code, Class::Data.exit_code());
    assert!(err.contains("bad.jpg"), "{err}");
    assert!(told.contains("car.jpg"), "{told}");
    assert!(out.path().join("car.jpg").is_file() && !out.path().join("bad.jpg").exists());
}

#[test]
fn nothing_that_was_given_is_written_over() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (car, mine) = (fixtures().join("car.jpg"), dir.path().join("car.jpg"));
    fs::copy(&car, &mine).unwrap();
    for arguments in [
        &["--out", text(dir.path()), text(&mine)][..],
        &["--out", text(out.path()), text(&car), text(&mine)],
    ] {
        let refused = run(arguments).unwrap_err().to_string();
        assert!(
            refused.contains("car.jpg: this would write over one of the pictures"),
            "{refused}"
        );
    }
    assert_eq!(fs::read(&mine).unwrap(), fs::read(&car).unwrap());
}

#[test]
fn a_truth_that_is_none_is_refused_before_anything_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let truth = dir.path().join("truth.json");
    for (json, what) in [
        (r#"{"a.jpg": {"nose": [[0, 0, 1, 1]]}}"#, "nose"),
        (
            r#"{"a.jpg": {"face": [[5, 0, 1, 1]]}}"#,
            "a.jpg: face [5.0, 0.0, 1.0, 1.0] is no box",
        ),
        ("[]", "it must name what is in each picture"),
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
