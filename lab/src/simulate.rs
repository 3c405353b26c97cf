//! Simulates a town with known ground truth: streets in which objects appear and disappear, cameras that see them as real ones
//! do, and the city's platform. Writes the ledger that a daemon would have recorded, its configuration, and the truth.
//!
//! The engine runs in the loop: its cases get replies, its requests for looks are met, and crews remove what they are sent to.
//! So the ledger is the one that a daemon would have written, and a replay gives the same cases. Everything is drawn from the
//! seed: the same arguments give the same bytes. The assumptions about streets, detectors and crews are stated with the
//! constants in the modules below, and summarised in `docs/judging.md`.
//!
//! Time is simulated; nothing here reads a clock.

mod background;
mod changed_place;
mod clock;
mod config;
mod detector;
mod error;
mod kinds;
mod options;
mod platform;
mod random;
mod sighting;
mod street;
mod town;
mod truths;
mod views;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use jiff::Timestamp;

pub use self::{
    background::FALSE_REGIONS,
    error::SimulateError,
    options::{Options, Summary},
};
use self::{
    background::{ChangeProfile, SimulatedChangeMap},
    clock::{DAY, Ms, TownClock},
    detector::{DetectorProfile, SimulatedDetector, SimulatedLook},
    platform::PlatformAction,
    random::{Distributions, stream},
    street::Streets,
    town::Town,
    truths::SpotTruth,
    views::{LookCondition, Occluders, ViewFaults},
};
use gridwatch_config::{ReplayConfig, examine, raw::Span};
use gridwatch_engine::{
    BBox, CameraId, Case, CaseId, CaseState, Detection, Effect, Input, Label, Light, Observation, OpenCase, Plan,
    Reply, Resumed, Snapshot, View,
};
use gridwatch_ledger::{RecordedEngine, Recorder, RunInfo, Settings};

/// A picture arrives up to this long after it is due: cameras send a keyframe every second or so.
const KEYFRAME_MS: f64 = 900.0;
/// Interval of the engine's ticks, which drop void tracks.
const TICK_EVERY: Ms = 10_000;
/// Mean time between restarts of the daemon (updates, power, an operator), in days, and its downtime in seconds.
const RESTART_EVERY_DAYS: f64 = 2.0;
const DOWNTIME_S: (f64, f64) = (20.0, 120.0);
/// Size of a ledger file, as in configs/edge.toml.
const LEDGER_FILE: u64 = 64 << 20;
/// Minimum IoU of a case's box with an object's box for a clerk to recognise the object.
const CLERK_MIN_IOU: f64 = 0.15;

/// A scheduled event. Events of the same millisecond are ordered by variant, then by field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum SimEvent {
    Restart,
    Platform(CaseId, Option<(usize, u32)>, PlatformAction),
    Look(usize),
}

/// Runs a simulation and writes `out/ledger`, `out/config.toml` with the files it names, and `out/truth.jsonl`. `progress` is
/// called with the number of days simulated so far.
///
/// # Errors
/// If `out` is not empty, the rules are invalid, or a file cannot be written.
pub fn run(options: &Options, out: &Path, progress: &mut dyn FnMut(u32)) -> Result<Summary, SimulateError> {
    prepare_output(out)?;
    let town = Town::build(options.seed, options.cameras);
    let written = config::write(
        out,
        &town,
        options.rules.as_deref(),
        Span(options.look_every),
        options.has_change_map,
    )?;
    let judged = examine(&written.path).into_replay_config()?;
    let change = written.change.enabled.then(|| {
        let absorb_after = written.change.absorb_after.0.as_millis() as Ms;
        ChangeProfile::new(absorb_after, options.false_regions, &judged.plan)
    });
    let mut simulation = Simulation::new(options, town, judged, change, out)?;
    for day in 0..options.days {
        simulation.day(day)?;
        progress(day + 1);
    }
    simulation.finish(out)
}

/// Creates the folder if needed; fails if it is not empty.
fn prepare_output(dir: &Path) -> Result<(), SimulateError> {
    let failed = |doing| {
        move |source| SimulateError::Io {
            doing,
            path: dir.to_path_buf(),
            source,
        }
    };
    fs::create_dir_all(dir).map_err(failed("create"))?;
    if fs::read_dir(dir).map_err(failed("read"))?.next().is_some() {
        return Err(SimulateError::NotEmpty { dir: dir.to_path_buf() });
    }
    Ok(())
}

