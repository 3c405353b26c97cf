//! Why the console did not start, and the reasons for a rejection that only the console has.

use axum::http::StatusCode;
use gridwatch_base::{error::Class, language::Language};
use gridwatch_store::StoreError;
use gridwatch_web::{Rejection, StartError, error::OwnReason};

use crate::{
    daemon::{LookError, PictureError},
    i18n::Texts,
};

/// Why the console did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsoleError {
    /// The console would be reachable from the network, and nobody could log in.
    #[error(
        "console.listen: there are no users who could log in; create the first one on the box: `gridwatch users add NAME --role admin`"
    )]
    NoUsers,
    /// The web server cannot start.
    #[error(transparent)]
    Start(StartError),
}

impl ConsoleError {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Self::NoUsers => Class::Config,
            Self::Start(error) => error.class(),
        }
    }
}

impl From<StartError> for ConsoleError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NoUsers { .. } => Self::NoUsers,
            error => Self::Start(error),
        }
    }
}

/// A picture that is not kept any more.
pub(crate) fn gone() -> Rejection {
    let detail = "deleted for its age, or its file is missing";
    own(StatusCode::GONE, detail, |t| t.cases.evidence_gone.to_string())
}

/// A picture without masks.
pub(crate) fn unmasked() -> Rejection {
    let detail = "the role may not do this";
    own(StatusCode::FORBIDDEN, detail, |t| t.cases.unmasked_hidden.to_string())
}

/// What concerns all cameras, for a user who does not see all.
pub(crate) fn restricted() -> Rejection {
    let detail = "this concerns all cameras, and the user is restricted to groups of them";
    own(StatusCode::FORBIDDEN, detail, |t| {
        t.configuration.restricted.to_string()
    })
}

/// The service may not write the folder of the configuration.
pub(crate) fn unwritable(dir: &str, why: &str) -> Rejection {
    own(StatusCode::SERVICE_UNAVAILABLE, why, |t| {
        t.common.unwritable.with("dir", dir).to_string()
    })
}

fn own(status: StatusCode, detail: &str, text: impl Fn(&Texts) -> String) -> Rejection {
    Rejection::Own(Box::new(OwnReason {
        status,
        detail: detail.to_owned(),
        zh: text(Texts::of(Language::Zh)),
        en: text(Texts::of(Language::En)),
    }))
}

impl From<PictureError> for Rejection {
    fn from(error: PictureError) -> Self {
        if let PictureError::Failed(reason) = &error {
            tracing::error!(%reason, "A picture for the console could not be made");
        }
        let status = match error {
            PictureError::NoSuchView | PictureError::NotYet => StatusCode::NOT_FOUND,
            PictureError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            PictureError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        own(status, &error.to_string(), |t| {
            let text = match error {
                PictureError::NoSuchView => t.wall.no_such_view,
                PictureError::NotYet => t.wall.no_picture_yet,
                PictureError::Busy => t.wall.picture_busy,
                PictureError::Failed(_) => t.wall.picture_failed,
            };
            text.to_string()
        })
    }
}

impl From<LookError> for Rejection {
    fn from(error: LookError) -> Self {
        let status = match error {
            LookError::NoSuchView => StatusCode::NOT_FOUND,
            LookError::NoPicture | LookError::TimedOut => StatusCode::SERVICE_UNAVAILABLE,
        };
        own(status, &error.to_string(), |t| {
            let text = match error {
                LookError::NoSuchView => t.wall.no_such_view,
                LookError::NoPicture => t.wall.no_stream,
                LookError::TimedOut => t.wall.look_timed_out,
            };
            text.to_string()
        })
    }
}

/// An error of another crate that a handler answers with.
pub(crate) trait IntoRejection {
    /// What the client is told.
    fn into_rejection(self) -> Rejection;
}

impl IntoRejection for StoreError {
    fn into_rejection(self) -> Rejection {
        match self {
            Self::Missing { .. } => Rejection::NotFound,
            error => Rejection::internal(&error),
        }
    }
}

/// Turns the error of a result into a rejection, for errors that `?` cannot convert, as neither type belongs to this crate.
pub(crate) trait OrReject<T> {
    /// The result with a rejection in place of the error.
    fn or_reject(self) -> Result<T, Rejection>;
}

impl<T, E: IntoRejection> OrReject<T> for Result<T, E> {
    fn or_reject(self) -> Result<T, Rejection> {
        self.map_err(E::into_rejection)
    }
}
