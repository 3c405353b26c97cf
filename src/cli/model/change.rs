//! `gridwatch model use`, `rollback` and `shadow`: what asks something of the daemon, and waits for what becomes of it.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{Named, json, known, list, named, registry};
use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_config::Config;
use gridwatch_engine::Label;
use gridwatch_model::{
    Model,
    registry::{Entry, Event, Journal, Registry, Version, name},
};

/// Have a version look, after a trial beside the one that does.
///
/// For `registry.trial_looks` looks both see the same pictures. The new one is refused if it fails, finds nothing of what the running
/// one finds, or is too slow; else it takes over between two looks. A running daemon does that now, and the command waits for the
/// outcome; without one it is done at the next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model use garbage_nano_416@1.2.0
  gridwatch model use garbage_nano_416@1.2.0 --camera gate     for that camera alone
  gridwatch model use garbage_nano_416@1.0.0 --now             decides at once; the running one looks on beside it

Exit codes: 0 it looks, or with --no-wait it was asked; 1 it was refused or taken back, the reason is said; 4 the daemon has not
answered yet: the trial goes on without the command.")]
pub(super) struct UseArgs {
    /// Which: of the registry, or the configuration's own.
    #[arg(value_name = "ID@VERSION", value_parser = named)]
    which: Named,
    /// Only at this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    /// It decides from its first look; what goes wrong takes it back.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// Go back to the version before, at once.
///
/// In the end that is the folder that the configuration names. A trial under way is called off instead. A camera with a version of
/// its own goes back to what looks everywhere else.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    /// The model.
    #[arg(value_name = "ID")]
    id: String,
    /// Only at this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    #[command(flatten)]
    waiting: Waiting,
}

/// Run a version beside the one that looks, without ever deciding, and say where they differ.
///
/// The report is in `gridwatch model list` afterwards, and with --json in full: by label what both found and what only one did,
/// and the worst differences with their camera and time.
#[derive(Debug, clap::Args)]
pub(super) struct ShadowArgs {
    /// Which; with --stop the id alone will do.
    #[arg(value_name = "ID@VERSION")]
    which: String,
    /// Only at this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    /// For so many looks of all its cameras together.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    looks: u32,
    /// End the one that runs.
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    waiting: Waiting,
}

#[derive(Debug, clap::Args)]
struct Waiting {
    /// Only ask; `gridwatch model list` shows what becomes of it.
    #[arg(long)]
    no_wait: bool,
    /// Wait this long for the outcome, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, conflicts_with = "no_wait")]
    wait: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn use_version(args: &UseArgs, config: &Config) -> Result<ExitCode, Failure> {
    let (asked, registry) = (
        Asked::new(config, &args.which.id, args.camera.as_deref())?,
        registry(config),
    );
    let (version, new) = asked.version(&registry, &args.which)?;
    let known = registry.state()?.known(&args.which.id);
    let is_live = known.live(args.camera.as_deref()) == version
        && args.camera.as_ref().is_none_or(|camera| known.has_own(camera));
    if is_live && known.wishes.is_empty() {
        let done = Outcome {
            id: asked.id,
            version: Some(&args.which.version),
            outcome: "live",
            reason: Some("it looked already"),
            entry: None,
        };
        return done.tell(args.waiting.json, ExitCode::SUCCESS);
    }
    asked.refuse_what_rules_need(&registry, &new, args.camera.as_deref())?;
    let event = |wish| Event::Use {
        wish,
        version,
        camera: args.camera.clone(),
        now: args.now,
    };
    asked.ask(&registry, event, &args.waiting)
}

pub(super) fn roll_back(args: &RollbackArgs, config: &Config) -> Result<ExitCode, Failure> {
    let asked = Asked::new(config, &args.id, args.camera.as_deref())?;
    let registry = registry(config);
    let known = registry.state()?.known(&args.id);
    if known.before(args.camera.as_deref()).is_none() && known.wishes.is_empty() {
        return Err(Failure::new(
            Class::Config,
            format!(
                "{}: there is no version to go back to: the configuration's looks there",
                args.id
            ),
        ));
    }
    let event = |wish| Event::Rollback {
        wish,
        camera: args.camera.clone(),
    };
    asked.ask(&registry, event, &args.waiting)
}

pub(super) fn shadow(args: &ShadowArgs, config: &Config) -> Result<ExitCode, Failure> {
    let registry = registry(config);
    if args.stop {
        let id = args.which.split('@').next().unwrap_or_default();
        let asked = Asked::new(config, id, None)?;
        if registry.state()?.known(id).shadow.is_none() {
            return Err(Failure::new(Class::Config, format!("{id}: nothing runs in its shadow")));
        }
        append(&registry.journal(), asked.id, Event::ShadowStop {})?;
        eprintln!("It was asked to stop; gridwatch model list shows what it saw.");
        return Ok(ExitCode::SUCCESS);
    }
    let typed = named(&args.which).map_err(|e| Failure::new(Class::Config, format!("{:?}: {e}", args.which)))?;
    let asked = Asked::new(config, &typed.id, args.camera.as_deref())?;
    let (version, _) = asked.version(&registry, &typed)?;
    let event = |wish| Event::Shadow {
        wish,
        version,
        camera: args.camera.clone(),
        looks: args.looks,
    };
    asked.ask(&registry, event, &args.waiting)
}

/// What is asked is about a model of the configuration, and a camera that looks with it.
struct Asked<'a> {
    config: &'a Config,
    model: usize,
    id: &'a str,
}

