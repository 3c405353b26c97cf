//! Looks at pictures and judges them, and chooses those that the report shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    thread,
};

use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use jiff::Timestamp;

use super::{
    report::{CaseRow, LabelRow, ModelRow, PictureRow, Report},
    unwritable,
};
use crate::cli::{Failure, overlay, private};
use gridwatch_base::error::Class;
use gridwatch_config::{Config, raw};
use gridwatch_engine::{Case, Detection, Effect, Engine, Input, Light, Observation, View};
use gridwatch_evidence::{self as evidence, Settings};
use gridwatch_frame::Frame;
use gridwatch_model::{Model, ModelSet, Options, Runtime, TiledDetector};
use gridwatch_vision::Health;

/// The id of the only camera.
pub(super) const CAMERA: &str = "camera";

/// Pictures in the report, besides two of each case.
const SHOWN: usize = 6;
/// Cases with pictures in the report.
const SHOWN_CASES: usize = 10;
/// Detections below this score are left out of the report: the lowest `keep_score` of the rules, below which nothing counts.
pub(in crate::cli) const SHOWN_SCORE: f32 = 0.3;
/// Quality at which pictures are held in memory.
const HELD_QUALITY: u8 = 90;

/// When or where a picture was taken, as the report names it.
#[derive(Debug, Clone)]
pub(super) enum LookTime {
    /// By the box's clock.
    Clock(Timestamp),
    /// Seconds into the clip.
    InClip(f64),
    /// The picture's file.
    File(String),
}

/// One look.
struct Look {
    at: Timestamp,
    time: LookTime,
    view: View,
    detections: Vec<Detection>,
    jpeg: Vec<u8>,
}

/// The looks so far, the models and the engine.
pub(super) struct Trial<'a> {
    config: &'a Config,
    runtime: Runtime,
    models: ModelSet,
    /// For each model: looks with each label, and its best score.
    found: Vec<BTreeMap<String, (u32, f32)>>,
    health: Health,
    engine: Engine,
    looks: Vec<Look>,
    cases: Vec<Case>,
    not_filed: BTreeMap<&'static str, u32>,
    size: (u32, u32),
}

impl<'a> Trial<'a> {
    pub(super) fn new(config: &'a Config, models: &[Model], runtime: &Runtime) -> Result<Self, Failure> {
        let threads = thread::available_parallelism()
            .ok()
            .and_then(|n| u16::try_from(n.get().min(8)).ok());
        let runtime = runtime.clone().with(Options {
            threads,
            ..Options::default()
        });
        let mut engine = Engine::new();
        engine.apply(Input::Configured(Arc::clone(&config.plan)));
        Ok(Self {
            config,
            models: ModelSet::new(&runtime, models)?,
            runtime,
            found: vec![BTreeMap::new(); models.len()],
            health: Health::new(config.view.clone()),
            engine,
            looks: Vec::new(),
            cases: Vec::new(),
            not_filed: BTreeMap::new(),
            size: (0, 0),
        })
    }

