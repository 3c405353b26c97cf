//! One look: decoding, the view's health, the models, what is new, and what is written there.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use jiff::Timestamp;
use metrics::{counter, gauge, histogram};

use super::{CameraSet, WatchedCamera, view_name};
use crate::daemon::{
    look_board::{find_persons, make_thumbnail},
    messages::CoreEvent,
    models::WorkerModels,
    record::ModelDescriptor,
    text_reader::{PlaceLook, TextReader},
    view_monitor::Assessment,
};
use gridwatch_base::metric;
use gridwatch_camera::{
    Picture,
    decode::{DecodeError, Decoder},
    slot::CameraState,
};
use gridwatch_engine::{Detection, Label, Light, Observation, View, geometry};
use gridwatch_frame::Frame;
use gridwatch_vision as vision;
use gridwatch_vision::change::{ChangeBuffers, occupants};

/// One look in progress.
#[derive(Clone, Copy)]
pub(super) struct CurrentLook<'a> {
    pub(super) set: &'a CameraSet,
    /// A browser shows the newest looks.
    pub(super) is_watched: bool,
    pub(super) camera: &'a WatchedCamera,
    /// The picture's capture time.
    pub(super) at: Timestamp,
    /// The engine waits for this look.
    pub(super) is_requested: bool,
}

/// The detections of one look.
#[derive(Default)]
struct LookDetections {
    detections: Vec<Detection>,
    by: Arc<[ModelDescriptor]>,
    not_searched: Vec<Label>,
    /// Width and height of the frame; `None` if it was not decoded.
    size: Option<(u32, u32)>,
    /// For open pages of the console.
    thumbnail: Option<Bytes>,
}

/// What a worker takes over before its next look: what is given replaces what it has.
#[derive(Default)]
pub(in crate::daemon) struct WorkerUpdate {
    pub(in crate::daemon) decoder: Option<Decoder>,
    /// `Some(None)`: nothing is read any more.
    pub(in crate::daemon) text_reader: Option<Option<TextReader>>,
}

impl WorkerUpdate {
    /// Adds a later update.
    pub(super) fn add(&mut self, later: Self) {
        self.decoder = later.decoder.or(self.decoder.take());
        self.text_reader = later.text_reader.or(self.text_reader.take());
    }
}

/// One worker's decoder and models.
pub(in crate::daemon) struct LookWorker {
    pub(in crate::daemon) decoder: Decoder,
    pub(in crate::daemon) models: WorkerModels,
    /// `None` if nothing is read.
    pub(in crate::daemon) text_reader: Option<TextReader>,
    /// For the change maps of all cameras.
    pub(in crate::daemon) change_buffers: ChangeBuffers,
}

impl LookWorker {
    /// Takes over an update, and changed models.
    pub(super) fn update(&mut self, update: WorkerUpdate) {
        let WorkerUpdate { decoder, text_reader } = update;
        if let Some(decoder) = decoder {
            self.decoder = decoder;
        }
        if let Some(text_reader) = text_reader {
            self.text_reader = text_reader;
        }
        if !self.models.is_current() {
            self.models.update();
        }
    }

    /// Looks at one picture; `None` if the look tells the core nothing.
    pub(super) fn look(&mut self, look: CurrentLook<'_>, picture: Picture) -> Option<CoreEvent> {
        let CurrentLook { camera, at, .. } = look;
        let (assessment, found) = match self.search(look, &picture) {
            Ok(result) => result,
            Err(LookError::Decode(DecodeError::Damaged { .. })) => {
                camera.slot.count_damaged();
                count_failed(camera, "damaged");
                let damaged = Assessment {
                    view: View::Damaged,
                    light: Light::Day,
                    preset: camera.view_monitor().only_preset(),
                    reaimed: None,
                };
                (damaged, LookDetections::default())
            }
            Err(error) => {
                count_failed(camera, error.kind());
                // A fault that lasts is logged once.
                if note_decode_fault(camera, &error) {
                    tracing::warn!(camera = %camera.id, %error, "Look failed; continuing with the next one");
                }
                return None;
            }
        };
        camera.looked.looks.fetch_add(1, Ordering::Relaxed);
        camera.looked.last_look.store(at.as_millisecond(), Ordering::Relaxed);
        let Assessment {
            view,
            light,
            preset,
            reaimed,
        } = assessment;
        note_view(camera, view);
        if view == View::Clear && preset.is_some() {
            camera.looked.last_clear.store(at.as_millisecond(), Ordering::Relaxed);
        }
        let id = camera.id.to_string();
        let view_label = match (view, preset) {
            (View::Clear, None) => BETWEEN_PRESETS,
            _ => view_name(view),
        };
        counter!(metric::LOOKS, "camera" => id.clone(), "view" => view_label).increment(1);
        gauge!(metric::LAST_LOOK, "camera" => id).set(at.as_millisecond() as f64 / 1000.0);
        if let Some(camera) = reaimed {
            return Some(CoreEvent::Reaimed { camera, at });
        }
        // A blind look of a touring camera belongs to no preset; the engine sees the gap.
        let preset = camera.presets.get(preset?)?;
        Some(CoreEvent::Looked {
            observation: Observation {
                camera: preset.view.clone(),
                at,
                view,
                light,
                detections: found.detections,
                not_searched: found.not_searched,
            },
            picture,
            size: found.size,
            thumbnail: found.thumbnail,
            detected_by: found.by,
        })
    }

