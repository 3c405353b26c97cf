//! Self-test of a model before it is used: the file is complete and runs on this box, its outputs are decoded correctly, and it finds
//! the expected detections in its test pictures.
//!
//! A model with wrong preprocessing or a wrong adapter does not fail: it finds less, or other objects, on every street. Only pictures
//! with known contents reveal that. If they do not match, the usual mistakes in a manifest (channel order, scale, fit, adapter) are
//! tried one by one, and one that explains every mismatch is named.

use std::{fmt, path::Path, time::Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Manifest, Model, ModelError, ModelSet, Runtime,
    adapter::LayoutError,
    graph::Graph,
    manifest::{Adapter, Colour, Expected, Fit, Input, Provider, SelfTest},
    network::Network,
};
use gridwatch_base::text::counted;
use gridwatch_engine::{BBox, Detection};
use gridwatch_frame as frame;
use gridwatch_frame::Frame;

/// Tolerated score difference: CPUs round differently, and 8-bit networks amplify it.
const SCORE_TOLERANCE: f32 = 0.05;

/// Minimum intersection over union of an expected and a detected box, for the same reason.
const MIN_IOU: f32 = 0.85;

/// Tolerance for floating-point error around 0..=1.
const RANGE_TOLERANCE: f32 = 1e-3;

/// Number of timed looks, of which the median is reported; the first ones of a session are slower.
const TIMED_LOOKS: usize = 7;

/// Maximum mismatches reported per picture.
const MAX_REPORTED: usize = 3;

/// Result of one step of the self-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// Its result.
    #[serde(rename = "verdict")]
    pub result: StepResult,
    /// Details, or the fault and its remedy.
    #[serde(rename = "said")]
    pub message: String,
}

/// The steps, in order. A failed step ends the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The ONNX file is complete and contains its weights.
    File,
    /// ONNX Runtime loads it on one of its execution providers.
    Session,
    /// Its inputs, outputs and classes match the manifest.
    Layout,
    /// It finds the expected detections in its test pictures.
    Pictures,
    /// It is fast enough for `runtime.budget_ms`.
    Speed,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Session => "session",
            Self::Layout => "layout",
            Self::Pictures => "pictures",
            Self::Speed => "speed",
        })
    }
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// Passed.
    #[serde(rename = "good")]
    Passed,
    /// Usable, but the check is missing.
    #[serde(rename = "doubtful")]
    Unproven,
    /// The model must not be used.
    #[serde(rename = "wrong")]
    Failed,
}

/// Result of a model's self-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTestReport {
    /// `id@version`.
    pub model: String,
    /// The recognised adapter, if the test got that far.
    pub adapter: Option<Adapter>,
    /// Execution provider, if the test got that far.
    pub provider: Option<Provider>,
    /// Median time of a look in milliseconds, preprocessing included.
    pub ms: Option<f64>,
    /// Results of the steps, in order.
    pub findings: Vec<StepReport>,
}

impl SelfTestReport {
    /// True if no step failed.
    pub fn is_good(&self) -> bool {
        self.refusal().is_none()
    }

    /// Message of the first failed step.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal_in(|_| true)
    }

    /// Message of the first failed step among those for which `counts` returns true.
    pub fn refusal_in(&self, counts: impl Fn(Step) -> bool) -> Option<&str> {
        let is_failure = |f: &&StepReport| f.result == StepResult::Failed && counts(f.step);
        self.findings.iter().find(is_failure).map(|f| f.message.as_str())
    }

    fn fail(&mut self, e: &ModelError) {
        let step = match e {
            ModelError::Layout { .. } => Step::Layout,
            _ => Step::Session,
        };
        self.add(step, StepResult::Failed, e.to_string());
    }

    fn add(&mut self, step: Step, result: StepResult, message: impl Into<String>) {
        self.findings.push(StepReport {
            step,
            result,
            message: message.into(),
        });
    }
}

