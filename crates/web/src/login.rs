//! Logins with name and password, and changes of one's own password: bounded by the login guard and the password pool.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{RETRY_AFTER, SET_COOKIE, USER_AGENT},
    },
    response::Response,
};
use gridwatch_base::{language::Language, message, secret::Secret};
use jiff::Timestamp;

use crate::{
    audit::{ActDetails, Means, Person},
    client::Client,
    cookies,
    error::Rejection,
    form,
    i18n::Texts,
    identity::Actor,
    login_guard::{Origin, Permission},
    random,
    sessions::NewSession,
    state::WebState,
};

/// Why a login was not right, or not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginFault {
    /// Wrong name or password.
    Wrong,
    /// Too many wrong passwords: not before this time has passed.
    Locked(Duration),
    /// Too many logins wait.
    Overloaded,
}

impl LoginFault {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Wrong => StatusCode::UNAUTHORIZED,
            Self::Locked(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The text for a person.
    pub fn text(self, language: Language) -> String {
        let t = &Texts::of(language).account;
        match self {
            Self::Wrong => t.wrong.to_string(),
            Self::Locked(wait) => t.locked.with("seconds", seconds(wait)).to_string(),
            Self::Overloaded => t.overloaded.to_string(),
        }
    }

    /// Adds to a response when trying again makes sense.
    pub fn on(self, mut response: Response) -> Response {
        if let Self::Locked(wait) = self {
            response.headers_mut().insert(RETRY_AFTER, seconds(wait).into());
        }
        response
    }
}

/// Rounded up, or the client comes a moment too early.
fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

/// A login that was right.
#[derive(Debug)]
pub struct LoggedIn {
    cookies: [HeaderValue; 2],
    by: Person,
}

impl LoggedIn {
    /// Gives the browser its session with this response, and the audit log the user.
    pub fn on(self, mut response: Response) -> Response {
        for cookie in self.cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        let details = ActDetails {
            by: Some(self.by),
            ..ActDetails::default()
        };
        details.on(response)
    }
}

/// Begins a session if name and password are right. Takes longer while the account is attacked.
///
/// # Errors
/// The users cannot be read. The inner error says why there is no session.
pub async fn log_in(
    web: &WebState,
    client: Client,
    headers: &HeaderMap,
    user: &str,
    password: Secret,
) -> Result<Result<LoggedIn, LoginFault>, Rejection> {
    let device = known_device(web, headers, user);
    let origin = device
        .clone()
        .map_or_else(|| Origin::Source(client.address.into()), Origin::Device);
    match web.try_login(user, &origin) {
        Permission::After(Duration::ZERO) => {}
        Permission::After(pause) => tokio::time::sleep(pause).await,
        Permission::Wait(wait) => {
            tracing::warn!(address = %client.address, "Refused a login: too many wrong passwords");
            return Ok(Err(LoginFault::Locked(wait)));
        }
    }
    let accounts = web.accounts.snapshot()?;
    let account = accounts.user(user);
    let hash = account.and_then(|account| account.hash()).map(str::to_owned);
    let Ok(is_right) = web.passwords.verify(password, hash, device.is_some()).await else {
        web.login_not_tried(user, &origin);
        return Ok(Err(LoginFault::Overloaded));
    };
    let Some(account) = account.filter(|_| is_right) else {
        // The name is not logged: people type the password in its place.
        tracing::warn!(address = %client.address, "A login failed: wrong name or password");
        return Ok(Err(LoginFault::Wrong));
    };
    web.login_succeeded(user, &origin);
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
    let (token, id) = web.sessions.begin(&new, Timestamp::now());
    let device = device.unwrap_or_else(random::id);
    let proof = web.key.sign("device", &format!("{device}\n{}", account.name));
    Ok(Ok(LoggedIn {
        cookies: [
            cookies::set(web, cookies::SESSION, &token, None),
            cookies::set(web, cookies::DEVICE, &format!("{device}.{proof}"), Some(cookies::LONG)),
        ],
        by: Person {
            user: Some(account.name.clone()),
            role: Some(account.role),
            means: Means::Session(id),
            address: client.address,
        },
    }))
}

/// Id of the browser's cookie, if it has logged in to this account before.
fn known_device(web: &WebState, headers: &HeaderMap, user: &str) -> Option<String> {
    let cookie = cookies::get(headers, cookies::DEVICE)?;
    let (device, proof) = cookie.split_once('.')?;
    let is_known = web.key.verify("device", &format!("{device}\n{user}"), proof);
    is_known.then(|| device.to_owned())
}

/// Ends the session of whoever asks, and takes its cookie from the browser with this response.
pub fn log_out(web: &WebState, actor: &Actor, mut response: Response) -> Response {
    if let Means::Session(id) = &actor.means {
        web.sessions.end(id, None);
    }
    // The device stays known: it is no permission.
    let cookie = cookies::set(web, cookies::SESSION, "", Some(0));
    response.headers_mut().append(SET_COOKIE, cookie);
    response
}

/// Changes the password of a user who has a session and knows the old one, which ends their sessions.
///
/// # Errors
/// [`Rejection::NotFound`] without a session, [`Rejection::WrongPassword`], [`Rejection::TooMany`] after several wrong ones,
/// [`Rejection::Unavailable`] while too many logins wait; the new password cannot be used.
pub async fn change_own_password(
    web: &WebState,
    client: Client,
    actor: &Actor,
    old: Secret,
    new: Secret,
) -> Result<(), Rejection> {
    let (Means::Session(_), Some(name)) = (&actor.means, actor.name.clone()) else {
        return Err(Rejection::NotFound);
    };
    // Whoever finds an open browser must not try passwords faster than at the login page.
    let origin = Origin::Source(client.address.into());
    match web.try_login(&name, &origin) {
        Permission::After(Duration::ZERO) => {}
        Permission::After(pause) => tokio::time::sleep(pause).await,
        Permission::Wait(wait) => return Err(Rejection::TooMany(wait)),
    }
    let accounts = web.accounts.snapshot()?;
    let hash = accounts.user(&name).and_then(|user| user.hash().map(str::to_owned));
    match web.passwords.verify(old, hash, true).await {
        Ok(true) => web.login_succeeded(&name, &origin),
        Ok(false) => return Err(Rejection::WrongPassword),
        Err(_) => {
            web.login_not_tried(&name, &origin);
            return Err(Rejection::Unavailable(message!("too many logins wait")));
        }
    }
    let accounts = Arc::clone(&web.accounts);
    form::blocking(move || accounts.set_password(&name, &new)).await
}
