//! The presets of a camera: listed with what is learned of them, recorded, renamed and removed.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{
        Path, Query, RawForm, State,
        rejection::{PathRejection, QueryRejection, RawFormRejection},
    },
    http::StatusCode,
    response::Response,
};
use gridwatch_base::message;
use gridwatch_config::{Aim, Camera, raw::Span};
use gridwatch_engine::CameraId;
use gridwatch_store::CaseQuery;
use gridwatch_vision::views::Standing;
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, NotDone},
    i18n::Phrase,
};
use serde::Deserialize;
use serde_json::Value;

use super::{add::Fields, notices};
use crate::{
    add, aim,
    app::{App, Routes},
    cases,
    configuration::{self, EditOutcome, Part},
    overlay::Overlay,
    page::Page,
    presets::{self, PresetInput},
};

/// Open cases that are listed.
const MAX_LISTED: u32 = 20;

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes
        .get("/cameras/{view}/presets", Access::Role(Role::Viewer), show)
        .post("/cameras/{view}/presets", operator, "console preset add", record)
        .post(
            "/cameras/{view}/presets/convert",
            operator,
            "console preset convert",
            convert,
        )
        .post("/cameras/{view}/preset", operator, "console preset", change)
        .post("/cameras/{view}/preset/learn", operator, "console view confirm", learn)
        .get("/cameras/{view}/preset/remove", operator, ask)
        .post(
            "/cameras/{view}/preset/remove",
            operator,
            "console preset remove",
            remove,
        )
}

/// One view of the camera.
struct ViewRow {
    view: CameraId,
    id: String,
    address: String,
    lon: String,
    lat: String,
    uncertainty: String,
    state: Phrase,
    class: &'static str,
    since: String,
    is_pending: bool,
    has_learned: bool,
    looked_at: String,
    open_cases: u32,
    candidates: u32,
    width: u32,
    height: u32,
    overlay: Overlay,
}

#[derive(Template)]
#[template(path = "presets.html")]
struct PresetsTemplate<'a> {
    page: &'a Page,
    camera: String,
    /// A view of it, for links.
    view: CameraId,
    notice: String,
    is_readable: bool,
    revision: String,
    has_presets: bool,
    is_watched: bool,
    tour: String,
    views: Vec<ViewRow>,
    /// What the form of a new one holds.
    given: Given,
}

/// What was entered.
#[derive(Default, Clone)]
struct Given {
    id: String,
    address: String,
    lon: String,
    lat: String,
    uncertainty: String,
    tour: String,
}

impl Given {
    fn read(fields: &Fields) -> Self {
        let text = |name: &str| fields.get(name).trim().to_owned();
        Self {
            id: text("id"),
            address: text("address"),
            lon: text("lon"),
            lat: text("lat"),
            uncertainty: text("uncertainty_m"),
            tour: text("tour"),
        }
    }

    fn input(&self) -> Result<PresetInput, Rejection> {
        let number = |name: &str, text: &str| {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| Rejection::BadRequest(message!("{name}: not a number", name)))
        };
        Ok(PresetInput {
            id: self.id.clone(),
            address: self.address.clone(),
            lon: number("lon", &self.lon)?,
            lat: number("lat", &self.lat)?,
            uncertainty_m: match self.uncertainty.as_str() {
                "" => None,
                text => Some(number("uncertainty_m", text)?),
            },
        })
    }
}

