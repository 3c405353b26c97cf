//! The schedules as week grids.

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
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotDone},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::notices;
use crate::{
    app::{App, Routes},
    configuration::{EditOutcome, Part, parts},
    error,
    page::Page,
    web_texts,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes
        .get("/hours", Access::Role(Role::Viewer), show)
        .post("/hours", operator, "console schedule", add)
        .post("/hours/{id}", operator, "console schedule", save)
        .post("/hours/{id}/remove", operator, "console schedule remove", remove)
}

struct ScheduleRow {
    id: String,
    /// JSON of the grid.
    data: String,
    /// The zones and rules that name it.
    used_by: String,
    is_conflict: bool,
}

#[derive(Template)]
#[template(path = "hours.html")]
struct HoursTemplate<'a> {
    page: &'a Page,
    /// What became of a save, as HTML.
    notice: String,
    is_readable: bool,
    may_edit: bool,
    revision: String,
    texts: String,
    schedules: Vec<ScheduleRow>,
    /// The id of a new schedule that was not saved.
    new_id: String,
}

/// What was entered and not saved.
struct Entered {
    id: String,
    /// `None`: it was to be added or removed.
    windows: Option<Vec<Value>>,
    is_new: bool,
    is_conflict: bool,
}

impl Entered {
    fn of(id: String) -> Self {
        Self {
            id,
            windows: None,
            is_new: false,
            is_conflict: false,
        }
    }
}

async fn template<'a>(
    app: &Arc<App>,
    page: &'a Page,
    notice: String,
    entered: Option<Entered>,
) -> Result<HoursTemplate<'a>, Rejection> {
    let mut shown = HoursTemplate {
        notice,
        is_readable: true,
        may_edit: page.may_operate() && page.sees_all(),
        revision: String::new(),
        texts: web_texts::of(page.language, &["edit.", "hours."]),
        schedules: Vec::new(),
        new_id: String::new(),
        page,
    };
    let part = match Part::read(app).await? {
        Ok(part) => part,
        Err(faults) => {
            shown.notice = notices::unreadable(page, &faults)?;
            shown.is_readable = false;
            return Ok(shown);
        }
    };
    let list = part.list(&parts::schedules());
    for schedule in list.as_array().into_iter().flatten() {
        let Some(id) = schedule.get("id").and_then(Value::as_str) else {
            continue;
        };
        let mine = entered.as_ref().filter(|entered| entered.id == id);
        let windows = match mine.and_then(|entered| entered.windows.clone()) {
            Some(windows) => Value::Array(windows),
            None => schedule.get("windows").cloned().unwrap_or_else(|| json!([])),
        };
        shown.schedules.push(ScheduleRow {
            id: id.to_owned(),
            data: web_texts::in_page(&json!({ "windows": windows })),
            used_by: parts::schedule_users(&part.document, id).join(", "),
            is_conflict: mine.is_some_and(|entered| entered.is_conflict && entered.windows.is_some()),
        });
    }
    shown.new_id = entered
        .filter(|entered| entered.is_new)
        .map_or_else(String::new, |entered| entered.id);
    shown.revision = part.revision;
    Ok(shown)
}

#[derive(Deserialize)]
struct SavedQuery {
    /// Number of the version that was just saved.
    saved: Option<u64>,
}

/// Schedules concern all cameras; what they say is no secret of one, but the notice of a version may tell of others.
async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<SavedQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    if actor.is_restricted() {
        return Err(error::restricted());
    }
    let Query(SavedQuery { saved }) = query?;
    let notice = match saved {
        Some(version) => notices::saved(&app, &page, Some(version), None).await?,
        None => notices::state(&page)?,
    };
    page.show(&template(&app, &page, notice, None).await?)
}

#[derive(Deserialize)]
struct WindowsForm {
    revision: String,
    /// A JSON list.
    windows: String,
}

async fn save(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<WindowsForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    let windows = parts::list_in("windows", &form.windows)?;
    let outcome = parts::save_windows(&app, &actor, &id, form.revision, windows.clone()).await?;
    let entered = Entered {
        windows: Some(windows),
        ..Entered::of(id)
    };
    answer(&app, &page, entered, outcome).await
}

#[derive(Deserialize)]
struct NewForm {
    revision: String,
    id: String,
}

async fn add(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<Form<NewForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let Form(NewForm { revision, id }) = form?;
    let id = id.trim().to_owned();
    // A schedule needs a window; office hours are the least surprising ones.
    let windows = vec![json!({ "days": ["workday"], "from": "08:00", "to": "18:00" })];
    let outcome = parts::add_schedule(&app, &actor, &id, revision, windows).await?;
    let entered = Entered {
        is_new: true,
        ..Entered::of(id)
    };
    answer(&app, &page, entered, outcome).await
}

#[derive(Deserialize)]
struct RemoveForm {
    revision: String,
}

async fn remove(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<RemoveForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Form(form)) = (path?, form?);
    let outcome = parts::remove_schedule(&app, &actor, &id, form.revision).await?;
    answer(&app, &page, Entered::of(id), outcome).await
}

async fn answer(app: &Arc<App>, page: &Page, entered: Entered, outcome: EditOutcome) -> Result<Response, Rejection> {
    let details = ActDetails::new("schedule", &entered.id);
    if let EditOutcome::Saved(saved, _) = &outcome {
        let target = format!("/hours?saved={}", saved.version);
        return Ok(details.with("version", saved.version).on(page.redirect(&target)));
    }
    let notice = notices::not_saved(page, &outcome)?.unwrap_or_default();
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let entered = Entered {
        is_conflict: status == StatusCode::CONFLICT,
        ..entered
    };
    let mut response = page.show_with(status, &template(app, page, notice, Some(entered)).await?)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}
