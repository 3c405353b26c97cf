//! Permits, by view and id.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{JsonRejection, PathRejection, QueryRejection},
    },
    http::Method,
    response::{IntoResponse, Response},
};
use gridwatch_config::raw;
use gridwatch_engine::CameraId;
use gridwatch_ledger::places::MAX_DAYS;
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::ActDetails,
    openapi::{Answer, Operation, schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SavedAnswer, answer, read, schedules::RevisionQuery};
use crate::{
    app::{App, Routes},
    configuration::EditOutcome,
    page::Page,
    permits::{
        self, Permit, PermitHours, PermitInput, PermitState,
        proposals::{self, Doubt, PlaceProposal},
    },
    values::Whole,
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let change = |method, summary, id, act| Operation {
        method,
        path: "/api/v1/views/{view}/permits/{id}",
        id,
        summary,
        role: Role::Operator,
        act: Some(act),
        answer: Answer::Json(schema::<SavedAnswer>),
        body: None,
        query: None,
    };
    let get = |path, id, summary, answer| Operation {
        method: Method::GET,
        path,
        id,
        summary,
        role: Role::Viewer,
        act: None,
        answer,
        body: None,
        query: None,
    };
    let routes = routes.taking(proposals::TIME, |routes| {
        routes.api(
            Operation {
                query: Some(schema::<ProposalsQuery>),
                ..get(
                    "/api/v1/permits/proposals",
                    "permit_proposals",
                    "Places where things stood at similar hours on most days, from the ledger; takes seconds",
                    Answer::Json(schema::<Vec<ProposalAnswer>>),
                )
            },
            propose,
        )
    });
    routes
        .api(
            get(
                "/api/v1/permits",
                "permits",
                "The permits of all views, as the files have them, and whether they hold now",
                Answer::Json(schema::<PermitsAnswer>),
            ),
            list,
        )
        .api(
            Operation {
                body: Some(schema::<PermitBody>),
                ..change(
                    Method::PUT,
                    "Set a permit; a new one needs its outline",
                    "set_permit",
                    "console permit",
                )
            },
            set,
        )
        .api(
            Operation {
                query: Some(schema::<RevisionQuery>),
                ..change(
                    Method::DELETE,
                    "Remove a permit, with its schedule if nothing else names that",
                    "remove_permit",
                    "console permit remove",
                )
            },
            remove,
        )
}

/// The permits.
#[derive(Debug, Serialize, JsonSchema)]
struct PermitsAnswer {
    /// Revision of the files, for a change.
    revision: String,
    /// In the order of the files.
    permits: Vec<PermitAnswer>,
}

/// A permit.
#[derive(Debug, Serialize, JsonSchema)]
struct PermitAnswer {
    /// The view.
    view: String,
    /// Id of its zone in the view.
    id: String,
    /// Its outline, as in `[[cameras.zones]]`.
    #[schemars(with = "Vec<[f64; 2]>")]
    polygon: Value,
    /// Ids of the rules that it exempts; empty: all.
    rules: Vec<String>,
    /// Id of its schedule.
    schedule: String,
    /// Whether it holds now.
    state: PermitState,
    /// First day.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_from: Option<String>,
    /// Last day.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<String>,
    /// Number of the permit.
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<String>,
    /// Note for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl From<Permit> for PermitAnswer {
    fn from(permit: Permit) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            view: permit.view.to_string(),
            id: permit.id,
            polygon: permit.polygon,
            rules: permit.rules,
            schedule: permit.schedule,
            state: permit.state,
            valid_from: given(permit.valid_from),
            valid_until: given(permit.valid_until),
            permit: given(permit.number),
            note: given(permit.note),
        }
    }
}

async fn list(State(app): State<Arc<App>>, actor: Actor) -> Result<Response, Rejection> {
    Ok(match read(&app).await? {
        Err(response) => response,
        Ok(part) => Json(PermitsAnswer {
            permits: permits::list(&app, &actor, &part).into_iter().map(Into::into).collect(),
            revision: part.revision,
        })
        .into_response(),
    })
}

/// What a permit is to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PermitBody {
    /// The revision that the change is based on.
    #[schemars(length(min = 1, max = 64))]
    revision: String,
    /// The outline of a new permit, as in `[[cameras.zones]]`; of one that is there, the outline stays.
    #[serde(default)]
    #[schemars(with = "Option<Vec<[f64; 2]>>")]
    polygon: Option<Vec<Value>>,
    /// Ids of the rules that it exempts; empty: all.
    #[serde(default)]
    rules: Vec<String>,
    /// Id of a schedule; absent: `windows` of its own.
    #[serde(default)]
    schedule: Option<String>,
    /// Windows of its own, as in `[[schedules]]`.
    #[serde(default)]
    #[schemars(with = "Vec<raw::Window>")]
    windows: Vec<Value>,
    /// First day, such as `2026-05-01`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    valid_from: Option<String>,
    /// Last day.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    valid_until: Option<String>,
    /// Number of the permit.
    #[serde(default)]
    #[schemars(length(max = 100))]
    permit: Option<String>,
    /// Note for people.
    #[serde(default)]
    #[schemars(length(max = 500))]
    note: Option<String>,
}

