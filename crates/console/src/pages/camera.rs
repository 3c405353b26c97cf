//! A view's page: the newest look large, its state, *look now*, and pictures in full size.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::HeaderMap,
    response::{Response, sse::Event},
};
use gridwatch_config::{Camera, Config, Preset, find_view};
use gridwatch_engine::{CameraId, Light};
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{Act, ActDetails, Outcome},
    client::Client,
    i18n::Phrase,
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    Keep, jpeg,
    wall::{StateLine, Urgency},
};
use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    configuration,
    daemon::{Connection, Masking, ViewStatus},
    error,
    events::{self, Watcher},
    overlay::Overlay,
    page::Page,
    web_texts,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/cameras/{view}", viewer, show)
        .get("/cameras/{view}/look", viewer, look)
        .get("/cameras/{view}/events", viewer, stream)
        .get("/cameras/{view}/picture", viewer, picture)
        .post(
            "/cameras/{view}/look",
            Access::Role(Role::Operator),
            "console look",
            look_now,
        )
}

/// The newest look at a view and its state: the part of the page that is updated.
#[derive(Template)]
#[template(path = "camera_look.html")]
struct LookTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    urgency: Urgency,
    state: Phrase,
    state_since: String,
    connection: Phrase,
    connection_since: String,
    /// Cause and remedy, in English.
    detail: String,
    sight: Phrase,
    sight_since: String,
    /// Of the look; empty before the first.
    taken_at: String,
    look: i64,
    width: u32,
    height: u32,
    is_night: bool,
    overlay: Overlay,
    candidates: u32,
    open_cases: u32,
    sees_unmasked: bool,
    /// True if pictures come from the camera: the live player asks again then.
    delivers: bool,
}

impl<'a> LookTemplate<'a> {
    fn new(page: &'a Page, app: &App, config: &Config, actor: &Actor, status: &ViewStatus) -> Self {
        let look = app.daemon.newest_look(&status.view);
        let time = |at: Option<Timestamp>| at.map(|at| page.time(at)).unwrap_or_default();
        let line = StateLine::of(page, status);
        let (width, height) = look.as_ref().map_or((16, 9), |look| look.size);
        Self {
            page,
            urgency: Urgency::of(status),
            state: line.text,
            state_since: time(line.since),
            connection: page.t.names.connection(status.connection),
            connection_since: time(Some(status.connection_since)),
            detail: status
                .connection_detail
                .as_ref()
                .map(|detail| page.message(detail))
                .unwrap_or_default(),
            sight: page.t.names.sight(status.sight),
            sight_since: time(status.sight_since),
            taken_at: time(look.as_ref().map(|look| look.at)),
            look: look.as_ref().map_or(0, |look| look.at.as_millisecond()),
            width,
            height,
            is_night: look.as_ref().is_some_and(|look| look.light == Light::Night),
            overlay: Overlay::of(page, config, &status.view, look.as_deref()),
            candidates: status.candidates,
            open_cases: status.open_cases,
            sees_unmasked: actor.sees_unmasked(config),
            delivers: matches!(status.connection, Connection::Live | Connection::Degraded),
            view: status.view.clone(),
        }
    }

    fn has_look(&self) -> bool {
        self.look != 0
    }
}

#[derive(Template)]
#[template(path = "camera.html")]
struct CameraTemplate<'a> {
    page: &'a Page,
    look: LookTemplate<'a>,
    camera: String,
    address: String,
    gb_id: String,
    look_every: String,
    /// What is probably not intended in its configuration.
    warnings: Vec<String>,
    /// Texts of the live player, as JSON.
    live_texts: String,
    now_ms: i64,
}

/// A view that the user may see, with what is known of it.
struct SeenView {
    config: Arc<Config>,
    status: ViewStatus,
}

impl SeenView {
    fn find(app: &App, actor: &Actor, path: Result<Path<String>, PathRejection>) -> Result<Self, Rejection> {
        let view = CameraId::from(path?.0);
        let config = app.config();
        actor.camera_of(&config, &view).ok_or(Rejection::NotFound)?;
        let status = app.daemon.view(&view).ok_or(Rejection::NotFound)?;
        Ok(Self { config, status })
    }

