//! A town with known truth: streets in which things come and go, cameras that see them as real ones do, and the city's
//! platform, for the time that is asked. It writes what a daemon would have recorded, the configuration that it worked by,
//! and what was really there.
//!
//! The engine runs in the loop: what it files is answered, what it asks to be looked at is looked at, and crews take away
//! what they are sent to. So the ledger is the one that a daemon would have written, and a replay gives the very same cases.
//! Everything is drawn from the seed: the same arguments give the same bytes. What is assumed about streets, detectors and
//! crews stands beside each number in the modules below, and is told together in `docs/judging.md`.
//!
//! It has no clock but its own, and judges nothing.

mod chance;
mod clock;
mod config;
mod eye;
mod kinds;
mod platform;
mod street;
mod town;
mod views;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use jiff::Timestamp;

use self::{
    chance::{Chance, stream},
    clock::Clock,
    eye::{Eye, Skill},
    platform::Act,
    street::Streets,
    town::Town,
    views::{Blockers, Seeing, Troubles},
};
use gridwatch_base::error::Class;
use gridwatch_config::{Faults, Judged, examine, raw::Span};
use gridwatch_engine::{
    BBox, Case, CaseId, CaseState, Detection, Effect, Input, Light, Observation, OpenCase, Plan, Reply, Resumed,
    Snapshot, View,
};
use gridwatch_ledger::{LedgerError, Recorded, Recorder, Run, Settings};

/// Milliseconds since the simulation's beginning.
type Ms = i64;
const DAY: Ms = 86_400_000;

/// A picture arrives up to this long after it was due: cameras send a keyframe every second or so.
const KEYFRAME_MS: f64 = 900.0;
/// The daemon's core turns at least this often, and lets void tracks go.
const TICK_EVERY: Ms = 10_000;
/// The daemon is started anew about so often (updates, power, an operator), and is away for so many seconds.
const RESTART_EVERY_DAYS: f64 = 2.0;
const AWAY_S: (f64, f64) = (20.0, 120.0);
/// A file of the ledger, as configs/edge.toml has it.
const LEDGER_FILE: u64 = 64 << 20;
/// What a clerk takes a case's box for: the thing whose own box overlaps it so much.
const CLERK_SEES: f64 = 0.15;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many cameras, 1..=10000.
    pub cameras: usize,
    /// How many days, 1..=366.
    pub days: u32,
    /// Of everything that is drawn.
    pub seed: u64,
    /// How often each camera is looked at.
    pub look_every: Duration,
    /// Share of the looks by day that find a thing that nothing hides, at the rule's keep score; 0.01..=0.99.
    pub recall: f64,
    /// Boxes around nothing, per look, at the rule's keep score; 0..=10.
    pub false_per_look: f64,
    /// Share of the looks at which the most stubborn false box is found while it lasts, 0..=1; the others are found at less.
    pub stubborn: f64,
    /// When it begins.
    pub start: Timestamp,
    /// A configuration whose rules and hours are used in place of the shipped ones.
    pub rules: Option<PathBuf>,
}

/// What was simulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Looks that reached the engine.
    pub looks: u64,
    /// Boxes that the detector reported in them.
    pub boxes: u64,
    /// Cases that the engine opened.
    pub cases: u64,
    /// Starts of the daemon.
    pub starts: u64,
    /// Things in the truth file, lawful ones included.
    pub truths: u64,
    /// Those that are problems.
    pub problems: u64,
}

/// Why nothing could be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// There is something already.
    #[error("{} is not empty: name a folder that is, or that can be made", .dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file that was to give the rules does not.
    #[error("{}: {reason}", .path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The rules do not hold with the town's cameras.
    #[error(transparent)]
    Config(#[from] Faults),
    /// The record could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Our own fault.
    #[error("{0}")]
    Bug(String),
}

impl SimulateError {
    /// What it means for whoever meets it.
    pub fn class(&self) -> Class {
        match self {
            Self::NotEmpty { .. } | Self::Rules { .. } | Self::Config(_) => Class::Config,
            Self::Io { .. } => Class::Transient,
            Self::Ledger(e) => e.class(),
            Self::Bug(_) => Class::Bug,
        }
    }
}

/// What happens next. Of what happens in one millisecond, in this order, then in the order in which it was planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Restart,
    Platform(CaseId, Option<(usize, u32)>, Act),
    Look(usize),
}

