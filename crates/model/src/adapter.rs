//! Decodes output tensors into boxes.
//!
//! Each family of networks has its own output layout, and exporters vary it silently. A wrong layout does not fail; it looks like a
//! bad model. Therefore a layout is *recognised* ([`OutputLayout::resolve`]) from the exporter's metadata, then from the names and
//! shapes of the outputs; outputs that fit no family, or several, are rejected with the reasons and the choices. A recognised
//! layout decodes the outputs of every look ([`OutputLayout::decode`]).
//!
//! The submodules implement the families and cite the source of each layout; `docs/models.md` lists them in a table.

mod fastestdet;
mod finished;
mod query;
mod recognise;
mod regression;
mod ssd;
pub(crate) mod unsupported;
mod yolo;
mod yunet;

use std::{collections::BTreeMap, fmt};

use super::{
    manifest::{Adapter, ClassMapping},
    preprocess::Placement,
};
use gridwatch_base::error::Class;
use gridwatch_engine::BBox;

/// One output of the network for one picture, dense and row-major.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// Shape as returned by the graph; with a fixed batch size, the first axis is the whole batch.
    pub shape: &'a [i64],
    /// Values of the first picture, converted to `f32`.
    pub data: &'a [f32],
}

impl Output<'_> {
    /// Shape for one picture: the batch axis is 1.
    pub fn dimensions(&self) -> impl Iterator<Item = i64> {
        let all: i64 = self.shape.iter().product();
        let is_batch = all > self.data.len() as i64;
        self.shape
            .iter()
            .enumerate()
            .map(move |(i, n)| if i == 0 && is_batch { 1 } else { *n })
    }
}

/// Name, element type and shape of a graph input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Name in the graph.
    pub name: String,
    /// Element type: `f32`, `f16`, `u8`, `i64`, …
    pub element: String,
    /// Shape; -1 for a dynamic axis.
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

/// Comma-separated description of several tensors.
pub(super) fn list(tensors: &[TensorInfo]) -> String {
    let texts: Vec<_> = tensors.iter().map(TensorInfo::to_string).collect();
    texts.join(", ")
}

/// Facts about a network that its layout is recognised from.
#[derive(Debug, Clone)]
pub struct NetworkFacts<'a> {
    /// Inputs of the graph.
    pub inputs: &'a [TensorInfo],
    /// Outputs of one run, with complete shapes.
    pub outputs: &'a [TensorInfo],
    /// The exporter's metadata.
    pub metadata: &'a BTreeMap<String, String>,
    /// Number of classes in the manifest.
    pub classes: usize,
    /// Width and height of the input that was run.
    pub size: (u32, u32),
}

/// A decoded box in input coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RawDetection {
    /// Index of the label, into [`Manifest::reported_labels`](super::Manifest::reported_labels).
    pub label: usize,
    /// Score, 0..=1.
    pub score: f32,
    /// Left, top, right, bottom in pixels of the network's input; may exceed it.
    pub corners: [f32; 4],
}

impl RawDetection {
    /// The box as fractions of the picture, clamped to its edges; `None` if it lies outside.
    pub fn in_picture(&self, placement: Placement) -> Option<BBox> {
        let [x1, y1, x2, y2] = placement.fractions(self.corners);
        (x1 < x2 && y1 < y2).then_some(BBox { x1, y1, x2, y2 })
    }
}

