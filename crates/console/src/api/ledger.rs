//! Operations that ask the ledger: thresholds tried and applied, candidates that were not filed, looks of a camera.

mod tried;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{
        Path, Query, RawQuery, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::Method,
    response::{IntoResponse, Response},
};
use gridwatch_base::message;
use gridwatch_engine::Rule;
use gridwatch_ledger::{history::candidates::CandidateList, what_if::Threshold};
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::ActDetails,
    openapi::{Answer, Operation, schema},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::tried::{ThresholdValues, TriedQuery, expect_has, expect_valid};
use super::configuration::expect_unrestricted;
use crate::{
    app::{App, Routes},
    ledger::{self, API_PATIENCE, LedgerFault, LoadedDays, Progress},
    pages::{self, ApplyFault, Asked, CandidateAsked, CandidatesFilter},
    values::{Day, JsonObject, ReasonName, Whole},
};

/// Candidates in an answer.
const PAGE: usize = 200;

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let get = |path, id, summary, query, answer| Operation {
        method: Method::GET,
        path,
        id,
        summary,
        role: Role::Viewer,
        act: None,
        answer: Answer::Json(answer),
        body: None,
        query,
    };
    let tried = Some(schema::<TriedQuery> as gridwatch_web::openapi::SchemaOf);
    routes
        .api(
            get(
                "/api/v1/rules/{id}/thresholds",
                "thresholds",
                "The thresholds of a rule as they are in force, with their ranges",
                None,
                schema::<RuleThresholds>,
            ),
            thresholds,
        )
        .api(
            Operation {
                method: Method::POST,
                role: Role::Operator,
                act: Some("console thresholds"),
                body: Some(schema::<ThresholdsChange>),
                ..get(
                    "/api/v1/rules/{id}/thresholds",
                    "set_thresholds",
                    "Write thresholds of a rule into the configuration and put them into force",
                    None,
                    schema::<ThresholdsApplied>,
                )
            },
            apply,
        )
        .api(
            get(
                "/api/v1/what-if",
                "what_if",
                "What the last days would have filed with other thresholds of a rule. Status 503 while the records are being read: ask again",
                tried,
                schema::<WhatIfDocument>,
            ),
            what_if,
        )
        .api(
            get(
                "/api/v1/what-if/curve",
                "curve",
                "Cases a day, precision and recall over one threshold",
                tried,
                schema::<WhatIfDocument>,
            ),
            curve,
        )
        .api(
            get(
                "/api/v1/candidates",
                "candidates",
                "Candidates that were not filed, the newest first, and why",
                Some(schema::<CandidatesQuery>),
                schema::<CandidatesDocument>,
            ),
            candidates,
        )
        .api(
            get(
                "/api/v1/views/{view}/looks",
                "looks",
                "Looks of a view and what rules made of them, the newest first",
                Some(schema::<LooksQuery>),
                schema::<LooksDocument>,
            ),
            looks,
        )
}

/// The thresholds of a rule.
#[derive(Debug, Serialize, JsonSchema)]
struct RuleThresholds {
    /// Id of the rule.
    rule: String,
    /// Revision of the configuration's files, for writing.
    revision: String,
    thresholds: Vec<ThresholdValue>,
}

/// A threshold.
#[derive(Debug, Serialize, JsonSchema)]
struct ThresholdValue {
    /// Its name.
    name: &'static str,
    /// Its value in force; durations are in seconds.
    value: f64,
    /// Smallest value.
    min: f64,
    /// Largest value.
    max: f64,
    /// Only whole numbers.
    is_whole: bool,
}

/// Thresholds to be written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ThresholdsChange {
    /// Revision of the configuration that the change is made for.
    revision: String,
    #[schemars(with = "ThresholdValues")]
    thresholds: BTreeMap<String, f64>,
}

/// What was written.
#[derive(Debug, Serialize, JsonSchema)]
struct ThresholdsApplied {
    /// Fields with their old and new values.
    #[schemars(with = "Vec<BTreeMap<String, Value>>")]
    changes: Vec<gridwatch_config::diff::Change>,
}

