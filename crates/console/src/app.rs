//! What all handlers share.

use std::{path::PathBuf, sync::Arc};

use axum::response::{IntoResponse as _, Response};
use futures::future::BoxFuture;
use gridwatch_config::{CONSOLE_DIR, Config};
use gridwatch_web::{
    Rejection, Site, WebState,
    audit::{Act, RecordError},
    site::RejectedRequest,
};
use tokio::sync::Semaphore;

use crate::{
    ConsoleError,
    add::Wizards,
    daemon::Daemon,
    ledger::LedgerQueries,
    live::LivePlaces,
    page::Page,
    pages::{ErrorTemplate, NoticeTemplate},
    reviews::Unrecorded,
    system::System,
};

/// Reads and changes of the configuration's files, and queries of the ledger, at the same time: each takes up to seconds of a core.
const MAX_HEAVY: usize = 2;

/// Reads of the database at the same time: each opens it, and a page takes a few milliseconds.
const MAX_READERS: usize = 4;

/// The routes of the console.
pub(crate) type Routes = gridwatch_web::Routes<App>;

/// What all handlers share.
pub(crate) struct App {
    pub(crate) daemon: Arc<dyn Daemon>,
    /// Users, sessions, and the settings since the console's start.
    pub(crate) web: WebState,
    pub(crate) readers: Arc<Semaphore>,
    pub(crate) live_places: LivePlaces,
    pub(crate) wizards: Arc<Wizards>,
    pub(crate) heavy: Arc<Semaphore>,
    pub(crate) system: System,
    pub(crate) ledger: LedgerQueries,
    /// Checks of a case's evidence.
    pub(crate) checks: Semaphore,
    pub(crate) reviews: Unrecorded,
    pub(crate) state_dir: PathBuf,
}

impl App {
    /// Prepares the console of `daemon`.
    ///
    /// # Errors
    /// The key in the state directory cannot be read or made.
    pub(crate) fn new(daemon: Arc<dyn Daemon>) -> Result<Arc<Self>, ConsoleError> {
        let config = daemon.config();
        let state_dir = config.state_dir.clone();
        let web = WebState::open(config.console.server.clone(), &state_dir.join(CONSOLE_DIR))?;
        Ok(Arc::new(Self {
            web,
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            live_places: LivePlaces::default(),
            wizards: Arc::default(),
            heavy: Arc::new(Semaphore::new(MAX_HEAVY)),
            system: System::new(),
            ledger: LedgerQueries::new(),
            checks: Semaphore::new(1),
            reviews: Unrecorded::default(),
            state_dir,
            daemon,
        }))
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.daemon.config()
    }
}

impl Site for App {
    fn web(&self) -> &WebState {
        &self.web
    }

    fn record(&self, act: Act) -> BoxFuture<'_, Result<(), RecordError>> {
        self.daemon.record(act)
    }

    fn rejection_page(&self, rejection: &Rejection, asked: &RejectedRequest<'_>) -> Response {
        let page = Page::new(self, asked.headers, asked.actor.cloned(), "/");
        let message = page.rejection(rejection);
        let shown = match asked.is_part {
            true => page.show_with(rejection.status(), &NoticeTemplate { message: &message }),
            false => page.show_with(
                rejection.status(),
                &ErrorTemplate {
                    page: &page,
                    message: &message,
                },
            ),
        };
        shown.unwrap_or_else(|rejection| rejection.status().into_response())
    }
}
