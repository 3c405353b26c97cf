//! `gridwatch model use`, `rollback` and `shadow`: send a request to the daemon and wait for its outcome.

use std::{
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{ModelRef, list, model_ref};
use crate::{
    audit::Act,
    cli::{Failure, json_line, print, terminal::note},
};
use gridwatch_base::error::Class;
use gridwatch_config::{
    Config,
    rollout::{Rollout, UsePlan, UseRequest},
};
use gridwatch_engine::Label;
use gridwatch_model::registry::{Entry, Event, Journal, Registry, version_name};

/// Switch to a model version after a trial.
///
/// For `registry.trial_looks` looks, the new and the live version run on the same pictures. The new one is rejected if it fails, is
/// too slow, or does not find a label that rules use where the live one does, at the rules' scores; otherwise it goes live between
/// two looks. If the live version found a label too rarely to tell, and the new version's self-test does not show it either, the new
/// version is rejected unless --force is given. A running daemon starts the trial now and the command waits for the outcome; without
/// a daemon it happens at the next start.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model use garbage_nano_416@1.2.0
  gridwatch model use garbage_nano_416@1.2.0 --camera gate     for this camera only
  gridwatch model use garbage_nano_416@1.0.0 --now             goes live at once; the trial runs alongside
  gridwatch model use garbage_nano_416@1.2.0 --force           accept that a quiet street proves too little

Exit codes: 0 the version is live (with --no-wait: requested); 1 it was rejected or rolled back, with the
reason; 4 no outcome yet (the trial goes on without the command).")]
pub(super) struct UseArgs {
    /// Version to use, from the registry or the configuration.
    #[arg(value_name = "ID@VERSION", value_parser = model_ref)]
    model: ModelRef,
    /// Only for this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    /// Activate immediately; the trial runs alongside and rolls back on failure.
    #[arg(long)]
    now: bool,
    /// Activate it even if the looks are too few to tell whether it finds every label, or if it has no self-test and the live version
    /// has one. A version that fails, is too slow or misses what the live one finds is still rejected.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: WaitArgs,
}

/// Return to the previous version of a model at once.
///
/// The version before the first `use` is the folder that the configuration names. If a trial is running, it is cancelled instead.
/// With --camera, the camera returns to the version that all other cameras use.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model rollback garbage_nano_416
  gridwatch model rollback garbage_nano_416 --camera gate")]
pub(super) struct RollbackArgs {
    /// Model id.
    #[arg(value_name = "ID")]
    id: String,
    /// Only for this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    #[command(flatten)]
    waiting: WaitArgs,
}

/// Run a version alongside the live one without using its results, and report where they differ.
///
/// The report appears in `gridwatch model list`, and in full with --json: for each label what both found and what only one found,
/// and the largest differences with camera and time.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model shadow garbage_nano_416@1.2.0 --looks 5000 --no-wait
  gridwatch model shadow garbage_nano_416 --stop")]
pub(super) struct ShadowArgs {
    /// Version to run; with --stop the id is enough.
    #[arg(value_name = "ID@VERSION")]
    model: String,
    /// Only for this camera.
    #[arg(long, value_name = "CAMERA")]
    camera: Option<String>,
    /// Number of looks, over all its cameras.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    looks: u32,
    /// Stop the running shadow.
    #[arg(long)]
    stop: bool,
    #[command(flatten)]
    waiting: WaitArgs,
}

/// Options of the commands that wait for the daemon.
#[derive(Debug, clap::Args)]
struct WaitArgs {
    /// Only send the request; `gridwatch model list` shows its outcome.
    #[arg(long)]
    no_wait: bool,
    /// Seconds to wait for the outcome.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, conflicts_with = "no_wait")]
    wait: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl UseArgs {
    pub(super) fn act(&self) -> Act {
        Act::new("model use")
            .with("model", format!("{}@{}", self.model.id, self.model.version))
            .with_some("camera", self.camera.as_ref())
            .with("now", self.now)
            .with("force", self.force)
    }
}

impl RollbackArgs {
    pub(super) fn act(&self) -> Act {
        Act::new("model rollback")
            .with("model", &self.id)
            .with_some("camera", self.camera.as_ref())
    }
}

impl ShadowArgs {
    pub(super) fn act(&self) -> Act {
        Act::new("model shadow")
            .with("model", &self.model)
            .with_some("camera", self.camera.as_ref())
            .with("stop", self.stop)
    }
}

pub(super) fn use_version(args: &UseArgs, config: &Config) -> Result<ExitCode, Failure> {
    let rollout = Rollout::new(config, &args.model.id, args.camera.as_deref())?;
    let wanted = UseRequest {
        version: args.model.version.clone(),
        now: args.now,
        force: args.force,
    };
    let request = new_request();
    match rollout.use_version(&wanted, request.clone())? {
        UsePlan::IsLive => {
            let outcome = ChangeOutcome {
                id: rollout.id(),
                version: Some(&args.model.version),
                outcome: "live",
                reason: Some("already live"),
                entry: None,
            };
            outcome.print(args.waiting.json, ExitCode::SUCCESS)
        }
        UsePlan::Request { event, unproven } => {
            if !unproven.is_empty() {
                let names: Vec<&str> = unproven.iter().map(Label::as_str).collect();
                note(format_args!(
                    "Not in its self-test at the rules' scores: {}. The trial has to prove them; if they are too rare in front of these \
                     cameras, it is rejected unless --force is given.",
                    names.join(", ")
                ));
            }
            Sent::new(&rollout, request).send(event, &args.waiting)
        }
    }
}

pub(super) fn roll_back(args: &RollbackArgs, config: &Config) -> Result<ExitCode, Failure> {
    let rollout = Rollout::new(config, &args.id, args.camera.as_deref())?;
    let request = new_request();
    let event = rollout.roll_back(request.clone())?;
    Sent::new(&rollout, request).send(event, &args.waiting)
}

pub(super) fn shadow(args: &ShadowArgs, config: &Config) -> Result<ExitCode, Failure> {
    if args.stop {
        let id = args.model.split('@').next().unwrap_or_default();
        let rollout = Rollout::new(config, id, None)?;
        let event = rollout.stop_shadow()?;
        append(&rollout.registry().journal(), rollout.id(), event)?;
        note(format_args!("Stop requested; `gridwatch model list` shows the report."));
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = model_ref(&args.model).map_err(|e| Failure::new(Class::Config, format!("{:?}: {e}", args.model)))?;
    let rollout = Rollout::new(config, &wanted.id, args.camera.as_deref())?;
    let request = new_request();
    let event = rollout.shadow(&wanted.version, args.looks, request.clone())?;
    Sent::new(&rollout, request).send(event, &args.waiting)
}

fn new_request() -> String {
    ulid::Ulid::generate().to_string()
}

/// A request to the daemon, and its answer.
struct Sent<'a> {
    registry: &'a Registry,
    /// Id of the model.
    id: &'a str,
    request: String,
}

impl<'a> Sent<'a> {
    fn new(rollout: &'a Rollout<'_>, request: String) -> Self {
        Self {
            registry: rollout.registry(),
            id: rollout.id(),
            request,
        }
    }

    fn send(&self, event: Event, waiting: &WaitArgs) -> Result<ExitCode, Failure> {
        let journal = self.registry.journal();
        let is_watched = self.registry.is_daemon_running();
        append(&journal, self.id, event)?;
        if waiting.no_wait || !is_watched {
            let reason = if is_watched {
                "`gridwatch model list` shows its outcome"
            } else {
                "no daemon runs on this state directory; it takes effect at the next start"
            };
            let outcome = ChangeOutcome {
                id: self.id,
                version: None,
                outcome: "asked",
                reason: Some(reason),
                entry: None,
            };
            return outcome.print(waiting.json, ExitCode::SUCCESS);
        }
        self.wait(&journal, waiting)
    }

    /// Polls the journal until the request is answered.
    fn wait(&self, journal: &Journal, waiting: &WaitArgs) -> Result<ExitCode, Failure> {
        let (registry, request) = (self.registry, self.request.as_str());
        const POLL: Duration = Duration::from_millis(200);
        let until = Instant::now() + Duration::from_secs(waiting.wait);
        let mut is_on_trial = false;
        loop {
            let contents = journal.read().map_err(|e| unreadable(journal, &e))?;
            let of_model = || contents.entries.iter().filter(|e| e.model == self.id);
            if let Some(entry) = of_model().find(|e| e.event.answered_request() == Some(request)) {
                return self.answered(entry, waiting.json);
            }
            let begun = |e: &&Entry| matches!(&e.event, Event::TrialBegun { request: of, .. } if of == request);
            if let (false, Some(entry)) = (is_on_trial, of_model().find(begun)) {
                is_on_trial = true;
                if let Event::TrialBegun { version, looks, .. } = &entry.event {
                    note(format_args!(
                        "{}@{} on trial alongside the live version for {looks} looks …",
                        self.id,
                        version_name(version)
                    ));
                }
            }
            let is_wanted = registry.state()?.model(self.id);
            let is_wanted =
                is_wanted.requests.iter().any(|r| r.id == request) || is_wanted.shadow.is_some_and(|s| s.id == request);
            if !is_wanted && !is_on_trial {
                return Err(Failure::new(
                    Class::Data,
                    "superseded by another request for the same cameras",
                ));
            }
            if !registry.is_daemon_running() {
                let message = "the daemon has stopped; the request takes effect at its next start";
                return Err(Failure::new(Class::Transient, message));
            }
            if Instant::now() > until {
                let progress = if is_on_trial {
                    "its trial goes on without this command; it takes long if cameras are dark, offline or rarely looked at"
                } else {
                    "the daemon has not processed it yet; see its log"
                };
                return Err(Failure::new(
                    Class::Transient,
                    format!(
                        "no outcome after {} s: {progress}. `gridwatch model list` shows its outcome",
                        waiting.wait
                    ),
                ));
            }
            thread::sleep(POLL);
        }
    }

    fn answered(&self, entry: &Entry, json: bool) -> Result<ExitCode, Failure> {
        let (outcome, version, reason, code) = match &entry.event {
            Event::WentLive { version, .. } => ("live", version, None, ExitCode::SUCCESS),
            Event::Refused { version, reason, .. } => ("refused", version, Some(reason.as_str()), ExitCode::from(1)),
            // The expected outcome of a requested rollback, but a failure if a new version was requested (it has a trial report).
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
            other => return Err(Failure::new(Class::Bug, format!("{other:?} answers no request"))),
        };
        let outcome = ChangeOutcome {
            id: self.id,
            version: Some(version_name(version)),
            outcome,
            reason,
            entry: Some(entry),
        };
        outcome.print(json, code)
    }
}

/// The outcome of a request, as printed.
#[derive(Serialize)]
struct ChangeOutcome<'a> {
    id: &'a str,
    version: Option<&'a str>,
    outcome: &'a str,
    reason: Option<&'a str>,
    /// The journal entry, with the trial's report.
    entry: Option<&'a Entry>,
}

impl ChangeOutcome<'_> {
    fn print(&self, is_json: bool, code: ExitCode) -> Result<ExitCode, Failure> {
        if is_json {
            print(&json_line(self)?)?;
            return Ok(code);
        }
        let version = self.version.map(|v| format!("@{v}")).unwrap_or_default();
        let reason = self.reason.map(|r| format!(": {r}")).unwrap_or_default();
        let outcome = match self.outcome {
            "live" => "is live",
            "refused" => "rejected, the live version stays",
            "rolled_back" => "is live again",
            "shadow_ended" => "shadow run ended",
            _ => "requested",
        };
        let mut text = format!("{}{version} {outcome}{reason}\n", self.id);
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
