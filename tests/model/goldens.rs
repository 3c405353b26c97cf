//! The shipped models return the detections of an independent implementation: `tests/fixtures/models/reference.py` wrote the goldens.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use gridwatch_engine::{BBox, Detection};
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelSet, Runtime,
    manifest::{Colour, Manifest},
    runtime,
};
use image::RgbImage;
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    model: String,
    picture: String,
    tensor: Vec<Found>,
    whole: Vec<Found>,
}

#[derive(Deserialize, Debug)]
struct Found {
    label: String,
    score: f32,
    #[serde(rename = "box")]
    corners: [f32; 4],
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| runtime::init(None).unwrap_or_else(|e| panic!("{e}")))
}

fn goldens() -> BTreeMap<String, Vec<Golden>> {
    let text = std::fs::read_to_string(root().join("tests/fixtures/models/goldens.json")).unwrap();
    let goldens: Vec<Golden> = serde_json::from_str(&text).unwrap();
    let mut by_model: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for golden in goldens {
        by_model.entry(golden.model.clone()).or_default().push(golden);
    }
    by_model
}

fn load(model: &str) -> ModelSet {
    let model = Model::load(&root().join("models").join(model)).unwrap();
    ModelSet::new(runtime(), [&model]).unwrap()
}

fn picture(name: &str) -> RgbImage {
    image::open(root().join("tests/fixtures/pictures").join(name))
        .unwrap()
        .into_rgb8()
}

/// The picture, unscaled, in the top left corner of the padded input, as in reference.py.
fn tensor(manifest: &Manifest, picture: &RgbImage) -> Vec<f32> {
    let input = &manifest.input;
    let mut tensor = Vec::new();
    for channel in 0..3 {
        let sample = match input.colour {
            Colour::Rgb => channel,
            Colour::Bgr => 2 - channel,
        };
        for y in 0..input.height {
            for x in 0..input.width {
                let value = picture.get_pixel_checked(x, y).map_or(input.pad, |p| p.0[sample]);
                tensor.push((f32::from(value) - input.mean[channel]) / input.std[channel]);
            }
        }
    }
    tensor
}

fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |c: [f32; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both / (area(a) + area(b) - both)
}

#[test]
fn the_same_tensor_gives_the_reference_boxes() {
    for (model, goldens) in goldens() {
        let mut models = load(&model);
        for golden in goldens {
            let manifest = models.manifest(0).clone();
            let picture = picture(&format!("{}.416.png", golden.picture));
            let size = (manifest.input.width, manifest.input.height);
            let found = models.detect_tensor(0, &tensor(&manifest, &picture), size).unwrap();
            let case = format!("{model} on {}", golden.picture);
            // Detections right at the floor may fall on either side.
            let is_clear = |score: f32| score > manifest.score_floor + 2e-3;
            assert_eq!(
                found.iter().filter(|f| is_clear(f.score)).count(),
                golden.tensor.iter().filter(|f| is_clear(f.score)).count(),
                "{case}"
            );
            for wanted in golden.tensor.iter().filter(|f| is_clear(f.score)) {
                let same = found.iter().any(|f| {
                    manifest.reported_labels()[f.label] == wanted.label
                        && (f.score - wanted.score).abs() <= 1e-3
                        && iou(f.corners, wanted.corners) >= 0.99
                });
                assert!(same, "{case}: {wanted:?} is not among {found:?}");
            }
        }
    }
}

/// Our letterbox works on 4:2:0 samples and OpenCV's on full-resolution RGB, so scores may differ in the second decimal and boxes
/// by a pixel or two. Both must find every detection with a good score.
#[test]
fn whole_pictures_give_the_detections_of_opencv_and_numpy() {
    let corners = |b: BBox| [b.x1, b.y1, b.x2, b.y2];
    for (model, goldens) in goldens() {
        let mut models = load(&model);
        for golden in goldens {
            let frame = Frame::from_rgb(&picture(&format!("{}.jpg", golden.picture)), Timestamp::UNIX_EPOCH).unwrap();
            let found = models.input(&frame).detect(0).unwrap();
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            let near = |f: &Detection, g: &Found| {
                f.label.as_str() == g.label && (f.score - g.score).abs() < 0.06 && iou(corners(f.bbox), g.corners) > 0.9
            };
            for g in golden.whole.iter().filter(|g| g.score > 0.4) {
                assert!(
                    found.iter().any(|f| near(f, g)),
                    "{model} on {}: {g:?} not in {found:?}",
                    golden.picture
                );
            }
            for f in found.iter().filter(|f| f.score > 0.4) {
                assert!(
                    golden.whole.iter().any(|g| near(f, g)),
                    "{model} on {}: {f:?}",
                    golden.picture
                );
            }
        }
    }
}

/// Tensor and tables are reused: pictures of other sizes in between must not affect the result.
#[test]
fn a_look_does_not_depend_on_previous_looks() {
    let mut models = load("yolox_nano_416_coco");
    let frames: Vec<_> = ["cars", "signs", "person"]
        .map(|name| Frame::from_rgb(&picture(&format!("{name}.jpg")), Timestamp::UNIX_EPOCH).unwrap())
        .into();
    let first: Vec<_> = frames.iter().map(|f| models.input(f).detect(0).unwrap()).collect();
    assert!(first.iter().all(|found| !found.is_empty()));
    for _ in 0..2 {
        let again: Vec<_> = frames
            .iter()
            .rev()
            .map(|f| models.input(f).detect(0).unwrap())
            .collect();
        assert!(again.into_iter().rev().eq(first.iter().cloned()));
    }
}

/// The two YOLOX models share an input tensor, PicoDet has its own. A model's detections depend neither on the other models of the
/// set nor on the order in which they run.
#[test]
fn models_in_a_set_find_what_each_finds_alone() {
    let names = ["yolox_nano_416_coco", "picodet_s_416_coco", "garbage_nano_416"];
    let models = names.map(|name| Model::load(&root().join("models").join(name)).unwrap());
    let mut together = ModelSet::new(runtime(), &models).unwrap();
    for name in ["cars", "signs", "person"] {
        let frame = Frame::from_rgb(&picture(&format!("{name}.jpg")), Timestamp::UNIX_EPOCH).unwrap();
        let alone = names.map(|name| load(name).input(&frame).detect(0).unwrap());
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut input = together.input(&frame);
            for i in order {
                assert_eq!(input.detect(i).unwrap(), alone[i], "{} on {name}", names[i]);
            }
        }
    }
}