/// Simulates, and writes `out/ledger`, `out/config.toml` with what it names, and `out/truth.jsonl`. `progress` is told each
/// day that was simulated.
///
/// # Errors
/// Where `out` is not empty, the rules do not hold, or something cannot be written.
pub fn run(options: &Options, out: &Path, progress: &mut dyn FnMut(u32)) -> Result<Summary, SimulateError> {
    empty(out)?;
    let town = Town::build(options.seed, options.cameras);
    let file = config::write(out, &town, options.rules.as_deref(), Span(options.look_every))?;
    let judged = examine(&file).into_judged()?;
    let mut simulation = Simulation::new(options, town, judged, out)?;
    for day in 0..options.days {
        simulation.day(day)?;
        progress(day + 1);
    }
    simulation.finish(out)
}

/// Makes the folder, if it is not there; it must have nothing in it.
fn empty(dir: &Path) -> Result<(), SimulateError> {
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

/// A camera with everything that comes between it and the engine.
struct Watch {
    eye: Eye,
    troubles: Troubles,
    blockers: Blockers,
    chance: Rng,
    /// When it is looked at next; an event of another time is one that was overtaken.
    due: Ms,
    /// When its schedule has it looked at next, whatever the engine asks for before.
    turn: Ms,
    last: Vec<Detection>,
}

impl Watch {
    /// How long after a moment its next picture arrives.
    fn keyframe(&mut self) -> Ms {
        self.chance.between(0.0, KEYFRAME_MS) as Ms
    }
}

struct Simulation<'a> {
    options: &'a Options,
    town: Town,
    plan: Arc<Plan>,
    config_sha256: String,
    settings: Settings,
    clock: Clock,
    skill: Skill,
    streets: Streets,
    watches: Vec<Watch>,
    events: BinaryHeap<Reverse<(Ms, Event)>>,
    /// `None` only while it is being started anew.
    engine: Option<Recorded>,
    /// What a store would hold.
    store: BTreeMap<CaseId, OpenCase>,
    chance: Rng,
    away_until: Ms,
    ticked: Ms,
    summary: Summary,
}

impl<'a> Simulation<'a> {
    fn new(options: &'a Options, town: Town, judged: Judged, out: &Path) -> Result<Self, SimulateError> {
        let Judged {
            plan, config_sha256, ..
        } = judged;
        let clock = Clock::new(options.start, &plan);
        let (seed, days) = (options.seed, options.days);
        let mut chance = stream(seed, "box", &[]);
        let mut events = BinaryHeap::new();
        let watches = (0..town.cameras.len())
            .map(|camera| {
                let mut chance = stream(seed, "looks", &[camera as u64]);
                let turn = chance.between(0.0, options.look_every.as_millis() as f64) as Ms;
                events.push(Reverse((turn, Event::Look(camera))));
                Watch {
                    eye: Eye::new(seed, camera),
                    troubles: Troubles::new(seed, camera, days, &clock),
                    blockers: Blockers::new(seed, camera),
                    chance,
                    due: turn,
                    turn,
                    last: Vec::new(),
                }
            })
            .collect();
        let restart = chance.exponential(RESTART_EVERY_DAYS * DAY as f64) as Ms;
        events.push(Reverse((restart, Event::Restart)));
        let streets = Streets::new(seed, clock.clone(), days, &town, &plan, &config::market_hours());
        let mut this = Self {
            options,
            skill: Skill::new(options.recall, options.false_per_look, options.stubborn, &plan),
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
            watches,
            events,
            engine: None,
            store: BTreeMap::new(),
            chance,
            away_until: 0,
            ticked: 0,
            summary: Summary::default(),
            plan,
        };
        this.start(0, None)?;
        Ok(this)
    }

