//! Output tensors to boxes. Each family of networks has its layout; a layout that is not recognised is refused with both
//! shapes named, because exports differ silently and a wrong reading looks like a bad model.

use std::fmt;

use super::{
    manifest::{Adapter, Input},
    preprocess::Placement,
};
use crate::{engine::BBox, error::Class};

/// One output of the network, dense and row-major.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    /// Its dimensions.
    pub shape: &'a [i64],
    /// Its numbers.
    pub data: &'a [f32],
}

/// One box as the network gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Index of the label.
    pub class: usize,
    /// 0..=1.
    pub score: f32,
    /// Left, top, right, bottom, in pixels of the network's input; may reach beyond it.
    pub corners: [f32; 4],
}

/// Outputs that the manifest's adapter cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not the number of outputs of that family.
    #[error("{adapter} needs {expected} outputs, the graph has {found}: was it exported with its post-processing?")]
    Count {
        /// The manifest's adapter.
        adapter: Adapter,
        /// Outputs of that family.
        expected: usize,
        /// Outputs there are.
        found: usize,
    },
    /// An output of another shape.
    #[error(
        "{adapter} with these labels and this input size needs {expected:?} as output {index}, the graph gives \
         {found:?}: check `labels`, `input` and `adapter` in model.toml"
    )]
    Shape {
        /// The manifest's adapter.
        adapter: Adapter,
        /// Which output, from 0.
        index: usize,
        /// The shape of that family.
        expected: Vec<i64>,
        /// The shape there is.
        found: Vec<i64>,
    },
    /// The graph's input is not the manifest's.
    #[error("the graph's inputs are {found}, model.toml says {expected}")]
    Input {
        /// By the manifest.
        expected: String,
        /// By the graph.
        found: String,
    },
    /// A number that is none.
    #[error(
        "output {index} holds a number that is not finite: the file is damaged, or its input was not scaled as it needs"
    )]
    NotFinite {
        /// Which output, from 0.
        index: usize,
    },
}

impl LayoutError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Count { .. } | Self::Shape { .. } | Self::Input { .. } => Class::Config,
            Self::NotFinite { .. } => Class::Data,
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yolox => "yolox",
            Self::Picodet => "picodet",
        })
    }
}

/// Non-maximum suppression compares each box with all that were kept, so an adversarial picture could make it slow. The
/// lowest scored beyond this many are dropped; a street at a floor of 0.1 has some tens.
const MOST_CANDIDATES: usize = 1000;

/// Strides of YOLOX's three grids, in the order of the rows (YOLOX, `yolo_head.py`).
const YOLOX_STRIDES: [u32; 3] = [8, 16, 32];

/// Strides of PicoDet's four grids (PaddleDetection, `picodet_s_416_coco.yml`).
const PICODET_STRIDES: [u32; 4] = [8, 16, 32, 64];

/// Distances are given as a distribution over 0..=7 strides (`reg_max` 7 in the same file).
const PICODET_BINS: usize = 8;

impl Adapter {
    /// The shapes of the outputs for this input and number of labels, batch 1.
    pub fn shapes(self, input: &Input, labels: usize) -> Vec<Vec<i64>> {
        // Sides are at most 4096 and labels were listed in a file: none of these can overflow.
        let cells = |stride| {
            let (across, down) = grid(input, stride);
            (across * down) as i64
        };
        match self {
            Self::Yolox => vec![vec![1, YOLOX_STRIDES.map(cells).iter().sum(), 5 + labels as i64]],
            Self::Picodet => {
                let of = |width| PICODET_STRIDES.map(|stride| vec![1, cells(stride), width]);
                [of(labels as i64), of(4 * PICODET_BINS as i64)].concat()
            }
        }
    }

    /// Reads one picture's outputs: boxes that reach their label's floor, the best first, at most one of several that
    /// overlap more than `nms_iou` under one label. `floors` has one score for each label.
    ///
    /// # Errors
    /// Another layout than [`Self::shapes`], or a number that is not finite.
    pub fn decode(
        self,
        input: &Input,
        floors: &[f32],
        nms_iou: f32,
        outputs: &[Output<'_>],
        found: &mut Vec<Found>,
    ) -> Result<(), LayoutError> {
        self.check(input, floors.len(), outputs)?;
        found.clear();
        match self {
            Self::Yolox => yolox(input, floors, outputs[0].data, found),
            Self::Picodet => picodet(input, floors, outputs, found),
        }
        // exp() of a box's side may still overflow.
        if found.iter().any(|f| f.corners.iter().any(|c| !c.is_finite())) {
            found.clear();
            return Err(LayoutError::NotFinite { index: 0 });
        }
        suppress(found, nms_iou);
        Ok(())
    }

    fn check(self, input: &Input, labels: usize, outputs: &[Output<'_>]) -> Result<(), LayoutError> {
        let expected = self.shapes(input, labels);
        if outputs.len() != expected.len() {
            return Err(LayoutError::Count {
                adapter: self,
                expected: expected.len(),
                found: outputs.len(),
            });
        }
        for (index, (output, expected)) in outputs.iter().zip(expected).enumerate() {
            if output.shape != expected || output.data.len() as i64 != expected.iter().product::<i64>() {
                return Err(LayoutError::Shape {
                    adapter: self,
                    index,
                    expected,
                    found: output.shape.to_vec(),
                });
            }
            // All ones in the exponent is infinity or NaN. Without an early exit the loop runs many numbers at a time.
            const EXPONENT: u32 = 0x7f80_0000;
            if output
                .data
                .iter()
                .fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT))
            {
                return Err(LayoutError::NotFinite { index });
            }
        }
        Ok(())
    }
}

