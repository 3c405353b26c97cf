//! Login and logout.

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Extension, Form,
    extract::{
        Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    http::{
        HeaderMap, StatusCode,
        header::{RETRY_AFTER, SET_COOKIE, USER_AGENT},
    },
    response::Response,
};
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    audit::{ActDetails, Means, NotAnAct, Person},
    client::Client,
    cookies,
    form::Password,
    login_guard::{Origin, Permission},
    random,
    sessions::NewSession,
};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    app::{App, Routes},
    page::{Page, local_path},
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
    let fail = |status, message: String| {
        let template = LoginTemplate {
            page: &page,
            next,
            user,
            message,
        };
        let mut response = page.show_with(status, &template)?;
        response.extensions_mut().insert(NotAnAct);
        Ok(response)
    };
    let device = known_device(&app, &headers, user);
    let origin = device
        .clone()
        .map_or_else(|| Origin::Source(client.address.into()), Origin::Device);
    match app.web.try_login(user, &origin) {
        Permission::After(Duration::ZERO) => {}
        Permission::After(pause) => tokio::time::sleep(pause).await,
        Permission::Wait(wait) => {
            tracing::warn!(address = %client.address, "Refused a login to the console: too many wrong passwords");
            let seconds = wait.as_secs() + 1;
            let mut response = fail(
                StatusCode::TOO_MANY_REQUESTS,
                page.t.account.locked.with("seconds", seconds).to_string(),
            )?;
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
            return Ok(response);
        }
    }
    let accounts = app.web.accounts.snapshot()?;
    let account = accounts.user(user);
    let hash = account.and_then(|account| account.hash()).map(str::to_owned);
    let Ok(is_right) = app
        .web
        .passwords
        .verify(password.into_secret(), hash, device.is_some())
        .await
    else {
        app.web.login_not_tried(user, &origin);
        return fail(StatusCode::SERVICE_UNAVAILABLE, page.t.account.overloaded.to_string());
    };
    let Some(account) = account.filter(|_| is_right) else {
        // The name is not logged: people type the password in its place.
        tracing::warn!(address = %client.address, "A login to the console failed: wrong name or password");
        return fail(StatusCode::UNAUTHORIZED, page.rejection(&Rejection::WrongPassword));
    };
    app.web.login_succeeded(user, &origin);
    let agent = headers
        .get(USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let new = NewSession {
        user: &account.name,
        stamp: account.stamp(),
        address: client.address,
        agent,
    };
    let (token, id) = app.web.sessions.begin(&new, Timestamp::now());
    let mut response = page.redirect(next);
    let device = device.unwrap_or_else(random::id);
    let proof = app.web.key.sign("device", &format!("{device}\n{}", account.name));
    let session = cookies::set(&app.web, cookies::SESSION, &token, None);
    let device = cookies::set(
        &app.web,
        cookies::DEVICE,
        &format!("{device}.{proof}"),
        Some(cookies::LONG),
    );
    for cookie in [session, device] {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    let details = ActDetails {
        by: Some(Person {
            user: Some(account.name.clone()),
            role: Some(account.role),
            means: Means::Session(id),
            address: client.address,
        }),
        ..ActDetails::default()
    };
    Ok(details.on(response))
}

/// Id of the browser's cookie, if it has logged in to this account before.
fn known_device(app: &App, headers: &HeaderMap, user: &str) -> Option<String> {
    let cookie = cookies::get(headers, cookies::DEVICE)?;
    let (device, proof) = cookie.split_once('.')?;
    let is_known = app.web.key.verify("device", &format!("{device}\n{user}"), proof);
    is_known.then(|| device.to_owned())
}

async fn log_out(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    if let Means::Session(id) = &actor.means {
        app.web.sessions.end(id, None);
    }
    let mut response = page.redirect("/login");
    // The device stays known: it is no permission.
    response
        .headers_mut()
        .append(SET_COOKIE, cookies::set(&app.web, cookies::SESSION, "", Some(0)));
    Ok(response)
}