async fn template<'a>(
    app: &Arc<App>,
    page: &'a Page,
    camera: &Camera,
    notice: String,
    given: Option<Given>,
) -> Result<PresetsTemplate<'a>, Rejection> {
    let config = app.config();
    let tour = match camera.aim {
        Aim::Tour { away } => Span(away).to_string(),
        Aim::Fixed | Aim::Unwatched => String::new(),
    };
    let view = camera
        .presets
        .first()
        .map_or_else(|| camera.id.clone(), |preset| preset.view.clone());
    let mut shown = PresetsTemplate {
        page,
        camera: camera.id.to_string(),
        view,
        notice,
        is_readable: true,
        revision: String::new(),
        has_presets: !tour.is_empty(),
        is_watched: camera.aim != Aim::Unwatched,
        tour,
        views: Vec::new(),
        given: given.clone().unwrap_or_default(),
    };
    let part = match Part::read(app).await? {
        Ok(part) => part,
        Err(faults) => {
            shown.notice = notices::unreadable(page, &faults)?;
            shown.is_readable = false;
            return Ok(shown);
        }
    };
    let learned = presets::learned(app, camera).await?;
    for (preset, learned) in camera.presets.iter().zip(learned) {
        let table = part.at(&configuration::view_path(camera, preset));
        let number = |key: &str| {
            let number = table.get("place").and_then(|place| place.get(key));
            number.map(Value::to_string).unwrap_or_default()
        };
        let t = &page.t.configuration;
        let (class, state) = match learned.standing {
            Some((Standing::Aimed, _)) => ("fine", t.aim_aimed),
            Some((Standing::Learning, _)) => ("impaired", t.aim_learning),
            Some((Standing::Moved, _)) => ("blind", t.aim_moved),
            None => ("impaired", page.t.presets.not_visited),
        };
        let status = app.daemon.view(&preset.view);
        let look = app.daemon.newest_look(&preset.view);
        let (width, height) = look.as_ref().map_or((16, 9), |look| look.size);
        shown.views.push(ViewRow {
            id: preset.id.clone().unwrap_or_default(),
            address: preset.address.clone().unwrap_or_default(),
            lon: number("lon"),
            lat: number("lat"),
            uncertainty: number("uncertainty_m"),
            state,
            class,
            since: learned.standing.map(|(_, since)| page.time(since)).unwrap_or_default(),
            is_pending: learned.is_pending,
            // A picture that cannot be made is told by its own request.
            has_learned: app.daemon.learned_picture(&preset.view).await.is_ok(),
            looked_at: look.map(|look| page.time(look.at)).unwrap_or_default(),
            open_cases: status.as_ref().map_or(0, |status| status.open_cases),
            candidates: status.as_ref().map_or(0, |status| status.candidates),
            width,
            height,
            overlay: Overlay::of(page, &config, &preset.view, None),
            view: preset.view.clone(),
        });
    }
    if let (None, Some(last)) = (&given, shown.views.last()) {
        // A preset of one camera lies near the others.
        shown.given = Given {
            lon: last.lon.clone(),
            lat: last.lat.clone(),
            uncertainty: last.uncertainty.clone(),
            ..Given::default()
        };
    }
    shown.revision = part.revision;
    Ok(shown)
}

#[derive(Deserialize)]
struct DoneQuery {
    /// A preset that was just saved.
    saved: Option<String>,
    removed: Option<String>,
    /// It is being learned.
    #[serde(default)]
    learning: bool,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<DoneQuery>, QueryRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), Query(query), config) = (path?, query?, app.config());
    let camera = presets::camera_of(&config, &actor, &name)?;
    let t = &page.t.presets;
    let mut notice = match (query.saved, query.removed) {
        (Some(view), _) => notices::done(&page, &t.saved.with("view", view).to_string())?,
        (None, Some(view)) => notices::done(&page, &t.removed.with("view", view).to_string())?,
        (None, None) => notices::state(&page)?,
    };
    if query.learning {
        notice.push_str(&notices::done(&page, &t.learning_asked.to_string())?);
    }
    page.show(&template(&app, &page, camera, notice, None).await?)
}

async fn record(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), fields) = (path?, Fields::read(form)?);
    let given = Given::read(&fields);
    let input = given.input()?;
    let wants_learning = !fields.get("learn").is_empty();
    let (view, outcome) = presets::add(&app, &actor, &name, fields.get("revision").to_owned(), input).await?;
    answer(&app, &actor, &page, (&name, view, wants_learning), given, outcome).await
}

async fn convert(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), fields) = (path?, Fields::read(form)?);
    let given = Given::read(&fields);
    let wants_learning = !fields.get("learn").is_empty();
    let revision = fields.get("revision").to_owned();
    let done = presets::convert(&app, &actor, &name, revision, given.id.clone(), given.tour.clone());
    let (view, outcome) = done.await?;
    answer(&app, &actor, &page, (&name, view, wants_learning), given, outcome).await
}