impl<'a> Asked<'a> {
    fn new(config: &'a Config, id: &str, camera: Option<&str>) -> Result<Self, Failure> {
        let found = known(config, id)?;
        let model = config.models.iter().position(|m| m.id == found.id).unwrap_or_default();
        let looks = |c: &&gridwatch_config::Camera| c.models.contains(&model);
        if let Some(camera) = camera
            && !config.cameras.iter().filter(looks).any(|c| c.id.as_str() == camera)
        {
            let ids: Vec<&str> = config.cameras.iter().filter(looks).map(|c| c.id.as_str()).collect();
            let message = format!(
                "no camera {camera:?} looks with {id}; those that do: {}",
                ids.join(", ")
            );
            return Err(Failure::new(Class::Config, message));
        }
        Ok(Self {
            config,
            model,
            id: &found.id,
        })
    }

    /// The version as the journal has it, and the model; the configuration's own has no version there.
    fn version(&self, registry: &Registry, typed: &Named) -> Result<(Version, Model), Failure> {
        let shipped = Model::load(&self.config.models[self.model].dir)?;
        if shipped.manifest().version == typed.version {
            return Ok((None, shipped));
        }
        let model = registry.load(&typed.id, &typed.version)?;
        Ok((Some(typed.version.clone()), model))
    }

    /// The daemon judges that, too; here it is told before anything is asked.
    fn refuse_what_rules_need(&self, registry: &Registry, new: &Model, camera: Option<&str>) -> Result<(), Failure> {
        let known = registry.state()?.known(self.id);
        let old = match known.live(camera) {
            Some(version) => registry.load(self.id, &version)?,
            None => Model::load(&self.config.models[self.model].dir)?,
        };
        let labels = |model: &Model| -> Vec<Label> { model.manifest().engine_labels() };
        let others: Vec<Vec<Label>> = self
            .config
            .models
            .iter()
            .map(|m| Model::load(&m.dir).map(|m| labels(&m)).unwrap_or_default())
            .collect();
        let cameras = self
            .config
            .cameras
            .iter()
            .filter(|c| camera.map_or(!known.has_own(c.id.as_str()), |only| c.id.as_str() == only));
        let lacking = self
            .config
            .lacking(self.model, cameras, (&labels(&old), &labels(new)), &|other| {
                others[other].clone()
            });
        if lacking.is_empty() {
            return Ok(());
        }
        let manifest = new.manifest();
        Err(Failure::new(
            Class::Data,
            format!(
                "{}@{} is refused: {}",
                manifest.id,
                manifest.version,
                lacking.join("; ")
            ),
        ))
    }

    fn ask(
        &self,
        registry: &Registry,
        event: impl FnOnce(String) -> Event,
        waiting: &Waiting,
    ) -> Result<ExitCode, Failure> {
        let wish = ulid::Ulid::generate().to_string();
        let journal = registry.journal();
        let is_watched = registry.is_watched();
        append(&journal, self.id, event(wish.clone()))?;
        if waiting.no_wait || !is_watched {
            let reason = if is_watched {
                "gridwatch model list shows what becomes of it"
            } else {
                "no daemon runs on this state directory: it is done at its next start"
            };
            let asked = Outcome {
                id: self.id,
                version: None,
                outcome: "asked",
                reason: Some(reason),
                entry: None,
            };
            return asked.tell(waiting.json, ExitCode::SUCCESS);
        }
        self.wait(registry, &journal, &wish, waiting)
    }

