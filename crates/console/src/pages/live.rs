//! The live view of a camera's page: the stream for its player, and the player's texts.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::PathRejection},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use gridwatch_engine::CameraId;
use gridwatch_web::{Access, Actor, Rejection, Role, client::Client};
use serde_json::json;

use crate::{
    app::{App, Routes},
    events::Watcher,
    live::{self, NoVideo},
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/cameras/{view}/live.mp4", Access::Role(Role::Viewer), stream)
}

/// The stream, or `{"message"}` in the browser's language, which the player shows.
async fn stream(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    page: Page,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    let opened = match path {
        Ok(Path(view)) => live::open(Watcher::new(app, actor, client, headers), CameraId::from(view)).await,
        Err(rejection) => Err(NoVideo::Rejected(Rejection::from(rejection))),
    };
    opened.unwrap_or_else(|reason| {
        let body = json!({ "message": reason.text(page.t) });
        (reason.status(), Json(body)).into_response()
    })
}
