//! Reads text: on a schedule of its own, within the zones of the rules that need it, and in second looks.
//!
//! Reading costs more than all other models together, and small ads hang for hours; so most looks skip it, which the look
//! states in [`Observation::not_searched`](gridwatch_engine::Observation). What several looks read in one place is voted on.

use std::{
    collections::BTreeMap,
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
use gridwatch_config::{Config, OcrSettings};
use gridwatch_engine::{BBox, Detection, Label, Point, Rule, RuleId, Zone, ZoneKind};
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelError, Runtime,
    ocr::{
        Phrasebook, Reader, WallText, adverts,
        second_look::{TextLook, TextNeeded, ViewTexts},
    },
};

/// One worker's reader and the descriptors of its models.
pub(super) struct TextReader {
    reader: Reader,
    /// The recogniser first, since a case names the first as its model and the others beside it.
    models: Arc<[ModelDescriptor]>,
}

/// What text is looked for.
pub(super) struct TextRules {
    phrasebook: Phrasebook,
    /// The rules whose second look reads text: their labels and the text that they need.
    second_looks: BTreeMap<RuleId, (Vec<Label>, TextNeeded)>,
}

/// A second look at one place.
pub(super) struct PlaceLook<'a> {
    pub(super) view: &'a ViewText,
    pub(super) at: Timestamp,
    pub(super) frame: &'a Frame,
    /// The rule that asks for it.
    pub(super) rule: &'a RuleId,
    pub(super) place: &'a BBox,
}

/// The text of one view: when and where it is read, and what was read.
pub(super) struct ViewText {
    /// `None`: only read in second looks.
    pub(super) schedule: Option<ReadSchedule>,
    texts: Arc<ViewTexts>,
}

/// When and where one view is read.
pub(super) struct ReadSchedule {
    every: Duration,
    /// Parts of the picture to read; empty: all of it.
    parts: Vec<BBox>,
    /// Capture time of the newest look that was read or tried, Unix milliseconds; `i64::MIN` before the first.
    last: AtomicI64,
}

/// Margin around a zone, as a fraction of the picture: text that is cut off by the part's edge is not read.
const MARGIN: f32 = 0.1;

impl TextReader {
    /// A reader for each worker; `None`s if nothing is read.
    pub(super) fn for_workers(config: &Config, runtime: &Runtime) -> Result<Vec<Option<Self>>, ModelError> {
        let Some(reading) = needed(config) else {
            return Ok((0..config.workers).map(|_| None).collect());
        };
        let (finder, speller) = (Model::load(&reading.finder)?, Model::load(&reading.speller)?);
        let reads_text = |model: &Model| ModelDescriptor {
            labels: Label::of_text().into(),
            ..describe(model, runtime)
        };
        let models: Arc<[ModelDescriptor]> = [reads_text(&speller), reads_text(&finder)].into();
        (0..config.workers)
            .map(|_| {
                Ok(Some(Self {
                    reader: Reader::new(runtime, &finder, &speller)?,
                    models: Arc::clone(&models),
                }))
            })
            .collect()
    }

    /// Reads the adverts in the view's parts; returns them as detections, with the models that read them.
    pub(super) fn read(
        &mut self,
        rules: &TextRules,
        view: &ViewText,
        schedule: &ReadSchedule,
        at: Timestamp,
        frame: &Frame,
    ) -> Result<(impl Iterator<Item = Detection>, &[ModelDescriptor]), ModelError> {
        // A failed reading waits for the next scheduled one, too: it would fail on every look in between.
        schedule.last.store(at.as_millisecond(), Ordering::Relaxed);
        let start = Instant::now();
        let lines = self.reader.lines(frame, &schedule.parts)?;
        let lines = view.texts.vote(at, lines);
        let found = adverts::find(&lines, &rules.phrasebook, self.reader.floor());
        let model = self.reader.manifests()[1].id.clone();
        histogram!(metric::DETECT, "model" => model).record(start.elapsed());
        Ok((found.into_iter().filter_map(WallText::detection), &self.models))
    }

