//! The log's newest lines.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use gridwatch_web::{Access, Actor, Rejection, Role, form};
use serde::Deserialize;

use super::{PartLink, parts};
use crate::{
    app::{App, Routes},
    page::Page,
    system::{
        expect_whole_box,
        log::{self, Level, LineAnswer, LogQuery},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let admin = Access::Role(Role::Admin);
    routes
        .get("/system/log", admin, show)
        .get("/system/log/lines", admin, lines)
}

/// Values of the form; a level that is not chosen is empty.
#[derive(Debug, Default, Deserialize)]
struct LogForm {
    #[serde(default)]
    level: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    follow: Option<String>,
}

impl LogForm {
    fn query(&self) -> LogQuery {
        let level = self.level.as_deref();
        LogQuery {
            level: Level::ALL.into_iter().find(|known| Some(known.as_str()) == level),
            text: form::given(self.text.clone()),
        }
    }
}

struct LevelChoice {
    name: &'static str,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "system_log_lines.html")]
struct LinesTemplate<'a> {
    page: &'a Page,
    lines: Vec<LineAnswer>,
}

#[derive(Template)]
#[template(path = "system_log.html")]
struct LogTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
    levels: Vec<LevelChoice>,
    text: String,
    /// The lines are asked for again and again.
    follows: bool,
    lines: Vec<LineAnswer>,
}

async fn show(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<LogForm>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let Query(form) = query?;
    let query = form.query();
    let levels = Level::ALL.map(|level| LevelChoice {
        name: level.as_str(),
        is_chosen: query.level == Some(level),
    });
    let template = LogTemplate {
        parts: parts(&app, &page),
        levels: levels.into(),
        lines: log::lines(&app, &query),
        text: query.text.unwrap_or_default(),
        follows: form.follow.is_some(),
        page: &page,
    };
    page.show(&template)
}

async fn lines(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    query: Result<Query<LogForm>, QueryRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let query = query?.query();
    page.show(&LinesTemplate {
        lines: log::lines(&app, &query),
        page: &page,
    })
}
