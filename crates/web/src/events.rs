//! Server-sent events: tells open pages what has changed.
//!
//! Each open page holds a receiver of the program's changes and collects what concerns it; it sends at most once a second, and only when the
//! connection takes more, so that a slow browser gets fewer and newer events, never a queue of old ones. Without open pages there are no
//! receivers, and the program need send nothing. A browser closes its stream while its tab is hidden.

use std::{
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
use futures::{Stream, stream as streams};
use gridwatch_base::message;
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, broadcast, watch},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    client::Client,
    error::Rejection,
    identity::{Actor, Identity, identify},
    site::Site,
};

/// Open pages of one user that are updated, at most, so that nobody takes all.
const MAX_STREAMS_OF_USER: usize = 16;
/// Least time between two batches of events.
const PACE: Duration = Duration::from_secs(1);
/// Without changes, something is sent this often: it ends the connection of a browser that has gone, and finds a user who has logged out.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// What has changed since the last batch, as a program collects it.
pub trait Changes: Default + Send + 'static {
    /// One change, as the program broadcasts it.
    type Change: Clone + Send + 'static;

    /// Adds a change.
    fn add(&mut self, change: Self::Change);

    /// Adds all changes that are possible, as some were lost.
    fn add_all(&mut self);
}

/// Who watches, to be asked again while they do.
#[derive(Debug)]
pub struct Watcher<S> {
    /// The program.
    pub site: Arc<S>,
    /// Who they are.
    pub actor: Actor,
    client: Client,
    headers: HeaderMap,
}

impl<S: Site> Watcher<S> {
    /// Who sent the request with these headers.
    pub fn new(site: Arc<S>, actor: Actor, client: Client, headers: HeaderMap) -> Self {
        Self {
            site,
            actor,
            client,
            headers,
        }
    }

    /// True as long as a new request with the same cookies would be the same user's. Counts as use of the session.
    pub fn may_go_on(&self) -> bool {
        let identity = identify(self.site.web(), &self.headers, self.client, Timestamp::now());
        identity.is_ok_and(|identity| identity == Identity::Known(self.actor.clone()))
    }
}

/// One open page's part of its user's pages, and of all.
struct Place<S: Site> {
    site: Arc<S>,
    user: String,
    _of_all: OwnedSemaphorePermit,
}

impl<S: Site> Place<S> {
    fn take(watcher: &Watcher<S>) -> Option<Self> {
        let site = Arc::clone(&watcher.site);
        let of_all = Arc::clone(&site.web().event_streams).try_acquire_owned().ok()?;
        // Without users, there is one for the whole machine.
        let user = watcher.actor.name.clone().unwrap_or_default();
        {
            let mut counts = site
                .web()
                .event_streams_of
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(user.clone()).or_default();
            if *count >= MAX_STREAMS_OF_USER && !user.is_empty() {
                return None;
            }
            *count += 1;
        }
        Some(Self {
            site,
            user,
            _of_all: of_all,
        })
    }
}

impl<S: Site> Drop for Place<S> {
    fn drop(&mut self) {
        let mut counts = self
            .site
            .web()
            .event_streams_of
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// Changes as they come; ends the stream with `None`.
struct Source<S: Site, C: Changes, R> {
    watcher: Watcher<S>,
    receiver: broadcast::Receiver<C::Change>,
    render: R,
    next_at: Instant,
    /// True when the server ends.
    ending: watch::Receiver<bool>,
    _place: Place<S>,
}

impl<S: Site, C: Changes, R> Source<S, C, R> {
    /// Waits for changes; after [`KEEP_ALIVE`] without any, they are empty. `None` when the program ends.
    async fn changes(&mut self) -> Option<C> {
        let mut changes = C::default();
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
                Err(broadcast::error::TryRecvError::Lagged(_)) => changes.add_all(),
                Err(broadcast::error::TryRecvError::Empty) => break,
                Err(broadcast::error::TryRecvError::Closed) => return None,
            }
            received = self.receiver.try_recv();
        }
        self.next_at = Instant::now() + PACE;
        Some(changes)
    }
}

/// Streams what `render` makes of the changes that `receiver` gets, for as long as the user may watch. Data of an event must not be empty: browsers drop those.
///
/// # Errors
/// [`Rejection::Unavailable`] if too many pages are open.
pub fn stream<S: Site, C: Changes>(
    watcher: Watcher<S>,
    receiver: broadcast::Receiver<C::Change>,
    render: impl FnMut(&Watcher<S>, &C) -> Vec<Event> + Send + 'static,
) -> Result<Response, Rejection> {
    let place = Place::take(&watcher).ok_or_else(|| Rejection::Unavailable(message!("too many open pages")))?;
    let ending = watcher.site.web().ending.subscribe();
    let source = Source {
        receiver,
        watcher,
        render,
        next_at: Instant::now(),
        ending,
        _place: place,
    };
    Ok(Sse::new(events(source)).into_response())
}

fn events<S: Site, C: Changes, R>(source: Source<S, C, R>) -> impl Stream<Item = Result<Event, Infallible>>
where
    R: FnMut(&Watcher<S>, &C) -> Vec<Event> + Send + 'static,
{
    use futures::StreamExt as _;
    // The first event tells the page that the stream stands.
    let first = Event::default().comment("open").retry(Duration::from_secs(3));
    let batches = streams::unfold(source, |mut source| async move {
        let changes = source.changes().await?;
        if !source.watcher.may_go_on() {
            return None;
        }
        let mut events = (source.render)(&source.watcher, &changes);
        if events.is_empty() {
            events.push(Event::default().comment("alive"));
        }
        Some((streams::iter(events), source))
    });
    streams::once(async { first }).chain(batches.flatten()).map(Ok)
}
