//! The approved signs of a view.

use std::sync::Arc;

use axum::{
    Json,
    extract::{
        Path, State,
        rejection::{JsonRejection, PathRejection},
    },
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use gridwatch_engine::CameraId;
use gridwatch_web::{
    Actor, Rejection, Role,
    audit::ActDetails,
    openapi::{Answer, Operation, schema},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::problem;
use crate::{
    app::{App, Routes},
    configuration::FaultAnswer,
    page::Page,
    signs::{self, FoundSign, SignBody, SignsOutcome},
};

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    let operation = |method, id, summary| Operation {
        method,
        path: "/api/v1/views/{view}/signs",
        id,
        summary,
        role: Role::Viewer,
        act: None,
        answer: Answer::Json(schema::<SignsAnswer>),
        body: None,
        query: None,
    };
    let get = operation(
        Method::GET,
        "signs",
        "The approved signs of a view, and what its newest look found",
    );
    let set = Operation {
        role: Role::Operator,
        act: Some("console signs"),
        answer: Answer::Json(schema::<SavedSignsAnswer>),
        body: Some(schema::<SignsBody>),
        ..operation(Method::PUT, "set_signs", "Set the approved signs of a view")
    };
    routes.api(get, show).api(set, save)
}

/// The approved signs of a view.
#[derive(Debug, Serialize, JsonSchema)]
struct SignsAnswer {
    /// Revision of their file, for a change; empty: there is none yet.
    revision: String,
    /// When signs were last recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<String>,
    /// The approved signs.
    signs: Vec<SignBody>,
    /// What the newest look found and could be approved.
    found: Vec<FoundSign>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    Ok(match signs::read(&app, &actor, &view).await? {
        Ok(found) => Json(SignsAnswer {
            revision: found.revision,
            recorded: found.recorded.map(|(at, _)| at),
            signs: found.signs,
            found: found.found,
        })
        .into_response(),
        Err(faults) => problem(
            // The file on the box is at fault, not the request.
            StatusCode::SERVICE_UNAVAILABLE,
            "the file of the approved signs has faults; mend it first",
            json!({ "faults": FaultAnswer::list(&faults, page.answer_language()) }),
        ),
    })
}

/// Signs to be set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SignsBody {
    /// The revision that the change is based on; empty where there was no file.
    #[schemars(length(max = 64))]
    revision: String,
    /// All signs that are to be approved; those that are not here are removed.
    #[schemars(length(max = 500))]
    signs: Vec<SignBody>,
}

/// A change that was saved.
#[derive(Debug, Serialize, JsonSchema)]
struct SavedSignsAnswer {
    /// Revision of the file now.
    revision: String,
    /// Signs that were added.
    added: usize,
    /// Signs that were removed.
    removed: usize,
    /// Why the change is not in force; empty if it is.
    problems: Vec<String>,
}

async fn save(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    body: Result<Json<SignsBody>, JsonRejection>,
) -> Result<Response, Rejection> {
    let (view, Json(body)) = (CameraId::from(path?.0), body?);
    let details = ActDetails::new("view", &view);
    let outcome = signs::save(&app, &actor, page.answer_language(), &view, body.revision, body.signs).await?;
    Ok(match outcome {
        SignsOutcome::Saved { saved, problems } => {
            let details = details
                .with("added", saved.added)
                .with("removed", saved.removed)
                .with("sha256", &saved.revision);
            details.on(Json(SavedSignsAnswer {
                revision: saved.revision,
                added: saved.added,
                removed: saved.removed,
                problems,
            }))
        }
        SignsOutcome::Conflict => details.on(problem(
            StatusCode::CONFLICT,
            "the file was changed since the revision; nothing was written",
            json!({}),
        )),
        SignsOutcome::Faults(faults) => details.on(problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the file, or the configuration with it, would have faults",
            json!({ "faults": FaultAnswer::list(&faults, page.answer_language()) }),
        )),
    })
}
