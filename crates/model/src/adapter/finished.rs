//! Networks with post-processing in the graph: one box per object, with class and score.

use super::{Candidates, Family, Mismatch, NetworkFacts, TensorInfo, far, near, yolo::is_cell_count};
use crate::manifest::Adapter;

/// YOLO26, YOLOv10, and any Ultralytics export with `nms=True`: rows of left, top, right, bottom in pixels, score and class;
/// unused rows are zero (ultralytics, `nn/modules/head.py`, `Detect.postprocess`).
pub(super) const END2END: Family = Family {
    adapter: Adapter::End2end,
    overlaps: false,
    fit: |facts| match facts.outputs {
        [only] if only.shape.len() == 3 => match only.shape[..] {
            [1, n @ 0..=MAX_ROWS, 6] if !is_cell_count(facts, n) => Ok(vec![0]),
            _ => Err(near(format!("[1, up to {MAX_ROWS}, 6] is needed"))),
        },
        _ => Err(far("one output of three dimensions is needed")),
    },
    read: |view, candidates| {
        for row in view.data(0).chunks_exact(6) {
            put(candidates, row[5], row[4], [row[0], row[1], row[2], row[3]]);
        }
    },
};

/// RT-DETR and D-FINE as exported by their authors. The graph scales its boxes to `orig_target_sizes`; gridwatch passes the size
/// of the input, so corners are in pixels of the input (lyuwenyu/RT-DETR, `rtdetr_postprocessor.py`;
/// Peterande/D-FINE, `postprocessor.py`).
pub(super) const RTDETR: Family = Family {
    adapter: Adapter::Rtdetr,
    overlaps: false,
    fit: |facts| match facts.inputs.iter().any(|i| i.name == "orig_target_sizes") {
        true => named(facts, [&["labels"], &["boxes"], &["scores"]]),
        false => Err(far("an input `orig_target_sizes` is needed")),
    },
    read: |view, candidates| {
        let rows = view.data(0).iter().zip(view.data(1).chunks_exact(4)).zip(view.data(2));
        for ((&class, row), &score) in rows {
            put(candidates, class, score, [row[0], row[1], row[2], row[3]]);
        }
    },
};

/// PaddleDetection with its post-processing: rows of class, score and corners in pixels of the input (with `scale_factor` = 1),
/// and the number of rows (`deploy/third_engine/demo_onnxruntime/infer_demo.py`).
pub(super) const PICODET_NMS: Family = Family {
    adapter: Adapter::PicodetNms,
    overlaps: false,
    fit: |facts| match facts.outputs {
        [rows, count] if count.shape == [1] && rows.shape.len() == 2 && rows.shape[1] == 6 => Ok(vec![0, 1]),
        _ => Err(far("rows [n, 6] and their count [1] are needed")),
    },
    read: |view, candidates| {
        for row in view.data(0).chunks_exact(6) {
            put(candidates, row[0], row[1], [row[2], row[3], row[4], row[5]]);
        }
    },
};

/// SSD with its post-processing, classes counted from 1. With a batch axis corners are fractions (ONNX Model Zoo, `ssd`), without
/// one they are pixels (torchvision, `postprocess_detections`).
pub(super) const SSD: Family = Family {
    adapter: Adapter::Ssd,
    overlaps: false,
    fit: |facts| match facts.inputs.iter().any(|i| i.name == "orig_target_sizes") {
        true => Err(far("an input `orig_target_sizes` is not expected")),
        false => named(facts, [&["labels"], &["boxes", "bboxes"], &["scores"]]),
    },
    read: |view, candidates| {
        let (width, height) = match view.output(1).shape.len() {
            3 => view.sides(),
            _ => (1.0, 1.0),
        };
        let rows = view.data(0).iter().zip(view.data(1).chunks_exact(4)).zip(view.data(2));
        for ((&class, row), &score) in rows {
            put(
                candidates,
                class - 1.0,
                score,
                [row[0] * width, row[1] * height, row[2] * width, row[3] * height],
            );
        }
    },
};

/// SSD from TensorFlow's Object Detection API: top, left, bottom, right as fractions, classes counted from 1, and the number of
/// valid rows (ONNX Model Zoo, `ssd-mobilenetv1`).
pub(super) const SSD_TF: Family = Family {
    adapter: Adapter::SsdTf,
    overlaps: false,
    fit: |facts| {
        let index_of = |name: &'static str| find(facts, &[name]);
        let rows = [
            index_of("detection_classes"),
            index_of("detection_boxes"),
            index_of("detection_scores"),
            index_of("num_detections"),
        ];
        let order: Option<Vec<usize>> = rows.into_iter().collect();
        order.ok_or_else(|| far("detection_classes, detection_boxes, detection_scores and num_detections are needed"))
    },
    read: |view, candidates| {
        let (width, height) = view.sides();
        let count = view.data(3).first().map_or(0, |n| n.max(0.0) as usize);
        let rows = view.data(0).iter().zip(view.data(1).chunks_exact(4)).zip(view.data(2));
        for ((&class, row), &score) in rows.take(count) {
            put(
                candidates,
                class - 1.0,
                score,
                [row[1] * width, row[0] * height, row[3] * width, row[2] * height],
            );
        }
    },
};

/// Exporters write 300 rows; a grid has more cells than this.
const MAX_ROWS: i64 = 1000;

/// Adds a row. Unused rows have a negative class, or one beyond the manifest's.
fn put(candidates: &mut Candidates<'_>, class: f32, score: f32, corners: [f32; 4]) {
    if class >= 0.0 && candidates.accepts(class as usize, score) {
        candidates.push(class as usize, score, corners);
    }
}

fn find(facts: &NetworkFacts<'_>, names: &[&str]) -> Option<usize> {
    // TensorFlow appends the index of a node's output to its name.
    let matches = |output: &TensorInfo| names.contains(&output.name.trim_end_matches(":0"));
    facts.outputs.iter().position(matches)
}

/// Finds classes, boxes and scores by name: `[n]`, `[n, 4]`, `[n]`, all with a batch axis or all without.
fn named(facts: &NetworkFacts<'_>, names: [&[&str]; 3]) -> Result<Vec<usize>, Mismatch> {
    let order: Option<Vec<usize>> = names.iter().map(|names| find(facts, names)).collect();
    let needed = || names.map(|n| n.join("/")).join(", ");
    let Some(order) = order.filter(|_| facts.outputs.len() == 3) else {
        return Err(far(&format!("outputs {} are needed", needed())));
    };
    let shape = |n: usize| &facts.outputs[order[n]].shape[..];
    let fits = match (shape(0), shape(1), shape(2)) {
        ([1, n], [1, m, 4], [1, k]) | ([n], [m, 4], [k]) => n == m && m == k,
        _ => false,
    };
    match fits {
        true => Ok(order),
        false => Err(near(
            "classes [1, n], boxes [1, n, 4] and scores [1, n] of equal n are needed".into(),
        )),
    }
}
