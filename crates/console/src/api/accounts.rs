//! Users, sessions and tokens, and the account of whoever asks.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Path, State, rejection::PathRejection},
    http::{Method, StatusCode},
    response::Response,
};
use gridwatch_web::{
    Actor, Rejection, Role,
    accounts::{MAX_GROUPS, MAX_NAME, MAX_PASSWORD, MIN_PASSWORD, NewToken, NewUser, Token, User},
    audit::{ActDetails, Means},
    client::Client,
    form::{self, Password},
    login,
    openapi::{Answer, Operation, schema},
    sessions::Session,
};
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{change, get};
use crate::{
    app::{App, Routes},
    values::{JsonObject, Whole},
};

/// Days after which a token ends, at most.
pub(crate) const MAX_DAYS: u32 = 3650;

/// Adds the operations.
pub(super) fn routes(routes: Routes) -> Routes {
    account_routes(session_routes(token_routes(user_routes(routes))))
}

fn user_routes(routes: Routes) -> Routes {
    let admin = Role::Admin;
    let users = Answer::Json(schema::<Vec<UserAnswer>>);
    let add = change(
        Method::POST,
        "/api/v1/users",
        "add_user",
        "Add a user",
        admin,
        "console user add",
    );
    let role = change(
        Method::PUT,
        "/api/v1/users/{name}/role",
        "set_user_role",
        "Set a user's role and groups, which ends their sessions",
        admin,
        "console user change",
    );
    let password = change(
        Method::PUT,
        "/api/v1/users/{name}/password",
        "set_user_password",
        "Set a user's password, which ends their sessions",
        admin,
        "console user password",
    );
    let remove = change(
        Method::DELETE,
        "/api/v1/users/{name}",
        "remove_user",
        "Remove a user, which ends their sessions",
        admin,
        "console user remove",
    );
    routes
        .api(get("/api/v1/users", "users", "The users", admin, users), list_users)
        .api(
            Operation {
                body: Some(schema::<UserBody>),
                ..add
            },
            add_user,
        )
        .api(
            Operation {
                body: Some(schema::<RoleBody>),
                ..role
            },
            set_role,
        )
        .api(
            Operation {
                body: Some(schema::<PasswordBody>),
                ..password
            },
            set_password,
        )
        .api(remove, remove_user)
}

fn token_routes(routes: Routes) -> Routes {
    let admin = Role::Admin;
    let tokens = Answer::Json(schema::<Vec<TokenAnswer>>);
    let add = change(
        Method::POST,
        "/api/v1/tokens",
        "add_token",
        "Make a token for a program; the answer is the only place where it is shown",
        admin,
        "console token add",
    );
    let remove = change(
        Method::DELETE,
        "/api/v1/tokens/{name}",
        "remove_token",
        "Remove a token",
        admin,
        "console token remove",
    );
    routes
        .api(
            get("/api/v1/tokens", "tokens", "The tokens of programs", admin, tokens),
            list_tokens,
        )
        .api(
            Operation {
                body: Some(schema::<TokenBody>),
                answer: Answer::Json(schema::<MadeToken>),
                ..add
            },
            add_token,
        )
        .api(remove, remove_token)
}

fn session_routes(routes: Routes) -> Routes {
    let admin = Role::Admin;
    let sessions = Answer::Json(schema::<Vec<SessionAnswer>>);
    let end = change(
        Method::DELETE,
        "/api/v1/sessions/{id}",
        "end_session",
        "End a session",
        admin,
        "console session end",
    );
    routes
        .api(
            get(
                "/api/v1/sessions",
                "sessions",
                "The sessions of all users, the newest first",
                admin,
                sessions,
            ),
            list_sessions,
        )
        .api(end, end_session)
}

