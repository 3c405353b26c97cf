//! `gridwatch signs`: recording a baseline, keeping the operator's edits, and the demo's baseline, which approves every sign in its
//! clip but the banner.
#![cfg(all(feature = "gst", feature = "ort"))]

#[cfg(feature = "gst")]
use crate::daemon;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn signs(arguments: &[&str]) -> Output {
    signs_of("configs/demo.toml", arguments)
}

fn signs_of(config: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("signs")
        .args(arguments)
        .args(["--config", config])
        .env_remove("GRIDWATCH_CONFIG")
        .output()
        .unwrap()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Pictures of a house front with two boards, at five brightness levels.
fn front(dir: &Path) -> Vec<PathBuf> {
    let picture = image::open("demo/assets/facade_488.jpg").unwrap().to_rgb8();
    let lit = |(i, gain): (usize, f32)| {
        let mut picture = picture.clone();
        for value in picture.iter_mut() {
            *value = (f32::from(*value) * gain).round().min(255.0) as u8;
        }
        let file = dir.join(format!("{i}.png"));
        picture.save(&file).unwrap();
        file
    };
    [0.8, 0.9, 1.0, 1.1, 1.15].into_iter().enumerate().map(lit).collect()
}

fn record(dir: &Path, more: &[&str]) -> Output {
    let file = dir.join("signs/front.toml");
    let pictures = front(dir);
    let pictures = pictures.iter().map(|p| p.to_str().unwrap());
    let arguments = ["record", "street-a", "--out", file.to_str().unwrap(), "--pictures"];
    signs(
        &arguments
            .into_iter()
            .chain(pictures)
            .chain(more.iter().copied())
            .collect::<Vec<_>>(),
    )
}

#[test]
fn signs_are_recorded_and_drawn_and_the_operators_edits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signs/front.toml");
    let overlay = dir.path().join("front.png");
    let report = json(&record(dir.path(), &["--json", "--overlay", overlay.to_str().unwrap()]));
    assert_eq!(
        (&report["looks"], &report["clear"]),
        (&Value::from(5), &Value::from(5)),
        "{report}"
    );
    assert_eq!(report["added"].as_array().unwrap().len(), 2, "{report}");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&overlay).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it is not masked");
    let drawn = image::open(&overlay).unwrap().to_rgb8();
    assert!(
        drawn.pixels().any(|p| p.0 == [255, 214, 0]),
        "new signs are outlined in yellow"
    );

    // The operator deletes the left sign and adds a note to the right one.
    let text = fs::read_to_string(&file).unwrap();
    let (before, right) = text.split_once("# 2\n").unwrap();
    let (head, _) = before.split_once("# 1\n").unwrap();
    let edited = format!("{head}# the hotel's, asked on Monday\n{right}").replace("note = \"\"", "note = \"permit 7\"");
    fs::write(&file, &edited).unwrap();
    let again = json(&record(dir.path(), &["--json"]));
    let added = again["added"].as_array().unwrap();
    assert_eq!((added.len(), &added[0]["number"]), (1, &Value::from(2)), "{again}");
    assert_eq!(again["unseen"], Value::Array(vec![]), "{again}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("# the hotel's, asked on Monday\n"), "{text}");
    let baseline = gridwatch_config::read_signs(&file).unwrap();
    let notes: Vec<_> = baseline.signs.iter().map(|s| s.note.as_deref().unwrap()).collect();
    assert_eq!((notes, baseline.camera.as_str()), (vec!["permit 7", ""], "street-a"));
    assert_eq!(baseline.model, "garbage_nano_416@1.2.0");

    let anew = json(&record(dir.path(), &["--json", "--replace"]));
    assert_eq!(anew["added"].as_array().unwrap().len(), 2, "{anew}");
    assert!(!fs::read_to_string(&file).unwrap().contains("permit 7"));
}

#[test]
fn recording_errors_have_their_exit_codes_and_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dark = dir.path().join("dark.png");
    image::RgbImage::new(320, 180).save(&dark).unwrap();
    let out = dir.path().join("dark.toml");
    let (dark, out_arg) = (dark.to_str().unwrap(), out.to_str().unwrap());
    let fails_with = |output: Output, code: i32, message: &str| {
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    };
    fails_with(
        signs(&["record", "street-a", "--pictures", dark, "--out", out_arg]),
        4,
        "none of 1 looks at street-a was clear",
    );
    assert!(!out.exists(), "no baseline is written without a clear look");
    fails_with(
        signs(&["record", "street-x", "--pictures", dark]),
        3,
        "no camera has the id \"street-x\"",
    );
    fails_with(
        signs(&["record", "street-a", "--pictures", "no-such.jpg", "--out", out_arg]),
        5,
        "no-such.jpg",
    );
    // Another camera's baseline is not changed.
    let other = fs::read_to_string("configs/signs/square-c.toml").unwrap();
    fs::write(&out, &other).unwrap();
    fails_with(
        signs(&["record", "street-a", "--pictures", dark, "--out", out_arg]),
        3,
        "is the baseline of \"square-c\"",
    );
    assert_eq!(fs::read_to_string(&out).unwrap(), other);
}

#[test]
fn the_demos_baseline_approves_every_sign_in_its_clip_but_the_banner() {
    if !cfg!(feature = "gst") {
        return; // Reading a clip needs GStreamer.
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("street-a.toml");
    fs::copy("configs/signs/street-a.toml", &copy).unwrap();
    let clip = "demo/clips/street-a.mp4";
    let found = signs(&[
        "record",
        "street-a",
        "--json",
        "--out",
        copy.to_str().unwrap(),
        "--pictures",
        clip,
    ]);
    let found = json(&found);
    let added = found["added"].as_array().unwrap();
    assert_eq!(added.len(), 1, "{found}");
    let corners: Vec<f64> = added[0]["box"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_f64().unwrap())
        .collect();
    // demo/make_clips.py places it at x 455..820, y 170..298 of 1280×720.
    for (have, want) in corners.iter().zip([0.355, 0.236, 0.641, 0.414]) {
        assert!((have - want).abs() < 0.03, "{corners:?}");
    }
    let listed = json(&signs(&["list", "street-a", "--json"]));
    assert_eq!(listed["signs"].as_array().unwrap().len(), 2, "{listed}");
}

/// The configuration names a baseline that does not exist yet, as before a first recording.
#[cfg(feature = "gst")]
#[test]
fn a_live_camera_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let farm = daemon::farm(&["street-a"]);
    let text = fs::read_to_string("configs/demo.toml")
        .unwrap()
        .replace("rtsp://127.0.0.1:8554/street-a", &farm.url("street-a"))
        .replace("\"../models", &format!("\"{root}/models"))
        .replace("\"grid/", &format!("\"{root}/configs/grid/"))
        .replace("\"categories/", &format!("\"{root}/configs/categories/"));
    let config = dir.path().join("edge.toml");
    fs::write(&config, text).unwrap();
    let arguments = ["record", "street-a", "--looks", "3", "--every", "1s", "--json"];
    let report = json(&signs_of(config.to_str().unwrap(), &arguments));
    assert_eq!(
        (&report["looks"], &report["clear"]),
        (&Value::from(3), &Value::from(3)),
        "{report}"
    );
    assert!(report["added"].as_array().unwrap().len() >= 2, "{report}");
    assert!(dir.path().join("signs/street-a.toml").is_file(), "{report}");
}
