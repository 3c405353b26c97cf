//! `gridwatch signs record`: looks several times, and writes what hangs there.

use std::{
    fs, io,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    Of,
    baseline::{self, Merge, Sighted, Sightings},
    corners, draw, read, unnamed,
};
use crate::cli::{Failure, detect, print};
use gridwatch_base::error::Class;
use gridwatch_config::{Aim, Camera, Draft, Faults, Preset, raw};
use gridwatch_engine::{Detection, Label, Light, Rule, View, geometry};
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelSet, Reading, ocr::reader::Reader, runtime};
use gridwatch_vision as vision;
use gridwatch_vision::views::Files;

/// Looks at a camera several times and writes what hangs there into its baseline.
///
/// Signs that at least --share of the clear looks saw are kept, each at the median of its boxes. Record by day and again at
/// dusk: lamps and shop lights show signs that daylight does not. An existing baseline is kept as it is, notes and all;
/// signs that are new are added after its own and told, and those that were not seen are named. Read what is added: it is
/// approved unless you strike it out.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch signs record gate-east --config edge.toml --overlay signs.png
  gridwatch signs record gate-east --config edge.toml --looks 24 --every 10m     over four hours of daylight
  gridwatch signs record gate-east --config edge.toml --pictures noon.jpg dusk.jpg clip.mp4

