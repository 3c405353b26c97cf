//! Model versions: what is installed and live, uploads of packages, and the requests that `gridwatch model` makes, too.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use futures::StreamExt as _;
use gridwatch_base::{disk, error::Class, message};
use gridwatch_config::{
    Config,
    rollout::{Rollout, RolloutError, UsePlan, UseRequest},
};
use gridwatch_model::registry::{
    Event, ModelRequest, ModelState, OutcomeKind, RegistryError, RegistryState, RequestAction, Version, VersionOutcome,
    version_name,
};
use gridwatch_model::trial::TrialReport;
use gridwatch_web::Rejection;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt as _, task};

use crate::app::App;
use crate::{error::IntoRejection, error::OrReject as _};

/// Largest package in bytes: models for these boxes take 1 to 200 MB, and the registry takes 512 MiB at most.
pub(crate) const MAX_PACKAGE: u64 = 512 << 20;
/// Longest time for an upload with its test.
pub(crate) const INSTALL_TIME: Duration = Duration::from_mins(20);
/// An upload of which nothing arrives for this long has ended.
const STALL: Duration = Duration::from_secs(30);
/// Space on the disk that an upload leaves: cases need it more.
const RESERVE: u64 = 256 << 20;
/// Looks of a shadow run, at most; as for `gridwatch model shadow`.
pub(crate) const MAX_LOOKS: u32 = 1_000_000;

/// A configured model.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ModelAnswer {
    pub(crate) id: String,
    /// The version that is live on all cameras without a version of their own.
    pub(crate) live: Option<String>,
    /// The versions, the configuration's first.
    pub(crate) versions: Vec<VersionAnswer>,
    /// Requests that wait for the daemon, or are on trial.
    pub(crate) requests: Vec<RequestAnswer>,
    /// The shadow run that is requested or runs.
    pub(crate) shadow: Option<ShadowAnswer>,
    /// True if there is a version to return to, or a trial to cancel.
    pub(crate) can_roll_back: bool,
    /// Ids of the cameras that use the model.
    pub(crate) cameras: Vec<String>,
}

impl ModelAnswer {
    /// True while the daemon has something to answer.
    pub(crate) fn is_busy(&self) -> bool {
        !self.requests.is_empty() || self.shadow.is_some()
    }
}

/// A version of a model.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct VersionAnswer {
    pub(crate) version: String,
    /// True for the version of the configuration's folder.
    pub(crate) is_configured: bool,
    /// True if it is live on all cameras without a version of their own.
    pub(crate) is_live: bool,
    /// Cameras on which it is live alone.
    pub(crate) live_on: Vec<String>,
    /// When it was installed, RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) installed_at: Option<Timestamp>,
    /// The key that signed it, if signatures are required.
    pub(crate) signed_by: Option<String>,
    /// How its newest trial or shadow run ended.
    pub(crate) outcome: Option<OutcomeAnswer>,
}

/// How a trial or shadow run ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct OutcomeAnswer {
    /// RFC 3339.
    #[schemars(with = "String")]
    pub(crate) at: Timestamp,
    pub(crate) kind: Outcome,
    /// Why, in English.
    pub(crate) reason: String,
    pub(crate) report: Option<ReportAnswer>,
}

/// Kind of outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    WentLive,
    Refused,
    RolledBack,
    Shadowed,
}

/// What a trial or shadow run found.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ReportAnswer {
    pub(crate) looks: u32,
    /// Looks at which the new version failed.
    pub(crate) errors: u32,
    /// Median time of the new version in milliseconds.
    pub(crate) new_ms: f64,
    /// Median time of the live version in milliseconds.
    pub(crate) old_ms: f64,
    pub(crate) labels: Vec<LabelAnswer>,
}

/// Differences in one label.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct LabelAnswer {
    pub(crate) label: String,
    /// Objects that both found.
    pub(crate) both: u64,
    /// Objects that only the live version found.
    pub(crate) only_old: u64,
    /// Objects that only the new version found.
    pub(crate) only_new: u64,
    /// Mean of the new score minus the old one.
    pub(crate) score_difference: f64,
}