    /// Looks at a camera's next picture and judges what stays.
    pub(super) fn look(&mut self, frame: Frame, time: LookTime) -> Result<(), Failure> {
        let at = frame.captured_at;
        let view = self
            .health
            .judge(&frame)
            .map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let detections = self.search(frame, time, view)?;
        let effects = self.engine.apply(Input::Observed(Observation {
            camera: CAMERA.into(),
            at,
            view,
            light: Light::Day,
            detections,
            not_searched: Vec::new(),
        }));
        for effect in effects {
            match effect {
                Effect::Open(case) => self.cases.push(*case),
                Effect::NotFiled { reason, .. } => *self.not_filed.entry(reason.as_str()).or_default() += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// Searches one picture of its own.
    pub(super) fn search_only(&mut self, frame: Frame, time: LookTime) -> Result<(), Failure> {
        self.search(frame, time, View::Clear).map(drop)
    }

    /// Runs the models on a frame and keeps it; a view that cannot be judged is not searched.
    fn search(&mut self, frame: Frame, time: LookTime, view: View) -> Result<Vec<Detection>, Failure> {
        let mut detections = Vec::new();
        if view == View::Clear {
            let mut input = self.models.input(&frame);
            for (i, found) in self.found.iter_mut().enumerate() {
                let of_model = input.detect(i)?;
                let labels: BTreeSet<&str> = of_model.iter().filter(is_shown).map(|d| d.label.as_str()).collect();
                for label in labels {
                    let of_label = of_model.iter().filter(|d| d.label.as_str() == label);
                    let best = of_label.map(|d| d.score).fold(0.0, f32::max);
                    let (looks, score) = found.entry(label.to_owned()).or_default();
                    (*looks, *score) = (*looks + 1, score.max(best));
                }
                detections.extend(of_model);
            }
        }
        for detection in &mut detections {
            detection.appearance = frame.appearance(&detection.bbox);
        }
        self.size = (frame.width, frame.height);
        let picture = frame.to_rgb().map_err(|e| Failure::new(e.class(), e.to_string()))?;
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, HELD_QUALITY)
            .encode_image(&picture)
            .map_err(|e| Failure::new(Class::Bug, format!("cannot hold a picture: {e}")))?;
        self.looks.push(Look {
            at: frame.captured_at,
            time,
            view,
            detections: detections.clone(),
            jpeg,
        });
        Ok(detections)
    }

    /// Whether there is anything to report.
    pub(super) fn has_looks(&self) -> bool {
        !self.looks.is_empty()
    }

    /// Writes the pictures to `out`, and returns the report.
    pub(super) fn finish(
        self,
        out: &Path,
        source: &str,
        dwell: raw::Span,
        ended_early: Option<String>,
    ) -> Result<Report, Failure> {
        if self.looks.is_empty() {
            return Err(Failure::new(Class::Data, format!("{source}: no picture in it")));
        }
        let mut pictures = Pictures::new(self.config, &self.runtime, out)?;
        let find = |at: Timestamp| self.looks.iter().position(|look| look.at == at);
        let mut cases = Vec::new();
        for (i, case) in self.cases.iter().enumerate() {
            let mut shown = Vec::new();
            for (at, bbox) in [
                (case.first_seen_at, case.first_box),
                (case.confirmed_at, case.confirmed_box),
            ] {
                if i < SHOWN_CASES
                    && let Some(look) = find(at)
                {
                    let object = Detection::new(case.rule.as_str(), case.confidence, bbox);
                    shown.push(pictures.write(
                        &self.looks[look],
                        &format!("case-{}-{}", i + 1, shown.len() + 1),
                        &[object],
                    )?);
                }
            }
            cases.push(CaseRow::new(case, shown));
        }
        let mut shown = Vec::new();
        for look in self.most_found() {
            let look = &self.looks[look];
            let found: Vec<Detection> = look.detections.iter().filter(is_shown).cloned().collect();
            shown.push(pictures.write(look, &format!("look-{}", shown.len() + 1), &found)?);
        }
        Ok(Report {
            source: source.to_owned(),
            width: self.size.0,
            height: self.size.1,
            looks: self.looks.len(),
            unclear: self.looks.iter().filter(|look| look.view != View::Clear).count(),
            ended_early,
            judged: !matches!(self.looks[0].time, LookTime::File(_)),
            dwell: dwell.to_string(),
            models: (0..self.found.len())
                .map(|i| ModelRow::new(&self.models.manifest(i).id, &self.found[i]))
                .collect(),
            cases,
            candidates: self.engine.candidates().map(|c| c.rule.id.to_string()).collect(),
            not_filed: self
                .not_filed
                .iter()
                .map(|(reason, n)| ((*reason).to_owned(), *n))
                .collect(),
            pictures: shown,
        })
    }

    /// Up to [`SHOWN`] looks, spread over the time, each the one in its part in which most was found.
    fn most_found(&self) -> Vec<usize> {
        let parts = self.looks.len().min(SHOWN);
        let bounds: Vec<usize> = (0..=parts).map(|i| i * self.looks.len() / parts.max(1)).collect();
        let found = |i: usize| self.looks[i].detections.iter().filter(is_shown).count();
        let best = |range: std::ops::Range<usize>| range.max_by_key(|i| (found(*i), std::cmp::Reverse(*i)));
        bounds.windows(2).filter_map(|part| best(part[0]..part[1])).collect()
    }
}

fn is_shown(detection: &&Detection) -> bool {
    detection.score >= SHOWN_SCORE
}

/// Writes pictures, masked as evidence is.
struct Pictures<'a> {
    out: &'a Path,
    mask: TiledDetector,
    settings: Settings,
}

impl<'a> Pictures<'a> {
    fn new(config: &Config, runtime: &Runtime, out: &'a Path) -> Result<Self, Failure> {
        let models = config.evidence.mask_models.iter().map(|dir| Model::load(dir));
        Ok(Self {
            out,
            mask: TiledDetector::new(runtime, &models.collect::<Result<Vec<_>, _>>()?)?,
            settings: Settings {
                jpeg_quality: config.evidence.jpeg_quality,
                max_bytes: config.evidence.max_picture_bytes,
                min_interval: config.evidence.min_interval,
                mask: true,
                finds_persons: true,
                privacy: Vec::new(),
            },
        })
    }

    /// Masks the look's picture, draws `boxes` into it, and writes it as `<name>.jpg`.
    fn write(&mut self, look: &Look, name: &str, boxes: &[Detection]) -> Result<PictureRow, Failure> {
        let bug = |e: &dyn std::fmt::Display| Failure::new(Class::Bug, format!("{name}: {e}"));
        let decode = |jpeg: &[u8]| -> Result<RgbImage, Failure> {
            Ok(image::load_from_memory_with_format(jpeg, ImageFormat::Jpeg)
                .map_err(|e| bug(&e))?
                .into_rgb8())
        };
        let frame = Frame::from_rgb(&decode(&look.jpeg)?, look.at).map_err(|e| bug(&e))?;
        let mut found = self.mask.detect(&frame)?;
        found.extend(look.detections.iter().cloned());
        let preview = evidence::preview(&frame, &found, &self.settings)?;
        let mut picture = decode(&preview.picture.jpeg)?;
        overlay::draw(&mut picture, boxes);
        let file = format!("{name}.jpg");
        let path = self.out.join(&file);
        private::save_picture(&picture, ImageFormat::Jpeg, &path).map_err(|e| unwritable(&path, &e))?;
        Ok(PictureRow {
            file,
            time: look.time.clone().into(),
            view: crate::daemon::view_name(look.view),
            labels: LabelRow::of(look.detections.iter().filter(is_shown)),
        })
    }
}