/// An answer about tried thresholds.
#[derive(Debug, Serialize, JsonSchema)]
struct WhatIfDocument {
    /// Begin of the time that is reported.
    #[schemars(with = "String")]
    from: Timestamp,
    /// Its end: the newest look.
    #[schemars(with = "String")]
    to: Timestamp,
    /// Looks that were read.
    looks: usize,
    /// As `gridwatch ledger what-if --json` prints it.
    #[schemars(with = "BTreeMap<String, Value>")]
    answer: Value,
    /// What could not be read, one sentence each.
    gaps: Vec<String>,
}

/// What candidates are filtered by.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CandidatesQuery {
    /// A camera with all its presets, or one preset.
    camera: Option<String>,
    /// Id of a rule.
    rule: Option<String>,
    /// Why it was not filed.
    reason: Option<ReasonName>,
    /// First day, in the city's time zone. By default the day before the last.
    from: Option<Day>,
    /// Last day. By default today. At most 14 days at once.
    until: Option<Day>,
    /// Also detections that became no candidate.
    unstarted: Option<bool>,
    /// Page of the list.
    page: Option<Whole<1, 1000>>,
}

/// Which page of looks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LooksQuery {
    /// Looks before this time, RFC 3339; by default the newest.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    before: Option<Timestamp>,
}

/// Candidates.
#[derive(Debug, Serialize, JsonSchema)]
struct CandidatesDocument {
    /// As `gridwatch ledger why-not --json` prints them; at most 200 on a page.
    candidates: Vec<BTreeMap<String, Value>>,
    /// How many there are of each reason.
    reasons: BTreeMap<&'static str, usize>,
    /// How many match.
    count: usize,
    /// There were more than the newest 2000, which were not searched.
    is_cut: bool,
    /// What could not be read or judged, one sentence each.
    gaps: Vec<String>,
}

/// Looks.
#[derive(Debug, Serialize, JsonSchema)]
struct LooksDocument {
    /// The newest first.
    looks: Vec<BTreeMap<String, Value>>,
    /// `before` of the next page.
    #[schemars(with = "String")]
    older: Timestamp,
    /// What could not be read or judged, one sentence each.
    gaps: Vec<String>,
}

/// As an object of JSON.
fn object(value: &impl Serialize) -> Result<BTreeMap<String, Value>, Rejection> {
    let value = serde_json::to_value(value).and_then(serde_json::from_value);
    value.map_err(|error| Rejection::internal(&error))
}

/// The result, unless it is still being computed.
fn done<T>(progress: Progress<T>) -> Result<Arc<T>, Rejection> {
    match progress {
        Progress::Done(value) => Ok(value),
        Progress::Running(thousandths) => Err(Rejection::Unavailable(message!(
            "the ledger is being read, {percent} % done; ask again",
            percent = thousandths / 10
        ))),
    }
}

fn not_applied(fault: ApplyFault) -> Rejection {
    match &fault {
        ApplyFault::Conflict(_) => Rejection::Conflict(fault.to_string().into()),
        ApplyFault::Nothing | ApplyFault::Faults(_) => Rejection::Unfit(fault.to_string().into()),
        ApplyFault::NotSaved(_) | ApplyFault::NotInForce(_) => Rejection::Unavailable(fault.to_string().into()),
    }
}

fn values(rule: &Rule) -> Vec<ThresholdValue> {
    let value = |threshold: Threshold| {
        let range = threshold.range();
        Some(ThresholdValue {
            name: threshold.as_str(),
            value: threshold.get(rule)?,
            min: range.min,
            max: range.max,
            is_whole: range.is_whole,
        })
    };
    Threshold::ALL.into_iter().filter_map(value).collect()
}

async fn thresholds(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    let config = app.config();
    let rule = config.plan.rules.iter().find(|rule| rule.id.as_str() == id);
    let rule = rule.ok_or(Rejection::NotFound)?;
    let answer = RuleThresholds {
        revision: pages::revision(&app).await.map_err(not_applied)?,
        thresholds: values(rule),
        rule: id,
    };
    Ok(Json(answer).into_response())
}

/// The rule with these thresholds.
fn asked(app: &App, actor: &Actor, id: &str, thresholds: &BTreeMap<String, f64>) -> Result<Asked, Rejection> {
    let config = app.config();
    let known = config.plan.rules.iter().find(|rule| rule.id.as_str() == id);
    let known = known.ok_or(Rejection::NotFound)?;
    let mut fields = url::form_urlencoded::Serializer::new(String::new());
    fields.append_pair("rule", id);
    for (name, value) in thresholds {
        let threshold = expect_valid(name, *value)?;
        expect_has(known, [threshold])?;
        fields.append_pair(name, &value.to_string());
    }
    Ok(Asked::parse(&fields.finish(), &config, actor)?)
}

