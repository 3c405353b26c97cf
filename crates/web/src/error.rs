//! Why a request was not answered as asked, and why a server did not start.
//!
//! A [`Rejection`] says what happened; `crate::routes` has it shown as a page in the browser's language, or as a problem document (RFC 9457)
//! to a program.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use axum::{
    extract::rejection::{BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use gridwatch_base::{error::Class, language::Language, message, message::Message};
use serde::Serialize;

use crate::{
    accounts::AccountError,
    audit::RecordError,
    i18n::{self, ChineseOf, Texts},
    settings::Role,
};

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A file of the program's folder cannot be read or written.
    #[error("cannot access {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The server would be reachable from the network, and nobody could log in.
    #[error("{section}.listen: there are no users who could log in")]
    NoUsers {
        /// Section of the configuration.
        section: &'static str,
    },
    /// The users cannot be read.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// The certificate or its key cannot be used.
    #[error("{section}.certificate: {reason}")]
    Certificate {
        /// Section of the configuration.
        section: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The address cannot be bound.
    #[error("{section}.listen: cannot bind {address} ({source}); use another port, or \"off\"")]
    Listen {
        /// Section of the configuration.
        section: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

impl StartError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::NoUsers { .. } | Self::Certificate { .. } | Self::Listen { .. } => Class::Config,
            Self::Accounts(error) => error.class(),
            Self::Io { .. } => Class::Data,
        }
    }
}

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is nothing at this path, or nothing that they may see.
    #[error("not found, or not visible to you")]
    NotFound,
    /// What was asked for by a description rather than an id.
    #[error("{0}")]
    Missing(Message),
    /// The path has routes for other methods only.
    #[error("this path does not take this method")]
    Method,
    /// They must log in.
    #[error("log in first, or send a valid token")]
    Unauthenticated,
    /// They need this role or a higher one.
    #[error("this takes the role {0}")]
    Role(Role),
    /// The old password is wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// No page of this server sent the change.
    #[error("the request does not come from a page of this server, or the page is too old: reload it")]
    Forged,
    /// The request names another host. Holds the section of the configuration.
    #[error("the host name is not one of this server's; add it to {0}.hosts")]
    UnknownHost(&'static str),
    /// Anyone could be behind this proxy. Holds the section of the configuration.
    #[error("the request came through a proxy that {0}.trusted_proxies does not name")]
    UnknownProxy(&'static str),
    /// The trusted proxy names a user without an account.
    #[error("the user {0:?} has no account here")]
    UnknownIdentity(String),
    /// The input is not as described.
    #[error("invalid input: {0}")]
    BadRequest(Message),
    /// The input is as the API is described, and cannot be used here.
    #[error("{0}")]
    Unfit(Message),
    /// A user or token cannot be made or changed so.
    #[error("{1}")]
    Account(AccountFault, String),
    /// What was asked for does not fit what is there now.
    #[error("{0}")]
    Conflict(Message),
    /// The body is too large.
    #[error("the input is too large")]
    TooLarge,
    /// To be tried again after this time.
    #[error("too many requests")]
    TooMany(Duration),
    /// Not possible at the moment.
    #[error("temporarily not possible: {0}")]
    Unavailable(Message),
    /// The handler took too long, or the body came too slowly.
    #[error("the request took too long")]
    TimedOut,
    /// The change was made, and is not in the audit log.
    #[error("done, but not in the audit log: {0}")]
    Unrecorded(String),
    /// For the log only.
    #[error("internal error")]
    Internal,
    /// A reason of the program's own.
    #[error("{}", .0.detail)]
    Own(Box<OwnReason>),
}

/// A reason that only one program has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnReason {
    /// HTTP status, 400 to 599.
    pub status: StatusCode,
    /// For programs and the log, in English.
    pub detail: String,
    /// For persons, in Chinese.
    pub zh: String,
    /// For persons, in English.
    pub en: String,
}

