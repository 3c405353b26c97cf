//! What a model must show before it may look at a camera: that its file is whole and runs here, that its outputs are read as
//! they are meant, and that on the pictures it came with it finds what it is known to find.
//!
//! A model that is fed or read wrongly does not fail: it finds less, or other things, on every street. Only pictures with
//! known contents tell, so where they are not met the usual mistakes are tried one by one (the other order of colours, another
//! scale, another fit, another adapter), and one that mends everything is named.

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
use gridwatch_engine::{BBox, Detection};
use gridwatch_frame::{self, Frame};

/// Scores may differ by this much: processors round differently, and 8-bit networks more so.
const SCORE_TOLERANCE: f32 = 0.05;

/// Boxes may differ by this much for the same reason (intersection over union).
const MIN_IOU: f32 = 0.85;

/// Sums and products of floats may end a hair outside 0..=1.
const SLACK: f32 = 1e-3;

/// Looks whose middle one is the time that is told. The first few of a session are slower.
const TIMED: usize = 7;

/// Of one kind of difference this many are told.
const MAX_REPORTED: usize = 3;

/// What one step showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Which step.
    pub step: Step,
    /// How it went.
    pub verdict: StepResult,
    /// What was found, or what is wrong and what to do.
    pub said: String,
}

/// The steps, in their order. One that goes wrong keeps those behind it from being tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The ONNX file: whole, with its weights.
    File,
    /// ONNX Runtime takes it, on what it is to run on.
    Session,
    /// Its inputs, outputs and classes are the manifest's.
    Layout,
    /// It finds in its pictures what it should.
    Pictures,
    /// It is fast enough.
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

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepResult {
    /// As it should.
    Passed,
    /// Usable, but something is missing.
    Unproven,
    /// The model must not look.
    Failed,
}

/// What a model showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SelfTestReport {
    /// `id@version`.
    pub model: String,
    /// How its outputs are read, where that became known.
    pub adapter: Option<Adapter>,
    /// What it runs on.
    pub provider: Option<Provider>,
    /// Milliseconds that the middle one of some looks took, preprocessing included.
    pub ms: Option<f64>,
    /// Step by step.
    pub findings: Vec<StepReport>,
}

impl SelfTestReport {
    /// True where nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why the model must not look.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal_in(|_| true)
    }

    /// The same by the steps that count.
    pub fn refusal_in(&self, counts: impl Fn(Step) -> bool) -> Option<&str> {
        let is_wrong = |f: &&StepReport| f.verdict == StepResult::Failed && counts(f.step);
        self.findings.iter().find(is_wrong).map(|f| f.said.as_str())
    }

    fn fail(&mut self, e: &ModelError) {
        let step = match e {
            ModelError::Layout { .. } => Step::Layout,
            _ => Step::Session,
        };
        self.add(step, StepResult::Failed, e.to_string());
    }

    fn add(&mut self, step: Step, verdict: StepResult, said: impl Into<String>) {
        self.findings.push(StepReport {
            step,
            verdict,
            said: said.into(),
        });
    }
}

/// Tries a model. Its sum was checked when it was loaded.
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
        text(&mut report, runtime, model);
        return report;
    }
    let mut panel = match ModelSet::new(runtime, [model]) {
        Ok(panel) => panel,
        Err(e) => {
            report.fail(&e);
            return report;
        }
    };
    let (adapter, provider) = (panel.adapter(0), panel.provider(0));
    report.adapter = Some(adapter);
    report.provider = Some(provider);
    report.add(Step::Session, StepResult::Passed, format!("runs on {provider}"));
    report.add(
        Step::Layout,
        StepResult::Passed,
        format!("{adapter}, finds {}", some(&manifest.reported_labels())),
    );
    let pictures = match pictures(model) {
        Ok(pictures) => pictures,
        Err(said) => {
            report.add(Step::Pictures, StepResult::Failed, said);
            return report;
        }
    };
    if pictures.is_empty() {
        report.add(
            Step::Pictures,
            StepResult::Unproven,
            "model.toml names none under [[self_test]], so nothing proves that it is fed and read as it is meant: \
             `gridwatch model record` writes them",
        );
    } else {
        match differences(&mut panel, &pictures) {
            Ok(told) if told.is_empty() => {
                let things: usize = pictures.iter().map(|(test, _)| test.expect.len()).sum();
                let said = format!("{things} things in {} pictures, all as expected", pictures.len());
                report.add(Step::Pictures, StepResult::Passed, said);
            }
            Ok(told) => {
                let cause = cause(runtime, model, &pictures);
                let said = [told.join("; ")]
                    .into_iter()
                    .chain(cause)
                    .collect::<Vec<_>>()
                    .join(". ");
                report.add(Step::Pictures, StepResult::Failed, said);
                return report;
            }
            Err(e) => {
                report.add(Step::Pictures, StepResult::Failed, e.to_string());
                return report;
            }
        }
    }
    speed(&mut report, &mut panel, model, pictures.first().map(|(_, frame)| frame));
    report
}

