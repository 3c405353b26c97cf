//! The zone editor of a view, over its newest look and what happened there in the last week.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use askama::Template;
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use gridwatch_config::{Config, Language};
use gridwatch_contract::EvidenceRole;
use gridwatch_engine::CameraId;
use gridwatch_ledger::{
    LedgerError,
    history::{
        HistoryError, Task,
        feet::{FeetFilter, FootPoints, foot_points},
    },
    replay::Window,
};
use gridwatch_store::CaseQuery;
use gridwatch_web::{Access, Actor, Rejection, Role};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::notices;
use crate::{
    app::{App, Routes},
    cases,
    configuration::{self, Part, parts},
    page::Page,
    web_texts,
};

/// How far back foot points and cases go.
const DAYS: i64 = 7;
/// Cells with foot points that are sent, at most, for all labels together: 60 kB.
const MAX_POINTS: usize = 3000;
/// Cases that are marked, at most.
const MAX_CASES: u32 = 300;

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/cameras/{view}/zones", viewer, show)
        .get("/cameras/{view}/zones/layers", viewer, layers)
        .get("/cameras/{view}/zones/saved", viewer, saved)
        .get("/cameras/{view}/zones/picture", viewer, first_picture)
}

/// The newest picture of a view for an editor over it.
pub(super) struct EditorPicture {
    /// Its URL; empty without a look.
    pub(super) url: String,
    pub(super) size: (u32, u32),
}

impl EditorPicture {
    pub(super) fn of(app: &App, page: &Page, view: &CameraId) -> Self {
        match app.daemon.newest_look(view) {
            Some(look) => Self {
                url: format!("{}/cameras/{view}/picture?at={}", page.base, look.at.as_millisecond()),
                size: look.size,
            },
            None => Self {
                url: String::new(),
                size: (16, 9),
            },
        }
    }

    /// Fields of the JSON of an editor.
    pub(super) fn put_into(&self, data: &mut Value) {
        if !self.url.is_empty() {
            data["picture"] = self.url.as_str().into();
        }
        data["width"] = self.size.0.into();
        data["height"] = self.size.1.into();
    }
}

/// The newest picture for an editor that was opened before the view's first look; nothing (204) until there is one.
async fn first_picture(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    parts::path_of(&app, &actor, &view)?;
    let picture = EditorPicture::of(&app, &page, &view);
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    if picture.url.is_empty() {
        return Ok((StatusCode::NO_CONTENT, no_store).into_response());
    }
    Ok((no_store, Json(json!({ "picture": picture.url }))).into_response())
}

#[derive(Template)]
#[template(path = "zones.html")]
struct ZonesTemplate<'a> {
    page: &'a Page,
    view: CameraId,
    /// Why nothing can be edited, as HTML.
    unreadable: Option<String>,
    may_edit: bool,
    has_picture: bool,
    picture: String,
    texts: String,
    data: String,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let path = parts::path_of(&app, &actor, &view)?.key("zones");
    let picture = EditorPicture::of(&app, &page, &view);
    let (unreadable, data) = match Part::read(&app).await? {
        Err(faults) => (Some(notices::unreadable(&page, &faults)?), Value::Null),
        Ok(part) => {
            let mut data = json!({
                "revision": part.revision,
                "zones": part.list(&path),
                "rules": rules(&app.config(), page.language),
                "schedules": part.list(&parts::schedules()).as_array().into_iter().flatten()
                    .filter_map(|schedule| schedule.get("id")).map(|id| json!({ "id": id })).collect::<Value>(),
            });
            picture.put_into(&mut data);
            (None, data)
        }
    };
    page.show(&ZonesTemplate {
        unreadable,
        may_edit: page.may_operate(),
        has_picture: !picture.url.is_empty(),
        picture: picture.url,
        texts: web_texts::of(
            page.language,
            &["edit.", "picture.", "zone.", "layer.", "help.", "save.", "conflict."],
        ),
        data: web_texts::in_page(&data),
        page: &page,
        view,
    })
}

/// The rules that a zone may name, with the names of their categories.
fn rules(config: &Config, language: Language) -> Vec<Value> {
    let rules = config.plan.rules.iter().map(|rule| {
        let name = match language {
            Language::Zh => &rule.category.name_zh,
            Language::En => &rule.category.name_en,
        };
        json!({ "id": rule.id.as_str(), "label": format!("{name} ({})", rule.id) })
    });
    rules.collect()
}

