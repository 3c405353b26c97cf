//! The models find what an independent implementation finds: `tests/fixtures/models/reference.py` wrote the goldens.
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

fn panel(model: &str) -> ModelSet {
    let model = Model::load(&root().join("models").join(model)).unwrap();
    ModelSet::new(runtime(), [&model]).unwrap()
}

fn picture(name: &str) -> RgbImage {
    image::open(root().join("tests/fixtures/pictures").join(name))
        .unwrap()
        .into_rgb8()
}

/// The picture unscaled in the top left corner of the padded input, as reference.py puts it there.
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
        let mut panel = panel(&model);
        for golden in goldens {
            let manifest = panel.manifest(0).clone();
            let picture = picture(&format!("{}.416.png", golden.picture));
            let size = (manifest.input.width, manifest.input.height);
            let found = panel.find(0, &tensor(&manifest, &picture), size).unwrap();
            let case = format!("{model} on {}", golden.picture);
            // One that lies on the floor may be on either side of it.
            let sure = |score: f32| score > manifest.score_floor + 2e-3;
            assert_eq!(
                found.iter().filter(|f| sure(f.score)).count(),
                golden.tensor.iter().filter(|f| sure(f.score)).count(),
                "{case}"
            );
            for wanted in golden.tensor.iter().filter(|f| sure(f.score)) {
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

/// Our letterbox works on 4:2:0 samples and OpenCV's on RGB at full resolution, so scores may differ in the second place
/// and boxes by a pixel or two. What scores well must be found by both.
#[test]
fn whole_pictures_give_what_opencv_and_numpy_find() {
    let corners = |b: BBox| [b.x1, b.y1, b.x2, b.y2];
    for (model, goldens) in goldens() {
        let mut panel = panel(&model);
        for golden in goldens {
            let frame = Frame::from_rgb(&picture(&format!("{}.jpg", golden.picture)), Timestamp::UNIX_EPOCH).unwrap();
            let found = panel.input(&frame).detect(0).unwrap();
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

/// Tensor and tables are used again: pictures of other sizes and shapes in between must leave no trace.
#[test]
fn looks_do_not_depend_on_the_looks_before() {
    let mut panel = panel("yolox_nano_416_coco");
    let frames: Vec<_> = ["cars", "signs", "person"]
        .map(|name| Frame::from_rgb(&picture(&format!("{name}.jpg")), Timestamp::UNIX_EPOCH).unwrap())
        .into();
    let first: Vec<_> = frames.iter().map(|f| panel.input(f).detect(0).unwrap()).collect();
    assert!(first.iter().all(|found| !found.is_empty()));
    for _ in 0..2 {
        let again: Vec<_> = frames.iter().rev().map(|f| panel.input(f).detect(0).unwrap()).collect();
        assert!(again.into_iter().rev().eq(first.iter().cloned()));
    }
}

/// The two YOLOX models want the same input and share its tensor, PicoDet has one of its own: what a model finds does not
/// depend on the company it keeps, nor on the order in which the models are asked.
#[test]
fn models_that_share_an_input_find_what_each_finds_alone() {
    let names = ["yolox_nano_416_coco", "picodet_s_416_coco", "garbage_nano_416"];
    let models = names.map(|name| Model::load(&root().join("models").join(name)).unwrap());
    let mut together = ModelSet::new(runtime(), &models).unwrap();
    for name in ["cars", "signs", "person"] {
        let frame = Frame::from_rgb(&picture(&format!("{name}.jpg")), Timestamp::UNIX_EPOCH).unwrap();
        let alone = names.map(|name| panel(name).input(&frame).detect(0).unwrap());
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut shown = together.input(&frame);
            for i in order {
                assert_eq!(shown.detect(i).unwrap(), alone[i], "{} on {name}", names[i]);
            }
        }
    }
}