fn account_routes(routes: Routes) -> Routes {
    let viewer = Role::Viewer;
    let account = Answer::Json(schema::<AccountAnswer>);
    let sessions = Answer::Json(schema::<Vec<SessionAnswer>>);
    let password = change(
        Method::PUT,
        "/api/v1/account/password",
        "change_password",
        "Change one's own password, which ends one's sessions; with a session only",
        viewer,
        "console password change",
    );
    let end = change(
        Method::DELETE,
        "/api/v1/account/sessions/{id}",
        "end_own_session",
        "End one of one's own sessions",
        viewer,
        "console session end",
    );
    routes
        .api(
            get(
                "/api/v1/account",
                "account",
                "Who sends this request, and what they may do",
                viewer,
                account,
            ),
            show_account,
        )
        .api(
            Operation {
                body: Some(schema::<NewPasswordBody>),
                ..password
            },
            change_password,
        )
        .api(
            get(
                "/api/v1/account/sessions",
                "own_sessions",
                "One's own sessions, the newest first",
                viewer,
                sessions,
            ),
            list_own_sessions,
        )
        .api(end, end_own_session)
}

/// A user.
#[derive(Debug, Serialize, JsonSchema)]
struct UserAnswer {
    name: String,
    role: Role,
    /// Groups of cameras that they see; empty: all cameras.
    groups: BTreeSet<String>,
    /// False: logs in through a trusted proxy only.
    has_password: bool,
    /// RFC 3339.
    added_at: String,
}

impl From<&User> for UserAnswer {
    fn from(user: &User) -> Self {
        Self {
            name: user.name.clone(),
            role: user.role,
            groups: user.groups.clone(),
            has_password: user.has_password(),
            added_at: user.added_at.to_string(),
        }
    }
}

async fn list_users(State(app): State<Arc<App>>) -> Result<Json<Vec<UserAnswer>>, Rejection> {
    let accounts = app.web.accounts.snapshot()?;
    Ok(Json(accounts.users.iter().map(UserAnswer::from).collect()))
}

/// Name of a user or token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct NewName(#[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[\p{L}\p{N}._@-]+$"))] String);

/// Group of cameras, as in `cameras[].groups`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Group(#[schemars(length(min = 1, max = MAX_NAME), regex(pattern = r"^[A-Za-z0-9_-]+$"))] String);

fn names(groups: Vec<Group>) -> BTreeSet<String> {
    groups.into_iter().map(|group| group.0).collect()
}

fn joined(groups: &BTreeSet<String>) -> String {
    groups.iter().cloned().collect::<Vec<_>>().join(" ")
}

/// A password that somebody chose: 10 to 256 characters, and not the user's name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct ChosenPassword(#[schemars(with = "String", length(min = MIN_PASSWORD, max = MAX_PASSWORD))] Password);

/// A user to be added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserBody {
    name: NewName,
    /// The first user must be an administrator with a password.
    role: Role,
    /// Groups of cameras that they see; empty: all cameras.
    #[serde(default)]
    #[schemars(length(max = MAX_GROUPS))]
    groups: Vec<Group>,
    /// Absent: logs in through a trusted proxy only.
    #[serde(default)]
    password: Option<ChosenPassword>,
}

async fn add_user(
    State(app): State<Arc<App>>,
    body: Result<JsonObject<UserBody>, Rejection>,
) -> Result<Response, Rejection> {
    let JsonObject(body) = body?;
    let (name, groups) = (body.name.0, names(body.groups));
    let details = ActDetails::new("user", &name)
        .with("role", body.role)
        .with("groups", joined(&groups));
    let accounts = Arc::clone(&app.web.accounts);
    let added = form::blocking(move || {
        accounts.add(&NewUser {
            name: &name,
            role: body.role,
            groups,
            password: body.password.as_ref().map(|password| password.0.secret()),
        })
    });
    answered(details, added.await)
}

/// The answer to a change, with its details for the audit log, also if it was refused.
fn answered(details: ActDetails, result: Result<(), Rejection>) -> Result<Response, Rejection> {
    Ok(match result {
        Ok(()) => details.on(StatusCode::NO_CONTENT),
        Err(rejection) => details.on(rejection),
    })
}