/// The graph does not match the manifest, or its outputs cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The graph's inputs differ from the manifest's.
    #[error("the graph takes {found}, but model.toml describes {expected}")]
    Input {
        /// Input in the manifest.
        expected: String,
        /// Inputs of the graph.
        found: String,
    },
    /// An input or output has an unsupported element type.
    #[error("{port} is not supported: {why}")]
    Element {
        /// The input or output.
        port: String,
        /// Reason and remedy.
        why: &'static str,
    },
    /// The outputs do not fit the manifest's adapter.
    #[error(
        "adapter {adapter} does not fit: {why}. The graph returns {outputs}{}",
        alternatives(.fitting)
    )]
    AdapterMismatch {
        /// The manifest's adapter.
        adapter: Adapter,
        /// Outputs that the adapter needs.
        why: String,
        /// Outputs of the graph, and what they look like if no adapter fits.
        outputs: String,
        /// Adapters that fit.
        fitting: Vec<Adapter>,
    },
    /// No adapter fits.
    #[error(
        "no adapter fits {outputs} with {classes} labels at {}x{}: {reasons}. Check `labels` and `input` in model.toml, and \
         export the network as described in docs/models.md. {}",
        .size.0, .size.1, unsupported::SUPPORTED
    )]
    Unknown {
        /// Outputs of the graph.
        outputs: String,
        /// Number of classes in the manifest.
        classes: usize,
        /// Width and height of the input.
        size: (u32, u32),
        /// Why each similar family does not fit, and what the outputs look like.
        reasons: String,
    },
    /// Several adapters fit.
    #[error(
        "{outputs} fits {} adapters, and the wrong one looks like a bad model; write adapter = {} in model.toml",
        .choices.len(), quoted(.choices)
    )]
    Ambiguous {
        /// Outputs of the graph.
        outputs: String,
        /// The adapters that fit.
        choices: Vec<Adapter>,
    },
    /// The file's metadata names another task than detection.
    #[error(
        "the file's metadata says task = {task:?}, and the graph returns {outputs}. {}; export the detection model of the same family",
        unsupported::SUPPORTED
    )]
    Task {
        /// The task in the metadata.
        task: String,
        /// Outputs of the graph, and what they look like.
        outputs: String,
    },
    /// The class names in the file's metadata differ from the manifest's.
    #[error("class {index} is {metadata:?} in the file's metadata, but {manifest:?} in model.toml; {remedy}")]
    Names {
        /// Index of the class, from 0.
        index: usize,
        /// Name in the file; empty if it has fewer classes.
        metadata: String,
        /// Name in the manifest; empty if it has fewer classes.
        manifest: String,
        /// Remedy.
        remedy: &'static str,
    },
    /// An output contains NaN or infinity.
    #[error("output {index} contains a value that is not finite: the file is damaged, or the input is scaled wrongly")]
    NotFinite {
        /// Index of the output, from 0.
        index: usize,
    },
    /// A score lies outside 0..=1.
    #[error(
        "a score of {score} is outside 0..=1: the sigmoid is missing (export with it), or adapter {adapter} is wrong"
    )]
    NotAScore {
        /// The value that was decoded as a score.
        score: String,
        /// The adapter in use.
        adapter: Adapter,
    },
}

fn alternatives(fitting: &[Adapter]) -> String {
    match fitting {
        [] => String::new(),
        fitting => format!(", which fits {}", quoted(fitting)),
    }
}

fn quoted(adapters: &[Adapter]) -> String {
    let names: Vec<_> = adapters.iter().map(|a| format!("\"{a}\"")).collect();
    names.join(" or ")
}

impl LayoutError {
    /// Error class, which decides between retry, quarantine and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::NotFinite { .. } | Self::NotAScore { .. } => Class::Data,
            _ => Class::Config,
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The manifest's spelling; serde writes a unit variant as a string.
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => f.write_str(&name),
            _ => write!(f, "{self:?}"),
        }
    }
}

/// A family of networks with a common output layout.
struct Family {
    adapter: Adapter,
    /// True if the network returns several boxes per object, so that non-maximum suppression is needed.
    overlaps: bool,
    /// Indices of the outputs in the order that `read` expects, or the reason why the outputs do not fit.
    fit: fn(&NetworkFacts<'_>) -> Result<Vec<usize>, Mismatch>,
    /// Decodes every box and adds those above their floor to the candidates.
    read: fn(&OutputView<'_>, &mut Candidates<'_>),
}

/// Reason why outputs do not fit a family.
struct Mismatch {
    /// The outputs that the family needs, for this network's size and classes.
    needs: String,
    /// True if the outputs resemble the family, so that the reason is worth reporting.
    near: bool,
}

/// Entirely different outputs.
fn far(needs: &str) -> Mismatch {
    Mismatch {
        needs: needs.into(),
        near: false,
    }
}

/// The right number of outputs with the wrong names or shapes.
fn near(needs: String) -> Mismatch {
    Mismatch { needs, near: true }
}

/// Every family, in the order in which errors list the choices.
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

/// A recognised output layout.
#[derive(Clone)]
pub struct OutputLayout {
    family: &'static Family,
    order: Vec<usize>,
    classes: usize,
}

impl fmt::Debug for OutputLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with outputs {:?}", self.family.adapter, self.order)
    }
}

/// The outputs of one picture, in the order that a family expects.
struct OutputView<'a> {
    outputs: &'a [Output<'a>],
    order: &'a [usize],
    classes: usize,
    /// Width and height of the network's input.
    size: (u32, u32),
}

impl<'a> OutputView<'a> {
    /// The n-th output in the family's order.
    fn output(&self, n: usize) -> Output<'a> {
        self.outputs[self.order[n]]
    }

    /// Values of the n-th output.
    fn data(&self, n: usize) -> &'a [f32] {
        self.output(n).data
    }

    /// Width and height of the network's input, as `f32`.
    fn sides(&self) -> (f32, f32) {
        (self.size.0 as f32, self.size.1 as f32)
    }
}

/// Collects the boxes that reach the score floor of their class.
struct Candidates<'a> {
    mappings: &'a [ClassMapping],
    /// The lowest floor; decoding can skip boxes that cannot reach it.
    lowest: f32,
    found: &'a mut Vec<RawDetection>,
    /// Lowest and highest score seen.
    range: (f32, f32),
}

