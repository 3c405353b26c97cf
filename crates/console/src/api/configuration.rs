//! The configuration for programs and for the browser's modules: zones, calibrations, schedules, views, versions and texts.
//!
//! A change states the revision that it is based on. It answers 409 with the present state if somebody else has changed the same since, and
//! 422 with the faults if a check fails; nothing is written then.

mod files;
mod permits;
mod presets;
mod schedules;
mod signs;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{Method, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use gridwatch_config::{Language, diff::Change, raw};
use gridwatch_engine::CameraId;
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::{ActDetails, NotAnAct, NotDone},
    openapi::{Answer, Operation, schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub(crate) use self::files::{Number, reason};
use self::{
    files::{
        ChangeAnswer, ConfigurationAnswer, FileQuery, RestoreBody, SidesQuery, TextAnswer, TextBody, VersionAnswer,
        changes, restore, set_text, status, text, versions,
    },
    schedules::{RevisionQuery, SchedulesAnswer, WindowsBody, remove_schedule, schedules, set_schedule},
};
use crate::{
    aim::{self, AimAnswer},
    app::{App, Routes},
    configuration::{
        self, Conflict, EditOutcome, FaultAnswer, Part,
        parts::{self, CalibrationPart, FitBody, FitFault},
    },
    error,
    ground::GroundAnswer,
    page::Page,
    values::JsonObject,
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
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
    let change = |method, path, id, summary, act, body| Operation {
        method,
        path,
        id,
        summary,
        role: Role::Operator,
        act: Some(act),
        answer: Answer::Json(schema::<SavedAnswer>),
        body,
        query: None,
    };
    let admin = |operation| Operation {
        role: Role::Admin,
        ..operation
    };
    let routes = routes
        .api(
            get(
                "/api/v1/views/{view}/zones",
                "zones",
                "The zones of a view, as the files have them",
                Answer::Json(schema::<ZonesAnswer>),
            ),
            zones,
        )
        .api(
            change(
                Method::PUT,
                "/api/v1/views/{view}/zones",
                "set_zones",
                "Set the zones of a view",
                "console zones",
                Some(schema::<ZonesBody>),
            ),
            set_zones,
        )
        .api(
            get(
                "/api/v1/views/{view}/calibration",
                "calibration",
                "The calibration of a view, as the files have it",
                Answer::Json(schema::<CalibrationAnswer>),
            ),
            calibration,
        )
        .api(
            change(
                Method::PUT,
                "/api/v1/views/{view}/calibration",
                "set_calibration",
                "Set the point pairs of a view's calibration",
                "console calibration",
                Some(schema::<PairsBody>),
            ),
            set_calibration,
        )
        .api(
            Operation {
                role: Role::Viewer,
                answer: Answer::Json(schema::<GroundAnswer>),
                ..change(
                    Method::POST,
                    "/api/v1/views/{view}/calibration/fit",
                    "fit_calibration",
                    "Fit point pairs, without saving them: residuals, ground grid and borders of cells in the picture",
                    "console calibration fit",
                    Some(schema::<FitBody>),
                )
            },
            fit,
        )
        .api(
            get(
                "/api/v1/views/{view}/aim",
                "aim",
                "Whether a camera points at its learned view",
                Answer::Json(schema::<AimAnswer>),
            ),
            show_aim,
        )
        .api(
            Operation {
                answer: Answer::Nothing,
                ..change(
                    Method::POST,
                    "/api/v1/views/{view}/aim/confirm",
                    "confirm_view",
                    "Confirm that the present view is the right one: it is learned anew at the next look",
                    "console view confirm",
                    None,
                )
            },
            confirm_view,
        );
    let routes = presets::routes(signs::routes(permits::routes(routes)));
    let routes = routes
        .api(
            get(
                "/api/v1/schedules",
                "schedules",
                "The schedules, as the files have them",
                Answer::Json(schema::<SchedulesAnswer>),
            ),
            schedules,
        )
        .api(
            change(
                Method::PUT,
                "/api/v1/schedules/{id}",
                "set_schedule",
                "Set the windows of a schedule, which may be new",
                "console schedule",
                Some(schema::<WindowsBody>),
            ),
            set_schedule,
        )
        .api(
            Operation {
                query: Some(schema::<RevisionQuery>),
                ..change(
                    Method::DELETE,
                    "/api/v1/schedules/{id}",
                    "remove_schedule",
                    "Remove a schedule",
                    "console schedule remove",
                    None,
                )
            },
            remove_schedule,
        );
    routes
        .api(
            get(
                "/api/v1/configuration",
                "configuration",
                "Which configuration is in force",
                Answer::Json(schema::<ConfigurationAnswer>),
            ),
            status,
        )
        .api(
            get(
                "/api/v1/configuration/versions",
                "versions",
                "The kept versions of the configuration, the newest first",
                Answer::Json(schema::<Vec<VersionAnswer>>),
            ),
            versions,
        )
        .api(
            Operation {
                query: Some(schema::<SidesQuery>),
                ..get(
                    "/api/v1/configuration/changes",
                    "changes",
                    "What differs between two versions",
                    Answer::Json(schema::<Vec<ChangeAnswer>>),
                )
            },
            changes,
        )
        .api(
            admin(change(
                Method::POST,
                "/api/v1/configuration/versions/{id}/restore",
                "restore_version",
                "Make the files what they were in a version",
                "console configuration restore",
                Some(schema::<RestoreBody>),
            )),
            restore,
        )
        .api(
            Operation {
                query: Some(schema::<FileQuery>),
                ..admin(get(
                    "/api/v1/configuration/text",
                    "configuration_text",
                    "The text of a file of the configuration",
                    Answer::Json(schema::<TextAnswer>),
                ))
            },
            text,
        )
        .api(
            admin(change(
                Method::PUT,
                "/api/v1/configuration/text",
                "set_configuration_text",
                "Set the text of a file of the configuration",
                "console configuration text",
                Some(schema::<TextBody>),
            )),
            set_text,
        )
}

/// A change that was saved.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SavedAnswer {
    /// Revision of the files now.
    revision: String,
    /// Number of the version.
    version: u64,
    /// What it changed, one line each.
    changes: Vec<String>,
    /// True if the files are in force, but for what takes effect at a restart.
    in_force: bool,
    /// Fields whose change takes effect at the next start.
    awaits_restart: Vec<String>,
    /// Faults that keep the files from being in force.
    faults: Vec<FaultAnswer>,
    /// What the files name and cannot be used, so that they are not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// A problem document with further members (RFC 9457, section 3.2).
fn problem(status: StatusCode, detail: &str, members: Value) -> Response {
    let mut document = Map::new();
    document.insert("type".into(), "about:blank".into());
    document.insert("title".into(), status.canonical_reason().unwrap_or_default().into());
    document.insert("status".into(), status.as_u16().into());
    document.insert("detail".into(), detail.into());
    if let Value::Object(members) = members {
        document.extend(members);
    }
    let kind = [(CONTENT_TYPE, "application/problem+json")];
    let response = (status, kind, Value::Object(document).to_string());
    let mut response = response.into_response();
    response.extensions_mut().insert(NotDone(detail.into()));
    response
}

/// The answer to a change; `present` is what a conflict tells of the present state.
fn answer(page: &Page, details: ActDetails, outcome: EditOutcome, present: Value) -> Response {
    match outcome {
        EditOutcome::Saved(saved, reload) => {
            let restart = reload
                .changes
                .iter()
                .filter(|change| change.applies == gridwatch_config::diff::Applies::Restart);
            let saved = SavedAnswer {
                revision: saved.revision,
                version: saved.version,
                changes: lines(&saved.changes),
                in_force: reload.accepted,
                awaits_restart: restart.map(|change| change.path.clone()).collect(),
                faults: FaultAnswer::list(&reload.faults, page.answer_language()),
                error: reload.error,
            };
            details.with("version", saved.version).on(Json(saved))
        }
        EditOutcome::Conflict(Conflict { by, at, changes }) => {
            let mut members = json!({
                "by": by.map(|by| configuration::shown_name(page, &by)),
                "at": at.map(|at| page.time(at)),
                "changes": changes.map(|changes| lines(&changes)),
            });
            if let (Value::Object(members), Value::Object(present)) = (&mut members, present) {
                members.extend(present);
            }
            details.on(problem(
                StatusCode::CONFLICT,
                "somebody else has changed this since the revision; nothing was written",
                members,
            ))
        }
        EditOutcome::Faults(faults) => details.on(problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the configuration would have faults; nothing was written",
            json!({ "faults": FaultAnswer::list(&faults, page.answer_language()) }),
        )),
    }
}

/// Changes as lines, a bounded number.
fn lines(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .take(configuration::MAX_CHANGES)
        .map(ToString::to_string)
        .collect()
}

/// The files, or an answer with the faults that keep them from being read.
async fn read(app: &Arc<App>) -> Result<Result<Part, Response>, Rejection> {
    Ok(Part::read(app).await?.map_err(|faults| {
        problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the configuration's files cannot be read; mend them first",
            json!({ "faults": FaultAnswer::list(&faults, Language::En) }),
        )
    }))
}

