//! The approved signs of a view over its newest look.

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
use serde_json::json;

use super::{notices, zones::EditorPicture};
use crate::{
    app::{App, Routes},
    configuration::fault_line,
    page::Page,
    signs::{self, SignBody, SignsOutcome, ViewSigns},
    web_texts,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/cameras/{view}/signs", Access::Role(Role::Viewer), show)
        .post(
            "/cameras/{view}/signs",
            Access::Role(Role::Operator),
            "console signs",
            save,
        )
}

#[derive(Template)]
#[template(path = "signs.html")]
struct SignsTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    notice: String,
    is_readable: bool,
    may_edit: bool,
    has_rules: bool,
    is_recorded: bool,
    recorded: String,
    has_found: bool,
    has_picture: bool,
    picture: String,
    texts: String,
    data: String,
    revision: String,
}

/// With what the file has, or with `entered`.
async fn template<'a>(
    app: &Arc<App>,
    actor: &Actor,
    page: &'a Page,
    view: CameraId,
    notice: String,
    entered: Option<(String, Vec<SignBody>)>,
) -> Result<SignsTemplate<'a>, Rejection> {
    let picture = EditorPicture::of(app, page, &view);
    let mut shown = SignsTemplate {
        page,
        notice,
        is_readable: true,
        may_edit: page.may_operate(),
        has_rules: false,
        is_recorded: false,
        recorded: String::new(),
        has_found: false,
        has_picture: !picture.url.is_empty(),
        picture: picture.url.clone(),
        texts: web_texts::of(page.language, &["edit.", "picture.", "sign.", "zone.tools"]),
        data: String::new(),
        revision: String::new(),
        view,
    };
    let found = match signs::read(app, actor, &shown.view).await? {
        Ok(found) => found,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(|fault| fault_line(fault, page.language)).collect();
            shown.notice = notices::listed(page.t.signs.unreadable, faults)?;
            shown.is_readable = false;
            return Ok(shown);
        }
    };
    let ViewSigns {
        revision,
        recorded,
        signs,
        found,
        labels,
        today,
    } = found;
    shown.has_rules = !labels.is_empty();
    shown.has_found = !found.is_empty();
    shown.is_recorded = recorded.is_some();
    if let Some((at, model)) = recorded {
        shown.recorded = page.t.signs.recorded.with("at", at).with("model", model).to_string();
    }
    let name = |label: &String| json!({ "id": label, "label": page.label(&label.as_str().into()) });
    let (revision, signs) = entered.unwrap_or((revision, signs));
    let mut data = json!({
        "signs": signs,
        "found": found,
        "labels": labels.iter().map(name).collect::<Vec<_>>(),
        "today": today.to_string(),
    });
    picture.put_into(&mut data);
    shown.data = web_texts::in_page(&data);
    shown.revision = revision;
    Ok(shown)
}

#[derive(Deserialize)]
struct SavedQuery {
    /// Signs that were just added and removed.
    added: Option<u32>,
    removed: Option<u32>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<SavedQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (view, Query(query)) = (CameraId::from(path?.0), query?);
    let notice = match (query.added, query.removed) {
        (Some(added), Some(removed)) => {
            let text = page.t.signs.saved.with("added", added).with("removed", removed);
            notices::done(&page, &text.to_string())?
        }
        _ => notices::state(&page)?,
    };
    page.show(&template(&app, &actor, &page, view, notice, None).await?)
}

#[derive(Deserialize)]
struct SignsForm {
    revision: String,
    /// A JSON list.
    signs: String,
}

async fn save(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<SignsForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (view, Form(form)) = (CameraId::from(path?.0), form?);
    let signs: Vec<SignBody> =
        serde_json::from_str(&form.signs).map_err(|error| Rejection::BadRequest(format!("signs: {error}").into()))?;
    let details = ActDetails::new("view", &view);
    let outcome = signs::save(&app, &actor, page.language, &view, form.revision.clone(), signs.clone()).await?;
    let (status, why, notice) = match outcome {
        SignsOutcome::Saved { saved, problems } => {
            let details = details
                .with("added", saved.added)
                .with("removed", saved.removed)
                .with("sha256", &saved.revision);
            if problems.is_empty() {
                let target = format!("/cameras/{view}/signs?added={}&removed={}", saved.added, saved.removed);
                return Ok(details.on(page.redirect(&target)));
            }
            let notice = notices::listed(page.t.signs.saved_not_in_force, problems)?;
            return Ok(details.on(page.show(&template(&app, &actor, &page, view, notice, None).await?)?));
        }
        SignsOutcome::Conflict => {
            let notice = notices::refused(&page, &page.t.signs.conflict.to_string())?;
            (StatusCode::CONFLICT, "somebody else has changed the file", notice)
        }
        SignsOutcome::Faults(faults) => {
            let lines = faults.iter().map(|fault| fault_line(fault, page.language)).collect();
            let notice = notices::listed(page.t.configuration.not_saved_faults, lines)?;
            (StatusCode::UNPROCESSABLE_ENTITY, "the file would have faults", notice)
        }
    };
    // The old revision: saving again must not overwrite what somebody else wrote.
    let entered = Some((form.revision, signs));
    let mut response = page.show_with(status, &template(&app, &actor, &page, view, notice, entered).await?)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}
