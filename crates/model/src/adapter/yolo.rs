//! The YOLO line: one output with a row for each cell or anchor.

use super::{NetworkFacts, Family, Mismatch, Candidates, OutputView, best, cells, corners, far, grid, near};
use crate::manifest::Adapter;

/// YOLOX as `tools/export_onnx.py` writes it: `[1, N, 5 + classes]`, N the cells of strides 8, 16 and 32. The centre is counted
/// in strides from its cell's corner, the sides are logarithms of strides, objectness and classes are sigmoided (YOLOX,
/// `yolo_head.py`, `decode_outputs`).
pub(super) const YOLOX: Family = Family {
    adapter: Adapter::Yolox,
    overlaps: true,
    fit: one_a_cell,
    read: yolox,
};

/// The same exported with `--decode_in_inference`; YOLOv6 writes it too, with an objectness of 1.
pub(super) const YOLOX_DECODED: Family = Family {
    adapter: Adapter::YoloxDecoded,
    overlaps: true,
    fit: one_a_cell,
    read: with_objectness,
};

/// YOLOv5 and YOLOv7: three anchors a cell, decoded, on three or four grids (`models/yolo.py`, `Detect.forward`).
pub(super) const YOLOV5: Family = Family {
    adapter: Adapter::Yolov5,
    overlaps: true,
    fit: three_a_cell,
    read: with_objectness,
};

/// YOLOv8 to YOLO26 without their own suppression: `[1, 4 + classes, N]`, decoded, no objectness (ultralytics,
/// `nn/modules/head.py`, `Detect`). Some exporters transpose it.
pub(super) const YOLOV8: Family = Family {
    adapter: Adapter::Yolov8,
    overlaps: true,
    fit: without_objectness_fit,
    read: without_objectness,
};

const STRIDES: [u32; 3] = [8, 16, 32];

/// True for as many rows as some set of grids has cells: whatever else has rows has another number of them.
pub(super) fn is_of_cells(facts: &NetworkFacts<'_>, rows: i64) -> bool {
    GRIDS.iter().any(|strides| total(facts, strides) == rows)
}

/// The grids that members of the line are trained with.
const GRIDS: [&[u32]; 3] = [&STRIDES, &[8, 16, 32, 64], &[4, 8, 16, 32]];

fn total(facts: &NetworkFacts<'_>, strides: &[u32]) -> i64 {
    strides.iter().map(|s| cells(facts.size, *s) as i64).sum()
}

fn only<'a>(facts: &'a NetworkFacts<'_>) -> Result<&'a [i64], Mismatch> {
    match facts.outputs {
        [only] if only.shape.len() == 3 => Ok(&only.shape),
        _ => Err(far("one output of three dimensions is needed")),
    }
}

fn one_a_cell(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    let wanted = [1, total(facts, &STRIDES), 5 + facts.classes as i64];
    match only(facts)? == wanted {
        true => Ok(vec![0]),
        false => Err(near(format!("{wanted:?} is needed"))),
    }
}

fn three_a_cell(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    // YOLOv5 6.0 and 6.1 give the three raw grids beside what was decoded from them.
    let shape = match facts.outputs {
        [decoded, grids @ ..] if grids.len() == 3 && grids.iter().all(|g| g.shape.len() == 5) => &decoded.shape[..],
        _ => only(facts)?,
    };
    let width = 5 + facts.classes as i64;
    let rows = [GRIDS[0], GRIDS[1]].map(|strides| 3 * total(facts, strides));
    match rows.iter().any(|n| shape == [1, *n, width]) {
        true => Ok(vec![0]),
        false => Err(near(format!("[1, {} or {}, {width}] is needed", rows[0], rows[1]))),
    }
}

fn without_objectness_fit(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    let shape = only(facts)?;
    let width = 4 + facts.classes as i64;
    let rows = GRIDS.map(|strides| total(facts, strides));
    match rows.iter().any(|n| shape == [1, width, *n] || shape == [1, *n, width]) {
        true => Ok(vec![0]),
        false => Err(near(format!("[1, {width}, {}] or its transpose is needed", rows[0]))),
    }
}

fn yolox(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    let mut rows = view.data(0).chunks_exact(5 + view.classes);
    for stride in STRIDES {
        let (across, down) = grid(view.size, stride);
        let stride = stride as f32;
        for (cell, row) in rows.by_ref().take(across * down).enumerate() {
            candidates.note_score(row[4]);
            // A class score is at most 1, so the product cannot reach a floor that objectness does not reach.
            if row[4] < candidates.lowest {
                continue;
            }
            let (class, score) = best(&row[5..]);
            let score = row[4] * score;
            if candidates.accepts(class, score) {
                let cx = (row[0] + (cell % across) as f32) * stride;
                let cy = (row[1] + (cell / across) as f32) * stride;
                candidates.push(
                    class,
                    score,
                    corners(cx, cy, row[2].exp() * stride, row[3].exp() * stride),
                );
            }
        }
    }
}

fn with_objectness(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    for row in view.data(0).chunks_exact(5 + view.classes) {
        candidates.note_score(row[4]);
        if row[4] < candidates.lowest {
            continue;
        }
        let (class, score) = best(&row[5..]);
        let score = row[4] * score;
        if candidates.accepts(class, score) {
            candidates.push(class, score, corners(row[0], row[1], row[2], row[3]));
        }
    }
}

fn without_objectness(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    /// Anchors whose best class is sought together: each class is then a run of memory, not a step across all of them.
    const RUN: usize = 64;
    let data = view.data(0);
    let width = 4 + view.classes;
    if view.output(0).shape[2] == width as i64 {
        for row in data.chunks_exact(width) {
            let (class, score) = best(&row[4..]);
            if candidates.accepts(class, score) {
                candidates.push(class, score, corners(row[0], row[1], row[2], row[3]));
            }
        }
        return;
    }
    let count = data.len() / width;
    for start in (0..count).step_by(RUN) {
        let run = RUN.min(count - start);
        let channel = |c: usize| &data[c * count + start..][..run];
        let mut top = [(0, f32::NEG_INFINITY); RUN];
        for class in 0..view.classes {
            for (top, &score) in top.iter_mut().zip(channel(4 + class)) {
                if score > top.1 {
                    *top = (class, score);
                }
            }
        }
        for (i, &(class, score)) in top[..run].iter().enumerate() {
            if candidates.accepts(class, score) {
                let [cx, cy, w, h] = [0, 1, 2, 3].map(|c| channel(c)[i]);
                candidates.push(class, score, corners(cx, cy, w, h));
            }
        }
    }
}
