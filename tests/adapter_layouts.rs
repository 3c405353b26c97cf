//! Adapters on outputs made by hand: boxes where the formulas put them, and everything else refused by name.

use gridwatch::{
    error::Class,
    model::{
        adapter::{Found, LayoutError, Output},
        manifest::{Adapter, Colour, Fit, Input},
    },
};
use proptest::prelude::*;

fn input(width: u32, height: u32) -> Input {
    Input {
        name: "images".into(),
        width,
        height,
        colour: Colour::Bgr,
        mean: [0.0; 3],
        std: [1.0; 3],
        fit: Fit::TopLeft,
        pad: 0,
    }
}

/// Outputs of the right shapes, all zero.
fn zeros(adapter: Adapter, input: &Input, labels: usize) -> Vec<(Vec<i64>, Vec<f32>)> {
    let shapes = adapter.shapes(input, labels);
    shapes
        .into_iter()
        .map(|s| (s.clone(), vec![0.0; s.iter().product::<i64>() as usize]))
        .collect()
}

fn decode(
    adapter: Adapter,
    input: &Input,
    floors: &[f32],
    outputs: &[(Vec<i64>, Vec<f32>)],
) -> Result<Vec<Found>, LayoutError> {
    let outputs: Vec<_> = outputs.iter().map(|(shape, data)| Output { shape, data }).collect();
    let mut found = vec![Found {
        class: 9,
        score: 1.0,
        corners: [0.0; 4],
    }];
    adapter.decode(input, floors, 0.5, &outputs, &mut found).map(|()| found)
}

#[test]
fn yolox_boxes_lie_where_the_grids_say() {
    let input = input(64, 32);
    let mut outputs = zeros(Adapter::Yolox, &input, 2);
    assert_eq!(outputs[0].0, [1, 8 * 4 + 4 * 2 + 2, 7]);
    // Stride 16, second row, third column: the 32 cells of stride 8 come first.
    let row = &mut outputs[0].1[7 * (32 + 4 + 2)..][..7];
    row.copy_from_slice(&[0.5, 0.25, 2.0_f32.ln(), 0.0, 0.8, 0.1, 0.9]);
    let found = decode(Adapter::Yolox, &input, &[0.3, 0.3], &outputs).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].class, 1);
    assert!((found[0].score - 0.72).abs() < 1e-6);
    // Centre (2.5, 1.25) strides, sides 2 and 1 strides.
    for (have, want) in found[0].corners.iter().zip([24.0, 12.0, 56.0, 28.0]) {
        assert!((have - want).abs() < 1e-4, "{found:?}");
    }
    // Each label has its own floor.
    assert_eq!(decode(Adapter::Yolox, &input, &[0.3, 0.73], &outputs), Ok(vec![]));
}

#[test]
fn picodet_boxes_lie_where_the_distributions_say() {
    // 80 is no multiple of 64: the coarsest grid has a cell that reaches beyond the input.
    let input = input(96, 160);
    let mut outputs = zeros(Adapter::Picodet, &input, 3);
    assert_eq!(outputs[3].0, [1, 2 * 3, 3]);
    assert_eq!(outputs[7].0, [1, 2 * 3, 32]);
    // Stride 32, third row, second column of three.
    let cell = 2 * 3 + 1;
    outputs[2].1[cell * 3 + 2] = 0.6;
    let logits = &mut outputs[6].1[cell * 32..][..32];
    logits[1] = 50.0; // left: surely 1 stride
    logits[8 + 2] = 50.0; // top: 2 strides
    logits[16] = 50.0; // right and bottom: half 0, half 1
    logits[17] = 50.0;
    logits[24] = 50.0;
    logits[25] = 50.0;
    let found = decode(Adapter::Picodet, &input, &[0.5; 3], &outputs).unwrap();
    assert_eq!((found.len(), found[0].class, found[0].score), (1, 2, 0.6));
    for (have, want) in found[0]
        .corners
        .iter()
        .zip([48.0 - 32.0, 80.0 - 64.0, 48.0 + 16.0, 80.0 + 16.0])
    {
        assert!((have - want).abs() < 1e-3, "{found:?}");
    }
}

