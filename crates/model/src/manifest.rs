//! `model.toml`: what a model is and how it is to be used. Reading checks it whole and tells every fault at once, with its
//! line and what to do; what [`Manifest::read`] returns can be relied on.

mod check;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use gridwatch_base::document::{Document, Faults, schema};
use gridwatch_engine::Label;

/// The manifest of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name that cameras and cases use: 1 to 64 letters, digits, `-` and `_`.
    pub id: String,
    /// Version, raised whenever weights, labels or preprocessing change. Every case states it.
    pub version: String,
    /// SHA-256 of `model.onnx`, 64 small hexadecimal digits. A file with another sum is refused.
    pub sha256: String,
    /// Licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// How its outputs are read; `auto` tells it from the graph's metadata and shapes.
    #[serde(default)]
    pub adapter: Adapter,
    /// What the network's classes are called, in the network's order. None for a model of text.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What gridwatch calls a class, where that differs: `"trash bin" = "garbage_bin"`. Several classes may become one label.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Classes that are not reported at all.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Detections that score lower are not reported at all, 0..1. Keep it well below the rules' `keep_score`: what lies
    /// between is what a threshold can be tuned on. Lower costs time in non-maximum suppression.
    pub score_floor: f32,
    /// Floors of single labels that differ, 0..1, by gridwatch's label.
    #[serde(default)]
    pub label_floors: BTreeMap<String, f32>,
    /// Of two boxes of one label that overlap more than this, the lower scored goes, 0..1 (intersection over union). Unset:
    /// 0.5, or none at all where the graph itself leaves one box for each thing.
    pub nms_iou: Option<f32>,
    /// For `ctc`: a file beside this one with the characters it can write, one a line, in the network's order from 1 on.
    pub alphabet: Option<PathBuf>,
    /// What the network is fed.
    pub input: Input,
    /// How it is best run. The configuration of a box goes before it.
    #[serde(default)]
    pub runtime: Hints,
    /// Pictures with what must be found in them, looked at before the model may look at a camera.
    #[serde(default)]
    pub self_test: Vec<SelfTest>,
}

/// How a network's outputs become boxes, or text. See `model::adapter` for the layout of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// Told from the graph's metadata, then from the names and shapes of its outputs.
    #[default]
    Auto,
    /// YOLOX as it exports: boxes still to be decoded, `[1, N, 5 + classes]`.
    Yolox,
    /// YOLOX exported with `--decode_in_inference`: boxes in pixels, `[1, N, 5 + classes]`.
    YoloxDecoded,
    /// YOLOv5, and others with three anchors a cell: `[1, N, 5 + classes]`.
    Yolov5,
    /// YOLOv8, YOLO11 and others without objectness: `[1, 4 + classes, N]` or its transpose.
    Yolov8,
    /// YOLO26, YOLOv10 and others that end in `[1, N, 6]`: corners in pixels, score, class.
    End2end,
    /// RT-DETR and D-FINE as their authors export them: `labels`, `boxes`, `scores`, for `orig_target_sizes`.
    Rtdetr,
    /// RT-DETR as Ultralytics exports it: `[1, N, 4 + classes]`, boxes as fractions.
    RtdetrUltralytics,
    /// DETR: logits with a last class for nothing, boxes as fractions.
    Detr,
    /// D-FINE and RT-DETR from Hugging Face, Deformable DETR: a logit for each class, boxes as fractions.
    Dfine,
    /// RF-DETR: `dets`, boxes as fractions, and `labels`, a logit for each class.
    Rfdetr,
    /// NanoDet: for each stride scores and box distributions.
    Nanodet,
    /// NanoDet-Plus: one output of scores and box distributions.
    NanodetPlus,
    /// PicoDet without its post-processing: scores and box distributions at four strides.
    Picodet,
    /// PaddleDetection with its post-processing: rows of class, score and corners, and their count.
    PicodetNms,
    /// SSD with its post-processing: `boxes`, `labels` from 1 on, `scores`.
    Ssd,
    /// SSD of TensorFlow's detection API: boxes, classes from 1 on, scores, and their count.
    SsdTf,
    /// SSD without post-processing: scores with a first class for nothing, boxes as fractions.
    SsdRaw,
    /// FastestDet: one grid `[1, 5 + classes, H, W]`.
    Fastestdet,
    /// YuNet, which finds faces: twelve outputs at three strides.
    Yunet,
    /// Lines of text: a map of probabilities (differentiable binarisation).
    Db,
    /// The text in one line: a distribution over characters for each column (connectionist temporal classification).
    Ctc,
}

impl Adapter {
    /// True where it reads boxes, which [`Manifest::labels`] name.
    pub fn finds_things(self) -> bool {
        !matches!(self, Self::Db | Self::Ctc)
    }
}

