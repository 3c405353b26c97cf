//! The calibration of a view: pairs of picture and ground points, with what they give drawn over the newest look.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{
        Path, Query, State,
        rejection::{FormRejection, PathRejection, QueryRejection},
    },
    http::StatusCode,
    response::Response,
};
use gridwatch_engine::CameraId;
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotDone},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{notices, zones::EditorPicture};
use crate::{
    app::{App, Routes},
    configuration::{
        EditOutcome, Part,
        parts::{self, CalibrationPart},
    },
    page::Page,
    web_texts,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/cameras/{view}/calibration", Access::Role(Role::Viewer), show)
        .post(
            "/cameras/{view}/calibration",
            Access::Role(Role::Operator),
            "console calibration",
            save,
        )
}

#[derive(Template)]
#[template(path = "calibration.html")]
struct CalibrationTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    /// What became of a save, as HTML.
    notice: String,
    is_readable: bool,
    is_conflict: bool,
    may_edit: bool,
    revision: String,
    crs: String,
    max_uncertainty_m: f64,
    has_picture: bool,
    picture: String,
    texts: String,
    data: String,
}

/// What was entered and not saved.
struct Entered {
    points: Vec<Value>,
    notice: String,
    is_conflict: bool,
}

async fn template<'a>(
    app: &Arc<App>,
    page: &'a Page,
    actor: &Actor,
    view: CameraId,
    notice: String,
    entered: Option<Entered>,
) -> Result<CalibrationTemplate<'a>, Rejection> {
    let path = parts::path_of(app, actor, &view)?;
    let picture = EditorPicture::of(app, page, &view);
    let mut shown = CalibrationTemplate {
        notice,
        is_readable: true,
        is_conflict: entered.as_ref().is_some_and(|entered| entered.is_conflict),
        may_edit: page.may_operate(),
        revision: String::new(),
        crs: String::new(),
        max_uncertainty_m: 15.0,
        has_picture: !picture.url.is_empty(),
        picture: picture.url.clone(),
        texts: web_texts::of(page.language, &["edit.", "picture.", "calibration.", "zone."]),
        data: String::new(),
        page,
        view,
    };
    let part = match Part::read(app).await? {
        Ok(part) => CalibrationPart::of(app, &part, &path),
        Err(faults) => {
            shown.notice = notices::unreadable(page, &faults)?;
            shown.is_readable = false;
            return Ok(shown);
        }
    };
    let setting = |name: &str| part.calibration.get(name).cloned().unwrap_or_default();
    let points = match entered {
        Some(entered) => {
            shown.notice = entered.notice;
            Value::Array(entered.points)
        }
        None => match setting("points") {
            Value::Null => json!([]),
            points => points,
        },
    };
    if let Some(limit) = setting("max_uncertainty_m").as_f64() {
        shown.max_uncertainty_m = limit;
    }
    let mut data = json!({
        "points": points,
        "crs": part.crs,
        "max_uncertainty_m": shown.max_uncertainty_m,
        "distortion": setting("distortion"),
    });
    picture.put_into(&mut data);
    shown.data = web_texts::in_page(&data);
    shown.revision = part.revision;
    shown.crs = part.crs;
    Ok(shown)
}

#[derive(Deserialize)]
struct SavedQuery {
    /// Number of the version that was just saved.
    saved: Option<u64>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<SavedQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (view, Query(SavedQuery { saved })) = (CameraId::from(path?.0), query?);
    let part = parts::path_of(&app, &actor, &view)?;
    let notice = match saved {
        Some(version) => notices::saved(&app, &page, Some(version), Some(&part)).await?,
        None => notices::state(&page)?,
    };
    page.show(&template(&app, &page, &actor, view, notice, None).await?)
}

#[derive(Deserialize)]
struct PairsForm {
    revision: String,
    /// A JSON list.
    points: String,
}

async fn save(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<PairsForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (view, Form(form)) = (CameraId::from(path?.0), form?);
    let points = parts::list_in("points", &form.points)?;
    let details = ActDetails::new("view", &view);
    let outcome = parts::save_pairs(&app, &actor, &view, form.revision, points.clone()).await?;
    let Some(notice) = notices::not_saved(&page, &outcome)? else {
        let EditOutcome::Saved(saved, _) = outcome else {
            return Err(Rejection::Internal);
        };
        let target = format!("/cameras/{view}/calibration?saved={}", saved.version);
        return Ok(details.with("version", saved.version).on(page.redirect(&target)));
    };
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let entered = Entered {
        points,
        notice,
        is_conflict: status == StatusCode::CONFLICT,
    };
    let shown = template(&app, &page, &actor, view, String::new(), Some(entered)).await?;
    let mut response = page.show_with(status, &shown)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}
