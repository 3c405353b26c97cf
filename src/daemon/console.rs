//! The running daemon as the console sees it.

mod server;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use gridwatch_base::message::Message;
use gridwatch_camera::live::{LiveLimits, LiveView, NotAvailable};
use gridwatch_config::{Config, Fault, find_view};
use gridwatch_console::{
    Daemon as ConsoleDaemon,
    daemon::{
        Change, ConfigurationStatus, Connection, Finding, LinkStatus, Look, LookError, Masking, Picture, PictureError,
        Readiness, ReloadAnswer, TriedPicture, VideoCodec, ViewStatus,
    },
};
use gridwatch_engine::{CameraId, Detection};
use gridwatch_evidence::{self as evidence, EvidenceError};
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelSet, Runtime, selftest};
use gridwatch_vision::views::ViewFiles;
use gridwatch_web::audit::{Act, RecordError};
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{
    Semaphore, broadcast,
    mpsc::{Sender, WeakSender},
    oneshot,
};

pub(super) use self::server::ConsoleServer;
use super::{
    Shared,
    look_board::{self, NewestLook},
    looks::WatchedCamera,
    messages::{CoreEvent, EvidenceRequest},
    pictures,
    reload::{ReloadOccasion, ReloadOutcome, ReloadRequest, Reloader},
};
use crate::{audit, first_picture, telemetry};

/// Pictures that are being made or wait for the evidence worker: a full one may take a second of it, and cases need it, too.
const MAX_PICTURES: usize = 4;

/// A picture of a camera that is not configured yet must be ready within this time.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait of a picture for its turn.
const PICTURE_WAIT: Duration = Duration::from_secs(15);

/// A look that was asked for must come within this time.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// The running daemon, for the console.
pub(super) struct ConsoleAccess {
    pub(super) shared: Arc<Shared>,
    pub(super) reloader: Arc<Reloader>,
    /// To the core, which passes requests for pictures on. A page that is still open must not keep it from ending.
    core: WeakSender<CoreEvent>,
    pub(super) metrics: PrometheusHandle,
    pub(super) live: LiveLimits,
    pictures: Semaphore,
    started_at: Timestamp,
}

impl ConsoleAccess {
    pub(super) fn new(
        shared: Arc<Shared>,
        reloader: Arc<Reloader>,
        core: &Sender<CoreEvent>,
        metrics: PrometheusHandle,
    ) -> Self {
        Self {
            shared,
            reloader,
            core: core.downgrade(),
            metrics,
            live: LiveLimits::default(),
            pictures: Semaphore::new(MAX_PICTURES),
            started_at: Timestamp::now(),
        }
    }

    fn camera(&self, view: &CameraId) -> Option<Arc<WatchedCamera>> {
        let set = self.shared.looks.cameras();
        let (camera, _) = set.view(view)?;
        set.cameras.get(camera).cloned()
    }

    fn status(&self, camera: &WatchedCamera, view: &CameraId) -> ViewStatus {
        let newest = self.shared.board.newest(view);
        let (connection, connection_since) = self.shared.board.connection(camera);
        let has_detail = !matches!(connection, Connection::Connecting | Connection::Live);
        ViewStatus {
            view: view.clone(),
            connection,
            connection_since,
            connection_detail: has_detail.then(|| camera.slot.state().message()),
            sight: newest.as_ref().map(|n| n.look.sight),
            sight_since: newest.as_ref().map(|n| n.sight_since),
            looked_at: newest.as_ref().map(|n| n.look.at),
            candidates: newest.as_ref().map_or(0, |n| n.candidates),
            open_cases: newest.as_ref().map_or(0, |n| n.open_cases),
        }
    }

    /// A picture of a look, made by the evidence worker.
    async fn make_picture(&self, view: &CameraId, look: Source, what: PictureKind) -> Result<Picture, PictureError> {
        // The first page shows all cameras, and a camera's page may be open in several browsers: they take their turns.
        let place = tokio::time::timeout(PICTURE_WAIT, self.pictures.acquire()).await;
        let _place = place.ok().and_then(Result::ok).ok_or(PictureError::Busy)?;
        let (answer, made) = oneshot::channel();
        let at = look.picture.captured_at();
        let request = EvidenceRequest {
            view: view.clone(),
            picture: look.picture,
            detections: look.detections,
            finds_persons: look.finds_persons,
            kind: what,
            answer,
        };
        let failed = |what: &str| PictureError::Failed(what.to_owned());
        let core = self.core.upgrade().ok_or_else(|| failed("the daemon is stopping"))?;
        let sent = core.send(CoreEvent::Picture(Box::new(request))).await;
        drop(core);
        sent.map_err(|_| failed("the daemon is stopping"))?;
        let made = made.await.map_err(|_| failed("the daemon is stopping"))?;
        let jpeg = made.map_err(PictureError::Failed)?;
        Ok(Picture { jpeg, at })
    }
}

