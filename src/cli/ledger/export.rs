//! `gridwatch ledger export --labelled`: exports the pictures of cases that persons reviewed or the platform decided, labelled with the
//! detections in the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::{Timestamp, TimestampRound, Unit};
use serde::Serialize;

use crate::audit::Act;
use crate::cli::{Failure, audited::audited, json_line, options::must_be_new, print};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::{CaseRecord, EvidenceRole};
use gridwatch_engine::{BBox, CaseState, Detection};
use gridwatch_ledger::{Reader, RecordedEvent};
use gridwatch_store::{Filter, Store, evidence_file};

/// Export labelled pictures of right and wrong cases.
///
/// Use it to train or evaluate a model on your own streets. It writes the scene pictures as filed, masked. In the pictures of a
/// right case its object is labelled; in those of a wrong case it is left unlabelled, as a hard negative. A case is right or wrong
/// by its reviews on the console, or, without any, by the platform, which accepted or rejected it. Cases without either are left out,
/// and so are cases on which reviewers disagree, and unmasked pictures.
///
/// The output is a YOLO folder (images/, labels/, data.yaml) for `gridwatch eval --data` and models/train. Other detections in the
/// same look that score at least --sure are labelled too. No person has confirmed those, so review them in a labelling tool
/// before training. `provenance.jsonl` gives the source of each picture and which box was confirmed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch ledger export --labelled --config /etc/gridwatch/edge.toml --out captures
  gridwatch eval --model models/garbage_nano_416 --data captures

It runs while the daemon runs and changes nothing on the box but the audit log, in which it is recorded.

Exit codes: 0 written (even if there was nothing to write); 3 the configuration is faulty or the folder exists;
5 the store or the ledger cannot be read, or a picture was damaged and left out.")]
pub(super) struct LedgerExportArgs {
    /// Export labelled pictures; required, as the only kind of export so far.
    #[arg(long, required = true)]
    labelled: bool,

    /// Configuration that the daemon runs with.
    #[arg(long, short, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: PathBuf,

    /// Folder to write; must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Also label other detections of the same look with at least this score; above 1: none.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    sure: f32,

    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// A scene picture of a right or wrong case.
struct Capture {
    record: CaseRecord,
    /// Index of the picture in the record's evidence.
    item: usize,
    is_confirmed: bool,
    judge: Judge,
}

/// Who said that a case is right or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Judge {
    /// Persons, on the console.
    Review,
    Platform,
}

/// A line of `provenance.jsonl`.
#[derive(Serialize)]
struct Provenance<'a> {
    image: &'a str,
    case_id: &'a str,
    verdict: CaseState,
    /// Who said that the case is right or wrong.
    judge: Judge,
    /// What they said.
    right: bool,
    rule: &'a str,
    camera: &'a str,
    captured_at: String,
    model: String,
    /// The detections that are right or wrong.
    judged: Vec<LabelledBox<'a>>,
    /// Other detections of the same look, confirmed by no person.
    unconfirmed: Vec<LabelledBox<'a>>,
}

#[derive(Serialize, Clone, Copy)]
struct LabelledBox<'a> {
    label: &'a str,
    /// Left, top, right, bottom, as fractions of the picture.
    #[serde(rename = "box")]
    corners: [f32; 4],
}

#[derive(Serialize, Default)]
struct ExportSummary {
    pictures: usize,
    confirmed: usize,
    rejected: usize,
    /// Of both, by reviews.
    reviewed: usize,
    /// Left out: reviewers disagree on these cases.
    disputed: usize,
    /// Left out: not masked.
    unmasked: usize,
    /// Left out: the picture file was deleted.
    gone: usize,
    /// Left out: the look is no longer in the ledger.
    unrecorded: usize,
    /// Left out: these picture files are damaged.
    damaged: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &LedgerExportArgs) -> Result<ExitCode, Failure> {
    let config = config::load_offline(&args.config)?;
    let act = Act::new("ledger export").with_path("out", &args.out);
    audited(&config.state_dir, act, |act| export(args, &config, act))
}

fn export(args: &LedgerExportArgs, config: &Config, act: &mut Act) -> Result<ExitCode, Failure> {
    must_be_new(&args.out)?;
    let store = Store::open_read_only(&config.state_dir)?;
    let mut summary = ExportSummary::default();
    let captures = captures(&store, &config.state_dir, &mut summary)?;
    let looks = looks(config, &captures)?;
    write(args, config, &captures, &looks, &mut summary)?;
    act.add("pictures", summary.pictures);
    print(&match args.json {
        true => json_line(&summary)?,
        false => summary_text(&args.out, &summary),
    })?;
    if !summary.damaged.is_empty() {
        let pictures = counted(summary.damaged.len(), "picture is", "pictures are");
        let message = format!("{pictures} damaged and left out:\n  {}", summary.damaged.join("\n  "));
        return Err(Failure::new(Class::Data, message));
    }
    Ok(ExitCode::SUCCESS)
}

