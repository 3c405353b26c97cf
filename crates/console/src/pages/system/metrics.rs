//! Metrics sketched.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};
use gridwatch_web::{Access, Actor, Rejection, Role};

use super::{PartLink, parts};
use crate::{
    app::{App, Routes},
    page::Page,
    system::{
        expect_whole_box,
        metrics::{self, Sketch},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let operator = Access::Role(Role::Operator);
    routes
        .get("/system/metrics", operator, show)
        .get("/system/metrics/now", operator, now)
}

struct MetricRow {
    name: String,
    labels: String,
    value: String,
}

#[derive(Template)]
#[template(path = "system_metrics_now.html")]
struct NowTemplate<'a> {
    page: &'a Page,
    sketches: Vec<Sketch>,
    rows: Vec<MetricRow>,
}

#[derive(Template)]
#[template(path = "system_metrics.html")]
struct MetricsTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
    now: NowTemplate<'a>,
}

fn newest<'a>(app: &App, page: &'a Page) -> NowTemplate<'a> {
    let found = metrics::parse(&app.daemon.metrics());
    NowTemplate {
        page,
        sketches: metrics::sketches(app, page.t, &found),
        rows: found
            .into_iter()
            .map(|metric| MetricRow {
                value: metrics::number(metric.value),
                name: metric.name,
                labels: metric.labels,
            })
            .collect(),
    }
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    page.show(&MetricsTemplate {
        parts: parts(&app, &page),
        now: newest(&app, &page),
        page: &page,
    })
}

async fn now(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    page.show(&newest(&app, &page))
}