/// What a picture is made of.
struct Source {
    picture: gridwatch_camera::Picture,
    detections: Arc<[Detection]>,
    /// It was searched for persons.
    finds_persons: bool,
}

impl From<NewestLook> for Source {
    fn from(newest: NewestLook) -> Self {
        Self {
            picture: newest.picture,
            detections: newest.detections,
            finds_persons: newest.finds_persons,
        }
    }
}

/// What is made of a look for the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PictureKind {
    Thumbnail,
    Full(Masking),
}

/// Makes a picture of a decoded look. `found` are the detections of the look, and of the mask models for a masked one; `settings` says whether
/// it was searched for persons.
pub(super) fn make(
    frame: &Frame,
    found: &[Detection],
    settings: &evidence::Settings,
    kind: PictureKind,
) -> Result<Bytes, EvidenceError> {
    let mask = match kind {
        PictureKind::Thumbnail => {
            return look_board::make_thumbnail(frame, found, settings.finds_persons, &settings.privacy);
        }
        PictureKind::Full(masking) => masking == Masking::Masked,
    };
    let settings = evidence::Settings {
        mask,
        ..settings.clone()
    };
    Ok(evidence::preview(frame, found, &settings)?.picture.jpeg.into())
}

impl ConsoleDaemon for ConsoleAccess {
    fn config(&self) -> Arc<Config> {
        self.shared.config()
    }

    fn views(&self) -> Vec<ViewStatus> {
        let set = self.shared.looks.cameras();
        let views = set.cameras.iter().flat_map(|camera| {
            let views = camera.views().collect::<Vec<_>>();
            views.into_iter().map(|view| self.status(camera, &view))
        });
        views.collect()
    }

    fn view(&self, view: &CameraId) -> Option<ViewStatus> {
        Some(self.status(&*self.camera(view)?, view))
    }

    fn newest_look(&self, view: &CameraId) -> Option<Arc<Look>> {
        Some(self.shared.board.newest(view)?.look)
    }

