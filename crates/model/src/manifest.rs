//! `model.toml`, the manifest of a model: identity, labels, preprocessing, runtime hints and self-test.
//!
//! [`Manifest::read`] validates the whole file and reports every fault at once, each with its line and remedy. A manifest that
//! it returns is valid.

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
    /// Name that cameras and cases refer to: 1 to 64 letters, digits, `-` and `_`.
    pub id: String,
    /// Version; raise it whenever weights, labels or preprocessing change. Every case records it.
    pub version: String,
    /// SHA-256 of `model.onnx`, 64 lower-case hexadecimal digits. A file with a different checksum is rejected.
    pub sha256: String,
    /// Licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// Layout of the output tensors; `auto` recognises it from the graph's metadata and shapes.
    #[serde(default)]
    pub adapter: Adapter,
    /// Names of the network's classes, in the network's order. Empty for text models.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Label to report for a class when it differs from the class name: `"trash bin" = "garbage_bin"`. Several classes may map
    /// to one label.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// Classes that are never reported.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// Minimum score of a reported detection, 0..1. Keep it well below the rules' `keep_score`, so that the ledger holds the
    /// scores a threshold can be tuned on. A lower floor costs time in non-maximum suppression.
    pub score_floor: f32,
    /// Score floors that override `score_floor` for individual labels, 0..1.
    #[serde(default)]
    pub label_floors: BTreeMap<String, f32>,
    /// IoU threshold of non-maximum suppression within a label, 0..1. Unset: 0.5, or no suppression where the graph already
    /// gives one box per object.
    pub nms_iou: Option<f32>,
    /// For `ctc`: file in the model folder that lists the characters of classes 1, 2, …, one per line.
    pub alphabet: Option<PathBuf>,
    /// Input tensor and preprocessing.
    pub input: Input,
    /// Runtime hints. The box's configuration takes precedence.
    #[serde(default)]
    pub runtime: RuntimeHints,
    /// Test pictures with the expected detections. A model must pass them before it is used on a camera.
    #[serde(default)]
    pub self_test: Vec<SelfTest>,
}

/// Layout of a network's output tensors. `gridwatch_model::adapter` decodes each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapter {
    /// Recognised from the graph's metadata, then from the names and shapes of its outputs.
    #[default]
    Auto,
    /// YOLOX, default export: undecoded boxes, `[1, N, 5 + classes]`.
    Yolox,
    /// YOLOX exported with `--decode_in_inference`: boxes in pixels, `[1, N, 5 + classes]`.
    YoloxDecoded,
    /// YOLOv5 and others with three anchors per cell: `[1, N, 5 + classes]`.
    Yolov5,
    /// YOLOv8, YOLO11 and others without objectness: `[1, 4 + classes, N]` or its transpose.
    Yolov8,
    /// YOLO26, YOLOv10 and others that end in `[1, N, 6]`: corners in pixels, score, class.
    End2end,
    /// RT-DETR and D-FINE as exported by their authors: `labels`, `boxes`, `scores`, with an input `orig_target_sizes`.
    Rtdetr,
    /// RT-DETR as exported by Ultralytics: `[1, N, 4 + classes]`, normalised boxes.
    RtdetrUltralytics,
    /// DETR: logits whose last class is "no object", normalised boxes.
    Detr,
    /// D-FINE and RT-DETR from Hugging Face, Deformable DETR: one logit per class, normalised boxes.
    Dfine,
    /// RF-DETR: `dets`, normalised boxes, and `labels`, one logit per class.
    Rfdetr,
    /// NanoDet: scores and box distributions per stride.
    Nanodet,
    /// NanoDet-Plus: scores and box distributions in one output.
    NanodetPlus,
    /// PicoDet without its post-processing: scores and box distributions at four strides.
    Picodet,
    /// PaddleDetection with its post-processing: rows of class, score and corners, and the number of rows.
    PicodetNms,
    /// SSD with its post-processing: `boxes`, `labels` counted from 1, `scores`.
    Ssd,
    /// SSD from TensorFlow's Object Detection API: boxes, classes counted from 1, scores, and the number of detections.
    SsdTf,
    /// SSD without post-processing: scores whose first class is background, normalised boxes.
    SsdRaw,
    /// FastestDet: one grid `[1, 5 + classes, H, W]`.
    Fastestdet,
    /// YuNet face detector: twelve outputs at three strides.
    Yunet,
    /// Text detection: a probability map (differentiable binarisation).
    Db,
    /// Text recognition of one line: a distribution over characters for each step (connectionist temporal classification).
    Ctc,
}

impl Adapter {
    /// True for object detectors, whose classes [`Manifest::labels`] names; false for text models.
    pub fn detects_objects(self) -> bool {
        !matches!(self, Self::Db | Self::Ctc)
    }
}

/// The input tensor: one picture as `[1, 3, height, width]` or `[1, height, width, 3]`, and how it is prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the graph's image input.
    pub name: String,
    /// Width in pixels.
    #[schemars(range(min = 16, max = 4096))]
    pub width: u32,
    /// Height in pixels.
    #[schemars(range(min = 16, max = 4096))]
    pub height: u32,
    /// Whether the input always has that size, or takes the aspect ratio of the picture.
    #[serde(default)]
    pub shape: Shape,
    /// Order of the axes. Unset: recognised from the graph.
    pub layout: Option<Axes>,
    /// Order of the colour channels.
    pub colour: Colour,
    /// Divisor applied to the samples (0..=255) first: 255 for a network that takes 0..1.
    #[serde(default = "one")]
    pub scale: f32,
    /// Subtracted next, per channel in the order of `colour`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Divisor applied last, per channel in the order of `colour`.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    /// How a picture of a different aspect ratio is fitted in.
    pub fit: Fit,
    /// Padding value around the fitted picture, 0..=255 in every channel, before `scale`, `mean` and `std`.
    #[serde(default)]
    pub pad: u8,
}

