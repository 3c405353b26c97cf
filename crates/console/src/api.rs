//! The JSON API behind the pages, for programs: `/api/v1/`.

mod accounts;
mod cameras;
pub(crate) mod configuration;
mod ledger;
mod reviews;

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{Method, StatusCode},
    response::Response,
};
use gridwatch_config::Config;
use gridwatch_contract::CaseRecord;
use gridwatch_engine::{CameraId, CaseState, View};
use gridwatch_store::{CaseQuery, ReviewFilter};
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::ActDetails,
    openapi::{About, Answer, Operation, schema},
};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    cases::{self, PictureFault},
    daemon::{Connection, Finding, Look, Readiness, ViewStatus},
    error, pages,
    values::{Id, Whole},
};

/// Cases in an answer, at most.
const MAX_CASES: u32 = 500;

/// What the document of the API says of it.
pub(crate) const ABOUT: About = About {
    title: "gridwatch console",
    description: "What the console's pages show, for programs. Errors are problem documents (RFC 9457). Status 400: the input is not as described here; 422: it is, and does not fit this box, such as a zone whose borders cross; 409: something else stands against it, such as a change by somebody else.",
    path_parameter: |path| match path {
        "/api/v1/schedules/{id}" => Some(schema::<Id>),
        "/api/v1/configuration/versions/{id}/restore" => Some(schema::<configuration::Number>),
        _ => None,
    },
};

/// Adds the operations.
pub(crate) fn routes(routes: Routes) -> Routes {
    let (viewer, operator) = (Role::Viewer, Role::Operator);
    let routes = ledger::routes(routes);
    let views = Answer::Json(schema::<Vec<ViewAnswer>>);
    let found = Answer::Json(schema::<Vec<CaseRecord>>);
    let routes = reviews::routes(routes);
    let routes = cameras::routes(routes)
        .api(
            get(
                "/api/v1/status",
                "status",
                "Whether problems would be filed now",
                viewer,
                Answer::Json(schema::<StatusAnswer>),
            ),
            status,
        )
        .api(
            get(
                "/api/v1/views",
                "views",
                "All views with their newest looks",
                viewer,
                views,
            ),
            list_views,
        )
        .api(
            get(
                "/api/v1/views/{view}",
                "view",
                "One view with its newest look",
                viewer,
                Answer::Json(schema::<ViewAnswer>),
            ),
            view,
        )
        .api(
            Operation {
                query: Some(schema::<PictureQuery>),
                ..get(
                    "/api/v1/views/{view}/picture",
                    "picture",
                    "Picture of the newest look",
                    viewer,
                    Answer::Jpeg,
                )
            },
            picture,
        )
        .api(
            change(
                Method::POST,
                "/api/v1/views/{view}/look",
                "look_now",
                "Take a look now",
                operator,
                "console look",
            ),
            look_now,
        )
        .api(
            Operation {
                query: Some(schema::<CasesQuery>),
                ..get("/api/v1/cases", "cases", "Cases, the newest first", viewer, found)
            },
            list_cases,
        )
        .api(
            get(
                "/api/v1/cases/{id}",
                "case",
                "The newest record of a case",
                viewer,
                Answer::Json(schema::<CaseRecord>),
            ),
            case,
        )
        .api(
            get(
                "/api/v1/cases/{id}/evidence/{item}",
                "evidence",
                "A picture of a case",
                viewer,
                Answer::Jpeg,
            ),
            evidence,
        );
    let routes = configuration::routes(routes);
    accounts::routes(routes)
}

/// An operation that reads.
fn get(path: &'static str, id: &'static str, summary: &'static str, role: Role, answer: Answer) -> Operation {
    Operation {
        method: Method::GET,
        path,
        id,
        summary,
        role,
        act: None,
        answer,
        body: None,
        query: None,
    }
}