/// A camera's state: its detector, its view, and its next look.
struct CameraState {
    detector: SimulatedDetector,
    change_map: Option<SimulatedChangeMap>,
    view_faults: ViewFaults,
    occluders: Occluders,
    rng: Rng,
    /// Time of its next look; a look event of another time was superseded.
    due: Ms,
    /// Time of its next scheduled look, whatever the engine requests before.
    next_scheduled: Ms,
    last_detections: Vec<Detection>,
    /// The last look searched for unknown objects.
    last_searched: bool,
}

impl CameraState {
    /// Delay until its next picture arrives, in milliseconds.
    fn keyframe(&mut self) -> Ms {
        self.rng.between(0.0, KEYFRAME_MS) as Ms
    }
}

struct Simulation<'a> {
    options: &'a Options,
    town: Town,
    plan: Arc<Plan>,
    config_sha256: String,
    settings: Settings,
    clock: TownClock,
    profile: DetectorProfile,
    change: Option<ChangeProfile>,
    false_spots: Vec<SpotTruth>,
    streets: Streets,
    cameras: Vec<CameraState>,
    events: BinaryHeap<Reverse<(Ms, SimEvent)>>,
    /// `None` only during a restart.
    engine: Option<RecordedEngine>,
    /// The cases that a store would hold.
    store: BTreeMap<CaseId, OpenCase>,
    rng: Rng,
    down_until: Ms,
    last_tick: Ms,
    summary: Summary,
}

impl<'a> Simulation<'a> {
    fn new(
        options: &'a Options,
        town: Town,
        judged: ReplayConfig,
        change: Option<ChangeProfile>,
        out: &Path,
    ) -> Result<Self, SimulateError> {
        let ReplayConfig {
            plan, config_sha256, ..
        } = judged;
        let clock = TownClock::new(options.start, &plan);
        let (seed, days) = (options.seed, options.days);
        let mut rng = stream(seed, "box", &[]);
        let mut events = BinaryHeap::new();
        let cameras = (0..town.cameras.len())
            .map(|camera| {
                let mut rng = stream(seed, "looks", &[camera as u64]);
                let next_scheduled = rng.between(0.0, options.look_every.as_millis() as f64) as Ms;
                events.push(Reverse((next_scheduled, SimEvent::Look(camera))));
                CameraState {
                    detector: SimulatedDetector::new(seed, camera),
                    change_map: change.as_ref().map(|c| SimulatedChangeMap::new(seed, camera, c)),
                    view_faults: ViewFaults::new(seed, camera, days, &clock),
                    occluders: Occluders::new(seed, camera),
                    rng,
                    due: next_scheduled,
                    next_scheduled,
                    last_detections: Vec::new(),
                    last_searched: true,
                }
            })
            .collect();
        let restart = rng.exponential(RESTART_EVERY_DAYS * DAY as f64) as Ms;
        events.push(Reverse((restart, SimEvent::Restart)));
        let streets = Streets::new(seed, clock.clone(), days, &town, &plan, &config::market_hours());
        let mut this = Self {
            options,
            profile: DetectorProfile::new(options.recall, options.false_per_look, options.stubborn, &plan),
            change,
            false_spots: Vec::new(),
            streets,
            town,
            config_sha256,
            settings: Settings {
                dir: out.join("ledger"),
                file_bytes: LEDGER_FILE,
                keep_bytes: u64::MAX,
                keep_for: Duration::MAX,
            },
            clock,
            cameras,
            events,
            engine: None,
            store: BTreeMap::new(),
            rng,
            down_until: 0,
            last_tick: 0,
            summary: Summary::default(),
            plan,
        };
        this.start(0, None)?;
        Ok(this)
    }

