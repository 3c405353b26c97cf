//! How often a touring camera's preset is recognised, and how often it is mistaken for another.
//!
//! The pictures are divided into cameras of [`PRESETS`] presets. Each camera learns its presets, and then sees them altered, and
//! views next to them.

use std::time::{Duration, Instant};

use fastrand::Rng;
use image::{RgbImage, imageops};
use jiff::Timestamp;
use serde::Serialize;

use super::{LEARNING_LOOKS, STRAIGHT, Scene, TRIALS, aimed, sent};
use gridwatch::cli::Failure;
use gridwatch_base::text::counted;
use gridwatch_engine::{Light, View};
use gridwatch_frame::Frame;
use gridwatch_vision::{AimLimits, Health, Luma, Tour, ViewLimits};

/// Presets per camera; a street camera's tour rarely has more.
const PRESETS: usize = 8;

/// The results over all looks.
#[derive(Debug, Default, Serialize)]
pub(super) struct TourBenchReport {
    cameras: usize,
    presets_each: usize,
    /// Looks at a preset, altered by light or by objects in front.
    at_preset: usize,
    /// Those in which the preset was recognised, ...
    recognised: usize,
    /// ... and those mistaken for another preset.
    mistaken: usize,
    /// Looks between presets: panned, turned or zoomed, or at another street.
    between: usize,
    /// Those mistaken for a preset.
    taken: usize,
    /// Wall time in ms of a look between presets, for the comparisons alone.
    ms_between: f64,
}

pub(super) fn run(streets: &[RgbImage], seed: u64) -> Result<TourBenchReport, Failure> {
    let mut report = TourBenchReport {
        presets_each: PRESETS,
        ..TourBenchReport::default()
    };
    // One aspect ratio for all, as from one sensor: different ones are told apart too easily.
    let (width, height) = (streets[0].width(), streets[0].width() * 9 / 16);
    let shaped: Vec<RgbImage> = streets
        .iter()
        .map(|s| imageops::resize(s, width, height, imageops::FilterType::Triangle))
        .collect();
    let mut spent = Duration::ZERO;
    for (n, presets) in shaped.chunks_exact(PRESETS).enumerate() {
        let mut rng = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(1 << 32 | n as u64));
        let mut tour = Tour::new(
            AimLimits::from(&ViewLimits::default()),
            PRESETS,
            Duration::from_hours(1),
        );
        for (i, preset) in presets.iter().enumerate() {
            tour.learn(i);
            for _ in 0..LEARNING_LOOKS {
                if let Some(small) = small(&sent(aimed(preset, STRAIGHT), &mut rng))? {
                    tour.look(&small, Timestamp::UNIX_EPOCH, Light::Day);
                }
            }
        }
        report.cameras += 1;
        for (i, street) in presets.iter().enumerate() {
            // Another camera's street, which is none of the presets.
            let other = &shaped[((n + 1) * PRESETS + i) % shaped.len()];
            let scene = Scene { street, other };
            for trial in TRIALS.iter().filter(|t| matches!(t.wanted, View::Clear | View::Moved)) {
                let Some(small) = small(&sent(scene.shown(trial, &mut rng), &mut rng))? else {
                    continue; // The view health rejected it.
                };
                let mut tour = tour.clone();
                let start = Instant::now();
                let shown = tour.look(&small, Timestamp::UNIX_EPOCH, Light::Day).preset;
                if trial.wanted == View::Clear {
                    report.at_preset += 1;
                    report.recognised += usize::from(shown == Some(i));
                    report.mistaken += usize::from(shown.is_some_and(|s| s != i));
                } else {
                    report.between += 1;
                    report.taken += usize::from(shown.is_some());
                    spent += start.elapsed();
                }
            }
        }
    }
    report.ms_between = spent.as_secs_f64() * 1e3 / report.between.max(1) as f64;
    Ok(report)
}

/// The reduced picture of a clear view; `None` if the view is not clear.
fn small(picture: &RgbImage) -> Result<Option<Luma>, Failure> {
    let frame = Frame::from_rgb(picture, Timestamp::UNIX_EPOCH).map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let (view, small) = Health::new(ViewLimits::default())
        .look(&frame)
        .map_err(|e| Failure::new(e.class(), e.to_string()))?;
    Ok(small.filter(|_| view == View::Clear))
}

impl TourBenchReport {
    /// The results as text.
    pub(super) fn summary(&self) -> String {
        if self.cameras == 0 {
            return format!("Presets: at least {PRESETS} pictures are needed.\n");
        }
        format!(
            "{}, {} each: {} of {} at a preset recognised, {} mistaken for another; {} of {} \
             between presets mistaken for one; {:.2} ms for a look between presets.\n",
            counted(self.cameras, "touring camera", "touring cameras"),
            counted(self.presets_each, "preset", "presets"),
            self.recognised,
            counted(self.at_preset, "look", "looks"),
            self.mistaken,
            self.taken,
            counted(self.between, "look", "looks"),
            self.ms_between
        )
    }
}
