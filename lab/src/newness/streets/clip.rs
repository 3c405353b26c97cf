//! Judges real footage of a fixed camera in which nothing unlawful happens: every case is a false one.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::pipeline::{Pipeline, Setup};
use crate::newness::AssetsError;
use gridwatch_engine::BBox;
use gridwatch_model::ModelError;

/// What was filed on a quiet clip.
#[derive(Debug, Serialize)]
pub struct ClipReport {
    /// The folder of its frames.
    pub clip: PathBuf,
    /// Different frames.
    pub frames: usize,
    /// Looks: the frames forwards and backwards, over and over.
    pub looks: u32,
    /// Days of a camera that these looks stand for.
    pub camera_days: f64,
    /// CPU time of a look in ms, on one thread: models, change map, close and second looks, engine.
    pub cpu_ms_per_look: f64,
    /// The same without the change map.
    pub baseline_cpu_ms_per_look: f64,
    /// Cases: category and box.
    pub cases: Vec<(String, [f32; 4])>,
    /// Upper 95 % limit of false cases in ten camera-days (Poisson). The frames repeat, so it holds for this street only.
    pub upper_limit_per_10_days: f64,
}

/// The frames of a clip: the pictures of a folder in the order of their names.
///
/// # Errors
/// The folder cannot be read, or holds no picture.
fn frames(folder: &Path) -> Result<Vec<PathBuf>, AssetsError> {
    let entries = std::fs::read_dir(folder).map_err(|source| AssetsError::Io {
        path: folder.to_path_buf(),
        source,
    })?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|path| image::ImageFormat::from_path(path).is_ok())
        .collect();
    if paths.is_empty() {
        return Err(AssetsError::Empty {
            path: folder.to_path_buf(),
            wanted: "JPEG or PNG frames of a clip",
        });
    }
    paths.sort();
    Ok(paths)
}

/// Looks at a clip `looks` times, `period` apart; with `baseline` only as often as the CPU time needs it.
///
/// # Errors
/// A model fails, or a frame cannot be read.
pub fn quiet_clip(
    [setup, baseline]: [&Setup; 2],
    folder: &Path,
    looks: u32,
    period: SignedDuration,
    mut progress: impl FnMut(u32),
) -> Result<ClipReport, ClipError> {
    let frames = frames(folder)?;
    let (mut pipeline, mut without) = (Pipeline::new(setup)?, Pipeline::new(baseline)?);
    pipeline.start();
    without.start();
    let mut cases = Vec::new();
    let (mut cpu_ms, mut baseline_ms, mut compared) = (0.0, 0.0, 0);
    for look in 0..looks {
        let path = &frames[swing(look as usize, frames.len())];
        let picture = image::open(path).map_err(|source| ClipError::Frame {
            path: path.clone(),
            source,
        })?;
        let picture = picture.into_rgb8();
        if look >= LEARNED && look % COMPARE_EVERY == 0 {
            let start = process_cpu_ms();
            without.look(&picture, period)?;
            baseline_ms += process_cpu_ms() - start;
            compared += 1;
        }
        let start = process_cpu_ms();
        let filed = pipeline.look(&picture, period)?;
        cpu_ms += process_cpu_ms() - start;
        for case in filed {
            let BBox { x1, y1, x2, y2 } = case.bbox;
            cases.push((case.category, [x1, y1, x2, y2]));
        }
        progress(look + 1);
    }
    let camera_days = f64::from(looks) * period.as_secs_f64() / 86_400.0;
    Ok(ClipReport {
        clip: folder.to_path_buf(),
        frames: frames.len(),
        looks,
        camera_days,
        cpu_ms_per_look: cpu_ms / f64::from(looks),
        baseline_cpu_ms_per_look: baseline_ms / f64::from(compared.max(1)),
        upper_limit_per_10_days: 10.0 * upper_limit(cases.len()) / camera_days,
        cases,
    })
}

/// Looks until the background is learned, and how often a look is compared with one without the change map.
const LEARNED: u32 = 40;
const COMPARE_EVERY: u32 = 7;

/// CPU time of this process so far, in ms.
fn process_cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Why a clip cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The folder holds no clip.
    #[error(transparent)]
    Folder(#[from] AssetsError),
    /// A frame cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Frame {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: image::ImageError,
    },
    /// A model fails.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Index of the frame at a look. The frames are shown forwards, then backwards, so that people do not jump at the end.
fn swing(look: usize, frames: usize) -> usize {
    let turn = (2 * frames).saturating_sub(2).max(1);
    let at = look % turn;
    if at < frames { at } else { turn - at }
}

/// Upper limit of the 95 % interval of a Poisson mean after `count` events (Garwood 1936), by bisection.
fn upper_limit(count: usize) -> f64 {
    let (mut low, mut high) = (0.0, 10.0 + 3.0 * count as f64);
    for _ in 0..60 {
        let mean: f64 = f64::midpoint(low, high);
        let mut term = (-mean).exp();
        let mut below = term;
        for k in 1..=count {
            term *= mean / k as f64;
            below += term;
        }
        if below > 0.025 {
            low = mean;
        } else {
            high = mean;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_swing_forwards_and_backwards() {
        let order: Vec<usize> = (0..8).map(|look| swing(look, 4)).collect();
        assert_eq!(order, [0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!(swing(7, 1), 0);
    }

    #[test]
    fn the_limit_of_a_poisson_mean_is_garwoods() {
        for (count, expected) in [(0, 3.689), (1, 5.572), (10, 18.39)] {
            assert!((upper_limit(count) - expected).abs() < 0.01, "{count}");
        }
    }
}