/// What the network is fed: one picture as `[1, 3, height, width]` or `[1, height, width, 3]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the graph's input that takes the picture.
    pub name: String,
    /// Pixels across.
    #[schemars(range(min = 16, max = 4096))]
    pub width: u32,
    /// Pixels down.
    #[schemars(range(min = 16, max = 4096))]
    pub height: u32,
    /// Whether a picture of another aspect is fitted into that very rectangle.
    #[serde(default)]
    pub shape: Shape,
    /// Order of the axes. Unset: told from the graph.
    pub layout: Option<Axes>,
    /// Order of the three channels.
    pub colour: Colour,
    /// Samples, 0..=255, are divided by this first: 255 for a network that takes 0..1.
    #[serde(default = "unit")]
    pub scale: f32,
    /// Then it is subtracted from each channel, in the order of `colour`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Then each channel is divided by this.
    #[serde(default = "units")]
    pub std: [f32; 3],
    /// How a picture of another shape is fitted in.
    pub fit: Fit,
    /// What surrounds a fitted picture, 0..=255 in every channel, before `scale`, `mean` and `std`.
    #[serde(default)]
    pub pad: u8,
}

fn unit() -> f32 {
    1.0
}

fn units() -> [f32; 3] {
    [1.0; 3]
}

/// Whether the input has one shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Always `width` × `height`.
    #[default]
    Fixed,
    /// The picture's own aspect with about as many pixels as `width` × `height`, sides in multiples of 32. A wide picture in
    /// a square wastes almost half of the network's work on padding. The graph must take any shape.
    Picture,
}

/// Order of the axes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Axes {
    /// Channels outermost, as PyTorch exports.
    Nchw,
    /// Channels innermost, as TensorFlow exports.
    Nhwc,
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Blue first, as OpenCV reads pictures.
    Bgr,
    /// Red first.
    Rgb,
}

/// How a picture of another shape is fitted into the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Scaled with its shape kept, in the top left corner, padded to the right or below.
    TopLeft,
    /// Scaled with its shape kept, in the middle, padded on both sides.
    Centre,
    /// Scaled to fill the input, its shape lost, nothing padded.
    Stretch,
}

/// How a model is best run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hints {
    /// Threads of one session. Unset: 1, so that each worker keeps to its core.
    #[schemars(range(min = 1, max = 64))]
    pub threads: Option<u16>,
    /// What it is run on, the first that the box has. Unset: the processor.
    pub providers: Option<Vec<Provider>>,
    /// A box on which the middle one of its looks takes longer refuses it, in milliseconds.
    #[schemars(range(min = 1, max = 60000))]
    pub budget_ms: Option<u32>,
}

/// What ONNX Runtime runs a network on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor; every box has one.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An NVIDIA GPU, the network compiled for it first.
    Tensorrt,
    /// Intel's processors, GPUs and NPUs.
    Openvino,
}

impl std::fmt::Display for Provider {
    /// As the manifest spells it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        })
    }
}

/// A picture with what must be found in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// A JPEG or PNG, named from the manifest's folder.
    pub picture: PathBuf,
    /// What scores less is not compared, 0..1.
    #[serde(default = "above")]
    pub above: f32,
    /// Everything in it that scores at least that.
    pub expect: Vec<Expected>,
}

fn above() -> f32 {
    0.3
}

/// One thing in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Gridwatch's label.
    pub label: String,
    /// What it scores, 0..=1.
    pub score: f32,
    /// Left, top, right, bottom, as fractions of the picture.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
}

/// What becomes of one class of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Index into [`Manifest::found`]; of no meaning where nothing reaches the floor.
    pub label: usize,
    /// What scores less is not reported; infinite for a class that is ignored.
    pub floor: f32,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Every fault found.
    pub fn read(file: &Path) -> Result<Self, Faults> {
        check::judge(Document::read(file))
    }

    /// The same of what was read from `file` already.
    ///
    /// # Errors
    /// Every fault found.
    pub fn parse(file: &Path, bytes: Vec<u8>) -> Result<Self, Faults> {
        check::judge(Document::parse(file, bytes))
    }

    /// The JSON Schema (draft 2020-12) of the file.
    pub fn schema() -> Value {
        schema::generate::<Self>()
    }

    /// The labels under which things are reported, each once, in the order of the classes: what rules name.
    pub fn found(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for class in &self.labels {
            if let Some(label) = self.label_of(class).filter(|label| !found.contains(label)) {
                found.push(label);
            }
        }
        found
    }

    /// The same as the engine has them.
    pub fn engine_labels(&self) -> Vec<Label> {
        self.found().into_iter().map(Label::from).collect()
    }

    /// What becomes of each class, in the network's order.
    pub fn wanted(&self) -> Vec<Wanted> {
        let found = self.found();
        let of = |class: &String| {
            let place = |label| Some((label, found.iter().position(|f| *f == label)?));
            match self.label_of(class).and_then(place) {
                Some((label, i)) => Wanted {
                    label: i,
                    floor: self.label_floors.get(label).copied().unwrap_or(self.score_floor),
                },
                None => Wanted {
                    label: 0,
                    floor: f32::INFINITY,
                },
            }
        };
        self.labels.iter().map(of).collect()
    }

    fn label_of<'a>(&'a self, class: &'a String) -> Option<&'a str> {
        let kept = !self.ignore.contains(class);
        kept.then(|| self.rename.get(class).unwrap_or(class).as_str())
    }
}
