//! Metrics equal those of pycocotools: `tests/fixtures/eval/reference.py` recorded its results for synthetic pictures with crowds,
//! equal scores, objects on the size bounds, and more predictions than are counted.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::collections::BTreeMap;

use gridwatch_model::eval::{DetectionMetrics, EvalPicture, GroundTruth, Prediction, SizeRange, confusion, evaluate};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    pictures: usize,
    truths: Vec<RawGroundTruth>,
    #[serde(rename = "guesses")]
    predictions: Vec<RawPrediction>,
    expected: Expected,
}

#[derive(Deserialize)]
struct RawGroundTruth {
    image_id: usize,
    category_id: usize,
    bbox: [f64; 4],
    area: f64,
    iscrowd: u8,
}

#[derive(Deserialize)]
struct RawPrediction {
    image_id: usize,
    category_id: usize,
    bbox: [f64; 4],
    score: f32,
}

#[derive(Deserialize)]
struct Expected {
    classes: Vec<BTreeMap<String, ExpectedMetrics>>,
    mean: BTreeMap<String, ExpectedMetrics>,
}

#[derive(Deserialize)]
struct ExpectedMetrics {
    ap: Option<f64>,
    ap50: Option<f64>,
    ap75: Option<f64>,
    recall50: Option<f64>,
}

fn corners([x, y, w, h]: [f64; 4]) -> [f64; 4] {
    [x, y, x + w, y + h]
}

fn reference() -> (Vec<EvalPicture>, Expected) {
    let text = std::fs::read_to_string("tests/fixtures/eval/reference.json").unwrap();
    let reference: Reference = serde_json::from_str(&text).unwrap();
    let mut pictures = vec![EvalPicture::default(); reference.pictures];
    for truth in reference.truths {
        pictures[truth.image_id - 1].truths.push(GroundTruth {
            class: truth.category_id,
            corners: corners(truth.bbox),
            area: truth.area,
            is_crowd: truth.iscrowd == 1,
        });
    }
    for prediction in reference.predictions {
        pictures[prediction.image_id - 1].predictions.push(Prediction {
            class: prediction.category_id,
            score: prediction.score,
            corners: corners(prediction.bbox),
        });
    }
    (pictures, reference.expected)
}

fn assert_same(found: &DetectionMetrics, expected: &ExpectedMetrics, what: &str) {
    let pairs = [
        ("ap", found.ap, expected.ap),
        ("ap50", found.ap50, expected.ap50),
        ("ap75", found.ap75, expected.ap75),
        ("recall50", found.recall50, expected.recall50),
    ];
    for (metric, found, expected) in pairs {
        let is_same = match (found, expected) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9,
            (None, None) => true,
            _ => false,
        };
        assert!(is_same, "{what} {metric}: {found:?}, expected {expected:?}");
    }
}

#[test]
fn metrics_equal_those_of_pycocotools() {
    let (pictures, expected) = reference();
    let evaluation = evaluate(&pictures, expected.classes.len());
    let sizes = ["all", "small", "medium", "large"];
    for (i, size) in sizes.iter().enumerate() {
        for (class, wanted) in expected.classes.iter().enumerate() {
            let found = &evaluation.classes[class].by_size[i];
            assert_same(found, &wanted[*size], &format!("class {class}, {size}"));
        }
        assert_same(&evaluation.mean[i], &expected.mean[*size], &format!("mean, {size}"));
    }
    assert_eq!(SizeRange::ALL.len(), sizes.len());
}

fn square(x: f64) -> [f64; 4] {
    [x, 0.0, x + 100.0, 100.0]
}

fn truth(class: usize, x: f64) -> GroundTruth {
    GroundTruth {
        class,
        corners: square(x),
        area: 10_000.0,
        is_crowd: false,
    }
}

fn prediction(class: usize, score: f32, x: f64) -> Prediction {
    Prediction {
        class,
        score,
        corners: square(x),
    }
}

#[test]
fn the_curve_and_its_best_f1_are_correct() {
    // Correct at 0.9 and 0.8, wrong at 0.7, correct at 0.6, two wrong at 0.2; one object is never found.
    let picture = EvalPicture {
        truths: [0.0, 200.0, 400.0, 600.0].map(|x| truth(0, x)).into(),
        predictions: vec![
            prediction(0, 0.9, 0.0),
            prediction(0, 0.8, 200.0),
            prediction(0, 0.7, 1000.0),
            prediction(0, 0.6, 400.0),
            prediction(0, 0.2, 1200.0),
            prediction(0, 0.2, 1400.0),
        ],
    };
    let evaluation = evaluate(&[picture], 1);
    let curve: Vec<(f32, f64, f64)> = evaluation.classes[0]
        .curve
        .iter()
        .map(|p| (p.score, p.precision, p.recall))
        .collect();
    let wanted = [
        (0.9, 1.0, 0.25),
        (0.8, 1.0, 0.5),
        (0.7, 2.0 / 3.0, 0.5),
        (0.6, 0.75, 0.75),
        (0.2, 0.5, 0.75),
    ];
    assert_eq!(curve, wanted);
    assert_eq!(evaluation.classes[0].best().unwrap().score, 0.6);
    assert_eq!(evaluation.classes[0].all().recall50, Some(0.75));
}

#[test]
fn empty_sets_have_no_metrics() {
    let evaluation = evaluate(&[EvalPicture::default()], 2);
    assert_eq!(evaluation.mean[0], DetectionMetrics::default());
    assert_eq!(evaluation.classes[1].best(), None);
    let only_wrong = EvalPicture {
        predictions: vec![prediction(0, 0.9, 0.0)],
        ..EvalPicture::default()
    };
    let evaluation = evaluate(&[only_wrong], 1);
    assert_eq!(evaluation.classes[0].all().ap50, None, "no ground truth");
    assert_eq!(evaluation.classes[0].best(), None);
}

#[test]
fn the_confusion_matrix_counts_matches_misses_and_false_positives() {
    let picture = EvalPicture {
        truths: vec![truth(0, 0.0), truth(1, 200.0), truth(1, 400.0)],
        predictions: vec![
            prediction(0, 0.9, 0.0),
            prediction(0, 0.8, 210.0),  // a bin predicted as garbage
            prediction(1, 0.7, 900.0),  // no object there
            prediction(1, 0.29, 400.0), // below its threshold
        ],
    };
    let confusion = confusion(&[picture], &[0.5, 0.3]);
    assert_eq!(confusion, [vec![1, 0, 0], vec![1, 0, 1], vec![0, 1, 0]]);
}
