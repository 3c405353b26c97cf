//! Transformers with a fixed number of queries. Each query is one object or none, so no suppression is needed. Boxes are centre and
//! sides as fractions of the input.

use super::{
    Candidates, Family, Mismatch, NetworkFacts, OutputView, best, corners, far, near, sigmoid, yolo::is_cell_count,
};
use crate::manifest::Adapter;

/// RT-DETR as exported by Ultralytics: `[1, queries, 4 + classes]`, scores after sigmoid (`nn/modules/head.py`,
/// `RTDETRDecoder.forward`).
pub(super) const RTDETR_ULTRALYTICS: Family = Family {
    adapter: Adapter::RtdetrUltralytics,
    overlaps: false,
    fit: |facts| {
        let width = 4 + facts.classes as i64;
        match facts.outputs {
            [only] if only.shape.len() == 3 => match only.shape[..] {
                [1, n @ 1..=MAX_QUERIES, w] if w == width && !is_cell_count(facts, n) => Ok(vec![0]),
                _ => Err(near(format!("[1, up to {MAX_QUERIES}, {width}] is needed"))),
            },
            _ => Err(far("one output of three dimensions is needed")),
        }
    },
    read: |view, candidates| {
        for row in view.data(0).chunks_exact(4 + view.classes) {
            let (class, score) = best(&row[4..]);
            put(view, candidates, class, score, row);
        }
    },
};

/// DETR: softmax over `[1, queries, classes + 1]` logits, the last of which is "no object" (facebookresearch/detr,
/// `models/detr.py`, `PostProcess`).
pub(super) const DETR: Family = Family {
    adapter: Adapter::Detr,
    overlaps: false,
    fit: |facts| pair(facts, Names::Logits, &[1]),
    read: |view, candidates| {
        let boxes = view.data(BOXES).chunks_exact(4);
        for (logits, corners) in view.data(SCORES).chunks_exact(view.classes + 1).zip(boxes) {
            let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f32 = logits.iter().map(|l| (l - top).exp()).sum();
            let (class, logit) = best(&logits[..view.classes]);
            put(view, candidates, class, (logit - top).exp() / sum, corners);
        }
    },
};

/// D-FINE and RT-DETR from Hugging Face, Deformable and Conditional DETR: one logit per class, each with its own sigmoid
/// (transformers, `post_process_object_detection` with `use_focal_loss`).
pub(super) const DFINE: Family = Family {
    adapter: Adapter::Dfine,
    overlaps: false,
    fit: |facts| pair(facts, Names::Logits, &[0]),
    read: read_sigmoid,
};

/// RF-DETR: as D-FINE, with outputs named `dets` and `labels`. Models trained on classes counted from 1 have an unused first
/// logit (roboflow/rf-detr, `models/lwdetr.py`, `forward_export`; `detr.py`, `class_names`).
pub(super) const RFDETR: Family = Family {
    adapter: Adapter::Rfdetr,
    overlaps: false,
    fit: |facts| pair(facts, Names::Dets, &[0, 1]),
    read: read_sigmoid,
};

/// Exporters use 300 queries; a grid has more cells than this.
const MAX_QUERIES: i64 = 1000;

/// Index of the scores in the order returned by [`pair`].
pub(super) const SCORES: usize = 0;
/// Index of the boxes in the order returned by [`pair`].
pub(super) const BOXES: usize = 1;

/// Naming convention of an exporter for the outputs with scores and boxes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Logits,
    Dets,
    Scores,
}

/// Finds scores `[1, N, classes + one of extra]` and boxes `[1, N, 4]`, by this naming convention or, if the names are unknown, by
/// shape.
pub(super) fn pair(facts: &NetworkFacts<'_>, names: Names, extra: &[usize]) -> Result<Vec<usize>, Mismatch> {
    const NEEDED: &str = "scores [1, N, classes] and boxes [1, N, 4] are needed";
    let [a, b] = facts.outputs else {
        return Err(far(NEEDED));
    };
    if a.shape.len() != 3 || b.shape.len() != 3 || a.shape[..2] != b.shape[..2] {
        return Err(far(NEEDED));
    }
    let known = |name: &str| match name {
        "logits" | "pred_logits" => Some((Names::Logits, SCORES)),
        "pred_boxes" => Some((Names::Logits, BOXES)),
        "labels" => Some((Names::Dets, SCORES)),
        "dets" => Some((Names::Dets, BOXES)),
        "scores" => Some((Names::Scores, SCORES)),
        "boxes" => Some((Names::Scores, BOXES)),
        _ => None,
    };
    let order = match (known(&a.name), known(&b.name)) {
        (Some((n, SCORES)), Some((m, BOXES))) if n == m && n == names => [0, 1],
        (Some((n, BOXES)), Some((m, SCORES))) if n == m && n == names => [1, 0],
        (Some((n, _)), Some((m, _))) if n == m => return Err(far("outputs with other names are needed")),
        // Unknown names: scores come first, unless only the first output can be boxes.
        _ if b.shape[2] == 4 => [0, 1],
        _ => [1, 0],
    };
    let (scores, boxes) = (
        facts.outputs[order[SCORES]].shape[2],
        facts.outputs[order[BOXES]].shape[2],
    );
    let fits = |extra: &usize| scores == (facts.classes + extra) as i64;
    match boxes == 4 && extra.iter().any(fits) {
        true => Ok(order.into()),
        false => {
            let widths: Vec<_> = extra.iter().map(|extra| (facts.classes + extra).to_string()).collect();
            Err(near(format!(
                "scores [1, N, {}] and boxes [1, N, 4] are needed",
                widths.join(" or ")
            )))
        }
    }
}

fn read_sigmoid(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    let logits = view.data(SCORES);
    let boxes = view.data(BOXES).chunks_exact(4);
    let width = (logits.len() / boxes.len().max(1)).max(view.classes);
    // With one more logit than classes, the first is unused.
    let skipped = width - view.classes;
    for (logits, corners) in logits.chunks_exact(width).zip(boxes) {
        let (class, logit) = best(&logits[skipped..]);
        put(view, candidates, class, sigmoid(logit), corners);
    }
}

/// Adds a box given as centre and sides in fractions of the input.
fn put(view: &OutputView<'_>, candidates: &mut Candidates<'_>, class: usize, score: f32, row: &[f32]) {
    if candidates.accepts(class, score) {
        let (width, height) = view.sides();
        candidates.push(
            class,
            score,
            corners(row[0] * width, row[1] * height, row[2] * width, row[3] * height),
        );
    }
}
