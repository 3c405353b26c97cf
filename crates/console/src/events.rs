//! What open pages are told has changed.

use std::collections::BTreeSet;

use axum::response::{Response, sse::Event};
use gridwatch_engine::CameraId;
use gridwatch_web::{Rejection, events};

use crate::{app::App, daemon::Change};

/// Who watches, to be asked again while they do.
pub(crate) type Watcher = events::Watcher<App>;

/// What has changed since the last batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) views: BTreeSet<CameraId>,
    pub(crate) cases: BTreeSet<String>,
    pub(crate) status: bool,
    /// Anything may have changed.
    pub(crate) all: bool,
}

impl Changes {
    /// True if the view must be shown anew.
    pub(crate) fn concern(&self, view: &CameraId) -> bool {
        self.all || self.views.contains(view)
    }
}

impl events::Changes for Changes {
    type Change = Change;

    fn add(&mut self, change: Change) {
        match change {
            Change::View(view) => {
                self.views.insert(view);
            }
            Change::Case(case) => {
                self.cases.insert(case);
            }
            Change::Status => self.status = true,
            Change::Configured => self.all = true,
        }
    }

    fn add_all(&mut self) {
        self.all = true;
    }
}

/// Streams what `render` makes of the daemon's changes.
///
/// # Errors
/// [`Rejection::Unavailable`] if too many pages are open.
pub(crate) fn stream(
    watcher: Watcher,
    render: impl FnMut(&Watcher, &Changes) -> Vec<Event> + Send + 'static,
) -> Result<Response, Rejection> {
    let changes = watcher.site.daemon.changes();
    events::stream(watcher, changes, render)
}
