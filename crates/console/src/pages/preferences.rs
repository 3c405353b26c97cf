//! Language and theme, kept in cookies of the browser.

use std::sync::Arc;

use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::Response,
};
use gridwatch_web::{Access, Rejection};
use serde::Deserialize;

use crate::{
    app::{App, Routes},
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.post("/preferences", Access::Public, "console preferences", set)
}

#[derive(Deserialize)]
struct Preferences {
    language: Option<String>,
    theme: Option<String>,
    next: Option<String>,
}

async fn set(
    State(app): State<Arc<App>>,
    page: Page,
    form: Result<Form<Preferences>, FormRejection>,
) -> Result<Response, Rejection> {
    let Form(form) = form?;
    let (language, theme) = (form.language.as_deref(), form.theme.as_deref());
    Ok(page.prefer(&app.web, language, theme, form.next.as_deref().unwrap_or_default()))
}