    /// Reads the text at a place for the second look of a rule, if that rule reads text: sets the text and the second-look score of the
    /// detections in `found` at that place. Returns the models used. See [`TextLook::read`].
    pub(super) fn second_look_at(
        &mut self,
        rules: &TextRules,
        look: PlaceLook<'_>,
        found: &mut [Detection],
    ) -> Result<&[ModelDescriptor], ModelError> {
        let PlaceLook {
            view,
            at,
            frame,
            rule,
            place,
        } = look;
        let Some((labels, needed)) = rules.second_looks.get(rule) else {
            return Ok(&[]);
        };
        let start = Instant::now();
        let look = TextLook {
            at,
            place,
            rule,
            labels,
            needed: *needed,
        };
        if !look.read(&mut self.reader, &rules.phrasebook, &view.texts, frame, found)? {
            return Ok(&[]);
        }
        let model = self.reader.manifests()[1].id.clone();
        histogram!(metric::SECOND_LOOK, "model" => model).record(start.elapsed());
        Ok(&self.models)
    }
}

/// The settings of reading, if anything is read.
fn needed(config: &Config) -> Option<&OcrSettings> {
    let is_needed = !config.text_looks.is_empty() || config.cameras.iter().any(|c| c.read_numbers);
    config.reading.as_ref().filter(|_| is_needed)
}

/// True if the readers made for one configuration do for the other.
pub(super) fn are_same_readers(a: &Config, b: &Config) -> bool {
    let models = |config: &Config| needed(config).map(|r| (r.finder.clone(), r.speller.clone()));
    a.inference == b.inference && models(a) == models(b)
}

impl TextRules {
    /// What text `config` looks for; `None` if nothing is read.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let of_rule = |rule: &Rule| {
            let needed = config.text_looks.get(&rule.id)?;
            Some((rule.id.clone(), (rule.labels.clone(), *needed)))
        };
        Some(Self {
            phrasebook: needed(config)?.phrasebook.clone(),
            second_looks: config.plan.rules.iter().filter_map(of_rule).collect(),
        })
    }
}

