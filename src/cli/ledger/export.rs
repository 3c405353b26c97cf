//! `gridwatch ledger export --labelled`: the pictures of cases that a clerk judged, with what the ledger says is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::{Timestamp, TimestampRound, Unit};
use serde::Serialize;

use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_contract::{CaseRecord, EvidenceRole};
use gridwatch_engine::{BBox, CaseState, Detection};
use gridwatch_ledger::{Reader, What};
use gridwatch_store::{Filter, Store, evidence_file};

/// Makes labelled pictures of the cases that the platform's clerks judged.
///
/// The pictures are the scenes that were filed: masked as they left the box. Those of a confirmed case are labelled with its
/// thing; those of a rejected one show that it is none there, which is worth as much. Cases that nobody judged are left out,
/// and so are pictures that are not masked.
///
/// The set is a folder as YOLO has it (images/, labels/, data.yaml), which `gridwatch eval --data` and models/train read. Besides the
/// judged thing it labels what the models were sure of in the same look; nobody has confirmed that, so look it through
/// with a labelling program before you train. `provenance.jsonl` says of each picture where it comes from and which box was confirmed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch ledger export --labelled --config /etc/gridwatch/edge.toml --out captures
  gridwatch eval --model models/garbage_nano_416 --data captures

It reads beside a running daemon and changes nothing on the box.

Exit codes: 0 it was written (also where there was nothing to write); 3 the configuration is faulty or the folder is there
already; 5 the store or the ledger cannot be read.")]
pub(super) struct Args {
    /// Pictures with labels; the only export there is so far, so that another can come beside it.
    #[arg(long, required = true)]
    labelled: bool,

    /// The configuration that the daemon runs with.
    #[arg(long, short, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: PathBuf,

    /// The folder to write; it must not be there yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// What the models were at least this sure of in the same look is labelled too, 0 to 1.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    sure: f32,

    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// A picture of a judged case.
struct Capture {
    record: CaseRecord,
    item: usize,
    is_confirmed: bool,
}

/// A line of `provenance.jsonl`.
#[derive(Serialize)]
struct Provenance<'a> {
    image: &'a str,
    case_id: &'a str,
    verdict: CaseState,
    rule: &'a str,
    camera: &'a str,
    captured_at: String,
    model: String,
    /// What the clerk confirmed, or rejected.
    judged: Vec<Mark<'a>>,
    /// What the models were sure of in the same look, which nobody confirmed.
    unconfirmed: Vec<Mark<'a>>,
}

#[derive(Serialize, Clone, Copy)]
struct Mark<'a> {
    label: &'a str,
    /// Left, top, right, bottom, as fractions of the picture.
    #[serde(rename = "box")]
    corners: [f32; 4],
}

#[derive(Serialize, Default)]
struct Summary {
    pictures: usize,
    confirmed: usize,
    rejected: usize,
    /// Left out, because they are not masked.
    unmasked: usize,
    /// Left out, because the file is not there any more.
    gone: usize,
    /// Left out, because the ledger no longer has the look.
    unrecorded: usize,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = config::load_unconnected(&args.config)?;
    if args.out.exists() {
        let message = format!(
            "{} is there already: name another folder with --out",
            args.out.display()
        );
        return Err(Failure::new(Class::Config, message));
    }
    let store = Store::open_read_only(&config.state_dir)?;
    let mut summary = Summary::default();
    let captures = captures(&store, &config.state_dir, &mut summary)?;
    let looks = looks(&config, &captures)?;
    write(args, &config, &captures, &looks, &mut summary)?;
    print(&match args.json {
        true => serde_json::to_string(&summary).map_err(|e| Failure::new(Class::Bug, e.to_string()))? + "\n",
        false => text(&args.out, &summary),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What the platform said of a case; none where it has not judged.
fn verdict(state: CaseState) -> Option<bool> {
    match state {
        CaseState::Accepted
        | CaseState::Dispatched
        | CaseState::Disposed
        | CaseState::VerifyRequested
        | CaseState::Closed
        | CaseState::Reopened => Some(true),
        CaseState::Rejected => Some(false),
        CaseState::Filed | CaseState::DuplicateOf | CaseState::Withdrawn => None,
    }
}

fn captures(store: &Store, state_dir: &Path, summary: &mut Summary) -> Result<Vec<Capture>, Failure> {
    let all = Filter {
        state: None,
        limit: u32::MAX,
    };
    let mut captures = Vec::new();
    for case in store.cases(all)? {
        let Some(is_confirmed) = verdict(case.state) else {
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
                });
            }
        }
    }
    Ok(captures)
}

/// A look as the record of a case names it: the view, and the time to a millisecond.
type Key = (String, Timestamp);

impl Capture {
    fn view(&self) -> String {
        let camera = &self.record.camera;
        match &camera.preset_id {
            Some(preset) => format!("{}.{preset}", camera.local_id),
            None => camera.local_id.clone(),
        }
    }

    fn key(&self) -> Key {
        (self.view(), self.record.evidence[self.item].captured_at.timestamp())
    }

    /// True for the look that confirmed the case: it is that of which the record has the box.
    fn is_last(&self) -> bool {
        let scenes = self.record.evidence.iter().filter(|e| e.role == EvidenceRole::Scene);
        let last = scenes.map(|e| e.captured_at.timestamp()).max();
        last == Some(self.record.evidence[self.item].captured_at.timestamp())
    }
}

