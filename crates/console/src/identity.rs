//! Who sends a request, and what they may do.
//!
//! [`identify`] is the only place that decides who someone is, and [`Actor`] the only one that answers what they may.

use std::{collections::BTreeSet, net::IpAddr};

use axum::http::{HeaderMap, header::AUTHORIZATION};
use gridwatch_config::{Camera, Config, Role, find_view};
use gridwatch_engine::CameraId;
use jiff::Timestamp;

use crate::{
    accounts::AccountError,
    app::App,
    client::Client,
    cookies,
    daemon::{ConfigurationStatus, Daemon, Means, Person, Readiness},
};

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Actor {
    /// Name of the user or token; `None` if the console has no users.
    pub(crate) name: Option<String>,
    pub(crate) role: Role,
    /// Restricted to these groups of cameras; empty: to none.
    groups: BTreeSet<String>,
    pub(crate) means: Means,
    pub(crate) address: IpAddr,
}

impl Actor {
    /// True if they may see this camera.
    pub(crate) fn sees(&self, camera: &Camera) -> bool {
        self.groups.is_empty() || camera.groups.iter().any(|group| self.groups.contains(group))
    }

    /// Groups of cameras that they see; empty: all cameras.
    pub(crate) fn groups(&self) -> &BTreeSet<String> {
        &self.groups
    }

    /// The camera of a view, if there is one and they may see it.
    pub(crate) fn camera_of<'a>(&self, config: &'a Config, view: &CameraId) -> Option<&'a Camera> {
        let (camera, _) = find_view(&config.cameras, view.as_str())?;
        self.sees(camera).then_some(camera)
    }

    /// True if they may not see all cameras, and so not what concerns all.
    pub(crate) fn is_restricted(&self) -> bool {
        !self.groups.is_empty()
    }

    /// The readiness and the state of the configuration as they may see them: without the details and faults, which name cameras.
    pub(crate) fn standing(&self, daemon: &dyn Daemon) -> (Readiness, ConfigurationStatus) {
        let (mut readiness, mut configuration) = (daemon.readiness(), daemon.configuration());
        if self.is_restricted() {
            for blocker in &mut readiness.blockers {
                *blocker = blocker.leading();
            }
            configuration.refused.clear();
            configuration.awaits_restart.clear();
        }
        (readiness, configuration)
    }

    /// Ids of the cameras that they may see, for queries; `None`: all, also those that the configuration does not have any more.
    pub(crate) fn cameras(&self, config: &Config) -> Option<Vec<String>> {
        if self.groups.is_empty() {
            return None;
        }
        let seen = config.cameras.iter().filter(|camera| self.sees(camera));
        Some(seen.map(|camera| camera.id.as_str().to_owned()).collect())
    }

    /// True if they may see pictures without masks.
    pub(crate) fn sees_unmasked(&self, config: &Config) -> bool {
        config.console.unmasked_roles.contains(&self.role)
    }

    /// For the audit log.
    pub(crate) fn person(&self) -> Person {
        Person {
            user: self.name.clone(),
            role: Some(self.role),
            means: self.means.clone(),
            address: self.address,
        }
    }

    /// What codes against forged requests are bound to.
    pub(crate) fn csrf_subject(&self) -> String {
        match &self.means {
            Means::Local => "local".into(),
            Means::Session(id) => format!("session {id}"),
            Means::Token(name) => format!("token {name}"),
            Means::Proxy => format!("proxy {}", self.name.as_deref().unwrap_or_default()),
        }
    }
}

#[cfg(test)]
impl Actor {
    /// A program of an operator.
    pub(crate) fn token(name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            role: Role::Operator,
            groups: BTreeSet::new(),
            means: Means::Token(name.to_owned()),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Result of [`identify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    Known(Actor),
    /// They must log in.
    Anonymous,
    /// The trusted proxy names a user who has no account here.
    UnknownToBox(String),
    /// The request came through a proxy that the configuration does not know, to a console without users: anyone could be behind it.
    ByUnknownProxy,
}

/// Finds out who sends a request.
///
/// # Errors
/// The accounts cannot be read; then no one is anyone.
pub(crate) fn identify(
    app: &App,
    headers: &HeaderMap,
    client: Client,
    now: Timestamp,
) -> Result<Identity, AccountError> {
    let accounts = app.accounts.snapshot()?;
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
        && let Some(name) = forwarded_user(app, headers)
    {
        return Ok(match accounts.user(&name) {
            Some(user) => Identity::Known(Actor {
                role: user.role,
                groups: user.groups.clone(),
                name: Some(name),
                means: Means::Proxy,
                address,
            }),
            None => Identity::UnknownToBox(name),
        });
    }
    let stamp_of = |name: &str| accounts.user(name).map(|user| user.stamp().to_owned());
    if let Some(token) = cookies::get(headers, cookies::SESSION)
        && let Some(session) = app.sessions.find(&token, now, stamp_of)
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
    if app.settings.is_exposed() || !accounts.users.is_empty() {
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
fn forwarded_user(app: &App, headers: &HeaderMap) -> Option<String> {
    let header = app.settings.identity_header.as_deref()?;
    let mut values = headers.get_all(header).iter();
    let first = values.next()?;
    if values.next().is_some() {
        return Some(String::new());
    }
    // A name may have other letters than ASCII, which `to_str` refuses.
    let name = std::str::from_utf8(first.as_bytes()).unwrap_or_default().trim();
    (!first.is_empty()).then(|| name.chars().take(64).collect())
}
