//! Live video of a view for browsers and programs: fragmented MP4 without end, as the camera sends it.
//!
//! Nothing is decoded here, and nothing can be masked: only roles that may see unmasked pictures get it, and each start is in the audit log
//! before its first byte. A stream ends when the camera does, when its parameters change (a player needs a new response for that), or when its
//! user may not watch any more. A slow client gets fewer pictures, not older ones: a chunk is taken only when the connection takes more.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::stream;
use gridwatch_engine::CameraId;
use gridwatch_web::{
    Rejection,
    audit::{Act, Outcome},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    access::CameraAccess as _,
    app::App,
    daemon::{LiveChunk, LiveView, NotAvailable},
    error,
    events::Watcher,
    i18n::Texts,
};

/// Streams at a time, at most. The daemon has a limit of its own.
const MAX_STREAMS: usize = 16;
/// Streams of one user, at most, so that nobody takes all.
const MAX_STREAMS_OF_USER: usize = 4;
/// Longest time until a keyframe comes: the player gives up after 15 s without data.
const FIRST_WITHIN: Duration = Duration::from_secs(13);
/// How often it is asked whether the user may still watch.
const RECHECK: Duration = Duration::from_secs(20);

/// Open streams of each user.
#[derive(Debug, Default)]
pub(crate) struct LivePlaces(Mutex<BTreeMap<String, usize>>);

/// One stream's part of its user's streams, and of all.
struct Place {
    app: Arc<App>,
    user: String,
}

impl Place {
    fn take(watcher: &Watcher) -> Option<Self> {
        let app = Arc::clone(&watcher.site);
        // Without users, there is one for the whole box.
        let user = watcher.actor.name.clone().unwrap_or_default();
        {
            let mut counts = app.live_places.0.lock().unwrap_or_else(PoisonError::into_inner);
            let all: usize = counts.values().sum();
            let own = counts.entry(user.clone()).or_default();
            if all >= MAX_STREAMS || (*own >= MAX_STREAMS_OF_USER && !user.is_empty()) {
                return None;
            }
            *own += 1;
        }
        Some(Self { app, user })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.app.live_places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// Why there is no live video. The looks can be shown instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoVideo {
    Rejected(Rejection),
    /// The role may not see pictures without masks.
    NotMasked,
    TooMany,
    Unavailable(NotAvailable),
    /// The camera's own reason, in English.
    Ended(String),
    /// None came in time.
    NoKeyframe,
}

impl NoVideo {
    /// The text for a person.
    pub(crate) fn text(&self, t: &Texts) -> String {
        match self {
            Self::Rejected(rejection) => rejection.text(t.language, crate::i18n::messages::chinese),
            Self::NotMasked => t.live.not_masked.to_string(),
            Self::TooMany | Self::Unavailable(NotAvailable::TooManyViews { .. }) => t.live.too_many.to_string(),
            Self::Unavailable(NotAvailable::NotReceived) => t.live.not_received.to_string(),
            Self::Unavailable(NotAvailable::Gstreamer) => t.live.gstreamer.to_string(),
            Self::Unavailable(NotAvailable::MotionJpeg) => t.live.motion_jpeg.to_string(),
            Self::Unavailable(other) => other.to_string(),
            Self::Ended(reason) => t.live.ended.with("reason", reason).to_string(),
            Self::NoKeyframe => t.live.no_keyframe.to_string(),
        }
    }