    fn search(&mut self, look: CurrentLook<'_>, picture: &Picture) -> Result<(Assessment, LookDetections), LookError> {
        let camera = look.camera;
        let frame = match picture {
            Picture::Keyframe(keyframe) => {
                let start = Instant::now();
                let decoded = self.decoder.decode(keyframe);
                camera
                    .slot
                    .report_decoding(decoded.as_ref().map(|_| ()).map_err(|e| e as _));
                let frame = Arc::new(decoded?);
                camera.slot.set_decode_fault(None);
                histogram!(metric::DECODE).record(start.elapsed());
                frame
            }
            Picture::Frame(frame) => Arc::clone(frame),
        };
        let assessment = camera.view_monitor().assess(&frame)?;
        let mut found = match assessment.preset {
            Some(preset) if assessment.view == View::Clear && preset < camera.presets.len() => {
                self.detect(look, preset, &frame)?
            }
            _ => LookDetections::default(),
        };
        found.size = Some((frame.width, frame.height));
        if let Some(preset) = assessment
            .preset
            .and_then(|preset| camera.presets.get(preset))
            .filter(|_| look.is_watched)
        {
            let finds_persons = find_persons(&found.by);
            // Open pages do without one that cannot be made.
            found.thumbnail = make_thumbnail(&frame, &found.detections, finds_persons, &preset.privacy).ok();
        }
        Ok((assessment, found))
    }

    fn detect(&mut self, look: CurrentLook<'_>, preset: usize, frame: &Frame) -> Result<LookDetections, LookError> {
        let CurrentLook {
            set,
            camera,
            at,
            is_requested,
            ..
        } = look;
        let (mut found, mut by) = self.models.detect(&camera.id, at, frame)?;
        let can_find_objects = self.look_at_changes(look, preset, frame, &mut found, &mut by);
        let view = preset;
        let preset = &camera.presets[preset];
        // A requested look decides, so text is read whatever the schedule.
        let schedule = preset.text.schedule.as_ref();
        let schedule = schedule.filter(|s| is_requested || s.is_due(at));
        let mut not_searched = Vec::new();
        if !can_find_objects {
            not_searched.push(Label::object());
        }
        let text_reader = self.text_reader.as_mut().zip(set.text.as_ref());
        match (text_reader, schedule) {
            (Some((reader, rules)), Some(schedule)) => {
                match reader.read(rules, &preset.text, schedule, at, frame) {
                    Ok((adverts, models)) => {
                        found.extend(adverts);
                        by = by.iter().chain(models).cloned().collect();
                    }
                    // The other models' detections count all the same.
                    Err(error) => {
                        tracing::warn!(camera = %camera.id, %error, "Reading text failed; retrying at the next scheduled reading");
                        not_searched.extend(Label::of_text());
                    }
                }
            }
            (Some(_), None) => not_searched.extend(Label::of_text()),
            (None, _) => {}
        }
        // Taken out first: the core adds to them under the same lock. Requests for another preset stay.
        let requests: Vec<_> = camera
            .looked
            .second_looks()
            .extract_if(.., |(view, ..)| *view == preset.view)
            .collect();
        for (_, rule, place) in requests {
            let seen = self.models.second_look_at(&camera.id, frame, &rule, &place, &mut found);
            let read = seen.and_then(|mut models| {
                if let (Some(reader), Some(rules)) = (&mut self.text_reader, &set.text) {
                    let look = PlaceLook {
                        view: &preset.text,
                        at,
                        frame,
                        rule: &rule,
                        place: &place,
                    };
                    models.extend_from_slice(reader.second_look_at(rules, look, &mut found)?);
                }
                Ok(models)
            });
            match read {
                Ok(models) => {
                    let new = models.into_iter().filter(|m| !by.contains(m)).collect::<Vec<_>>();
                    if !new.is_empty() {
                        by = by.iter().cloned().chain(new).collect();
                    }
                }
                // The engine asks again; it pauses after three unanswered requests, or files without.
                Err(error) => {
                    tracing::warn!(camera = %camera.id, %rule, %error, "Second look failed; the engine will request it again");
                }
            }
        }
        found.retain(|d| {
            !preset
                .privacy
                .iter()
                .any(|zone| geometry::side_of(zone, d.bbox.foot()) != geometry::Side::Outside)
        });
        for detection in &mut found {
            detection.appearance = frame.appearance(&detection.bbox);
        }
        camera.view_monitor().judge_newness(view, &mut found);
        Ok(LookDetections {
            detections: found,
            by,
            not_searched,
            ..LookDetections::default()
        })
    }
}