/// What the newest version changed in this view, to be shown after a save.
async fn saved(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    let part = parts::path_of(&app, &actor, &view)?;
    let notice = notices::saved(&app, &page, None, Some(&part)).await?;
    let headers = [
        (
            axum::http::header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, notice).into_response())
}

/// Cancels a query when the browser has gone.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What lies behind the zones: where things stood, and what was filed.
async fn layers(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    parts::path_of(&app, &actor, &view)?;
    let from = Timestamp::now() - SignedDuration::from_hours(24 * DAYS);
    let foot_points = feet(&app, &view, from).await?;
    let cases = filed(&app, &actor, &page, &view, from).await?;
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(json!({ "foot_points": foot_points, "cases": cases }))).into_response())
}

/// Foot points as `[x, y, count]`.
async fn feet(app: &Arc<App>, view: &CameraId, from: Timestamp) -> Result<Value, Rejection> {
    let config = app.config();
    let Some(ledger) = config.ledger.as_ref().map(|ledger| ledger.dir.clone()) else {
        return Ok(json!([]));
    };
    let guard = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let cancelled = Arc::clone(&guard.0);
    let filter = FeetFilter {
        cameras: Some(BTreeSet::from([view.clone()])),
        labels: Some(config.plan.rules.iter().flat_map(|rule| rule.labels.clone()).collect()),
        min_score: 0.0,
    };
    let window = Window {
        from: Some(from),
        to: None,
    };
    let found = configuration::blocking(app, move |_| {
        let task = Task {
            cancelled: &cancelled,
            progress: &|_| {},
        };
        foot_points(&ledger, window, &filter, MAX_POINTS, task)
    });
    match found.await? {
        Ok((labels, _)) => Ok(merged(&labels)),
        // Nothing was recorded yet.
        Err(HistoryError::Ledger(LedgerError::Missing { .. })) => Ok(json!([])),
        Err(error) => {
            tracing::warn!(%error, %view, "The console cannot read foot points from the ledger");
            Err(Rejection::Unavailable(error.to_string().into()))
        }
    }
}

/// The fullest cells over all labels.
fn merged(labels: &[FootPoints]) -> Value {
    let mut points: Vec<_> = labels.iter().flat_map(|label| &label.points).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.count));
    let rounded = |value: f64| (value * 1e4).round() / 1e4;
    let points = points.into_iter().take(MAX_POINTS);
    points
        .map(|point| json!([rounded(point.at.x), rounded(point.at.y), point.count]))
        .collect()
}

/// The cases that were filed in the view, where their objects stood.
async fn filed(
    app: &Arc<App>,
    actor: &Actor,
    page: &Page,
    view: &CameraId,
    from: Timestamp,
) -> Result<Vec<Value>, Rejection> {
    let config = app.config();
    let found = gridwatch_config::find_view(&config.cameras, view.as_str());
    let (camera, preset) = found.ok_or(Rejection::NotFound)?;
    let query = CaseQuery {
        cameras: Some(vec![camera.id.as_str().to_owned()]),
        from: Some(from),
        limit: MAX_CASES,
        ..CaseQuery::default()
    };
    let records = cases::list(app, actor, query).await?;
    let of_view = records
        .into_iter()
        .filter(|record| record.camera.preset_id == preset.id);
    let marks = of_view.filter_map(|record| {
        let scene = record.evidence.iter().find(|item| item.role == EvidenceRole::Scene)?;
        let [x1, _, x2, y2] = record.extent.bbox_px.map(f64::from);
        let (x, y) = (
            f64::midpoint(x1, x2) / f64::from(scene.width),
            y2 / f64::from(scene.height),
        );
        // False for NaN: a record from elsewhere may have a picture without size.
        let is_inside = (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y);
        let name = match (page.language, &record.category_names) {
            (Language::En, Some(names)) => &names.en,
            _ => &record.category_name,
        };
        let label = format!("{name} {}", page.time(record.confirmed_at.timestamp()));
        is_inside.then(|| json!({ "id": record.case_id, "x": x, "y": y, "label": label }))
    });
    Ok(marks.collect())
}