/// A request that waits or is on trial.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RequestAnswer {
    pub(crate) id: String,
    /// Absent: a rollback.
    pub(crate) version: Option<String>,
    /// Only this camera.
    pub(crate) camera: Option<String>,
    /// Since when it is on trial, RFC 3339.
    #[schemars(with = "Option<String>")]
    pub(crate) trial_since: Option<Timestamp>,
}

/// A shadow run.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ShadowAnswer {
    pub(crate) version: String,
    pub(crate) looks: u32,
}

impl From<&TrialReport> for ReportAnswer {
    fn from(report: &TrialReport) -> Self {
        let labels = report.differences.labels.iter();
        Self {
            looks: report.looks,
            errors: report.errors,
            new_ms: report.new_ms.median,
            old_ms: report.old_ms.median,
            labels: labels
                .map(|(label, of)| LabelAnswer {
                    label: label.clone(),
                    both: of.both,
                    only_old: of.only_old,
                    only_new: of.only_new,
                    score_difference: of.mean_score_difference,
                })
                .collect(),
        }
    }
}

impl From<&VersionOutcome> for OutcomeAnswer {
    fn from(outcome: &VersionOutcome) -> Self {
        Self {
            at: outcome.at,
            kind: match outcome.kind {
                OutcomeKind::WentLive => Outcome::WentLive,
                OutcomeKind::Refused => Outcome::Refused,
                OutcomeKind::RolledBack => Outcome::RolledBack,
                OutcomeKind::Shadowed => Outcome::Shadowed,
            },
            reason: outcome.reason.clone(),
            report: outcome.report.as_deref().map(ReportAnswer::from),
        }
    }
}

impl RequestAnswer {
    fn of(request: &ModelRequest, shipped: Option<&str>) -> Self {
        Self {
            id: request.id.clone(),
            version: match &request.action {
                RequestAction::Use { version, .. } => Some(named(version, shipped)),
                RequestAction::Rollback => None,
            },
            camera: request.camera.clone(),
            trial_since: request.trial_since,
        }
    }
}

/// A version in the journal by its name, also the configuration's if its folder can be read.
fn named(version: &Version, shipped: Option<&str>) -> String {
    let version = version.as_deref().or(shipped);
    version.unwrap_or(version_name(&None)).to_owned()
}

fn versions(shipped: Option<&str>, known: &ModelState) -> Vec<VersionAnswer> {
    let live_on = |version: &Option<String>| -> Vec<String> {
        let own = known.cameras.iter();
        let own = own.filter(|(_, stack)| stack.last().is_some_and(|live| live.version == *version));
        own.map(|(camera, _)| camera.clone()).collect()
    };
    let configured = VersionAnswer {
        version: named(&None, shipped),
        is_configured: true,
        is_live: known.live(None).is_none(),
        live_on: live_on(&None),
        installed_at: None,
        signed_by: None,
        outcome: known.outcomes.get(version_name(&None)).map(OutcomeAnswer::from),
    };
    let installed = known.installed.iter().map(|(version, installed)| {
        let name = Some(version.clone());
        VersionAnswer {
            is_configured: false,
            is_live: known.live(None) == name,
            live_on: live_on(&name),
            installed_at: Some(installed.at),
            signed_by: installed.signed_by.clone(),
            outcome: known.outcomes.get(version).map(OutcomeAnswer::from),
            version: version.clone(),
        }
    });
    std::iter::once(configured).chain(installed).collect()
}

fn answers(config: &Config, state: &RegistryState) -> Vec<ModelAnswer> {
    let models = config.model_versions(state).into_iter().enumerate();
    let answers = models.map(|(index, model)| ModelAnswer {
        id: model.id.to_owned(),
        live: model.live(),
        versions: versions(model.shipped.as_deref(), &model.known),
        requests: model
            .known
            .requests
            .iter()
            .map(|request| RequestAnswer::of(request, model.shipped.as_deref()))
            .collect(),
        shadow: model.known.shadow.as_ref().map(|shadow| ShadowAnswer {
            version: named(&shadow.version, model.shipped.as_deref()),
            looks: shadow.looks,
        }),
        can_roll_back: model.known.previous_version(None).is_some() || !model.known.requests.is_empty(),
        cameras: config
            .cameras
            .iter()
            .filter(|camera| camera.models.contains(&index))
            .map(|camera| camera.id.to_string())
            .collect(),
    });
    answers.collect()
}

