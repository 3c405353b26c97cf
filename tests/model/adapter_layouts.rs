//! Adapters on hand-made outputs: boxes follow the published formulas, floors and labels are applied, wrong layouts are rejected with
//! a reason.

use std::collections::BTreeMap;

use gridwatch_base::error::Class;
use gridwatch_model::{
    adapter::{LayoutError, NetworkFacts, Output, OutputLayout, RawDetection, TensorInfo},
    manifest::{Adapter, ClassMapping},
};
use proptest::prelude::*;

type Outputs = Vec<(Vec<i64>, Vec<f32>)>;

/// Outputs of these shapes, all zero.
fn zeros(shapes: &[&[i64]]) -> Outputs {
    let zeros = |shape: &&[i64]| (shape.to_vec(), vec![0.0; shape.iter().product::<i64>() as usize]);
    shapes.iter().map(zeros).collect()
}

fn resolve(adapter: Adapter, size: (u32, u32), classes: usize, outputs: &Outputs) -> Result<OutputLayout, LayoutError> {
    let port = |(i, (shape, _)): (usize, &(Vec<i64>, Vec<f32>))| TensorInfo {
        name: i.to_string(),
        element: "f32".into(),
        shape: shape.clone(),
    };
    let outputs: Vec<TensorInfo> = outputs.iter().enumerate().map(port).collect();
    let facts = NetworkFacts {
        inputs: &[],
        outputs: &outputs,
        metadata: &BTreeMap::new(),
        classes,
        size,
    };
    OutputLayout::resolve(adapter, &facts)
}

fn mappings(floors: &[f32]) -> Vec<ClassMapping> {
    let mappings = |(label, &floor)| ClassMapping { label, floor };
    floors.iter().enumerate().map(mappings).collect()
}

fn decode(
    adapter: Adapter,
    size: (u32, u32),
    mappings: &[ClassMapping],
    outputs: &Outputs,
) -> Result<Vec<RawDetection>, LayoutError> {
    let layout = resolve(adapter, size, mappings.len(), outputs)?;
    let outputs: Vec<_> = outputs.iter().map(|(shape, data)| Output { shape, data }).collect();
    let mut found = vec![RawDetection {
        label: 9,
        score: 1.0,
        corners: [0.0; 4],
    }];
    layout
        .decode(size, mappings, Some(0.5), &outputs, &mut found)
        .map(|()| found)
}

#[test]
fn yolox_boxes_are_decoded_from_the_grids() {
    let mut outputs = zeros(&[&[1, 8 * 4 + 4 * 2 + 2, 7]]);
    // Stride 16, second row, third column; the 32 cells of stride 8 come first.
    let row = &mut outputs[0].1[7 * (32 + 4 + 2)..][..7];
    row.copy_from_slice(&[0.5, 0.25, 2.0_f32.ln(), 0.0, 0.8, 0.1, 0.9]);
    let found = decode(Adapter::Yolox, (64, 32), &mappings(&[0.3, 0.3]), &outputs).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].label, 1);
    assert!((found[0].score - 0.72).abs() < 1e-6);
    // Centre (2.5, 1.25) strides, sides 2 and 1 strides.
    for (have, want) in found[0].corners.iter().zip([24.0, 12.0, 56.0, 28.0]) {
        assert!((have - want).abs() < 1e-4, "{found:?}");
    }
    // Each label has its own floor.
    let none = decode(Adapter::Yolox, (64, 32), &mappings(&[0.3, 0.73]), &outputs);
    assert_eq!(none, Ok(vec![]));
}

