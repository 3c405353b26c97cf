//! `gridwatch eval`: evaluation a model's precision and recall on labelled pictures.

mod curves;
mod second;
pub(super) mod sheet;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use serde::Serialize;

use self::second::{SecondLookEval, SecondLookReport};
use super::{
    Failure, json_line,
    options::{RuntimeArgs, fraction},
    pictures, print, private,
    terminal::note,
};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_model::{
    Model, ModelSet,
    eval::{
        self, DetectionMetrics, EvalPicture, Evaluation, PrPoint, Prediction, SizeRange,
        data::{self, LabelledSet},
    },
};

/// Evaluate a model on labelled pictures.
///
/// Use it to decide whether a model is good enough and to choose a rule's thresholds. The pictures pass through the daemon's own
/// code: preprocessing as in the manifest, the output adapter, non-maximum suppression. The metrics are COCO's (as in
/// pycocotools). Use pictures that the model was not trained on, from streets it was not trained on; consecutive pictures of one
/// street count as one.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch eval --model models/garbage_nano_416 --data streets/dev
  gridwatch eval --model models/garbage_nano_416 --data streets/coco.json --json --curves curves.svg
  gridwatch eval --model models/garbage_nano_416 --data façades/dev --names window,sign_hanging,arch,board \\
      --map board=sign --map sign_hanging=sign

DATA is a YOLO folder (a text file beside each picture, or images/ and labels/; class names in classes.txt or
data.yaml) or a COCO file. Without class names, the model's labels are used in their order. Classes that the
model has no label for are left out; detections on them count as false positives.

Exit codes: 0 all were evaluated; 3 the model or the ONNX Runtime library is not usable, or a --map name is
unknown; 5 labels or pictures cannot be read.")]
pub struct EvalArgs {
    /// Model folder: model.onnx, model.toml, CARD.md.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Labelled pictures: a YOLO folder or a COCO file.
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// Class names of the data set, in order. [default: from the data set, else the model's labels]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    names: Vec<String>,
    /// Map a class of the data set to a label of the model; may be repeated.
    #[arg(long = "map", value_name = "NAME=LABEL", value_parser = mapping)]
    maps: Vec<(String, String)>,
    /// Score threshold at which precision, recall and false boxes per picture are reported, 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = fraction::<f32>)]
    at: f32,
    /// Take a second look at each box above that threshold, as a rule with `second_look` does before it files a case, and report
    /// precision and recall by its minimum score. DIR is the second look's model. [default: the same model]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    second_look: Option<Option<PathBuf>>,
    /// Write the precision-recall curve of each label to this SVG file.
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,
    /// Write the largest missed objects and the highest-scoring false boxes to this PNG file.
    #[arg(long, value_name = "FILE")]
    misses: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

pub(super) fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, label)) if !name.is_empty() && !label.is_empty() => Ok((name.into(), label.into())),
        _ => Err("expected NAME=LABEL: a class of the data set and a label of the model".into()),
    }
}

/// Score floor for evaluation: average precision includes low scores, and published figures are measured from here.
pub(super) const FLOOR: f32 = 0.001;

/// The command's output.
#[derive(Debug, Serialize)]
struct EvalReport {
    model: String,
    data: PathBuf,
    pictures: usize,
    /// Median wall time of preprocessing, network and adapter on one thread.
    ms_per_picture: f64,
    /// Mean over the labels that occur in the data set.
    mean: BySize,
    labels: Vec<LabelEval>,
    /// Rows are true labels, columns detected ones, at each label's best threshold. The last row holds detections where there is
    /// no object, the last column missed objects.
    confusion: Vec<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second_look: Option<SecondLookReport>,
    /// Classes of the data set that the model has no label for, with their object counts.
    left_out: Vec<(String, usize)>,
}

#[derive(Debug, Serialize)]
struct LabelEval {
    label: String,
    #[serde(flatten)]
    by_size: BySize,
    /// The threshold with the highest F1 score.
    best: Option<OperatingPoint>,
    /// The threshold of `--at`.
    at: OperatingPoint,
    /// Pictures with a false box of this label at that threshold.
    wrong_pictures: usize,
    curve: Vec<OperatingPoint>,
}

