//! Removing a camera: asks, with what is open there, and then does it.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{
        Path, RawForm, State,
        rejection::{PathRejection, RawFormRejection},
    },
    http::StatusCode,
    response::Response,
};
use gridwatch_config::{Camera, Config};
use gridwatch_engine::CameraId;
use gridwatch_store::CaseQuery;
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotDone},
};

use super::{super::category_of, Fields};
use crate::{
    access::CameraAccess as _,
    add::{self, RemoveFault, Removed},
    app::{App, Routes},
    cases,
    page::Page,
};

/// Open cases that are listed.
const MAX_LISTED: u32 = 20;

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes.get("/cameras/{view}/remove", operator, ask).post(
        "/cameras/{view}/remove",
        operator,
        "console camera remove",
        remove,
    )
}

#[derive(Template)]
#[template(path = "remove_camera.html")]
struct AskTemplate<'a> {
    page: &'a Page,
    id: String,
    view: String,
    revision: String,
    message: String,
    /// Faults and changes, in English.
    lines: Vec<String>,
    open_cases: usize,
    candidates: u32,
    cases: Vec<CaseLine>,
}

struct CaseLine {
    id: String,
    text: String,
}

#[derive(Template)]
#[template(path = "removed_camera.html")]
struct RemovedTemplate<'a> {
    page: &'a Page,
    id: String,
    removed: Removed,
}

/// The camera of a view that the user may see.
pub(crate) fn seen_camera<'a>(config: &'a Config, actor: &Actor, view: &str) -> Result<&'a Camera, Rejection> {
    actor
        .camera_of(config, &CameraId::from(view))
        .ok_or(Rejection::NotFound)
}

async fn ask(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let (Path(view), config) = (path?, app.config());
    let camera = seen_camera(&config, &actor, &view)?;
    let revision = add::revision(&config).await?;
    page.show(&template(&app, &actor, &page, (camera, view), revision).await?)
}

async fn template<'a>(
    app: &Arc<App>,
    actor: &Actor,
    page: &'a Page,
    (camera, view): (&Camera, String),
    revision: String,
) -> Result<AskTemplate<'a>, Rejection> {
    let query = CaseQuery {
        is_open: Some(true),
        cameras: Some(vec![camera.id.to_string()]),
        limit: MAX_LISTED,
        ..CaseQuery::default()
    };
    let cases = cases::list(app, actor, query).await?;
    let views = camera.presets.iter().filter_map(|preset| app.daemon.view(&preset.view));
    let (open_cases, candidates) = views.fold((0, 0), |(open, candidates), status| {
        (open + status.open_cases as usize, candidates + status.candidates)
    });
    let line = |record: gridwatch_contract::CaseRecord| CaseLine {
        text: format!("{} {}", category_of(page, &record), record.case_id),
        id: record.case_id,
    };
    Ok(AskTemplate {
        page,
        id: camera.id.to_string(),
        view,
        revision,
        message: String::new(),
        lines: Vec::new(),
        open_cases,
        candidates,
        cases: cases.into_iter().map(line).collect(),
    })
}

async fn remove(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path(view), fields, config) = (path?, Fields::read(form)?, app.config());
    let camera = seen_camera(&config, &actor, &view)?;
    let details = ActDetails::new("camera", &camera.id);
    let revision = fields.get("revision").to_owned();
    let fault = match add::remove(&app, &actor, camera, revision.clone()).await {
        Ok(removed) => {
            let details = details.with("version", removed.version);
            let id = camera.id.to_string();
            return Ok(details.on(page.show(&RemovedTemplate {
                page: &page,
                id,
                removed,
            })?));
        }
        Err(fault) => fault,
    };
    let reason = fault.to_string();
    let t = &page.t.add;
    let mut shown = template(&app, &actor, &page, (camera, view), revision).await?;
    let status = match fault {
        RemoveFault::Conflict { found, changes } => {
            shown.revision = found;
            shown.message = match changes {
                Some(_) => t.conflict.to_string(),
                None => t.conflict_unknown.to_string(),
            };
            shown.lines = changes.iter().flatten().map(|change| page.message(change)).collect();
            StatusCode::CONFLICT
        }
        RemoveFault::Faults(faults) => {
            shown.message = t.faults.to_string();
            shown.lines = faults.iter().map(|fault| page.message(fault)).collect();
            StatusCode::UNPROCESSABLE_ENTITY
        }
        RemoveFault::Failed(why) => {
            shown.message = t.save_failed.with("why", page.message(&why)).to_string();
            StatusCode::SERVICE_UNAVAILABLE
        }
    };
    let mut response = details.on(page.show_with(status, &shown)?);
    response.extensions_mut().insert(NotDone(reason));
    Ok(response)
}