fn captures(store: &Store, state_dir: &Path, summary: &mut ExportSummary) -> Result<Vec<Capture>, Failure> {
    let all = Filter {
        state: None,
        limit: u32::MAX,
    };
    let labels = store.review_labels()?;
    summary.disputed = labels.disputed.len();
    let mut captures = Vec::new();
    for case in store.cases(all)? {
        if labels.disputed.contains(&case.case_id) {
            continue;
        }
        // Who looked at the pictures for the label knows more than who decided whether to send somebody.
        let reviewed = labels.right.get(&case.case_id).map(|right| (*right, Judge::Review));
        let decided = case.state.decision().map(|right| (right, Judge::Platform));
        let Some((is_confirmed, judge)) = reviewed.or(decided) else {
            continue;
        };
        let Some(file) = store.case(&case.case_id)? else {
            continue;
        };
        for (item, picture) in file.record.evidence.iter().enumerate() {
            if picture.role != EvidenceRole::Scene {
                continue;
            }
            if !picture.masked {
                summary.unmasked += 1;
            } else if !evidence_file::path(state_dir, &picture.sha256).is_file() {
                summary.gone += 1;
            } else {
                captures.push(Capture {
                    record: file.record.clone(),
                    item,
                    is_confirmed,
                    judge,
                });
            }
        }
    }
    Ok(captures)
}

/// Identifies a look as a case record does: the view, and the time in whole milliseconds.
type LookKey = (String, Timestamp);

impl Capture {
    fn view(&self) -> String {
        self.record.view()
    }

    fn key(&self) -> LookKey {
        (self.view(), self.record.evidence[self.item].captured_at.timestamp())
    }

    /// Whether this is the look that confirmed the case; the record's box is from that look.
    fn is_last(&self) -> bool {
        let scenes = self.record.evidence.iter().filter(|e| e.role == EvidenceRole::Scene);
        let last = scenes.map(|e| e.captured_at.timestamp()).max();
        last == Some(self.record.evidence[self.item].captured_at.timestamp())
    }
}

/// Reads the detections of the captured looks from the ledger.
fn looks(config: &Config, captures: &[Capture]) -> Result<BTreeMap<LookKey, Vec<Detection>>, Failure> {
    let wanted: BTreeSet<LookKey> = captures.iter().map(Capture::key).collect();
    let mut looks = BTreeMap::new();
    let Some(from) = wanted.iter().map(|(_, at)| *at).min() else {
        return Ok(looks);
    };
    let Some(ledger) = &config.ledger else {
        let message = "the configuration has no ledger, which holds the detections to label; set ledger.enabled";
        return Err(Failure::new(Class::Config, message));
    };
    let mut reader = Reader::open(&ledger.dir, Some(from))?;
    let floor = TimestampRound::new()
        .smallest(Unit::Millisecond)
        .mode(jiff::RoundMode::Floor);
    while let Some(entry) = reader.next_entry()? {
        if let RecordedEvent::Observed(look) = entry.event {
            let key = (look.camera.as_str().to_owned(), look.at.round(floor).unwrap_or(look.at));
            if wanted.contains(&key) {
                looks.insert(key, look.detections);
            }
        }
    }
    Ok(looks)
}

