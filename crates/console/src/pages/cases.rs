//! The list of cases, and a case's page with its pictures.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use gridwatch_config::Role;
use gridwatch_contract::{CaseRecord, EvidenceItem, Purpose, When};
use gridwatch_engine::CaseState;
use gridwatch_store::{CaseFile, CaseQuery};
use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::Deserialize;

use super::{Keep, jpeg};
use crate::{
    app::App,
    cases::{self, PictureFault},
    daemon::{Act, Outcome},
    error::Rejection,
    form::given,
    i18n::Phrase,
    identity::Actor,
    overlay::percent,
    page::Page,
    routes::{Access, Routes},
};

/// Cases on a page of the list.
const PAGE: u32 = 50;

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes.get("/cases", viewer, list).get("/cases/{id}", viewer, show).get(
        "/cases/{id}/evidence/{item}",
        viewer,
        evidence,
    )
}

/// What the list is filtered by, as in its form.
#[derive(Debug, Clone, Default, Deserialize)]
struct ListQuery {
    /// `open`, or a state.
    state: Option<String>,
    camera: Option<String>,
    category: Option<String>,
    cell: Option<String>,
    /// First and last day, in the city's zone.
    from: Option<String>,
    until: Option<String>,
    /// Id of the last case of the page before.
    after: Option<String>,
}

impl ListQuery {
    fn to_store(&self, page: &Page, app: &App) -> Result<CaseQuery, Rejection> {
        let bad = |field: Phrase| Rejection::BadRequest(field.to_string());
        let zone = app.config().timezone.clone();
        let day = |text: &Option<String>, field: Phrase, days: i64| -> Result<Option<Timestamp>, Rejection> {
            let Some(text) = given(text.clone()) else {
                return Ok(None);
            };
            let day: Date = text.parse().map_err(|_| bad(field))?;
            let day = day
                .checked_add(SignedDuration::from_hours(24 * days))
                .map_err(|_| bad(field))?;
            Ok(Some(day.to_zoned(zone.clone()).map_err(|_| bad(field))?.timestamp()))
        };
        let (state, is_open) = match given(self.state.clone()).as_deref() {
            None => (None, None),
            Some("open") => (None, Some(true)),
            Some(name) => {
                let state = CaseState::ALL.into_iter().find(|state| state.as_str() == name);
                (Some(state.ok_or_else(|| bad(page.t.cases.state))?), None)
            }
        };
        Ok(CaseQuery {
            state,
            is_open,
            cameras: given(self.camera.clone()).map(|camera| vec![camera]),
            category: given(self.category.clone()),
            cell: given(self.cell.clone()),
            from: day(&self.from, page.t.cases.confirmed, 0)?,
            until: day(&self.until, page.t.cases.confirmed, 1)?,
            after: given(self.after.clone()),
            limit: PAGE,
        })
    }

    /// The query of the page after this one.
    fn next(&self, last: &CaseRecord) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let fields = [
            ("state", &self.state),
            ("camera", &self.camera),
            ("category", &self.category),
            ("cell", &self.cell),
            ("from", &self.from),
            ("until", &self.until),
        ];
        for (name, value) in fields {
            if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                query.append_pair(name, value);
            }
        }
        query.append_pair("after", &last.case_id);
        query.finish()
    }
}

/// Something to choose from a list.
struct Choice {
    value: String,
    name: String,
    is_chosen: bool,
}

struct CaseRow {
    id: String,
    category: String,
    state: Phrase,
    state_class: &'static str,
    camera: String,
    cell: String,
    confirmed: String,
    confirmed_machine: String,
    /// Id of the picture shown in the list; empty without one.
    picture: String,
    percent: u32,
}

#[derive(Template)]
#[template(path = "cases.html")]
struct CasesTemplate<'a> {
    page: &'a Page,
    query: ListQuery,
    states: Vec<Choice>,
    cameras: Vec<Choice>,
    categories: Vec<Choice>,
    rows: Vec<CaseRow>,
    /// Query of the next page; empty if there is none.
    next: String,
}

fn state_class(state: CaseState) -> &'static str {
    if state.is_open() { "open" } else { "done" }
}

fn category_of(page: &Page, record: &CaseRecord) -> String {
    let name = match (&record.category_names, page.is_zh()) {
        (Some(names), true) => &names.zh,
        (Some(names), false) => &names.en,
        (None, _) => &record.category_name,
    };
    format!("{} {name}", record.category_code)
}

pub(super) fn camera_of(record: &CaseRecord) -> String {
    match &record.camera.preset_id {
        Some(preset) => format!("{}.{preset}", record.camera.local_id),
        None => record.camera.local_id.clone(),
    }
}

