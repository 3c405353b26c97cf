//! The looks of a camera, the newest first: what was found, what which rule counted, and what was held back and why.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::Response,
};
use gridwatch_base::message;
use gridwatch_engine::{CameraId, Light, Reason, View};
use gridwatch_ledger::history::looks::{JudgedSeen, LookHistory};
use gridwatch_web::{Access, Actor, Rejection, Role, form::given, i18n::Phrase};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    ledger::{self, FoundLooks, LooksQuestion, PAGE_PATIENCE, Progress},
    overlay::percent,
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/cameras/{view}/looks", Access::Role(Role::Viewer), show)
}

/// Which page of looks.
#[derive(Debug, Clone, Default, Deserialize)]
struct LooksQuery {
    before: Option<String>,
}

/// The looks that are asked for.
///
/// # Errors
/// [`Rejection::NotFound`] for a view that the user may not see.
pub(crate) fn question(
    app: &App,
    actor: &Actor,
    view: String,
    before: Option<Timestamp>,
) -> Result<LooksQuestion, Rejection> {
    let view = CameraId::from(view);
    actor.camera_of(&app.config(), &view).ok_or(Rejection::NotFound)?;
    Ok(LooksQuestion { view, before })
}

/// Where the page after this one begins.
pub(crate) fn older(found: &FoundLooks) -> Timestamp {
    let oldest = found.page.looks.last().map(|look| look.at);
    oldest.filter(|_| found.page.has_older).unwrap_or(found.from)
}

struct DetectionLine {
    label: String,
    percent: u32,
}

/// What one rule made of a detection.
struct JudgedLine {
    rule: String,
    percent: u32,
    text: String,
    start_score: String,
    class: &'static str,
}

/// What happened to an object at a look.
struct EventLine {
    rule: String,
    text: Phrase,
    case: String,
}

struct LookRow {
    at: String,
    at_machine: String,
    sight: Phrase,
    class: &'static str,
    is_night: bool,
    detections: Vec<DetectionLine>,
    judged: Vec<JudgedLine>,
    events: Vec<EventLine>,
    not_searched: String,
}

#[derive(Template)]
#[template(path = "looks.html")]
struct LooksTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    /// Query of this page.
    this: String,
    fault: String,
    loading: Option<u32>,
    looks: Vec<LookRow>,
    none: String,
    gaps: Vec<String>,
    /// Query of the page of older looks; empty without.
    older: String,
    is_newest: bool,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<LooksQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(view), Query(query)) = (path?, query?);
    let before = given(query.before).map(|text| text.parse::<Timestamp>()).transpose();
    let before =
        before.map_err(|_| Rejection::BadRequest(message!("before: not a time such as 2026-06-01T08:00:00Z")))?;
    let question = question(&app, &actor, view, before)?;
    let t = &page.t.ledger;
    let link_before = |at: Option<Timestamp>| {
        let mut link = url::form_urlencoded::Serializer::new(String::new());
        if let Some(at) = at {
            link.append_pair("before", &at.to_string());
        }
        link.finish()
    };
    let mut template = LooksTemplate {
        page: &page,
        view: question.view.clone(),
        this: link_before(question.before),
        fault: String::new(),
        loading: None,
        looks: Vec::new(),
        none: String::new(),
        gaps: Vec::new(),
        older: String::new(),
        is_newest: question.before.is_none(),
    };
    match ledger::looks(&app, question, PAGE_PATIENCE).await {
        Err(fault) => template.fault = fault.text(t),
        Ok(Progress::Running(thousandths)) => template.loading = Some(thousandths / 10),
        Ok(Progress::Done(found)) => {
            template.looks = found.page.looks.iter().map(|look| LookRow::new(&page, look)).collect();
            if found.page.looks.is_empty() {
                let none = t.look_none.with("from", page.time(found.from));
                template.none = none.with("to", page.time(found.to)).to_string();
            }
            template.gaps = found.page.gaps.describe();
            template.older = link_before(Some(older(&found)));
        }
    }
    page.show(&template)
}

impl LookRow {
    fn new(page: &Page, look: &LookHistory) -> Self {
        let detections = look.detections.iter().map(|detection| DetectionLine {
            label: page.label(&detection.label),
            percent: percent(detection.score),
        });
        let events = look.events.iter().map(|event| EventLine {
            rule: event.rule.to_string(),
            text: page.t.reasons.event(event.reason),
            case: event.case.as_ref().map(ToString::to_string).unwrap_or_default(),
        });
        // The judgement of the detection says it already.
        let is_told = |event: &&gridwatch_ledger::history::looks::LookEvent| {
            let why = match event.reason {
                Reason::NotFiled(why) => Some(why),
                _ => None,
            };
            why.is_some()
                && look
                    .judged
                    .iter()
                    .any(|judged| judged.rule == event.rule && judged.reason == why)
        };
        let events = events
            .zip(&look.events)
            .filter(|(_, event)| !is_told(event))
            .map(|(line, _)| line);
        let labels: Vec<String> = look.not_searched.iter().map(|label| page.label(label)).collect();
        Self {
            at: page.time(look.at),
            at_machine: page.machine_time(look.at),
            sight: page.t.names.sight(Some(look.view)),
            class: if look.view == View::Clear { "fine" } else { "impaired" },
            is_night: look.light == Light::Night,
            detections: detections.collect(),
            judged: look.judged.iter().map(|judged| JudgedLine::new(page, judged)).collect(),
            events: events.collect(),
            not_searched: match labels.is_empty() {
                true => String::new(),
                false => page.t.ledger.not_searched.with("labels", labels.join("、")).to_string(),
            },
        }
    }
}

impl JudgedLine {
    fn new(page: &Page, judged: &JudgedSeen) -> Self {
        let t = &page.t.ledger;
        let why = judged.reason.map(|reason| page.t.reasons.not_filed(reason).to_string());
        let why = why.unwrap_or_default();
        let (text, class) = match judged.outcome {
            "continues" => (t.counts_on.to_string(), "counts"),
            "starts" => (t.counts_start.to_string(), "counts"),
            "missed" => (t.missed.with("why", why).to_string(), "held"),
            "resting" => (t.resting.to_string(), "held"),
            _ => (t.held_back.with("why", why).to_string(), "held"),
        };
        let start = judged.start_score.filter(|start| judged.score < *start);
        Self {
            rule: judged.rule.to_string(),
            percent: percent(judged.score),
            text,
            start_score: start
                .map(|start| t.start_score.with("score", percent(start)).to_string())
                .unwrap_or_default(),
            class,
        }
    }
}
