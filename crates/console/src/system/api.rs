//! The JSON API of the System pages.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{
        HeaderMap, HeaderValue, Method,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use gridwatch_base::message;
use gridwatch_config::rollout::UseRequest;
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::ActDetails,
    openapi::{Answer, Operation, SchemaOf, schema},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    audit::{self, AuditAnswer, AuditQuery},
    bundle::{self, BundleOptions},
    expect_whole_box,
    log::{self, LineAnswer, LogQuery},
    models::{self, InstallQuery, InstalledAnswer, ModelAnswer, PackageBody, RequestedAnswer, Wanted},
    outbox::{self, OutboxAnswer, ReleasedAnswer},
    overview::{self, Overview},
};
use crate::{
    app::{App, Routes},
    values::{JsonObject, Whole},
};

/// Adds the operations.
pub(crate) fn routes(routes: Routes) -> Routes {
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
    let post = |path, id, summary, role, act, answer, body: Option<SchemaOf>| Operation {
        method: Method::POST,
        path,
        id,
        summary,
        role,
        act: Some(act),
        answer,
        body,
        query: None,
    };
    let requested = Answer::Json(schema::<RequestedAnswer>);
    let routes = routes
        .api(
            get(
                "/api/v1/system",
                "system",
                "State of the box: versions, clock, link, disk, keys, crashes",
                Role::Viewer,
                Answer::Json(schema::<Overview>),
            ),
            show_system,
        )
        .api(
            Operation {
                query: Some(schema::<OutboxQuery>),
                ..get(
                    "/api/v1/outbox",
                    "outbox",
                    "Messages that the broker has not acknowledged, the oldest first",
                    Role::Operator,
                    Answer::Json(schema::<OutboxAnswer>),
                )
            },
            list_outbox,
        )
        .api(
            post(
                "/api/v1/outbox/retry",
                "retry_outbox",
                "Release messages from quarantine",
                Role::Operator,
                "outbox retry",
                Answer::Json(schema::<ReleasedAnswer>),
                Some(schema::<RetryBody>),
            ),
            retry_outbox,
        )
        .api(
            get(
                "/api/v1/models",
                "models",
                "Models with their versions, requests and outcomes",
                Role::Operator,
                Answer::Json(schema::<Vec<ModelAnswer>>),
            ),
            list_models,
        )
        .api(
            post(
                "/api/v1/models/{id}/use",
                "use_model",
                "Switch to a version after a trial",
                Role::Operator,
                "model use",
                requested,
                Some(schema::<UseBody>),
            ),
            use_model,
        )
        .api(
            post(
                "/api/v1/models/{id}/rollback",
                "roll_back_model",
                "Return to the version before, or cancel a trial",
                Role::Operator,
                "model rollback",
                requested,
                Some(schema::<RollbackBody>),
            ),
            roll_back_model,
        )
        .api(
            post(
                "/api/v1/models/{id}/shadow",
                "shadow_model",
                "Run a version beside the live one, or stop that",
                Role::Operator,
                "model shadow",
                requested,
                Some(schema::<ShadowBody>),
            ),
            shadow_model,
        )
        .api(
            get(
                "/api/v1/metrics",
                "metrics",
                "Metrics in Prometheus' text format",
                Role::Operator,
                Answer::File("text/plain"),
            ),
            metrics_text,
        )
        .api(
            Operation {
                query: Some(schema::<LogQuery>),
                ..get(
                    "/api/v1/log",
                    "log",
                    "The newest lines of the log, oldest first",
                    Role::Admin,
                    Answer::Json(schema::<Vec<LineAnswer>>),
                )
            },
            list_log,
        )
        .api(
            Operation {
                query: Some(schema::<AuditQuery>),
                ..get(
                    "/api/v1/audit",
                    "audit",
                    "The newest acts in the audit log",
                    Role::Admin,
                    Answer::Json(schema::<AuditAnswer>),
                )
            },
            list_audit,
        )
        .api(
            post(
                "/api/v1/support-bundle",
                "support_bundle",
                "Make a support bundle, without secrets and pictures",
                Role::Admin,
                bundle::ACT,
                Answer::File("application/gzip"),
                Some(schema::<BundleOptions>),
            ),
            make_bundle,
        );
    routes.taking(models::INSTALL_TIME, |routes| {
        routes.api(
            Operation {
                query: Some(schema::<InstallQuery>),
                ..post(
                    "/api/v1/models/install",
                    "install_model",
                    "Verify a model package and install it, unused",
                    Role::Operator,
                    "model install",
                    Answer::Json(schema::<InstalledAnswer>),
                    Some(schema::<PackageBody>),
                )
            },
            install_model,
        )
    })
}

async fn show_system(State(app): State<Arc<App>>, actor: Actor) -> Result<Json<Overview>, Rejection> {
    Ok(Json(overview::read(&app, &actor).await?))
}

/// Which messages.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboxQuery {
    /// Only messages in quarantine.
    #[serde(default)]
    quarantined: Option<bool>,
}

async fn list_outbox(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<OutboxQuery>, QueryRejection>,
) -> Result<Json<OutboxAnswer>, Rejection> {
    expect_whole_box(&app, &actor)?;
    let Query(query) = query?;
    Ok(Json(outbox::list(&app, query.quarantined.unwrap_or(false)).await?))
}

/// What to release.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// Only the messages of this case.
    #[serde(default)]
    case: Option<String>,
}

async fn retry_outbox(
    State(app): State<Arc<App>>,
    actor: Actor,
    body: Result<JsonObject<RetryBody>, Rejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let JsonObject(body) = body?;
    let (details, released) = retry(&app, body.case).await?;
    Ok(details.on(Json(released)))
}