impl CaseRow {
    fn new(page: &Page, record: &CaseRecord) -> Self {
        let picture = cases::masked_picture(record);
        Self {
            id: record.case_id.clone(),
            category: category_of(page, record),
            state: page.t.names.case_state(record.state),
            state_class: state_class(record.state),
            camera: camera_of(record),
            cell: record.cell_code.clone(),
            confirmed: page.time(record.confirmed_at.timestamp()),
            confirmed_machine: page.machine_time(record.confirmed_at.timestamp()),
            picture: picture.map(|item| item.id.clone()).unwrap_or_default(),
            percent: percent(record.confidence as f32),
        }
    }
}

async fn list(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let found = cases::list(&app, &actor, query.to_store(&page, &app)?).await?;
    let config = app.config();
    let chosen = |field: &Option<String>, value: &str| field.as_deref() == Some(value);
    let states = CaseState::ALL.into_iter().map(|state| Choice {
        value: state.as_str().into(),
        name: page.t.names.case_state(state).to_string(),
        is_chosen: chosen(&query.state, state.as_str()),
    });
    let open = Choice {
        value: "open".into(),
        name: page.t.cases.open.to_string(),
        is_chosen: chosen(&query.state, "open"),
    };
    let cameras = config
        .cameras
        .iter()
        .filter(|camera| actor.sees(camera))
        .map(|camera| Choice {
            value: camera.id.to_string(),
            name: camera.id.to_string(),
            is_chosen: chosen(&query.camera, camera.id.as_str()),
        });
    let categories = config.categories.iter().map(|(code, category)| Choice {
        value: code.clone(),
        name: format!(
            "{code} {}",
            if page.is_zh() {
                &category.name_zh
            } else {
                &category.name_en
            }
        ),
        is_chosen: chosen(&query.category, code),
    });
    let next = match found.last() {
        Some(last) if found.len() == PAGE as usize => query.next(last),
        _ => String::new(),
    };
    page.show(&CasesTemplate {
        page: &page,
        states: std::iter::once(open).chain(states).collect(),
        cameras: cameras.collect(),
        categories: categories.collect(),
        rows: found.iter().map(|record| CaseRow::new(&page, record)).collect(),
        next,
        query,
    })
}

/// A fact about a case: name and value.
struct Fact {
    name: Phrase,
    value: String,
}

struct Picture {
    id: String,
    role: Phrase,
    at: String,
    width: u32,
    height: u32,
    is_masked: bool,
    is_hidden: bool,
    caption: String,
}

struct HistoryLine {
    state: Phrase,
    author: Phrase,
    at: String,
    at_machine: String,
    reason: String,
    times: String,
    omitted: String,
}

struct VerificationLine {
    finding: Phrase,
    at: String,
    looks: String,
}

#[derive(Template)]
#[template(path = "case.html")]
struct CaseTemplate<'a> {
    page: &'a Page,
    id: String,
    category: String,
    state: Phrase,
    state_class: &'static str,
    view: String,
    facts: Vec<Fact>,
    notes: Vec<String>,
    pictures: Vec<Picture>,
    history: Vec<HistoryLine>,
    verification: Vec<VerificationLine>,
}

/// A time span in words.
pub(super) fn span(page: &Page, seconds: f64) -> String {
    let t = &page.t.cases;
    match seconds {
        s if s < 120.0 => t.seconds.with("n", format!("{s:.0}")).to_string(),
        s if s < 7200.0 => t.minutes.with("n", format!("{:.0}", s / 60.0)).to_string(),
        s => t.hours.with("n", format!("{:.1}", s / 3600.0)).to_string(),
    }
}

fn facts(page: &Page, record: &CaseRecord) -> Vec<Fact> {
    let t = &page.t.cases;
    let place = &record.location;
    let place = t
        .place_value
        .with("lon", format!("{:.6}", place.lon))
        .with("lat", format!("{:.6}", place.lat))
        .with("crs", &place.crs)
        .with("m", format!("{:.0}", place.uncertainty_m));
    let time = |when: &When| Some(page.time(when.timestamp()));
    let facts = [
        (t.description, Some(record.description.clone())),
        (t.camera, Some(camera_of(record))),
        (t.address, record.address.clone()),
        (t.cell, Some(record.cell_code.clone())),
        (t.place, Some(place.to_string())),
        (t.first_seen, time(&record.first_seen_at)),
        (t.confirmed, time(&record.confirmed_at)),
        (t.filed, time(&record.filed_at)),
        (t.last_seen, time(&record.last_seen_at)),
        (t.dwell, Some(span(page, record.rule.dwell_s))),
        (t.confidence, Some(format!("{} %", percent(record.confidence as f32)))),
        (
            t.second_look,
            record
                .confidence_closer
                .map(|score| format!("{} %", percent(score as f32))),
        ),
        (t.rule, Some(record.rule.id.clone())),
        (t.zone, record.rule.zone_id.clone()),
        (t.model, Some(format!("{} {}", record.model.id, record.model.version))),
        (t.task_no, record.platform_task_no.clone()),
        (t.config, record.config_sha256.get(..12).map(str::to_owned)),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| Some(Fact { name, value: value? }));
    known.collect()
}

