//! Login and logout.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::HeaderMap,
    response::Response,
};
use gridwatch_web::{
    Access, Actor, Rejection, Role, audit::NotAnAct, client::Client, form::Password, login, page::local_path,
};
use serde::Deserialize;

use crate::{
    app::{App, Routes},
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/login", Access::Public, show)
        .post("/login", Access::Public, "console login", log_in)
        .post("/logout", Access::Role(Role::Viewer), "console logout", log_out)
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginTemplate<'a> {
    page: &'a Page,
    next: &'a str,
    user: &'a str,
    message: String,
}

#[derive(Deserialize)]
struct Next {
    next: Option<String>,
}

async fn show(
    State(app): State<Arc<App>>,
    page: Page,
    query: Result<Query<Next>, QueryRejection>,
) -> Result<Response, Rejection> {
    let Query(query) = query?;
    let next = local_path(query.next.as_deref().unwrap_or_default());
    if page.actor.is_some() {
        return Ok(page.redirect(next));
    }
    let has_users = !app.web.accounts.snapshot()?.users.is_empty();
    page.show(&LoginTemplate {
        page: &page,
        next,
        user: "",
        message: if has_users {
            String::new()
        } else {
            page.t.account.no_users.to_string()
        },
    })
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: Password,
    next: Option<String>,
}

async fn log_in(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    page: Page,
    headers: HeaderMap,
    form: Result<Form<Login>, FormRejection>,
) -> Result<Response, Rejection> {
    let Form(Login { user, password, next }) = form?;
    let user = user.trim();
    let next = local_path(next.as_deref().unwrap_or_default());
    match login::log_in(&app.web, client, &headers, user, password.into_secret()).await? {
        Ok(logged_in) => Ok(logged_in.on(page.redirect(next))),
        Err(fault) => {
            let template = LoginTemplate {
                page: &page,
                next,
                user,
                message: fault.text(page.language),
            };
            let mut response = fault.on(page.show_with(fault.status(), &template)?);
            response.extensions_mut().insert(NotAnAct);
            Ok(response)
        }
    }
}

async fn log_out(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Response {
    login::log_out(&app.web, &actor, page.redirect("/login"))
}