async fn change(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), fields) = (path?, Fields::read(form)?);
    let (before, given) = (CameraId::from(name.as_str()), Given::read(&fields));
    let revision = fields.get("revision").to_owned();
    let (view, outcome) = presets::rename(&app, &actor, &before, revision, given.input()?).await?;
    answer(&app, &actor, &page, (&name, view, false), given, outcome).await
}

/// Leads to the list, or shows it again with what was entered and why it was not saved.
async fn answer(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    (name, view, wants_learning): (&str, CameraId, bool),
    given: Given,
    outcome: EditOutcome,
) -> Result<Response, Rejection> {
    let details = ActDetails::new("view", name).with("preset", &view);
    if let EditOutcome::Saved(saved, answer) = &outcome {
        let details = details.with("version", saved.version);
        // What is not in force has no view that could be learned.
        let is_learning = wants_learning && answer.accepted;
        if is_learning && let Err(rejection) = presets::learn(app, &view).await {
            return Ok(details.on(rejection));
        }
        let target = format!("/cameras/{view}/presets?saved={view}&learning={is_learning}");
        let target = match answer.accepted {
            true => target,
            false => format!("/cameras/{name}/presets?saved={view}"),
        };
        return Ok(details.on(page.redirect(&target)));
    }
    let notice = notices::not_saved(page, &outcome)?.unwrap_or_default();
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let config = app.config();
    let camera = presets::camera_of(&config, actor, name)?;
    let mut response = page.show_with(status, &template(app, page, camera, notice, Some(given)).await?)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}

async fn learn(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let details = ActDetails::new("view", &view);
    Ok(match aim::confirm(&app, &actor, &view).await {
        Ok(()) => details.on(page.redirect(&format!("/cameras/{view}/presets?learning=true"))),
        Err(rejection) => details.on(rejection),
    })
}

#[derive(Template)]
#[template(path = "preset_remove.html")]
struct AskTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    notice: String,
    revision: String,
    is_last: bool,
    candidates: u32,
    cases: Vec<(String, String)>,
}

async fn ask_template<'a>(
    app: &Arc<App>,
    actor: &Actor,
    page: &'a Page,
    view: CameraId,
    notice: String,
) -> Result<AskTemplate<'a>, Rejection> {
    let config = app.config();
    let (camera, _, id) = presets::preset_of(&config, actor, &view)?;
    let query = CaseQuery {
        is_open: Some(true),
        cameras: Some(vec![camera.id.to_string()]),
        limit: MAX_LISTED,
        ..CaseQuery::default()
    };
    let open = cases::list(app, actor, query).await?.into_iter();
    let here = open.filter(|record| record.camera.preset_id.as_deref() == Some(id));
    Ok(AskTemplate {
        page,
        notice,
        revision: add::revision(&config).await?,
        is_last: camera.presets.len() == 1,
        candidates: app.daemon.view(&view).map_or(0, |status| status.candidates),
        cases: here
            .map(|record| (format!("{} {}", record.category_name, record.case_id), record.case_id))
            .collect(),
        view,
    })
}

async fn ask(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let notice = notices::state(&page)?;
    page.show(&ask_template(&app, &actor, &page, view, notice).await?)
}

async fn remove(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<RawForm, RawFormRejection>,
) -> Result<Response, Rejection> {
    let (view, fields) = (CameraId::from(path?.0), Fields::read(form)?);
    let details = ActDetails::new("view", &view);
    let config = app.config();
    let camera = presets::preset_of(&config, &actor, &view)?.0.id.to_string();
    let outcome = presets::remove(&app, &actor, &view, fields.get("revision").to_owned()).await?;
    if let EditOutcome::Saved(saved, _) = &outcome {
        let target = format!("/cameras/{camera}/presets?removed={view}");
        return Ok(details.with("version", saved.version).on(page.redirect(&target)));
    }
    let notice = notices::not_saved(&page, &outcome)?.unwrap_or_default();
    let (status, why) = notices::refusal(&outcome).unwrap_or((StatusCode::OK, ""));
    let mut response = page.show_with(status, &ask_template(&app, &actor, &page, view, notice).await?)?;
    response.extensions_mut().insert(NotDone(why.into()));
    Ok(details.on(response))
}