#[derive(Debug, Serialize)]
struct BySize {
    all: Metrics,
    small: Metrics,
    medium: Metrics,
    large: Metrics,
}

#[derive(Debug, Serialize)]
struct Metrics {
    /// Labelled objects.
    things: usize,
    ap50_95: Option<f64>,
    ap50: Option<f64>,
    ap75: Option<f64>,
    recall50: Option<f64>,
}

/// Precision and recall at one score threshold.
#[derive(Debug, Clone, Serialize)]
struct OperatingPoint {
    score: f32,
    precision: f64,
    recall: f64,
}

impl From<PrPoint> for OperatingPoint {
    fn from(p: PrPoint) -> Self {
        Self {
            score: p.score,
            precision: p.precision,
            recall: p.recall,
        }
    }
}

impl From<[DetectionMetrics; SizeRange::ALL.len()]> for BySize {
    fn from([all, small, medium, large]: [DetectionMetrics; SizeRange::ALL.len()]) -> Self {
        let metrics = |f: DetectionMetrics| Metrics {
            things: f.truths,
            ap50_95: f.ap,
            ap50: f.ap50,
            ap75: f.ap75,
            recall50: f.recall50,
        };
        Self {
            all: metrics(all),
            small: metrics(small),
            medium: metrics(medium),
            large: metrics(large),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// An unusable model or ONNX Runtime library, an unreadable data set, or an output file that cannot be written.
pub fn run(args: &EvalArgs) -> Result<ExitCode, Failure> {
    let model = Model::load(&args.model)?;
    let labels: Vec<String> = model
        .manifest()
        .reported_labels()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let set = data::read(&args.data).map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let names = names(args, &set, &labels);
    let classes = classes(args, &names, &labels)?;
    let runtime = args.runtime.load()?;
    let mut models = ModelSet::new(&runtime, [&model])?;
    let mut second = match &args.second_look {
        Some(Some(dir)) => Some(SecondLookEval::new(&runtime, &Model::load(dir)?, args.at)?),
        Some(None) => Some(SecondLookEval::new(&runtime, &model, args.at)?),
        None => None,
    };
    models.set_floor(FLOOR);
    if set.unlabelled > 0 {
        note(format_args!(
            "{} no label file; without one, a picture counts as one without objects.",
            counted(set.unlabelled, "picture has", "pictures have")
        ));
    }
    let (pictures, took) = detect_all(&mut models, second.as_mut(), &set, &classes, &labels)?;
    let evaluation = eval::evaluate(&pictures, labels.len());
    let at = vec![args.at; labels.len()];
    if let Some(file) = &args.curves {
        let svg = curves::draw(&labels, &evaluation);
        fs::write(file, svg).map_err(|e| unwritable("--curves", file, &e))?;
    }
    let legend = match &args.misses {
        Some(file) => {
            let (sheet, legend) = sheet::draw(&set, &pictures, &at, &labels, &sheet::Captions::default())?;
            private::save_picture(&sheet, image::ImageFormat::Png, file)
                .map_err(|e| unwritable("--misses", file, &e))?;
            legend
        }
        None => String::new(),
    };
    let mut report = report(
        args,
        &model,
        &pictures,
        &evaluation,
        took,
        left_out(&set, &names, &classes),
    );
    report.second_look = second.map(|second| second.report(&pictures, &labels));
    print(&if args.json {
        json_line(&report)?
    } else {
        table(&report) + &legend
    })?;
    Ok(ExitCode::SUCCESS)
}

fn unwritable(option: &str, file: &std::path::Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Config, format!("{option} {}: {error}", file.display()))
}

/// The class names of the data set.
fn names(args: &EvalArgs, set: &LabelledSet, labels: &[String]) -> Vec<String> {
    if !args.names.is_empty() {
        args.names.clone()
    } else if !set.names.is_empty() {
        set.names.clone()
    } else {
        note(format_args!(
            "The data set does not name its classes; using the model's labels in their order: {}.",
            labels.join(", ")
        ));
        labels.to_vec()
    }
}

/// The model's class for each class of the data set; `None` where the model has no such label.
fn classes(args: &EvalArgs, names: &[String], labels: &[String]) -> Result<Vec<Option<usize>>, Failure> {
    for (name, label) in &args.maps {
        let unknown = |fault: &str, known: &[String]| {
            let message = format!("--map {name}={label}: {fault}; use one of {}", known.join(", "));
            Failure::new(Class::Config, message)
        };
        if !names.contains(name) {
            return Err(unknown(&format!("the data set has no class {name:?}"), names));
        }
        if !labels.contains(label) {
            return Err(unknown(&format!("the model has no label {label:?}"), labels));
        }
    }
    let class = |name: &String| {
        let mapped = args.maps.iter().find(|(from, _)| from == name);
        let label = mapped.map_or(name, |(_, to)| to);
        labels.iter().position(|l| l == label)
    };
    Ok(names.iter().map(class).collect())
}

fn left_out(set: &LabelledSet, names: &[String], classes: &[Option<usize>]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for class in set.pictures.iter().flat_map(|p| p.classes()) {
        if classes.get(class).copied().flatten().is_none() {
            *counts.entry(class).or_insert(0) += 1;
        }
    }
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    counts.into_iter().map(|(class, count)| (name(class), count)).collect()
}

/// Runs the model on every picture; also returns the median time per picture.
fn detect_all(
    models: &mut ModelSet,
    mut second: Option<&mut SecondLookEval>,
    set: &LabelledSet,
    classes: &[Option<usize>],
    labels: &[String],
) -> Result<(Vec<EvalPicture>, Duration), Failure> {
    let show_progress = io::stderr().is_terminal();
    let mut took = Vec::with_capacity(set.pictures.len());
    let mut pictures = Vec::with_capacity(set.pictures.len());
    for (n, labelled) in set.pictures.iter().enumerate() {
        let frame = pictures::picture(&labelled.path).map_err(|e| e.in_file(&labelled.path))?;
        let size = (frame.width, frame.height);
        let start = Instant::now();
        let found = models.input(&frame).detect(0)?;
        took.push(start.elapsed());
        let found: Vec<_> = found
            .into_iter()
            .filter(|d| labels.iter().any(|l| l == d.label.as_str()))
            .collect();
        if let Some(second) = &mut second {
            second.look(&frame, &found)?;
        }
        let (w, h) = (f64::from(size.0), f64::from(size.1));
        let prediction = |d: &gridwatch_engine::Detection| {
            let [x1, y1, x2, y2] = [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].map(f64::from);
            Some(Prediction {
                class: labels.iter().position(|l| l == d.label.as_str())?,
                score: d.score,
                corners: [x1 * w, y1 * h, x2 * w, y2 * h],
            })
        };
        pictures.push(EvalPicture {
            truths: labelled.truths(size, |class| classes.get(class).copied().flatten()),
            predictions: found.iter().filter_map(prediction).collect(),
        });
        if show_progress && (n + 1) % 20 == 0 {
            eprint!("\r{} of {} pictures …", n + 1, set.pictures.len());
        }
    }
    if show_progress {
        eprintln!("\r{}.{:20}", counted(pictures.len(), "picture", "pictures"), "");
    }
    took.sort();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok((pictures, median))
}

fn report(
    args: &EvalArgs,
    model: &Model,
    pictures: &[EvalPicture],
    evaluation: &Evaluation,
    took: Duration,
    left_out: Vec<(String, usize)>,
) -> EvalReport {
    let manifest = model.manifest();
    let best: Vec<Option<PrPoint>> = evaluation.classes.iter().map(eval::ClassMetrics::best).collect();
    let thresholds: Vec<f32> = best.iter().map(|b| b.map_or(args.at, |b| b.score)).collect();
    let labels = manifest.reported_labels();
    let at = vec![args.at; labels.len()];
    let mut wrong_pictures = vec![0; labels.len()];
    for judged in pictures.iter().map(|p| eval::match_picture(p, &at)) {
        let classes: BTreeSet<usize> = judged.false_positives.iter().map(|g| g.class).collect();
        classes.into_iter().for_each(|class| wrong_pictures[class] += 1);
    }
    let of_label = |(class, label): (usize, &&str)| {
        let of_class = &evaluation.classes[class];
        // The last point of the curve at or above the threshold.
        let reached = of_class.curve.iter().rfind(|p| p.score >= args.at);
        LabelEval {
            label: (*label).to_owned(),
            by_size: of_class.by_size.into(),
            best: best[class].map(OperatingPoint::from),
            at: OperatingPoint {
                score: args.at,
                precision: reached.map_or(0.0, |p| p.precision),
                recall: reached.map_or(0.0, |p| p.recall),
            },
            wrong_pictures: wrong_pictures[class],
            curve: of_class.curve.iter().copied().map(OperatingPoint::from).collect(),
        }
    };
    EvalReport {
        model: format!("{}@{}", manifest.id, manifest.version),
        data: args.data.clone(),
        pictures: pictures.len(),
        ms_per_picture: took.as_secs_f64() * 1e3,
        mean: evaluation.mean.into(),
        labels: labels.iter().enumerate().map(of_label).collect(),
        confusion: eval::confusion(pictures, &thresholds),
        second_look: None,
        left_out,
    }
}

fn table(report: &EvalReport) -> String {
    let share = |v: Option<f64>| v.map_or_else(|| format!("{:>7}", "–"), |v| format!("{v:>7.3}"));
    let mut text = format!(
        "{} on {} of {}, {:.1} ms per picture (median)\n\n{:<16}{:>7}{:>7}{:>7}{:>7}{:>8}{:>8}{:>8}   best threshold\n",
        report.model,
        counted(report.pictures, "picture", "pictures"),
        report.data.display(),
        report.ms_per_picture,
        "label",
        "objects",
        "AP50",
        "AP",
        "AP75",
        "small",
        "medium",
        "large"
    );
    // Writing to a String cannot fail.
    let line = |text: &mut String, name: &str, s: &BySize, best: &str| {
        let _ = writeln!(
            text,
            "{name:<16}{:>7}{}{}{} {} {} {}   {best}",
            s.all.things,
            share(s.all.ap50),
            share(s.all.ap50_95),
            share(s.all.ap75),
            share(s.small.recall50),
            share(s.medium.recall50),
            share(s.large.recall50),
        );
    };
    for l in &report.labels {
        let best = l.best.as_ref().map_or_else(String::new, |b| {
            format!("{:.2}: precision {:.2}, recall {:.2}", b.score, b.precision, b.recall)
        });
        line(&mut text, &l.label, &l.by_size, &best);
    }
    line(&mut text, "mean", &report.mean, "");
    text.push_str("(small, medium and large: recall at IoU 0.5 of objects up to 32² px, up to 96² px, and above)\n\n");
    for l in &report.labels {
        let _ = writeln!(
            text,
            "At {:.2} {:<16} precision {:.2}, recall {:.2}; false boxes in {} of {} pictures",
            l.at.score, l.label, l.at.precision, l.at.recall, l.wrong_pictures, report.pictures
        );
    }
    text.push_str("\nConfusion matrix at the best thresholds (rows: true label, columns: detected label):\n");
    let names: Vec<&str> = report.labels.iter().map(|l| l.label.as_str()).collect();
    let _ = writeln!(
        text,
        "{:<16}{}",
        "",
        names
            .iter()
            .chain(&["missed"])
            .map(|n| format!("{n:>14}"))
            .collect::<String>()
    );
    for (name, row) in names.iter().chain(&["no object"]).zip(&report.confusion) {
        let _ = writeln!(
            text,
            "{name:<16}{}",
            row.iter().map(|count| format!("{count:>14}")).collect::<String>()
        );
    }
    if let Some(second) = &report.second_look {
        text.push_str(&second.table(report.labels.first().map_or(0.0, |l| l.at.score)));
    }
    for (name, count) in &report.left_out {
        let _ = writeln!(
            text,
            "Left out: {count} objects of class {name:?}, which the model has no label for."
        );
    }
    text
}
