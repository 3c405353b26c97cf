//! Users, sessions and tokens, for administrators.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{
        Path, State,
        rejection::{FormRejection, PathRejection},
    },
    response::Response,
};
use gridwatch_web::{
    Access, Actor, Rejection, Role,
    accounts::{NewToken, NewUser},
    audit::{ActDetails, Means},
    form::{self, Password},
    i18n::Phrase,
    sessions::Session,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{
    app::{App, Routes},
    page::Page,
};

pub(super) fn routes(routes: Routes) -> Routes {
    let admin = Access::Role(Role::Admin);
    routes
        .get("/users", admin, show)
        .post("/users", admin, "console user add", add)
        .post("/users/{name}/role", admin, "console user change", set_role)
        .post("/users/{name}/password", admin, "console user password", set_password)
        .post("/users/{name}/remove", admin, "console user remove", remove)
        .post("/users/sessions/{id}/end", admin, "console session end", end_session)
        .post("/tokens", admin, "console token add", add_token)
        .post("/tokens/{name}/remove", admin, "console token remove", remove_token)
}

/// A session in a table.
pub(super) struct SessionRow {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) address: String,
    pub(super) agent: String,
    pub(super) began: String,
    pub(super) used: String,
    pub(super) is_own: bool,
}

impl SessionRow {
    pub(super) fn new(page: &Page, actor: &Actor, session: Session) -> Self {
        Self {
            is_own: actor.means == Means::Session(session.id.clone()),
            id: session.id,
            user: session.user,
            address: session.address.to_string(),
            agent: session.agent,
            began: page.time(session.began_at),
            used: page.time(session.used_at),
        }
    }
}

struct UserRow {
    name: String,
    role: Role,
    groups: String,
    has_password: bool,
    added: String,
}

struct TokenRow {
    name: String,
    role: Phrase,
    groups: String,
    made_by: String,
    expires: String,
}

/// A role in a list to choose from.
struct RoleChoice {
    value: &'static str,
    role: Role,
    name: Phrase,
}

#[derive(Template)]
#[template(path = "users.html")]
struct UsersTemplate<'a> {
    page: &'a Page,
    users: Vec<UserRow>,
    tokens: Vec<TokenRow>,
    sessions: Vec<SessionRow>,
    roles: Vec<RoleChoice>,
    /// Groups that cameras have, to choose from.
    groups: Vec<String>,
    /// Name and value of a token that was just made.
    made: Option<(String, String)>,
}

fn template<'a>(
    app: &App,
    page: &'a Page,
    actor: &Actor,
    made: Option<(String, String)>,
) -> Result<UsersTemplate<'a>, Rejection> {
    let accounts = app.web.accounts.snapshot()?;
    let joined = |groups: &std::collections::BTreeSet<String>| groups.iter().cloned().collect::<Vec<_>>().join(", ");
    let users = accounts.users.iter().map(|user| UserRow {
        name: user.name.clone(),
        role: user.role,
        groups: joined(&user.groups),
        has_password: user.has_password(),
        added: page.time(user.added_at),
    });
    let tokens = accounts.tokens.iter().map(|token| TokenRow {
        name: token.name.clone(),
        role: page.t.roles.name(token.role),
        groups: joined(&token.groups),
        made_by: token.made_by.clone(),
        expires: token
            .expires_at
            .map_or_else(|| page.t.account.never_expires.to_string(), |at| page.time(at)),
    });
    let sessions = app.web.sessions.all(Timestamp::now()).into_iter();
    let config = app.config();
    let mut groups: Vec<String> = config.cameras.iter().flat_map(|camera| camera.groups.clone()).collect();
    groups.sort();
    groups.dedup();
    Ok(UsersTemplate {
        page,
        users: users.collect(),
        tokens: tokens.collect(),
        sessions: sessions.map(|session| SessionRow::new(page, actor, session)).collect(),
        roles: Role::ALL
            .map(|role| RoleChoice {
                value: role.as_str(),
                role,
                name: page.t.roles.name(role),
            })
            .into(),
        groups,
        made,
    })
}

async fn show(State(app): State<Arc<App>>, actor: Actor, page: Page) -> Result<Response, Rejection> {
    page.show(&template(&app, &page, &actor, None)?)
}

