//! Why a request was not answered as asked, and why the console did not start.
//!
//! A [`Rejection`] says what happened; `crate::routes` shows it as a page in the browser's language, or as a problem document (RFC 9457) to
//! a program.

use std::{io, path::PathBuf, time::Duration};

use axum::{
    extract::rejection::{BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use gridwatch_base::{error::Class, message, message::Message};
use gridwatch_config::Role;
use gridwatch_store::StoreError;

use crate::{
    accounts::AccountError,
    daemon::{LookError, PictureError, RecordError},
    i18n::{Texts, messages},
};

/// Why the console did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// A file of the console cannot be read or written.
    #[error("the console cannot access {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The console would be reachable from the network, and nobody could log in.
    #[error(
        "console.listen: there are no users who could log in; create the first one on the box: `gridwatch users add NAME --role admin`"
    )]
    NoUsers,
    /// The users cannot be read.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// The certificate or its key cannot be used.
    #[error("console.certificate: {0}")]
    Certificate(String),
    /// The address cannot be bound.
    #[error("console.listen: cannot bind {address} ({source}); use another port, or \"off\"")]
    Listen {
        /// The configured address.
        address: std::net::SocketAddr,
        /// The system's error.
        source: io::Error,
    },
}

impl ConsoleError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::NoUsers | Self::Certificate(_) | Self::Listen { .. } => Class::Config,
            Self::Io { .. } => Class::Data,
            Self::Accounts(error) => error.class(),
        }
    }
}

/// Why a request was not answered as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("not found, or not visible to you")]
    NotFound,
    /// What was asked for by a description rather than an id.
    #[error("{0}")]
    Missing(Message),
    #[error("this path does not take this method")]
    Method,
    #[error("deleted for its age, or its file is missing")]
    Gone,
    #[error("log in first, or send a valid token")]
    Unauthenticated,
    #[error("this takes the role {0}")]
    Role(Role),
    #[error("the role may not do this")]
    Forbidden,
    #[error("the password is wrong")]
    WrongPassword,
    #[error("this concerns all cameras, and the user is restricted to groups of them")]
    Restricted,
    #[error("the request does not come from a page of this console, or the page is too old: reload it")]
    Forged,
    #[error("the host name is not one of this console's; add it to console.hosts")]
    UnknownHost,
    #[error("the request came through a proxy that console.trusted_proxies does not name")]
    UnknownProxy,
    #[error("the user {0:?} has no account on this box")]
    UnknownIdentity(String),
    #[error("invalid input: {0}")]
    BadRequest(Message),
    /// The input is as the API is described, and does not fit this box.
    #[error("{0}")]
    Unfit(Message),
    #[error("{1}")]
    Account(AccountFault, String),
    #[error(transparent)]
    Picture(PictureError),
    #[error(transparent)]
    Look(LookError),
    /// What was asked for does not fit the state of the box.
    #[error("{0}")]
    Conflict(Message),
    #[error("the input is too large")]
    TooLarge,
    #[error("too many requests")]
    TooMany(Duration),
    #[error("temporarily not possible: {0}")]
    Unavailable(Message),
    /// The service may not write the folder of the configuration.
    #[error("{why}")]
    Unwritable { dir: String, why: String },
    #[error("the request took too long")]
    TimedOut,
    #[error("done, but not in the audit log: {0}")]
    Unrecorded(String),
    /// For the log only.
    #[error("internal error")]
    Internal,
}