/// The configured models with their versions.
pub(crate) async fn list(app: &Arc<App>) -> Result<Vec<ModelAnswer>, Rejection> {
    let config = app.config();
    super::scan(app, move || {
        let state = config.model_registry().state().or_reject()?;
        Ok(answers(&config, &state))
    })
    .await
}

/// Whether a daemon processes requests about models.
pub(crate) fn is_daemon_running(app: &App) -> bool {
    app.config().model_registry().is_daemon_running()
}

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Use(UseRequest),
    RollBack,
    Shadow { version: String, looks: u32 },
    StopShadow,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RequestedAnswer {
    /// Id of the request, by which the answer is found; absent if there is nothing to wait for.
    pub(crate) request: Option<String>,
    /// Labels that only the trial can prove.
    pub(crate) unproven: Vec<String>,
}

/// Asks the daemon for another version of a model: checks the request and appends it to the registry's journal, as `gridwatch model` does.
pub(crate) async fn request(
    app: &Arc<App>,
    id: String,
    camera: Option<String>,
    wanted: Wanted,
) -> Result<RequestedAnswer, Rejection> {
    if let Wanted::Shadow { looks, .. } = &wanted
        && !(1..=MAX_LOOKS).contains(looks)
    {
        return Err(Rejection::BadRequest(message!(
            "looks: use 1 to {most}",
            most = MAX_LOOKS
        )));
    }
    let config = app.config();
    // Reads and hashes networks of up to 200 MB.
    super::scan(app, move || {
        let rollout = Rollout::new(&config, &id, camera.as_deref()).or_reject()?;
        let request = ulid::Ulid::generate().to_string();
        let mut unproven = Vec::new();
        let event = match wanted {
            Wanted::Use(wanted) => match rollout.use_version(&wanted, request.clone()).or_reject()? {
                UsePlan::IsLive => None,
                UsePlan::Request {
                    event,
                    unproven: labels,
                } => {
                    unproven = labels.iter().map(ToString::to_string).collect();
                    Some(event)
                }
            },
            Wanted::RollBack => Some(rollout.roll_back(request.clone()).or_reject()?),
            Wanted::Shadow { version, looks } => Some(rollout.shadow(&version, looks, request.clone()).or_reject()?),
            Wanted::StopShadow => Some(rollout.stop_shadow().or_reject()?),
        };
        let is_awaited = !matches!(event, None | Some(Event::ShadowStop {}));
        if let Some(event) = event {
            let journal = rollout.registry().journal();
            let appended = journal.append(rollout.id(), Timestamp::now(), event);
            appended.map_err(|error| Rejection::internal(&error))?;
        }
        Ok(RequestedAnswer {
            request: is_awaited.then_some(request),
            unproven,
        })
    })
    .await
}

/// A version that was installed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct InstalledAnswer {
    pub(crate) id: String,
    pub(crate) version: String,
    /// SHA-256 of the network.
    pub(crate) sha256: String,
    /// The key that signed it, if signatures are required.
    pub(crate) signed_by: Option<String>,
    /// True if the same version was installed before.
    pub(crate) was_installed: bool,
    /// Test pictures; 0: nothing shows that it detects what it should.
    pub(crate) self_test: usize,
}

/// A model package as the body of a request: a `.tar` or `.tar.gz` of a model folder.
pub(crate) struct PackageBody;

impl JsonSchema for PackageBody {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Package".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "contentMediaType": "application/x-tar" })
    }
}

