//! Model versions: what is live, trials and shadow runs with their reports, and changes.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{
        Path, State,
        rejection::{FormRejection, PathRejection},
    },
    response::Response,
};
use gridwatch_config::rollout::UseRequest;
use gridwatch_web::{Access, Actor, Rejection, Role, form, i18n::Phrase};
use serde::Deserialize;

use super::{PartLink, parts, size};
use crate::{
    app::{App, Routes},
    page::Page,
    system::{
        api, expect_whole_box,
        models::{self, MAX_PACKAGE, ModelAnswer, Outcome, ReportAnswer, VersionAnswer, Wanted},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes
        .get("/system/models", operator, show)
        .get("/system/models/{id}/status", operator, status)
        .post("/system/models/{id}/use", operator, "model use", use_version)
        .post("/system/models/{id}/rollback", operator, "model rollback", roll_back)
        .post("/system/models/{id}/shadow", operator, "model shadow", shadow)
        .post("/system/models/{id}/shadow/stop", operator, "model shadow", stop_shadow)
}

struct ReportView {
    summary: String,
    labels: Vec<LabelRow>,
}

struct LabelRow {
    label: String,
    both: u64,
    only_old: u64,
    only_new: u64,
    difference: String,
}

impl ReportView {
    fn of(page: &Page, report: &ReportAnswer) -> Self {
        let ms = |ms: f64| format!("{ms:.1}");
        let summary = page.t.system.report_looks.with("looks", report.looks);
        let summary = summary.with("errors", report.errors).with("new", ms(report.new_ms));
        let labels = report.labels.iter().map(|of| LabelRow {
            label: page.label(&of.label.as_str().into()),
            both: of.both,
            only_old: of.only_old,
            only_new: of.only_new,
            difference: format!("{:+.2}", of.score_difference),
        });
        Self {
            summary: summary.with("old", ms(report.old_ms)).to_string(),
            labels: labels.collect(),
        }
    }
}

struct VersionRow {
    version: String,
    is_configured: bool,
    live: Vec<String>,
    installed: String,
    signed_by: String,
    outcome: Option<OutcomeView>,
}

struct OutcomeView {
    at: String,
    kind: Phrase,
    reason: String,
    report: Option<ReportView>,
}

impl VersionRow {
    fn of(page: &Page, version: &VersionAnswer) -> Self {
        let t = &page.t.system;
        let everywhere = version.is_live.then(|| t.live_here.to_string());
        let alone = version.live_on.iter();
        let alone = alone.map(|camera| t.live_on.with("camera", camera).to_string());
        Self {
            version: version.version.clone(),
            is_configured: version.is_configured,
            live: everywhere.into_iter().chain(alone).collect(),
            installed: version.installed_at.map(|at| page.time(at)).unwrap_or_default(),
            signed_by: version.signed_by.clone().unwrap_or_default(),
            outcome: version.outcome.as_ref().map(|outcome| OutcomeView {
                at: page.time(outcome.at),
                kind: match outcome.kind {
                    Outcome::WentLive => t.went_live,
                    Outcome::Refused => t.refused,
                    Outcome::RolledBack => t.rolled_back,
                    Outcome::Shadowed => t.shadowed,
                },
                reason: outcome.reason.clone(),
                report: outcome.report.as_ref().map(|report| ReportView::of(page, report)),
            }),
        }
    }
}

/// The part of a model that changes while the daemon works.
#[derive(Template)]
#[template(path = "system_model_status.html")]
struct StatusTemplate<'a> {
    page: &'a Page,
    id: &'a str,
    /// The daemon has something to answer: the part is asked for again.
    is_busy: bool,
    versions: Vec<VersionRow>,
    notes: Vec<String>,
}

impl<'a> StatusTemplate<'a> {
    fn of(page: &'a Page, model: &'a ModelAnswer) -> Self {
        let t = &page.t.system;
        let requests = model
            .requests
            .iter()
            .map(|request| match (&request.version, request.trial_since) {
                (Some(version), Some(at)) => {
                    let on_trial = t.on_trial.with("version", version);
                    on_trial.with("time", page.time(at)).to_string()
                }
                (version, _) => {
                    let what = version.clone().unwrap_or_else(|| t.rollback_pending.to_string());
                    let what = match &request.camera {
                        Some(camera) => format!("{what} ({camera})"),
                        None => what,
                    };
                    format!("{what}: {}", t.pending)
                }
            });
        let shadow = model.shadow.iter().map(|shadow| {
            let running = t.in_shadow.with("version", &shadow.version);
            running.with("looks", shadow.looks).to_string()
        });
        Self {
            page,
            id: &model.id,
            is_busy: model.is_busy(),
            versions: model
                .versions
                .iter()
                .map(|version| VersionRow::of(page, version))
                .collect(),
            notes: requests.chain(shadow).collect(),
        }
    }
}

struct ModelView<'a> {
    model: &'a ModelAnswer,
    status: StatusTemplate<'a>,
}

#[derive(Template)]
#[template(path = "system_models.html")]
struct ModelsTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
    models: Vec<ModelView<'a>>,
    has_daemon: bool,
    install_hint: String,
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let found = models::list(&app).await?;
    let template = ModelsTemplate {
        parts: parts(&app, &page),
        models: found
            .iter()
            .map(|model| ModelView {
                model,
                status: StatusTemplate::of(&page, model),
            })
            .collect(),
        has_daemon: models::is_daemon_running(&app),
        install_hint: page.t.system.install_hint.with("size", size(MAX_PACKAGE)).to_string(),
        page: &page,
    };
    page.show(&template)
}

async fn status(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let Path(id) = path?;
    let found = models::list(&app).await?;
    let model = found.iter().find(|model| model.id == id).ok_or(Rejection::NotFound)?;
    page.show(&StatusTemplate::of(&page, model))
}

/// The form of a model: each of its buttons sends all of it.
#[derive(Deserialize)]
struct ChangeForm {
    #[serde(default)]
    version: String,
    #[serde(default)]
    camera: Option<String>,
    #[serde(default)]
    looks: String,
    #[serde(default)]
    now: Option<String>,
    #[serde(default)]
    force: Option<String>,
}

type Change = Result<Form<ChangeForm>, FormRejection>;

async fn change(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    id: String,
    camera: Option<String>,
    wanted: Wanted,
) -> Response {
    let (details, answer) = api::request(app, actor, id, form::given(camera), wanted).await;
    match answer {
        Ok(_) => details.on(page.redirect("/system/models")),
        Err(rejection) => details.on(rejection),
    }
}

async fn use_version(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Change,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    let wanted = Wanted::Use(UseRequest {
        version: form.version,
        now: form.now.is_some(),
        force: form.force.is_some(),
    });
    Ok(change(&app, &actor, &page, id, form.camera, wanted).await)
}

async fn roll_back(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Change,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    Ok(change(&app, &actor, &page, id, form.camera, Wanted::RollBack).await)
}

async fn shadow(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Change,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    let looks = form.looks.trim().parse();
    let wanted = Wanted::Shadow {
        version: form.version,
        looks: looks.map_err(|_| Rejection::BadRequest(page.t.system.looks.to_string().into()))?,
    };
    Ok(change(&app, &actor, &page, id, form.camera, wanted).await)
}

async fn stop_shadow(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    Ok(change(&app, &actor, &page, id, None, Wanted::StopShadow).await)
}
