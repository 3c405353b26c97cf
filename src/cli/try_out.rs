//! `gridwatch try`: shows what the models see in a stream, a clip or pictures, and what would be filed, without a configuration.

mod report;
mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jiff::{Timestamp, ToSpan};
use signal_hook::consts::SIGINT;

pub(super) use self::trial::SHOWN_SCORE;
use self::{
    report::{Report, Texts},
    trial::{LookTime, Trial},
};
use super::{
    Failure, json_pretty,
    live::LiveCamera,
    options::{RuntimeArgs, free_path, must_be_new},
    pictures::{self, frames_of},
    print, private, service,
    share::share,
    snapshot, starter,
    terminal::note,
};
use gridwatch_base::{error::Class, language::Language};
use gridwatch_camera::Backend;
use gridwatch_config::{self as config, Config, raw};
use gridwatch_model::Model;

/// Detectors that are tried without --model, below `models/`.
pub(super) const SHIPPED: [&str; 3] = ["garbage_nano_416", "yolox_nano_416_coco", "adverts_nano_416"];

/// Most looks of one run; the pictures of all are held in memory until it is known which of them the report shows.
const MAX_LOOKS: usize = 600;

/// Limits of the time between two looks, as in a configuration.
const MIN_EVERY: Duration = Duration::from_millis(500);
const MAX_EVERY: Duration = Duration::from_hours(1);

/// See what the models find in a stream, a clip or pictures, and what would be filed.
///
/// Needs no configuration, no broker and no grid, and files nothing. Looks at the stream or clip every --every, runs the shipped
/// models, and judges what stays as the daemon does, with the rules of configs/first.toml and a dwell of seconds. Writes a page with
/// pictures (faces and plates masked). Pictures are only searched: a single one cannot show that something stays. Ctrl-C ends it with
/// a report of what was seen until then.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch try rtsp://admin:secret@192.0.2.10:554/stream
  gridwatch try street.mp4 --dwell 20s --out report
  gridwatch try *.jpg

Exit codes: 0 the report is written, whatever was found; 3 the URL, the login, a model or the ONNX Runtime library is not usable;
4 the camera cannot be reached or sends no picture; 5 a file cannot be read; 130 it was interrupted. After 130 and 4 the report
covers what was seen until then, if anything was.")]
pub struct TryArgs {
    /// One stream URL or clip, or pictures (JPEG, PNG, WebP or BMP).
    #[arg(required = true, value_name = "URL|CLIP|PICTURE")]
    sources: Vec<String>,
    /// Folder to create for the report. [default: gridwatch-try, or gridwatch-try-2 … if it exists]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: raw::Span,
    /// How much of the stream or clip to look at.
    #[arg(long = "for", value_name = "TIME", default_value = "60s")]
    duration: raw::Span,
    /// How long a problem must stay before it would be filed.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    dwell: raw::Span,
    /// Folder of a model to try instead of the shipped ones; may be repeated.
    #[arg(long = "model", value_name = "DIR")]
    models: Vec<PathBuf>,
    /// Language of the report: zh or en. [default: from LC_ALL, LC_MESSAGES or LANG]
    #[arg(long, value_name = "LANGUAGE", value_parser = super::options::language)]
    language: Option<Language>,
    /// Print one JSON object instead of the summary.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// What is looked at.
enum Source {
    Stream(Box<config::Camera>),
    Clip(PathBuf),
    Pictures(Vec<PathBuf>),
}

/// Runs the command.
///
/// # Errors
/// See the exit codes in the help.
pub fn run(args: &TryArgs) -> Result<ExitCode, Failure> {
    let every = args.every.0;
    if args.duration.0.is_zero() || !(MIN_EVERY..=MAX_EVERY).contains(&every) {
        let message = format!(
            "--for {} --every {}: look every 500ms to 1h, for more than 0s",
            args.duration, args.every
        );
        return Err(Failure::new(Class::Config, message));
    }
    if args.duration.0.as_secs_f64() / every.as_secs_f64() > MAX_LOOKS as f64 {
        let message = format!(
            "--every {} gives more than {MAX_LOOKS} looks in --for {}; look less often, or for a shorter time",
            args.every, args.duration
        );
        return Err(Failure::new(Class::Config, message));
    }
    let source = source(&args.sources)?;
    let out = match &args.out {
        Some(dir) => dir.clone(),
        None => free_path("gridwatch-try")?,
    };
    must_be_new(&out)?;
    // At once, because the looks take a minute.
    fs::create_dir_all(&out).map_err(|e| unwritable(&out, &e))?;
    let interrupted = service::end_at_second(&[SIGINT])
        .map_err(|e| Failure::new(Class::Bug, format!("cannot install a signal handler: {e}")))?;
    let result = try_source(args, source, &out, &interrupted);
    if !out.join(PAGE).exists() {
        // Created above; without its page it is of no use.
        let _ = fs::remove_dir_all(&out);
    }
    result
}

/// Exit code after SIGINT, as shells report it.
const INTERRUPTED: u8 = 130;

/// The report's page in its folder.
const PAGE: &str = "report.html";

/// What ended the looks before all were taken.
enum EndedEarly {
    Interrupted,
    Failed(Failure),
}

impl From<Failure> for EndedEarly {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl EndedEarly {
    fn reason(&self) -> String {
        match self {
            Self::Interrupted => "interrupted".to_owned(),
            Self::Failed(failure) => failure.message.clone(),
        }
    }

