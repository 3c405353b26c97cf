//! The JSON API of live video, and of adding and removing cameras.

mod add;
mod probe;
mod search;

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, Method},
    response::Response,
};
use gridwatch_base::message;
use gridwatch_engine::CameraId;
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::ActDetails,
    client::Client,
    openapi::{Answer, Operation, schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    add::{AddBody, AddedAnswer, add_camera},
    probe::{ProbeAnswer, ProbeBody, probe_camera, probe_picture, probe_result},
    search::{SearchAnswer, SearchBody, search_cameras, search_result},
};
use crate::{
    access::CameraAccess as _,
    add::{RemoveFault, remove, revision},
    app::{App, Routes},
    events::Watcher,
    live,
    values::JsonObject,
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let get = |path, id, summary, role, answer| Operation {
        method: Method::GET,
        path,
        id,
        summary,
        role,
        act: None,
        answer,
        body: None,
        query: None,
    };
    let post = |path, id, summary, act, answer, body| Operation {
        method: Method::POST,
        act: Some(act),
        body: Some(body),
        ..get(path, id, summary, Role::Operator, answer)
    };
    let operator = Role::Operator;
    routes
        .api(
            get(
                "/api/v1/views/{view}/live.mp4",
                "live",
                "Live video without masks, for the roles that may see those; each start is in the audit log",
                Role::Viewer,
                Answer::Mp4,
            ),
            live_video,
        )
        .api(
            post(
                "/api/v1/camera-searches",
                "search_cameras",
                "Search the box's networks for cameras (WS-Discovery), for 4 s",
                "console camera search",
                Answer::Json(schema::<StartedAnswer>),
                schema::<SearchBody>,
            ),
            search_cameras,
        )
        .api(
            get(
                "/api/v1/camera-searches/{id}",
                "camera_search",
                "What a search has found so far",
                operator,
                Answer::Json(schema::<SearchAnswer>),
            ),
            search_result,
        )
        .api(
            post(
                "/api/v1/camera-probes",
                "probe_camera",
                "Probe a camera: ONVIF, both streams for some seconds, advice, and the first picture with detections",
                "console camera probe",
                Answer::Json(schema::<StartedAnswer>),
                schema::<ProbeBody>,
            ),
            probe_camera,
        )
        .api(
            get(
                "/api/v1/camera-probes/{id}",
                "camera_probe",
                "How far a probe has come; it is stopped if nobody asks for 30 s, and forgotten after 15 minutes",
                operator,
                Answer::Json(schema::<ProbeAnswer>),
            ),
            probe_result,
        )
        .api(
            get(
                "/api/v1/camera-probes/{id}/picture",
                "camera_probe_picture",
                "The first picture of a probed camera, masked",
                operator,
                Answer::Jpeg,
            ),
            probe_picture,
        )
        .api(
            post(
                "/api/v1/cameras",
                "add_camera",
                "Save a probed camera into the configuration, and put it into force",
                "console camera add",
                Answer::Json(schema::<AddedAnswer>),
                schema::<AddBody>,
            ),
            add_camera,
        )
        .api(
            Operation {
                method: Method::DELETE,
                act: Some("console camera remove"),
                query: Some(schema::<RevisionQuery>),
                ..get(
                    "/api/v1/cameras/{name}",
                    "remove_camera",
                    "Take a camera out of the configuration, and put that into force",
                    operator,
                    Answer::Json(schema::<RemovedAnswer>),
                )
            },
            remove_camera,
        )
}

/// The body. Messages of a JSON parser could repeat a password, so they are not passed on.
fn body<T>(body: Result<JsonObject<T>, Rejection>) -> Result<T, Rejection> {
    match body {
        Ok(JsonObject(body)) => Ok(body),
        Err(rejection) => match rejection {
            Rejection::BadRequest(_) => Err(Rejection::BadRequest(message!(
                "the body is not the JSON object that the description of the API asks for"
            ))),
            other => Err(other),
        },
    }
}

async fn live_video(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let watcher = Watcher::new(app, actor, client, headers);
    Ok(live::open(watcher, view).await?)
}

/// Something that was started.
#[derive(Debug, Serialize, JsonSchema)]
struct StartedAnswer {
    /// Where to ask for it.
    id: String,
}

/// For which state of the files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RevisionQuery {
    /// Revision of the configuration: if the files were changed since, nothing is done. Absent: the present one.
    #[serde(default)]
    revision: Option<String>,
}

/// A camera that was taken out.
#[derive(Debug, Serialize, JsonSchema)]
struct RemovedAnswer {
    /// Version of the configuration.
    version: u64,
    /// What was going on there.
    views: Vec<RemovedViewAnswer>,
    /// Why that is not in force although it was saved; empty if it is.
    problems: Vec<String>,
}

/// A view that is gone.
#[derive(Debug, Serialize, JsonSchema)]
struct RemovedViewAnswer {
    view: String,
    /// Candidates that were given up.
    candidates: usize,
    /// Its open cases, which stay open at the platform.
    open_cases: Vec<String>,
}

async fn remove_camera(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<RevisionQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), Query(query), config) = (path?, query?, app.config());
    let camera = config.cameras.iter().find(|camera| camera.id.as_str() == name);
    let camera = camera.filter(|camera| actor.sees(camera)).ok_or(Rejection::NotFound)?;
    let revision = match query.revision {
        Some(revision) => revision,
        None => revision(&config).await?,
    };
    let details = ActDetails::new("camera", &camera.id);
    Ok(match remove(&app, &actor, camera, revision).await {
        Ok(removed) => details.with("version", removed.version).on(Json(RemovedAnswer {
            version: removed.version,
            views: removed
                .views
                .into_iter()
                .map(|gone| RemovedViewAnswer {
                    view: gone.view.to_string(),
                    candidates: gone.candidates,
                    open_cases: gone.open_cases.iter().map(ToString::to_string).collect(),
                })
                .collect(),
            problems: removed.problems.iter().map(ToString::to_string).collect(),
        })),
        Err(fault) => details.on(match &fault {
            RemoveFault::Conflict { .. } => Rejection::Conflict(fault.to_string().into()),
            RemoveFault::Faults(_) => Rejection::Unfit(fault.to_string().into()),
            RemoveFault::Failed(why) => Rejection::Unavailable(why.clone()),
        }),
    })
}