/// 96 × 160 is not a multiple of 64, so the coarsest grid has cells that exceed the input.
#[test]
fn picodet_boxes_are_decoded_from_the_distributions() {
    let cells = [12 * 20, 6 * 10, 3 * 5, 2 * 3];
    let shapes: Vec<[i64; 3]> = [3, 32]
        .into_iter()
        .flat_map(|width| cells.map(|n| [1, n, width]))
        .collect();
    let shapes: Vec<&[i64]> = shapes.iter().map(|s| &s[..]).collect();
    let mut outputs = zeros(&shapes);
    // Stride 32, third row, second column of three.
    let cell = 2 * 3 + 1;
    outputs[2].1[cell * 3 + 2] = 0.6;
    let logits = &mut outputs[6].1[cell * 32..][..32];
    logits[1] = 50.0; // left: 1 stride
    logits[8 + 2] = 50.0; // top: 2 strides
    logits[16] = 50.0; // right and bottom: 0 and 1 stride with equal probability
    logits[17] = 50.0;
    logits[24] = 50.0;
    logits[25] = 50.0;
    let found = decode(Adapter::Picodet, (96, 160), &mappings(&[0.5; 3]), &outputs).unwrap();
    assert_eq!((found.len(), found[0].label, found[0].score), (1, 2, 0.6));
    let corners = [48.0 - 32.0, 80.0 - 64.0, 48.0 + 16.0, 80.0 + 16.0];
    for (have, want) in found[0].corners.iter().zip(corners) {
        assert!((have - want).abs() < 1e-3, "{found:?}");
    }
}

#[test]
fn classes_map_to_labels_and_ignored_classes_are_dropped() {
    // Three boxes of three classes in one place; the first two map to one label, the third is ignored.
    let mut outputs = zeros(&[&[1, 84, 8]]);
    for (row, class) in [(0, 0), (1, 1), (2, 2)] {
        let row = &mut outputs[0].1[row * 8..][..8];
        row[..5].copy_from_slice(&[0.0, 0.0, 1.0, 1.0, 1.0]);
        row[0] = -(class as f32);
        row[5 + class] = 0.9 - 0.1 * class as f32;
    }
    let merged = [(0, 0.1), (0, 0.1), (0, f32::INFINITY)].map(|(label, floor)| ClassMapping { label, floor });
    let found = decode(Adapter::Yolox, (64, 64), &merged, &outputs).unwrap();
    assert_eq!(
        found.len(),
        1,
        "two classes of one label are suppressed to one box: {found:?}"
    );
    assert_eq!((found[0].label, found[0].score), (0, 0.9));
    let apart = decode(Adapter::Yolox, (64, 64), &mappings(&[0.1; 3]), &outputs).unwrap();
    assert_eq!(apart.len(), 3);
}