    /// What the command ends with; `has_report` if a report was written all the same.
    fn end(self, has_report: bool) -> Result<ExitCode, Failure> {
        match self {
            Self::Interrupted => {
                note(format_args!(
                    "Interrupted{}",
                    if has_report {
                        "; the report covers what was seen until then."
                    } else {
                        " before the first look; no report is written."
                    }
                ));
                Ok(ExitCode::from(INTERRUPTED))
            }
            Self::Failed(failure) => Err(failure),
        }
    }
}

fn try_source(args: &TryArgs, source: Source, out: &Path, interrupted: &AtomicBool) -> Result<ExitCode, Failure> {
    let share = share()?;
    let shipped = SHIPPED.iter().map(|name| share.join("models").join(name));
    let dirs: Vec<PathBuf> = if args.models.is_empty() {
        shipped.collect()
    } else {
        args.models.clone()
    };
    let models = dirs.iter().map(|dir| Model::load(dir)).collect::<Result<Vec<_>, _>>()?;
    let config = configure(args, &share, dirs, &models)?;
    let mut trial = Trial::new(&config, &models, &args.runtime.load()?)?;
    let looked = match source {
        Source::Stream(camera) => look_at_stream(args, &camera, &mut trial, interrupted),
        Source::Clip(clip) => look_at_clip(args, &clip, &mut trial, interrupted),
        Source::Pictures(files) => look_at_pictures(&files, &mut trial, interrupted),
    };
    let ended = match looked {
        Err(ended) if !trial.has_looks() => return ended.end(false),
        looked => looked.err(),
    };
    let language = args.language.unwrap_or_else(Language::of_environment);
    let reason = ended.as_ref().map(EndedEarly::reason);
    let report = trial.finish(out, &shown_source(&args.sources), args.dwell, reason)?;
    let page = out.join(PAGE);
    private::write(&page, report::page(&report, language).as_bytes()).map_err(|e| unwritable(&page, &e))?;
    let text = if args.json {
        json_pretty(&report)?
    } else {
        summary(&report, language, &page)
    };
    print(&text)?;
    ended.map_or(Ok(ExitCode::SUCCESS), |ended| ended.end(true))
}

fn unwritable(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    Failure::new(Class::Config, format!("cannot write {}: {e}", path.display()))
}

fn source(sources: &[String]) -> Result<Source, Failure> {
    if let [url] = sources
        && url.contains("://")
    {
        return Ok(Source::Stream(Box::new(snapshot::stream(url)?)));
    }
    let files: Vec<PathBuf> = sources.iter().map(PathBuf::from).collect();
    // Not shown: what looks like a mistyped URL may have a password in it.
    if sources
        .iter()
        .zip(&files)
        .any(|(text, file)| text.contains('@') && !file.exists())
    {
        return Err(Failure::new(
            Class::Config,
            "neither a file nor a stream URL; a URL starts with rtsp://",
        ));
    }
    let mut clips = Vec::new();
    for file in &files {
        if !pictures::is_picture(file).map_err(|e| e.in_file(file))? {
            clips.push(file.clone());
        }
    }
    match (clips.pop(), files.len()) {
        (None, _) => Ok(Source::Pictures(files)),
        (Some(clip), 1) => Ok(Source::Clip(clip)),
        (Some(clip), _) => Err(Failure::new(
            Class::Config,
            format!("{} is no picture; a clip is tried alone", clip.display()),
        )),
    }
}

/// The sources as the report names them: without passwords.
fn shown_source(sources: &[String]) -> String {
    match sources {
        [one] if one.contains("://") => {
            starter::stream_url(one).map_or_else(|_| String::new(), |(url, _)| starter::shown_url(&url))
        }
        [one] => one.clone(),
        [first, ..] => format!("{first} … ({})", sources.len()),
        [] => String::new(),
    }
}

/// The configuration of configs/first.toml for one camera and these models, with short dwells.
fn configure(args: &TryArgs, share: &Path, dirs: Vec<PathBuf>, models: &[Model]) -> Result<Config, Failure> {
    let mut file = starter::template(share)?;
    let place = starter::NOWHERE;
    let dir = tempfile::tempdir()
        .map_err(|e| Failure::new(Class::Transient, format!("cannot create a temporary folder: {e}")))?;
    file.node.state_dir = dir.path().join("state");
    file.grid.file = dir.path().join("grid.geojson");
    // Relative paths would start at the temporary folder.
    let absolute = |dir: PathBuf| std::path::absolute(&dir).unwrap_or(dir);
    file.models = dirs.into_iter().map(|dir| raw::Model { dir: absolute(dir) }).collect();
    let finds = |label: &String| {
        models
            .iter()
            .any(|m| m.manifest().reported_labels().contains(&label.as_str()))
    };
    file.rules.retain(|rule| rule.labels.iter().any(finds));
    if file.rules.is_empty() {
        return Err(Failure::new(
            Class::Config,
            "no rule of configs/first.toml is about what these models find; use `gridwatch detect` to see their detections",
        ));
    }
    file.evidence.min_interval = raw::Span(args.dwell.0.min(file.evidence.min_interval.0));
    for rule in &mut file.rules {
        rule.dwell = args.dwell;
        rule.unidentified_dwell = None;
        rule.forget_after = raw::Span(args.dwell.0.max(args.every.0 * 3));
        rule.max_gap = raw::Span(args.every.0 * 5);
        // A trial takes no second looks; the scores of the whole picture decide.
        rule.second_look = None;
    }
    for camera in &mut file.cameras {
        camera.id = trial::CAMERA.into();
        camera.look_every = args.every;
        camera.place = Some(place.clone());
    }
    let path = dir.path().join("gridwatch.toml");
    let text = toml::to_string(&file).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
    fs::write(&file.grid.file, starter::one_cell_grid(&place)).map_err(|e| unwritable(&file.grid.file, &e))?;
    fs::write(&path, text).map_err(|e| unwritable(&path, &e))?;
    Ok(config::load_offline(&path)?)
}

fn look_at_stream(
    args: &TryArgs,
    camera: &config::Camera,
    trial: &mut Trial,
    interrupted: &AtomicBool,
) -> Result<(), EndedEarly> {
    note(format_args!(
        "Looking at {} for {} …",
        starter::shown_url(&camera.url),
        args.duration
    ));
    let mut live = LiveCamera::start(camera, starter::shown_url(&camera.url), Backend::Auto)?;
    let mut after = Duration::ZERO;
    let mut start = None;
    loop {
        let Some(frame) = live.next_unless(interrupted, after)? else {
            return Err(EndedEarly::Interrupted);
        };
        after = args.every.0;
        let at = frame.captured_at;
        let elapsed = at.duration_since(*start.get_or_insert(at)).unsigned_abs();
        trial.look(frame, LookTime::Clock(at))?;
        if elapsed + after > args.duration.0 {
            return Ok(());
        }
    }
}

fn look_at_clip(args: &TryArgs, clip: &Path, trial: &mut Trial, interrupted: &AtomicBool) -> Result<(), EndedEarly> {
    // The judging needs times of day; a clip has none, and starts now.
    let start = Timestamp::now();
    let mut due = 0.0;
    for source in frames_of(clip).map_err(|e| e.in_file(clip))? {
        expect_no_interruption(interrupted)?;
        let mut source = source.map_err(|e| e.in_file(clip))?;
        let (_, seconds) = source.in_clip.unwrap_or_default();
        if seconds > args.duration.0.as_secs_f64() {
            break;
        }
        if seconds + 1e-6 >= due {
            due = seconds + args.every.0.as_secs_f64();
            source.frame.captured_at = start + ((seconds * 1000.0) as i64).milliseconds();
            trial.look(source.frame, LookTime::InClip(seconds))?;
        }
    }
    Ok(())
}

fn expect_no_interruption(interrupted: &AtomicBool) -> Result<(), EndedEarly> {
    match interrupted.load(Ordering::Relaxed) {
        true => Err(EndedEarly::Interrupted),
        false => Ok(()),
    }
}

fn look_at_pictures(files: &[PathBuf], trial: &mut Trial, interrupted: &AtomicBool) -> Result<(), EndedEarly> {
    for file in files {
        expect_no_interruption(interrupted)?;
        let frame = pictures::picture(file).map_err(|e| e.in_file(file))?;
        trial.search_only(
            frame,
            LookTime::File(file.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        )?;
    }
    Ok(())
}

fn summary(report: &Report, language: Language, page: &Path) -> String {
    let texts = Texts::of(language);
    let mut text = String::new();
    for line in texts.summary(report) {
        text += &line;
        text.push('\n');
    }
    text + &format!("{}: {}\n", texts.page, page.display())
}