impl Candidates<'_> {
    /// Records a probability for the range check.
    fn note_score(&mut self, probability: f32) {
        self.range = (self.range.0.min(probability), self.range.1.max(probability));
    }

    /// True if a score of `class` reaches its floor.
    fn accepts(&mut self, class: usize, score: f32) -> bool {
        self.note_score(score);
        self.mappings.get(class).is_some_and(|w| score >= w.floor)
    }

    fn push(&mut self, class: usize, score: f32, corners: [f32; 4]) {
        self.found.push(RawDetection {
            label: self.mappings[class].label,
            score,
            corners,
        });
    }
}

/// Maximum boxes that enter non-maximum suppression, highest scores first. It is quadratic, so an adversarial picture could
/// otherwise make it slow; a street at a floor of 0.1 has some tens of boxes.
const MAX_CANDIDATES: usize = 1000;

/// Default IoU threshold of non-maximum suppression; the families' own programs use 0.45 to 0.6.
const NMS_IOU: f32 = 0.5;

/// Tolerance for floating-point error around 0..=1.
const SLACK: f32 = 1e-3;

impl OutputLayout {
    /// Recognises a network's layout: checks that of `adapter`, or with [`Adapter::Auto`] finds the only one that fits.
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

    /// The recognised adapter; never [`Adapter::Auto`].
    pub fn adapter(&self) -> Adapter {
        self.family.adapter
    }

    /// Decodes the outputs of one picture into `found`: boxes that reach the floor of their class, highest score first, after
    /// non-maximum suppression per label at `nms_iou`.
    ///
    /// `mappings` has one entry per class; `size` is the width and height of the input. The outputs must have the same order as
    /// when the layout was recognised; their shapes may differ only because of `size`.
    ///
    /// # Errors
    /// [`LayoutError::NotFinite`] and [`LayoutError::NotAScore`].
    pub fn decode(
        &self,
        size: (u32, u32),
        mappings: &[ClassMapping],
        nms_iou: Option<f32>,
        outputs: &[Output<'_>],
        found: &mut Vec<RawDetection>,
    ) -> Result<(), LayoutError> {
        found.clear();
        for &index in &self.order {
            // An exponent of all ones is infinity or NaN. The loop has no early exit so that it can be vectorised.
            const EXPONENT: u32 = 0x7f80_0000;
            let not_finite = |found, v: &f32| found | (v.to_bits() & EXPONENT == EXPONENT);
            if outputs[index].data.iter().fold(false, not_finite) {
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
            mappings,
            lowest: mappings.iter().map(|w| w.floor).fold(f32::INFINITY, f32::min),
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
        // exp() of a side may overflow even for a finite output.
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

/// Columns and rows of the grid at a stride.
fn grid((width, height): (u32, u32), stride: u32) -> (usize, usize) {
    (width.div_ceil(stride) as usize, height.div_ceil(stride) as usize)
}

/// Number of cells of the grid at a stride.
fn cells(size: (u32, u32), stride: u32) -> usize {
    let (across, down) = grid(size, stride);
    across * down
}

/// Index and value of the highest score; the first of equal ones.
fn best(scores: &[f32]) -> (usize, f32) {
    scores.iter().copied().enumerate().fold(
        (0, f32::NEG_INFINITY),
        |best, (i, s)| if s > best.1 { (i, s) } else { best },
    )
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Converts centre and sides to corners.
fn corners(cx: f32, cy: f32, w: f32, h: f32) -> [f32; 4] {
    [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0]
}

/// Greedy non-maximum suppression per label; `found` is sorted by score.
fn suppress(found: &mut Vec<RawDetection>, iou_limit: f32) {
    found.truncate(MAX_CANDIDATES);
    let mut kept = 0;
    for i in 0..found.len() {
        let candidate = found[i];
        let overlaps = |k: &RawDetection| k.label == candidate.label && iou(&k.corners, &candidate.corners) > iou_limit;
        if !found[..kept].iter().any(overlaps) {
            found[kept] = candidate;
            kept += 1;
        }
    }
    found.truncate(kept);
}

/// Intersection over union of two boxes; 0 if both are empty.
fn iou(a: &[f32; 4], b: &[f32; 4]) -> f32 {
    let side = |low: f32, high: f32| (high - low).max(0.0);
    let area = |c: &[f32; 4]| side(c[0], c[2]) * side(c[1], c[3]);
    let common = side(a[0].max(b[0]), a[2].min(b[2])) * side(a[1].max(b[1]), a[3].min(b[3]));
    let union = area(a) + area(b) - common;
    if union > 0.0 { common / union } else { 0.0 }
}