/// What a conflict tells: the present revision.
async fn present_revision(app: &Arc<App>) -> Result<Value, Rejection> {
    Ok(match read(app).await? {
        Ok(part) => json!({ "revision": part.revision }),
        Err(_) => Value::Null,
    })
}

/// The zones of a view.
#[derive(Debug, Serialize, JsonSchema)]
struct ZonesAnswer {
    /// Revision of the files, for a change.
    revision: String,
    /// As in `[[cameras.zones]]`.
    #[schemars(with = "Vec<raw::Zone>")]
    zones: Value,
}

async fn zones(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let path = parts::path_of(&app, &actor, &view)?.key("zones");
    Ok(match read(&app).await? {
        Err(response) => response,
        Ok(part) => Json(ZonesAnswer {
            zones: part.list(&path),
            revision: part.revision,
        })
        .into_response(),
    })
}

/// Zones to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ZonesBody {
    /// The revision that the change is based on.
    revision: String,
    /// As in `[[cameras.zones]]`.
    #[schemars(with = "Vec<raw::Zone>")]
    zones: Vec<Value>,
}

async fn set_zones(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<ZonesBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (view, JsonObject(body)) = (CameraId::from(path?.0), body?);
    let path = parts::path_of(&app, &actor, &view)?.key("zones");
    let outcome = parts::save_zones(&app, &actor, &view, body.revision, body.zones).await?;
    let present = match &outcome {
        EditOutcome::Conflict(_) => match read(&app).await? {
            Ok(part) => json!({ "zones": part.list(&path), "revision": part.revision }),
            Err(_) => Value::Null,
        },
        _ => Value::Null,
    };
    Ok(answer(&page, ActDetails::new("view", &view), outcome, present))
}

