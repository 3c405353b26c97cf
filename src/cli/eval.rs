//! `gridwatch eval`: how good a model is on labelled pictures.

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

use self::second::Second;
use super::{Failure, detect, print};
use gridwatch_base::error::Class;
use gridwatch_model::{
    Model, ModelSet,
    eval::{
        self, Figures, Guess, Measures, Picture, Point, Size,
        data::{self, Labelled},
    },
    runtime,
};

/// Say how good a model is on pictures that people labelled.
///
/// The pictures go through the very code that looks at cameras: scaled as the manifest says, read by its adapter, overlapping
/// boxes dropped. The figures are COCO's (pycocotools). Use pictures that the model was not trained on, and of streets that it has not
/// seen: pictures of one street taken in a row are one picture.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch eval --model models/garbage_nano_416 --data streets/dev
  gridwatch eval --model models/garbage_nano_416 --data streets/coco.json --json --curves curves.svg --misses misses.png
  gridwatch eval --model models/garbage_nano_416 --data façades/dev --names window,sign_hanging,arch,board \\
      --map board=sign --map sign_hanging=sign

DATA is a folder as YOLO has it (a text file beside each picture, or images/ and labels/; classes.txt or data.yaml names the classes), or a COCO
file. Classes without names are the model's, in its order. What the model has no label for is left out; what it finds there is wrong.

Exit codes: 0 all were judged; 3 the model or ONNX Runtime's library is not usable, or a name fits nothing; 5 labels or pictures
cannot be read.")]
pub struct Args {
    /// The model's folder: model.onnx, model.toml, CARD.md.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The labelled pictures.
    #[arg(long, value_name = "DATA")]
    data: PathBuf,
    /// What the set's classes are called, in their order. [default: as the set says, else as the model does]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    names: Vec<String>,
    /// What one of the set's classes is to the model, where that is called otherwise.
    #[arg(long = "map", value_name = "NAME=LABEL", value_parser = mapping)]
    maps: Vec<(String, String)>,
    /// The threshold whose wrong boxes are counted by picture, 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = detect::score)]
    at: f32,
    /// Look closer at each box that is found at that threshold, as a rule with `second_look` does before it files, and say what
    /// asking for that look's score does. Without DIR with the same model.
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true)]
    second_look: Option<Option<PathBuf>>,
    /// Draw precision against recall of each label (SVG).
    #[arg(long, value_name = "FILE")]
    curves: Option<PathBuf>,
    /// Draw the worst misses and the surest wrong boxes at that threshold (PNG).
    #[arg(long, value_name = "FILE")]
    misses: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// ONNX Runtime's shared library. [default: where edge-deploy/setup.sh puts it]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
}

pub(super) fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, label)) if !name.is_empty() && !label.is_empty() => Ok((name.into(), label.into())),
        _ => Err("write NAME=LABEL: the set's name, and the model's".into()),
    }
}

/// Average precision counts faint boxes too, and what is published of models is measured from here.
pub(super) const FLOOR: f32 = 0.001;

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    data: PathBuf,
    pictures: usize,
    /// Median wall time of a look: scaling, network and adapter, one thread.
    ms_per_picture: f64,
    /// Over the labels that the set has.
    mean: BySize,
    labels: Vec<OfLabel>,
    /// Row: what is there, column: what it was taken for, at each label's best threshold; the last row is nothing there, the last
    /// column not found.
    confusion: Vec<Vec<usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    second_look: Option<second::Report>,
    /// The set's classes that the model has no label for, and how often they are there.
    left_out: Vec<(String, usize)>,
}

#[derive(Debug, Serialize)]
struct OfLabel {
    label: String,
    #[serde(flatten)]
    by_size: BySize,
    /// The threshold with the best harmonic mean of precision and recall.
    best: Option<Threshold>,
    /// The threshold that was asked about.
    at: Threshold,
    /// Pictures with a wrong box of this label at that threshold.
    wrong_pictures: usize,
    curve: Vec<Threshold>,
}

#[derive(Debug, Serialize)]
struct BySize {
    all: Summary,
    small: Summary,
    medium: Summary,
    large: Summary,
}