    /// Starts the daemon: a new engine with the store's cases and the previous engine's snapshot.
    fn start(&mut self, now: Ms, before: Option<Snapshot>) -> Result<(), SimulateError> {
        let at = self.clock.at(now);
        let run = RunInfo {
            started_at: at,
            boot: String::new(),
            config_sha256: self.config_sha256.clone(),
        };
        let recorder = Recorder::lossless(self.settings.clone(), run).map_err(|source| SimulateError::Io {
            doing: "start a thread for",
            path: self.settings.dir.clone(),
            source,
        })?;
        // The same rule as `Store::cases_to_restore`.
        self.store.retain(|_, case| {
            let oldest = at.saturating_sub(case.state.remembered_for()).unwrap_or(Timestamp::MIN);
            case.state.is_open() || case.at >= oldest
        });
        let restored = self.store.values().cloned().collect();
        self.engine = Some(RecordedEngine::start(Arc::clone(&self.plan), restored, Some(recorder)));
        self.summary.starts += 1;
        if let Some(snapshot) = before {
            let pictures = snapshot.firsts().collect();
            self.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures })), now);
        }
        Ok(())
    }

    fn day(&mut self, day: u32) -> Result<(), SimulateError> {
        self.streets.day(day, &self.town);
        for (camera, camera_state) in self.cameras.iter_mut().enumerate() {
            let spots = camera_state.detector.day(day, &self.profile);
            let spots = spots.into_iter().map(|(spot, label)| SpotTruth { camera, spot, label });
            self.false_spots.extend(spots);
            camera_state.occluders.day(day, &self.clock);
        }
        let end = Ms::from(day + 1) * DAY;
        while let Some(Reverse((now, event))) = self.events.pop_if_before(end) {
            match event {
                SimEvent::Look(camera) => self.look_due(camera, now),
                SimEvent::Platform(case, object, action) => self.platform(case, object, action, now),
                SimEvent::Restart => self.restart(now)?,
            }
        }
        Ok(())
    }

    fn restart(&mut self, now: Ms) -> Result<(), SimulateError> {
        let engine = self.engine.take();
        let before = engine.as_ref().map(|e| e.engine().snapshot());
        if let Some(engine) = engine {
            engine.finish()?;
        }
        if let Some(change) = &self.change {
            let maps = self.cameras.iter_mut().filter_map(|c| c.change_map.as_mut());
            maps.for_each(|map| map.restart(now, change));
        }
        self.down_until = now + (self.rng.between(DOWNTIME_S.0, DOWNTIME_S.1) * 1000.0) as Ms;
        self.start(self.down_until, before)?;
        let next = self.down_until + self.rng.exponential(RESTART_EVERY_DAYS * DAY as f64) as Ms;
        self.events.push(Reverse((next, SimEvent::Restart)));
        Ok(())
    }

    /// Handles a look event and schedules the camera's next one.
    fn look_due(&mut self, camera: usize, now: Ms) {
        let look_every = self.options.look_every.as_millis() as Ms;
        let camera_state = &mut self.cameras[camera];
        if camera_state.due != now {
            return;
        }
        while camera_state.next_scheduled <= now {
            camera_state.next_scheduled += look_every;
        }
        camera_state.due = camera_state.next_scheduled + camera_state.keyframe();
        self.events.push(Reverse((camera_state.due, SimEvent::Look(camera))));
        if now >= self.down_until {
            self.look(camera, now);
        }
    }

    fn look(&mut self, camera: usize, now: Ms) {
        let town = &self.town;
        let station = &town.cameras[camera];
        let corner = &town.corners[station.corner];
        self.streets.advance(station.corner, now, town);
        let camera_state = &mut self.cameras[camera];
        camera_state.occluders.advance(now);
        let light = if station.is_infrared && self.clock.is_night(now) {
            Light::Night
        } else {
            Light::Day
        };
        let (view, detections, searched) = match camera_state.view_faults.look(now) {
            LookCondition::NoPicture => return,
            LookCondition::Bad(view) => (view, Vec::new(), true),
            LookCondition::Stale => {
                let CameraState {
                    last_detections,
                    last_searched,
                    ..
                } = camera_state;
                (View::Clear, last_detections.clone(), *last_searched)
            }
            LookCondition::Clear { shift } => {
                let nth = corner.cameras.iter().position(|c| *c == camera).unwrap_or_default();
                let objects = self.streets.at(station.corner);
                let CameraState {
                    detector,
                    change_map,
                    occluders,
                    ..
                } = camera_state;
                let look = SimulatedLook {
                    camera: station,
                    nth,
                    occluders,
                    now,
                    hour: self.clock.hour(now),
                    light,
                    profile: &self.profile,
                };
                let mut found = detector.look(&look, objects);
                let mut searched = true;
                if let Some((map, change)) = change_map.as_mut().zip(self.change.as_ref()) {
                    let is_aimed = shift == (0.0, 0.0);
                    searched = map.look(&look, (objects, detector), (change, &self.clock), is_aimed, &mut found);
                }
                camera_state.last_detections = shift_detections(found, shift);
                camera_state.last_searched = searched;
                (View::Clear, camera_state.last_detections.clone(), searched)
            }
        };
        self.summary.count(&detections, searched);
        let look = Observation {
            camera: station.id.as_str().into(),
            at: self.clock.at(now),
            view,
            light,
            detections,
            not_searched: if searched { Vec::new() } else { vec![Label::object()] },
        };
        self.tick(now);
        self.apply(Input::Observed(look), now);
    }

    /// Ticks the engine if a deadline has passed, as the daemon's core does.
    fn tick(&mut self, now: Ms) {
        if now - self.last_tick < TICK_EVERY {
            return;
        }
        self.last_tick = now;
        let at = self.clock.at(now);
        let engine = self.engine.as_ref().map(RecordedEngine::engine);
        if engine
            .and_then(|e| e.next_deadline())
            .is_some_and(|deadline| deadline <= at)
        {
            self.apply(Input::Tick(at), now);
        }
    }

    fn apply(&mut self, input: Input, now: Ms) {
        let effects = self.engine.as_mut().map(|e| e.apply(input)).unwrap_or_default();
        for effect in effects {
            match effect {
                Effect::Open(case) => {
                    self.case_opened(&case, now);
                    self.hold_open_cases(&case.camera);
                }
                Effect::Revise { case, state, at, .. } => {
                    if let Some(known) = self.store.get_mut(&case) {
                        known.was_reopened |= state == CaseState::Reopened;
                        known.state = state;
                        known.at = at;
                        if state == CaseState::Reopened {
                            // Reopened by the box, so the case goes before the platform again.
                            let known = known.clone();
                            self.submit_to_platform(&known, now);
                        }
                    }
                    if let Some(camera) = self.store.get(&case).map(|c| c.camera.clone()) {
                        self.hold_open_cases(&camera);
                    }
                }
                Effect::Look { camera, by } => self.request_look(camera.as_str(), by),
                _ => {}
            }
        }
    }

    fn change_map(&mut self, camera: &CameraId) -> Option<&mut SimulatedChangeMap> {
        let camera = self.town.cameras.iter().position(|c| c.id == camera.as_str())?;
        self.cameras[camera].change_map.as_mut()
    }

    /// Tells the camera's change map which places have open cases.
    fn hold_open_cases(&mut self, camera: &CameraId) {
        let open = self.store.values().filter(|c| c.camera == *camera && c.state.is_open());
        let boxes = open.map(|c| c.bbox).collect();
        if let Some(map) = self.change_map(camera) {
            map.hold(boxes);
        }
    }

    /// Carries out the engine's request for a picture taken at `by` or later.
    fn request_look(&mut self, camera: &str, by: Timestamp) {
        let by = by.duration_since(self.clock.start).as_millis() as Ms + 1;
        let Some(camera) = self.town.cameras.iter().position(|c| c.id == camera) else {
            return;
        };
        let camera_state = &mut self.cameras[camera];
        if by < camera_state.next_scheduled {
            camera_state.due = by + camera_state.keyframe();
            self.events.push(Reverse((camera_state.due, SimEvent::Look(camera))));
        }
    }

    fn case_opened(&mut self, case: &Case, now: Ms) {
        self.summary.cases += 1;
        let filed = case.remembered(CaseState::Filed, self.clock.at(now));
        self.submit_to_platform(&filed, now);
        self.store.insert(case.id.clone(), filed);
    }

    /// Schedules what the platform does with a new or reopened case, whose pictures a clerk checks.
    fn submit_to_platform(&mut self, case: &OpenCase, now: Ms) {
        let shown_object = self.shown_object(case, now);
        let mut rng = stream(self.options.seed, case.id.as_str(), &[now.unsigned_abs()]);
        for (after, action) in platform::actions_for(shown_object.is_some(), &mut rng) {
            let event = SimEvent::Platform(case.id.clone(), shown_object, action);
            self.events.push(Reverse((now + after, event)));
        }
    }

    /// The problem that a case shows: its corner and number; `None` for a false case.
    fn shown_object(&mut self, case: &OpenCase, now: Ms) -> Option<(usize, u32)> {
        let camera = self.town.cameras.iter().position(|c| c.id == case.camera.as_str())?;
        let c = self.town.cameras[camera].corner;
        let corner = &self.town.corners[c];
        let nth = corner.cameras.iter().position(|x| *x == camera)?;
        let (town, plan) = (&self.town, &self.plan);
        let overlaps = self.streets.at(c).iter().filter_map(|object| {
            let rule = plan.rules.iter().find(|r| r.category.code == case.category)?;
            let frame = object.frame(corner, nth, town, rule, now)?;
            let is_it = object.kind.category == case.category && object.is_problem(now);
            is_it.then(|| (frame.iou(&case.bbox), object.number))
        });
        let (overlap, number) = overlaps.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (overlap >= CLERK_MIN_IOU).then_some((c, number))
    }

    fn platform(&mut self, case: CaseId, object: Option<(usize, u32)>, action: PlatformAction, now: Ms) {
        match action {
            PlatformAction::Remove => {
                if let Some((corner, number)) = object {
                    self.streets.remove(corner, number, now);
                }
            }
            // The broker keeps the reply until the box is back.
            PlatformAction::Reply(_) if now < self.down_until => {
                self.events
                    .push(Reverse((self.down_until + 1, SimEvent::Platform(case, object, action))));
            }
            PlatformAction::Reply(state) => {
                let at = self.clock.at(now);
                let reason = None;
                let rejected = self.store.get(&case).filter(|_| state == CaseState::Rejected);
                let rejected = rejected.map(|c| (c.camera.clone(), c.bbox));
                self.apply(
                    Input::Reply(Reply {
                        case,
                        state,
                        at,
                        reason,
                        due: None,
                    }),
                    now,
                );
                // What a clerk rejects belongs to the street.
                if let Some((camera, bbox)) = rejected
                    && let Some(map) = self.change_map(&camera)
                {
                    map.absorb(&bbox);
                }
            }
        }
    }

    /// Ends the simulation and writes the truth.
    fn finish(mut self, out: &Path) -> Result<Summary, SimulateError> {
        if let Some(engine) = self.engine.take() {
            engine.finish()?;
        }
        let end = Ms::from(self.options.days) * DAY;
        let objects = self.streets.finish(end, &self.town);
        self.summary.truths = objects.len() as u64;
        self.summary.problems = objects.iter().filter(|t| t.problem).count() as u64;
        let maps = self.cameras.into_iter().enumerate();
        let regions = maps.filter_map(|(camera, state)| Some((camera, state.change_map?.finish(end))));
        let false_places = truths::false_places(&self.false_spots, regions, &self.town, &self.plan, (&self.clock, end));
        self.summary.false_places = false_places.len() as u64;
        let mut truths = [objects, false_places].concat();
        truths.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        let mut text = String::new();
        for truth in &truths {
            text.push_str(&serde_json::to_string(truth).map_err(|e| SimulateError::Bug(e.to_string()))?);
            text.push('\n');
        }
        config::write_file(&out.join("truth.jsonl"), &text)?;
        Ok(self.summary)
    }
}

/// The detections shifted as in the picture of a knocked camera.
fn shift_detections(mut found: Vec<Detection>, (right, down): (f64, f64)) -> Vec<Detection> {
    if (right, down) != (0.0, 0.0) {
        found.retain_mut(|d| {
            let BBox { x1, y1, x2, y2 } = d.bbox;
            let (right, down) = (right as f32, down as f32);
            let moved = BBox {
                x1: x1 + right,
                y1: y1 + down,
                x2: x2 + right,
                y2: y2 + down,
            };
            moved.within_picture().inspect(|b| d.bbox = *b).is_some()
        });
    }
    found
}

trait PopBefore<T> {
    fn pop_if_before(&mut self, end: Ms) -> Option<T>;
}

impl PopBefore<Reverse<(Ms, SimEvent)>> for BinaryHeap<Reverse<(Ms, SimEvent)>> {
    fn pop_if_before(&mut self, end: Ms) -> Option<Reverse<(Ms, SimEvent)>> {
        self.peek().is_some_and(|e| e.0.0 < end).then(|| self.pop()).flatten()
    }
}