    /// The status for a browser's player.
    pub(crate) fn status(&self) -> StatusCode {
        Rejection::from(self.clone()).status()
    }
}

impl From<NoVideo> for Rejection {
    fn from(reason: NoVideo) -> Self {
        match reason {
            NoVideo::Rejected(rejection) => rejection,
            NoVideo::NotMasked => error::unmasked(),
            NoVideo::TooMany => Self::Unavailable("too many live streams; close one".into()),
            NoVideo::Unavailable(error) => Self::Unavailable(error.to_string().into()),
            NoVideo::Ended(reason) => Self::Unavailable(reason.into()),
            NoVideo::NoKeyframe => Self::Unavailable("the camera sent no keyframe in time".into()),
        }
    }
}

/// A stream that is being sent.
struct Source {
    watcher: Watcher,
    view: CameraId,
    video: LiveView,
    /// What a player needs first.
    init: Option<Bytes>,
    check_at: Instant,
    /// True when the console ends.
    ending: watch::Receiver<bool>,
    _place: Place,
}

/// Opens the live video of a view.
///
/// # Errors
/// [`NoVideo`]; nothing was sent then.
pub(crate) async fn open(watcher: Watcher, view: CameraId) -> Result<Response, NoVideo> {
    let (app, config) = (Arc::clone(&watcher.site), watcher.site.config());
    let rejected = |rejection| NoVideo::Rejected(rejection);
    if watcher.actor.camera_of(&config, &view).is_none() {
        return Err(rejected(Rejection::NotFound));
    }
    let act = |outcome| Act {
        name: "console live view",
        by: watcher.actor.person(),
        subject: None,
        details: vec![("view", view.to_string())],
        outcome,
    };
    if !watcher.actor.sees_unmasked(&config) {
        if app.web.may_record_refusal() {
            let refused = Outcome::Refused("the role may not see pictures without masks".into());
            app.daemon.record(act(refused)).await.map_err(|e| rejected(e.into()))?;
        }
        return Err(NoVideo::NotMasked);
    }
    let place = Place::take(&watcher).ok_or(NoVideo::TooMany)?;
    let mut video = app.daemon.live(&view).map_err(NoVideo::Unavailable)?;
    let (codec, init) = match timeout(FIRST_WITHIN, video.next()).await {
        Ok(Some(LiveChunk::Init { codec, bytes, .. })) => (codec, bytes),
        Ok(Some(LiveChunk::Ended { reason })) => return Err(NoVideo::Ended(reason)),
        // A fragment never comes first.
        Ok(Some(LiveChunk::Fragment { .. }) | None) => return Err(NoVideo::Unavailable(NotAvailable::NotReceived)),
        Err(_) => return Err(NoVideo::NoKeyframe),
    };
    let kind = HeaderValue::try_from(format!("video/mp4; codecs=\"{codec}\""));
    let kind = kind.map_err(|error| rejected(Rejection::internal(&error)))?;
    app.daemon
        .record(act(Outcome::Done))
        .await
        .map_err(|e| rejected(e.into()))?;
    let source = Source {
        ending: app.web.ending.subscribe(),
        watcher,
        view,
        video,
        init: Some(init),
        check_at: Instant::now() + RECHECK,
        _place: place,
    };
    let chunks = stream::unfold(source, |mut source| async move {
        let bytes = source.next().await?;
        Some((Ok::<_, Infallible>(bytes), source))
    });
    Ok(([(CONTENT_TYPE, kind)], Body::from_stream(chunks)).into_response())
}

impl Source {
    /// The next bytes; `None` ends the stream, and the player asks again. A fragment after a gap needs nothing: it is a keyframe with its own
    /// time, and the player jumps there.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(init) = self.init.take() {
            return Some(init);
        }
        loop {
            if Instant::now() >= self.check_at {
                self.check_at = Instant::now() + RECHECK;
                if !self.may_go_on() {
                    return None;
                }
            }
            let chunk = async {
                tokio::select! {
                    _ = self.ending.wait_for(|ends| *ends) => None,
                    chunk = self.video.next() => chunk,
                }
            };
            match timeout_at(self.check_at, chunk).await {
                Ok(Some(LiveChunk::Fragment { bytes, .. })) => return Some(bytes),
                // Other parameters, or the camera or the console is gone.
                Ok(_) => return None,
                Err(_) => {}
            }
        }
    }

    fn may_go_on(&self) -> bool {
        let config = self.watcher.site.config();
        let actor = &self.watcher.actor;
        actor.sees_unmasked(&config) && actor.camera_of(&config, &self.view).is_some() && self.watcher.may_go_on()
    }
}
