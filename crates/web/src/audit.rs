//! Acts of persons, for the audit log of the program.

use std::net::IpAddr;

use axum::response::{IntoResponse, Response};

use crate::settings::Role;

/// An act of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// What was done, such as `user add`. Stable: the audit log is searched for it.
    pub name: &'static str,
    /// Who did it.
    pub by: Person,
    /// Id of what it is about, if it is about one thing.
    pub subject: Option<String>,
    /// Names and values of what exactly was done. Never a secret.
    pub details: Vec<(&'static str, String)>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an act ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Not done, as it was not allowed or not valid.
    Refused(String),
    /// Not done, as something failed.
    Failed(String),
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name of the user; `None` if there are no users: somebody on this machine.
    pub user: Option<String>,
    /// Role at the time of the act; `None` for a login that failed.
    pub role: Option<Role>,
    /// How they were identified.
    pub means: Means,
    /// Address of the client, as seen by the server or told by a trusted proxy.
    pub address: IpAddr,
}

/// How a user was identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// Not at all: on loopback, without users.
    Local,
    /// By password, in the session with this id (not its token).
    Session(String),
    /// By a token for programs with this name.
    Token(String),
    /// By a trusted reverse proxy.
    Proxy,
}

/// Why an act is not in the audit log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the act could not be recorded in the audit log: {0}")]
pub struct RecordError(pub String);

/// What a handler adds to the entry of its act in the audit log: put into the extensions of its response.
#[derive(Debug, Clone, Default)]
pub struct ActDetails {
    /// Id of what the act is about.
    pub subject: Option<String>,
    /// Names and values of what exactly was done. Never a secret.
    pub details: Vec<(&'static str, String)>,
    /// Who logged in with this request.
    pub by: Option<Person>,
}

impl ActDetails {
    /// One detail.
    pub fn new(name: &'static str, value: impl ToString) -> Self {
        Self::default().with(name, value)
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    /// Attaches them to a response.
    pub fn on(self, response: impl IntoResponse) -> Response {
        let mut response = response.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Put into the extensions of the response to a change that concerns the browser only, such as its language: not in the audit log.
#[derive(Debug, Clone, Copy)]
pub struct NotAnAct;

/// Put into the extensions of a response that tells by itself why the act was not done, such as a conflict with another's change.
#[derive(Debug, Clone)]
pub struct NotDone(pub String);