/// The calibration of a view.
#[derive(Debug, Serialize, JsonSchema)]
struct CalibrationAnswer {
    /// Revision of the files, for a change.
    revision: String,
    /// Coordinate system of the ground points.
    crs: String,
    /// As in `[cameras.calibration]`, without defaults; null if there is none.
    #[schemars(with = "Option<raw::Calibration>")]
    calibration: Value,
}

impl From<CalibrationPart> for CalibrationAnswer {
    fn from(part: CalibrationPart) -> Self {
        Self {
            revision: part.revision,
            crs: part.crs,
            calibration: part.calibration,
        }
    }
}

async fn calibration(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let path = parts::path_of(&app, &actor, &view)?;
    Ok(match read(&app).await? {
        Err(response) => response,
        Ok(part) => Json(CalibrationAnswer::from(CalibrationPart::of(&app, &part, &path))).into_response(),
    })
}

/// Point pairs to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PairsBody {
    /// The revision that the change is based on.
    revision: String,
    /// As in `[cameras.calibration]`; empty: no calibration any more.
    #[schemars(with = "Vec<raw::PointPair>")]
    points: Vec<Value>,
}

async fn set_calibration(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<PairsBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (view, JsonObject(body)) = (CameraId::from(path?.0), body?);
    let path = parts::path_of(&app, &actor, &view)?;
    let outcome = parts::save_pairs(&app, &actor, &view, body.revision, body.points).await?;
    let present = match &outcome {
        EditOutcome::Conflict(_) => match read(&app).await? {
            Ok(part) => json!(CalibrationAnswer::from(CalibrationPart::of(&app, &part, &path))),
            Err(_) => Value::Null,
        },
        _ => Value::Null,
    };
    Ok(answer(&page, ActDetails::new("view", &view), outcome, present))
}

async fn fit(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<FitBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (view, JsonObject(body)) = (CameraId::from(path?.0), body?);
    parts::path_of(&app, &actor, &view)?;
    let config = app.config();
    let fitted = configuration::blocking(&app, move |_| parts::fit(&config, &body)).await?;
    let mut response = match fitted {
        Ok(ground) => Json(ground).into_response(),
        Err(fault) => {
            let (code, pairs) = fault.code();
            let members = json!({ "code": code, "pairs": pairs, "message": fit_message(&page, &fault) });
            problem(StatusCode::UNPROCESSABLE_ENTITY, &fault.message(), members)
        }
    };
    // Nothing is changed.
    response.extensions_mut().insert(NotAnAct);
    Ok(response)
}

/// What is wrong with pairs, in the page's language. Pairs are counted from 1 there.
fn fit_message(page: &Page, fault: &FitFault) -> String {
    let t = &page.t.configuration;
    let (code, pairs) = fault.code();
    let number = |n: usize| pairs.get(n).map_or(0, |pair| pair + 1);
    match code {
        "too_few" => t.fit_too_few.to_string(),
        "out_of_range" => t.fit_out_of_range.with("n", number(0)).to_string(),
        "duplicate" => t.fit_duplicate.with("a", number(0)).with("b", number(1)).to_string(),
        "collinear" => t.fit_collinear.to_string(),
        "above_horizon" => t.fit_above_horizon.with("n", number(0)).to_string(),
        "mirrored" => t.fit_mirrored.to_string(),
        "contradicts" => t.fit_contradicts.with("n", number(0)).to_string(),
        "lens" => t.fit_lens.to_string(),
        _ => t.fit_invalid.with("what", fault.message()).to_string(),
    }
}

async fn show_aim(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<AimAnswer>, Rejection> {
    let view = CameraId::from(path?.0);
    Ok(Json(aim::read(&app, &actor, &view).await?.into()))
}

async fn confirm_view(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let details = ActDetails::new("view", &view);
    Ok(match aim::confirm(&app, &actor, &view).await {
        Ok(()) => details.on(StatusCode::NO_CONTENT),
        Err(rejection) => details.on(rejection),
    })
}

/// Refuses what concerns all cameras to users who may not see all.
pub(crate) fn expect_unrestricted(actor: &Actor) -> Result<(), Rejection> {
    match actor.is_restricted() {
        true => Err(error::restricted()),
        false => Ok(()),
    }
}
