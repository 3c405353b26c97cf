//! The wall: every view that the user may see, problems first.

use std::{collections::BTreeMap, sync::Arc};

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
use gridwatch_config::Config;
use gridwatch_engine::{CameraId, View};
use gridwatch_web::{Access, Actor, Rejection, Role, client::Client, i18n::Phrase};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Keep, jpeg};
use crate::{
    access::CameraAccess as _,
    app::{App, Routes},
    daemon::{Connection, ViewStatus},
    events::{self, Changes, Watcher},
    overlay::Overlay,
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/", viewer, show)
        .get("/wall", viewer, tiles)
        .get("/wall/events", viewer, stream)
        .get("/cameras/{view}/thumbnail", viewer, thumbnail)
}

/// How urgently a view needs a person; views are sorted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// Nothing is seen: the camera is down, or its view blocked, moved or dark.
    Blind,
    /// There are open cases.
    OpenCases,
    /// There are candidates.
    Candidates,
    /// The stream works with difficulties.
    Impaired,
    Fine,
}

impl Urgency {
    pub(crate) fn of(status: &ViewStatus) -> Self {
        match (status.connection, status.sight) {
            (Connection::Refused | Connection::Down | Connection::NoPictures | Connection::SetAside, _)
            | (_, Some(View::Dark | View::Blurred | View::Blocked | View::Frozen | View::Damaged | View::Moved)) => {
                Self::Blind
            }
            _ if status.open_cases > 0 => Self::OpenCases,
            _ if status.candidates > 0 => Self::Candidates,
            (Connection::Live, Some(View::Clear)) => Self::Fine,
            (Connection::Connecting | Connection::Degraded | Connection::Ended | Connection::Live, _) => Self::Impaired,
        }
    }

    /// Its class in the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::OpenCases => "open",
            Self::Candidates => "candidates",
            Self::Impaired => "impaired",
            Self::Fine => "fine",
        }
    }

    fn is_problem(self) -> bool {
        self < Self::Impaired
    }
}

/// The state of a view in words: what stands against seeing, or that it sees.
pub(crate) struct StateLine {
    pub(crate) text: Phrase,
    pub(crate) since: Option<Timestamp>,
}

impl StateLine {
    pub(crate) fn of(page: &Page, status: &ViewStatus) -> Self {
        let names = &page.t.names;
        match (status.connection, status.sight) {
            (Connection::Live, sight) | (Connection::Degraded, sight @ Some(_)) if sight != Some(View::Clear) => Self {
                text: names.sight(sight),
                since: status.sight_since,
            },
            (connection, _) => Self {
                text: names.connection(connection),
                since: Some(status.connection_since),
            },
        }
    }
}

/// A view on the wall.
pub(crate) struct Tile {
    view: CameraId,
    urgency: Urgency,
    state: Phrase,
    since: String,
    since_machine: String,
    looked_at: String,
    looked_machine: String,
    /// Changes with each look: part of the thumbnail's URL. 0 before the first.
    look: i64,
    candidates: u32,
    open_cases: u32,
    overlay: Overlay,
}

impl Tile {
    fn new(page: &Page, app: &App, config: &Config, status: &ViewStatus) -> Self {
        let look = app.daemon.newest_look(&status.view);
        let state = StateLine::of(page, status);
        let times = |at: Option<Timestamp>| match at {
            Some(at) => (page.time(at), page.machine_time(at)),
            None => (String::new(), String::new()),
        };
        let ((since, since_machine), (looked_at, looked_machine)) = (times(state.since), times(status.looked_at));
        Self {
            urgency: Urgency::of(status),
            state: state.text,
            since,
            since_machine,
            looked_at,
            looked_machine,
            look: look.as_ref().map_or(0, |look| look.at.as_millisecond()),
            candidates: status.candidates,
            open_cases: status.open_cases,
            overlay: Overlay::of(page, config, &status.view, look.as_deref()),
            view: status.view.clone(),
        }
    }

    fn has_look(&self) -> bool {
        self.look != 0
    }
}

/// What the user sees of the wall at one moment.
struct Wall {
    tiles: Vec<Tile>,
    problems: usize,
}

impl Wall {
    fn of(page: &Page, app: &App, actor: &Actor) -> Self {
        let config = app.config();
        let tiles = seen(app, &config, actor);
        let tiles: Vec<Tile> = tiles
            .iter()
            .map(|status| Tile::new(page, app, &config, status))
            .collect();
        Self {
            problems: tiles.iter().filter(|tile| tile.urgency.is_problem()).count(),
            tiles,
        }
    }
}

/// The views that the user may see, the most urgent first, and otherwise in the order of the configuration.
fn seen(app: &App, config: &Config, actor: &Actor) -> Vec<ViewStatus> {
    let mut views = app.daemon.views();
    views.retain(|status| actor.camera_of(config, &status.view).is_some());
    views.sort_by_key(Urgency::of);
    views
}

