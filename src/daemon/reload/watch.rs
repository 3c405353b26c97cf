//! Notices changed files of the configuration.
//!
//! Files are polled, which works on every file system and for every way in which editors save. A change takes effect once the files have
//! stayed the same for one interval, so that a file is not read while it is copied.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Reloader,
    request::{ReloadOccasion, ReloadOutcome, ReloadRequest},
};
use gridwatch_config as config;

/// Poll interval; a change takes effect after one to two of them.
const POLL_EVERY: Duration = Duration::from_secs(2);

/// What tells a changed file: device, inode, size, and the times of the last change of content and inode. `None` if there is no file.
type Stamp = Option<[i128; 7]>;

/// Reloads the configuration when one of its files has changed; runs until the daemon ends.
pub(crate) async fn watch(reloader: Arc<Reloader>) {
    let mut every = tokio::time::interval(POLL_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Nothing is known yet: the first comparison covers a file that changed while the daemon started.
    let mut read: Option<Vec<(PathBuf, Stamp)>> = None;
    let mut seen: Option<Vec<(PathBuf, Stamp)>> = None;
    let mut paths = of_config(&reloader.config());
    loop {
        every.tick().await;
        let now = stamps(&paths);
        if read.as_ref() == Some(&now) {
            seen = None;
            continue;
        }
        if seen.as_ref() != Some(&now) {
            seen = Some(now);
            continue;
        }
        seen = None;
        let reloader = Arc::clone(&reloader);
        let request = ReloadRequest {
            file: None,
            dry_run: false,
            occasion: ReloadOccasion::FileChange,
        };
        let reloaded = tokio::task::spawn_blocking(move || {
            let report = reloader.reload(&request);
            // Those of a rejected configuration are watched, too, until they are mended.
            match report.outcome {
                ReloadOutcome::Rejected => of_draft(&report.file),
                _ => of_config(&reloader.config()),
            }
        });
        // What changed while it was read is noticed at the next comparison, because `now` was taken before.
        match reloaded.await {
            Ok(new) if new == paths => read = Some(now),
            Ok(new) => {
                let known: Vec<_> = now.into_iter().filter(|(path, _)| new.contains(path)).collect();
                let added = new.iter().filter(|path| known.iter().all(|(known, _)| known != *path));
                let added: Vec<_> = stamps(&added.cloned().collect::<Vec<_>>());
                let mut all: Vec<_> = known.into_iter().chain(added).collect();
                all.sort();
                (read, paths) = (Some(all), new);
            }
            Err(error) => {
                tracing::error!(%error, "Cannot reload the configuration any more when a file changes; please report this bug");
                return;
            }
        }
    }
}

fn of_config(config: &config::Config) -> Vec<PathBuf> {
    with_conf_dir(&config.file, config.sources.iter().map(|s| s.file.clone()))
}

fn of_draft(file: &Path) -> Vec<PathBuf> {
    let draft = config::examine(file);
    with_conf_dir(file, draft.sources.into_iter().map(|s| s.file))
}

/// The directory `conf.d` changes when a file is added to it or removed.
fn with_conf_dir(file: &Path, sources: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = sources.collect();
    paths.push(file.into());
    paths.push(file.with_file_name(config::files::CONF_DIR));
    paths.sort();
    paths.dedup();
    paths
}

fn stamps(paths: &[PathBuf]) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: &PathBuf| {
        let meta = fs::metadata(path).ok()?;
        Some([
            meta.dev().into(),
            meta.ino().into(),
            meta.size().into(),
            meta.mtime().into(),
            meta.mtime_nsec().into(),
            meta.ctime().into(),
            meta.ctime_nsec().into(),
        ])
    };
    paths.iter().map(|path| (path.clone(), stamp(path))).collect()
}