/// A model of text is tried with the other half of its pair when it reads; here only that it runs and what it gives is a map of
/// probabilities, or a distribution over characters.
fn text(report: &mut SelfTestReport, runtime: &Runtime, model: &Model) {
    let Input { width, height, .. } = model.manifest.input;
    let tried = Network::open(runtime, model).and_then(|mut network| {
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
    match tried {
        Ok((provider, (low, high))) if low >= -SLACK && high <= 1.0 + SLACK => {
            report.adapter = Some(adapter);
            report.provider = Some(provider);
            report.add(Step::Session, StepResult::Passed, format!("runs on {provider}"));
            report.add(
                Step::Layout,
                StepResult::Passed,
                format!("{adapter}, reads text with the other model of its pair"),
            );
        }
        Ok((_, (low, high))) => {
            let score = if low < -SLACK { low } else { high }.to_string();
            report.add(
                Step::Layout,
                StepResult::Failed,
                LayoutError::NotAScore { score, adapter }.to_string(),
            );
        }
        Err(e) => report.fail(&e),
    }
}

/// The first few names, and how many there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    match names.len() {
        n if n > SHOWN + 1 => format!("{n} kinds of things: {}, …", names[..SHOWN].join(", ")),
        _ => names.join(", "),
    }
}

fn speed(report: &mut SelfTestReport, panel: &mut ModelSet, model: &Model, frame: Option<&Frame>) {
    let grey = super::panel::grey();
    let frame = frame.unwrap_or(&grey);
    let mut took = Vec::with_capacity(TIMED);
    for _ in 0..TIMED {
        let start = Instant::now();
        if let Err(e) = panel.input(frame).detect(0) {
            report.add(Step::Speed, StepResult::Failed, e.to_string());
            return;
        }
        took.push(start.elapsed());
    }
    took.sort();
    let ms = took[TIMED / 2].as_secs_f64() * 1e3;
    report.ms = Some(ms);
    match model.manifest.runtime.budget_ms {
        Some(budget) if ms > f64::from(budget) => {
            let said = format!(
                "a look takes {ms:.0} ms here, runtime.budget_ms in model.toml allows {budget}: take a smaller network, \
                 or raise it"
            );
            report.add(Step::Speed, StepResult::Failed, said);
        }
        Some(budget) => report.add(
            Step::Speed,
            StepResult::Passed,
            format!("{ms:.1} ms a look, {budget} allowed"),
        ),
        None => report.add(Step::Speed, StepResult::Passed, format!("{ms:.1} ms a look")),
    }
}

/// The pictures that the manifest names, decoded.
fn pictures(model: &Model) -> Result<Vec<(&SelfTest, Frame)>, String> {
    let dir = model.file.parent().unwrap_or(Path::new(""));
    let tests = model.manifest.self_test.iter();
    tests
        .map(|test| Ok((test, picture(&dir.join(&test.picture))?)))
        .collect()
}

fn picture(path: &Path) -> Result<Frame, String> {
    let unreadable = |e: &dyn fmt::Display| format!("{}, named under [[self_test]]: {e}", path.display());
    let rgb = frame::upright(path).map_err(|e| unreadable(&e))?.into_rgb8();
    Frame::from_rgb(&rgb, Timestamp::UNIX_EPOCH).map_err(|e| unreadable(&e))
}

/// Everything that is not as it should be.
fn differences(panel: &mut ModelSet, pictures: &[(&SelfTest, Frame)]) -> Result<Vec<String>, ModelError> {
    let mut told = Vec::new();
    for (test, frame) in pictures {
        let found = panel.input(frame).detect(0)?;
        let mut differences = compare(test, &found);
        let more = differences.len().saturating_sub(MAX_REPORTED);
        differences.truncate(MAX_REPORTED);
        if more > 0 {
            differences.push(format!("and {more} more differences"));
        }
        told.extend(
            differences
                .into_iter()
                .map(|d| format!("{}: {d}", test.picture.display())),
        );
    }
    Ok(told)
}

