//! Language and theme, kept in cookies of the browser.

use std::sync::Arc;

use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    http::header::SET_COOKIE,
    response::Response,
};
use gridwatch_web::{Access, Rejection, audit::NotAnAct, cookies};
use serde::Deserialize;

use crate::{
    app::{App, Routes},
    page::{Page, Theme, local_path},
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
    let mut response = page.redirect(local_path(form.next.as_deref().unwrap_or_default()));
    let language = form
        .language
        .as_deref()
        .and_then(gridwatch_web::i18n::parse)
        .map(gridwatch_web::i18n::tag);
    let theme = form.theme.as_deref().and_then(Theme::parse).map(Theme::as_str);
    for (name, value) in [(cookies::LANGUAGE, language), (cookies::THEME, theme)] {
        if let Some(value) = value {
            let cookie = cookies::set(&app.web, name, value, Some(cookies::LONG));
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response.extensions_mut().insert(NotAnAct);
    Ok(response)
}
