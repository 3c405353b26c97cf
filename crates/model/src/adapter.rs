//! Output tensors to boxes.
//!
//! Each family of networks has its layout, and exporters vary it silently: a wrong reading does not fail, it looks like a bad
//! model. So a layout is *recognised* ([`OutputLayout::resolve`]) from what the exporter left in the file, then from the names
//! and shapes of the outputs; what fits no family, or several, is refused with the reasons and the choices. What was
//! recognised once reads every look ([`OutputLayout::decode`]).
//!
//! Each family is a file or a part of one below this, with the source of its layout; `docs/models.md` has them in a table.

mod fastestdet;
mod finished;
mod query;
mod recognise;
mod regression;
mod ssd;
mod yolo;
mod yunet;

use std::{collections::BTreeMap, fmt};

use super::{
    manifest::{Adapter, ClassMapping},
    preprocess::Placement,
};
use gridwatch_engine::BBox;
use gridwatch_base::error::Class;

/// One output of the network for one picture, dense and row-major.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// Its dimensions. Of a graph that takes several pictures at once the first, the batch, is theirs.
    pub shape: &'a [i64],
    /// The numbers of the first picture, whatever type the graph gives them in.
    pub data: &'a [f32],
}

impl Output<'_> {
    /// Its dimensions for the one picture.
    pub fn dimensions(&self) -> impl Iterator<Item = i64> {
        let all: i64 = self.shape.iter().product();
        let is_batch = all > self.data.len() as i64;
        self.shape
            .iter()
            .enumerate()
            .map(move |(i, n)| if i == 0 && is_batch { 1 } else { *n })
    }
}

/// An input or output of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// The type of its numbers: `f32`, `f16`, `u8`, `i64`, …
    pub element: String,
    /// Its dimensions; -1 where any length will do.
    pub shape: Vec<i64>,
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape: Vec<_> = self
            .shape
            .iter()
            .map(|n| if *n < 0 { "?".into() } else { n.to_string() })
            .collect();
        write!(f, "{} {} [{}]", self.name, self.element, shape.join(", "))
    }
}

/// Ports in one line.
pub(super) fn list(ports: &[TensorInfo]) -> String {
    let texts: Vec<_> = ports.iter().map(TensorInfo::to_string).collect();
    texts.join(", ")
}

/// What is known of a network when its layout is recognised.
#[derive(Debug, Clone)]
pub struct NetworkFacts<'a> {
    /// What it takes.
    pub inputs: &'a [TensorInfo],
    /// What it gave for one picture: every dimension is known.
    pub outputs: &'a [TensorInfo],
    /// What the exporter left in the file.
    pub metadata: &'a BTreeMap<String, String>,
    /// How many classes the manifest lists.
    pub classes: usize,
    /// Width and height of the picture that it was given, in pixels of the network's input.
    pub size: (u32, u32),
}

/// One box as the network gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawDetection {
    /// Index of the label, into [`Manifest::reported_labels`](super::Manifest::reported_labels).
    pub label: usize,
    /// 0..=1.
    pub score: f32,
    /// Left, top, right, bottom, in pixels of the network's input; may reach beyond it.
    pub corners: [f32; 4],
}

impl RawDetection {
    /// Where it is in the original picture, cut off at its edges; `None` where nothing of it lies inside.
    pub fn in_picture(&self, placement: Placement) -> Option<BBox> {
        let [x1, y1, x2, y2] = placement.fractions(self.corners);
        (x1 < x2 && y1 < y2).then_some(BBox { x1, y1, x2, y2 })
    }
}

/// Outputs that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The graph takes something else than a picture as the manifest describes it.
    #[error("the graph takes {found}, model.toml says {expected}")]
    Input {
        /// By the manifest.
        expected: String,
        /// By the graph.
        found: String,
    },
    /// An input or output of a type that cannot be filled or read.
    #[error("{port} cannot be used: {why}")]
    Element {
        /// Which.
        port: String,
        /// Why not, and what to do.
        why: &'static str,
    },
    /// Not the outputs of the manifest's adapter.
    #[error("adapter {adapter} does not fit: {why}. The graph gives {outputs}{}", also(.fitting))]
    AdapterMismatch {
        /// The manifest's adapter.
        adapter: Adapter,
        /// What it needs.
        why: String,
        /// What there is.
        outputs: String,
        /// Adapters that would fit.
        fitting: Vec<Adapter>,
    },
    /// Nothing that is known.
    #[error(
        "no adapter fits {outputs} with {classes} labels at {}x{}: {reasons}. Check `labels` and `input` in model.toml, and \
         export the network as docs/models.md says",
        .size.0, .size.1
    )]
    Unknown {
        /// What there is.
        outputs: String,
        /// How many classes the manifest lists.
        classes: usize,
        /// Width and height of the input.
        size: (u32, u32),
        /// Why each family that comes near does not fit.
        reasons: String,
    },
    /// Several that cannot be told apart.
    #[error(
        "{outputs} can be read in {} ways, and a wrong one looks like a bad model: write adapter = {} in model.toml",
        .choices.len(), quoted(.choices)
    )]
    Ambiguous {
        /// What there is.
        outputs: String,
        /// The adapters that fit.
        choices: Vec<Adapter>,
    },
    /// The file itself says that it is for something else.
    #[error("its metadata says task = {task:?}: gridwatch reads networks that detect; export one of those")]
    Task {
        /// What it is for.
        task: String,
    },
    /// The classes that the exporter left in the file are not the manifest's.
    #[error("class {index} is {metadata:?} by the file's own metadata, model.toml calls it {manifest:?}: {remedy}")]
    Names {
        /// Which class, from 0.
        index: usize,
        /// By the file; empty where it has fewer.
        metadata: String,
        /// By the manifest; empty where it has fewer.
        manifest: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A number that is none.
    #[error(
        "output {index} holds a number that is not finite: the file is damaged, or its input was not scaled as it needs"
    )]
    NotFinite {
        /// Which output, from 0.
        index: usize,
    },
    /// Scores that are none.
    #[error(
        "a score of {score} does not lie in 0..=1: the sigmoid is missing (export with it), or adapter {adapter} is not the \
         right one"
    )]
    NotAScore {
        /// What was read as one, as it prints.
        score: String,
        /// By which adapter.
        adapter: Adapter,
    },
}