    /// A start of the daemon: a new engine that the store gives back its cases, and what the one before knew (`before`).
    fn start(&mut self, now: Ms, before: Option<Snapshot>) -> Result<(), SimulateError> {
        let at = self.clock.at(now);
        let run = Run {
            started_at: at,
            boot: String::new(),
            config_sha256: self.config_sha256.clone(),
        };
        let recorder = Recorder::patient(self.settings.clone(), run).map_err(|source| SimulateError::Io {
            doing: "start a thread for",
            path: self.settings.dir.clone(),
            source,
        })?;
        // As store::Store::remembered answers.
        self.store.retain(|_, case| {
            let oldest = at.saturating_sub(case.state.remembered_for()).unwrap_or(Timestamp::MIN);
            case.state.is_open() || case.at >= oldest
        });
        let restored = self.store.values().cloned().collect();
        self.engine = Some(Recorded::start(Arc::clone(&self.plan), restored, Some(recorder)));
        self.summary.starts += 1;
        if let Some(snapshot) = before {
            let pictures = snapshot.firsts().collect();
            self.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures })), now);
        }
        Ok(())
    }

    fn day(&mut self, day: u32) -> Result<(), SimulateError> {
        self.streets.day(day, &self.town);
        for watch in &mut self.watches {
            watch.eye.day(day, &self.skill);
            watch.blockers.day(day, &self.clock);
        }
        let end = Ms::from(day + 1) * DAY;
        while let Some(Reverse((now, event))) = self.events.pop_if_before(end) {
            match event {
                Event::Look(camera) => self.turn(camera, now),
                Event::Platform(case, thing, act) => self.platform(case, thing, act, now),
                Event::Restart => self.restart(now)?,
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
        self.away_until = now + (self.chance.between(AWAY_S.0, AWAY_S.1) * 1000.0) as Ms;
        self.start(self.away_until, before)?;
        let next = self.away_until + self.chance.exponential(RESTART_EVERY_DAYS * DAY as f64) as Ms;
        self.events.push(Reverse((next, Event::Restart)));
        Ok(())
    }

    /// A camera's picture is there; the next is due.
    fn turn(&mut self, camera: usize, now: Ms) {
        let look_every = self.options.look_every.as_millis() as Ms;
        let watch = &mut self.watches[camera];
        if watch.due != now {
            return;
        }
        while watch.turn <= now {
            watch.turn += look_every;
        }
        watch.due = watch.turn + watch.keyframe();
        self.events.push(Reverse((watch.due, Event::Look(camera))));
        if now >= self.away_until {
            self.look(camera, now);
        }
    }

    fn look(&mut self, camera: usize, now: Ms) {
        let town = &self.town;
        let station = &town.cameras[camera];
        let corner = &town.corners[station.corner];
        self.streets.advance(station.corner, now, town);
        let watch = &mut self.watches[camera];
        watch.blockers.advance(now);
        let light = if station.is_infrared && self.clock.is_night(now) {
            Light::Night
        } else {
            Light::Day
        };
        let (view, detections) = match watch.troubles.look(now) {
            Seeing::Nothing => return,
            Seeing::Badly(view) => (view, Vec::new()),
            Seeing::Stale => (View::Clear, watch.last.clone()),
            Seeing::Well { shift } => {
                let which = corner.cameras.iter().position(|c| *c == camera).unwrap_or_default();
                let things = self.streets.at(station.corner);
                let found = watch.eye.look(
                    (station, which),
                    things,
                    &watch.blockers,
                    now,
                    (light, &self.clock),
                    &self.skill,
                );
                watch.last = shifted(found, shift);
                (View::Clear, watch.last.clone())
            }
        };
        self.summary.looks += 1;
        self.summary.boxes += detections.len() as u64;
        let look = Observation {
            camera: station.id.as_str().into(),
            at: self.clock.at(now),
            view,
            light,
            detections,
            not_searched: Vec::new(),
        };
        self.tick(now);
        self.apply(Input::Observed(look), now);
    }

    /// What the daemon's core does between events.
    fn tick(&mut self, now: Ms) {
        if now - self.ticked < TICK_EVERY {
            return;
        }
        self.ticked = now;
        let at = self.clock.at(now);
        let engine = self.engine.as_ref().map(Recorded::engine);
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
                Effect::Open(case) => self.opened(&case, now),
                Effect::Revise { case, state, at, .. } => {
                    if let Some(known) = self.store.get_mut(&case) {
                        known.was_reopened |= state == CaseState::Reopened;
                        known.state = state;
                        known.at = at;
                        if state == CaseState::Reopened {
                            // The box's own word: the platform has it before it again.
                            let known = known.clone();
                            self.reaches_the_platform(&known, now);
                        }
                    }
                }
                Effect::Look { camera, by } => self.wanted(camera.as_str(), by),
                _ => {}
            }
        }
    }

    /// The engine wants a picture taken at `by` or later.
    fn wanted(&mut self, camera: &str, by: Timestamp) {
        let by = by.duration_since(self.clock.start).as_millis() as Ms + 1;
        let Some(camera) = self.town.cameras.iter().position(|c| c.id == camera) else {
            return;
        };
        let watch = &mut self.watches[camera];
        if by < watch.turn {
            watch.due = by + watch.keyframe();
            self.events.push(Reverse((watch.due, Event::Look(camera))));
        }
    }

    fn opened(&mut self, case: &Case, now: Ms) {
        self.summary.cases += 1;
        let filed = case.remembered(CaseState::Filed, self.clock.at(now));
        self.reaches_the_platform(&filed, now);
        self.store.insert(case.id.clone(), filed);
    }

    /// A case lies before the platform, where a clerk looks at its pictures; new, or to be reopened.
    fn reaches_the_platform(&mut self, case: &OpenCase, now: Ms) {
        let about = self.about(case, now);
        let mut chance = stream(self.options.seed, case.id.as_str(), &[now.unsigned_abs()]);
        for (after, act) in platform::handle(about.is_some(), &mut chance) {
            let event = Event::Platform(case.id.clone(), about, act);
            self.events.push(Reverse((now + after, event)));
        }
    }

    /// The problem that a case is about: its corner and number; `None` where there is none.
    fn about(&mut self, case: &OpenCase, now: Ms) -> Option<(usize, u32)> {
        let camera = self.town.cameras.iter().position(|c| c.id == case.camera.as_str())?;
        let c = self.town.cameras[camera].corner;
        let corner = &self.town.corners[c];
        let which = corner.cameras.iter().position(|x| *x == camera)?;
        let (town, plan) = (&self.town, &self.plan);
        let overlaps = self.streets.at(c).iter().filter_map(|thing| {
            let rule = plan.rules.iter().find(|r| r.category.code == case.category)?;
            let frame = thing.frame(corner, which, town, rule, now)?;
            let is_it = thing.kind.category == case.category && thing.is_problem(now);
            is_it.then(|| (frame.iou(&case.bbox), thing.number))
        });
        let (overlap, number) = overlaps.max_by(|a, b| a.0.total_cmp(&b.0))?;
        (overlap >= CLERK_SEES).then_some((c, number))
    }

    fn platform(&mut self, case: CaseId, thing: Option<(usize, u32)>, act: Act, now: Ms) {
        match act {
            Act::Remove => {
                if let Some((corner, number)) = thing {
                    self.streets.remove(corner, number, now);
                }
            }
            // The broker keeps the answer until the box is back.
            Act::Say(_) if now < self.away_until => {
                self.events
                    .push(Reverse((self.away_until + 1, Event::Platform(case, thing, act))));
            }
            Act::Say(state) => {
                let at = self.clock.at(now);
                let reason = None;
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
            }
        }
    }

    /// Writes the truth.
    fn finish(mut self, out: &Path) -> Result<Summary, SimulateError> {
        if let Some(engine) = self.engine.take() {
            engine.finish()?;
        }
        let end = Ms::from(self.options.days) * DAY;
        let truths = self.streets.finish(end, &self.town);
        let mut text = String::new();
        for truth in &truths {
            self.summary.truths += 1;
            self.summary.problems += u64::from(truth.problem);
            text.push_str(&serde_json::to_string(truth).map_err(|e| SimulateError::Bug(e.to_string()))?);
            text.push('\n');
        }
        config::put(&out.join("truth.jsonl"), &text)?;
        Ok(self.summary)
    }
}

/// Everything as a camera sees it that was knocked.
fn shifted(mut found: Vec<Detection>, (right, down): (f64, f64)) -> Vec<Detection> {
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

trait Until<T> {
    fn pop_if_before(&mut self, end: Ms) -> Option<T>;
}

impl Until<Reverse<(Ms, Event)>> for BinaryHeap<Reverse<(Ms, Event)>> {
    fn pop_if_before(&mut self, end: Ms) -> Option<Reverse<(Ms, Event)>> {
        self.peek().is_some_and(|e| e.0.0 < end).then(|| self.pop()).flatten()
    }
}