    fn thumbnail(&self, view: &CameraId) -> BoxFuture<'_, Result<Picture, PictureError>> {
        let view = view.clone();
        Box::pin(async move {
            let newest = self.shared.board.newest(&view).ok_or(PictureError::NotYet)?;
            let at = newest.look.at;
            if let Some(jpeg) = newest.thumbnail.clone() {
                return Ok(Picture { jpeg, at });
            }
            let made = self.make_picture(&view, newest.into(), PictureKind::Thumbnail).await?;
            self.shared.board.keep_thumbnail(&view, at, made.jpeg.clone());
            Ok(made)
        })
    }

    fn picture(&self, view: &CameraId, masking: Masking) -> BoxFuture<'_, Result<Picture, PictureError>> {
        let view = view.clone();
        Box::pin(async move {
            self.camera(&view).ok_or(PictureError::NoSuchView)?;
            let newest = self.shared.board.newest(&view).ok_or(PictureError::NotYet)?;
            let at = newest.look.at;
            if let Some(jpeg) = newest.masked.clone().filter(|_| masking == Masking::Masked) {
                return Ok(Picture { jpeg, at });
            }
            let made = self
                .make_picture(&view, newest.into(), PictureKind::Full(masking))
                .await?;
            if masking == Masking::Masked {
                self.shared.board.keep_masked(&view, at, made.jpeg.clone());
            }
            Ok(made)
        })
    }

    fn learned_picture(&self, view: &CameraId) -> BoxFuture<'_, Result<Picture, PictureError>> {
        let (config, key, view) = (self.shared.config(), Arc::clone(&self.reloader.key), view.clone());
        Box::pin(async move {
            find_view(&config.cameras, view.as_str()).ok_or(PictureError::NoSuchView)?;
            let files = ViewFiles::new(&config.state_dir, view.clone(), Some(key));
            let frame = tokio::task::spawn_blocking(move || {
                let failed = |what: String| PictureError::Failed(what);
                let saved = files.load().map_err(|e| failed(e.to_string()))?.unwrap_or_default();
                let newest = saved
                    .references
                    .into_iter()
                    .max_by_key(|(_, reference, _)| reference.renewed_at());
                let (_, reference, picture) = newest.ok_or(PictureError::NotYet)?;
                let grey = picture.to_gray().ok_or(PictureError::NotYet)?;
                let rgb = image::DynamicImage::ImageLuma8(grey).into_rgb8();
                Frame::from_rgb(&rgb, reference.renewed_at()).map_err(|e| failed(e.to_string()))
            });
            let frame = frame
                .await
                .unwrap_or_else(|_| Err(PictureError::Failed("the daemon is stopping".into())))?;
            let frame = Arc::new(frame);
            let source = || Source {
                picture: gridwatch_camera::Picture::Frame(Arc::clone(&frame)),
                detections: [].into(),
                finds_persons: false,
            };
            match self
                .make_picture(&view, source(), PictureKind::Full(Masking::Masked))
                .await
            {
                // No mask model finds persons: coarse, or not at all.
                Err(PictureError::Failed(_)) => self.make_picture(&view, source(), PictureKind::Thumbnail).await,
                made => made,
            }
        })
    }

    fn look_now(&self, view: &CameraId) -> BoxFuture<'_, Result<(), LookError>> {
        let view = view.clone();
        Box::pin(async move {
            let camera = self.camera(&view).ok_or(LookError::NoSuchView)?;
            if !camera.slot.state().is_receiving() {
                return Err(LookError::NoPicture);
            }
            let asked_at = Timestamp::now();
            let mut changes = self.shared.board.subscribe();
            self.shared.looks.look_by(&view, asked_at);
            let is_newer = || self.newest_look(&view).is_some_and(|look| look.at > asked_at);
            let looked = async {
                while !is_newer() {
                    if let Err(broadcast::error::RecvError::Closed) = changes.recv().await {
                        return;
                    }
                }
            };
            let waited = tokio::time::timeout(LOOK_TIMEOUT, looked).await;
            waited.map_err(|_| LookError::TimedOut)
        })
    }

    fn readiness(&self) -> Readiness {
        let readiness = self.shared.health.readiness();
        Readiness {
            ready: readiness.ready,
            blockers: readiness.reasons,
        }
    }

    fn configuration(&self) -> ConfigurationStatus {
        let in_force = self.shared.config();
        let (since, last) = self.reloader.last();
        let refused = last.as_ref().filter(|report| report.outcome == ReloadOutcome::Rejected);
        let pending = last.iter().flat_map(|report| report.pending());
        ConfigurationStatus {
            sha256: in_force.config_sha256.clone(),
            since,
            refused: refused.map_or_else(Vec::new, |report| {
                let faults = report.faults.iter().map(Fault::words);
                faults.chain(report.error.clone().map(Message::from)).collect()
            }),
            awaits_restart: pending.map(|change| change.path.clone()).collect(),
        }
    }

    fn reload(&self, dry_run: bool) -> BoxFuture<'_, ReloadAnswer> {
        let reloader = Arc::clone(&self.reloader);
        Box::pin(async move {
            let request = ReloadRequest {
                file: None,
                dry_run,
                occasion: ReloadOccasion::Console,
            };
            match tokio::task::spawn_blocking(move || reloader.reload(&request)).await {
                Ok(report) => ReloadAnswer {
                    accepted: report.outcome != ReloadOutcome::Rejected,
                    changes: report.changes,
                    faults: report.faults,
                    error: report.error,
                    removed: report.removed,
                },
                Err(_) => ReloadAnswer {
                    accepted: false,
                    changes: Vec::new(),
                    faults: Vec::new(),
                    error: Some("the daemon is stopping".into()),
                    removed: Vec::new(),
                },
            }
        })
    }

    fn live(&self, view: &CameraId) -> Result<LiveView, NotAvailable> {
        self.camera(view)
            .ok_or(NotAvailable::NotReceived)?
            .slot
            .watch(&self.live)
    }

    fn try_picture(&self, keyframe: Bytes, codec: VideoCodec) -> BoxFuture<'_, Result<TriedPicture, PictureError>> {
        let (config, runtime) = (self.shared.config(), self.reloader.runtime.clone());
        Box::pin(async move {
            let tried = tokio::task::spawn_blocking(move || {
                let runtime = runtime.with(config.inference.clone());
                try_keyframe(&config, &runtime, keyframe, codec)
            });
            let failed = |what: String| PictureError::Failed(what);
            let tried = tokio::time::timeout(TRIAL_TIMEOUT, tried).await;
            let tried = tried.map_err(|_| failed(format!("not done within {} s", TRIAL_TIMEOUT.as_secs())))?;
            tried
                .map_err(|_| failed("the daemon is stopping".into()))?
                .map_err(failed)
        })
    }

    fn started_at(&self) -> Option<Timestamp> {
        Some(self.started_at)
    }

    fn onnxruntime(&self) -> Option<String> {
        Some(self.reloader.runtime.build().to_owned())
    }

    fn test_model(&self, model: &Model) -> Result<(), String> {
        let runtime = self
            .reloader
            .runtime
            .clone()
            .with(self.shared.config().inference.clone());
        selftest::check(&runtime, model)
            .refusal()
            .map_or(Ok(()), |why| Err(why.to_string()))
    }

    fn link(&self) -> LinkStatus {
        let state = self.shared.link_state.borrow().clone();
        let outbox = self.shared.outbox_sight();
        LinkStatus {
            connected: state.connected,
            down_since: state.down_since,
            error: state.last_error.filter(|_| !state.connected),
            waiting: outbox.waiting,
            quarantined: outbox.quarantined,
        }
    }

    fn log_tail(&self, max: usize) -> Vec<String> {
        telemetry::log_tail(max)
    }

    fn metrics(&self) -> String {
        self.shared.refresh();
        self.metrics.run_upkeep();
        self.metrics.render()
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.board.subscribe()
    }

    fn record(&self, act: Act) -> BoxFuture<'_, Result<(), RecordError>> {
        let state_dir = self.shared.config().state_dir.clone();
        Box::pin(async move {
            let recorded = tokio::task::spawn_blocking(move || audit::record_console(&state_dir, act)).await;
            match recorded {
                Ok(Ok(Some(error))) => {
                    tracing::warn!(%error, "Audit log not forwarded");
                    Ok(())
                }
                Ok(Ok(None)) => Ok(()),
                Ok(Err(error)) => Err(RecordError(error.to_string())),
                Err(_) => Err(RecordError("the daemon is stopping".into())),
            }
        })
    }
}