Exit codes: 0 written; 3 the configuration or the baseline is faulty; 4 the camera is away, or showed nothing clear; 5 a
picture cannot be read.")]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// How many times to look.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    looks: u32,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    every: raw::Span,
    /// Share of the clear looks that must have seen a sign, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    share: f64,
    /// Look at these pictures and clips instead of the camera itself: each picture is a look, of a clip --looks at most.
    #[arg(long, value_name = "PICTURE|CLIP", num_args = 1..)]
    pictures: Vec<PathBuf>,
    /// Write the baseline here. [default: the camera's approved_signs]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the newest clear picture with every sign framed and numbered: new ones yellow. It stays unmasked.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// Begin anew: what the baseline holds, notes too, is dropped.
    #[arg(long)]
    replace: bool,
    /// ONNX Runtime's shared library. [default: the configuration's, or where edge-deploy/setup.sh puts it]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".into()),
    }
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    camera: String,
    file: PathBuf,
    /// Looks, and how many of them were clear.
    looks: usize,
    clear: usize,
    /// Signs in the file now.
    signs: usize,
    added: Vec<Added>,
    /// Numbers of approved signs that were not seen.
    unseen: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct Added {
    number: usize,
    label: String,
    #[serde(rename = "box")]
    corners: [f32; 4],
    /// Clear looks that saw it.
    looks: usize,
    score: f32,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (draft, camera, preset) = args.of.view()?;
    let file = match (&args.out, &preset.approved_signs) {
        (Some(file), _) | (None, Some(file)) => file.clone(),
        (None, None) => return Err(unnamed(&preset)),
    };
    let before = match fs::read_to_string(&file) {
        _ if args.replace => None,
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        // What cannot be read is told with what to do.
        text => {
            let (signs, text) = (read(&file)?, text.unwrap_or_default());
            if signs.camera != preset.view.as_str() {
                let message = format!(
                    "{} is the baseline of {:?}: name another --out",
                    file.display(),
                    signs.camera
                );
                return Err(Failure::new(Class::Config, message));
            }
            Some((text, signs))
        }
    };
    let mut look = Looking::new(args, &draft, &camera, &preset)?;
    look.all(args, &draft, &camera)?;
    let Looking {
        sightings,
        newest,
        looks,
        models,
        ..
    } = look;
    let clear = sightings.looks;
    let Some(newest) = newest else {
        let message = format!(
            "none of {looks} looks at {} was clear: record by daylight, with a free view",
            preset.view
        );
        return Err(Failure::new(Class::Transient, message));
    };
    let Merge { added, unseen } = baseline::merge(sightings.steady(args.share), before.as_ref().map(|(_, s)| s));
    let zone = draft.timezone.clone().unwrap_or(TimeZone::UTC);
    let now = Timestamp::now().to_zoned(zone);
    let (known, old) = before.map_or((Vec::new(), None), |(text, signs)| (signs.signs, Some(text)));
    let new = added.iter().map(|s| raw::Sign {
        corners: corners(&s.bbox()),
        label: s.label.to_string(),
        number: s.number.as_ref().map(ToString::to_string),
        note: None,
        added: Some(now.date().to_string()),
    });
    let count = known.len();
    let signs = raw::Signs {
        camera: preset.view.to_string(),
        recorded: now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        model: models,
        signs: known.into_iter().chain(new).collect(),
    };
    let text = baseline::text(&signs, old.as_deref().map(|text| (text, count)));
    baseline::write(&file, &text)
        .map_err(|e| Failure::new(Class::Config, format!("{} cannot be written: {e}", file.display())))?;
    if let Some(overlay) = &args.overlay {
        let picture = newest.to_rgb().map_err(|e| Failure::new(e.class(), e.to_string()))?;
        draw(picture, &signs, count, overlay)?;
    }
    let report = Report {
        camera: signs.camera,
        file,
        looks,
        clear,
        signs: signs.signs.len(),
        added: added.iter().enumerate().map(|(i, s)| told(s, count + i + 1)).collect(),
        unseen,
    };
    print(&if args.of.json {
        serde_json::to_string_pretty(&report).map_err(|e| Failure::new(Class::Bug, e.to_string()))? + "\n"
    } else {
        words(&report)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn told(sign: &Sighted, number: usize) -> Added {
    Added {
        number,
        label: sign.label.to_string(),
        corners: corners(&sign.bbox()),
        looks: sign.looks(),
        score: sign.score(),
    }
}

fn words(report: &Report) -> String {
    let Report {
        looks, clear, signs, ..
    } = report;
    let mut text = format!("{clear} of {looks} looks were clear.\n");
    for sign in &report.added {
        let [x1, y1, x2, y2] = sign.corners;
        text += &format!(
            "  new {:>3}  {:<12} x {x1:.3} to {x2:.3}, y {y1:.3} to {y2:.3}  in {} looks, score {:.2}\n",
            sign.number, sign.label, sign.looks, sign.score
        );
    }
    if !report.unseen.is_empty() {
        let numbers: Vec<String> = report.unseen.iter().map(usize::to_string).collect();
        text += &format!("Approved and not seen now: {}.\n", numbers.join(", "));
    }
    let are = if *signs == 1 { "sign is" } else { "signs are" };
    text += &format!("{signs} {are} approved in {}.\n", report.file.display());
    if !report.added.is_empty() {
        text += "The new ones are approved too, unless you strike them out of that file.\n";
    }
    text
}

/// Of a camera that turns: how its presets look, and which of them is wanted.
#[cfg(feature = "gst")]
fn by_sight(draft: &Draft, camera: &Camera, preset: &Preset) -> Result<Option<(vision::Tour, usize)>, Failure> {
    let Aim::Tour { away } = camera.aim else {
        return Ok(None);
    };
    let mut tour = vision::Tour::new(vision::Limits::from(&draft.view()), camera.presets.len(), away);
    for (i, preset) in camera.presets.iter().enumerate() {
        let state = draft.state_dir.iter();
        for dir in state {
            let kept = Files::new(dir, preset.view.clone()).kept()?.unwrap_or_default();
            kept.references
                .into_iter()
                .for_each(|(light, reference, _)| tour.remember(i, light, reference));
        }
    }
    let here = camera.presets.iter().position(|p| p.view == preset.view);
    match here.filter(|i| tour.is_known(*i)) {
        Some(here) => Ok(Some((tour, here))),
        None => {
            let message = format!(
                "{} is not known by sight: with the daemon running, aim the camera at it and write gridwatch view confirm {}; or name --pictures",
                preset.view, preset.view
            );
            Err(Failure::new(Class::Config, message))
        }
    }
}

/// What looks, at what, and what it has seen.
struct Looking<'a> {
    panel: ModelSet,
    /// Where numbers are read at the camera, and a rule with except_approved is about them.
    reader: Option<Reader>,
    /// Whose labels are asked for.
    asked: Vec<&'a Rule>,
    preset: &'a Preset,
    /// Of a camera that turns: how its presets look, and which of them is wanted; `None` where every look is of it.
    by_sight: Option<(vision::Tour, usize)>,
    health: vision::Health,
    sightings: Sightings,
    /// The newest clear picture.
    newest: Option<Frame>,
    looks: usize,
    /// Their ids and versions.
    models: String,
}

impl<'a> Looking<'a> {
    fn new(args: &Args, draft: &'a Draft, camera: &Camera, preset: &'a Preset) -> Result<Self, Failure> {
        if camera.models.is_empty() {
            return Err(Faults(draft.faults.clone()).into()); // One of its models is faulty.
        }
        let asked: Vec<&Rule> = draft.rules().iter().filter(|r| r.except_approved).collect();
        let wanted = |model: &Model| {
            let labels = model.manifest().engine_labels();
            asked.iter().flat_map(|r| &r.labels).any(|l| labels.contains(l))
        };
        let looking = camera.models.iter().map(|i| Model::load(&draft.models[*i].dir));
        let mut looking: Vec<Model> = looking.collect::<Result<_, _>>()?;
        looking.retain(wanted);
        let is_read = camera.reads && asked.iter().any(|r| r.labels.contains(&Label::small_ad()));
        let readers = match draft.reading.as_ref().filter(|_| is_read) {
            Some(r) => Some((Model::load(&r.finder)?, Model::load(&r.speller)?)),
            None => None,
        };
        if looking.is_empty() && readers.is_none() {
            // The rule may be there, and faulty. That the baseline is missing is why we are here.
            let mut faults = draft.faults.clone();
            faults.retain(|f| !f.path.contains(".approved_signs"));
            if !faults.is_empty() {
                return Err(Faults(faults).into());
            }
            let message = format!(
                "no rule with except_approved = true counts what a model of {} finds: write the rule first",
                camera.id
            );
            return Err(Failure::new(Class::Config, message));
        }
        let names: Vec<String> = looking
            .iter()
            .chain(readers.iter().flat_map(|(finder, speller)| [speller, finder]))
            .map(|m| format!("{}@{}", m.manifest().id, m.manifest().version))
            .collect();
        let library = args.onnxruntime.as_deref().or(draft.onnxruntime.as_deref());
        let runtime = runtime::init(library)?.with(draft.inference.clone());
        Ok(Self {
            panel: ModelSet::new(&runtime, &looking)?,
            reader: readers
                .map(|(finder, speller)| Reader::new(&runtime, &finder, &speller))
                .transpose()?,
            asked,
            preset,
            by_sight: None,
            health: vision::Health::new(draft.view()),
            sightings: Sightings::default(),
            newest: None,
            looks: 0,
            models: names.join(", "),
        })
    }

    fn all(&mut self, args: &Args, draft: &Draft, camera: &Camera) -> Result<(), Failure> {
        for path in &args.pictures {
            let unreadable = |e: detect::Failure| Failure::new(Class::Data, format!("{}: {e}", path.display()));
            let (mut left, mut due_s) = (args.looks, 0.0);
            // Pictures are looks of their own, whatever one before them showed.
            self.health = vision::Health::new(draft.view());
            for shot in detect::frames_of(path).map_err(unreadable)? {
                let shot = shot.map_err(unreadable)?;
                if shot.in_clip.is_some_and(|(_, time_s)| time_s < due_s) {
                    continue;
                }
                due_s += args.every.0.as_secs_f64();
                self.look(shot.frame)?;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        if args.pictures.is_empty() {
            self.live(args, draft, camera)?;
        }
        Ok(())
    }

    #[cfg(feature = "gst")]
    fn live(&mut self, args: &Args, draft: &Draft, camera: &Camera) -> Result<(), Failure> {
        let patience = match camera.aim {
            Aim::Tour { away } => away * 2 + args.every.0 * args.looks,
            Aim::Fixed | Aim::Unwatched => Duration::MAX,
        };
        self.by_sight = by_sight(draft, camera, self.preset)?;
        let mut live = super::live::Live::start(camera, draft.decoders.unwrap_or_default())?;
        let (mut after, mut left) = (Duration::ZERO, args.looks);
        let start = Instant::now();
        while left > 0 {
            let frame = live.next(std::mem::replace(&mut after, args.every.0))?;
            if self.look(frame)? {
                left -= 1;
            } else if start.elapsed() >= patience {
                break; // What it saw till then is told.
            }
        }
        if self.looks == 0 {
            let message = format!(
                "the camera did not come to {} within {}: see that its tour runs, and whether the preset is still known by sight \
                 (gridwatch view list)",
                self.preset.view,
                raw::Span(patience)
            );
            return Err(Failure::new(Class::Transient, message));
        }
        Ok(())
    }

    #[cfg(not(feature = "gst"))]
    fn live(&mut self, _: &Args, _: &Draft, _: &Camera) -> Result<(), Failure> {
        Err(Failure::new(
            Class::Config,
            "this build receives no cameras: name --pictures",
        ))
    }

    /// False where the camera turned away, so that it is no look at all.
    fn look(&mut self, frame: Frame) -> Result<bool, Failure> {
        let (view, small) = self
            .health
            .look(&frame)
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        if let Some((tour, here)) = &mut self.by_sight {
            let light = if frame.is_mono() { Light::Night } else { Light::Day };
            let stood = small
                .filter(|_| view == View::Clear)
                .map(|s| tour.look(&s, frame.captured_at, light));
            if stood.and_then(|s| s.preset) != Some(*here) {
                return Ok(false);
            }
        }
        self.looks += 1;
        if view != View::Clear {
            return Ok(true);
        }
        let mut shown = self.panel.shown(&frame);
        let mut found: Vec<Detection> = Vec::new();
        for i in 0..shown.count() {
            found.extend(shown.detect(i)?);
        }
        if let Some(reader) = &mut self.reader {
            found.extend(reader.read(&frame, &[])?.into_iter().map(Reading::detection));
        }
        let counts = |d: &Detection| {
            let mut rules = self.asked.iter().filter(|r| r.labels.contains(&d.label));
            rules.any(|r| d.score >= r.day.keep.min(r.night.keep))
        };
        let is_private = |d: &Detection| {
            let side = |zone: &Vec<_>| geometry::side_of(zone, d.bbox.foot());
            self.preset
                .privacy
                .iter()
                .any(|zone| side(zone) != geometry::Side::Outside)
        };
        found.retain(|d| counts(d) && !is_private(d) && d.bbox.within_picture().is_some());
        for detection in &mut found {
            // Detectors' boxes may stick out; the engine cuts them too.
            detection.bbox = detection.bbox.within_picture().unwrap_or(detection.bbox);
        }
        self.sightings.add(found);
        self.newest = Some(frame);
        Ok(true)
    }
}