#[derive(Template)]
#[template(path = "wall.html")]
struct WallTemplate<'a> {
    page: &'a Page,
    wall: Wall,
    /// Changes after this moment are sent by the stream.
    now_ms: i64,
}

#[derive(Template)]
#[template(path = "wall_tiles.html")]
struct TilesTemplate<'a> {
    page: &'a Page,
    wall: Wall,
}

#[derive(Template)]
#[template(path = "wall_tile.html")]
struct TileTemplate<'a> {
    page: &'a Page,
    tile: Tile,
}

#[derive(Template)]
#[template(path = "status.html")]
struct StatusTemplate<'a> {
    page: &'a Page,
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    let now_ms = Timestamp::now().as_millisecond();
    page.show(&WallTemplate {
        page: &page,
        wall: Wall::of(&page, &app, &actor),
        now_ms,
    })
}

/// All tiles, for a change of their order.
async fn tiles(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    page.show(&TilesTemplate {
        page: &page,
        wall: Wall::of(&page, &app, &actor),
    })
}

#[derive(Deserialize)]
struct Since {
    /// When the page was made, in milliseconds since 1970.
    #[serde(default)]
    since: i64,
}

/// Events of the wall: `view:VIEW` with a tile, `order` when tiles come, go or move, `status` with the banner.
async fn stream(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    page: Page,
    headers: HeaderMap,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(Since { since }) = query?;
    let mut shown: Option<BTreeMap<CameraId, Urgency>> = None;
    let watcher = Watcher::new(app, actor, client, headers.clone());
    events::stream(watcher, move |watcher, changes| {
        // With the readiness of this moment.
        let page = Page::new(&watcher.site, &headers, Some(watcher.actor.clone()), &page.path);
        wall_events(watcher, &page, changes, since, &mut shown)
    })
}

fn wall_events(
    watcher: &Watcher,
    page: &Page,
    changes: &Changes,
    since_ms: i64,
    shown: &mut Option<BTreeMap<CameraId, Urgency>>,
) -> Vec<Event> {
    let app = &watcher.site;
    let config = app.config();
    let views = seen(app, &config, &watcher.actor);
    let now: BTreeMap<CameraId, Urgency> = views.iter().map(|v| (v.view.clone(), Urgency::of(v))).collect();
    let mut events = Vec::new();
    let is_new = |status: &ViewStatus| {
        let times = [Some(status.connection_since), status.sight_since, status.looked_at];
        times.into_iter().flatten().any(|at| at.as_millisecond() >= since_ms)
    };
    // The first time, what has changed between the page and its stream.
    let changed = |status: &&ViewStatus| match shown {
        None => changes.concern(&status.view) || is_new(status),
        Some(_) => changes.concern(&status.view),
    };
    let has_moved = shown.as_ref().is_some_and(|shown| *shown != now);
    if has_moved || changes.all {
        // Not empty: a browser drops an event without data.
        events.push(Event::default().event("order").data("1"));
    } else {
        let tiles = views.iter().filter(changed).map(|status| TileTemplate {
            page,
            tile: Tile::new(page, app, &config, status),
        });
        events.extend(tiles.filter_map(|tile| {
            let name = format!("view:{}", tile.tile.view);
            Some(Event::default().event(name).data(tile.render().ok()?))
        }));
    }
    if changes.status || changes.all || shown.is_none() {
        let banner = StatusTemplate { page }.render();
        events.extend(
            banner
                .ok()
                .map(|banner| Event::default().event("status").data(format!("{banner}\n"))),
        );
    }
    *shown = Some(now);
    events
}

async fn thumbnail(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let view = CameraId::from(path?.0);
    actor.camera_of(&app.config(), &view).ok_or(Rejection::NotFound)?;
    let picture = app.daemon.thumbnail(&view).await?;
    Ok(jpeg(picture.jpeg, Keep::Long))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_that_see_nothing_come_first_and_those_without_anything_last() {
        let status = |connection, sight, open_cases, candidates| ViewStatus {
            view: "gate".into(),
            connection,
            connection_since: Timestamp::UNIX_EPOCH,
            connection_detail: None,
            sight,
            sight_since: None,
            looked_at: None,
            candidates,
            open_cases,
        };
        let urgency = |connection, sight, open, candidates| Urgency::of(&status(connection, sight, open, candidates));
        assert_eq!(urgency(Connection::Down, Some(View::Clear), 1, 0), Urgency::Blind);
        assert_eq!(urgency(Connection::Live, Some(View::Moved), 0, 0), Urgency::Blind);
        assert_eq!(urgency(Connection::Live, Some(View::Clear), 2, 1), Urgency::OpenCases);
        assert_eq!(urgency(Connection::Live, Some(View::Clear), 0, 1), Urgency::Candidates);
        assert_eq!(urgency(Connection::Connecting, None, 0, 0), Urgency::Impaired);
        assert_eq!(urgency(Connection::Live, Some(View::Clear), 0, 0), Urgency::Fine);
        assert!(Urgency::Candidates.is_problem() && !Urgency::Impaired.is_problem());
    }
}