/// A role, and groups of cameras.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RoleBody {
    role: Role,
    /// Groups of cameras that they see; empty: all cameras. Absent: as before.
    #[serde(default)]
    #[schemars(length(max = MAX_GROUPS))]
    groups: Option<Vec<Group>>,
}

async fn set_role(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<RoleBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(name), JsonObject(body)) = (path?, body?);
    let groups = body.groups.map(names);
    let mut details = ActDetails::new("user", &name).with("role", body.role);
    if let Some(groups) = &groups {
        details = details.with("groups", joined(groups));
    }
    let accounts = Arc::clone(&app.web.accounts);
    let done = form::blocking(move || accounts.set_role(&name, body.role, groups.as_ref()));
    answered(details, done.await)
}

/// A password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PasswordBody {
    password: ChosenPassword,
}

async fn set_password(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    body: Result<JsonObject<PasswordBody>, Rejection>,
) -> Result<Response, Rejection> {
    let (Path(name), JsonObject(body)) = (path?, body?);
    let details = ActDetails::new("user", &name);
    let accounts = Arc::clone(&app.web.accounts);
    let done = form::blocking(move || accounts.set_password(&name, body.password.0.secret()));
    answered(details, done.await)
}

async fn remove_user(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(name) = path?;
    let details = ActDetails::new("user", &name);
    answered(details, app.web.remove_user(name).await)
}

/// A token, without its value.
#[derive(Debug, Serialize, JsonSchema)]
struct TokenAnswer {
    name: String,
    role: Role,
    /// Groups of cameras that its program sees; empty: all cameras.
    groups: BTreeSet<String>,
    /// User who made it; empty: somebody on the box.
    made_by: String,
    /// RFC 3339.
    made_at: String,
    /// RFC 3339; absent: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl From<&Token> for TokenAnswer {
    fn from(token: &Token) -> Self {
        Self {
            name: token.name.clone(),
            role: token.role,
            groups: token.groups.clone(),
            made_by: token.made_by.clone(),
            made_at: token.made_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
        }
    }
}

async fn list_tokens(State(app): State<Arc<App>>) -> Result<Json<Vec<TokenAnswer>>, Rejection> {
    let accounts = app.web.accounts.snapshot()?;
    Ok(Json(accounts.tokens.iter().map(TokenAnswer::from).collect()))
}

/// A token to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    name: NewName,
    role: Role,
    /// Groups of cameras that its program sees; empty: all cameras.
    #[serde(default)]
    #[schemars(length(max = MAX_GROUPS))]
    groups: Vec<Group>,
    /// Days after which it ends. Absent: never.
    #[serde(default)]
    days: Option<Whole<1, MAX_DAYS>>,
}

/// A token that was just made.
#[derive(Serialize, JsonSchema)]
struct MadeToken {
    name: String,
    /// Sent as `Authorization: Bearer TOKEN`. It is stored nowhere and cannot be shown again.
    token: String,
}

async fn add_token(
    State(app): State<Arc<App>>,
    actor: Actor,
    body: Result<JsonObject<TokenBody>, Rejection>,
) -> Result<Response, Rejection> {
    let JsonObject(body) = body?;
    let life = body
        .days
        .map(|days| SignedDuration::from_hours(24 * i64::from(days.get())));
    let expires_at = life.map(|life| Timestamp::now() + life);
    let (name, groups) = (body.name.0, names(body.groups));
    let details = ActDetails::new("token", &name)
        .with("role", body.role)
        .with("groups", joined(&groups));
    let made_by = actor.name.unwrap_or_default();
    let (accounts, made) = (Arc::clone(&app.web.accounts), name.clone());
    let token = form::blocking(move || {
        accounts.add_token(&NewToken {
            name: &made,
            role: body.role,
            groups,
            made_by: &made_by,
            expires_at,
        })
    });
    Ok(match token.await {
        Ok(token) => details.on(Json(MadeToken {
            name,
            token: token.to_string(),
        })),
        Err(rejection) => details.on(rejection),
    })
}