    /// Reads on in the journal until the wish is answered.
    fn wait(&self, registry: &Registry, journal: &Journal, wish: &str, waiting: &Waiting) -> Result<ExitCode, Failure> {
        const EVERY: Duration = Duration::from_millis(200);
        let until = Instant::now() + Duration::from_secs(waiting.wait);
        let mut is_on_trial = false;
        loop {
            let told = journal.read().map_err(|e| unreadable(journal, &e))?;
            let of_model = || told.entries.iter().filter(|e| e.model == self.id);
            if let Some(entry) = of_model().find(|e| e.event.answers() == Some(wish)) {
                return self.answered(entry, waiting.json);
            }
            let begun = |e: &&Entry| matches!(&e.event, Event::TrialBegun { wish: of, .. } if of == wish);
            if let (false, Some(entry)) = (is_on_trial, of_model().find(begun)) {
                is_on_trial = true;
                if let Event::TrialBegun { version, looks, .. } = &entry.event {
                    eprintln!(
                        "{}@{} runs beside the one that looks, for {looks} looks …",
                        self.id,
                        name(version)
                    );
                }
            }
            let is_wanted = registry.state()?.known(self.id);
            let is_wanted =
                is_wanted.wishes.iter().any(|w| w.id == wish) || is_wanted.shadow.is_some_and(|s| s.id == wish);
            if !is_wanted && !is_on_trial {
                return Err(Failure::new(
                    Class::Data,
                    "another wish for the same cameras took its place",
                ));
            }
            if !registry.is_watched() {
                let message = "the daemon has stopped; it is done at its next start";
                return Err(Failure::new(Class::Transient, message));
            }
            if Instant::now() > until {
                let what = if is_on_trial {
                    "its trial goes on without this command: cameras that are dark, away or looked at seldom take long"
                } else {
                    "the daemon has not taken it up yet; see its log"
                };
                return Err(Failure::new(
                    Class::Transient,
                    format!(
                        "no outcome after {} s: {what}. gridwatch model list shows what becomes of it",
                        waiting.wait
                    ),
                ));
            }
            thread::sleep(EVERY);
        }
    }

    fn answered(&self, entry: &Entry, json: bool) -> Result<ExitCode, Failure> {
        let (outcome, version, reason, code) = match &entry.event {
            Event::WentLive { version, .. } => ("live", version, None, ExitCode::SUCCESS),
            Event::Refused { version, reason, .. } => ("refused", version, Some(reason.as_str()), ExitCode::from(1)),
            // Whoever asked for it has it; where a new version was asked for, that is a refusal.
            Event::RolledBack { to, reason, report, .. } => {
                let code = if report.is_some() {
                    ExitCode::from(1)
                } else {
                    ExitCode::SUCCESS
                };
                ("rolled_back", to, Some(reason.as_str()), code)
            }
            Event::ShadowEnded { version, cut_short, .. } => {
                ("shadow_ended", version, cut_short.as_deref(), ExitCode::SUCCESS)
            }
            other => return Err(Failure::new(Class::Bug, format!("{other:?} answers nothing"))),
        };
        let done = Outcome {
            id: self.id,
            version: Some(name(version)),
            outcome,
            reason,
            entry: Some(entry),
        };
        done.tell(json, code)
    }
}

/// What became of it.
#[derive(Serialize)]
struct Outcome<'a> {
    id: &'a str,
    version: Option<&'a str>,
    outcome: &'a str,
    reason: Option<&'a str>,
    /// The journal's line, with what the trial saw.
    entry: Option<&'a Entry>,
}

impl Outcome<'_> {
    fn tell(&self, is_json: bool, code: ExitCode) -> Result<ExitCode, Failure> {
        if is_json {
            print(&json(self)?)?;
            return Ok(code);
        }
        let version = self.version.map(|v| format!("@{v}")).unwrap_or_default();
        let reason = self.reason.map(|r| format!(": {r}")).unwrap_or_default();
        let what = match self.outcome {
            "live" => "looks now",
            "refused" => "is refused, and what looked goes on",
            "rolled_back" => "looks again",
            "shadow_ended" => "has run in the shadow",
            _ => "was asked for",
        };
        let mut text = format!("{}{version} {what}{reason}\n", self.id);
        let report = self.entry.and_then(|e| match &e.event {
            Event::WentLive { report, .. } | Event::Refused { report, .. } | Event::RolledBack { report, .. } => {
                report.as_deref()
            }
            Event::ShadowEnded { report, .. } => Some(&**report),
            _ => None,
        });
        for line in report.map(list::differences).unwrap_or_default() {
            text += &format!("  {line}\n");
        }
        print(&text)?;
        Ok(code)
    }
}

fn append(journal: &Journal, id: &str, event: Event) -> Result<(), Failure> {
    journal
        .append(id, Timestamp::now(), event)
        .map_err(|e| unreadable(journal, &e))
}

fn unreadable(journal: &Journal, error: &std::io::Error) -> Failure {
    Failure::new(Class::Transient, format!("{}: {error}", journal.path().display()))
}
