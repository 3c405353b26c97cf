//! `gridwatch calibrate`: residuals and uncertainty as a table and as JSON, the ground grid drawn into a picture, and the same
//! errors as `gridwatch check`.

use std::{
    fs,
    process::{Command, Output},
};

fn calibrate(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .arg("calibrate")
        .args(arguments)
        .env_remove("GRIDWATCH_CONFIG")
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The unit tests' camera, 6 m above the ground and tilted down 20°; ground points in metres from its foot.
const PAIRS: &str = "crs = \"local:120.001,30.001,30\"\npoints = [
  { picture = [0.1, 0.9], ground = [-4.7279, 8.7092] },
  { picture = [0.9, 0.9], ground = [4.7279, 8.7092] },
  { picture = [0.8, 0.4], ground = [7.3970, 20.5400] },
  { picture = [0.2, 0.4], ground = [-7.3970, 20.5400] },
";

#[test]
fn a_cameras_pairs_are_printed_as_a_table_despite_other_faults_in_the_configuration() {
    let output = calibrate(&["--config", "configs/edge.toml", "--camera", "gate-east"]);
    let table = out(&output);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(
        table
            .lines()
            .filter(|l| l.ends_with(" m") || l.ends_with("  worst"))
            .count(),
        6,
        "{table}"
    );
    assert!(table.contains("6 pairs in EPSG:4490, residual 0.0"), "{table}");
}

#[test]
fn a_file_of_pairs_gives_json_and_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("pairs.toml"), format!("{PAIRS}]\nmax_uncertainty_m = 2.0\n")).unwrap();
    image::RgbImage::from_pixel(960, 540, image::Rgb([90, 90, 90]))
        .save(path("still.png"))
        .unwrap();
    let output = calibrate(&[
        "--points",
        &path("pairs.toml"),
        "--json",
        "--picture",
        &path("still.png"),
        "--out",
        &path("ground.png"),
    ]);
    assert!(output.status.success(), "{}", err(&output));
    let report: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert!(report["rms_m"].as_f64().unwrap() < 1e-3, "{report}");
    assert_eq!(report["uncertainty"].as_array().unwrap().len(), 25);
    assert!(
        report["uncertainty"][0]["uncertainty_m"]
            .as_f64()
            .is_none_or(|u| u > 2.0),
        "{report}"
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path("ground.png")).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it is not masked");
    let drawn = image::open(path("ground.png")).unwrap().to_rgb8();
    assert_eq!(drawn.dimensions(), (960, 540));
    let changed_pixels = |ys: std::ops::Range<u32>| {
        let all = ys.flat_map(|y| (0..960).map(move |x| (x, y)));
        all.filter(|(x, y)| drawn.get_pixel(*x, *y).0 != [90, 90, 90]).count()
    };
    assert!(changed_pixels(270..540) > 10_000, "lines on the ground");
    assert_eq!(changed_pixels(0..40), 0, "none in the sky");
}

#[test]
fn faulty_pairs_give_the_same_errors_as_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pairs.toml").display().to_string();
    for (text, message) in [
        (
            format!("{PAIRS}]\n").replacen("crs = \"local:120.001,30.001,30\"", "", 1),
            "crs: missing",
        ),
        (
            "crs = \"EPSG:4490\"\npoints = [{ picture = [0.1, 0.9], ground = [120.0001, 30.0] }]".into(),
            "points: 1 point pairs, a calibration needs 4 or more",
        ),
        (
            format!("{PAIRS}]\ndistortion = {{ k1 = -0.4 }}\n"),
            "distortion: k1 = -0.4, k2 = 0 is not invertible",
        ),
    ] {
        fs::write(&file, text).unwrap();
        let output = calibrate(&["--points", &file]);
        assert_eq!(output.status.code(), Some(3));
        assert!(err(&output).contains(message), "{}", err(&output));
    }
    let output = calibrate(&["--config", "tests/golden/broken.toml", "--camera", "none"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("the pairs are collinear"), "{}", err(&output));
}

#[test]
fn pairs_must_come_from_exactly_one_source() {
    for arguments in [&[][..], &["--camera", "gate-east"], &["--points", "a", "--out", "b"]] {
        assert_eq!(calibrate(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