fn write(
    args: &LedgerExportArgs,
    config: &Config,
    captures: &[Capture],
    looks: &BTreeMap<LookKey, Vec<Detection>>,
    summary: &mut ExportSummary,
) -> Result<(), Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    let (images, labels) = (args.out.join("images"), args.out.join("labels"));
    for dir in [&images, &labels] {
        fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
    }
    let mut names: Vec<&str> = Vec::new();
    let mut provenance = String::new();
    for capture in captures {
        let Some(found) = looks.get(&capture.key()) else {
            summary.unrecorded += 1;
            continue;
        };
        let record = &capture.record;
        let picture = &record.evidence[capture.item];
        let bytes = match evidence_file::read(&config.state_dir, &picture.sha256) {
            Ok(bytes) => bytes,
            Err(e) => {
                let path = evidence_file::path(&config.state_dir, &picture.sha256);
                summary.damaged.push(format!("{}: {e}", path.display()));
                continue;
            }
        };
        let (judged, others) = labelled_boxes(config, capture, found, args.sure);
        let confirmed = if capture.is_confirmed { judged.as_slice() } else { &[] };
        let mut text = String::new();
        for labelled in confirmed.iter().chain(&others) {
            let class = names.iter().position(|n| *n == labelled.label).unwrap_or_else(|| {
                names.push(labelled.label);
                names.len() - 1
            });
            let [x1, y1, x2, y2] = labelled.corners;
            let (x, y) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
            let _ = writeln!(text, "{class} {x:.6} {y:.6} {:.6} {:.6}", x2 - x1, y2 - y1);
        }
        // The name starts with the camera, so that a training/validation split can keep each camera on one side.
        let name = format!("{}-{}-{}", capture.view(), record.case_id, picture.id);
        let to = images.join(format!("{name}.jpg"));
        fs::write(&to, bytes).map_err(|e| failed(&to, e))?;
        let file = labels.join(format!("{name}.txt"));
        fs::write(&file, text).map_err(|e| failed(&file, e))?;
        let line = Provenance {
            image: &format!("images/{name}.jpg"),
            case_id: &record.case_id,
            verdict: record.state,
            judge: capture.judge,
            right: capture.is_confirmed,
            rule: &record.rule.id,
            camera: &capture.view(),
            captured_at: picture.captured_at.to_string(),
            model: format!("{}@{}", record.model.id, record.model.version),
            judged,
            unconfirmed: others,
        };
        provenance += &json_line(&line)?;
        summary.pictures += 1;
        match capture.is_confirmed {
            true => summary.confirmed += 1,
            false => summary.rejected += 1,
        }
        summary.reviewed += usize::from(capture.judge == Judge::Review);
    }
    let list: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(i, n)| format!("  {i}: {n:?}\n"))
        .collect();
    let yaml = format!("path: .\ntrain: images\nval: images\nnames:\n{}", list.concat());
    let classes: String = names.iter().map(|n| format!("{n}\n")).collect();
    for (name, text) in [
        ("data.yaml", yaml),
        ("classes.txt", classes),
        ("provenance.jsonl", provenance),
    ] {
        let file = args.out.join(name);
        fs::write(&file, text).map_err(|e| failed(&file, e))?;
    }
    Ok(())
}

/// The judged objects of a look, and the other detections with at least the score `sure`.
///
/// The record's box is from the confirming look, and may enclose several detections of a heap. Detections that the rule counts
/// and that lie in it are the judged objects. In earlier looks the object is assumed to be at about the same place.
fn labelled_boxes<'a>(
    config: &Config,
    capture: &Capture,
    found: &'a [Detection],
    sure: f32,
) -> (Vec<LabelledBox<'a>>, Vec<LabelledBox<'a>>) {
    let record = &capture.record;
    let picture = &record.evidence[capture.item];
    let [x1, y1, x2, y2] = record.extent.bbox_px.map(|v| v as f32);
    let (w, h) = (picture.width as f32, picture.height as f32);
    let case_box = BBox {
        x1: x1 / w,
        y1: y1 / h,
        x2: x2 / w,
        y2: y2 / h,
    };
    let rule = config.plan.rules.iter().find(|r| r.id.as_str() == record.rule.id);
    let is_counted = |d: &Detection| rule.is_some_and(|r| r.labels.contains(&d.label));
    // The box is from another look, so part of the object may extend beyond it.
    let min_share = if capture.is_last() { 0.6 } else { 0.4 };
    let is_inside = |d: &Detection| d.bbox.share_in(&case_box) >= min_share;
    let labelled = |d: &'a Detection| {
        let BBox { x1, y1, x2, y2 } = d.bbox;
        LabelledBox {
            label: d.label.as_str(),
            corners: [x1, y1, x2, y2],
        }
    };
    let is_judged = |d: &&Detection| is_counted(d) && is_inside(d);
    let judged = found.iter().filter(is_judged).map(labelled).collect();
    let others = found
        .iter()
        .filter(|d| !is_judged(d) && d.score >= sure)
        .map(labelled)
        .collect();
    (judged, others)
}

fn summary_text(out: &Path, summary: &ExportSummary) -> String {
    let ExportSummary {
        pictures,
        confirmed,
        rejected,
        reviewed,
        disputed,
        unmasked,
        gone,
        unrecorded,
        damaged,
    } = summary;
    let pictures = counted(*pictures, "picture", "pictures");
    let mut text = format!(
        "{}: {pictures}, {confirmed} of right cases, {rejected} of wrong ones; {reviewed} by reviews, the others by the platform.\n",
        out.display()
    );
    if *disputed > 0 {
        let _ = writeln!(
            text,
            "Left out: {} on which reviewers disagree.",
            counted(*disputed, "case", "cases")
        );
    }
    for (count, reason) in [
        (unmasked, "not masked"),
        (gone, "picture file deleted"),
        (unrecorded, "look no longer in the ledger"),
        (&damaged.len(), "picture file damaged"),
    ] {
        if *count > 0 {
            let _ = writeln!(text, "Left out: {count} ({reason}).");
        }
    }
    text
}