/// What was found in the looks that the pictures were made from.
fn looks(config: &Config, captures: &[Capture]) -> Result<BTreeMap<Key, Vec<Detection>>, Failure> {
    let wanted: BTreeSet<Key> = captures.iter().map(Capture::key).collect();
    let mut looks = BTreeMap::new();
    let Some(from) = wanted.iter().map(|(_, at)| *at).min() else {
        return Ok(looks);
    };
    let Some(ledger) = &config.ledger else {
        let message = "the configuration keeps no ledger, which alone says where things were: set ledger.enabled";
        return Err(Failure::new(Class::Config, message));
    };
    let mut reader = Reader::open(&ledger.dir, Some(from))?;
    let floor = TimestampRound::new()
        .smallest(Unit::Millisecond)
        .mode(jiff::RoundMode::Floor);
    while let Some(entry) = reader.next_entry()? {
        if let What::Observed(look) = entry.what {
            let key = (look.camera.as_str().to_owned(), look.at.round(floor).unwrap_or(look.at));
            if wanted.contains(&key) {
                looks.insert(key, look.detections);
            }
        }
    }
    Ok(looks)
}

fn write(
    args: &Args,
    config: &Config,
    captures: &[Capture],
    looks: &BTreeMap<Key, Vec<Detection>>,
    summary: &mut Summary,
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
        let (judged, others) = marks(config, capture, found, args.sure);
        let kept = if capture.is_confirmed { judged.as_slice() } else { &[] };
        let mut text = String::new();
        for mark in kept.iter().chain(&others) {
            let class = names.iter().position(|n| *n == mark.label).unwrap_or_else(|| {
                names.push(mark.label);
                names.len() - 1
            });
            let [x1, y1, x2, y2] = mark.corners;
            let (x, y) = ((x1 + x2) / 2.0, (y1 + y2) / 2.0);
            let _ = writeln!(text, "{class} {x:.6} {y:.6} {:.6} {:.6}", x2 - x1, y2 - y1);
        }
        // The camera first: whoever splits the set keeps what one camera saw on one side.
        let name = format!("{}-{}-{}", capture.view(), record.case_id, picture.id);
        let (from, to) = (
            evidence_file::path(&config.state_dir, &picture.sha256),
            images.join(format!("{name}.jpg")),
        );
        fs::copy(&from, &to).map_err(|e| failed(&from, e))?;
        let file = labels.join(format!("{name}.txt"));
        fs::write(&file, text).map_err(|e| failed(&file, e))?;
        let line = Provenance {
            image: &format!("images/{name}.jpg"),
            case_id: &record.case_id,
            verdict: record.state,
            rule: &record.rule.id,
            camera: &capture.view(),
            captured_at: picture.captured_at.to_string(),
            model: format!("{}@{}", record.model.id, record.model.version),
            judged,
            unconfirmed: others,
        };
        provenance += &serde_json::to_string(&line).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
        provenance += "\n";
        summary.pictures += 1;
        match capture.is_confirmed {
            true => summary.confirmed += 1,
            false => summary.rejected += 1,
        }
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

/// The judged things of a look, and what else the models were sure of.
///
/// The box of the record is that of the confirming look, and of a heap it holds several things: what the rule counts and lies
/// in it is the judged thing. In the first look the thing lay where it lies, or hardly elsewhere.
fn marks<'a>(config: &Config, capture: &Capture, found: &'a [Detection], sure: f32) -> (Vec<Mark<'a>>, Vec<Mark<'a>>) {
    let record = &capture.record;
    let picture = &record.evidence[capture.item];
    let [x1, y1, x2, y2] = record.extent.bbox_px.map(|v| v as f32);
    let (w, h) = (picture.width as f32, picture.height as f32);
    let whole = BBox {
        x1: x1 / w,
        y1: y1 / h,
        x2: x2 / w,
        y2: y2 / h,
    };
    let counted = config.plan.rules.iter().find(|r| r.id.as_str() == record.rule.id);
    let counts = |d: &Detection| counted.is_some_and(|r| r.labels.contains(&d.label));
    // Half of a thing may reach out of a box that was drawn on another look.
    let least = if capture.is_last() { 0.6 } else { 0.4 };
    let lies_in = |d: &Detection| share_in(d.bbox, whole) >= least;
    let mark = |d: &'a Detection| {
        let BBox { x1, y1, x2, y2 } = d.bbox;
        Mark {
            label: d.label.as_str(),
            corners: [x1, y1, x2, y2],
        }
    };
    let is_judged = |d: &&Detection| counts(d) && lies_in(d);
    let judged = found.iter().filter(is_judged).map(mark).collect();
    let others = found
        .iter()
        .filter(|d| !is_judged(d) && d.score >= sure)
        .map(mark)
        .collect();
    (judged, others)
}

/// How much of `a` lies in `b`, 0..=1.
fn share_in(a: BBox, b: BBox) -> f64 {
    let common = BBox {
        x1: a.x1.max(b.x1),
        y1: a.y1.max(b.y1),
        x2: a.x2.min(b.x2),
        y2: a.y2.min(b.y2),
    };
    match a.area() {
        area if area > 0.0 && common.x1 < common.x2 && common.y1 < common.y2 => common.area() / area,
        _ => 0.0,
    }
}

fn text(out: &Path, summary: &Summary) -> String {
    let Summary {
        pictures,
        confirmed,
        rejected,
        unmasked,
        gone,
        unrecorded,
    } = summary;
    let mut text = format!(
        "{}: {pictures} pictures, {confirmed} of confirmed cases, {rejected} of rejected ones.\n",
        out.display()
    );
    for (count, why) in [
        (unmasked, "are not masked"),
        (gone, "are not on the disk any more"),
        (unrecorded, "are of looks that the ledger no longer has"),
    ] {
        if *count > 0 {
            let _ = writeln!(text, "Left out: {count} that {why}.");
        }
    }
    text
}
