//! The support bundle.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::Response,
};
use gridwatch_web::{Access, Actor, Rejection, Role};
use serde::Deserialize;

use super::{PartLink, parts};
use crate::{
    app::{App, Routes},
    page::Page,
    system::{
        bundle::{self, BundleOptions},
        expect_whole_box,
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let admin = Access::Role(Role::Admin);
    routes
        .get("/system/support", admin, show)
        .post("/system/support/bundle", admin, bundle::ACT, download)
}

#[derive(Template)]
#[template(path = "system_support.html")]
struct SupportTemplate<'a> {
    page: &'a Page,
    parts: Vec<PartLink>,
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    page.show(&SupportTemplate {
        parts: parts(&app, &page),
        page: &page,
    })
}

#[derive(Deserialize)]
struct BundleForm {
    #[serde(default)]
    with_places: Option<String>,
}

async fn download(
    State(app): State<Arc<App>>,
    actor: Actor,
    form: Result<Form<BundleForm>, FormRejection>,
) -> Result<Response, Rejection> {
    expect_whole_box(&app, &actor)?;
    let Form(form) = form?;
    let options = BundleOptions {
        with_places: form.with_places.is_some(),
    };
    bundle::download(&app, options).await
}