/// Decodes a keyframe of a camera that is not configured yet and runs all models on it. The picture is masked, or there is none.
fn try_keyframe(
    config: &Config,
    runtime: &Runtime,
    keyframe: Bytes,
    codec: VideoCodec,
) -> Result<TriedPicture, String> {
    let frame = first_picture::decode(codec, keyframe.into(), config.decoders)?;
    let frame = frame.ok_or("this program has no decoder for the stream")?;
    let models: Vec<Model> = config
        .models
        .iter()
        .map(|model| Model::load(&model.dir))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let labels: Vec<_> = models.iter().flat_map(|m| m.manifest().engine_labels()).collect();
    let mut detector = ModelSet::new(runtime, &models).map_err(|e| e.to_string())?;
    let mut found = Vec::new();
    let mut input = detector.input(&frame);
    for slot in 0..models.len() {
        found.extend(input.detect(slot).map_err(|e| e.to_string())?);
    }
    let findings = found.iter().map(|d| Finding {
        label: d.label.clone(),
        score: d.score,
        bbox: d.bbox,
        counts: false,
    });
    let findings = findings.collect();
    let mut finds_persons = labels.iter().any(evidence::is_of_person);
    if let Some(mut masks) = pictures::mask_detector(config, runtime).map_err(|e| e.to_string())? {
        found.extend(masks.detector.detect(&frame).map_err(|e| e.to_string())?);
        finds_persons |= masks.finds_persons;
    }
    let settings = evidence::Settings {
        jpeg_quality: config.evidence.jpeg_quality,
        max_bytes: config.evidence.max_picture_bytes,
        min_interval: Duration::ZERO,
        mask: true,
        finds_persons,
        privacy: Vec::new(),
    };
    let made = evidence::preview(&frame, &found, &settings).map_err(|e| e.to_string())?;
    Ok(TriedPicture {
        jpeg: made.picture.jpeg.into(),
        size: made.size,
        findings,
    })
}
