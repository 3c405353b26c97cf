//! The permits of all views: listed with whether they hold, added, changed, ended and removed; and proposals from the ledger.

mod form;

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{
        Path, Query, RawForm, State,
        rejection::{PathRejection, QueryRejection, RawFormRejection},
    },
    http::StatusCode,
    response::Response,
};
use gridwatch_base::message;
use gridwatch_config::{Config, Language};
use gridwatch_engine::CameraId;
use gridwatch_ledger::places::MAX_DAYS;
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotAnAct, NotDone},
    i18n::Phrase,
};
use jiff::{Timestamp, civil::Date};
use serde::Deserialize;

use self::form::{FormTemplate, Given};
use super::{add::Fields, notices};
use crate::{
    app::{App, Routes},
    configuration::{self, EditOutcome, Part},
    page::Page,
    permits::{
        self, Permit, PermitEdit, PermitState,
        proposals::{self, Doubt, PlaceProposal},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let (viewer, operator) = (Access::Role(Role::Viewer), Access::Role(Role::Operator));
    let routes = routes.taking(proposals::TIME, |routes| {
        routes.get("/permits/proposals", viewer, propose)
    });
    routes
        .get("/permits", viewer, show)
        .get("/permits/new", operator, new)
        .get("/permits/{view}/{id}", viewer, one)
        .post("/permits", operator, "console permit add", add)
        .post("/permits/{view}/{id}", operator, "console permit", save)
        .post("/permits/{view}/{id}/end", operator, "console permit end", end)
        .post("/permits/{view}/{id}/remove", operator, "console permit remove", remove)
}

/// One permit in the list.
struct Row {
    view: CameraId,
    id: String,
    /// Names of the categories.
    rules: String,
    schedule: String,
    valid_from: String,
    valid_until: String,
    number: String,
    note: String,
    state: Phrase,
    class: &'static str,
    is_over: bool,
}

impl Row {
    fn of(page: &Page, config: &Config, permit: Permit) -> Self {
        let t = &page.t.permits;
        let (state, class) = match permit.state {
            PermitState::Open => (t.state_open, "fine"),
            PermitState::Closed => (t.state_closed, "impaired"),
            PermitState::NotYet => (t.state_not_yet, "impaired"),
            PermitState::Expired => (t.state_expired, "blind"),
        };
        let names: Vec<String> = permit.rules.iter().map(|id| rule_name(page, config, id)).collect();
        Self {
            rules: match names.is_empty() {
                true => t.rules_all.to_string(),
                false => joined(page, &names),
            },
            state,
            class,
            is_over: permit.state == PermitState::Expired,
            view: permit.view,
            id: permit.id,
            schedule: permit.schedule,
            valid_from: permit.valid_from,
            valid_until: permit.valid_until,
            number: permit.number,
            note: permit.note,
        }
    }
}

fn joined(page: &Page, names: &[String]) -> String {
    names.join(if page.is_zh() { "、" } else { ", " })
}

/// The category of a rule, with the rule's id.
fn rule_name(page: &Page, config: &Config, id: &str) -> String {
    let rule = config.plan.rules.iter().find(|rule| rule.id.as_str() == id);
    let Some(rule) = rule else { return id.to_owned() };
    let name = match page.language {
        Language::Zh => &rule.category.name_zh,
        Language::En => &rule.category.name_en,
    };
    format!("{name} ({id})")
}

#[derive(Template)]
#[template(path = "permits.html")]
struct PermitsTemplate<'a> {
    page: &'a Page,
    notice: String,
    is_readable: bool,
    revision: String,
    rows: Vec<Row>,
    today: String,
}

async fn template<'a>(
    app: &Arc<App>,
    actor: &Actor,
    page: &'a Page,
    notice: String,
) -> Result<PermitsTemplate<'a>, Rejection> {
    let config = app.config();
    let mut shown = PermitsTemplate {
        page,
        notice,
        is_readable: true,
        revision: String::new(),
        rows: Vec::new(),
        today: config.plan.calendar.date(Timestamp::now()).to_string(),
    };
    match Part::read(app).await? {
        Ok(part) => {
            let permits = permits::list(app, actor, &part).into_iter();
            shown.rows = permits.map(|permit| Row::of(page, &config, permit)).collect();
            shown.revision = part.revision;
        }
        Err(faults) => {
            shown.notice = notices::unreadable(page, &faults)?;
            shown.is_readable = false;
        }
    }
    Ok(shown)
}

#[derive(Deserialize)]
struct SavedQuery {
    /// Number of the version that was just saved.
    saved: Option<u64>,
}