fn one() -> f32 {
    1.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// Size of the network's input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Always `width` × `height`.
    #[default]
    Fixed,
    /// The picture's aspect ratio at about `width` × `height` pixels in total, sides in multiples of 32. In a square input a
    /// wide picture wastes almost half of the computation on padding. The graph must accept dynamic height and width.
    Picture,
}

/// Order of the axes of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Axes {
    /// Channels first, as PyTorch exports.
    Nchw,
    /// Channels last, as TensorFlow exports.
    Nhwc,
}

/// Order of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Blue first, OpenCV's order.
    Bgr,
    /// Red first.
    Rgb,
}

/// How a picture of a different aspect ratio is fitted into the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Letterboxed into the top left corner: aspect ratio kept, padding right or below.
    TopLeft,
    /// Letterboxed in the centre: aspect ratio kept, padding on both sides.
    Centre,
    /// Stretched to the full input: aspect ratio lost, no padding.
    Stretch,
}

/// Hints for running a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Hints")]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeHints {
    /// Threads of one session. Unset: 1, so that each worker stays on one core.
    #[schemars(range(min = 1, max = 64))]
    pub threads: Option<u16>,
    /// Execution providers in order of preference; the first one available is used. Unset: the CPU.
    pub providers: Option<Vec<Provider>>,
    /// Maximum median inference time in milliseconds. A box on which the model is slower rejects it.
    #[schemars(range(min = 1, max = 60000))]
    pub budget_ms: Option<u32>,
}

/// An execution provider of ONNX Runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The CPU; always available.
    Cpu,
    /// An NVIDIA GPU through CUDA.
    Cuda,
    /// An NVIDIA GPU through TensorRT, which compiles the network first.
    Tensorrt,
    /// Intel CPUs, GPUs and NPUs through OpenVINO.
    Openvino,
}

impl std::fmt::Display for Provider {
    /// The manifest's spelling.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        })
    }
}

/// A test picture and the detections expected in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// A JPEG or PNG, relative to the model folder.
    pub picture: PathBuf,
    /// Detections that score less are not compared, 0..1.
    #[serde(default = "default_above")]
    pub above: f32,
    /// Every detection that scores at least `above`.
    pub expect: Vec<Expected>,
}

fn default_above() -> f32 {
    0.3
}

/// One expected detection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Reported label, after `rename`.
    pub label: String,
    /// Score, 0..=1.
    pub score: f32,
    /// Left, top, right, bottom as fractions of the picture.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
}

/// How detections of one class of a network are reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassMapping {
    /// Index into [`Manifest::reported_labels`]; meaningless when `floor` is infinite.
    pub label: usize,
    /// Minimum score; infinite for an ignored class.
    pub floor: f32,
}

impl Manifest {
    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn read(file: &Path) -> Result<Self, Faults> {
        check::validate(Document::read(file))
    }

    /// Validates a manifest that was already read from `file`.
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn parse(file: &Path, bytes: Vec<u8>) -> Result<Self, Faults> {
        check::validate(Document::parse(file, bytes))
    }

    /// The JSON Schema (draft 2020-12) of the file.
    pub fn schema() -> Value {
        schema::generate::<Self>()
    }

    /// The distinct labels that detections are reported under, in class order. Rules refer to these.
    pub fn reported_labels(&self) -> Vec<&str> {
        let mut labels = Vec::new();
        for class in &self.labels {
            if let Some(label) = self.label_of(class).filter(|label| !labels.contains(label)) {
                labels.push(label);
            }
        }
        labels
    }

    /// [`Self::reported_labels`] as engine labels.
    pub fn engine_labels(&self) -> Vec<Label> {
        self.reported_labels().into_iter().map(Label::from).collect()
    }

    /// The labels that the self-test shows, each with the highest score expected of it; empty without a self-test.
    pub fn self_tested_labels(&self) -> BTreeMap<Label, f32> {
        let mut shown = BTreeMap::new();
        for expected in self.self_test.iter().flat_map(|test| &test.expect) {
            let best = shown.entry(Label::from(expected.label.as_str())).or_insert(0.0_f32);
            *best = best.max(expected.score);
        }
        shown
    }

    /// How each class is reported, in the network's order.
    pub fn class_mappings(&self) -> Vec<ClassMapping> {
        let labels = self.reported_labels();
        let mapping = |class: &String| {
            let index_of = |label| Some((label, labels.iter().position(|l| *l == label)?));
            match self.label_of(class).and_then(index_of) {
                Some((label, index)) => ClassMapping {
                    label: index,
                    floor: self.label_floors.get(label).copied().unwrap_or(self.score_floor),
                },
                None => ClassMapping {
                    label: 0,
                    floor: f32::INFINITY,
                },
            }
        };
        self.labels.iter().map(mapping).collect()
    }

    fn label_of<'a>(&'a self, class: &'a String) -> Option<&'a str> {
        let is_reported = !self.ignore.contains(class);
        is_reported.then(|| self.rename.get(class).unwrap_or(class).as_str())
    }
}
