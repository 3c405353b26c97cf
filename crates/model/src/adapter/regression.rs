//! Sides as distributions (generalised focal loss, Li et al. 2020): for each cell a score for each class, and for each of the
//! four sides eight logits over distances of 0 to 7 strides; the distance is their softmax's expectation.

use super::{NetworkFacts, Family, Mismatch, Candidates, OutputView, best, cells, far, grid, near};
use crate::manifest::Adapter;

/// NanoDet: three strides, distances from the cell's middle, scores sigmoided (nanodet v0.4.2, `gfl_head.py`), as an output of
/// each kind for each stride or, from v1.0 on, all in one.
pub(super) const NANODET: Family = Family {
    adapter: Adapter::Nanodet,
    overlaps: true,
    fit: |facts| match facts.outputs {
        [_] => together(facts, THREE),
        _ => apart(facts, THREE),
    },
    read: |view, candidates| match view.outputs {
        [_] => rows(view, candidates, THREE, MIDDLE),
        _ => grids(view, candidates, THREE),
    },
};

/// NanoDet-Plus: four strides in one output, distances from the cell's corner (`nanodet_plus_head.py`,
/// `get_single_level_center_priors`).
pub(super) const NANODET_PLUS: Family = Family {
    adapter: Adapter::NanodetPlus,
    overlaps: true,
    fit: |facts| together(facts, FOUR),
    read: |view, candidates| rows(view, candidates, FOUR, CORNER),
};

/// PicoDet: four strides, otherwise as NanoDet (PaddleDetection, `pico_head.py`).
pub(super) const PICODET: Family = Family {
    adapter: Adapter::Picodet,
    overlaps: true,
    fit: |facts| apart(facts, FOUR),
    read: |view, candidates| grids(view, candidates, FOUR),
};

const THREE: &[u32] = &[8, 16, 32];
const FOUR: &[u32] = &[8, 16, 32, 64];

/// Distances are given over 0..=7 strides (`reg_max` 7 in all that ship).
const BINS: usize = 8;

/// Where in its cell a box is measured from, in strides.
const MIDDLE: f32 = 0.5;
const CORNER: f32 = 0.0;

/// Scores and logits side by side in one output.
fn together(facts: &NetworkFacts<'_>, strides: &[u32]) -> Result<Vec<usize>, Mismatch> {
    let [only] = facts.outputs else {
        return Err(far("one output is needed"));
    };
    let rows: usize = strides.iter().map(|s| cells(facts.size, *s)).sum();
    let wanted = [1, rows as i64, (facts.classes + 4 * BINS) as i64];
    match only.shape == wanted {
        true => Ok(vec![0]),
        false if only.shape.len() == 3 => Err(near(format!("{wanted:?} is needed"))),
        false => Err(far("one output of three dimensions is needed")),
    }
}

/// Two outputs for each stride, in any order: their shapes tell which is which. Scores come first, and where there are as
/// many classes as logits the first of two alike are scores.
fn apart(facts: &NetworkFacts<'_>, strides: &[u32]) -> Result<Vec<usize>, Mismatch> {
    if facts.outputs.len() != 2 * strides.len() {
        return Err(far(&format!("{} outputs are needed", 2 * strides.len())));
    }
    let mut order = Vec::new();
    for width in [facts.classes, 4 * BINS] {
        for stride in strides {
            let wanted = [1, cells(facts.size, *stride) as i64, width as i64];
            let mut alike = (0..facts.outputs.len()).filter(|i| facts.outputs[*i].shape == wanted);
            match alike.find(|i| !order.contains(i)) {
                Some(i) => order.push(i),
                None => return Err(near(format!("one of {wanted:?} is missing"))),
            }
        }
    }
    Ok(order)
}

fn rows(view: &OutputView<'_>, candidates: &mut Candidates<'_>, strides: &[u32], from: f32) {
    let mut rows = view.data(0).chunks_exact(view.classes + 4 * BINS);
    for &stride in strides {
        let count = cells(view.size, stride);
        let of_stride = rows.by_ref().take(count).map(|row| row.split_at(view.classes));
        offer(view, candidates, stride, from, of_stride);
    }
}

fn grids(view: &OutputView<'_>, candidates: &mut Candidates<'_>, strides: &[u32]) {
    for (i, &stride) in strides.iter().enumerate() {
        let scores = view.data(i).chunks_exact(view.classes);
        let logits = view.data(strides.len() + i).chunks_exact(4 * BINS);
        offer(view, candidates, stride, MIDDLE, scores.zip(logits));
    }
}

/// The boxes of one grid, given each cell's scores and logits.
fn offer<'a>(
    view: &OutputView<'_>,
    candidates: &mut Candidates<'_>,
    stride: u32,
    from: f32,
    of_cells: impl Iterator<Item = (&'a [f32], &'a [f32])>,
) {
    let (across, _) = grid(view.size, stride);
    let stride = stride as f32;
    for (cell, (scores, logits)) in of_cells.enumerate() {
        let (class, score) = best(scores);
        if candidates.accepts(class, score) {
            let x = ((cell % across) as f32 + from) * stride;
            let y = ((cell / across) as f32 + from) * stride;
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