/// Releases messages, with what the audit log says of it.
pub(crate) async fn retry(app: &Arc<App>, case: Option<String>) -> Result<(ActDetails, ReleasedAnswer), Rejection> {
    let released = outbox::retry(app, case.clone()).await?;
    let mut details = ActDetails::new("released", released.released);
    details.subject = case;
    Ok((details, released))
}

async fn list_models(State(app): State<Arc<App>>, actor: Actor) -> Result<Json<Vec<ModelAnswer>>, Rejection> {
    expect_whole_box(&app, &actor)?;
    Ok(Json(models::list(&app).await?))
}

/// A request to switch to a version.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UseBody {
    /// Version to use.
    version: String,
    /// Only this camera.
    #[serde(default)]
    camera: Option<String>,
    /// Activate at once; the trial runs alongside and rolls back on failure.
    #[serde(default)]
    now: bool,
    /// Accept a version that neither the trial nor a self-test proves.
    #[serde(default)]
    force: bool,
}

async fn use_model(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<UseBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(id), JsonObject(body)) = (path?, body?);
    let wanted = Wanted::Use(UseRequest {
        version: body.version,
        now: body.now,
        force: body.force,
    });
    Ok(answered(request(&app, &actor, id, body.camera, wanted).await))
}

/// A request to return to the version before.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    /// Only this camera.
    #[serde(default)]
    camera: Option<String>,
}

async fn roll_back_model(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<RollbackBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(id), JsonObject(body)) = (path?, body?);
    Ok(answered(request(&app, &actor, id, body.camera, Wanted::RollBack).await))
}

/// A request to run a version beside the live one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ShadowBody {
    /// Version to run; absent with `stop`.
    #[serde(default)]
    version: Option<String>,
    /// Only this camera.
    #[serde(default)]
    camera: Option<String>,
    /// Looks over all its cameras. Default 1000.
    #[serde(default)]
    looks: Option<Whole<1, { models::MAX_LOOKS }>>,
    /// Stop the shadow run instead.
    #[serde(default)]
    stop: bool,
}

/// Looks of a shadow run that says nothing else.
const SHADOW_LOOKS: u32 = 1000;

async fn shadow_model(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<ShadowBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(id), JsonObject(body)) = (path?, body?);
    let wanted = match (body.stop, body.version) {
        (true, _) => Wanted::StopShadow,
        (false, Some(version)) => Wanted::Shadow {
            version,
            looks: body.looks.map_or(SHADOW_LOOKS, Whole::get),
        },
        (false, None) => {
            return Err(Rejection::Unfit(message!(
                "version: name the one to run, or set `stop`"
            )));
        }
    };
    Ok(answered(request(&app, &actor, id, body.camera, wanted).await))
}

/// A request about a model: what the audit log says of it, and what became of it.
pub(crate) type Requested = (ActDetails, Result<RequestedAnswer, Rejection>);

fn answered((details, answer): Requested) -> Response {
    match answer {
        Ok(answer) => details.on(Json(answer)),
        Err(rejection) => details.on(rejection),
    }
}

/// Makes a request about a model. The audit log has the same act as of the command, but without the daemon's answer, which comes later.
pub(crate) async fn request(
    app: &Arc<App>,
    actor: &Actor,
    id: String,
    camera: Option<String>,
    wanted: Wanted,
) -> Requested {
    let details = match &wanted {
        Wanted::Use(wanted) => ActDetails::new("model", format!("{id}@{}", wanted.version))
            .with("now", wanted.now)
            .with("force", wanted.force),
        Wanted::RollBack => ActDetails::new("model", &id),
        Wanted::Shadow { version, looks } => ActDetails::new("model", format!("{id}@{version}"))
            .with("looks", looks)
            .with("stop", false),
        Wanted::StopShadow => ActDetails::new("model", &id).with("stop", true),
    };
    let details = match &camera {
        Some(camera) => details.with("camera", camera),
        None => details,
    };
    let answer = match expect_whole_box(app, actor) {
        Ok(()) => models::request(app, id, camera, wanted).await,
        Err(rejection) => Err(rejection),
    };
    match &answer {
        Ok(RequestedAnswer {
            request: Some(request), ..
        }) => (details.with("request", request.clone()), answer),
        _ => (details, answer),
    }
}

async fn install_model(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<InstallQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let Query(query) = query?;
    let size = headers
        .get(CONTENT_LENGTH)
        .and_then(|size| size.to_str().ok()?.parse().ok());
    let details = ActDetails::new("package", query.name.unwrap_or_default());
    match models::install(&app, size, body).await {
        Ok(installed) => Ok(details
            .with("model", format!("{}@{}", installed.id, installed.version))
            .with("sha256", &installed.sha256)
            .on(Json(installed))),
        Err(rejection) => Ok(details.on(rejection)),
    }
}

/// The text for a monitoring system.
pub(crate) async fn metrics_text(State(app): State<Arc<App>>, actor: Actor) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, kind)], app.daemon.metrics()).into_response())
}

async fn list_log(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Json<Vec<LineAnswer>>, Rejection> {
    expect_whole_box(&app, &actor)?;
    Ok(Json(log::lines(&app, &query?.0)))
}

async fn list_audit(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Json<AuditAnswer>, Rejection> {
    expect_whole_box(&app, &actor)?;
    Ok(Json(audit::read(&app, query?.0).await?))
}

async fn make_bundle(
    State(app): State<Arc<App>>,
    actor: Actor,
    body: Result<JsonObject<BundleOptions>, Rejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    bundle::download(&app, body?.0).await
}
