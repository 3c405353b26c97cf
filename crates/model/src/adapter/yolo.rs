//! The YOLO family: one output with a row per cell or anchor.

use super::{Candidates, Family, Mismatch, NetworkFacts, OutputView, best, cells, corners, far, grid, near};
use crate::manifest::Adapter;

/// YOLOX as exported by `tools/export_onnx.py`: `[1, N, 5 + classes]`, where N is the number of cells of strides 8, 16 and 32. The
/// centre is an offset from the cell's corner in strides, the sides are log strides; objectness and classes come after sigmoid
/// (YOLOX, `yolo_head.py`, `decode_outputs`).
pub(super) const YOLOX: Family = Family {
    adapter: Adapter::Yolox,
    overlaps: true,
    fit: fit_one_per_cell,
    read: read_yolox,
};

/// YOLOX exported with `--decode_in_inference`, and YOLOv6, whose objectness is always 1.
pub(super) const YOLOX_DECODED: Family = Family {
    adapter: Adapter::YoloxDecoded,
    overlaps: true,
    fit: fit_one_per_cell,
    read: read_with_objectness,
};

/// YOLOv5 and YOLOv7: three anchors per cell, decoded, on three or four grids (`models/yolo.py`, `Detect.forward`).
pub(super) const YOLOV5: Family = Family {
    adapter: Adapter::Yolov5,
    overlaps: true,
    fit: fit_three_per_cell,
    read: read_with_objectness,
};

/// YOLOv8 to YOLO26 without suppression in the graph: `[1, 4 + classes, N]`, decoded, no objectness (ultralytics,
/// `nn/modules/head.py`, `Detect`). Some exporters transpose it.
pub(super) const YOLOV8: Family = Family {
    adapter: Adapter::Yolov8,
    overlaps: true,
    fit: fit_without_objectness,
    read: read_without_objectness,
};

const STRIDES: [u32; 3] = [8, 16, 32];

/// True if the number of rows equals the cell count of a known set of grids, which no other layout uses.
pub(super) fn is_cell_count(facts: &NetworkFacts<'_>, rows: i64) -> bool {
    GRIDS.iter().any(|strides| total_cells(facts, strides) == rows)
}

/// Sets of grids that the family is trained with.
const GRIDS: [&[u32]; 3] = [&STRIDES, &[8, 16, 32, 64], &[4, 8, 16, 32]];

fn total_cells(facts: &NetworkFacts<'_>, strides: &[u32]) -> i64 {
    strides.iter().map(|s| cells(facts.size, *s) as i64).sum()
}

fn only_output<'a>(facts: &'a NetworkFacts<'_>) -> Result<&'a [i64], Mismatch> {
    match facts.outputs {
        [only] if only.shape.len() == 3 => Ok(&only.shape),
        _ => Err(far("one output of three dimensions is needed")),
    }
}

fn fit_one_per_cell(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    let expected = [1, total_cells(facts, &STRIDES), 5 + facts.classes as i64];
    match only_output(facts)? == expected {
        true => Ok(vec![0]),
        false => Err(near(format!("{expected:?} is needed"))),
    }
}

fn fit_three_per_cell(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    // YOLOv5 6.0 and 6.1 return the three raw grids besides the decoded output.
    let shape = match facts.outputs {
        [decoded, grids @ ..] if grids.len() == 3 && grids.iter().all(|g| g.shape.len() == 5) => &decoded.shape[..],
        _ => only_output(facts)?,
    };
    let width = 5 + facts.classes as i64;
    let rows = [GRIDS[0], GRIDS[1]].map(|strides| 3 * total_cells(facts, strides));
    match rows.iter().any(|n| shape == [1, *n, width]) {
        true => Ok(vec![0]),
        false => Err(near(format!("[1, {} or {}, {width}] is needed", rows[0], rows[1]))),
    }
}

fn fit_without_objectness(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    let shape = only_output(facts)?;
    let width = 4 + facts.classes as i64;
    let rows = GRIDS.map(|strides| total_cells(facts, strides));
    match rows.iter().any(|n| shape == [1, width, *n] || shape == [1, *n, width]) {
        true => Ok(vec![0]),
        false => Err(near(format!("[1, {width}, {}] or its transpose is needed", rows[0]))),
    }
}

fn read_yolox(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    let mut rows = view.data(0).chunks_exact(5 + view.classes);
    for stride in STRIDES {
        let (across, down) = grid(view.size, stride);
        let stride = stride as f32;
        for (cell, row) in rows.by_ref().take(across * down).enumerate() {
            candidates.note_score(row[4]);
            // A class score is at most 1, so the product cannot exceed the objectness.
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

fn read_with_objectness(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
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

fn read_without_objectness(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    /// Anchors per block: within a block, the scores of one class are contiguous in memory.
    const BLOCK: usize = 64;
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
    for start in (0..count).step_by(BLOCK) {
        let length = BLOCK.min(count - start);
        let channel = |c: usize| &data[c * count + start..][..length];
        let mut top = [(0, f32::NEG_INFINITY); BLOCK];
        for class in 0..view.classes {
            for (top, &score) in top.iter_mut().zip(channel(4 + class)) {
                if score > top.1 {
                    *top = (class, score);
                }
            }
        }
        for (i, &(class, score)) in top[..length].iter().enumerate() {
            if candidates.accepts(class, score) {
                let [cx, cy, w, h] = [0, 1, 2, 3].map(|c| channel(c)[i]);
                candidates.push(class, score, corners(cx, cy, w, h));
            }
        }
    }
}
