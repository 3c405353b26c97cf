//! What a box does with a look: models, change map, close looks, second looks, engine.

use std::{collections::BTreeMap, sync::Arc};

use image::RgbImage;
use jiff::{SignedDuration, Timestamp, civil};

use super::Filed;
use gridwatch_config::{Config, OcrSettings};
use gridwatch_engine::{
    ApprovedSign, BBox, CameraId, Detection, Effect, Engine, Input, Label, Light, Observation, Plan, Rule, RuleId, View,
};
use gridwatch_frame::Frame;
use gridwatch_model::{
    Model, ModelError, ModelSet, Options, Runtime,
    ocr::{
        Phrasebook, Reader,
        second_look::{TextLook, TextNeeded, ViewTexts},
    },
    runtime,
    second_look::SecondLook,
};
use gridwatch_vision::change::{ChangeBuffers, ChangeMap, ChangeSettings, ChangeState, CloseLooks, occupants};

/// What a street is judged with.
pub struct Setup {
    plan: Arc<Plan>,
    camera: CameraId,
    change: Option<ChangeSettings>,
    models: Vec<Model>,
    reading: Option<OcrSettings>,
    text_looks: BTreeMap<RuleId, TextNeeded>,
    runtime: Runtime,
}

/// Why streets cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The configuration has no camera.
    #[error("the configuration has no camera")]
    NoCamera,
    /// ONNX Runtime cannot be loaded.
    #[error(transparent)]
    Library(#[from] runtime::LibraryError),
    /// A model cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Setup {
    /// Judges by the rules and models of `config`, for its first camera, with `threads` for each inference.
    ///
    /// # Errors
    /// See [`SetupError`].
    pub fn new(config: &Config, threads: u16) -> Result<Self, SetupError> {
        let camera = config.cameras.first().ok_or(SetupError::NoCamera)?;
        Ok(Self {
            plan: Arc::clone(&config.plan),
            camera: camera.presets.first().ok_or(SetupError::NoCamera)?.view.clone(),
            change: camera.change,
            models: config
                .models
                .iter()
                .map(|m| Model::load(&m.dir))
                .collect::<Result<_, _>>()?,
            reading: config.reading.clone(),
            text_looks: config.text_looks.clone(),
            runtime: runtime::init(None)?.with(Options {
                threads: Some(threads),
                ..Options::default()
            }),
        })
    }
}

impl Setup {
    /// The reader of text, with the words of adverts, if a rule reads text.
    fn reader(&self) -> Result<Option<(Reader, &Phrasebook)>, ModelError> {
        let Some(reading) = self.reading.as_ref().filter(|_| !self.text_looks.is_empty()) else {
            return Ok(None);
        };
        let (finder, speller) = (Model::load(&reading.finder)?, Model::load(&reading.speller)?);
        Ok(Some((
            Reader::new(&self.runtime, &finder, &speller)?,
            &reading.phrasebook,
        )))
    }

    /// True if a model detects one of the rule's labels, and so can take its second look.
    fn finds_label_of(&self, rule: &Rule) -> bool {
        let mut labels = self.models.iter().flat_map(|m| m.manifest().reported_labels());
        labels.any(|label| rule.labels.iter().any(|l| l.as_str() == label))
    }
}

/// The state of one street, and the models of all.
pub(super) struct Pipeline<'a> {
    setup: &'a Setup,
    models: ModelSet,
    reader: Option<(Reader, &'a Phrasebook)>,
    texts: ViewTexts,
    engine: Engine,
    at: Timestamp,
    map: Option<ChangeMap>,
    close_looks: CloseLooks,
    buffers: ChangeBuffers,
    second_looks: Vec<(RuleId, BBox)>,
    is_first: bool,
}

impl<'a> Pipeline<'a> {
    pub(super) fn new(setup: &'a Setup) -> Result<Self, ModelError> {
        Ok(Self {
            models: ModelSet::new(&setup.runtime, &setup.models)?,
            reader: setup.reader()?,
            texts: ViewTexts::default(),
            setup,
            engine: Engine::new(),
            at: Timestamp::UNIX_EPOCH,
            map: None,
            close_looks: CloseLooks::default(),
            buffers: ChangeBuffers::default(),
            second_looks: Vec::new(),
            is_first: true,
        })
    }

    /// Begins another street, at eleven in the morning.
    pub(super) fn start(&mut self) {
        let morning = civil::date(2026, 3, 10).at(11, 0, 0, 0).in_tz("Asia/Shanghai");
        self.at = morning.map_or(Timestamp::UNIX_EPOCH, |z| z.timestamp());
        self.engine = Engine::new();
        self.map = self.setup.change.map(ChangeMap::new);
        let labels = self.setup.plan.rules.iter().flat_map(|r| r.labels.iter().cloned());
        self.close_looks = CloseLooks::new(labels);
        self.texts = ViewTexts::default();
        self.second_looks.clear();
        self.is_first = true;
    }