fn notes(page: &Page, case: &CaseFile) -> Vec<String> {
    let (t, record) = (&page.t.cases, &case.record);
    let mut notes = vec![match record.purpose {
        Purpose::LeadOnly => t.lead_only.to_string(),
        Purpose::PenaltyCandidate => t.penalty.to_string(),
    }];
    if record.unidentified {
        notes.push(t.unidentified.to_string());
    }
    if let Some(earlier) = &record.recurrence {
        notes.push(
            t.recurrence
                .with("n", earlier.count)
                .with("id", &earlier.of_case_id)
                .to_string(),
        );
    }
    if let Some(held) = &case.held_back_for {
        let node = &held.node_id;
        notes.push(t.held_back.with("node", node).with("case", &held.case_id).to_string());
    }
    if case.queued > 0 {
        notes.push(t.queued.with("n", case.queued).to_string());
    }
    if let Some(why) = &case.quarantined {
        notes.push(t.quarantined.with("why", why).to_string());
    }
    notes
}

impl Picture {
    fn new(page: &Page, item: &EvidenceItem, sees_unmasked: bool) -> Self {
        let caption = item
            .caption
            .as_ref()
            .map(|text| if page.is_zh() { &text.zh } else { &text.en });
        Self {
            id: item.id.clone(),
            role: page.t.names.evidence(item.role),
            at: page.time(item.captured_at.timestamp()),
            width: item.width,
            height: item.height,
            is_masked: item.masked,
            is_hidden: !item.masked && !sees_unmasked,
            caption: caption.cloned().unwrap_or_default(),
        }
    }
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    let case = cases::find(&app, &actor, &id).await?;
    let record = &case.record;
    let sees_unmasked = actor.sees_unmasked(&app.config());
    let history = case.history.iter().map(|entry| HistoryLine {
        state: page.t.names.case_state(entry.state),
        author: page.t.names.author(&entry.author),
        at: page.time(entry.at),
        at_machine: page.machine_time(entry.at),
        reason: entry.reason.clone().unwrap_or_default(),
        times: match entry.last_at {
            Some(last) if entry.times > 1 => page
                .t
                .cases
                .times
                .with("n", entry.times)
                .with("time", page.time(last))
                .to_string(),
            _ => String::new(),
        },
        omitted: match entry.omitted {
            0 => String::new(),
            n => page.t.cases.omitted.with("n", n).to_string(),
        },
    });
    let verification = record.verification.iter().map(|result| VerificationLine {
        finding: page.t.names.finding(result.result),
        at: page.time(result.checked_at.timestamp()),
        looks: page
            .t
            .cases
            .looks_seen
            .with("looks", result.looks)
            .with("seen", result.looks_seen)
            .to_string(),
    });
    page.show(&CaseTemplate {
        page: &page,
        id: record.case_id.clone(),
        category: category_of(&page, record),
        state: page.t.names.case_state(record.state),
        state_class: state_class(record.state),
        view: camera_of(record),
        facts: facts(&page, record),
        notes: notes(&page, &case),
        pictures: record
            .evidence
            .iter()
            .map(|item| Picture::new(&page, item, sees_unmasked))
            .collect(),
        history: history.collect(),
        verification: verification.collect(),
    })
}

async fn evidence(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path((id, item)) = path?;
    match evidence_picture(&app, &actor, &id, &item).await? {
        Ok(response) => Ok(response),
        Err(PictureFault::Gone) => Err(Rejection::Gone),
        Err(PictureFault::Changed) => {
            tracing::error!(case = id, item, "A picture of a case does not match its recorded hash");
            let message = page.t.cases.bad_evidence.to_string();
            let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
            page.show_with(
                status,
                &super::ErrorTemplate {
                    page: &page,
                    message: &message,
                },
            )
        }
    }
}

/// A picture of a case. A view of an unmasked one is in the audit log before it is shown.
pub(crate) async fn evidence_picture(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    item: &str,
) -> Result<Result<Response, PictureFault>, Rejection> {
    let case = cases::find(app, actor, id).await?;
    let found = case.record.evidence.iter().find(|picture| picture.id == item);
    let found = found.ok_or(Rejection::NotFound)?;
    if !found.masked {
        if !actor.sees_unmasked(&app.config()) {
            return Err(Rejection::Forbidden);
        }
        let act = Act {
            name: "console unmasked picture",
            by: actor.person(),
            case: Some(id.to_owned()),
            details: vec![("picture", item.to_owned()), ("sha256", found.sha256.clone())],
            outcome: Outcome::Done,
        };
        app.daemon.record(act).await?;
    }
    let keep = if found.masked { Keep::Long } else { Keep::Never };
    let bytes = cases::picture(app, found.sha256.clone()).await;
    Ok(bytes.map(|bytes| jpeg(bytes, keep).into_response()))
}
