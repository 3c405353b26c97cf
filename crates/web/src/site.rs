//! What this crate needs of the program that it serves.

use axum::{http::HeaderMap, response::Response};
use futures::future::BoxFuture;

use crate::{
    audit::{Act, RecordError},
    error::Rejection,
    identity::Actor,
    state::WebState,
};

/// A program with pages. Handlers get it as `State<Arc<Self>>`.
pub trait Site: Send + Sync + 'static {
    /// Settings, users and sessions.
    fn web(&self) -> &WebState;

    /// Appends an act to the audit log; resolves when it is committed. A change is answered only then.
    ///
    /// # Errors
    /// [`RecordError`]: the act is not in the audit log.
    fn record(&self, act: Act) -> BoxFuture<'_, Result<(), RecordError>>;

    /// The page that shows a rejection to a person.
    fn rejection_page(&self, rejection: &Rejection, asked: &RejectedRequest<'_>) -> Response;
}

/// What was asked for in vain.
#[derive(Debug, Clone, Copy)]
pub struct RejectedRequest<'a> {
    /// Headers of the request, which tell the language.
    pub headers: &'a HeaderMap,
    /// Who asked, if they are known.
    pub actor: Option<&'a Actor>,
    /// True if a script asked for a part of a page: it gets the sentence alone.
    pub is_part: bool,
}
