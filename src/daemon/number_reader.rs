//! Reads telephone numbers on a schedule of its own, within the zones of the rules that need them.
//!
//! Reading costs more than all other models together, and small ads hang for hours; so most looks skip it, which the look
//! states in [`Observation::not_searched`](gridwatch_engine::Observation).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::histogram;

use super::{models::describe, record::ModelDescriptor};
use gridwatch_base::metric;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_engine::{BBox, Detection, Label, Point, Zone, ZoneKind};
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelError, Runtime,
    ocr::{NumberReading, Reader},
};

/// One worker's reader and the descriptors of its models.
pub(super) struct NumberReader {
    reader: Reader,
    /// The speller first, since a case names the first as its model and the others beside it.
    models: Arc<[ModelDescriptor]>,
}

/// When and where one view is read.
pub(super) struct ReadSchedule {
    every: Duration,
    /// Parts of the picture to read; empty: all of it.
    parts: Vec<BBox>,
    /// Capture time of the newest look that was read or tried, Unix milliseconds; `i64::MIN` before the first.
    last: AtomicI64,
}

/// Margin around a zone, as a fraction of the picture: a number that is cut off by the part's edge is not read.
const MARGIN: f32 = 0.1;

impl NumberReader {
    /// A reader for each worker; `None`s if no camera's numbers are read.
    pub(super) fn for_workers(config: &Config, runtime: &Runtime) -> Result<Vec<Option<Self>>, ModelError> {
        let Some(reading) = config
            .reading
            .as_ref()
            .filter(|_| config.cameras.iter().any(|c| c.read_numbers))
        else {
            return Ok((0..config.workers).map(|_| None).collect());
        };
        let (finder, speller) = (Model::load(&reading.finder)?, Model::load(&reading.speller)?);
        let reads_numbers = |model: &Model| ModelDescriptor {
            labels: vec![Label::small_ad()],
            ..describe(model, runtime)
        };
        let models: Arc<[ModelDescriptor]> = [reads_numbers(&speller), reads_numbers(&finder)].into();
        (0..config.workers)
            .map(|_| {
                Ok(Some(Self {
                    reader: Reader::new(runtime, &finder, &speller)?,
                    models: Arc::clone(&models),
                }))
            })
            .collect()
    }

    /// Reads the numbers in the view's parts; returns them as detections, with the models that read them.
    pub(super) fn read(
        &mut self,
        schedule: &ReadSchedule,
        at: Timestamp,
        frame: &Frame,
    ) -> Result<(impl Iterator<Item = Detection>, &[ModelDescriptor]), ModelError> {
        // A failed reading waits for the next scheduled one, too: it would fail on every look in between.
        schedule.last.store(at.as_millisecond(), Ordering::Relaxed);
        let start = Instant::now();
        let found = self.reader.read(frame, &schedule.parts)?;
        let model = self.reader.manifests()[1].id.clone();
        histogram!(metric::DETECT, "model" => model).record(start.elapsed());
        Ok((found.into_iter().map(NumberReading::detection), &self.models))
    }
}

impl ReadSchedule {
    /// The preset's schedule; `None` if it is not read.
    pub(super) fn of(config: &Config, camera: &config::Camera, preset: &config::Preset) -> Option<Self> {
        let every = config.reading.as_ref().filter(|_| camera.read_numbers)?.every;
        let small_ad = Label::small_ad();
        let rules = config.plan.rules.iter().filter(|r| r.labels.contains(&small_ad));
        let zones = config.plan.cameras.get(&preset.view).map(|c| c.zones.as_slice());
        let mut parts = Vec::new();
        for rule in rules {
            let is_watched =
                |z: &&Zone| z.kind == ZoneKind::Watch && (z.rules.is_empty() || z.rules.contains(&rule.id));
            let watched = zones.unwrap_or_default().iter().filter(is_watched);
            let before = parts.len();
            parts.extend(watched.map(|z| part_around(&z.polygon)));
            if parts.len() == before {
                // The rule has no zone: it watches the whole picture.
                parts.clear();
                break;
            }
        }
        parts.dedup();
        Some(Self {
            every,
            parts,
            last: AtomicI64::new(i64::MIN),
        })
    }

    /// True if a look at `at` is to be read: the interval is over, or the clock was set back.
    pub(super) fn is_due(&self, at: Timestamp) -> bool {
        let since = at.as_millisecond().checked_sub(self.last.load(Ordering::Relaxed));
        since.is_none_or(|ms| ms < 0 || ms >= i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX))
    }
}

fn part_around(polygon: &[Point]) -> BBox {
    let extreme = |of: fn(&Point) -> f64, pick: fn(f64, f64) -> f64| {
        let value = polygon.iter().map(of).reduce(pick);
        value.unwrap_or_default() as f32
    };
    BBox {
        x1: (extreme(|p| p.x, f64::min) - MARGIN).max(0.0),
        y1: (extreme(|p| p.y, f64::min) - MARGIN).max(0.0),
        x2: (extreme(|p| p.x, f64::max) + MARGIN).min(1.0),
        y2: (extreme(|p| p.y, f64::max) + MARGIN).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_due_after_its_interval_or_when_the_clock_goes_back() {
        let schedule = ReadSchedule {
            every: Duration::from_secs(600),
            parts: Vec::new(),
            last: AtomicI64::new(i64::MIN),
        };
        let at = |s: i64| Timestamp::from_second(1_750_000_000 + s).unwrap();
        assert!(schedule.is_due(at(0)), "never read");
        schedule.last.store(at(0).as_millisecond(), Ordering::Relaxed);
        assert!(!schedule.is_due(at(599)));
        assert!(schedule.is_due(at(600)));
        assert!(schedule.is_due(at(-1)), "the clock was set back");
    }

    #[test]
    fn a_part_is_the_zone_with_a_margin_within_the_picture() {
        let corner = |x, y| Point { x, y };
        let part = part_around(&[corner(0.05, 0.3), corner(0.5, 0.25), corner(0.4, 0.95)]);
        assert_eq!((part.x1, part.y2), (0.0, 1.0));
        assert!((part.x2 - 0.6).abs() < 1e-6 && (part.y1 - 0.15).abs() < 1e-6);
    }
}
