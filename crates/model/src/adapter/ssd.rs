//! SSD without post-processing: one row per prior box, decoded in the graph.

use super::{
    Candidates, Family, OutputView, best,
    query::{BOXES, Names, SCORES, pair},
};
use crate::manifest::Adapter;

/// Scores `[1, N, classes + 1]` after softmax, the first of which is background; corners `[1, N, 4]` as fractions (qfgaohao/pytorch-ssd,
/// `vision/ssd/ssd.py`; dusty-nv/pytorch-ssd, `onnx_export.py`).
pub(super) const SSD_RAW: Family = Family {
    adapter: Adapter::SsdRaw,
    overlaps: true,
    fit: |facts| pair(facts, Names::Scores, &[1]),
    read,
};

fn read(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    let (width, height) = view.sides();
    let boxes = view.data(BOXES).chunks_exact(4);
    for (scores, row) in view.data(SCORES).chunks_exact(view.classes + 1).zip(boxes) {
        let (class, score) = best(&scores[1..]);
        if candidates.accepts(class, score) {
            candidates.push(
                class,
                score,
                [row[0] * width, row[1] * height, row[2] * width, row[3] * height],
            );
        }
    }
}
