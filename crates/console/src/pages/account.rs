//! A user's own password and sessions.

use std::sync::Arc;

use askama::Template;
use axum::{
    Extension, Form,
    extract::{
        Path, State,
        rejection::{FormRejection, PathRejection},
    },
    http::StatusCode,
    response::Response,
};
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::ActDetails,
    client::Client,
    form::Password,
    login::{self, LoginFault},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::users::SessionRow;
use crate::{
    app::{App, Routes},
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let viewer = Access::Role(Role::Viewer);
    routes
        .get("/account", viewer, show)
        .post("/account/password", viewer, "console password change", change_password)
        .post("/account/sessions/{id}/end", viewer, "console session end", end_session)
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountTemplate<'a> {
    page: &'a Page,
    sessions: Vec<SessionRow>,
    message: String,
}

fn template<'a>(app: &App, page: &'a Page, actor: &Actor, message: String) -> AccountTemplate<'a> {
    let sessions = app.web.sessions.all(Timestamp::now()).into_iter();
    let own = sessions.filter(|session| Some(&session.user) == actor.name.as_ref());
    AccountTemplate {
        page,
        sessions: own.map(|session| SessionRow::new(page, actor, session)).collect(),
        message,
    }
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    page.show(&template(&app, &page, &actor, String::new()))
}

#[derive(Deserialize)]
struct NewPassword {
    old: Password,
    new: Password,
    again: Password,
}

async fn change_password(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    page: Page,
    form: Result<Form<NewPassword>, FormRejection>,
) -> Result<Response, Rejection> {
    let Form(form) = form?;
    let fail = |status, message: String| page.show_with(status, &template(&app, &page, &actor, message));
    if form.new.secret() != form.again.secret() {
        return fail(StatusCode::BAD_REQUEST, page.t.account.passwords_differ.to_string());
    }
    let (old, new) = (form.old.into_secret(), form.new.into_secret());
    match login::change_own_password(&app.web, client, &actor, old, new).await {
        Ok(()) => Ok(page.redirect("/login")),
        Err(rejection @ Rejection::WrongPassword) => fail(rejection.status(), page.rejection(&rejection)),
        Err(rejection @ Rejection::Unavailable(_)) => {
            fail(rejection.status(), LoginFault::Overloaded.text(page.language))
        }
        Err(rejection) => Err(rejection),
    }
}

async fn end_session(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    match app
        .web
        .sessions
        .end(&id, Some(actor.name.as_deref().unwrap_or_default()))
    {
        true => Ok(ActDetails::new("session", id).on(page.redirect("/account"))),
        false => Err(Rejection::NotFound),
    }
}