impl ViewText {
    /// The text of a preset; what was read with the configuration before is kept.
    pub(super) fn of(config: &Config, camera: &config::Camera, preset: &config::Preset, before: Option<&Self>) -> Self {
        let schedule = ReadSchedule::of(config, camera, preset);
        if let (Some(new), Some(old)) = (&schedule, before.and_then(|b| b.schedule.as_ref())) {
            new.last.store(old.last.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        Self {
            schedule,
            texts: before.map_or_else(Arc::default, |b| Arc::clone(&b.texts)),
        }
    }
}

impl ReadSchedule {
    /// The preset's schedule; `None` if it is not read.
    fn of(config: &Config, camera: &config::Camera, preset: &config::Preset) -> Option<Self> {
        let every = config.reading.as_ref().filter(|_| camera.read_numbers)?.every;
        let of_text = Label::of_text();
        let rules = config
            .plan
            .rules
            .iter()
            .filter(|r| r.labels.iter().any(|l| of_text.contains(l)));
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
    use std::path::Path;

    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// A reader with the shipped models and words, for the second looks of the rule `wall`, whose label is `flyer`.
    fn reader(needed: TextNeeded) -> (TextReader, TextRules) {
        let runtime = gridwatch_model::runtime::init(None).unwrap();
        let model = |name: &str| Model::load(&root().join("models").join(name)).unwrap();
        let (finder, speller) = (model("ppocr_v6_text_det"), model("ppocr_v6_rec"));
        let reader = TextReader {
            reader: Reader::new(&runtime, &finder, &speller).unwrap(),
            models: [describe(&speller, &runtime)].into(),
        };
        let rules = TextRules {
            phrasebook: gridwatch_config::read_adverts(&root().join("configs/adverts/default.toml")).unwrap(),
            second_looks: [("wall".into(), (vec!["flyer".into()], needed))].into(),
        };
        (reader, rules)
    }

    fn view() -> ViewText {
        ViewText {
            schedule: None,
            texts: Arc::default(),
        }
    }

    fn frame(name: &str) -> Frame {
        let picture = image::open(root().join("tests/fixtures/reading").join(name)).unwrap();
        Frame::from_rgb(&picture.into_rgb8(), Timestamp::UNIX_EPOCH).unwrap()
    }

    /// What the second look of `rule` at the ad in zh-2.jpg, or at a window beside it, finds at `seconds`.
    fn look(
        reader: &mut (TextReader, TextRules),
        view: &ViewText,
        seconds: i64,
        rule: &str,
        place: BBox,
    ) -> (Detection, usize) {
        let mut found = [Detection::new("flyer", 0.6, place)];
        let models = read(reader, view, seconds, rule, &mut found);
        let [detection] = found;
        (detection, models)
    }

    fn read(
        (reader, rules): &mut (TextReader, TextRules),
        view: &ViewText,
        seconds: i64,
        rule: &str,
        found: &mut [Detection],
    ) -> usize {
        let place = found[0].bbox;
        let look = PlaceLook {
            view,
            at: Timestamp::from_second(1_750_000_000 + seconds).unwrap(),
            frame: &frame("zh-2.jpg"),
            rule: &rule.into(),
            place: &place,
        };
        reader.second_look_at(rules, look, found).unwrap().len()
    }

    fn score(detection: &Detection) -> Option<f32> {
        detection.second_look_for(&"wall".into())
    }

    const AD: BBox = BBox {
        x1: 0.34,
        y1: 0.13,
        x2: 0.62,
        y2: 0.45,
    };

    #[test]
    fn a_second_look_reads_the_text_and_decides_after_two_looks() {
        let (mut reader, view) = (reader(TextNeeded::SmallAd), view());
        let (first, models) = look(&mut reader, &view, 0, "wall", AD);
        assert_eq!(
            (score(&first), first.text, models),
            (None, None, 1),
            "one look is no vote"
        );
        // The same look for another rule adds no vote.
        assert_eq!(score(&look(&mut reader, &view, 0, "wall", AD).0), None);
        let (second, _) = look(&mut reader, &view, 10, "wall", AD);
        assert!(score(&second).unwrap() > 0.8, "{second:?}");
        let text = second.text.unwrap();
        assert!(text.text.as_str().ends_with("VXmqhbgb113099"), "{text:?}");
    }

    #[test]
    fn a_text_that_the_rule_does_not_need_scores_zero_and_a_rule_without_text_is_left_alone() {
        let nowhere = BBox {
            x1: 0.02,
            x2: 0.06,
            y1: 0.02,
            y2: 0.06,
        };
        for place in [AD, nowhere] {
            let (mut reader, view) = (reader(TextNeeded::Banner), view());
            let scores: Vec<Option<f32>> = (0..4)
                .map(|i| score(&look(&mut reader, &view, 10 * i, "wall", place).0))
                .collect();
            assert_eq!(scores, [None, None, None, Some(0.0)]);
            let (other, models) = look(&mut reader, &view, 50, "garbage", place);
            assert_eq!((other.second_looks.len(), other.text, models), (0, None, 0));
        }
    }

    #[test]
    fn the_score_of_a_models_second_look_stays_if_the_text_is_what_the_rule_needs() {
        let (mut reader, view) = (reader(TextNeeded::Advert), view());
        look(&mut reader, &view, 0, "wall", AD);
        let mut found = [Detection::new("flyer", 0.6, AD)];
        found[0].set_second_look(&"wall".into(), 0.4);
        read(&mut reader, &view, 10, "wall", &mut found);
        assert_eq!(score(&found[0]), Some(0.4));
    }

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