/// Query of an installation, for its size before the upload.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InstallQuery {
    /// Name of the package's file, for the audit log.
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// Receives a package into the state directory and installs it, as `gridwatch model install` does. Nothing of it is kept if it is refused, or
/// the sender goes.
pub(crate) async fn install(app: &Arc<App>, size: Option<u64>, body: Body) -> Result<InstalledAnswer, Rejection> {
    let place = Arc::clone(&app.system.uploads).try_acquire_owned();
    let place = place.map_err(|_| Rejection::Unavailable(message!("another package is being installed")))?;
    if size.is_some_and(|size| size > MAX_PACKAGE) {
        return Err(Rejection::TooLarge);
    }
    let folder = app.state_dir.join("console");
    // Packed and unpacked.
    let room = room(app)?.min(2 * MAX_PACKAGE) / 2;
    if size.is_some_and(|size| size > room) {
        return Err(no_space());
    }
    let io = |error: std::io::Error| Rejection::internal(&error);
    disk::create_private_dir(&folder).map_err(io)?;
    // Deleted when it is dropped, also if this future is: the sender has gone, or it took too long.
    let file = tempfile::Builder::new()
        .prefix("upload-")
        .tempfile_in(&folder)
        .map_err(io)?;
    let mut out = tokio::fs::File::from_std(file.reopen().map_err(io)?);
    let (mut received, mut stream) = (0_u64, body.into_data_stream());
    loop {
        let next = tokio::time::timeout(STALL, stream.next()).await;
        let Some(chunk) = next.map_err(|_| Rejection::TimedOut)? else {
            break;
        };
        let chunk = chunk.map_err(|error| {
            Rejection::BadRequest(message!("the upload ended early: {error}", error = error.to_string()))
        })?;
        received += chunk.len() as u64;
        if received > MAX_PACKAGE {
            return Err(Rejection::TooLarge);
        }
        if received > room {
            return Err(no_space());
        }
        out.write_all(&chunk).await.map_err(io)?;
    }
    out.flush().await.map_err(io)?;
    drop(out);
    if received == 0 {
        return Err(Rejection::BadRequest(message!("the package is empty")));
    }
    let (app, config) = (Arc::clone(app), app.config());
    let done = task::spawn_blocking(move || {
        let _place = place;
        let registry = config.model_registry();
        let installed = registry.install(file.path(), |model| {
            config.expect_installable(model)?;
            app.daemon.test_model(model)
        });
        let installed = installed.map_err(|error| without_path(error, file.path()))?;
        let manifest = installed.model.manifest();
        Ok(InstalledAnswer {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            sha256: manifest.sha256.clone(),
            signed_by: installed.signed_by.map(|key| key.to_string()),
            was_installed: installed.was_installed,
            self_test: manifest.self_test.len(),
        })
    });
    done.await.map_err(|error| Rejection::internal(&error))?
}

/// Bytes that an upload may take of the disk.
fn room(app: &App) -> Result<u64, Rejection> {
    let usage = gridwatch_support::disk::free(&app.state_dir);
    let free = usage.ok_or_else(|| Rejection::Unavailable(message!("the disk does not tell its free space")))?;
    Ok(free.saturating_sub(RESERVE))
}

fn no_space() -> Rejection {
    Rejection::Unavailable(message!(
        "there is not enough disk space for the package; free some first"
    ))
}

/// The reason of a refusal, with the uploaded file and its unpacked folder by the name "package".
fn without_path(error: RegistryError, file: &std::path::Path) -> Rejection {
    match error.class() {
        Class::Transient | Class::Bug => Rejection::internal(&error),
        Class::Config | Class::Data => {
            let mut text = error.to_string().replace(&file.display().to_string(), "package");
            // The staging folder is gone already; its name says nothing.
            while let Some(at) = text.find("/.installing-") {
                let start = text[..at].rfind(char::is_whitespace).map_or(0, |space| space + 1);
                let end = text[at + 1..]
                    .find(['/', ':', ' '])
                    .map_or(text.len(), |end| at + 1 + end);
                text.replace_range(start..end, "package");
            }
            Rejection::Conflict(text.into())
        }
    }
}

impl IntoRejection for RolloutError {
    fn into_rejection(self) -> Rejection {
        match self.class() {
            Class::Transient | Class::Bug => Rejection::internal(&self),
            Class::Config | Class::Data => Rejection::Conflict(self.to_string().into()),
        }
    }
}

impl IntoRejection for RegistryError {
    fn into_rejection(self) -> Rejection {
        RolloutError::from(self).into_rejection()
    }
}