#[derive(Deserialize)]
struct UserForm {
    name: String,
    role: Role,
    #[serde(default)]
    groups: String,
    password: Password,
}

async fn add(
    State(app): State<Arc<App>>,
    page: Page,
    form: Result<Form<UserForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let Form(form) = form?;
    let (name, groups) = (form.name.trim().to_owned(), form::names(&form.groups));
    let details = ActDetails::new("user", &name)
        .with("role", form.role)
        .with("groups", form.groups.trim());
    let accounts = Arc::clone(&app.web.accounts);
    form::blocking(move || {
        accounts.add(&NewUser {
            name: &name,
            role: form.role,
            groups,
            password: form.password.given(),
        })
    })
    .await?;
    Ok(details.on(page.redirect("/users")))
}

#[derive(Deserialize)]
struct RoleForm {
    role: Role,
    #[serde(default)]
    groups: String,
}

async fn set_role(
    State(app): State<Arc<App>>,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<RoleForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), Form(form)) = (path?, form?);
    let details = ActDetails::new("user", &name)
        .with("role", form.role)
        .with("groups", form.groups.trim());
    let (accounts, groups) = (Arc::clone(&app.web.accounts), form::names(&form.groups));
    form::blocking(move || accounts.set_role(&name, form.role, Some(&groups))).await?;
    Ok(details.on(page.redirect("/users")))
}

#[derive(Deserialize)]
struct PasswordForm {
    password: Password,
}

async fn set_password(
    State(app): State<Arc<App>>,
    page: Page,
    path: Result<Path<String>, PathRejection>,
    form: Result<Form<PasswordForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let (Path(name), Form(form)) = (path?, form?);
    let details = ActDetails::new("user", &name);
    let (accounts, password) = (Arc::clone(&app.web.accounts), form.password.into_secret());
    form::blocking(move || accounts.set_password(&name, &password)).await?;
    Ok(details.on(page.redirect("/users")))
}

async fn remove(
    State(app): State<Arc<App>>,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(name) = path?;
    let details = ActDetails::new("user", &name);
    app.web.remove_user(name).await?;
    Ok(details.on(page.redirect("/users")))
}

async fn end_session(
    State(app): State<Arc<App>>,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    match app.web.sessions.end(&id, None) {
        true => Ok(ActDetails::new("session", id).on(page.redirect("/users"))),
        false => Err(Rejection::NotFound),
    }
}

#[derive(Deserialize)]
struct TokenForm {
    name: String,
    role: Role,
    #[serde(default)]
    groups: String,
    #[serde(default)]
    days: String,
}

async fn add_token(
    State(app): State<Arc<App>>,
    actor: Actor,
    page: Page,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Result<Response, Rejection> {
    let Form(form) = form?;
    let (name, groups) = (form.name.trim().to_owned(), form::names(&form.groups));
    let expires_at = match form.days.trim() {
        "" => None,
        days => {
            let days = days.parse::<i64>().ok().filter(|days| (1..=3650).contains(days));
            let t = &page.t.account;
            let days = days.ok_or_else(|| Rejection::BadRequest(format!("{}: {}", t.days, t.days_hint).into()))?;
            Some(Timestamp::now() + SignedDuration::from_hours(24 * days))
        }
    };
    let details = ActDetails::new("token", &name)
        .with("role", form.role)
        .with("groups", form.groups.trim());
    let made_by = actor.name.clone().unwrap_or_default();
    let (accounts, made) = (Arc::clone(&app.web.accounts), name.clone());
    let token = form::blocking(move || {
        accounts.add_token(&NewToken {
            name: &made,
            role: form.role,
            groups,
            made_by: &made_by,
            expires_at,
        })
    })
    .await?;
    // Shown in the answer itself, as it is stored nowhere.
    let shown = template(&app, &page, &actor, Some((name, token.to_string())))?;
    Ok(details.on(page.show(&shown)?))
}

async fn remove_token(
    State(app): State<Arc<App>>,
    page: Page,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(name) = path?;
    let details = ActDetails::new("token", &name);
    let accounts = Arc::clone(&app.web.accounts);
    form::blocking(move || accounts.remove_token(&name)).await?;
    Ok(details.on(page.redirect("/users")))
}
