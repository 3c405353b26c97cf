//! FastestDet: one grid of stride 16, channels first.

use super::{Candidates, Family, OutputView, corners, far, grid, near, sigmoid};
use crate::manifest::Adapter;

/// `[1, 5 + classes, H / 16, W / 16]`: objectness (after sigmoid), four box channels, classes (after softmax). The centre is the
/// cell's corner plus tanh in cells; the sides are sigmoid fractions of the input; the score is objectness^0.6 × class^0.4
/// (dog-qiuqiu/FastestDet, `utils/tool.py`, `handle_preds`).
pub(super) const FASTESTDET: Family = Family {
    adapter: Adapter::Fastestdet,
    overlaps: true,
    fit: |facts| {
        let (across, down) = grid(facts.size, STRIDE);
        let expected = [1, 5 + facts.classes as i64, down as i64, across as i64];
        match facts.outputs {
            [only] if only.shape == expected => Ok(vec![0]),
            [only] if only.shape.len() == 4 => Err(near(format!("{expected:?} is needed"))),
            _ => Err(far("one output of four dimensions is needed")),
        }
    },
    read,
};

const STRIDE: u32 = 16;

fn read(view: &OutputView<'_>, candidates: &mut Candidates<'_>) {
    let (across, down) = grid(view.size, STRIDE);
    let count = across * down;
    let (width, height) = view.sides();
    let data = view.data(0);
    let at = |channel: usize, cell: usize| data.get(channel * count + cell).copied().unwrap_or_default();
    for cell in 0..count {
        let objectness = at(0, cell);
        candidates.note_score(objectness);
        // A class score is at most 1.
        if objectness.max(0.0).powf(0.6) < candidates.lowest {
            continue;
        }
        let scores = (0..view.classes).map(|class| at(5 + class, cell)).enumerate();
        let (class, score) = scores.fold((0, f32::NEG_INFINITY), |b, s| if s.1 > b.1 { s } else { b });
        candidates.note_score(score);
        let score = objectness.max(0.0).powf(0.6) * score.max(0.0).powf(0.4);
        if candidates.accepts(class, score) {
            let cx = (at(1, cell).tanh() + (cell % across) as f32) / across as f32 * width;
            let cy = (at(2, cell).tanh() + (cell / across) as f32) / down as f32 * height;
            candidates.push(
                class,
                score,
                corners(cx, cy, sigmoid(at(3, cell)) * width, sigmoid(at(4, cell)) * height),
            );
        }
    }
}