#[derive(Debug, Serialize)]
struct Summary {
    things: usize,
    ap50_95: Option<f64>,
    ap50: Option<f64>,
    ap75: Option<f64>,
    recall50: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
struct Threshold {
    score: f32,
    precision: f64,
    recall: f64,
}

impl From<Point> for Threshold {
    fn from(p: Point) -> Self {
        Self {
            score: p.score,
            precision: p.precision,
            recall: p.recall,
        }
    }
}

impl From<[Figures; Size::ALL.len()]> for BySize {
    fn from([all, small, medium, large]: [Figures; Size::ALL.len()]) -> Self {
        let summary = |f: Figures| Summary {
            things: f.truths,
            ap50_95: f.ap,
            ap50: f.ap50,
            ap75: f.ap75,
            recall50: f.recall50,
        };
        Self {
            all: summary(all),
            small: summary(small),
            medium: summary(medium),
            large: summary(large),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// A model, a library or a set that cannot be used.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let model = Model::load(&args.model)?;
    let labels: Vec<String> = model.manifest().found().into_iter().map(str::to_owned).collect();
    let set = data::read(&args.data).map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let names = names(args, &set, &labels);
    let classes = classes(args, &names, &labels)?;
    let runtime = runtime::init(args.onnxruntime.as_deref())?;
    let mut panel = ModelSet::new(&runtime, [&model])?;
    let mut second = match &args.second_look {
        Some(Some(dir)) => Some(Second::new(&runtime, &Model::load(dir)?, args.at)?),
        Some(None) => Some(Second::new(&runtime, &model, args.at)?),
        None => None,
    };
    panel.set_floor(FLOOR);
    if set.unlabelled > 0 {
        eprintln!(
            "{} pictures have no labels: they are taken to show nothing.",
            set.unlabelled
        );
    }
    let (pictures, took) = look(&mut panel, second.as_mut(), &set, &classes, &labels)?;
    let measures = eval::measure(&pictures, labels.len());
    let at = vec![args.at; labels.len()];
    if let Some(file) = &args.curves {
        let svg = curves::draw(&labels, &measures);
        fs::write(file, svg).map_err(|e| unwritable("--curves", file, &e))?;
    }
    let told = match &args.misses {
        Some(file) => {
            let (sheet, told) = sheet::draw(&set, &pictures, &at, &labels, &sheet::Words::default())?;
            sheet
                .save_with_format(file, image::ImageFormat::Png)
                .map_err(|e| unwritable("--misses", file, &e))?;
            told
        }
        None => String::new(),
    };
    let mut report = report(
        args,
        &model,
        &pictures,
        &measures,
        took,
        left_out(&set, &names, &classes),
    );
    report.second_look = second.map(|second| second.report(&pictures, &labels));
    print(&if args.json {
        serde_json::to_string(&report).map_err(|e| Failure::new(Class::Bug, e.to_string()))? + "\n"
    } else {
        table(&report) + &told
    })?;
    Ok(ExitCode::SUCCESS)
}

fn unwritable(option: &str, file: &std::path::Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Config, format!("{option} {}: {error}", file.display()))
}

/// What the set's classes are called.
fn names(args: &Args, set: &Labelled, labels: &[String]) -> Vec<String> {
    if !args.names.is_empty() {
        args.names.clone()
    } else if !set.names.is_empty() {
        set.names.clone()
    } else {
        eprintln!(
            "The set does not name its classes; they are taken for the model's, in its order: {}.",
            labels.join(", ")
        );
        labels.to_vec()
    }
}

/// The model's class for each of the set's.
fn classes(args: &Args, names: &[String], labels: &[String]) -> Result<Vec<Option<usize>>, Failure> {
    for (name, label) in &args.maps {
        let unknown = |what: &str, known: &[String]| {
            let message = format!("--map {name}={label}: {what}; there are {}", known.join(", "));
            Failure::new(Class::Config, message)
        };
        if !names.contains(name) {
            return Err(unknown(&format!("no class of the set is called {name:?}"), names));
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

fn left_out(set: &Labelled, names: &[String], classes: &[Option<usize>]) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for class in set.pictures.iter().flat_map(|p| p.classes()) {
        if classes.get(class).copied().flatten().is_none() {
            *counts.entry(class).or_insert(0) += 1;
        }
    }
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
    counts.into_iter().map(|(class, count)| (name(class), count)).collect()
}

/// Looks at every picture; also the median time of a look.
fn look(
    panel: &mut ModelSet,
    mut second: Option<&mut Second>,
    set: &Labelled,
    classes: &[Option<usize>],
    labels: &[String],
) -> Result<(Vec<Picture>, Duration), Failure> {
    let is_shown = io::stderr().is_terminal();
    let mut took = Vec::with_capacity(set.pictures.len());
    let mut pictures = Vec::with_capacity(set.pictures.len());
    for (n, labelled) in set.pictures.iter().enumerate() {
        let unreadable = |e: detect::Failure| Failure::new(Class::Data, format!("{}: {e}", labelled.path.display()));
        let frame = detect::picture(&labelled.path).map_err(unreadable)?;
        let size = (frame.width, frame.height);
        let start = Instant::now();
        let found = panel.shown(&frame).detect(0)?;
        took.push(start.elapsed());
        let found: Vec<_> = found
            .into_iter()
            .filter(|d| labels.iter().any(|l| l == d.label.as_str()))
            .collect();
        if let Some(second) = &mut second {
            second.look(&frame, &found)?;
        }
        let (w, h) = (f64::from(size.0), f64::from(size.1));
        let guess = |d: &gridwatch_engine::Detection| {
            let [x1, y1, x2, y2] = [d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].map(f64::from);
            Some(Guess {
                class: labels.iter().position(|l| l == d.label.as_str())?,
                score: d.score,
                corners: [x1 * w, y1 * h, x2 * w, y2 * h],
            })
        };
        pictures.push(Picture {
            truths: labelled.truths(size, |class| classes.get(class).copied().flatten()),
            guesses: found.iter().filter_map(guess).collect(),
        });
        if is_shown && (n + 1) % 20 == 0 {
            eprint!("\r{} of {} pictures …", n + 1, set.pictures.len());
        }
    }
    if is_shown {
        eprintln!("\r{} pictures.{:20}", pictures.len(), "");
    }
    took.sort();
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    Ok((pictures, median))
}

fn report(
    args: &Args,
    model: &Model,
    pictures: &[Picture],
    measures: &Measures,
    took: Duration,
    left_out: Vec<(String, usize)>,
) -> Report {
    let manifest = model.manifest();
    let best: Vec<Option<Point>> = measures.classes.iter().map(eval::OfClass::best).collect();
    let thresholds: Vec<f32> = best.iter().map(|b| b.map_or(args.at, |b| b.score)).collect();
    let labels = manifest.found();
    let at = vec![args.at; labels.len()];
    let mut wrong_pictures = vec![0; labels.len()];
    for judged in pictures.iter().map(|p| eval::judge(p, &at)) {
        let classes: BTreeSet<usize> = judged.wrong.iter().map(|g| g.class).collect();
        classes.into_iter().for_each(|class| wrong_pictures[class] += 1);
    }
    let of_label = |(class, label): (usize, &&str)| {
        let of_class = &measures.classes[class];
        // The last point that still counts only what scores enough.
        let reached = of_class.curve.iter().rfind(|p| p.score >= args.at);
        OfLabel {
            label: (*label).to_owned(),
            by_size: of_class.by_size.into(),
            best: best[class].map(Threshold::from),
            at: Threshold {
                score: args.at,
                precision: reached.map_or(0.0, |p| p.precision),
                recall: reached.map_or(0.0, |p| p.recall),
            },
            wrong_pictures: wrong_pictures[class],
            curve: of_class.curve.iter().copied().map(Threshold::from).collect(),
        }
    };
    Report {
        model: format!("{}@{}", manifest.id, manifest.version),
        data: args.data.clone(),
        pictures: pictures.len(),
        ms_per_picture: took.as_secs_f64() * 1e3,
        mean: measures.mean.into(),
        labels: labels.iter().enumerate().map(of_label).collect(),
        confusion: eval::confusion(pictures, &thresholds),
        second_look: None,
        left_out,
    }
}

fn table(report: &Report) -> String {
    let share = |v: Option<f64>| v.map_or_else(|| format!("{:>7}", "–"), |v| format!("{v:>7.3}"));
    let mut text = format!(
        "{} on {} pictures of {}, {:.1} ms each (median)\n\n{:<16}{:>7}{:>7}{:>7}{:>7}{:>8}{:>8}{:>8}   best threshold\n",
        report.model,
        report.pictures,
        report.data.display(),
        report.ms_per_picture,
        "label",
        "things",
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
    text.push_str(
        "(small, medium and large: recall at an overlap of 0.5, of things up to 32², 96² pixels and more)\n\n",
    );
    for l in &report.labels {
        let _ = writeln!(
            text,
            "At {:.2} {:<16} precision {:.2}, recall {:.2}; a wrong box in {} of {} pictures",
            l.at.score, l.label, l.at.precision, l.at.recall, l.wrong_pictures, report.pictures
        );
    }
    text.push_str("\nTaken for, at the best thresholds:\n");
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
    for (name, row) in names.iter().chain(&["nothing there"]).zip(&report.confusion) {
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
        let _ = writeln!(text, "Left out: {count} of {name:?}, which the model has no label for.");
    }
    text
}
