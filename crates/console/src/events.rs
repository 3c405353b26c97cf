//! Server-sent events: tells open pages what has changed.
//!
//! Each open page holds a receiver of the daemon's changes and collects what concerns it; it sends at most once a second, and only when the
//! connection takes more, so that a slow browser gets fewer and newer events, never a queue of old ones. Without open pages there are no
//! receivers, and the daemon sends nothing. A browser closes its stream while its tab is hidden.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::{Stream, stream};
use gridwatch_engine::CameraId;
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    app::App,
    client::Client,
    daemon::Change,
    error::Rejection,
    identity::{Actor, Identity, identify},
};

/// Least time between two batches of events. Looks of 64 views every 10 s come every 160 ms.
const PACE: Duration = Duration::from_secs(1);
/// Without changes, something is sent this often: it ends the connection of a browser that has gone, and finds a user who has logged out.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

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

    /// True if the view must be shown anew.
    pub(crate) fn concern(&self, view: &CameraId) -> bool {
        self.all || self.views.contains(view)
    }
}

/// Who watches, to be asked again while they do.
pub(crate) struct Watcher {
    pub(crate) app: Arc<App>,
    pub(crate) actor: Actor,
    client: Client,
    headers: HeaderMap,
}

impl Watcher {
    pub(crate) fn new(app: Arc<App>, actor: Actor, client: Client, headers: HeaderMap) -> Self {
        Self {
            app,
            actor,
            client,
            headers,
        }
    }

    /// True as long as a new request with the same cookies would be the same user's. Counts as use of the session.
    pub(crate) fn may_go_on(&self) -> bool {
        let identity = identify(&self.app, &self.headers, self.client, Timestamp::now());
        identity.is_ok_and(|identity| identity == Identity::Known(self.actor.clone()))
    }
}

/// Changes as they come; ends the stream with `None`.
struct Source<R> {
    watcher: Watcher,
    receiver: broadcast::Receiver<Change>,
    render: R,
    next_at: Instant,
    _place: OwnedSemaphorePermit,
}

impl<R> Source<R> {
    /// Waits for changes; after [`KEEP_ALIVE`] without any, they are empty. `None` when the daemon ends.
    async fn changes(&mut self) -> Option<Changes> {
        let mut changes = Changes::default();
        sleep_until(self.next_at).await;
        let limit = Instant::now() + KEEP_ALIVE;
        let first = timeout_at(limit, self.receiver.recv()).await.ok();
        let mut received = first.map_or(Err(broadcast::error::TryRecvError::Empty), |first| {
            first.map_err(|error| match error {
                broadcast::error::RecvError::Closed => broadcast::error::TryRecvError::Closed,
                broadcast::error::RecvError::Lagged(n) => broadcast::error::TryRecvError::Lagged(n),
            })
        });
        loop {
            match received {
                Ok(change) => changes.add(change),
                Err(broadcast::error::TryRecvError::Lagged(_)) => changes.all = true,
                Err(broadcast::error::TryRecvError::Empty) => break,
                Err(broadcast::error::TryRecvError::Closed) => return None,
            }
            received = self.receiver.try_recv();
        }
        self.next_at = Instant::now() + PACE;
        Some(changes)
    }
}

/// Streams what `render` makes of the changes, for as long as the user may watch. Data of an event must not be empty: browsers drop those.
///
/// # Errors
/// [`Rejection::Unavailable`] if too many pages are open.
pub(crate) fn stream(
    watcher: Watcher,
    render: impl FnMut(&Watcher, &Changes) -> Vec<Event> + Send + 'static,
) -> Result<Response, Rejection> {
    let place = Arc::clone(&watcher.app.event_streams).try_acquire_owned();
    let place = place.map_err(|_| Rejection::Unavailable("too many open pages".into()))?;
    let source = Source {
        receiver: watcher.app.daemon.changes(),
        watcher,
        render,
        next_at: Instant::now(),
        _place: place,
    };
    Ok(Sse::new(events(source)).into_response())
}

fn events<R>(source: Source<R>) -> impl Stream<Item = Result<Event, Infallible>>
where
    R: FnMut(&Watcher, &Changes) -> Vec<Event> + Send + 'static,
{
    use futures::StreamExt as _;
    // The first event tells the page that the stream stands.
    let first = Event::default().comment("open").retry(Duration::from_secs(3));
    let batches = stream::unfold(source, |mut source| async move {
        let changes = source.changes().await?;
        if !source.watcher.may_go_on() {
            return None;
        }
        let mut events = (source.render)(&source.watcher, &changes);
        if events.is_empty() {
            events.push(Event::default().comment("alive"));
        }
        Some((stream::iter(events), source))
    });
    stream::once(async { first }).chain(batches.flatten()).map(Ok)
}
