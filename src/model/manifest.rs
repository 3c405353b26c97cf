//! `model.toml`: what a model is and how it is to be used. Parsing checks it whole and reports every fault at once; what
//! [`Manifest::parse`] returns can be relied on.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::Label;

/// The manifest of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name that cameras and cases use: letters, digits, `-` and `_`.
    pub id: String,
    /// Version, raised whenever weights, labels or preprocessing change. Every case states it.
    pub version: String,
    /// SHA-256 of `model.onnx`, 64 small hexadecimal digits. A file with another sum is refused.
    pub sha256: String,
    /// Licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub source: String,
    /// How its outputs are read.
    pub adapter: Adapter,
    /// What the classes are called, in the network's order. Rules name these.
    pub labels: Vec<String>,
    /// Detections that score lower are not reported at all, 0..1. Keep it well below the rules' `keep_score`: what lies
    /// between is what a threshold can be tuned on. Lower costs time in non-maximum suppression.
    pub score_floor: f32,
    /// Floors of single labels that differ, 0..1, by label.
    #[serde(default)]
    pub label_floors: BTreeMap<String, f32>,
    /// Of two boxes of one label that overlap more than this, the lower scored goes, 0..1 (intersection over union).
    pub nms_iou: f32,
    /// What the network is fed.
    pub input: Input,
}

/// How a network's outputs become boxes. See `model::adapter` for each one's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Adapter {
    /// YOLOX without decoding in the graph: one output `[1, N, 5 + labels]`.
    Yolox,
    /// PaddleDetection's PicoDet without its post-processing: scores and box distributions at four strides.
    Picodet,
}

/// What the network is fed: `float32 [1, 3, height, width]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name of the graph's input.
    pub name: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Order of the three channels.
    pub colour: Colour,
    /// Subtracted from each channel, on a scale of 0..255, in the order of `colour`.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Then each channel is divided by this.
    #[serde(default = "one")]
    pub std: [f32; 3],
    /// How a picture of another shape is fitted in.
    pub fit: Fit,
    /// What surrounds a fitted picture, 0..255 in every channel, before `mean` and `std`.
    #[serde(default)]
    pub pad: u8,
}

fn one() -> [f32; 3] {
    [1.0; 3]
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

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line of the file, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Manifest {
    /// Parses and checks a manifest.
    ///
    /// # Errors
    /// Every fault found. Faults of form (not TOML, unknown or missing field, wrong type) come alone, because nothing
    /// behind them can be judged.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        let manifest: Self = toml::from_str(text).map_err(|e| {
            vec![Fault {
                // A missing field has no place; toml then points at the whole table.
                line: e.span().map(|span| text[..span.start].matches('\n').count() + 1),
                message: e.message().to_owned(),
            }]
        })?;
        let faults: Vec<_> = manifest
            .faults()
            .into_iter()
            .map(|(field, message)| Fault {
                line: line_of(text, field),
                message: format!("{field}: {message}"),
            })
            .collect();
        if faults.is_empty() { Ok(manifest) } else { Err(faults) }
    }

    fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut check = |good: bool, field, message: &dyn Fn() -> String| {
            if !good {
                faults.push((field, message()));
            }
        };
        let name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        check(
            !self.id.is_empty() && self.id.len() <= 64 && self.id.chars().all(name),
            "id",
            &|| format!("{:?}: 1 to 64 letters, digits, '-' and '_' are allowed", self.id),
        );
        check(!self.version.trim().is_empty(), "version", &|| {
            "empty: every case states it".into()
        });
        check(!self.licence.trim().is_empty(), "licence", &|| {
            "empty: weights without one are not used".into()
        });
        let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
        check(
            self.sha256.len() == 64 && self.sha256.chars().all(hex),
            "sha256",
            &|| {
                format!(
                    "{:?}: 64 small hexadecimal digits are needed, as sha256sum prints them",
                    self.sha256
                )
            },
        );
        let labels: BTreeSet<_> = self.labels.iter().collect();
        check(
            !labels.is_empty() && labels.len() == self.labels.len() && !self.labels.iter().any(String::is_empty),
            "labels",
            &|| "every class needs a label, no two the same and none empty".into(),
        );
        let share = |v: f32| v > 0.0 && v < 1.0;
        check(share(self.score_floor), "score_floor", &|| {
            format!("{}: it must lie between 0 and 1", self.score_floor)
        });
        check(share(self.nms_iou), "nms_iou", &|| {
            format!("{}: it must lie between 0 and 1", self.nms_iou)
        });
        for (label, &floor) in &self.label_floors {
            check(labels.contains(label), "label_floors", &|| {
                format!("{label:?} is not among the labels")
            });
            check(share(floor), "label_floors", &|| {
                format!("{label} = {floor}: it must lie between 0 and 1")
            });
        }
        let Input {
            name,
            width,
            height,
            mean,
            std,
            ..
        } = &self.input;
        check(!name.is_empty(), "input.name", &|| {
            "empty: name the graph's input".into()
        });
        for (field, side) in [("input.width", *width), ("input.height", *height)] {
            check((32..=4096).contains(&side) && side % 32 == 0, field, &|| {
                format!(
                    "{side}: the coarsest grid has a cell every 32 pixels, so a multiple of 32 up to 4096 is needed"
                )
            });
        }
        check(mean.iter().all(|v| v.is_finite()), "input.mean", &|| {
            format!("{mean:?}: not numbers")
        });
        check(std.iter().all(|v| v.is_finite() && *v > 0.0), "input.std", &|| {
            format!("{std:?}: each channel is divided by it, so it must be above 0")
        });
        faults
    }

    /// The floor of each label, in the network's order.
    pub fn floors(&self) -> Vec<f32> {
        let floor = |label| self.label_floors.get(label).copied().unwrap_or(self.score_floor);
        self.labels.iter().map(floor).collect()
    }

    /// The labels as the engine has them, in the network's order.
    pub fn engine_labels(&self) -> Vec<Label> {
        self.labels.iter().map(|label| Label::from(label.as_str())).collect()
    }
}

/// The line where `field` (`table.key` or `key`) is set. The form is known to be right, so a plain search will do.
fn line_of(text: &str, field: &str) -> Option<usize> {
    let (wanted_table, key) = field.rsplit_once('.').unwrap_or(("", field));
    let mut table = "";
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.split(']').next()) {
            table = name.trim();
            if wanted_table.is_empty() && table == key {
                return Some(i + 1);
            }
        } else if table == wanted_table && line.split('=').next().is_some_and(|k| k.trim() == key) && line.contains('=')
        {
            return Some(i + 1);
        }
    }
    None
}