fn also(fitting: &[Adapter]) -> String {
    match fitting {
        [] => String::new(),
        fitting => format!("; that fits {}", quoted(fitting)),
    }
}

fn quoted(adapters: &[Adapter]) -> String {
    let names: Vec<_> = adapters.iter().map(|a| format!("\"{a}\"")).collect();
    names.join(" or ")
}

impl LayoutError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::NotFinite { .. } | Self::NotAScore { .. } => Class::Data,
            _ => Class::Config,
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As the manifest spells it; a unit variant always is a string.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => f.write_str(&name),
            _ => write!(f, "{self:?}"),
        }
    }
}

/// One way of laying out a network's outputs.
struct Family {
    adapter: Adapter,
    /// True where several boxes of one thing come out, of which all but the best must go.
    overlaps: bool,
    /// The indices of the outputs in the order in which `read` wants them, or what is missing.
    fit: fn(&NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch>,
    /// Offers every box to the candidates.
    read: fn(&OutputView<'_>, &mut Candidates<'_>),
}

/// Why outputs are not those of a family.
struct Mismatch {
    /// What it needs, with the numbers of this network filled in.
    needs: String,
    /// True where the outputs resemble it, so that this is worth telling.
    near: bool,
}

/// Other outputs altogether.
fn far(needs: &str) -> Mismatch {
    Mismatch {
        needs: needs.into(),
        near: false,
    }
}

/// The right number of outputs, but not these.
fn near(needs: String) -> Mismatch {
    Mismatch { needs, near: true }
}

/// Every family. The order is that of the choices in an error.
const FAMILIES: [&Family; 19] = [
    &yolo::YOLOX,
    &yolo::YOLOX_DECODED,
    &yolo::YOLOV5,
    &yolo::YOLOV8,
    &finished::END2END,
    &finished::RTDETR,
    &query::RTDETR_ULTRALYTICS,
    &query::DETR,
    &query::DFINE,
    &query::RFDETR,
    &regression::NANODET,
    &regression::NANODET_PLUS,
    &regression::PICODET,
    &finished::PICODET_NMS,
    &finished::SSD,
    &finished::SSD_TF,
    &ssd::SSD_RAW,
    &fastestdet::FASTESTDET,
    &yunet::YUNET,
];

/// A recognised layout.
#[derive(Clone)]
pub struct OutputLayout {
    family: &'static Family,
    order: Vec<usize>,
    classes: usize,
}

impl fmt::Debug for OutputLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of outputs {:?}", self.family.adapter, self.order)
    }
}

/// One picture's outputs before a family.
struct OutputView<'a> {
    outputs: &'a [Output<'a>],
    order: &'a [usize],
    classes: usize,
    /// Width and height of the network's input.
    size: (u32, u32),
}

impl<'a> OutputView<'a> {
    /// The family's n-th output.
    fn output(&self, n: usize) -> Output<'a> {
        self.outputs[self.order[n]]
    }

    /// Its numbers.
    fn data(&self, n: usize) -> &'a [f32] {
        self.output(n).data
    }

    /// Width and height of the network's input.
    fn sides(&self) -> (f32, f32) {
        (self.size.0 as f32, self.size.1 as f32)
    }
}

/// Takes what reaches its floor.
struct Candidates<'a> {
    wanted: &'a [ClassMapping],
    /// The lowest floor: what cannot reach it need not be looked at.
    lowest: f32,
    found: &'a mut Vec<RawDetection>,
    /// The lowest and highest of what was offered as a score.
    range: (f32, f32),
}