async fn apply(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<ThresholdsChange>, Rejection>,
) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    let (Path(id), JsonObject(change)) = (path?, body?);
    let asked = asked(&app, &actor, &id, &change.thresholds)?;
    let mut details = ActDetails::new("rule", &id);
    for (threshold, now, tried) in asked.changes() {
        details = details.with(threshold.as_str(), format!("{now} → {tried}"));
    }
    match pages::apply::apply(&app, &actor.person(), &asked, &change.revision).await {
        Ok(changes) => Ok(details.on(Json(ThresholdsApplied { changes }))),
        Err(fault) => Ok(details.on(not_applied(fault))),
    }
}

/// What is asked for, and the days that it is asked of.
async fn loaded(app: &Arc<App>, actor: &Actor, query: Option<String>) -> Result<(Asked, Arc<LoadedDays>), Rejection> {
    let asked = TriedQuery::parse(&query.unwrap_or_default(), &app.config(), actor)?;
    let loaded = done(ledger::days(app, asked.days, API_PATIENCE).await?)?;
    Ok((asked, loaded))
}

fn document(loaded: &LoadedDays, answer: &impl Serialize) -> Result<Response, Rejection> {
    let document = WhatIfDocument {
        from: loaded.from,
        to: loaded.to,
        looks: loaded.what_if.looks(),
        answer: serde_json::to_value(answer).map_err(|error| Rejection::internal(&error))?,
        gaps: loaded.what_if.damage().iter().map(ToString::to_string).collect(),
    };
    Ok(Json(document).into_response())
}

async fn what_if(State(app): State<Arc<App>>, actor: Actor, RawQuery(query): RawQuery) -> Result<Response, Rejection> {
    let (asked, loaded) = loaded(&app, &actor, query).await?;
    let answer = pages::whatif(&app, &loaded, &asked).await?;
    document(&loaded, &answer)
}

async fn curve(State(app): State<Arc<App>>, actor: Actor, RawQuery(query): RawQuery) -> Result<Response, Rejection> {
    let (asked, loaded) = loaded(&app, &actor, query).await?;
    let answer = pages::curve(&app, Arc::clone(&loaded), &asked).await?;
    document(&loaded, &answer)
}

async fn candidates(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<CandidatesQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let config = app.config();
    let filter = CandidatesFilter {
        camera: query.camera,
        rule: query.rule,
        reason: query.reason.map(ReasonName::get),
        from: query.from.map(Day::get),
        until: query.until.map(Day::get),
        with_unstarted: query.unstarted.unwrap_or(false),
    };
    let asked = CandidateAsked::new(filter, &config.timezone, Timestamp::now())?;
    let list = match ledger::candidates(&app, asked.question.clone(), API_PATIENCE).await {
        // There were none before the first look.
        Err(LedgerFault::Empty) => Arc::new(CandidateList::default()),
        list => done(list?)?,
    };
    let (found, counts) = asked.select(&list, &actor, &config);
    let skipped = (query.page.map_or(1, Whole::get) as usize - 1) * PAGE;
    let on_page = found.iter().skip(skipped).take(PAGE).map(object);
    let document = CandidatesDocument {
        candidates: on_page.collect::<Result<_, _>>()?,
        reasons: counts.into_iter().map(|(reason, n)| (reason.as_str(), n)).collect(),
        count: found.len(),
        is_cut: list.left_out > 0,
        gaps: list.gaps.describe(),
    };
    Ok(Json(document).into_response())
}

async fn looks(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<LooksQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(view), Query(query)) = (path?, query?);
    let question = pages::question(&app, &actor, view, query.before)?;
    let found = match ledger::looks(&app, question, API_PATIENCE).await {
        Err(LedgerFault::Empty) => {
            let none = LooksDocument {
                looks: Vec::new(),
                older: query.before.unwrap_or_else(Timestamp::now),
                gaps: Vec::new(),
            };
            return Ok(Json(none).into_response());
        }
        found => done(found?)?,
    };
    let document = LooksDocument {
        looks: found.page.looks.iter().map(object).collect::<Result<_, _>>()?,
        older: pages::older(&found),
        gaps: found.page.gaps.describe(),
    };
    Ok(Json(document).into_response())
}