/// Runs the self-test. The checksum was already verified by [`Model::load`].
pub fn check(runtime: &Runtime, model: &Model) -> SelfTestReport {
    let manifest = model.manifest();
    let mut report = SelfTestReport {
        model: format!("{}@{}", manifest.id, manifest.version),
        adapter: None,
        provider: None,
        ms: None,
        findings: Vec::new(),
    };
    match Graph::read(&model.bytes) {
        Ok(graph) => {
            let opset = graph.opsets.get("").copied().unwrap_or_default();
            let mib = model.bytes.len() as f64 / f64::from(1 << 20);
            report.add(
                Step::File,
                StepResult::Passed,
                format!("{mib:.1} MiB, opset {opset}, {}", graph.producer),
            );
        }
        Err(e) => {
            report.add(Step::File, StepResult::Failed, format!("{}: {e}", model.file.display()));
            return report;
        }
    }
    if !manifest.adapter.detects_objects() {
        check_text_model(&mut report, runtime, model);
        return report;
    }
    let mut set = match ModelSet::new(runtime, [model]) {
        Ok(set) => set,
        Err(e) => {
            report.fail(&e);
            return report;
        }
    };
    let (adapter, provider) = (set.adapter(0), set.provider(0));
    report.adapter = Some(adapter);
    report.provider = Some(provider);
    report.add(Step::Session, StepResult::Passed, format!("runs on {provider}"));
    report.add(
        Step::Layout,
        StepResult::Passed,
        format!("{adapter}, reports {}", summary(&manifest.reported_labels())),
    );
    let pictures = match load_pictures(model) {
        Ok(pictures) => pictures,
        Err(message) => {
            report.add(Step::Pictures, StepResult::Failed, message);
            return report;
        }
    };
    if pictures.is_empty() {
        report.add(
            Step::Pictures,
            StepResult::Unproven,
            "model.toml has no [[self_test]], so preprocessing and adapter are unproven; \
             `gridwatch model record` adds test pictures",
        );
    } else {
        match mismatches(&mut set, &pictures) {
            Ok(mismatches) if mismatches.is_empty() => {
                let expected: usize = pictures.iter().map(|(test, _)| test.expect.len()).sum();
                let message = format!(
                    "{} in {}, all found",
                    counted(expected, "expected detection", "expected detections"),
                    counted(pictures.len(), "picture", "pictures")
                );
                report.add(Step::Pictures, StepResult::Passed, message);
            }
            Ok(mismatches) => {
                let cause = likely_cause(runtime, model, &pictures);
                let message = [mismatches.join("; ")]
                    .into_iter()
                    .chain(cause)
                    .collect::<Vec<_>>()
                    .join(". ");
                report.add(Step::Pictures, StepResult::Failed, message);
                return report;
            }
            Err(e) => {
                report.add(Step::Pictures, StepResult::Failed, e.to_string());
                return report;
            }
        }
    }
    check_speed(&mut report, &mut set, model, pictures.first().map(|(_, frame)| frame));
    report
}

/// Checks a text model on its own: it runs, and its output is a probability map or a distribution over characters. Detector and
/// recogniser are tested together when a [`Reader`](crate::ocr::Reader) is created.
fn check_text_model(report: &mut SelfTestReport, runtime: &Runtime, model: &Model) {
    let Input { width, height, .. } = model.manifest.input;
    let outcome = Network::open(runtime, model).and_then(|mut network| {
        let tensor = vec![0.0; 3 * width as usize * height as usize];
        let range = network.run(&tensor, (width, height), |outputs| {
            let values = || outputs.iter().flat_map(|o| o.data);
            match values().all(|v| v.is_finite()) {
                true => Ok(values().fold((0.0_f32, 1.0_f32), |(low, high), v| (low.min(*v), high.max(*v)))),
                false => Err(LayoutError::NotFinite { index: 0 }),
            }
        })?;
        Ok((network.provider(), range))
    });
    let adapter = model.manifest.adapter;
    match outcome {
        Ok((provider, (low, high))) if low >= -RANGE_TOLERANCE && high <= 1.0 + RANGE_TOLERANCE => {
            report.adapter = Some(adapter);
            report.provider = Some(provider);
            report.add(Step::Session, StepResult::Passed, format!("runs on {provider}"));
            report.add(
                Step::Layout,
                StepResult::Passed,
                format!("{adapter}, reads text together with the other text model"),
            );
        }
        Ok((_, (low, high))) => {
            let score = if low < -RANGE_TOLERANCE { low } else { high }.to_string();
            report.add(
                Step::Layout,
                StepResult::Failed,
                LayoutError::NotAScore { score, adapter }.to_string(),
            );
        }
        Err(e) => report.fail(&e),
    }
}