/// What is missing, different, or too much in one picture.
fn compare(test: &SelfTest, found: &[Detection]) -> Vec<String> {
    let at = |expected: &Expected| {
        let overlaps = |d: &&Detection| iou(d.bbox, expected.corners) >= MIN_IOU;
        found.iter().filter(overlaps).max_by(|a, b| a.score.total_cmp(&b.score))
    };
    let is = |d: &Detection, expected: &Expected| {
        d.label.as_str() == expected.label
            && iou(d.bbox, expected.corners) >= MIN_IOU
            && (d.score - expected.score).abs() <= SCORE_TOLERANCE
    };
    let mut told = Vec::new();
    for expected in test.expect.iter().filter(|e| e.score >= test.above) {
        if found.iter().any(|d| is(d, expected)) {
            continue;
        }
        let Expected { label, score, corners } = expected;
        let place = place(*corners);
        told.push(match at(expected) {
            Some(d) if d.label.as_str() == label => format!("{label} {place} scores {:.2}, not {score:.2}", d.score),
            Some(d) => format!(
                "what is {label} {place} is called {}: is the order of `labels` right?",
                d.label
            ),
            None => format!("{label} {score:.2} {place} is not found"),
        });
    }
    for d in found.iter().filter(|d| d.score >= test.above + SCORE_TOLERANCE) {
        if !test.expect.iter().any(|e| iou(d.bbox, e.corners) >= MIN_IOU) {
            let BBox { x1, y1, x2, y2 } = d.bbox;
            told.push(format!(
                "{} {:.2} {} is too much",
                d.label,
                d.score,
                place([x1, y1, x2, y2])
            ));
        }
    }
    told
}

fn place(corners: [f32; 4]) -> String {
    let [x1, y1, x2, y2] = corners;
    format!("at [{x1:.2}, {y1:.2}, {x2:.2}, {y2:.2}]")
}

fn iou(a: BBox, [x1, y1, x2, y2]: [f32; 4]) -> f32 {
    a.iou(&BBox { x1, y1, x2, y2 }) as f32
}

/// Mends one mistake in a manifest.
type Change = Box<dyn Fn(&mut Manifest)>;

/// The one mistake in the manifest that explains everything, if there is one.
fn cause(runtime: &Runtime, model: &Model, pictures: &[(&SelfTest, Frame)]) -> Option<String> {
    let manifest = &model.manifest;
    let input = &manifest.input;
    let other_colour = match input.colour {
        Colour::Bgr => Colour::Rgb,
        Colour::Rgb => Colour::Bgr,
    };
    /// ImageNet's, in the order red, green, blue; most networks that normalise use these.
    const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
    const STD: [f32; 3] = [58.395, 57.12, 57.375];
    let flipped = |v: [f32; 3]| [v[2], v[1], v[0]];
    let in_order = |v: [f32; 3]| if input.colour == Colour::Rgb { v } else { flipped(v) };
    let mut tries: Vec<(String, Change)> = Vec::new();
    tries.push((
        "with the other order of colours".into(),
        Box::new(move |m| m.input.colour = other_colour),
    ));
    for (said, scale, mean, std) in [
        ("with samples as they are, 0..=255", 1.0, [0.0; 3], [1.0; 3]),
        ("with scale = 255", 255.0, [0.0; 3], [1.0; 3]),
        ("with ImageNet's mean and std", 1.0, in_order(MEAN), in_order(STD)),
        (
            "with mean and std in the other order",
            input.scale,
            flipped(input.mean),
            flipped(input.std),
        ),
    ] {
        tries.push((
            said.into(),
            Box::new(move |m| (m.input.scale, m.input.mean, m.input.std) = (scale, mean, std)),
        ));
    }
    for fit in [Fit::TopLeft, Fit::Centre, Fit::Stretch] {
        let name = serde_json::to_value(fit)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned));
        let said = format!("with fit = \"{}\"", name.unwrap_or_default());
        tries.push((said, Box::new(move |m| m.input.fit = fit)));
    }
    for pad in [0, 114, 128] {
        tries.push((format!("with pad = {pad}"), Box::new(move |m| m.input.pad = pad)));
    }
    for adapter in fitting(runtime, model) {
        tries.push((
            format!("with adapter = \"{adapter}\""),
            Box::new(move |m| m.adapter = adapter),
        ));
    }
    tries.into_iter().find_map(|(said, change)| {
        let mut changed = (**manifest).clone();
        change(&mut changed);
        if changed == **manifest {
            return None;
        }
        let tried = Model {
            manifest: changed.into(),
            ..model.clone()
        };
        let told = differences(&mut ModelSet::new(runtime, [&tried]).ok()?, pictures).ok()?;
        told.is_empty()
            .then(|| format!("All is as expected {said}: is model.toml right?"))
    })
}

/// Adapters that the outputs fit.
fn fitting(runtime: &Runtime, model: &Model) -> Vec<Adapter> {
    // Text is read by none of them, so the error names every adapter that fits.
    let mut manifest = (*model.manifest).clone();
    manifest.adapter = Adapter::Ctc;
    let tried = Model {
        manifest: manifest.into(),
        ..model.clone()
    };
    match ModelSet::new(runtime, [&tried]) {
        Err(ModelError::Layout {
            source: LayoutError::AdapterMismatch { fitting, .. },
            ..
        }) => fitting,
        _ => Vec::new(),
    }
}