/// What was saved. Users who may not see all cameras are told that it was, not what else the version has.
async fn saved_notice(app: &Arc<App>, actor: &Actor, page: &Page, saved: Option<u64>) -> Result<String, Rejection> {
    match saved {
        Some(version) if !actor.is_restricted() => notices::saved(app, page, Some(version), None).await,
        Some(version) => notices::done(page, &page.t.configuration.saved.with("n", version).to_string()),
        None => notices::state(page),
    }
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<SavedQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(SavedQuery { saved }) = query?;
    let notice = saved_notice(&app, &actor, &page, saved).await?;
    page.show(&template(&app, &actor, &page, notice).await?)
}

/// What a link may put into the form of a new permit.
#[derive(Deserialize)]
struct NewQuery {
    view: Option<String>,
    polygon: Option<String>,
    windows: Option<String>,
    /// Ids, separated by commas.
    rules: Option<String>,
}

async fn new(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<NewQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let given = Given::proposed(query.view, query.polygon, query.windows, query.rules)?;
    let form = FormTemplate::new(&app, &actor, &page, None, given, String::new()).await?;
    page.show(&form)
}

async fn one(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path((view, id)) = path?;
    let part = match Part::read(&app).await? {
        Ok(part) => part,
        Err(_) => return page.show(&template(&app, &actor, &page, String::new()).await?),
    };
    let permit = find(&app, &actor, &part, &view, &id)?;
    let given = Given::of(&permit, &part);
    page.show(&FormTemplate::new(&app, &actor, &page, Some(permit), given, notices::state(&page)?).await?)
}

fn find(app: &App, actor: &Actor, part: &Part, view: &str, id: &str) -> Result<Permit, Rejection> {
    let mut permits = permits::list(app, actor, part).into_iter();
    let found = permits.find(|permit| permit.view.as_str() == view && permit.id == id);
    found.ok_or(Rejection::NotFound)
}

async fn add(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let fields = Fields::read(form)?;
    let given = Given::read(&fields);
    let part = match Part::read(&app).await? {
        Ok(part) => part,
        Err(_) => return page.show(&template(&app, &actor, &page, String::new()).await?),
    };
    let details = ActDetails::new("permit", given.id.trim());
    let id = match given.id.trim() {
        "" => form::free_id(&app, &actor, &part),
        id => id.to_owned(),
    };
    let grounds = given.chosen_grounds(&permits::grounds(&app, &actor, &part))?;
    let revision = fields.get("revision").to_owned();
    if grounds.is_empty() {
        let notice = notices::refused(&page, &page.t.permits.ground_missing.to_string())?;
        let form = FormTemplate::new(&app, &actor, &page, None, given, notice).await?;
        let mut response = page.show_with(StatusCode::UNPROCESSABLE_ENTITY, &form)?;
        response.extensions_mut().insert(NotDone("no ground was chosen".into()));
        return Ok(details.on(response));
    }
    let edit = permits::adding(&app, &actor, revision, &id, grounds, given.input()?)?;
    answer(&app, &actor, &page, None, given, edit, details).await
}

async fn save(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path((view, id)), fields) = (path?, Fields::read(form)?);
    let (view, given) = (CameraId::from(view), Given::read(&fields));
    let revision = fields.get("revision").to_owned();
    let edit = permits::changing(&app, &actor, (&view, &id), revision, given.input()?)?;
    let details = ActDetails::new("view", &view).with("permit", &id);
    let permit = match Part::read(&app).await? {
        Ok(part) => Some(find(&app, &actor, &part, view.as_str(), &id)?),
        Err(_) => None,
    };
    answer(&app, &actor, &page, permit, given, edit, details).await
}

/// Shows what a change would do, or makes it.
async fn answer(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    permit: Option<Permit>,
    given: Given,
    edit: PermitEdit,
    details: ActDetails,
) -> Result<Response, Rejection> {
    if given.is_preview {
        let checked = configuration::preview(app, edit).await?;
        let (status, notice) = match checked.faults.is_empty() {
            true => (StatusCode::OK, notices::checked(page, &checked)?),
            false => {
                let faults = EditOutcome::Faults(checked.faults);
                let notice = notices::not_saved(page, &faults)?.unwrap_or_default();
                (StatusCode::UNPROCESSABLE_ENTITY, notice)
            }
        };
        let form = FormTemplate::new(app, actor, page, permit, given, notice).await?;
        let mut response = page.show_with(status, &form)?;
        response.extensions_mut().insert(NotAnAct);
        return Ok(response);
    }
    let outcome = permits::save(app, actor, edit).await?;
    if let EditOutcome::Saved(saved, _) = &outcome {
        let target = format!("/permits?saved={}", saved.version);
        return Ok(details.with("version", saved.version).on(page.redirect(&target)));
    }
    let notice = notices::not_saved(page, &outcome)?.unwrap_or_default();
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let form = FormTemplate::new(app, actor, page, permit, given, notice).await?;
    let mut response = page.show_with(status, &form)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}