    fn camera(&self) -> Result<(&Camera, &Preset), Rejection> {
        find_view(&self.config.cameras, self.status.view.as_str()).ok_or(Rejection::NotFound)
    }
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let now_ms = Timestamp::now().as_millisecond();
    let seen = SeenView::find(&app, &actor, path)?;
    let (camera, preset) = seen.camera()?;
    page.show(&CameraTemplate {
        page: &page,
        look: LookTemplate::new(&page, &app, &seen.config, &actor, &seen.status),
        camera: camera.id.to_string(),
        address: preset.address.clone().unwrap_or_default(),
        gb_id: camera.gb_device_id.clone().unwrap_or_default(),
        look_every: gridwatch_config::raw::Span(camera.look_every).to_string(),
        warnings: configuration::camera_warnings(&seen.config, camera.id.as_str(), page.language),
        live_texts: web_texts::of(page.language, &["live."]),
        now_ms,
    })
}

/// The part of the page with the look.
async fn look(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let seen = SeenView::find(&app, &actor, path)?;
    page.show(&LookTemplate::new(&page, &app, &seen.config, &actor, &seen.status))
}

/// Takes a look now, and shows it.
async fn look_now(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let seen = SeenView::find(&app, &actor, path)?;
    let view = seen.status.view.clone();
    let details = ActDetails::new("view", &view);
    if let Err(error) = app.daemon.look_now(&view).await {
        return Ok(details.on(Rejection::from(error)));
    }
    let status = app.daemon.view(&view).ok_or(Rejection::NotFound)?;
    Ok(details.on(page.show(&LookTemplate::new(&page, &app, &app.config(), &actor, &status))?))
}

#[derive(Deserialize)]
struct PictureQuery {
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
    let seen = SeenView::find(&app, &actor, path)?;
    full_picture(&app, &actor, &seen.status.view, query.unmasked).await
}

/// The picture in full size. A view of an unmasked one is in the audit log before it is shown.
pub(crate) async fn full_picture(
    app: &App,
    actor: &Actor,
    view: &CameraId,
    unmasked: bool,
) -> Result<Response, Rejection> {
    let masking = if unmasked { Masking::Unmasked } else { Masking::Masked };
    if masking == Masking::Unmasked {
        let is_allowed = actor.sees_unmasked(&app.config());
        let act = Act {
            name: "console unmasked picture",
            by: actor.person(),
            subject: None,
            details: vec![("view", view.to_string())],
            outcome: match is_allowed {
                true => Outcome::Done,
                false => Outcome::Refused("the role may not see pictures without masks".into()),
            },
        };
        if !is_allowed {
            if app.web.may_record_refusal() {
                app.daemon.record(act).await?;
            }
            return Err(error::unmasked());
        }
        app.daemon.record(act).await?;
    }
    let picture = app.daemon.picture(view, masking).await?;
    Ok(jpeg(picture.jpeg, Keep::Never))
}

#[derive(Deserialize)]
struct Since {
    #[serde(default)]
    since: i64,
}

/// Events of a view: `look` with the part of the page that shows it.
async fn stream(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    page: Page,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(Since { since }) = query?;
    let view = SeenView::find(&app, &actor, path)?.status.view;
    let watcher = Watcher::new(app, actor, client, headers);
    let mut is_first = true;
    events::stream(watcher, move |watcher, changes| {
        let config = watcher.site.config();
        let status = watcher.site.daemon.view(&view);
        let status = status.filter(|_| watcher.actor.camera_of(&config, &view).is_some());
        let is_new = |at: Timestamp| at.as_millisecond() >= since;
        let missed = std::mem::take(&mut is_first) && status.as_ref().and_then(|s| s.looked_at).is_some_and(is_new);
        let Some(status) = status.filter(|_| missed || changes.concern(&view)) else {
            return Vec::new();
        };
        let look = LookTemplate::new(&page, &watcher.site, &config, &watcher.actor, &status);
        let rendered = look.render().ok();
        rendered
            .map(|look| Event::default().event("look").data(look))
            .into_iter()
            .collect()
    })
}
