//! Who sends a request, and what they may do.
//!
//! [`identify`] is the only place that decides who someone is.

use std::{collections::BTreeSet, net::IpAddr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header::AUTHORIZATION, request::Parts},
};
use jiff::Timestamp;

use crate::{
    accounts::AccountError,
    audit::{Means, Person},
    client::Client,
    cookies,
    error::Rejection,
    settings::Role,
    state::WebState,
};

/// Who sends a request. Handlers of routes that take a role get it as an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Name of the user or token; `None` if there are no users.
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// The groups to whose things they are restricted; empty: unrestricted.
    pub groups: BTreeSet<String>,
    /// How they were identified.
    pub means: Means,
    /// Address of the client.
    pub address: IpAddr,
}

impl Actor {
    /// True if they may see only what belongs to their groups.
    pub fn is_restricted(&self) -> bool {
        !self.groups.is_empty()
    }

    /// True if they may see what belongs to these groups.
    pub fn sees_any_of(&self, groups: &[String]) -> bool {
        self.groups.is_empty() || groups.iter().any(|group| self.groups.contains(group))
    }

    /// For the audit log.
    pub fn person(&self) -> Person {
        Person {
            user: self.name.clone(),
            role: Some(self.role),
            means: self.means.clone(),
            address: self.address,
        }
    }

    /// What codes against forged requests are bound to.
    pub fn csrf_subject(&self) -> String {
        match &self.means {
            Means::Local => "local".into(),
            Means::Session(id) => format!("session {id}"),
            Means::Token(name) => format!("token {name}"),
            Means::Proxy => format!("proxy {}", self.name.as_deref().unwrap_or_default()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejection> {
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or(Rejection::Unauthenticated)
    }
}

/// Result of [`identify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A user, or a program with a token.
    Known(Actor),
    /// They must log in.
    Anonymous,
    /// The trusted proxy names a user who has no account here.
    NoAccount(String),
    /// The request came through a proxy that the configuration does not know, to a server without users: anyone could be behind it.
    ByUnknownProxy,
}

/// Finds out who sends a request.
///
/// # Errors
/// The accounts cannot be read; then no one is anyone.
pub fn identify(web: &WebState, headers: &HeaderMap, client: Client, now: Timestamp) -> Result<Identity, AccountError> {
    let accounts = web.accounts.snapshot()?;
    let address = client.address;
    // A program with a token means that token, whatever else it sends.
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        let token = authorization.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let found = token.and_then(|token| accounts.token(token, now));
        return Ok(found.map_or(Identity::Anonymous, |token| {
            Identity::Known(Actor {
                name: Some(token.name.clone()),
                role: token.role,
                groups: token.groups.clone(),
                means: Means::Token(token.name.clone()),
                address,
            })
        }));
    }
    if client.is_by_trusted_proxy
        && let Some(name) = forwarded_user(web, headers)
    {
        return Ok(match accounts.user(&name) {
            Some(user) => Identity::Known(Actor {
                role: user.role,
                groups: user.groups.clone(),
                name: Some(name),
                means: Means::Proxy,
                address,
            }),
            None => Identity::NoAccount(name),
        });
    }
    let stamp_of = |name: &str| accounts.user(name).map(|user| user.stamp().to_owned());
    if let Some(token) = cookies::get(headers, cookies::SESSION)
        && let Some(session) = web.sessions.find(&token, now, stamp_of)
        && let Some(user) = accounts.user(&session.user)
    {
        return Ok(Identity::Known(Actor {
            name: Some(user.name.clone()),
            role: user.role,
            groups: user.groups.clone(),
            means: Means::Session(session.id),
            address,
        }));
    }
    if web.settings.is_exposed() || !accounts.users.is_empty() {
        return Ok(Identity::Anonymous);
    }
    if client.is_by_unknown_proxy || !address.is_loopback() {
        return Ok(Identity::ByUnknownProxy);
    }
    Ok(Identity::Known(Actor {
        name: None,
        role: Role::Admin,
        groups: BTreeSet::new(),
        means: Means::Local,
        address,
    }))
}

/// The user that the proxy names. Two headers name none: one may be the client's own.
fn forwarded_user(web: &WebState, headers: &HeaderMap) -> Option<String> {
    let header = web.settings.identity_header.as_deref()?;
    let mut values = headers.get_all(header).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some(String::new());
    }
    // A name may have other letters than ASCII, which `to_str` refuses.
    let name = std::str::from_utf8(first.as_bytes()).unwrap_or_default().trim();
    (!first.is_empty()).then(|| name.chars().take(64).collect())
}