impl Rejection {
    /// Logs an error that the client is not told.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "A web request failed");
        Self::Internal
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Role(_) | Self::WrongPassword | Self::Forged | Self::UnknownProxy(_) | Self::UnknownIdentity(_) => {
                StatusCode::FORBIDDEN
            }
            Self::UnknownHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Account(fault, _) => match fault {
                AccountFault::Exists
                | AccountFault::LastAdmin
                | AccountFault::FirstUser
                | AccountFault::AdminGroups
                | AccountFault::TooMany => StatusCode::CONFLICT,
                AccountFault::Name | AccountFault::Group | AccountFault::Password => StatusCode::BAD_REQUEST,
            },
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unrecorded(_) | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Own(reason) => reason.status,
        }
    }

    /// True if the act that was asked for was refused rather than failed.
    pub fn is_refusal(&self) -> bool {
        self.status().is_client_error()
    }

    /// Seconds after which trying again makes sense.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self {
            // Rounded up, or the client comes a moment too early.
            Self::TooMany(wait) => Some(wait.as_secs() + 1),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(5),
            _ => None,
        }
    }

    /// The text for a person. `chinese` has the sentences of the program and of this crate.
    pub fn text(&self, language: Language, chinese: ChineseOf) -> String {
        let Texts {
            errors: t,
            account,
            roles,
        } = Texts::of(language);
        let shown = |what: &Message| i18n::message(what, language, chinese);
        match self {
            Self::NotFound | Self::Method => t.not_found.to_string(),
            Self::Unauthenticated => t.log_in.to_string(),
            Self::Role(role) => t.forbidden.with("role", roles.name(*role)).to_string(),
            Self::WrongPassword => account.wrong.to_string(),
            Self::Forged => t.forged.to_string(),
            Self::UnknownHost(_) => self.to_string(),
            Self::UnknownProxy(section) => t
                .proxied
                .with("setting", format!("{section}.trusted_proxies"))
                .to_string(),
            Self::UnknownIdentity(user) => t.unknown_identity.with("user", user).to_string(),
            Self::Conflict(what) | Self::Missing(what) | Self::Unfit(what) => shown(what),
            Self::BadRequest(what) => t.bad_request.with("what", shown(what)).to_string(),
            Self::Account(fault, _) => match fault {
                AccountFault::Exists => account.exists.to_string(),
                AccountFault::LastAdmin => account.last_admin.to_string(),
                AccountFault::FirstUser => account.first_must_be_admin.to_string(),
                AccountFault::TooMany => account.too_many.to_string(),
                AccountFault::Name => account.bad_name.to_string(),
                AccountFault::Group => account.bad_group.to_string(),
                AccountFault::AdminGroups => account.admin_groups.to_string(),
                AccountFault::Password => account.bad_password.to_string(),
            },
            Self::TooLarge => t.too_large.to_string(),
            Self::TooMany(_) => {
                let seconds = self.retry_after_s().unwrap_or(1);
                t.too_many.with("seconds", seconds).to_string()
            }
            Self::Unavailable(what) => t.unavailable.with("what", shown(what)).to_string(),
            Self::TimedOut => t.timed_out.to_string(),
            Self::Unrecorded(what) => t.unrecorded.with("what", what).to_string(),
            Self::Internal => t.internal.to_string(),
            Self::Own(reason) => match language {
                Language::Zh => reason.zh.clone(),
                Language::En => reason.en.clone(),
            },
        }
    }
}

impl IntoResponse for Rejection {
    /// Without a body; `crate::routes` fills it in.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// A problem document (RFC 9457).
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Name of the status.
    title: String,
    /// HTTP status.
    status: u16,
    /// What happened, in English.
    detail: String,
}

impl Problem {
    /// The answer to a program.
    pub(crate) fn response(rejection: &Rejection) -> Response {
        let status = rejection.status();
        let problem = Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: rejection.to_string(),
        };
        let text = serde_json::to_string(&problem).unwrap_or_default();
        let mut response = (status, [(CONTENT_TYPE, "application/problem+json")], text).into_response();
        if *rejection == Rejection::Unauthenticated {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl From<RecordError> for Rejection {
    fn from(error: RecordError) -> Self {
        tracing::error!(%error, "An act is not in the audit log");
        Self::Unrecorded(error.0)
    }
}

/// What is wrong with a user or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountFault {
    /// The name is in use.
    Exists,
    /// Nobody could manage users any more.
    LastAdmin,
    /// The first user is no administrator with a password.
    FirstUser,
    /// There are too many already.
    TooMany,
    /// The name cannot be used.
    Name,
    /// A group cannot be used.
    Group,
    /// An administrator with groups.
    AdminGroups,
    /// The password cannot be used.
    Password,
}

impl From<AccountError> for Rejection {
    fn from(error: AccountError) -> Self {
        let fault = match &error {
            AccountError::Unknown(_) => return Self::NotFound,
            AccountError::Busy => {
                return Self::Unavailable(message!("another process is changing the users; try again"));
            }
            AccountError::Io { .. } | AccountError::Damaged { .. } | AccountError::Hash(_) => {
                return Self::internal(&error);
            }
            AccountError::Exists(_) => AccountFault::Exists,
            AccountError::LastAdmin(_) => AccountFault::LastAdmin,
            AccountError::FirstUser => AccountFault::FirstUser,
            AccountError::TooMany => AccountFault::TooMany,
            AccountError::BadName(_) => AccountFault::Name,
            AccountError::BadGroup(_) | AccountError::TooManyGroups => AccountFault::Group,
            AccountError::AdminGroups => AccountFault::AdminGroups,
            AccountError::BadPassword => AccountFault::Password,
        };
        Self::Account(fault, error.to_string())
    }
}

macro_rules! from_extractor {
    ($($rejection:ident),*) => {$(
        impl From<$rejection> for Rejection {
            fn from(rejection: $rejection) -> Self {
                match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
                    _ => Self::BadRequest(rejection.body_text().into()),
                }
            }
        }
    )*};
}
from_extractor!(
    BytesRejection,
    FormRejection,
    JsonRejection,
    PathRejection,
    QueryRejection
);
