//! Schedules, by their ids.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use gridwatch_config::raw;
use gridwatch_web::{Actor, Rejection, audit::ActDetails};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{answer, expect_unrestricted, read};
use crate::{
    app::App,
    configuration::{EditOutcome, parts},
    page::Page,
    values::{Id, JsonObject},
};

/// The schedules.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SchedulesAnswer {
    /// Revision of the files, for a change.
    revision: String,
    /// As in `[[schedules]]`.
    #[schemars(with = "Vec<raw::Schedule>")]
    schedules: Value,
}

pub(super) async fn schedules(State(app): State<Arc<App>>, actor: Actor) -> Result<Response, Rejection> {
    expect_unrestricted(&actor)?;
    Ok(match read(&app).await? {
        Err(response) => response,
        Ok(part) => Json(SchedulesAnswer {
            schedules: part.list(&parts::schedules()),
            revision: part.revision,
        })
        .into_response(),
    })
}

/// Windows to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WindowsBody {
    /// The revision that the change is based on.
    revision: String,
    /// As in `[[schedules]]`.
    #[schemars(with = "Vec<raw::Window>")]
    windows: Vec<Value>,
}

pub(super) async fn set_schedule(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<Id>, PathRejection>,
    body: Result<JsonObject<WindowsBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(id), JsonObject(body)) = (path?, body?);
    let id = id.as_str();
    let outcome = parts::save_windows(&app, &actor, id, body.revision, body.windows).await?;
    let present = present_schedule(&app, id, &outcome).await?;
    Ok(answer(&page, ActDetails::new("schedule", id), outcome, present))
}

/// What a conflict tells of a schedule.
pub(super) async fn present_schedule(app: &Arc<App>, id: &str, outcome: &EditOutcome) -> Result<Value, Rejection> {
    if !matches!(outcome, EditOutcome::Conflict(_)) {
        return Ok(Value::Null);
    }
    Ok(match read(app).await? {
        Ok(part) => json!({
            "windows": part.list(&parts::schedules().id(id).key("windows")),
            "revision": part.revision,
        }),
        Err(_) => Value::Null,
    })
}

/// The revision that a change is based on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevisionQuery {
    /// The revision that the change is based on.
    pub(super) revision: String,
}

pub(super) async fn remove_schedule(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<Id>, PathRejection>,
    query: Result<Query<RevisionQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(id), Query(RevisionQuery { revision })) = (path?, query?);
    let id = id.as_str();
    let outcome = parts::remove_schedule(&app, &actor, id, revision).await?;
    let present = present_schedule(&app, id, &outcome).await?;
    Ok(answer(&page, ActDetails::new("schedule", id), outcome, present))
}
