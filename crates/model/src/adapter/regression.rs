//! Box sides as distributions (generalised focal loss, Li et al. 2020): each cell has a score per class and, for each of the four
//! sides, eight logits over distances of 0 to 7 strides; the distance is the expectation of their softmax.

use super::{Candidates, Family, Mismatch, NetworkFacts, OutputView, best, cells, far, grid, near};
use crate::manifest::Adapter;

/// NanoDet: three strides, distances from the cell's centre, scores after sigmoid (nanodet v0.4.2, `gfl_head.py`). Two outputs per
/// stride or, since v1.0, a single output.
pub(super) const NANODET: Family = Family {
    adapter: Adapter::Nanodet,
    overlaps: true,
    fit: |facts| match facts.outputs {
        [_] => fit_single(facts, STRIDES_3),
        _ => fit_per_stride(facts, STRIDES_3),
    },
    read: |view, candidates| match view.outputs {
        [_] => read_single(view, candidates, STRIDES_3, CENTRE),
        _ => read_per_stride(view, candidates, STRIDES_3),
    },
};

/// NanoDet-Plus: four strides in one output, distances from the cell's corner (`nanodet_plus_head.py`,
/// `get_single_level_center_priors`).
pub(super) const NANODET_PLUS: Family = Family {
    adapter: Adapter::NanodetPlus,
    overlaps: true,
    fit: |facts| fit_single(facts, STRIDES_4),
    read: |view, candidates| read_single(view, candidates, STRIDES_4, CORNER),
};

/// PicoDet: four strides, otherwise like NanoDet (PaddleDetection, `pico_head.py`).
pub(super) const PICODET: Family = Family {
    adapter: Adapter::Picodet,
    overlaps: true,
    fit: |facts| fit_per_stride(facts, STRIDES_4),
    read: |view, candidates| read_per_stride(view, candidates, STRIDES_4),
};

const STRIDES_3: &[u32] = &[8, 16, 32];
const STRIDES_4: &[u32] = &[8, 16, 32, 64];

/// Bins of a distance, 0..=7 strides (published models use `reg_max` = 7).
const BINS: usize = 8;

/// Point of the cell that distances are measured from, in strides.
const CENTRE: f32 = 0.5;
const CORNER: f32 = 0.0;

/// One output with scores and logits side by side.
fn fit_single(facts: &NetworkFacts<'_>, strides: &[u32]) -> Result<Vec<usize>, Mismatch> {
    let [only] = facts.outputs else {
        return Err(far("one output is needed"));
    };
    let rows: usize = strides.iter().map(|s| cells(facts.size, *s)).sum();
    let expected = [1, rows as i64, (facts.classes + 4 * BINS) as i64];
    match only.shape == expected {
        true => Ok(vec![0]),
        false if only.shape.len() == 3 => Err(near(format!("{expected:?} is needed"))),
        false => Err(far("one output of three dimensions is needed")),
    }
}

/// Two outputs per stride, in any order, told apart by shape. If there are as many classes as logits, the first of two equal shapes
/// is taken for the scores.
fn fit_per_stride(facts: &NetworkFacts<'_>, strides: &[u32]) -> Result<Vec<usize>, Mismatch> {
    if facts.outputs.len() != 2 * strides.len() {
        return Err(far(&format!("{} outputs are needed", 2 * strides.len())));
    }
    let mut order = Vec::new();
    for width in [facts.classes, 4 * BINS] {
        for stride in strides {
            let expected = [1, cells(facts.size, *stride) as i64, width as i64];
            let mut same_shape = (0..facts.outputs.len()).filter(|i| facts.outputs[*i].shape == expected);
            match same_shape.find(|i| !order.contains(i)) {
                Some(i) => order.push(i),
                None => return Err(near(format!("an output {expected:?} is missing"))),
            }
        }
    }
    Ok(order)
}

fn read_single(view: &OutputView<'_>, candidates: &mut Candidates<'_>, strides: &[u32], anchor: f32) {
    let mut rows = view.data(0).chunks_exact(view.classes + 4 * BINS);
    for &stride in strides {
        let count = cells(view.size, stride);
        let cells_of_stride = rows.by_ref().take(count).map(|row| row.split_at(view.classes));
        read_grid(view, candidates, stride, anchor, cells_of_stride);
    }
}

fn read_per_stride(view: &OutputView<'_>, candidates: &mut Candidates<'_>, strides: &[u32]) {
    for (i, &stride) in strides.iter().enumerate() {
        let scores = view.data(i).chunks_exact(view.classes);
        let logits = view.data(strides.len() + i).chunks_exact(4 * BINS);
        read_grid(view, candidates, stride, CENTRE, scores.zip(logits));
    }
}

/// Decodes one grid from each cell's scores and logits.
fn read_grid<'a>(
    view: &OutputView<'_>,
    candidates: &mut Candidates<'_>,
    stride: u32,
    anchor: f32,
    cells_of_grid: impl Iterator<Item = (&'a [f32], &'a [f32])>,
) {
    let (across, _) = grid(view.size, stride);
    let stride = stride as f32;
    for (cell, (scores, logits)) in cells_of_grid.enumerate() {
        let (class, score) = best(scores);
        if candidates.accepts(class, score) {
            let x = ((cell % across) as f32 + anchor) * stride;
            let y = ((cell / across) as f32 + anchor) * stride;
            let distance = |side: usize| expectation(&logits[side * BINS..][..BINS]) * stride;
            candidates.push(
                class,
                score,
                [x - distance(0), y - distance(1), x + distance(2), y + distance(3)],
            );
        }
    }
}

fn expectation(logits: &[f32]) -> f32 {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (sum, weighted) = logits
        .iter()
        .enumerate()
        .fold((0.0, 0.0), |(sum, weighted), (bin, logit)| {
            let p = (logit - top).exp();
            (sum + p, weighted + p * bin as f32)
        });
    weighted / sum
}
