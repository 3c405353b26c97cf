//! `gridwatch model compare`: compares the detections of two models on pictures, and their precision if the pictures are labelled.

use std::{fmt::Write, path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::model;
use crate::cli::{
    Failure,
    eval::{self as eval_command, sheet},
    json_line,
    options::{ConfigArgs, RuntimeArgs, fraction},
    pictures, print, private,
};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_engine::Detection;
use gridwatch_model::{
    ModelSet,
    eval::{self, DetectionMetrics, EvalPicture, GroundTruth, Prediction, data},
    model_diff::{DEFAULT_THRESHOLD, DiffSide, ModelDiff, ScoreThresholds},
};

/// Compare two models on the same pictures.
///
/// Reports for each label how many objects both found and how many only one found, counting scores from --at on. If the pictures
/// are labelled, it also shows each model's metrics side by side, as `gridwatch eval` computes them. Without labels a difference
/// does not tell which model is right; check the pictures with --sheet.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model compare models/garbage_nano_416 new/garbage --pictures captures/ --sheet differ.png
  gridwatch model compare garbage_nano_416@1.1.0 garbage_nano_416@1.2.0 --config edge.toml --data streets/dev")]
pub(super) struct CompareArgs {
    /// Model folder, or ID@VERSION from the registry.
    #[arg(value_name = "OLD")]
    old: String,
    /// Model to compare it with: a folder, or ID@VERSION.
    #[arg(value_name = "NEW")]
    new: String,
    /// Pictures, labelled or not: a folder or a COCO file.
    #[arg(long, value_name = "DATA", visible_alias = "pictures")]
    data: PathBuf,
    /// Map a class of the data set to a label of the models; may be repeated.
    #[arg(long = "map", value_name = "NAME=LABEL", value_parser = eval_command::mapping)]
    maps: Vec<(String, String)>,
    /// Minimum score of a detection, 0 to 1.
    #[arg(long, value_name = "S", default_value_t = DEFAULT_THRESHOLD, value_parser = fraction::<f32>)]
    at: f32,
    /// Write the largest objects that only OLD found (green) and the highest-scoring that only NEW found (red) to this PNG file.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Serialize)]
struct CompareReport {
    old: String,
    new: String,
    data: PathBuf,
    differences: ModelDiff,
    /// The metrics by label; empty if no picture is labelled.
    measured: Vec<LabelComparison>,
}

#[derive(Serialize)]
struct LabelComparison {
    /// A label, or `mean` over the labels that occur in the data set.
    label: String,
    /// Labelled objects.
    things: usize,
    old: LabelMetrics,
    new: LabelMetrics,
}

#[derive(Serialize)]
struct LabelMetrics {
    ap50: Option<f64>,
    ap50_95: Option<f64>,
    recall50: Option<f64>,
}

impl From<&DetectionMetrics> for LabelMetrics {
    fn from(f: &DetectionMetrics) -> Self {
        Self {
            ap50: f.ap50,
            ap50_95: f.ap,
            recall50: f.recall50,
        }
    }
}

pub(super) fn run(args: &CompareArgs, config: &ConfigArgs) -> Result<ExitCode, Failure> {
    let models = [model(&args.old, config)?, model(&args.new, config)?];
    let set = data::read(&args.data).map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let is_labelled = set.unlabelled < set.pictures.len();
    let mut labels: Vec<String> = Vec::new();
    for label in models.iter().flat_map(|m| m.manifest().reported_labels()) {
        if !labels.iter().any(|l| l == label) {
            labels.push(label.to_owned());
        }
    }
    let names: Vec<String> = if set.names.is_empty() {
        models[0]
            .manifest()
            .reported_labels()
            .into_iter()
            .map(str::to_owned)
            .collect()
    } else {
        set.names.clone()
    };
    let class_of = |label: &str| labels.iter().position(|l| l == label);
    let mapped = |name: &str| {
        args.maps
            .iter()
            .find(|(from, _)| from == name)
            .map_or(name.to_owned(), |(_, to)| to.clone())
    };
    let classes: Vec<Option<usize>> = names.iter().map(|name| class_of(&mapped(name))).collect();

    let mut loaded = ModelSet::new(&args.runtime.load()?, &models)?;
    if is_labelled {
        loaded.set_floor(eval_command::FLOOR);
    }
    let thresholds: ScoreThresholds = labels.iter().map(|l| (l.as_str().into(), args.at)).collect();
    let mut diff = ModelDiff::default();
    let (mut by_model, mut against): ([Vec<EvalPicture>; 2], Vec<EvalPicture>) = ([Vec::new(), Vec::new()], Vec::new());
    for picture in &set.pictures {
        let frame = pictures::picture(&picture.path).map_err(|e| e.in_file(&picture.path))?;
        let size = (frame.width, frame.height);
        let mut input = loaded.input(&frame);
        let found = [input.detect(0)?, input.detect(1)?];
        diff.add(
            &picture.path.display().to_string(),
            None,
            &thresholds,
            &found[0],
            &found[1],
        );
        let predictions = found.each_ref().map(|found| to_predictions(found, size, &class_of));
        for (pictures, predictions) in by_model.iter_mut().zip(&predictions) {
            pictures.push(EvalPicture {
                truths: picture.truths(size, |class| classes.get(class).copied().flatten()),
                predictions: predictions.clone(),
            });
        }
        let [old, new] = predictions;
        against.push(EvalPicture {
            truths: old.into_iter().filter(|g| g.score >= args.at).map(as_truth).collect(),
            predictions: new,
        });
    }
    let legend = match &args.sheet {
        Some(file) => {
            let captions = sheet::Captions {
                missed: "found only by OLD",
                wrong: "found only by NEW",
            };
            let (sheet, legend) = sheet::draw(&set, &against, &vec![args.at; labels.len()], &labels, &captions)?;
            private::save_picture(&sheet, image::ImageFormat::Png, file)
                .map_err(|e| Failure::new(Class::Config, format!("--sheet {}: {e}", file.display())))?;
            legend
        }
        None => String::new(),
    };
    let [old, new] = models
        .each_ref()
        .map(|m| format!("{}@{}", m.manifest().id, m.manifest().version));
    let report = CompareReport {
        old,
        new,
        data: args.data.clone(),
        differences: diff,
        measured: if is_labelled {
            measured(&by_model, &labels)
        } else {
            Vec::new()
        },
    };
    print(&if args.json {
        json_line(&report)?
    } else {
        table(&report) + &legend
    })?;
    Ok(ExitCode::SUCCESS)
}

fn to_predictions(
    found: &[Detection],
    (w, h): (u32, u32),
    class_of: &impl Fn(&str) -> Option<usize>,
) -> Vec<Prediction> {
    let guess = |d: &Detection| {
        let [x1, y1, x2, y2] = [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].map(f64::from);
        let (w, h) = (f64::from(w), f64::from(h));
        Some(Prediction {
            class: class_of(d.label.as_str())?,
            score: d.score,
            corners: [x1 * w, y1 * h, x2 * w, y2 * h],
        })
    };
    found.iter().filter_map(guess).collect()
}

/// A detection of the old model as the ground truth for the new one.
fn as_truth(prediction: Prediction) -> GroundTruth {
    let [x1, y1, x2, y2] = prediction.corners;
    GroundTruth {
        class: prediction.class,
        corners: prediction.corners,
        area: (x2 - x1) * (y2 - y1),
        is_crowd: false,
    }
}

fn measured(by_model: &[Vec<EvalPicture>; 2], labels: &[String]) -> Vec<LabelComparison> {
    let [old, new] = by_model
        .each_ref()
        .map(|pictures| eval::evaluate(pictures, labels.len()));
    let mut rows: Vec<LabelComparison> = labels
        .iter()
        .zip(old.classes.iter().zip(&new.classes))
        .filter(|(_, (old, _))| old.all().truths > 0)
        .map(|(label, (old, new))| LabelComparison {
            label: label.clone(),
            things: old.all().truths,
            old: old.all().into(),
            new: new.all().into(),
        })
        .collect();
    rows.push(LabelComparison {
        label: "mean".into(),
        things: old.mean[0].truths,
        old: (&old.mean[0]).into(),
        new: (&new.mean[0]).into(),
    });
    rows
}

fn table(report: &CompareReport) -> String {
    let CompareReport {
        old,
        new,
        data,
        differences,
        measured,
    } = report;
    let mut text = format!(
        "OLD {old}\nNEW {new}\non {} of {}\n\n{:<16}{:>8}{:>10}{:>10}{:>12}{:>10}\n",
        counted(differences.pictures, "picture", "pictures"),
        data.display(),
        "label",
        "both",
        "only OLD",
        "only NEW",
        "NEW score",
        "mean IoU"
    );
    // Writing to a String cannot fail.
    for (label, of) in &differences.labels {
        let _ = writeln!(
            text,
            "{label:<16}{:>8}{:>10}{:>10}{:>+12.3}{:>10.3}",
            of.both, of.only_old, of.only_new, of.mean_score_difference, of.mean_iou
        );
    }
    if !measured.is_empty() {
        let _ = writeln!(
            text,
            "\n{:<16}{:>8}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "label", "objects", "AP50 OLD", "NEW", "AP OLD", "NEW", "rec. OLD", "NEW"
        );
        let share = |v: Option<f64>| v.map_or_else(|| format!("{:>10}", "–"), |v| format!("{v:>10.3}"));
        for row in measured {
            let (old, new) = (&row.old, &row.new);
            let _ = writeln!(
                text,
                "{:<16}{:>8}{}{}{}{}{}{}",
                row.label,
                row.things,
                share(old.ap50),
                share(new.ap50),
                share(old.ap50_95),
                share(new.ap50_95),
                share(old.recall50),
                share(new.recall50)
            );
        }
    }
    if !differences.worst.is_empty() {
        text.push_str("\nHighest-scoring objects that only one model finds:\n");
    }
    for worst in &differences.worst {
        let who = match worst.found_by {
            DiffSide::Old => "OLD",
            DiffSide::New => "NEW",
        };
        let other = worst.other_score.map_or("nothing".into(), |s| format!("{s:.2}"));
        let _ = writeln!(
            text,
            "  {who}: {} at {:.2}, the other model {other}  {}",
            worst.label, worst.score, worst.source
        );
    }
    text
}
