//! YuNet face detector: one class, three strides.

use super::{Candidates, Family, Mismatch, NetworkFacts, OutputView, cells, corners, far, grid, near};
use crate::manifest::Adapter;

/// `cls_8`, `obj_8`, `bbox_8` and so on for strides 8, 16 and 32; the facial landmarks `kps_*` are ignored. The centre is an offset
/// from the cell's corner in strides, the sides are log strides, the score is the geometric mean of class and objectness
/// (ShiqiYu/libfacedetection.train, `yunet_head.py`; OpenCV's `FaceDetectorYN` scores the same way).
pub(super) const YUNET: Family = Family {
    adapter: Adapter::Yunet,
    overlaps: true,
    fit,
    read,
};

const STRIDES: [u32; 3] = [8, 16, 32];
const KINDS: [(&str, i64); 3] = [("cls", 1), ("obj", 1), ("bbox", 4)];

fn fit(facts: &NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch> {
    if facts.classes != 1 {
        return Err(far("one class is needed"));
    }
    let mut order = Vec::new();
    for stride in STRIDES {
        for (kind, width) in KINDS {
            let name = format!("{kind}_{stride}");
            let Some(i) = facts.outputs.iter().position(|o| o.name == name) else {
                return Err(far("cls, obj, bbox and kps of strides 8, 16 and 32 are needed"));
            };
            let expected = [1, cells(facts.size, stride) as i64, width];
            if facts.outputs[i].shape != expected {
                return Err(near(format!("{name} {expected:?} is needed")));
            }
            order.push(i);
        }
    }
    Ok(order)
}

fn read(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    for (i, stride) in STRIDES.into_iter().enumerate() {
        let (across, _) = grid(view.size, stride);
        let stride = stride as f32;
        let data = |kind: usize| view.data(i * KINDS.len() + kind);
        let rows = data(0).iter().zip(data(1)).zip(data(2).chunks_exact(4)).enumerate();
        for (cell, ((&class, &objectness), row)) in rows {
            candidates.note_score(class);
            candidates.note_score(objectness);
            let score = (class * objectness).max(0.0).sqrt();
            if candidates.accepts(0, score) {
                let cx = (row[0] + (cell % across) as f32) * stride;
                let cy = (row[1] + (cell / across) as f32) * stride;
                candidates.push(0, score, corners(cx, cy, row[2].exp() * stride, row[3].exp() * stride));
            }
        }
    }
}
