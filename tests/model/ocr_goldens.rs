//! The reader against OpenCV and numpy with PaddleOCR's own post-processing (tests/fixtures/reading/reference.py): the same lines in
//! the same places with the same text.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{collections::BTreeMap, path::Path};

use gridwatch_engine::{BBox, Label};
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelError,
    ocr::{Reader, TextLine, WallText, adverts},
    runtime,
};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    /// Centre (x, y), width, height, degrees, score.
    line: [f32; 6],
    text: String,
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn goldens() -> BTreeMap<String, Vec<Golden>> {
    let text = std::fs::read(folder("tests/fixtures/reading/golden.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn picture(name: &str) -> image::RgbImage {
    let picture = image::open(folder("tests/fixtures/reading").join(name)).unwrap();
    picture.into_rgb8()
}

fn frame(picture: &image::RgbImage) -> Frame {
    Frame::from_rgb(picture, Timestamp::UNIX_EPOCH).unwrap()
}

fn model(name: &str) -> Model {
    Model::load(&folder("models").join(name)).unwrap()
}

fn reader() -> Reader {
    let runtime = runtime::init(None).unwrap();
    Reader::new(&runtime, &model("ppocr_v6_text_det"), &model("ppocr_v6_rec")).unwrap()
}

/// Distance of a line from the reference, in line heights.
fn distance(golden: &Golden, text: &TextLine) -> f32 {
    let [x, y, _, height, ..] = golden.line;
    let [cx, cy] = text.line.centre;
    (x - cx).hypot(y - cy) / height
}

#[test]
fn lines_have_the_place_and_text_of_the_reference() {
    let mut reader = reader();
    let (mut lines, mut same) = (0, 0);
    for (name, golden) in goldens() {
        let texts = reader.lines(&frame(&picture(&name)), &[]).unwrap();
        // What is hardly more likely text than not is found or not with the slightest change.
        for golden in golden.iter().filter(|g| g.line[5] >= 0.7) {
            let [.., width, height, degrees, score] = golden.line;
            let nearest = texts
                .iter()
                .min_by(|a, b| distance(golden, a).total_cmp(&distance(golden, b)));
            let Some(text) = nearest.filter(|t| distance(golden, t) < 0.5) else {
                // Lines that touch the edge of the picture are skipped on purpose.
                let (sin, cos) = degrees.to_radians().sin_cos();
                let reach = |a: f32, b: f32| (a * width + b * height).abs() / 2.0;
                let [x, y, ..] = golden.line;
                let (w, h) = (reach(cos.abs(), sin.abs()), reach(sin.abs(), cos.abs()));
                let size = picture(&name).dimensions();
                let (right, below) = (size.0 as f32 - x - w, size.1 as f32 - y - h);
                assert!(
                    (x - w).min(y - h).min(right).min(below) < 1.0,
                    "{name}: {:?} {:?} is missing",
                    golden.text,
                    golden.line
                );
                continue;
            };
            lines += 1;
            let context = format!("{name}: {:?} {:?} {:?}", golden.text, golden.line, text);
            // Chroma is subsampled in a frame, so the map is not identical.
            assert!((text.line.width - width).abs() < 0.15 * width, "{context}");
            assert!((text.line.height - height).abs() < 0.15 * height + 1.0, "{context}");
            // The direction of a word of two or three letters is not certain.
            let turn = (text.line.angle.to_degrees() - degrees).abs();
            assert!(turn < 4.0 || (turn < 8.0 && width < 3.0 * height), "{context}");
            assert!((text.line.score - score).abs() < 0.1, "{context}");
            // A bracket at the edge of a line may or may not be read.
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            if digits(&golden.text).len() >= 7 {
                assert_eq!(digits(&text.text()), digits(&golden.text), "{context}");
            }
            same += usize::from(text.text() == golden.text);
        }
        let extra = texts
            .iter()
            .filter(|t| t.line.score >= 0.7 && golden.iter().all(|g| distance(g, t) >= 0.5))
            .count();
        assert!(extra <= 1, "{name}: {extra} lines that the reference does not find");
    }
    assert!(lines >= 30, "{lines}");
    // Cyrillic and patterns are read as random characters, which vary with the slightest change.
    assert!(same * 3 >= lines * 2, "{same} of {lines}");
}

/// The adverts in the picture, by the shipped words.
fn adverts_in(reader: &mut Reader, picture: &image::RgbImage, regions: &[BBox]) -> Vec<WallText> {
    let book = gridwatch_config::read_adverts(&folder("configs/adverts/default.toml")).unwrap();
    let lines = reader.lines(&frame(picture), regions).unwrap();
    adverts::find(&lines, &book, reader.floor())
}

/// The phone numbers in the picture, sorted.
fn numbers_in(reader: &mut Reader, picture: &image::RgbImage, regions: &[BBox]) -> Vec<String> {
    let found = adverts_in(reader, picture, regions);
    let mut numbers: Vec<String> = found.into_iter().filter_map(|a| Some(a.number?.to_string())).collect();
    numbers.sort();
    numbers
}

#[test]
fn numbers_are_read_and_clocks_and_plates_are_not() {
    let mut reader = reader();
    let mut numbers = |name: &str| numbers_in(&mut reader, &picture(name), &[]);
    assert_eq!(numbers("wall-1.jpg"), ["045128970712", "14331138798", "16238625511"]);
    assert_eq!(numbers("wall-2.jpg"), ["17990809124", "19854575530", "4001412250"]);
    assert_eq!(numbers("wall-3.jpg"), ["01063684036", "19643829306", "4001340891"]);
    assert_eq!(numbers("wall-4.jpg"), ["02144268128", "14771885142"]);
    assert!(numbers("clock.jpg").is_empty());
}

#[test]
fn lawful_facades_bear_no_adverts() {
    let mut reader = reader();
    for name in [
        "masking/img_494",
        "masking/img_498",
        "masking/img_500",
        "masking/img_556",
        "masking/img_560",
        "pictures/signs",
    ] {
        let found = adverts_in(&mut reader, &picture(&format!("../{name}.jpg")), &[]);
        assert!(found.is_empty(), "{name}: {found:?}");
    }
}

#[test]
fn regions_limit_the_reading_and_an_advert_becomes_a_detection() {
    let mut reader = reader();
    let wall = picture("wall-3.jpg");
    let left = BBox {
        x1: 0.0,
        y1: 0.4,
        x2: 0.53,
        y2: 1.0,
    };
    assert_eq!(numbers_in(&mut reader, &wall, &[left]), ["01063684036", "19643829306"]);
    // A region given twice is searched twice and reported once.
    let read = adverts_in(&mut reader, &wall, &[left, left]);
    assert_eq!(read.len(), 2);
    let empty = BBox {
        x1: 0.5,
        x2: 0.5,
        ..left
    };
    assert!(reader.lines(&frame(&wall), &[empty]).unwrap().is_empty());
    let number = read[0].number.clone();
    let detection = read.into_iter().next().unwrap().detection().unwrap();
    assert_eq!(detection.label, Label::small_ad());
    assert_eq!(detection.number, number);
    assert!(detection.text.unwrap().score >= 0.5);
    assert!(detection.score >= 0.5 && left.contains(detection.bbox.centre()));
}

#[test]
fn a_picture_larger_than_the_networks_input_is_read_in_parts() {
    let mut reader = reader();
    let small = picture("wall-3.jpg");
    // Larger than 1920×1088, with the wall across the boundary of two parts.
    let mut large = image::RgbImage::from_pixel(2600, 1400, image::Rgb([120, 118, 115]));
    image::imageops::replace(&mut large, &small, 700, 500);
    let numbers = numbers_in(&mut reader, &large, &[]);
    assert_eq!(numbers, ["01063684036", "19643829306", "4001340891"]);
}

#[test]
fn swapped_models_and_a_wrong_alphabet_are_refused() {
    let runtime = runtime::init(None).unwrap();
    let (detector, recogniser) = (model("ppocr_v6_text_det"), model("ppocr_v6_rec"));
    let Err(error) = Reader::new(&runtime, &recogniser, &detector) else {
        panic!("the models were swapped");
    };
    assert!(matches!(error, ModelError::WrongAdapter { .. }), "{error}");
    let dir = tempfile::tempdir().unwrap();
    for file in ["model.onnx", "model.toml"] {
        std::fs::copy(folder("models/ppocr_v6_rec").join(file), dir.path().join(file)).unwrap();
    }
    std::fs::write(dir.path().join("alphabet.txt"), "0\n1\n2\n").unwrap();
    let Err(error) = Reader::new(&runtime, &detector, &Model::load(dir.path()).unwrap()) else {
        panic!("three characters do not match 6906 classes");
    };
    assert!(
        error
            .to_string()
            .contains("alphabet.txt: 3 characters, but the network has 6906 classes"),
        "{error}"
    );
}
