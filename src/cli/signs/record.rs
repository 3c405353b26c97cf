//! `gridwatch signs record`: records the signs in a camera's view over several looks.

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    SignsViewArgs,
    baseline::{self, Merge, SightedSign, Sightings},
    corners, draw, no_baseline, read,
};
use crate::audit::Act;
use crate::cli::{Failure, json_pretty, options::fraction, pictures, print, view::pictures_key};
use gridwatch_base::{digest::sha256_hex, error::Class, file, text::counted};
use gridwatch_config::{Aim, Camera, Draft, Fault, Faults, Preset, raw};
use gridwatch_engine::{Detection, Label, Light, Rule, View, geometry};
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelSet,
    ocr::{Phrasebook, Reader, TextMemory, WallText, adverts},
    runtime,
};
use gridwatch_vision as vision;
use gridwatch_vision::views::ViewFiles;

/// Record the signs in a camera's view into its baseline.
///
/// Takes several looks and keeps the signs detected in at least --share of the clear ones, each at the median of its boxes.
/// Record by day and again at dusk: shop lights show signs that daylight does not. An existing baseline is kept with its notes;
/// new signs are appended and listed, and approved signs that were not seen are reported. Review the new ones: they count as
/// approved until you delete them from the file.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch signs record gate-east --config edge.toml --overlay signs.png
  gridwatch signs record gate-east --config edge.toml --looks 24 --every 10m     over four hours of daylight
  gridwatch signs record gate-east --config edge.toml --pictures noon.jpg dusk.jpg clip.mp4

Exit codes: 0 written; 3 the configuration or the baseline is faulty; 4 the camera is unreachable, or no look
was clear; 5 a picture cannot be read.")]
pub(super) struct SignsRecordArgs {
    #[command(flatten)]
    pub(super) of: SignsViewArgs,
    /// Number of looks.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    looks: u32,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    every: raw::Span,
    /// Share of the clear looks in which a sign must be detected, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = fraction::<f64>)]
    share: f64,
    /// Use these pictures and clips instead of the camera. Each picture is one look; a clip gives up to --looks looks.
    #[arg(long, value_name = "PICTURE|CLIP", num_args = 1..)]
    pictures: Vec<PathBuf>,
    /// Baseline file to write. [default: the camera's approved_signs]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write the newest clear picture with each sign outlined and numbered (new ones in yellow). Faces and plates are not masked;
    /// only you can read the file.
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
    /// Replace an existing baseline, discarding its signs and notes.
    #[arg(long)]
    pub(super) replace: bool,
    /// ONNX Runtime shared library. [default: the configuration's, or the one that edge-deploy/setup.sh installs]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
}

/// The command's output.
#[derive(Debug, Serialize)]
struct RecordReport {
    camera: String,
    file: PathBuf,
    looks: usize,
    /// How many of the looks were clear.
    clear: usize,
    /// Signs now in the file.
    signs: usize,
    added: Vec<AddedSign>,
    /// Numbers of approved signs that were not seen.
    unseen: Vec<usize>,
}

#[derive(Debug, Serialize)]
struct AddedSign {
    number: usize,
    label: String,
    #[serde(rename = "box")]
    corners: [f32; 4],
    /// Clear looks in which it was detected.
    looks: usize,
    score: f32,
}