#[test]
fn other_layouts_are_refused_by_name() {
    let input = input(64, 64);
    for adapter in [Adapter::Yolox, Adapter::Picodet] {
        let good = zeros(adapter, &input, 4);
        assert_eq!(decode(adapter, &input, &[0.1; 4], &good), Ok(vec![]));
        // Another number of labels than the manifest lists.
        let error = decode(adapter, &input, &[0.1; 5], &good).unwrap_err();
        assert!(matches!(error, LayoutError::Shape { index: 0, .. }), "{error}");
        assert_eq!(error.class(), Class::Config);
        // Transposed, as other exporters have it.
        let mut turned = good.clone();
        turned[0].0.swap(1, 2);
        assert!(matches!(
            decode(adapter, &input, &[0.1; 4], &turned),
            Err(LayoutError::Shape { index: 0, .. })
        ));
        // With post-processing in the graph.
        let mut more = good.clone();
        more.push((vec![1], vec![0.0]));
        assert!(matches!(
            decode(adapter, &input, &[0.1; 4], &more),
            Err(LayoutError::Count { .. })
        ));
        // A shape that promises more than there is.
        let mut short = good.clone();
        short[0].1.pop();
        assert!(matches!(
            decode(adapter, &input, &[0.1; 4], &short),
            Err(LayoutError::Shape { .. })
        ));
    }
}

#[test]
fn numbers_that_are_none_are_refused_wherever_they_are() {
    let input = input(64, 64);
    for adapter in [Adapter::Yolox, Adapter::Picodet] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let good = zeros(adapter, &input, 4);
            for output in 0..good.len() {
                for place in [0, good[output].1.len() / 2, good[output].1.len() - 1] {
                    let mut outputs = good.clone();
                    outputs[output].1[place] = bad;
                    let error = decode(adapter, &input, &[0.1; 4], &outputs).unwrap_err();
                    assert_eq!(error, LayoutError::NotFinite { index: output });
                    assert_eq!(error.class(), Class::Data);
                }
            }
        }
    }
    // Finite itself, but not what becomes of it.
    let mut outputs = zeros(Adapter::Yolox, &input, 1);
    outputs[0].1[..6].copy_from_slice(&[0.0, 0.0, 500.0, 0.0, 1.0, 1.0]);
    assert_eq!(
        decode(Adapter::Yolox, &input, &[0.1], &outputs),
        Err(LayoutError::NotFinite { index: 0 })
    );
}

fn overlap(a: &Found, b: &Found) -> f32 {
    let area = |c: [f32; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let (a, b) = (a.corners, b.corners);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both / (area(a) + area(b) - both)
}

proptest! {
    /// Against the definition: sorted by score, no two of one label overlap beyond the limit, and whatever was dropped
    /// is covered by a kept one of its label that scored as high or higher.
    #[test]
    fn suppression_keeps_the_best_of_each_heap(
        rows in proptest::collection::vec((0_usize..84, -1.0_f32..1.0, 0.0_f32..2.0, 0.0_f32..1.0, 0.0_f32..1.0), 1..84)
    ) {
        let input = input(64, 64);
        let mut outputs = zeros(Adapter::Yolox, &input, 2);
        for (cell, shift, log_side, first, second) in rows {
            outputs[0].1[cell * 7..][..7].copy_from_slice(&[shift, -shift, log_side, log_side, 1.0, first, second]);
        }
        let floors = [0.2, 0.4];
        let kept = decode(Adapter::Yolox, &input, &floors, &outputs).unwrap();
        prop_assert!(kept.is_sorted_by(|a, b| a.score >= b.score));
        for (i, a) in kept.iter().enumerate() {
            prop_assert!(a.score >= floors[a.class]);
            prop_assert!(kept[..i].iter().all(|b| a.class != b.class || overlap(a, b) <= 0.5));
        }
        // The same without suppression: only boxes that are the same could overlap more than this.
        let all: Vec<Output> = outputs.iter().map(|(shape, data)| Output { shape, data }).collect();
        let mut every = Vec::new();
        Adapter::Yolox.decode(&input, &floors, 0.999_999, &all, &mut every).unwrap();
        for one in every.iter().filter(|one| !kept.contains(one)) {
            let covered = |k: &&Found| k.class == one.class && k.score >= one.score && overlap(k, one) > 0.5;
            prop_assert!(kept.iter().find(covered).is_some(), "{one:?} is gone and nothing covers it");
        }
    }
}