/// Cells across and down at a stride.
fn grid(input: &Input, stride: u32) -> (usize, usize) {
    (
        input.width.div_ceil(stride) as usize,
        input.height.div_ceil(stride) as usize,
    )
}

/// Each row is `cx, cy, w, h, objectness, classes…`; the score is objectness times class, both already sigmoided. The
/// centre is counted in strides from its cell's corner, the sides are logarithms of strides (YOLOX, `decode_outputs`).
fn yolox(input: &Input, floors: &[f32], data: &[f32], found: &mut Vec<Found>) {
    let lowest = floors.iter().copied().fold(f32::INFINITY, f32::min);
    let mut rows = data.chunks_exact(5 + floors.len());
    for stride in YOLOX_STRIDES {
        let (across, down) = grid(input, stride);
        let stride = stride as f32;
        for (cell, row) in rows.by_ref().take(across * down).enumerate() {
            let objectness = row[4];
            // A class score is at most 1, so the product cannot reach a floor that objectness does not reach.
            if objectness < lowest {
                continue;
            }
            let (class, best) = best(&row[5..]);
            let score = objectness * best;
            if score < floors[class] {
                continue;
            }
            let cx = (row[0] + (cell % across) as f32) * stride;
            let cy = (row[1] + (cell / across) as f32) * stride;
            let (w, h) = (row[2].exp() * stride, row[3].exp() * stride);
            found.push(Found {
                class,
                score,
                corners: [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0],
            });
        }
    }
}

/// Outputs 0..4 are scores `[1, N, labels]`, already sigmoided, at each stride; 4..8 are the distances from the cell's
/// centre to the box's left, top, right and bottom, each as 8 logits: the distance is their softmax's expectation, in
/// strides (generalised focal loss; PaddleDetection, `pico_head.py`).
fn picodet(input: &Input, floors: &[f32], outputs: &[Output<'_>], found: &mut Vec<Found>) {
    let (scores, distances) = outputs.split_at(PICODET_STRIDES.len());
    for ((stride, scores), distances) in PICODET_STRIDES.into_iter().zip(scores).zip(distances) {
        let (across, _) = grid(input, stride);
        let stride = stride as f32;
        let rows = scores.data.chunks_exact(floors.len());
        for (cell, (scores, logits)) in rows.zip(distances.data.chunks_exact(4 * PICODET_BINS)).enumerate() {
            let (class, score) = best(scores);
            if score < floors[class] {
                continue;
            }
            let cx = ((cell % across) as f32 + 0.5) * stride;
            let cy = ((cell / across) as f32 + 0.5) * stride;
            let distance = |side: usize| {
                let logits = &logits[side * PICODET_BINS..][..PICODET_BINS];
                let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let (sum, weighted) = logits
                    .iter()
                    .enumerate()
                    .fold((0.0, 0.0), |(sum, weighted), (bin, logit)| {
                        let p = (logit - top).exp();
                        (sum + p, weighted + p * bin as f32)
                    });
                weighted / sum * stride
            };
            found.push(Found {
                class,
                score,
                corners: [cx - distance(0), cy - distance(1), cx + distance(2), cy + distance(3)],
            });
        }
    }
}

/// The highest score and its index; of equal ones the first.
fn best(scores: &[f32]) -> (usize, f32) {
    scores.iter().copied().enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, (i, s)| if s > best.1 { (i, s) } else { best },
    )
}

/// Greedy non-maximum suppression under each label. Leaves the best first.
fn suppress(found: &mut Vec<Found>, iou_limit: f32) {
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(MOST_CANDIDATES);
    let mut kept = 0;
    for i in 0..found.len() {
        let candidate = found[i];
        let covered = |k: &Found| k.class == candidate.class && iou(&k.corners, &candidate.corners) > iou_limit;
        if !found[..kept].iter().any(covered) {
            found[kept] = candidate;
            kept += 1;
        }
    }
    found.truncate(kept);
}

/// Intersection over union of two boxes; 0 where both are empty.
fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: f32, high: f32| (high - low).max(0.0);
    let area = |c: &[f32; 4]| side(c[0], c[2]) * side(c[1], c[3]);
    let common = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let union = area(a) + area(b) - common;
    if union > 0.0 { common / union } else { 0.0 }
}

impl Found {
    /// Where it is in the original picture, cut off at its edges; `None` where nothing of it lies inside.
    pub fn in_picture(&self, placement: Placement) -> Option<BBox> {
        let [x1, y1, x2, y2] = placement.fractions(self.corners);
        (x1 < x2 && y1 < y2).then_some(BBox { x1, y1, x2, y2 })
    }
}