/// The first few labels, and their number if there are more.
fn summary(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    match names.len() {
        n if n > SHOWN + 1 => format!("{n} labels: {}, …", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

fn check_speed(report: &mut SelfTestReport, set: &mut ModelSet, model: &Model, frame: Option<&Frame>) {
    let grey = super::model_set::grey_frame();
    let frame = frame.unwrap_or(&grey);
    let mut times = Vec::with_capacity(TIMED_LOOKS);
    for _ in 0..TIMED_LOOKS {
        let start = Instant::now();
        if let Err(e) = set.input(frame).detect(0) {
            report.add(Step::Speed, StepResult::Failed, e.to_string());
            return;
        }
        times.push(start.elapsed());
    }
    times.sort();
    let ms = times[TIMED_LOOKS / 2].as_secs_f64() * 1e3;
    report.ms = Some(ms);
    match model.manifest.runtime.budget_ms {
        Some(budget) if ms > f64::from(budget) => {
            let message = format!(
                "a look takes {ms:.0} ms on this box, but runtime.budget_ms in model.toml allows {budget}; use a smaller network \
                 or raise the budget"
            );
            report.add(Step::Speed, StepResult::Failed, message);
        }
        Some(budget) => report.add(
            Step::Speed,
            StepResult::Passed,
            format!("{ms:.1} ms per look, {budget} ms allowed"),
        ),
        None => report.add(Step::Speed, StepResult::Passed, format!("{ms:.1} ms per look")),
    }
}

/// Decodes the manifest's test pictures.
fn load_pictures(model: &Model) -> Result<Vec<(&SelfTest, Frame)>, String> {
    let dir = model.file.parent().unwrap_or(Path::new(""));
    let tests = model.manifest.self_test.iter();
    tests
        .map(|test| Ok((test, load_picture(&dir.join(&test.picture))?)))
        .collect()
}

fn load_picture(path: &Path) -> Result<Frame, String> {
    let unreadable = |e: &dyn fmt::Display| format!("{}, listed under [[self_test]]: {e}", path.display());
    let rgb = frame::open_upright(path).map_err(|e| unreadable(&e))?.into_rgb8();
    Frame::from_rgb(&rgb, Timestamp::UNIX_EPOCH).map_err(|e| unreadable(&e))
}

/// Mismatches of all test pictures.
fn mismatches(set: &mut ModelSet, pictures: &[(&SelfTest, Frame)]) -> Result<Vec<String>, ModelError> {
    let mut mismatches = Vec::new();
    for (test, frame) in pictures {
        let found = set.input(frame).detect(0)?;
        let mut of_picture = compare(test, &found);
        let more = of_picture.len().saturating_sub(MAX_REPORTED);
        of_picture.truncate(MAX_REPORTED);
        if more > 0 {
            of_picture.push(format!("and {more} more mismatches"));
        }
        mismatches.extend(
            of_picture
                .into_iter()
                .map(|d| format!("{}: {d}", test.picture.display())),
        );
    }
    Ok(mismatches)
}

/// Missing, different and unexpected detections of one picture.
fn compare(test: &SelfTest, found: &[Detection]) -> Vec<String> {
    let best_overlap = |expected: &Expected| {
        let overlaps = |d: &&Detection| iou(d.bbox, expected.corners) >= MIN_IOU;
        found.iter().filter(overlaps).max_by(|a, b| a.score.total_cmp(&b.score))
    };
    let matches = |d: &Detection, expected: &Expected| {
        d.label.as_str() == expected.label
            && iou(d.bbox, expected.corners) >= MIN_IOU
            && (d.score - expected.score).abs() <= SCORE_TOLERANCE
    };
    let mut mismatches = Vec::new();
    for expected in test.expect.iter().filter(|e| e.score >= test.above) {
        if found.iter().any(|d| matches(d, expected)) {
            continue;
        }
        let Expected { label, score, corners } = expected;
        let place = place(*corners);
        mismatches.push(match best_overlap(expected) {
            Some(d) if d.label.as_str() == label => {
                format!("{label} {place} scores {:.2}, expected {score:.2}", d.score)
            }
            Some(d) => format!(
                "{label} {place} is reported as {}; check the order of `labels`",
                d.label
            ),
            None => format!("{label} {score:.2} {place} is not found"),
        });
    }
    for d in found.iter().filter(|d| d.score >= test.above + SCORE_TOLERANCE) {
        if !test.expect.iter().any(|e| iou(d.bbox, e.corners) >= MIN_IOU) {
            let BBox { x1, y1, x2, y2 } = d.bbox;
            mismatches.push(format!(
                "{} {:.2} {} is unexpected",
                d.label,
                d.score,
                place([x1, y1, x2, y2])
            ));
        }
    }
    mismatches
}

fn place(corners: [f32; 4]) -> String {
    let [x1, y1, x2, y2] = corners;
    format!("at [{x1:.2}, {y1:.2}, {x2:.2}, {y2:.2}]")
}

fn iou(a: BBox, [x1, y1, x2, y2]: [f32; 4]) -> f32 {
    a.iou(&BBox { x1, y1, x2, y2 }) as f32
}

/// Corrects one possible mistake in a manifest.
type Change = Box<dyn Fn(&mut Manifest)>;

/// The single mistake in the manifest that explains every mismatch, if there is one.
fn likely_cause(runtime: &Runtime, model: &Model, pictures: &[(&SelfTest, Frame)]) -> Option<String> {
    let manifest = &model.manifest;
    let input = &manifest.input;
    let other_colour = match input.colour {
        Colour::Bgr => Colour::Rgb,
        Colour::Rgb => Colour::Bgr,
    };
    /// ImageNet's values in RGB order, which most networks with normalisation use.
    const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
    const STD: [f32; 3] = [58.395, 57.12, 57.375];
    let flipped = |v: [f32; 3]| [v[2], v[1], v[0]];
    let in_order = |v: [f32; 3]| if input.colour == Colour::Rgb { v } else { flipped(v) };
    let mut changes: Vec<(String, Change)> = Vec::new();
    changes.push((
        "with the other channel order".into(),
        Box::new(move |m| m.input.colour = other_colour),
    ));
    for (message, scale, mean, std) in [
        ("with unscaled samples, 0..=255", 1.0, [0.0; 3], [1.0; 3]),
        ("with scale = 255", 255.0, [0.0; 3], [1.0; 3]),
        ("with ImageNet's mean and std", 1.0, in_order(MEAN), in_order(STD)),
        (
            "with mean and std in the other channel order",
            input.scale,
            flipped(input.mean),
            flipped(input.std),
        ),
    ] {
        changes.push((
            message.into(),
            Box::new(move |m| (m.input.scale, m.input.mean, m.input.std) = (scale, mean, std)),
        ));
    }
    for fit in [Fit::TopLeft, Fit::Centre, Fit::Stretch] {
        let name = serde_json::to_value(fit)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned));
        let message = format!("with fit = \"{}\"", name.unwrap_or_default());
        changes.push((message, Box::new(move |m| m.input.fit = fit)));
    }
    for pad in [0, 114, 128] {
        changes.push((format!("with pad = {pad}"), Box::new(move |m| m.input.pad = pad)));
    }
    for adapter in fitting_adapters(runtime, model) {
        changes.push((
            format!("with adapter = \"{adapter}\""),
            Box::new(move |m| m.adapter = adapter),
        ));
    }
    changes.into_iter().find_map(|(message, change)| {
        let mut changed = (**manifest).clone();
        change(&mut changed);
        if changed == **manifest {
            return None;
        }
        let changed_model = Model {
            manifest: changed.into(),
            ..model.clone()
        };
        let mismatches = mismatches(&mut ModelSet::new(runtime, [&changed_model]).ok()?, pictures).ok()?;
        mismatches
            .is_empty()
            .then(|| format!("Everything matches {message}; check model.toml"))
    })
}

/// Adapters that fit the outputs.
fn fitting_adapters(runtime: &Runtime, model: &Model) -> Vec<Adapter> {
    // No detector fits the adapter `ctc`, so the error lists every adapter that fits.
    let mut manifest = (*model.manifest).clone();
    manifest.adapter = Adapter::Ctc;
    let probe = Model {
        manifest: manifest.into(),
        ..model.clone()
    };
    match ModelSet::new(runtime, [&probe]) {
        Err(ModelError::Layout {
            source: LayoutError::AdapterMismatch { fitting, .. },
            ..
        }) => fitting,
        _ => Vec::new(),
    }
}