impl Rejection {
    /// Logs an error that the client is not told.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "A request to the console failed");
        Self::Internal
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotFound | Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Gone => StatusCode::GONE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Role(_)
            | Self::Forbidden
            | Self::WrongPassword
            | Self::Restricted
            | Self::Forged
            | Self::UnknownProxy
            | Self::UnknownIdentity(_) => StatusCode::FORBIDDEN,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
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
            Self::Picture(PictureError::NoSuchView | PictureError::NotYet) | Self::Look(LookError::NoSuchView) => {
                StatusCode::NOT_FOUND
            }
            Self::Picture(PictureError::Busy) | Self::Look(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Picture(PictureError::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) | Self::Unwritable { .. } | Self::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unrecorded(_) | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// True if the act that was asked for was refused rather than failed.
    pub(crate) fn is_refusal(&self) -> bool {
        self.status().is_client_error()
    }

    /// Seconds after which trying again makes sense.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            // Rounded up, or the client comes a moment too early.
            Self::TooMany(wait) => Some(wait.as_secs() + 1),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(5),
            _ => None,
        }
    }

    /// The text for a person.
    pub(crate) fn text(&self, t: &Texts) -> String {
        let common = &t.common;
        match self {
            Self::NotFound | Self::Method => common.not_found.to_string(),
            Self::Gone => t.cases.evidence_gone.to_string(),
            Self::Unauthenticated => common.log_in.to_string(),
            Self::Role(role) => common.forbidden.with("role", t.names.role(*role)).to_string(),
            Self::Forbidden => t.cases.unmasked_hidden.to_string(),
            Self::WrongPassword => t.account.wrong.to_string(),
            Self::Restricted => t.configuration.restricted.to_string(),
            Self::Forged => common.forged.to_string(),
            Self::UnknownHost => self.to_string(),
            Self::UnknownProxy => common.proxied.to_string(),
            Self::UnknownIdentity(user) => common.unknown_identity.with("user", user).to_string(),
            Self::Conflict(what) | Self::Missing(what) | Self::Unfit(what) => messages::message(what, t.language),
            Self::BadRequest(what) => common
                .bad_request
                .with("what", messages::message(what, t.language))
                .to_string(),
            Self::Account(fault, _) => match fault {
                AccountFault::Exists => t.account.exists.to_string(),
                AccountFault::LastAdmin => t.account.last_admin.to_string(),
                AccountFault::FirstUser => t.account.first_must_be_admin.to_string(),
                AccountFault::TooMany => t.account.too_many.to_string(),
                AccountFault::Name => t.account.bad_name.to_string(),
                AccountFault::Group => t.account.bad_group.to_string(),
                AccountFault::AdminGroups => t.account.admin_groups.to_string(),
                AccountFault::Password => t.account.bad_password.to_string(),
            },
            Self::Picture(error) => match error {
                PictureError::NoSuchView => t.wall.no_such_view.to_string(),
                PictureError::NotYet => t.wall.no_picture_yet.to_string(),
                PictureError::Busy => t.wall.picture_busy.to_string(),
                PictureError::Failed(_) => t.wall.picture_failed.to_string(),
            },
            Self::Look(error) => match error {
                LookError::NoSuchView => t.wall.no_such_view.to_string(),
                LookError::NoPicture => t.wall.no_stream.to_string(),
                LookError::TimedOut => t.wall.look_timed_out.to_string(),
            },
            Self::TooLarge => common.too_large.to_string(),
            Self::TooMany(_) => {
                let seconds = self.retry_after_s().unwrap_or(1);
                common.too_many.with("seconds", seconds).to_string()
            }
            Self::Unavailable(what) => common
                .unavailable
                .with("what", messages::message(what, t.language))
                .to_string(),
            Self::Unwritable { dir, .. } => common.unwritable.with("dir", dir).to_string(),
            Self::TimedOut => common.timed_out.to_string(),
            Self::Unrecorded(what) => common.unrecorded.with("what", what).to_string(),
            Self::Internal => common.internal.to_string(),
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

impl From<PictureError> for Rejection {
    fn from(error: PictureError) -> Self {
        if let PictureError::Failed(reason) = &error {
            tracing::error!(%reason, "A picture for the console could not be made");
        }
        Self::Picture(error)
    }
}

impl From<LookError> for Rejection {
    fn from(error: LookError) -> Self {
        Self::Look(error)
    }
}

impl From<RecordError> for Rejection {
    fn from(error: RecordError) -> Self {
        tracing::error!(%error, "An act on the console is not in the audit log");
        Self::Unrecorded(error.0)
    }
}

/// What is wrong with a user or token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccountFault {
    Exists,
    LastAdmin,
    FirstUser,
    TooMany,
    Name,
    Group,
    AdminGroups,
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

impl From<StoreError> for Rejection {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing { .. } => Self::NotFound,
            error => Self::internal(&error),
        }
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