/// Runs the command.
pub(super) fn run(
    args: &SignsRecordArgs,
    (draft, camera, preset): (Draft, Camera, Preset),
    act: &mut Act,
) -> Result<ExitCode, Failure> {
    let file = match (&args.out, &preset.approved_signs) {
        (Some(file), _) | (None, Some(file)) => file.clone(),
        (None, None) => return Err(no_baseline(&preset)),
    };
    let before = match file::read_text(&file, file::MAX_TEXT) {
        _ if args.replace => None,
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        // `read` reports a read error too, with its remedy.
        text => {
            let (signs, text) = (read(&file)?, text.unwrap_or_default());
            if signs.camera != preset.view.as_str() {
                let message = format!(
                    "{} is the baseline of {:?}; use another --out",
                    file.display(),
                    signs.camera
                );
                return Err(Failure::new(Class::Config, message));
            }
            Some((text, signs))
        }
    };
    act.add_path("file", &file);
    refuse_faulty(args, &draft, &camera)?;
    let mut recorder = Recorder::new(args, &draft, &camera, &preset)?;
    recorder.look_at_all(args, &draft, &camera)?;
    let Recorder {
        sightings,
        newest,
        looks,
        model_names,
        ..
    } = recorder;
    let clear = sightings.looks;
    let Some(newest) = newest else {
        let message = format!(
            "none of {looks} looks at {} was clear; record in daylight with an unobstructed view",
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
        text: s.text.as_ref().map(|t| t.text.to_string()),
        note: None,
        permit: None,
        valid_until: None,
        added: Some(now.date().to_string()),
    });
    let count = known.len();
    let signs = raw::Signs {
        camera: preset.view.to_string(),
        recorded: now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        model: model_names,
        signs: known.into_iter().chain(new).collect(),
    };
    let text = baseline::text(&signs, old.as_deref().map(|text| (text, count)));
    baseline::write(&file, &text)
        .map_err(|e| Failure::new(Class::Config, format!("cannot write {}: {e}", file.display())))?;
    if let Some(overlay) = &args.overlay {
        let picture = newest.to_rgb().map_err(|e| Failure::new(e.class(), e.to_string()))?;
        draw(picture, &signs, count, overlay)?;
    }
    act.add("added", added.len());
    act.add("sha256", sha256_hex(text.as_bytes()));
    let report = RecordReport {
        camera: signs.camera,
        file,
        looks,
        clear,
        signs: signs.signs.len(),
        added: added
            .iter()
            .enumerate()
            .map(|(i, s)| added_sign(s, count + i + 1))
            .collect(),
        unseen,
    };
    print(&if args.of.json {
        json_pretty(&report)?
    } else {
        report_text(&report)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn added_sign(sign: &SightedSign, number: usize) -> AddedSign {
    AddedSign {
        number,
        label: sign.label.to_string(),
        corners: corners(&sign.bbox()),
        looks: sign.looks(),
        score: sign.score(),
    }
}

fn report_text(report: &RecordReport) -> String {
    let RecordReport {
        looks, clear, signs, ..
    } = report;
    let mut text = format!("Clear looks: {clear} of {looks}.\n");
    for sign in &report.added {
        let [x1, y1, x2, y2] = sign.corners;
        text += &format!(
            "  new {:>3}  {:<12} x {x1:.3} to {x2:.3}, y {y1:.3} to {y2:.3}  in {}, score {:.2}\n",
            sign.number,
            sign.label,
            counted(sign.looks, "look", "looks"),
            sign.score
        );
    }
    if !report.unseen.is_empty() {
        let numbers: Vec<String> = report.unseen.iter().map(usize::to_string).collect();
        text += &format!("Approved signs not seen this time: {}.\n", numbers.join(", "));
    }
    let signs = counted(*signs, "approved sign", "approved signs");
    text += &format!("{signs} in {}.\n", report.file.display());
    if !report.added.is_empty() {
        text += "New signs count as approved until you delete them from that file.\n";
    }
    text
}

/// Refuses to record with the defaults that stand in for faulty settings: they are not what the daemon will judge with, and the
/// camera's password could be sent unencrypted.
fn refuse_faulty(args: &SignsRecordArgs, draft: &Draft, camera: &Camera) -> Result<(), Faults> {
    let mut faults: Vec<Fault> = ["runtime", "view", "reading"]
        .iter()
        .flat_map(|section| draft.faults_in(section))
        .collect();
    if args.pictures.is_empty() {
        faults.extend(draft.faults_in("decode"));
        faults.extend(draft.connection_faults.get(&camera.id).into_iter().flatten().cloned());
    }
    if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
}

/// For a PTZ camera: the learned views of its presets, and the index of the requested one. `None` for other cameras.
#[cfg(feature = "gst")]
fn preset_views(draft: &Draft, camera: &Camera, preset: &Preset) -> Result<Option<(vision::Tour, usize)>, Failure> {
    let Aim::Tour { away } = camera.aim else {
        return Ok(None);
    };
    let mut tour = vision::Tour::new(vision::AimLimits::from(&draft.view()), camera.presets.len(), away);
    for (i, preset) in camera.presets.iter().enumerate() {
        let state = draft.state_dir.iter();
        for dir in state {
            let key = pictures_key(dir, draft.originals_key())?;
            let kept = ViewFiles::new(dir, preset.view.clone(), key)
                .load()?
                .unwrap_or_default();
            kept.references
                .into_iter()
                .for_each(|(light, reference, _)| tour.restore(i, light, reference));
        }
    }
    let here = camera.presets.iter().position(|p| p.view == preset.view);
    match here.filter(|i| tour.is_learned(*i)) {
        Some(here) => Ok(Some((tour, here))),
        None => {
            let message = format!(
                "preset {} has not been learned; with the daemon running, move the camera there and run `gridwatch view confirm {}`, or use --pictures",
                preset.view, preset.view
            );
            Err(Failure::new(Class::Config, message))
        }
    }
}

/// Takes the looks and collects the signs.
struct Recorder<'a> {
    models: ModelSet,
    /// Reads the text on the signs, if `[reading]` is configured.
    reader: Option<Reader>,
    /// The words of adverts, if the camera reads text and a rule with `except_approved` counts what is read.
    phrasebook: Option<Phrasebook>,
    /// What the looks have read.
    memory: TextMemory,
    /// The rules with `except_approved`.
    rules: Vec<&'a Rule>,
    preset: &'a Preset,
    /// For a PTZ camera: the learned views of its presets and the index of the requested one. `None`: every look counts.
    preset_views: Option<(vision::Tour, usize)>,
    health: vision::Health,
    sightings: Sightings,
    /// The newest clear picture.
    newest: Option<Frame>,
    looks: usize,
    /// `id@version` of each model, comma-separated.
    model_names: String,
}

impl<'a> Recorder<'a> {
    fn new(args: &SignsRecordArgs, draft: &'a Draft, camera: &Camera, preset: &'a Preset) -> Result<Self, Failure> {
        if camera.models.is_empty() {
            return Err(Faults(draft.faults.clone()).into()); // One of its models is faulty.
        }
        let rules: Vec<&Rule> = draft.rules().iter().filter(|r| r.except_approved).collect();
        let is_needed = |model: &Model| {
            let labels = model.manifest().engine_labels();
            rules.iter().flat_map(|r| &r.labels).any(|l| labels.contains(l))
        };
        let models = camera.models.iter().map(|i| Model::load(&draft.models[*i].dir));
        let mut models: Vec<Model> = models.collect::<Result<_, _>>()?;
        models.retain(is_needed);
        let counts_text = |r: &&Rule| Label::of_text().iter().any(|l| r.labels.contains(l));
        let reading = draft.reading.as_ref();
        let phrasebook = reading.filter(|_| camera.read_numbers && rules.iter().any(counts_text));
        let phrasebook = phrasebook.map(|r| r.phrasebook.clone());
        let readers = match reading.filter(|_| phrasebook.is_some() || !models.is_empty()) {
            Some(r) => Some((Model::load(&r.finder)?, Model::load(&r.speller)?)),
            None => None,
        };
        if models.is_empty() && readers.is_none() {
            // Perhaps the rule exists but is faulty. A missing baseline is expected here.
            let mut faults = draft.faults.clone();
            faults.retain(|f| !f.path.contains(".approved_signs"));
            if !faults.is_empty() {
                return Err(Faults(faults).into());
            }
            let message = format!(
                "no rule with except_approved = true counts a label of camera {}'s models; add the rule first",
                camera.id
            );
            return Err(Failure::new(Class::Config, message));
        }
        let names: Vec<String> = models
            .iter()
            .chain(readers.iter().flat_map(|(finder, speller)| [speller, finder]))
            .map(|m| format!("{}@{}", m.manifest().id, m.manifest().version))
            .collect();
        let library = args.onnxruntime.as_deref().or(draft.onnxruntime.as_deref());
        let runtime = runtime::init(library)?.with(draft.inference.clone());
        Ok(Self {
            models: ModelSet::new(&runtime, &models)?,
            reader: readers
                .map(|(finder, speller)| Reader::new(&runtime, &finder, &speller))
                .transpose()?,
            phrasebook,
            memory: TextMemory::default(),
            rules,
            preset,
            preset_views: None,
            health: vision::Health::new(draft.view()),
            sightings: Sightings::default(),
            newest: None,
            looks: 0,
            model_names: names.join(", "),
        })
    }

    fn look_at_all(&mut self, args: &SignsRecordArgs, draft: &Draft, camera: &Camera) -> Result<(), Failure> {
        for path in &args.pictures {
            let (mut left, mut due_s) = (args.looks, 0.0);
            // Each file is judged on its own, without the previous one's state.
            self.health = vision::Health::new(draft.view());
            for source in pictures::frames_of(path).map_err(|e| e.in_file(path))? {
                let source = source.map_err(|e| e.in_file(path))?;
                if source.in_clip.is_some_and(|(_, time_s)| time_s < due_s) {
                    continue;
                }
                due_s += args.every.0.as_secs_f64();
                self.look(source.frame)?;
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
    fn live(&mut self, args: &SignsRecordArgs, draft: &Draft, camera: &Camera) -> Result<(), Failure> {
        let time_limit = match camera.aim {
            Aim::Tour { away } => away * 2 + args.every.0 * args.looks,
            Aim::Fixed | Aim::Unwatched => Duration::MAX,
        };
        self.preset_views = preset_views(draft, camera, self.preset)?;
        let mut live = crate::cli::live::LiveCamera::start(
            camera,
            format!("camera {}", camera.id),
            draft.decoders.unwrap_or_default(),
        )?;
        let (mut after, mut left) = (Duration::ZERO, args.looks);
        let start = Instant::now();
        while left > 0 {
            let frame = live.next(std::mem::replace(&mut after, args.every.0))?;
            if self.look(frame)? {
                left -= 1;
            } else if start.elapsed() >= time_limit {
                break; // Record what was seen so far.
            }
        }
        if self.looks == 0 {
            let message = format!(
                "the camera did not reach preset {} within {}; check that its tour runs and that the preset is learned \
                 (`gridwatch view list`)",
                self.preset.view,
                raw::Span(time_limit)
            );
            return Err(Failure::new(Class::Transient, message));
        }
        Ok(())
    }

    #[cfg(not(feature = "gst"))]
    fn live(&mut self, _: &SignsRecordArgs, _: &Draft, _: &Camera) -> Result<(), Failure> {
        Err(Failure::new(
            Class::Config,
            "this build of gridwatch lacks the feature `gst` and cannot receive cameras; use --pictures",
        ))
    }

    /// Evaluates one frame. False if a PTZ camera was not at the preset, so that the frame does not count as a look.
    fn look(&mut self, frame: Frame) -> Result<bool, Failure> {
        let (view, small) = self
            .health
            .look(&frame)
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        if let Some((tour, here)) = &mut self.preset_views {
            let light = if frame.is_mono() { Light::Night } else { Light::Day };
            let position = small
                .filter(|_| view == View::Clear)
                .map(|s| tour.look(&s, frame.captured_at, light));
            if position.and_then(|p| p.preset) != Some(*here) {
                return Ok(false);
            }
        }
        self.looks += 1;
        if view != View::Clear {
            return Ok(true);
        }
        let mut input = self.models.input(&frame);
        let mut found: Vec<Detection> = Vec::new();
        for i in 0..input.slot_count() {
            found.extend(input.detect(i)?);
        }
        if let Some(reader) = &mut self.reader {
            let lines = self.memory.vote(frame.captured_at, reader.lines(&frame, &[])?);
            for sign in &mut found {
                let text = adverts::at_place(&lines, &sign.bbox, &Phrasebook::default(), reader.floor());
                sign.text = text.map(|t| t.text).filter(|t| t.text.is_distinctive());
            }
            if let Some(phrasebook) = &self.phrasebook {
                let adverts = adverts::find(&lines, phrasebook, reader.floor());
                found.extend(adverts.into_iter().filter_map(WallText::detection));
            }
        }
        let counts = |d: &Detection| {
            let mut rules = self.rules.iter().filter(|r| r.labels.contains(&d.label));
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
            // Boxes may extend beyond the picture; the engine clips them too.
            detection.bbox = detection.bbox.within_picture().unwrap_or(detection.bbox);
        }
        self.sightings.add(found);
        self.newest = Some(frame);
        Ok(true)
    }
}