    /// Judges the next look, `period` after the one before; returns the cases that it confirms.
    pub(super) fn look(&mut self, picture: &RgbImage, period: SignedDuration) -> Result<Vec<Filed>, ModelError> {
        let at = self.at + period;
        self.at = at;
        let frame = Frame::from_rgb(picture, self.at).expect("the canvas has a valid size");
        let mut found = self.detect(&frame)?;
        if std::mem::take(&mut self.is_first) {
            self.engine
                .apply(Input::Configured(self.plan_with_approved_signs(&found)));
        }
        let mut not_searched = Vec::new();
        if let Some(map) = &mut self.map {
            let look = map
                .look(&frame, &occupants(&found), &mut self.buffers)
                .expect("a valid frame");
            if look.state == ChangeState::Judged {
                let mut looks = std::mem::take(&mut self.close_looks);
                let mut error = None;
                looks.add(&look.regions, &mut found, |place| {
                    self.detect_in_crop(&frame, place).map_err(|e| error = Some(e)).ok()
                });
                self.close_looks = looks;
                if let Some(error) = error {
                    return Err(error);
                }
            } else {
                not_searched.push(Label::object());
            }
        }
        for (rule, place) in std::mem::take(&mut self.second_looks) {
            self.take_second_look(&frame, &rule, &place, &mut found)?;
        }
        for detection in &mut found {
            detection.appearance = frame.appearance(&detection.bbox);
            detection.newness = self.map.as_ref().and_then(|m| m.new_share(&detection.bbox));
        }
        let effects = self.engine.apply(Input::Observed(Observation {
            camera: self.setup.camera.clone(),
            at: self.at,
            view: View::Clear,
            light: Light::Day,
            detections: found,
            not_searched,
        }));
        Ok(self.carry_out(effects))
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Filed> {
        let mut filed = Vec::new();
        for effect in effects {
            match effect {
                Effect::SecondLook { rule, bbox, .. } => self.second_looks.push((rule, bbox)),
                Effect::Open(case) => filed.push(Filed {
                    category: case.category.code.clone(),
                    bbox: case.confirmed_box,
                }),
                _ => {}
            }
        }
        if !filed.is_empty()
            && let Some(map) = &mut self.map
        {
            map.hold(self.engine.open_cases().map(|c| c.bbox).collect());
        }
        filed
    }

    fn detect(&mut self, frame: &Frame) -> Result<Vec<Detection>, ModelError> {
        let mut input = self.models.input(frame);
        let mut found = Vec::new();
        for i in 0..self.setup.models.len() {
            found.extend(input.detect(i)?);
        }
        Ok(found)
    }

    fn detect_in_crop(&mut self, frame: &Frame, place: &BBox) -> Result<Vec<Detection>, ModelError> {
        match SecondLook::around(frame, place) {
            Some(crop) => Ok(crop.in_picture(self.detect(crop.crop())?)),
            None => Ok(Vec::new()),
        }
    }

    fn take_second_look(
        &mut self,
        frame: &Frame,
        rule: &RuleId,
        place: &BBox,
        found: &mut [Detection],
    ) -> Result<(), ModelError> {
        let plan = Arc::clone(&self.setup.plan);
        let Some(rule) = plan.rules.iter().find(|r| r.id == *rule) else {
            return Ok(());
        };
        let needed = self.setup.text_looks.get(&rule.id);
        if needed.is_none_or(|needed| *needed == TextNeeded::Any) && self.setup.finds_label_of(rule) {
            self.look_with_models(frame, rule, place, found)?;
        }
        if let (Some((reader, book)), Some(needed)) = (&mut self.reader, needed) {
            let look = TextLook {
                at: self.at,
                place,
                rule: &rule.id,
                labels: &rule.labels,
                needed: *needed,
            };
            look.read(reader, book, &self.texts, frame, found)?;
        }
        Ok(())
    }

    fn look_with_models(
        &mut self,
        frame: &Frame,
        rule: &Rule,
        place: &BBox,
        found: &mut [Detection],
    ) -> Result<(), ModelError> {
        let is_there = |d: &&mut Detection| rule.labels.contains(&d.label) && d.bbox.is_part_of(place);
        let score = match SecondLook::around(frame, place) {
            Some(crop) => Some(crop.score(&self.detect(crop.crop())?, &rule.labels)),
            None => None,
        };
        for detection in found.iter_mut().filter(is_there) {
            detection.set_second_look(&rule.id, score.unwrap_or(detection.score));
        }
        Ok(())
    }

    /// The plan, with the signs of the first look approved, as an operator does with a new camera.
    fn plan_with_approved_signs(&self, found: &[Detection]) -> Arc<Plan> {
        let mut plan = (*self.setup.plan).clone();
        let is_sign = |d: &&Detection| {
            let mut rules = plan.rules.iter().filter(|r| r.except_approved);
            rules.any(|r| r.labels.contains(&d.label))
        };
        let approved = found.iter().filter(is_sign).filter_map(|d| {
            Some(ApprovedSign {
                label: d.label.clone(),
                bbox: d.bbox.within_picture()?,
                number: None,
                text: None,
                valid: gridwatch_engine::Validity::ALWAYS,
            })
        });
        let approved = approved.collect();
        if let Some(camera) = plan.cameras.get_mut(&self.setup.camera) {
            camera.approved = Some(approved);
        }
        Arc::new(plan)
    }
}
