//! Server-sent events: tells open pages what has changed.
//!
//! Each open page holds a receiver of the daemon's changes and collects what concerns it; it sends at most once a second, and only when the
//! connection takes more, so that a slow browser gets fewer and newer events, never a queue of old ones. Without open pages there are no
//! receivers, and the daemon sends nothing. A browser closes its stream while its tab is hidden.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::{
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
};
use futures::{Stream, stream};
use gridwatch_base::message;
use gridwatch_engine::CameraId;
use gridwatch_web::{
    Actor, Rejection,
    client::Client,
    identity::{Identity, identify},
};
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, watch},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    app::{App, MAX_EVENT_STREAMS_OF_USER},
    daemon::Change,
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
        let identity = identify(&self.app.web, &self.headers, self.client, Timestamp::now());
        identity.is_ok_and(|identity| identity == Identity::Known(self.actor.clone()))
    }
}

/// One open page's part of its user's pages, and of all.
struct Place {
    app: Arc<App>,
    user: String,
    _of_all: OwnedSemaphorePermit,
}

impl Place {
    fn take(watcher: &Watcher) -> Option<Self> {
        let app = Arc::clone(&watcher.app);
        let of_all = Arc::clone(&app.event_streams).try_acquire_owned().ok()?;
        // Without users, there is one for the whole box.
        let user = watcher.actor.name.clone().unwrap_or_default();
        {
            let mut counts = app.event_streams_of.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(user.clone()).or_default();
            if *count >= MAX_EVENT_STREAMS_OF_USER && !user.is_empty() {
                return None;
            }
            *count += 1;
        }
        Some(Self {
            app,
            user,
            _of_all: of_all,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.app.event_streams_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// Changes as they come; ends the stream with `None`.
struct Source<R> {
    watcher: Watcher,
    receiver: broadcast::Receiver<Change>,
    render: R,
    next_at: Instant,
    /// True when the console ends.
    ending: watch::Receiver<bool>,
    _place: Place,
}

impl<R> Source<R> {
    /// Waits for changes; after [`KEEP_ALIVE`] without any, they are empty. `None` when the daemon ends.
    async fn changes(&mut self) -> Option<Changes> {
        let mut changes = Changes::default();
        let limit = self.next_at.max(Instant::now()) + KEEP_ALIVE;
        let first = async {
            sleep_until(self.next_at).await;
            timeout_at(limit, self.receiver.recv()).await.ok()
        };
        let first = tokio::select! {
            first = first => first,
            _ = self.ending.wait_for(|ends| *ends) => return None,
        };
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
    let place = Place::take(&watcher).ok_or_else(|| Rejection::Unavailable(message!("too many open pages")))?;
    let ending = watcher.app.web.ending.subscribe();
    let source = Source {
        receiver: watcher.app.daemon.changes(),
        watcher,
        render,
        next_at: Instant::now(),
        ending,
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
