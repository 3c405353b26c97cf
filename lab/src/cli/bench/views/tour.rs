//! How often a camera that turns is known to stand at its preset, and never taken to stand at another.
//!
//! The pictures are dealt into cameras of [`PRESETS`] each. A camera is shown its presets, and then looks at them changed, and
//! at what lies beside them.

use std::time::{Duration, Instant};

use fastrand::Rng;
use image::{RgbImage, imageops};
use jiff::Timestamp;
use serde::Serialize;

use super::{LEARNED_BY, STRAIGHT, Scene, TRIALS, aimed, sent};
use gridwatch::cli::Failure;
use gridwatch_engine::{Light, View};
use gridwatch_frame::Frame;
use gridwatch_vision::{Health, Limits, Luma, Tour, ViewLimits};

/// A street camera's programme rarely has more.
const PRESETS: usize = 8;

/// What came of all looks.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    cameras: usize,
    presets_each: usize,
    /// Looks at a preset, by other light and behind other things.
    at_preset: usize,
    /// Those of them known to be of it, ...
    recognised: usize,
    /// ... and those taken for another.
    mistaken: usize,
    /// Looks beside a preset, turned, zoomed, or at a street that is none.
    between: usize,
    /// Those of them taken for a preset.
    taken: usize,
    /// Wall time of a look that shows no preset, comparisons alone.
    ms_between: f64,
}

pub(super) fn run(streets: &[RgbImage], seed: u64) -> Result<Report, Failure> {
    let mut report = Report {
        presets_each: PRESETS,
        ..Report::default()
    };
    // One sensor has one shape: unlike shapes are told apart too easily.
    let (width, height) = (streets[0].width(), streets[0].width() * 9 / 16);
    let shaped: Vec<RgbImage> = streets
        .iter()
        .map(|s| imageops::resize(s, width, height, imageops::FilterType::Triangle))
        .collect();
    let mut spent = Duration::ZERO;
    for (n, presets) in shaped.chunks_exact(PRESETS).enumerate() {
        let mut chance = Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(1 << 32 | n as u64));
        let mut tour = Tour::new(Limits::from(&ViewLimits::default()), PRESETS, Duration::from_hours(1));
        for (i, preset) in presets.iter().enumerate() {
            tour.learn(i);
            for _ in 0..LEARNED_BY {
                if let Some(small) = small(&sent(aimed(preset, STRAIGHT), &mut chance))? {
                    tour.look(&small, Timestamp::UNIX_EPOCH, Light::Day);
                }
            }
        }
        report.cameras += 1;
        for (i, street) in presets.iter().enumerate() {
            // A street of another camera: it is none of the presets.
            let other = &shaped[((n + 1) * PRESETS + i) % shaped.len()];
            let scene = Scene { street, other };
            for trial in TRIALS.iter().filter(|t| matches!(t.wanted, View::Clear | View::Moved)) {
                let Some(small) = small(&sent(scene.shown(trial, &mut chance), &mut chance))? else {
                    continue; // Health says so already.
                };
                let mut tour = tour.clone();
                let start = Instant::now();
                let stood = tour.look(&small, Timestamp::UNIX_EPOCH, Light::Day).preset;
                if trial.wanted == View::Clear {
                    report.at_preset += 1;
                    report.recognised += usize::from(stood == Some(i));
                    report.mistaken += usize::from(stood.is_some_and(|s| s != i));
                } else {
                    report.between += 1;
                    report.taken += usize::from(stood.is_some());
                    spent += start.elapsed();
                }
            }
        }
    }
    report.ms_between = spent.as_secs_f64() * 1e3 / report.between.max(1) as f64;
    Ok(report)
}

/// As health hands it on; `None` where there is nothing to be seen.
fn small(picture: &RgbImage) -> Result<Option<Luma>, Failure> {
    let frame = Frame::from_rgb(picture, Timestamp::UNIX_EPOCH).map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let (view, small) = Health::new(ViewLimits::default())
        .look(&frame)
        .map_err(|e| Failure::new(e.class(), e.to_string()))?;
    Ok(small.filter(|_| view == View::Clear))
}

impl Report {
    /// For people.
    pub(super) fn words(&self) -> String {
        if self.cameras == 0 {
            return format!("Presets: {PRESETS} pictures at least are needed.\n");
        }
        format!(
            "{} cameras that turn, {} presets each: {} of {} looks at a preset recognised, {} taken for another; {} of {} looks \
             beside them taken for one; {:.2} ms for a look that shows none.\n",
            self.cameras,
            self.presets_each,
            self.recognised,
            self.at_preset,
            self.mistaken,
            self.taken,
            self.between,
            self.ms_between
        )
    }
}
