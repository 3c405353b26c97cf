//! What the System pages and their part of the JSON API read and change: the outbox, model versions, the log, metrics, the audit log, and the
//! support bundle. Reading that takes long runs on threads of its own, a few at a time.

pub(crate) mod api;
pub(crate) mod audit;
pub(crate) mod bundle;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod outbox;
pub(crate) mod overview;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use gridwatch_support::disk::{self, DiskUsage};
use gridwatch_web::{Actor, Rejection};
use tokio::{sync::Semaphore, task};

use crate::{access::CameraAccess as _, app::App};

/// Walks of the state directory, readings of the chain and bundles at the same time.
const MAX_SCANS: usize = 2;
/// How long the sizes of the state directory are shown before they are counted again.
const DISK_AGE: Duration = Duration::from_secs(60);

/// What the System pages keep between requests.
pub(crate) struct System {
    /// One package is uploaded, tested and installed at a time: each may take hundreds of megabytes.
    pub(crate) uploads: Arc<Semaphore>,
    pub(crate) samples: metrics::Samples,
    scans: Arc<Semaphore>,
    disk: Mutex<Option<(Instant, DiskUsage)>>,
}

impl System {
    pub(crate) fn new() -> Self {
        Self {
            uploads: Arc::new(Semaphore::new(1)),
            samples: metrics::Samples::default(),
            scans: Arc::new(Semaphore::new(MAX_SCANS)),
            disk: Mutex::default(),
        }
    }
}

/// Runs what reads much from the disk.
pub(crate) async fn scan<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce() -> Result<T, Rejection> + Send + 'static,
) -> Result<T, Rejection> {
    let place = Arc::clone(&app.system.scans).acquire_owned().await;
    let place = place.map_err(|error| Rejection::internal(&error))?;
    let done = task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    done.await.map_err(|error| Rejection::internal(&error))?
}

/// Sizes of the state directory, at most a minute old.
pub(crate) async fn disk_usage(app: &Arc<App>) -> Result<DiskUsage, Rejection> {
    let known = || app.system.disk.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, usage)) = known().as_ref()
        && at.elapsed() < DISK_AGE
    {
        return Ok(usage.clone());
    }
    let dir = app.state_dir.clone();
    let usage = scan(app, move || Ok(disk::usage(&dir))).await?;
    *known() = Some((Instant::now(), usage.clone()));
    Ok(usage)
}

/// Refuses users of a group of cameras: outbox, models, metrics, log and audit log are about all cameras.
pub(crate) fn expect_whole_box(app: &App, actor: &Actor) -> Result<(), Rejection> {
    match actor.cameras(&app.config()) {
        None => Ok(()),
        Some(_) => Err(Rejection::NotFound),
    }
}