/// An operation that changes something, answered without contents.
fn change(
    method: Method,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    role: Role,
    act: &'static str,
) -> Operation {
    Operation {
        method,
        act: Some(act),
        ..get(path, id, summary, role, Answer::Nothing)
    }
}

/// Whether the box would file a problem now, and by which configuration.
#[derive(Debug, Serialize, JsonSchema)]
struct StatusAnswer {
    /// Id of the box.
    node_id: String,
    #[serde(flatten)]
    readiness: Readiness,
    /// SHA-256 of the configuration in force.
    config_sha256: String,
    /// Faults of a newer file that was refused; not for users of a group, as they may be of other cameras.
    config_refused: Vec<String>,
}

async fn status(State(app): State<Arc<App>>, actor: Actor) -> Json<StatusAnswer> {
    let (readiness, configuration) = actor.standing(&*app.daemon);
    Json(StatusAnswer {
        node_id: app.config().node.to_string(),
        readiness,
        config_sha256: configuration.sha256,
        config_refused: configuration.refused.iter().map(ToString::to_string).collect(),
    })
}

/// A view and its newest look.
#[derive(Debug, Serialize, JsonSchema)]
struct ViewAnswer {
    /// `CAMERA`, or `CAMERA.PRESET`.
    view: String,
    connection: Connection,
    /// RFC 3339.
    connection_since: String,
    /// Cause and remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_detail: Option<String>,
    /// Candidates in this view.
    candidates: u32,
    /// Open cases in this view.
    open_cases: u32,
    /// The newest look; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    look: Option<LookAnswer>,
}

/// One look.
#[derive(Debug, Serialize, JsonSchema)]
struct LookAnswer {
    /// When the picture arrived at the box; RFC 3339.
    at: String,
    /// `clear`, `dark`, `blurred`, `blocked`, `frozen`, `damaged` or `moved`.
    sight: String,
    /// Width and height of the picture in pixels.
    size: (u32, u32),
    detections: Vec<DetectionAnswer>,
}

/// What a model found.
#[derive(Debug, Serialize, JsonSchema)]
struct DetectionAnswer {
    label: String,
    /// Confidence, 0..=1.
    score: f32,
    /// `[x1, y1, x2, y2]` in fractions of the picture.
    bbox: [f32; 4],
    /// True if a rule counts it.
    counts: bool,
}

impl From<&Finding> for DetectionAnswer {
    fn from(found: &Finding) -> Self {
        Self {
            label: found.label.to_string(),
            score: found.score,
            bbox: [found.bbox.x1, found.bbox.y1, found.bbox.x2, found.bbox.y2],
            counts: found.counts,
        }
    }
}