impl Candidates<'_> {
    /// Notes what the network calls a probability.
    fn note_score(&mut self, probability: f32) {
        self.range = (self.range.0.min(probability), self.range.1.max(probability));
    }

    /// True where a score of `class` is taken.
    fn accepts(&mut self, class: usize, score: f32) -> bool {
        self.note_score(score);
        self.wanted.get(class).is_some_and(|w| score >= w.floor)
    }

    fn push(&mut self, class: usize, score: f32, corners: [f32; 4]) {
        self.found.push(RawDetection {
            label: self.wanted[class].label,
            score,
            corners,
        });
    }
}

/// Non-maximum suppression compares each box with all that were kept, so an adversarial picture could make it slow. The
/// lowest scored beyond this many are dropped; a street at a floor of 0.1 has some tens.
const MAX_CANDIDATES: usize = 1000;

/// Where the manifest does not say: what the families' own programs use, 0.45 to 0.6.
const NMS_IOU: f32 = 0.5;

/// Sums and products of floats may end a hair outside 0..=1.
const SLACK: f32 = 1e-3;

impl OutputLayout {
    /// Recognises a network's layout: that of `adapter`, or with [`Adapter::Auto`] the only one that fits.
    ///
    /// # Errors
    /// [`LayoutError::AdapterMismatch`], [`LayoutError::Unknown`], [`LayoutError::Ambiguous`] and [`LayoutError::Task`].
    pub fn resolve(adapter: Adapter, facts: &NetworkFacts<'_>) -> Result<Self, LayoutError> {
        let (family, order) = recognise::family(adapter, facts)?;
        Ok(Self {
            family,
            order,
            classes: facts.classes,
        })
    }

    /// Which layout it is; never [`Adapter::Auto`].
    pub fn adapter(&self) -> Adapter {
        self.family.adapter
    }

    /// Reads one picture's outputs: boxes that reach their floor, the best first, at most one of several that overlap more
    /// than `nms_iou` under one label.
    ///
    /// `wanted` has an entry for each class, `size` is what the network was given. The outputs must have the names and order
    /// that the layout was recognised by; their shapes may differ only with `size`.
    ///
    /// # Errors
    /// A number that is not finite, or a score outside 0..=1.
    pub fn decode(
        &self,
        size: (u32, u32),
        wanted: &[ClassMapping],
        nms_iou: Option<f32>,
        outputs: &[Output<'_>],
        found: &mut Vec<RawDetection>,
    ) -> Result<(), LayoutError> {
        found.clear();
        for &index in &self.order {
            // All ones in the exponent is infinity or NaN. Without an early exit the loop runs many numbers at a time.
            const EXPONENT: u32 = 0x7f80_0000;
            let bad = |bad, v: &f32| bad | (v.to_bits() & EXPONENT == EXPONENT);
            if outputs[index].data.iter().fold(false, bad) {
                return Err(LayoutError::NotFinite { index });
            }
        }
        let view = OutputView {
            outputs,
            order: &self.order,
            classes: self.classes,
            size,
        };
        let mut candidates = Candidates {
            wanted,
            lowest: wanted.iter().map(|w| w.floor).fold(f32::INFINITY, f32::min),
            found,
            range: (0.0, 1.0),
        };
        (self.family.read)(&view, &mut candidates);
        let (low, high) = candidates.range;
        if low < -SLACK || high > 1.0 + SLACK {
            found.clear();
            return Err(LayoutError::NotAScore {
                score: if low < -SLACK { low } else { high }.to_string(),
                adapter: self.family.adapter,
            });
        }
        // exp() of a box's side may still overflow.
        if found.iter().any(|f| f.corners.iter().any(|c| !c.is_finite())) {
            found.clear();
            return Err(LayoutError::NotFinite { index: self.order[0] });
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        match nms_iou {
            Some(iou) => suppress(found, iou),
            None if self.family.overlaps => suppress(found, NMS_IOU),
            None => {}
        }
        Ok(())
    }
}

/// Cells across and down at a stride.
fn grid((width, height): (u32, u32), stride: u32) -> (usize, usize) {
    (width.div_ceil(stride) as usize, height.div_ceil(stride) as usize)
}

/// Cells of one grid.
fn cells(size: (u32, u32), stride: u32) -> usize {
    let (across, down) = grid(size, stride);
    across * down
}

/// The highest score and its index; of equal ones the first.
fn best(scores: &[f32]) -> (usize, f32) {
    scores.iter().copied().enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, (i, s)| if s > best.1 { (i, s) } else { best },
    )
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Centre and sides to corners.
fn corners(cx: f32, cy: f32, w: f32, h: f32) -> [f32; 4] {
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}

/// Greedy non-maximum suppression under each label, the best first.
fn suppress(found: &mut Vec<RawDetection>, iou_limit: f32) {
    found.truncate(MAX_CANDIDATES);
    let mut kept = 0;
    for i in 0..found.len() {
        let candidate = found[i];
        let covered = |k: &RawDetection| k.label == candidate.label && iou(&k.corners, &candidate.corners) > iou_limit;
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