#[test]
fn other_layouts_are_refused_with_the_expected_shape() {
    let good = zeros(&[&[1, 84, 9]]);
    assert!(resolve(Adapter::Yolox, (64, 64), 4, &good).is_ok());
    let refused = |outputs: &Outputs, classes, needed: &str| {
        let error = resolve(Adapter::Yolox, (64, 64), classes, outputs).unwrap_err();
        assert!(
            matches!(
                error,
                LayoutError::AdapterMismatch {
                    adapter: Adapter::Yolox,
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(error.class(), Class::Config);
        let text = error.to_string();
        assert!(text.contains(needed), "{text}");
        text
    };
    // The manifest lists another number of labels; the error names the adapter that fits.
    let text = refused(&good, 5, "[1, 84, 10] is needed");
    assert!(text.contains("\"yolov8\""), "{text}");
    // Transposed, as other exporters write it.
    refused(
        &zeros(&[&[1, 9, 84]]),
        4,
        "[1, 84, 9] is needed. The graph returns 0 f32 [1, 9, 84]",
    );
    // With post-processing in the graph.
    refused(&zeros(&[&[1, 84, 9], &[1]]), 4, "one output of three dimensions");
    let error = resolve(Adapter::Auto, (64, 64), 4, &zeros(&[&[1, 77, 9]])).unwrap_err();
    let LayoutError::Unknown { reasons, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        reasons.contains("for yolox [1, 84, 9]") && reasons.contains("for yolov5 [1, 252"),
        "{error}"
    );
}

#[test]
fn a_network_for_another_task_is_refused() {
    let facts = NetworkFacts {
        inputs: &[],
        outputs: &[],
        metadata: &[("task".to_owned(), "segment".to_owned())].into(),
        classes: 4,
        size: (64, 64),
    };
    let error = OutputLayout::resolve(Adapter::Auto, &facts).unwrap_err();
    assert!(error.to_string().contains("task = \"segment\""), "{error}");
}

#[test]
fn non_finite_values_are_refused_at_any_position() {
    let good = zeros(&[&[1, 84, 9]]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, good[0].1.len() / 2, good[0].1.len() - 1] {
            let mut outputs = good.clone();
            outputs[0].1[place] = bad;
            let error = decode(Adapter::Yolox, (64, 64), &mappings(&[0.1; 4]), &outputs).unwrap_err();
            assert_eq!(error, LayoutError::NotFinite { index: 0 });
            assert_eq!(error.class(), Class::Data);
        }
    }
    // A finite output whose exponential overflows.
    let mut outputs = good;
    outputs[0].1[..6].copy_from_slice(&[0.0, 0.0, 500.0, 0.0, 1.0, 1.0]);
    let error = decode(Adapter::Yolox, (64, 64), &mappings(&[0.1; 4]), &outputs).unwrap_err();
    assert_eq!(error, LayoutError::NotFinite { index: 0 });
}

#[test]
fn logits_are_not_accepted_as_scores() {
    for logit in [-4.0, 3.5] {
        let mut outputs = zeros(&[&[1, 8, 84]]);
        outputs[0].1[4 * 84..].fill(logit);
        let error = decode(Adapter::Yolov8, (64, 64), &mappings(&[0.1; 4]), &outputs).unwrap_err();
        assert!(matches!(&error, LayoutError::NotAScore { .. }), "{error}");
        assert!(error.to_string().contains("sigmoid is missing"), "{error}");
    }
}

fn overlap(a: &RawDetection, b: &RawDetection) -> f32 {
    let area = |c: [f32; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let (a, b) = (a.corners, b.corners);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both / (area(a) + area(b) - both)
}

proptest! {
    /// By definition: sorted by score, no two boxes of a label overlap beyond the threshold, and each suppressed box overlaps a kept
    /// box of its label with the same or a higher score.
    #[test]
    fn suppression_keeps_the_best_of_overlapping_boxes(
        rows in proptest::collection::vec((0_usize..84, -1.0_f32..1.0, 0.0_f32..2.0, 0.0_f32..1.0, 0.0_f32..1.0), 1..84)
    ) {
        let mut outputs = zeros(&[&[1, 84, 7]]);
        for (cell, shift, log_side, first, second) in rows {
            outputs[0].1[cell * 7..][..7].copy_from_slice(&[shift, -shift, log_side, log_side, 1.0, first, second]);
        }
        let floors = [0.2, 0.4];
        let mappings = mappings(&floors);
        let kept = decode(Adapter::Yolox, (64, 64), &mappings, &outputs).unwrap();
        prop_assert!(kept.is_sorted_by(|a, b| a.score >= b.score));
        for (i, a) in kept.iter().enumerate() {
            prop_assert!(a.score >= floors[a.label]);
            prop_assert!(kept[..i].iter().all(|b| a.label != b.label || overlap(a, b) <= 0.5));
        }
        // Practically without suppression: only identical boxes overlap more than this.
        let all: Vec<Output> = outputs.iter().map(|(shape, data)| Output { shape, data }).collect();
        let mut every = Vec::new();
        let layout = resolve(Adapter::Yolox, (64, 64), 2, &outputs).unwrap();
        layout.decode((64, 64), &mappings, Some(0.999_999), &all, &mut every).unwrap();
        for one in every.iter().filter(|one| !kept.contains(one)) {
            let covered = |k: &&RawDetection| k.label == one.label && k.score >= one.score && overlap(k, one) > 0.5;
            prop_assert!(kept.iter().find(covered).is_some(), "{one:?} was suppressed without an overlapping box");
        }
    }
}