fn sight_name(view: View) -> String {
    let name = serde_json::to_value(view).ok();
    name.and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

impl LookAnswer {
    fn new(look: &Look) -> Self {
        let found = look.detections.iter().map(DetectionAnswer::from);
        Self {
            at: look.at.to_string(),
            sight: sight_name(look.sight),
            size: look.size,
            detections: found.collect(),
        }
    }
}

impl ViewAnswer {
    fn new(app: &App, status: ViewStatus) -> Self {
        Self {
            look: app.daemon.newest_look(&status.view).map(|look| LookAnswer::new(&look)),
            view: status.view.to_string(),
            connection: status.connection,
            connection_since: status.connection_since.to_string(),
            connection_detail: status.connection_detail.map(|detail| detail.to_string()),
            candidates: status.candidates,
            open_cases: status.open_cases,
        }
    }
}

async fn list_views(State(app): State<Arc<App>>, actor: Actor) -> Json<Vec<ViewAnswer>> {
    let config = app.config();
    let views = app.daemon.views().into_iter();
    let seen = views.filter(|status| actor.camera_of(&config, &status.view).is_some());
    Json(seen.map(|status| ViewAnswer::new(&app, status)).collect())
}

fn seen_view(config: &Config, actor: &Actor, path: Result<Path<String>, PathRejection>) -> Result<CameraId, Rejection> {
    let view = CameraId::from(path?.0);
    actor.camera_of(config, &view).ok_or(Rejection::NotFound)?;
    Ok(view)
}

async fn view(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<ViewAnswer>, Rejection> {
    let view = seen_view(&app.config(), &actor, path)?;
    let status = app.daemon.view(&view).ok_or(Rejection::NotFound)?;
    Ok(Json(ViewAnswer::new(&app, status)))
}

/// Which picture.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PictureQuery {
    /// True: without masks, for the roles that may see those. Each is in the audit log.
    #[serde(default)]
    unmasked: bool,
}

async fn picture(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<PictureQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let view = seen_view(&app.config(), &actor, path)?;
    pages::full_picture(&app, &actor, &view, query.unmasked).await
}

async fn look_now(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = seen_view(&app.config(), &actor, path)?;
    let details = ActDetails::new("view", &view);
    Ok(match app.daemon.look_now(&view).await {
        Ok(()) => details.on(StatusCode::NO_CONTENT),
        Err(error) => details.on(Rejection::from(error)),
    })
}

/// Selects cases.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CasesQuery {
    /// Only cases in this state.
    state: Option<CaseState>,
    /// Only open cases (`true`), or only others (`false`).
    open: Option<bool>,
    /// Only cases of the camera with this id.
    camera: Option<String>,
    /// Only cases of this category code.
    category: Option<String>,
    /// Only cases in this grid cell.
    cell: Option<String>,
    /// Only cases confirmed at or after this time, RFC 3339.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    from: Option<Timestamp>,
    /// Only cases confirmed before this time, RFC 3339.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    until: Option<Timestamp>,
    /// Only cases whose id contains this text.
    id: Option<String>,
    /// Only cases with such reviews.
    review: Option<Reviewed>,
    /// Only cases after the one with this id.
    after: Option<String>,
    /// At most this many. Default 100.
    limit: Option<Whole<1, MAX_CASES>>,
}

/// Selects cases by their reviews.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Reviewed {
    /// Not reviewed by anyone.
    None,
    /// Not reviewed by the user who asks.
    Mine,
    /// Right for one reviewer and not for another.
    Disputed,
}

impl CasesQuery {
    fn to_store(&self, actor: &Actor, limit: u32) -> CaseQuery {
        CaseQuery {
            state: self.state,
            is_open: self.open,
            cameras: self.camera.clone().map(|camera| vec![camera]),
            category: self.category.clone(),
            cell: self.cell.clone(),
            from: self.from,
            until: self.until,
            id_part: self.id.clone(),
            review: self.review.map(|review| match review {
                Reviewed::None => ReviewFilter::NotByAnyone,
                Reviewed::Mine => ReviewFilter::NotBy(crate::reviews::reviewer(actor)),
                Reviewed::Disputed => ReviewFilter::Disputed,
            }),
            after: self.after.clone(),
            limit,
        }
    }
}

async fn list_cases(
    State(app): State<Arc<App>>,
    actor: Actor,
    query: Result<Query<CasesQuery>, QueryRejection>,
) -> Result<Json<Vec<CaseRecord>>, Rejection> {
    let Query(query) = query?;
    let limit = query.limit.map_or(100, Whole::get);
    let query = query.to_store(&actor, limit);
    Ok(Json(cases::list(&app, &actor, query).await?))
}

async fn case(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<CaseRecord>, Rejection> {
    let Path(id) = path?;
    Ok(Json(cases::find(&app, &actor, &id).await?.record))
}

async fn evidence(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path((id, item)) = path?;
    match pages::evidence_picture(&app, &actor, &id, &item).await? {
        Ok(response) => Ok(response),
        Err(PictureFault::Gone) => Err(error::gone()),
        Err(PictureFault::Changed) => {
            tracing::error!(case = id, item, "A picture of a case does not match its recorded hash");
            Err(Rejection::Internal)
        }
    }
}
