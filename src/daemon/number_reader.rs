//! Reading telephone numbers at a pace of their own: when a look is one that reads, and where in the picture.
//!
//! Reading costs more than all other models together, and what it is for hangs for hours; so most looks do not read, and say so
//! ([`Observation::not_searched`](gridwatch_engine::Observation)).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use metrics::histogram;

use super::{models::known, record::KnownModel};
use gridwatch_base::metric;
use gridwatch_config as config;
use gridwatch_config::Config;
use gridwatch_engine::{BBox, Detection, Label, Point, Zone, ZoneKind};
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelError, Reading, Runtime, ocr::reader::Reader};

/// One worker's reader, and what cases say of its models.
pub(super) struct NumberReader {
    reader: Reader,
    /// The speller first: a case names it as its model, the finder beside it.
    known: Arc<[KnownModel]>,
}

/// When and where one view is read.
pub(super) struct ReadSchedule {
    every: Duration,
    /// Parts of the picture; none: all of it.
    parts: Vec<BBox>,
    /// Unix milliseconds of the newest look that read, or tried to; `i64::MIN` before the first.
    last: AtomicI64,
}

/// A number that reaches out of what is read is left out, so there is room around the zones, as a share of the picture.
const ROOM: f32 = 0.1;

impl NumberReader {
    /// A pair for each worker; none where nothing is read.
    pub(super) fn make(config: &Config, runtime: &Runtime) -> Result<Vec<Option<Self>>, ModelError> {
        let Some(reading) = config
            .reading
            .as_ref()
            .filter(|_| config.cameras.iter().any(|c| c.reads))
        else {
            return Ok((0..config.workers).map(|_| None).collect());
        };
        let (finder, speller) = (Model::load(&reading.finder)?, Model::load(&reading.speller)?);
        let named = |model: &Model| KnownModel {
            labels: vec![Label::small_ad()],
            ..known(model, runtime)
        };
        let known: Arc<[KnownModel]> = [named(&speller), named(&finder)].into();
        (0..config.workers)
            .map(|_| {
                Ok(Some(Self {
                    reader: Reader::new(runtime, &finder, &speller)?,
                    known: Arc::clone(&known),
                }))
            })
            .collect()
    }

    /// What is written there, and who read it.
    pub(super) fn read(
        &mut self,
        pace: &ReadSchedule,
        at: Timestamp,
        frame: &Frame,
    ) -> Result<(impl Iterator<Item = Detection>, &[KnownModel]), ModelError> {
        // One that fails waits for its next time, too: it would fail at every look in between.
        pace.last.store(at.as_millisecond(), Ordering::Relaxed);
        let start = Instant::now();
        let found = self.reader.read(frame, &pace.parts)?;
        let model = self.reader.manifests()[1].id.clone();
        histogram!(metric::DETECT, "model" => model).record(start.elapsed());
        Ok((found.into_iter().map(Reading::detection), &self.known))
    }
}

impl ReadSchedule {
    /// How the view is read; `None` where it is not.
    pub(super) fn of(config: &Config, camera: &config::Camera, preset: &config::Preset) -> Option<Self> {
        let every = config.reading.as_ref().filter(|_| camera.reads)?.every;
        let small_ad = Label::small_ad();
        let rules = config.plan.rules.iter().filter(|r| r.labels.contains(&small_ad));
        let zones = config.plan.cameras.get(&preset.view).map(|c| c.zones.as_slice());
        let mut parts = Vec::new();
        for rule in rules {
            let is_watched =
                |z: &&Zone| z.kind == ZoneKind::Watch && (z.rules.is_empty() || z.rules.contains(&rule.id));
            let watched = zones.unwrap_or_default().iter().filter(is_watched);
            let before = parts.len();
            parts.extend(watched.map(|z| around(&z.polygon)));
            if parts.len() == before {
                // This rule watches the whole picture.
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

    /// True where a look at `at` reads: its time has come, or the clock was set back.
    pub(super) fn is_due(&self, at: Timestamp) -> bool {
        let since = at.as_millisecond().checked_sub(self.last.load(Ordering::Relaxed));
        since.is_none_or(|ms| ms < 0 || ms >= i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX))
    }
}

fn around(polygon: &[Point]) -> BBox {
    let reach = |of: fn(&Point) -> f64, pick: fn(f64, f64) -> f64| {
        let reached = polygon.iter().map(of).reduce(pick);
        reached.unwrap_or_default() as f32
    };
    BBox {
        x1: (reach(|p| p.x, f64::min) - ROOM).max(0.0),
        y1: (reach(|p| p.y, f64::min) - ROOM).max(0.0),
        x2: (reach(|p| p.x, f64::max) + ROOM).min(1.0),
        y2: (reach(|p| p.y, f64::max) + ROOM).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_read_at_its_pace_whatever_the_clock_does() {
        let pace = ReadSchedule {
            every: Duration::from_secs(600),
            parts: Vec::new(),
            last: AtomicI64::new(i64::MIN),
        };
        let at = |s: i64| Timestamp::from_second(1_750_000_000 + s).unwrap();
        assert!(pace.is_due(at(0)), "never read");
        pace.last.store(at(0).as_millisecond(), Ordering::Relaxed);
        assert!(!pace.is_due(at(599)));
        assert!(pace.is_due(at(600)));
        assert!(pace.is_due(at(-1)), "the clock was set back");
    }

    #[test]
    fn there_is_room_around_a_zone_within_the_picture() {
        let corner = |x, y| Point { x, y };
        let part = around(&[corner(0.05, 0.3), corner(0.5, 0.25), corner(0.4, 0.95)]);
        assert_eq!((part.x1, part.y2), (0.0, 1.0));
        assert!((part.x2 - 0.6).abs() < 1e-6 && (part.y1 - 0.15).abs() < 1e-6);
    }
}
