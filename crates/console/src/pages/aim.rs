//! Whether a camera points at its learned view: both pictures side by side, and the confirmation of the present one.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use gridwatch_config::find_view;
use gridwatch_engine::CameraId;
use gridwatch_vision::views::Standing;
use gridwatch_web::{Access, Actor, Rejection, Role, audit::ActDetails};

use super::{Keep, jpeg, zones::EditorPicture};
use crate::{
    access::CameraAccess as _,
    aim,
    app::{App, Routes},
    daemon::PictureError,
    overlay::Overlay,
    page::Page,
    web_texts,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/cameras/{view}/aim", viewer, show)
        .get("/cameras/{view}/aim/learned", viewer, learned)
        .post(
            "/cameras/{view}/aim/confirm",
            Access::Role(Role::Operator),
            "console view confirm",
            confirm,
        )
}

#[derive(Template)]
#[template(path = "aim.html")]
struct AimTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    /// The class of the state in the style sheet.
    class: &'static str,
    state: String,
    since: String,
    is_watched: bool,
    is_preset: bool,
    is_pending: bool,
    has_learned: bool,
    /// When the learned picture was taken.
    learned_at: String,
    has_picture: bool,
    picture: String,
    taken_at: String,
    width: u32,
    height: u32,
    overlay: Overlay,
    texts: String,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let state = aim::read(&app, &actor, &view).await?;
    let config = app.config();
    let (_, preset) = find_view(&config.cameras, view.as_str()).ok_or(Rejection::NotFound)?;
    let learned_at = match app.daemon.learned_picture(&view).await {
        Ok(picture) => Some(picture.at),
        // The page says that there is none; why one fails, its own request says.
        Err(PictureError::NotYet) => None,
        Err(error) => return Err(error.into()),
    };
    let t = &page.t.configuration;
    let (class, words) = match state.standing {
        Some((Standing::Aimed, _)) => ("fine", t.aim_aimed),
        Some((Standing::Learning, _)) => ("impaired", t.aim_learning),
        Some((Standing::Moved, _)) => ("blind", t.aim_moved),
        None => ("impaired", t.aim_none),
    };
    let picture = EditorPicture::of(&app, &page, &view);
    let look = app.daemon.newest_look(&view);
    page.show(&AimTemplate {
        class,
        state: words.to_string(),
        since: state.standing.map(|(_, since)| page.time(since)).unwrap_or_default(),
        is_watched: state.is_watched,
        is_preset: preset.id.is_some(),
        is_pending: state.is_pending,
        has_learned: learned_at.is_some(),
        learned_at: learned_at.map(|at| page.time(at)).unwrap_or_default(),
        has_picture: !picture.url.is_empty(),
        picture: picture.url,
        taken_at: look.map(|look| page.time(look.at)).unwrap_or_default(),
        width: picture.size.0,
        height: picture.size.1,
        overlay: Overlay::of(&page, &config, &view, None),
        texts: web_texts::with(
            page.language,
            &["compare."],
            &[
                ("compare.before", t.aim_learned.0),
                ("compare.after", t.aim_newest.0),
                ("compare.position", t.aim_position.0),
                ("compare.value", t.aim_value.0),
            ],
        ),
        page: &page,
        view,
    })
}

async fn learned(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    actor.camera_of(&app.config(), &view).ok_or(Rejection::NotFound)?;
    let picture = app.daemon.learned_picture(&view).await?;
    Ok(jpeg(picture.jpeg, Keep::Never))
}

async fn confirm(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let details = ActDetails::new("view", &view);
    Ok(match aim::confirm(&app, &actor, &view).await {
        Ok(()) => details.on(page.redirect(&format!("/cameras/{view}/aim"))),
        Err(rejection) => details.on(rejection),
    })
}
