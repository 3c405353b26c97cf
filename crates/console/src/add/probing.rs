//! Probes a wizard's camera beside the requests, and keeps what is found out for its page.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use gridwatch_base::message::Message;
use gridwatch_base::secret::CredentialSource;
use gridwatch_onvif::{
    brand::{self, StreamRole},
    probe::{CameraProbe, ProbeProgress, ProbeRequest, Target, probe},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::{Wizard, given::shown_url};
use crate::{
    app::App,
    daemon::{PictureError, TriedPicture, VideoCodec},
};

/// Longest time for a probe: ONVIF, wrong paths of a brand, and 30 s of a stream whose keyframes are far apart.
const LIMIT: Duration = Duration::from_secs(90);
/// A page asks every second while it waits; if it does not, the browser has gone.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// Streams that are listed while they are tried.
const MAX_TRIED: usize = 16;

/// The first picture.
#[derive(Debug, Clone, Default)]
pub(crate) enum PictureState {
    /// No keyframe came yet.
    #[default]
    Awaited,
    /// It is being decoded, looked at and masked.
    Making,
    Made(Arc<TriedPicture>),
    Failed(PictureError),
    /// The probe has ended, and no keyframe came.
    None,
}

/// Why a probe has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProbeFault {
    /// Why, with the remedy. It never contains credentials.
    Failed(Message),
    TimedOut,
    /// Nobody waited for it any more.
    Abandoned,
}

/// What is known of a camera so far.
#[derive(Default)]
pub(crate) struct ProbeState {
    /// Manufacturer and model, once it answered over ONVIF.
    pub(crate) device: Option<String>,
    /// Streams that were tried: role, and URL without login.
    pub(crate) tried: Vec<(StreamRole, String)>,
    pub(crate) picture: PictureState,
    /// From the start to the picture with its boxes.
    pub(crate) picture_after: Option<Duration>,
    /// How it ended.
    pub(crate) outcome: Option<Result<Arc<CameraProbe>, ProbeFault>>,
}

impl ProbeState {
    /// True while something may still come.
    pub(crate) fn is_going_on(&self) -> bool {
        self.outcome.is_none() || matches!(self.picture, PictureState::Making)
    }

    /// What was found out, if the probe has ended with it.
    pub(crate) fn probe(&self) -> Option<Arc<CameraProbe>> {
        self.outcome.as_ref()?.as_ref().ok().cloned()
    }
}

/// Aborts the task on drop.
struct Running(JoinHandle<()>);
impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Probes in the background. It stops by itself when its wizard is forgotten, and when nobody waits for it.
pub(crate) fn start(app: &Arc<App>, wizard: &Arc<Wizard>, place: OwnedSemaphorePermit) {
    let given = &wizard.given;
    let request = ProbeRequest {
        credentials: wizard.credentials.clone().map(CredentialSource::Fixed),
        login: given.login(),
        transport: given.transport,
        brand: given.brand,
        channel: given.channel,
        need: given.look_need(),
        ..ProbeRequest::new(given.target.clone())
    };
    let (app, wizard) = (Arc::clone(app), Arc::downgrade(wizard));
    tokio::spawn(async move {
        let began = Instant::now();
        let mut job = Running(tokio::spawn(run(app, Weak::clone(&wizard), request, began)));
        let end = began + LIMIT;
        loop {
            let step = (Instant::now() + Duration::from_secs(1)).min(end);
            if timeout_at(step, &mut job.0).await.is_ok() {
                break;
            }
            // Forgotten: nobody can ask any more.
            let Some(wizard) = wizard.upgrade() else { break };
            let fault = if wizard.idle_for() >= GONE_AFTER {
                ProbeFault::Abandoned
            } else if Instant::now() >= end {
                ProbeFault::TimedOut
            } else {
                continue;
            };
            drop(job);
            let mut state = wizard.state();
            state.outcome.get_or_insert(Err(fault));
            state.settle();
            break;
        }
        drop(place);
    });
}

impl ProbeState {
    /// No picture comes any more.
    fn settle(&mut self) {
        if matches!(self.picture, PictureState::Awaited | PictureState::Making) {
            self.picture = PictureState::None;
        }
    }
}

async fn run(app: Arc<App>, wizard: Weak<Wizard>, request: ProbeRequest, began: Instant) {
    let wanted = match &request.target {
        Target::Stream(url) => brand::recognise(url).map_or(StreamRole::Main, |found| found.role),
        Target::Device { .. } => StreamRole::Main,
    };
    // Of the other stream, in case the wanted one does not play.
    let mut spare = None;
    let mut making = None;
    let probed = probe(&request, |event| {
        let Some(wizard) = wizard.upgrade() else { return };
        let mut state = wizard.state();
        match event {
            ProbeProgress::Device(device) => {
                let information = device.information.as_ref();
                state.device = information.map(|i| format!("{} {}", i.manufacturer, i.model).trim().to_owned());
            }
            ProbeProgress::Stream(role, url) if state.tried.len() < MAX_TRIED => {
                state.tried.push((role, shown_url(url)));
            }
            ProbeProgress::Stream(..) => {}
            ProbeProgress::Picture(role, stream) => {
                let Some(keyframe) = &stream.keyframe else { return };
                let found = (Bytes::from(keyframe.clone()), stream.format.codec);
                if role != wanted {
                    spare = Some(found);
                } else if making.is_none() {
                    state.picture = PictureState::Making;
                    let work = make(Arc::clone(&app), Arc::downgrade(&wizard), found, began);
                    making = Some(Running(tokio::spawn(work)));
                }
            }
        }
    })
    .await;
    let probed = probed
        .map(Arc::new)
        .map_err(|error| ProbeFault::Failed(error.message()));
    let has_picture = making.is_some();
    if let Some(wizard) = wizard.upgrade() {
        let mut state = wizard.state();
        state.outcome = Some(probed);
        match spare {
            Some(_) if !has_picture => state.picture = PictureState::Making,
            _ if !has_picture => state.settle(),
            _ => {}
        }
    }
    match (making, spare) {
        (Some(mut making), _) => drop((&mut making.0).await),
        (None, Some(found)) => make(app, wizard, found, began).await,
        (None, None) => {}
    }
}

/// Longest time for the picture; the daemon gives up before.
const PICTURE_LIMIT: Duration = Duration::from_secs(30);

async fn make(app: Arc<App>, wizard: Weak<Wizard>, (keyframe, codec): (Bytes, VideoCodec), began: Instant) {
    let made = tokio::select! {
        made = app.daemon.try_picture(keyframe, codec) => made,
        () = sleep(PICTURE_LIMIT) => Err(PictureError::Failed("it took too long".into())),
    };
    let Some(wizard) = wizard.upgrade() else { return };
    let mut state = wizard.state();
    state.picture = match made {
        Ok(picture) => {
            state.picture_after = Some(began.elapsed());
            PictureState::Made(Arc::new(picture))
        }
        Err(error) => {
            tracing::warn!(%error, "The first picture of a camera that is being added could not be made");
            PictureState::Failed(error)
        }
    };
}