async fn set(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
    body: Result<Json<PermitBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let (Path((view, id)), Json(body)) = (path?, body?);
    let view = CameraId::from(view);
    let part = match read(&app).await? {
        Ok(part) => part,
        Err(response) => return Ok(response),
    };
    let is_there = permits::list(&app, &actor, &part)
        .iter()
        .any(|permit| permit.view == view && permit.id == id);
    let text = Option::unwrap_or_default;
    let input = PermitInput {
        rules: body.rules,
        hours: match body.schedule {
            Some(schedule) => PermitHours::Named(schedule),
            None => PermitHours::Own(body.windows),
        },
        valid_from: text(body.valid_from),
        valid_until: text(body.valid_until),
        number: text(body.permit),
        note: text(body.note),
    };
    let edit = match (is_there, body.polygon) {
        (true, _) => permits::changing(&app, &actor, (&view, &id), body.revision, input)?,
        (false, Some(polygon)) => {
            let ground = vec![(view.clone(), Value::Array(polygon))];
            permits::adding(&app, &actor, body.revision, &id, ground, input)?
        }
        // What is not there has no outline.
        (false, None) => return Err(Rejection::NotFound),
    };
    let outcome = permits::save(&app, &actor, edit).await?;
    shown(&app, &page, &view, &id, outcome).await
}

async fn remove(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<(String, String)>, PathRejection>,
    query: Result<Query<RevisionQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path((view, id)), Query(RevisionQuery { revision })) = (path?, query?);
    let view = CameraId::from(view);
    let edit = permits::removing(&app, &actor, (&view, &id), revision)?;
    let outcome = permits::save(&app, &actor, edit).await?;
    shown(&app, &page, &view, &id, outcome).await
}

async fn shown(
    app: &Arc<App>,
    page: &Page,
    view: &CameraId,
    id: &str,
    outcome: EditOutcome,
) -> Result<Response, Rejection> {
    let present = match &outcome {
        EditOutcome::Conflict(_) => super::present_revision(app).await?,
        _ => Value::Null,
    };
    let details = ActDetails::new("view", view).with("permit", id);
    Ok(answer(page, details, outcome, present))
}

/// How many days are searched.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProposalsQuery {
    /// Days back from now; default 14.
    days: Option<Whole<5, MAX_DAYS>>,
}

/// A place that could be permitted.
#[derive(Debug, Serialize, JsonSchema)]
struct ProposalAnswer {
    /// The view.
    view: String,
    /// Ids of the rules whose objects stood there.
    rules: Vec<String>,
    /// Its outline.
    #[schemars(with = "Vec<[f64; 2]>")]
    polygon: Value,
    /// Windows of a schedule, as in `[[schedules]]`.
    #[schemars(with = "Vec<raw::Window>")]
    windows: Value,
    /// Cases that were filed there in that time.
    cases: usize,
    /// Why it should not be permitted as it is: `accepted`, `always` or `after_midnight`.
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<&'static str>,
    /// The case that the platform accepted there.
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_case: Option<String>,
}

impl From<&PlaceProposal> for ProposalAnswer {
    fn from(place: &PlaceProposal) -> Self {
        let (doubt, accepted_case) = match &place.doubt {
            None => (None, None),
            Some(Doubt::Accepted(case)) => (Some("accepted"), Some(case.clone())),
            Some(Doubt::Always) => (Some("always"), None),
            Some(Doubt::AfterMidnight) => (Some("after_midnight"), None),
        };
        Self {
            view: place.view.to_string(),
            rules: place.rules.clone(),
            polygon: place.polygon(),
            windows: place.windows(),
            cases: place.cases,
            doubt,
            accepted_case,
        }
    }
}

async fn propose(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<ProposalsQuery>, QueryRejection>,
) -> Result<Json<Vec<ProposalAnswer>>, Rejection> {
    let Query(ProposalsQuery { days }) = query?;
    let days = days.map_or(proposals::DEFAULT_DAYS, Whole::get);
    let found = proposals::search(&app, &actor, days).await?;
    Ok(Json(found.places.iter().map(Into::into).collect()))
}