impl LookWorker {
    /// Compares the look with its view's background, and searches crops around what is new. False if the comparison was not possible;
    /// otherwise what found the unknown objects is added to `by`.
    fn look_at_changes(
        &mut self,
        look: CurrentLook<'_>,
        preset: usize,
        frame: &Frame,
        found: &mut Vec<Detection>,
        by: &mut Arc<[ModelDescriptor]>,
    ) -> bool {
        let camera = look.camera;
        let new_regions = &camera.presets[preset].new_regions;
        let changes = camera.view_monitor().look_for_changes(
            preset,
            frame,
            &occupants(found),
            new_regions,
            &mut self.change_buffers,
        );
        let has_searched = new_regions.add(changes.as_ref(), found, |place| {
            let seen = self.models.close_look_at(&camera.id, frame, place);
            seen.inspect_err(
                |error| tracing::warn!(camera = %camera.id, %error, "Cannot look closely at what is new; trying again later"),
            )
            .ok()
        });
        if let Some(change_map) = new_regions.searched_by(changes.as_ref()) {
            *by = by.iter().chain([change_map]).cloned().collect();
        }
        if let Some(changes) = &changes {
            let explain = |region: &_| new_regions.explanation(region, found);
            camera.view_monitor().publish_changes(preset, changes, look.at, explain);
        }
        has_searched && camera.view_monitor().knows_held(preset)
    }
}

/// Notes in the camera's state and counters why its picture was not decoded. True if the log should tell.
fn note_decode_fault(camera: &WatchedCamera, error: &LookError) -> bool {
    let LookError::Decode(error) = error else {
        return true;
    };
    let set_aside = |until: Timestamp| {
        camera.slot.set_decode_fault(Some(CameraState::SetAside {
            reason: "its keyframes ended three decode workers within an hour".into(),
            until,
        }))
    };
    match error {
        DecodeError::Unsupported { .. } => camera.slot.set_decode_fault(Some(CameraState::Unsupported {
            what: error.to_string(),
        })),
        DecodeError::Crashed { set_aside_until, .. } => {
            camera.slot.count_crash();
            if let Some(until) = set_aside_until {
                set_aside(*until);
            }
            true
        }
        DecodeError::SetAside { until, .. } => set_aside(*until),
        _ => true,
    }
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    View(#[from] vision::VisionError),
    #[error(transparent)]
    Model(#[from] gridwatch_model::ModelError),
}

impl LookError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Decode(DecodeError::Unsupported { .. }) => "unsupported",
            Self::Decode(DecodeError::Crashed { .. } | DecodeError::Known { .. }) => "decoder_crash",
            Self::Decode(DecodeError::SetAside { .. }) => "set_aside",
            Self::Decode(_) => "decode",
            Self::View(_) => "view",
            Self::Model(_) => "model",
        }
    }
}

fn count_failed(camera: &WatchedCamera, reason: &'static str) {
    counter!(metric::LOOKS_FAILED, "camera" => camera.id.to_string(), "reason" => reason).increment(1);
}

fn note_view(camera: &WatchedCamera, view: View) {
    let before = camera.looked.last_view().replace(view);
    match (before, view) {
        (Some(old), new) if old == new => {}
        // The view monitor logs these, once it is sure.
        (_, View::Moved) | (Some(View::Moved), View::Clear) => {}
        (Some(_), View::Clear) => tracing::info!(camera = %camera.id, "View is clear again"),
        (_, View::Clear) => {}
        (_, blind) => {
            tracing::warn!(camera = %camera.id, view = view_name(blind), "View cannot be trusted; nothing is confirmed or cleared there");
        }
    }
}

/// The metric's `view` label of a clear look at none of the presets.
const BETWEEN_PRESETS: &str = "between_presets";