async fn remove_token(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(name) = path?;
    let details = ActDetails::new("token", &name);
    let accounts = Arc::clone(&app.web.accounts);
    let removed = form::blocking(move || accounts.remove_token(&name));
    answered(details, removed.await)
}

/// The session of a browser, without its secret.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionAnswer {
    id: String,
    user: String,
    /// Address at login.
    address: String,
    /// What the browser called itself at login, shortened.
    agent: String,
    /// RFC 3339.
    began_at: String,
    /// Last use, to five minutes; RFC 3339.
    used_at: String,
    /// True for the session of this request.
    is_own: bool,
}

impl SessionAnswer {
    fn new(actor: &Actor, session: Session) -> Self {
        Self {
            is_own: actor.means == Means::Session(session.id.clone()),
            id: session.id,
            user: session.user,
            address: session.address.to_string(),
            agent: session.agent,
            began_at: session.began_at.to_string(),
            used_at: session.used_at.to_string(),
        }
    }
}

async fn list_sessions(State(app): State<Arc<App>>, actor: Actor) -> Json<Vec<SessionAnswer>> {
    let sessions = app.web.sessions.all(Timestamp::now()).into_iter();
    Json(sessions.map(|session| SessionAnswer::new(&actor, session)).collect())
}

async fn end_session(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    ended(app.web.sessions.end(&id, None), &id)
}

fn ended(has_ended: bool, id: &str) -> Result<Response, Rejection> {
    let result = has_ended.then_some(()).ok_or(Rejection::NotFound);
    answered(ActDetails::new("session", id), result)
}

/// How the sender of a request was identified.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum MeansAnswer {
    /// Not at all: on the box, without users.
    Local,
    /// By a session.
    Session,
    /// By a token for programs.
    Token,
    /// By a trusted reverse proxy.
    Proxy,
}

/// Who sends a request.
#[derive(Debug, Serialize, JsonSchema)]
struct AccountAnswer {
    /// Name of the user or token; absent if the console has no users.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    role: Role,
    /// Groups of cameras that they see; empty: all cameras.
    groups: BTreeSet<String>,
    means: MeansAnswer,
}

async fn show_account(actor: Actor) -> Json<AccountAnswer> {
    Json(AccountAnswer {
        means: match actor.means {
            Means::Local => MeansAnswer::Local,
            Means::Session(_) => MeansAnswer::Session,
            Means::Token(_) => MeansAnswer::Token,
            Means::Proxy => MeansAnswer::Proxy,
        },
        groups: actor.groups.clone(),
        name: actor.name,
        role: actor.role,
    })
}

/// The old and the new password.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewPasswordBody {
    old: Password,
    new: ChosenPassword,
}

async fn change_password(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    actor: Actor,
    body: Result<JsonObject<NewPasswordBody>, Rejection>,
) -> Result<Response, Rejection> {
    let JsonObject(body) = body?;
    let (old, new) = (body.old.into_secret(), body.new.0.into_secret());
    login::change_own_password(&app.web, client, &actor, old, new).await?;
    Ok(ActDetails::default().on(StatusCode::NO_CONTENT))
}

/// The user whose sessions these are; empty, as no session's is, without users and for programs.
fn session_owner(actor: &Actor) -> &str {
    match (&actor.means, &actor.name) {
        (Means::Session(_) | Means::Proxy, Some(name)) => name,
        _ => "",
    }
}

async fn list_own_sessions(State(app): State<Arc<App>>, actor: Actor) -> Json<Vec<SessionAnswer>> {
    let sessions = app.web.sessions.all(Timestamp::now()).into_iter();
    let own = sessions.filter(|session| session.user == session_owner(&actor));
    Json(own.map(|session| SessionAnswer::new(&actor, session)).collect())
}

async fn end_own_session(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Response, Rejection> {
    let Path(id) = path?;
    ended(app.web.sessions.end(&id, Some(session_owner(&actor))), &id)
}
