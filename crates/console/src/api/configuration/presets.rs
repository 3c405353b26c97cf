//! The presets of cameras.

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
use gridwatch_engine::CameraId;
use gridwatch_vision::views::Standing;
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
    configuration::{EditOutcome, view_path},
    page::Page,
    presets::{self, PresetInput},
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let operation = |method, path, id, summary| Operation {
        method,
        path,
        id,
        summary,
        role: Role::Operator,
        act: None,
        answer: Answer::Json(schema::<SavedAnswer>),
        body: None,
        query: None,
    };
    let list = Operation {
        role: Role::Viewer,
        answer: Answer::Json(schema::<PresetsAnswer>),
        ..operation(
            Method::GET,
            "/api/v1/views/{view}/presets",
            "presets",
            "All views of a view's camera, with what is learned of them; a camera's id is taken, too",
        )
    };
    let add = Operation {
        act: Some("console preset add"),
        body: Some(schema::<PresetBody>),
        ..operation(
            Method::POST,
            "/api/v1/views/{view}/presets",
            "add_preset",
            "Add a preset to a view's camera, which must have presets; a camera's id is taken, too",
        )
    };
    let change = Operation {
        act: Some("console preset"),
        body: Some(schema::<PresetBody>),
        ..operation(
            Method::PUT,
            "/api/v1/views/{view}/preset",
            "set_preset",
            "Set id, address and place of a preset; under a new id it must be learned anew",
        )
    };
    let remove = Operation {
        act: Some("console preset remove"),
        query: Some(schema::<RevisionQuery>),
        ..operation(
            Method::DELETE,
            "/api/v1/views/{view}/preset",
            "remove_preset",
            "Remove a preset with its zones; the last one of a camera stays",
        )
    };
    routes
        .api(list, show)
        .api(add, record)
        .api(change, set)
        .api(remove, delete)
}

/// The views of a camera.
#[derive(Debug, Serialize, JsonSchema)]
struct PresetsAnswer {
    /// Revision of the files, for a change.
    revision: String,
    /// Id of the camera.
    camera: String,
    /// Its views; one without a preset id on a camera without presets.
    views: Vec<PresetAnswer>,
}

/// One view.
#[derive(Debug, Serialize, JsonSchema)]
struct PresetAnswer {
    /// Its id.
    view: String,
    /// Id of the preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    /// Address in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// As in `[cameras.place]`; null if it is not set.
    place: Value,
    /// `learning`, `aimed` or `moved`; absent before the first look.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    standing: Option<Standing>,
    /// Since when; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// True while a request to learn it waits for the next look.
    pending: bool,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), config) = (path?, app.config());
    let camera = presets::camera_of(&config, &actor, &name)?;
    let part = match read(&app).await? {
        Ok(part) => part,
        Err(response) => return Ok(response),
    };
    let learned = presets::learned(&app, camera).await?;
    let views = camera
        .presets
        .iter()
        .zip(learned)
        .map(|(preset, learned)| PresetAnswer {
            view: preset.view.to_string(),
            preset: preset.id.clone(),
            address: preset.address.clone(),
            place: part.at(&view_path(camera, preset).key("place")),
            standing: learned.standing.map(|(standing, _)| standing),
            since: learned.standing.map(|(_, since)| since.to_string()),
            pending: learned.is_pending,
        });
    let answer = PresetsAnswer {
        camera: camera.id.to_string(),
        views: views.collect(),
        revision: part.revision,
    };
    Ok(Json(answer).into_response())
}

/// What a preset is to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PresetBody {
    /// The revision that the change is based on.
    #[schemars(length(min = 1, max = 64))]
    revision: String,
    /// Id within the camera.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    id: String,
    /// Address in words; absent: none. At most 200 characters, none of them a control character.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[^\x00-\x1f\x7f-\x9f]{0,200}$"))]
    address: Option<String>,
    /// Longitude in degrees, in the camera's coordinate system.
    #[schemars(range(min = -180.0, max = 180.0))]
    lon: f64,
    /// Latitude in degrees.
    #[schemars(range(min = -90.0, max = 90.0))]
    lat: f64,
    /// Radius in metres of a circle that covers everything the view shows; absent: 30.
    #[serde(default)]
    #[schemars(range(min = 1.0, max = 1000.0))]
    uncertainty_m: Option<f64>,
    /// Learn the picture of this moment for it: the camera stands there.
    #[serde(default)]
    learn: bool,
}

impl PresetBody {
    fn into_input(self) -> (String, bool, PresetInput) {
        let input = PresetInput {
            id: self.id,
            address: self.address.unwrap_or_default(),
            lon: self.lon,
            lat: self.lat,
            uncertainty_m: self.uncertainty_m,
        };
        (self.revision, self.learn, input)
    }
}

async fn record(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<PresetBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), Json(body)) = (path?, body?);
    let (revision, wants_learning, input) = body.into_input();
    let (view, outcome) = presets::add(&app, &actor, &name, revision, input).await?;
    shown(&app, &page, &view, wants_learning, outcome).await
}

async fn set(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<PresetBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let (before, Json(body)) = (CameraId::from(path?.0), body?);
    let (revision, wants_learning, input) = body.into_input();
    let (view, outcome) = presets::rename(&app, &actor, &before, revision, input).await?;
    shown(&app, &page, &view, wants_learning, outcome).await
}

async fn delete(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<RevisionQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (view, Query(RevisionQuery { revision })) = (CameraId::from(path?.0), query?);
    let outcome = presets::remove(&app, &actor, &view, revision).await?;
    shown(&app, &page, &view, false, outcome).await
}

async fn shown(
    app: &Arc<App>,
    page: &Page,
    view: &CameraId,
    wants_learning: bool,
    outcome: EditOutcome,
) -> Result<Response, Rejection> {
    let present = match &outcome {
        EditOutcome::Saved(_, reload) if wants_learning && reload.accepted => {
            presets::learn(app, view).await?;
            Value::Null
        }
        EditOutcome::Conflict(_) => super::present_revision(app).await?,
        _ => Value::Null,
    };
    Ok(answer(page, ActDetails::new("view", view), outcome, present))
}