async fn end(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path((view, id)), fields) = (path?, Fields::read(form)?);
    let view = CameraId::from(view);
    let last: Date = fields
        .get("last")
        .parse()
        .map_err(|_| Rejection::BadRequest(message!("last: not a day such as 2026-10-31")))?;
    let revision = fields.get("revision").to_owned();
    let edit = permits::ending(&app, &actor, (&view, &id), revision, last)?;
    let details = ActDetails::new("view", &view).with("permit", &id).with("last", last);
    in_list(&app, &actor, &page, edit, details).await
}

async fn remove(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path((view, id)), fields) = (path?, Fields::read(form)?);
    let view = CameraId::from(view);
    let edit = permits::removing(&app, &actor, (&view, &id), fields.get("revision").to_owned())?;
    let details = ActDetails::new("view", &view).with("permit", &id);
    in_list(&app, &actor, &page, edit, details).await
}

/// Makes a change of one permit of the list.
async fn in_list(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    edit: PermitEdit,
    details: ActDetails,
) -> Result<Response, Rejection> {
    let outcome = permits::save(app, actor, edit).await?;
    if let EditOutcome::Saved(saved, _) = &outcome {
        let target = format!("/permits?saved={}", saved.version);
        return Ok(details.with("version", saved.version).on(page.redirect(&target)));
    }
    let notice = notices::not_saved(page, &outcome)?.unwrap_or_default();
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let mut response = page.show_with(status, &template(app, actor, page, notice).await?)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}

/// A place that could be permitted.
struct PlaceView {
    view: CameraId,
    /// Names of the categories.
    rules: String,
    /// Ids, separated by commas, for the form.
    rule_ids: String,
    hours: Vec<String>,
    cases: usize,
    doubt: String,
    /// The case that speaks against it.
    case: Option<String>,
    has_picture: bool,
    picture: String,
    width: u32,
    height: u32,
    points: String,
    polygon: String,
    windows: String,
}

#[derive(Template)]
#[template(path = "permit_proposals.html")]
struct ProposalsTemplate<'a> {
    page: &'a Page,
    days: u32,
    max_days: u32,
    has_no_rule: bool,
    /// Searched; else only asked.
    is_answered: bool,
    places: Vec<PlaceView>,
}

#[derive(Deserialize)]
struct ProposalsQuery {
    days: Option<u32>,
}

async fn propose(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<ProposalsQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(ProposalsQuery { days }) = query?;
    let mut shown = ProposalsTemplate {
        page: &page,
        days: days.unwrap_or(proposals::DEFAULT_DAYS).clamp(5, MAX_DAYS),
        max_days: MAX_DAYS,
        has_no_rule: false,
        is_answered: days.is_some(),
        places: Vec::new(),
    };
    if shown.is_answered {
        let found = proposals::search(&app, &actor, shown.days).await?;
        shown.has_no_rule = found.has_no_rule;
        shown.places = found
            .places
            .iter()
            .map(|place| place_view(&app, &page, place))
            .collect();
    }
    page.show(&shown)
}

fn place_view(app: &App, page: &Page, place: &PlaceProposal) -> PlaceView {
    let (config, t) = (app.config(), &page.t.permits);
    let picture = super::zones::EditorPicture::of(app, page, &place.view);
    let names: Vec<String> = place.rules.iter().map(|id| rule_name(page, &config, id)).collect();
    let hours = place.hours.iter().map(|hours| {
        let days = match hours.days.name() {
            "workday" => t.days_workday,
            _ => t.days_restday,
        };
        let line = t
            .proposal_hours
            .with("days", days)
            .with("from", &hours.from)
            .with("to", &hours.to);
        line.with("seen", hours.seen).with("watched", hours.watched).to_string()
    });
    let polygon = place.polygon();
    PlaceView {
        view: place.view.clone(),
        rules: joined(page, &names),
        rule_ids: place.rules.join(","),
        hours: hours.collect(),
        cases: place.cases,
        doubt: match &place.doubt {
            None => String::new(),
            Some(Doubt::Accepted(_)) => t.doubt_accepted.to_string(),
            Some(Doubt::Always) => t.doubt_always.to_string(),
            Some(Doubt::AfterMidnight) => t.doubt_after_midnight.to_string(),
        },
        case: match &place.doubt {
            Some(Doubt::Accepted(case)) => Some(case.clone()),
            _ => None,
        },
        has_picture: !picture.url.is_empty(),
        picture: picture.url,
        width: picture.size.0,
        height: picture.size.1,
        points: form::points(&polygon),
        polygon: polygon.to_string(),
        windows: place.windows().to_string(),
    }
}
