//! Model swaps look by look: the demo's configuration and real sessions, with frames handed to a single worker. Versions of the
//! demo's garbage model are a tiny network that finds garbage in every frame but fails on black ones
//! (tests/fixtures/models/swap).

use std::fs;

use image::{Rgb, RgbImage};

use super::*;
use crate::daemon::test_config::{demo_config, root};
use gridwatch_config::raw;
use gridwatch_engine::{BBox, Detection, RuleId};
use gridwatch_frame::Frame;
use gridwatch_model::{
    registry::{ModelRequest, OutcomeKind},
    runtime,
};

const GARBAGE: &str = "garbage_nano_416";
const SHIPPED: &str = "garbage_nano_416@1.2.0";
/// The model's index in the demo's configuration.
const MODEL: usize = 0;

fn frame_of(luma: u8) -> Frame {
    Frame::from_rgb(&RgbImage::from_pixel(64, 64, Rgb([luma; 3])), Timestamp::UNIX_EPOCH).unwrap()
}

/// A model manager with one worker.
struct Fixture {
    dir: tempfile::TempDir,
    config: Arc<Config>,
    models: ModelManager,
    worker: WorkerModels,
    reports: Sender<ManagerMessage>,
    requests: u32,
}

impl Fixture {
    fn new(trial_looks: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = demo_config(dir.path(), |file| file.registry.trial_looks = trial_looks);
        // The tests of `trial` cover speed; the tiny network is thousands of times faster than the demo's.
        config.registry.slower_at_most = f64::INFINITY;
        config.registry.latency_budget = Duration::MAX;
        let config = Arc::new(config);
        let (models, worker, reports) = start(&config);
        Self {
            dir,
            config,
            models,
            worker,
            reports,
            requests: 0,
        }
    }

    /// Restarts the manager on the same state directory.
    fn restart(self) -> Self {
        let Self {
            dir,
            config,
            models,
            worker,
            requests,
            ..
        } = self;
        drop((models, worker));
        let (models, worker, reports) = start(&config);
        Self {
            dir,
            config,
            models,
            worker,
            reports,
            requests,
        }
    }

    /// Installs the tiny network as `version`, with `edits` replaced in its manifest.
    fn install(&self, version: &str, edits: &[(&str, &str)]) {
        let from = root().join("tests/fixtures/models/swap");
        let package = self.dir.path().join("package");
        fs::create_dir_all(&package).unwrap();
        fs::copy(from.join("model.onnx"), package.join("model.onnx")).unwrap();
        let mut toml = fs::read_to_string(from.join("model.toml")).unwrap();
        for (old, new) in edits
            .iter()
            .chain(&[("version = \"2.0.0\"", &*format!("version = {version:?}"))])
        {
            assert!(toml.contains(old), "{old}");
            toml = toml.replace(old, new);
        }
        fs::write(package.join("model.toml"), toml).unwrap();
        self.models.registry.install(&package, |_| Ok(())).unwrap();
    }

    fn request(&mut self, event: impl FnOnce(String) -> Event) -> String {
        self.requests += 1;
        let request = format!("request {}", self.requests);
        let journal = self.models.registry.journal();
        journal
            .append(GARBAGE, Timestamp::now(), event(request.clone()))
            .unwrap();
        self.process();
        request
    }

    /// Asks for a version with `--force`, because the tiny network has no self-test and the trials are short.
    fn request_use(&mut self, version: Option<&str>, camera: Option<&str>, now: bool) -> String {
        self.request_use_with(version, camera, now, true)
    }

    fn request_use_with(&mut self, version: Option<&str>, camera: Option<&str>, now: bool, force: bool) -> String {
        let (version, camera) = (version.map(Into::into), camera.map(Into::into));
        self.request(|request| Event::Use {
            request,
            version,
            camera,
            now,
            force,
        })
    }

    fn roll_back(&mut self, camera: Option<&str>) -> String {
        let camera = camera.map(Into::into);
        self.request(|request| Event::Rollback { request, camera })
    }

    /// Lets the manager process everything that is pending.
    fn process(&mut self) {
        // Once to read the request, once to carry it out, and once to read the outcome.
        for _ in 0..3 {
            assert!(self.models.turn(Duration::ZERO));
        }
    }

    /// One look of one camera: its detections, and the models as `id@version`.
    fn look_at(&mut self, camera: usize, luma: u8) -> Result<(Vec<Detection>, Vec<String>), ModelError> {
        if !self.worker.is_current() {
            self.worker.update();
        }
        let id = self.config.cameras[camera].id.clone();
        let (found, detected_by) = self.worker.detect(&id, Timestamp::now(), &frame_of(luma))?;
        let names = detected_by
            .iter()
            .map(|m| format!("{}@{}", m.info.id, m.info.version))
            .collect();
        Ok((found, names))
    }

    /// Successful looks of the first camera; returns the version that detected garbage in the last one.
    fn looks(&mut self, count: u32, luma: u8) -> String {
        let mut version = String::new();
        for _ in 0..count {
            let (_, detected_by) = self.look_at(0, luma).unwrap();
            version = detected_by.into_iter().find(|m| m.starts_with(GARBAGE)).unwrap();
        }
        self.process();
        version
    }

    /// Prepares the demo's configuration as changed by `edit`, and puts it into force if `takes_effect`.
    fn configure(&mut self, takes_effect: bool, edit: impl FnOnce(&mut raw::File)) -> Result<(), String> {
        let config = Arc::new(demo_config(self.dir.path(), edit));
        let (prepared, is_prepared) = std::sync::mpsc::channel();
        let (decide, decision) = std::sync::mpsc::channel();
        let (done, is_done) = std::sync::mpsc::channel();
        if takes_effect {
            decide.send(()).unwrap();
        }
        drop(decide);
        let request = ConfigureRequest {
            config: Arc::clone(&config),
            prepared,
            decision,
            done,
        };
        self.reports.send(ManagerMessage::Configure(request)).unwrap();
        assert!(self.models.turn(Duration::ZERO));
        let models = is_prepared.recv().unwrap().map_err(|e| e.to_string())?;
        assert!(
            models
                .keys()
                .eq(config.cameras.iter().map(|c| &c.id).collect::<BTreeSet<_>>())
        );
        assert_eq!(is_done.recv().is_ok(), takes_effect);
        if takes_effect {
            self.config = config;
        }
        Ok(())
    }

    fn history(&self) -> ModelState {
        self.models.registry.state().unwrap().model(GARBAGE)
    }

    /// The outcome of a request and its reason.
    fn outcome(&self, request: &str) -> (Event, String) {
        let contents = self.models.registry.journal().read().unwrap();
        assert!(contents.unreadable.is_empty());
        let mut answers = contents
            .entries
            .into_iter()
            .filter(|e| e.event.answered_request() == Some(request));
        let outcome = answers.next().unwrap_or_else(|| panic!("{request} was not answered"));
        assert!(answers.next().is_none(), "{request} was answered twice");
        let reason = match &outcome.event {
            Event::Refused { reason, .. } | Event::RolledBack { reason, .. } => reason.clone(),
            Event::ShadowEnded { cut_short, .. } => cut_short.clone().unwrap_or_default(),
            _ => String::new(),
        };
        (outcome.event, reason)
    }

    fn has_outcome(&self, request: &str) -> bool {
        let contents = self.models.registry.journal().read().unwrap();
        contents
            .entries
            .iter()
            .any(|e| e.event.answered_request() == Some(request))
    }

    fn used_slots(&self) -> usize {
        self.models.used_slots.len()
    }
}

fn start(config: &Arc<Config>) -> (ModelManager, WorkerModels, Sender<ManagerMessage>) {
    let (reports, inbox) = std::sync::mpsc::channel();
    let runtime = runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
    let (models, mut workers) = ModelManager::start(config, runtime, &reports, inbox).unwrap_or_else(|e| panic!("{e}"));
    (models, workers.pop().unwrap(), reports)
}

#[test]
fn a_version_goes_live_after_its_trial_and_every_look_names_its_models() {
    let mut fixture = Fixture::new(6);
    assert_eq!(fixture.looks(1, 128), SHIPPED);
    fixture.install("2.0.0", &[]);
    let request = fixture.request_use(Some("2.0.0"), None, false);
    assert_eq!(fixture.looks(5, 128), SHIPPED, "on trial it does not decide");
    assert!(!fixture.has_outcome(&request));
    assert_eq!(fixture.used_slots(), 3);
    fixture.looks(1, 128);
    let Event::WentLive { report, .. } = fixture.outcome(&request).0 else {
        panic!()
    };
    assert_eq!(report.unwrap().looks, 6);
    let (found, detected_by) = fixture.look_at(0, 128).unwrap();
    assert!(
        detected_by.contains(&"garbage_nano_416@2.0.0".to_owned()),
        "{detected_by:?}"
    );
    assert_eq!(
        found.iter().filter(|d| d.label.as_str() == "garbage").count(),
        1,
        "{found:?}"
    );
    assert_eq!(
        (fixture.history().live(None), fixture.used_slots()),
        (Some("2.0.0".into()), 2)
    );
    // A restart keeps it live.
    let mut fixture = fixture.restart();
    assert_eq!(fixture.looks(1, 128), "garbage_nano_416@2.0.0");
    let back = fixture.roll_back(None);
    assert!(matches!(fixture.outcome(&back).0, Event::RolledBack { to: None, .. }));
    assert_eq!(fixture.looks(1, 128), SHIPPED);
    let nothing = fixture.roll_back(None);
    assert!(
        fixture.outcome(&nothing).1.contains("no version before"),
        "{:?}",
        fixture.outcome(&nothing)
    );
}

#[test]
fn a_version_that_fails_on_trial_is_refused_and_costs_no_look() {
    let mut fixture = Fixture::new(50);
    fixture.install("2.0.0", &[]);
    let request = fixture.request_use(Some("2.0.0"), None, false);
    assert_eq!(fixture.looks(3, 0), SHIPPED);
    let (event, reason) = fixture.outcome(&request);
    assert!(
        matches!(event, Event::Refused { .. }) && reason.contains("3 looks in a row"),
        "{reason}"
    );
    assert_eq!((fixture.history().live(None), fixture.used_slots()), (None, 2));
    assert_eq!(fixture.history().outcomes["2.0.0"].kind, OutcomeKind::Refused);
}

#[test]
fn a_live_version_that_keeps_failing_is_rolled_back() {
    let mut fixture = Fixture::new(1);
    fixture.install("2.0.0", &[]);
    fixture.request_use(Some("2.0.0"), None, false);
    fixture.looks(1, 128);
    // Nine failures, a success and nine failures are not ten in a row.
    for luma in [[0; 9].as_slice(), &[128], &[0; 9]].concat() {
        assert_eq!(fixture.look_at(0, luma).is_ok(), luma != 0);
    }
    fixture.process();
    assert_eq!(fixture.history().live(None), Some("2.0.0".into()));
    assert!(fixture.look_at(0, 0).is_err(), "the tenth");
    fixture.process();
    assert_eq!(fixture.looks(1, 0), SHIPPED);
    let history = fixture.history();
    assert_eq!(history.live(None), None);
    let outcome = &history.outcomes["2.0.0"];
    assert_eq!(
        (outcome.kind, outcome.request.is_none()),
        (OutcomeKind::RolledBack, true)
    );
    assert!(outcome.reason.contains("failed in a row"), "{}", outcome.reason);
}

#[test]
fn the_configured_model_is_never_rolled_back() {
    let mut fixture = Fixture::new(1);
    for _ in 0..2 {
        fixture
            .reports
            .send(ManagerMessage::ModelFailing {
                slot: MODEL,
                reason: "a test".into(),
            })
            .unwrap();
        fixture.process();
    }
    assert_eq!(fixture.looks(1, 128), SHIPPED);
    assert!(fixture.history().outcomes.is_empty());
}

/// 2.0.0 detects garbage with a score of 0.81; with this floor it detects nothing.
const BLIND: (&str, &str) = ("score_floor = 0.1", "score_floor = 0.9");

#[test]
fn a_version_that_misses_what_the_live_one_detects_is_refused() {
    let mut fixture = Fixture::new(40);
    fixture.install("2.0.0", &[]);
    fixture.install("2.0.1", &[BLIND]);
    fixture.request_use(Some("2.0.0"), None, false);
    fixture.looks(40, 128);
    let request = fixture.request_use(Some("2.0.1"), None, false);
    assert_eq!(fixture.looks(10, 128), "garbage_nano_416@2.0.0");
    let (event, reason) = fixture.outcome(&request);
    assert!(
        matches!(event, Event::Refused { report: Some(_), .. }) && reason.contains("10 of 10 looks"),
        "{reason}"
    );
    // In the other direction nothing is lost.
    fixture.roll_back(None);
    fixture.request_use(Some("2.0.1"), None, false);
    fixture.looks(40, 128);
    assert_eq!(fixture.history().live(None), Some("2.0.1".into()));
}

#[test]
fn a_version_without_a_self_test_replaces_one_that_has_it_only_if_forced() {
    let mut fixture = Fixture::new(1);
    fixture.install("2.0.0", &[]);
    let plain = fixture.request_use_with(Some("2.0.0"), None, false, false);
    let (event, reason) = fixture.outcome(&plain);
    assert!(matches!(event, Event::Refused { report: None, .. }), "{event:?}");
    assert!(
        reason.contains("no self-test") && reason.contains("--force"),
        "{reason}"
    );
    assert_eq!((fixture.looks(1, 128), fixture.used_slots()), (SHIPPED.into(), 2));
    fixture.request_use(Some("2.0.0"), None, false);
    fixture.looks(1, 128);
    // Neither has one: then nothing is lost, but the looks still have to prove it.
    fixture.install("2.0.1", &[]);
    let unproven = fixture.request_use_with(Some("2.0.1"), None, false, false);
    assert_eq!(fixture.looks(2, 128), "garbage_nano_416@2.0.0");
    let reason = fixture.outcome(&unproven).1;
    assert!(
        reason.contains("cannot tell") && reason.contains("\"garbage\" in 1 look and \"overflow\" in 0 looks"),
        "{reason}"
    );
}

#[test]
fn a_version_that_no_camera_can_try_needs_a_self_test() {
    let mut fixture = Fixture::new(1);
    // Every camera keeps the shipped version as its own, so that no look can run another one beside it.
    let ids: Vec<String> = fixture.config.cameras.iter().map(|c| c.id.to_string()).collect();
    for id in &ids {
        fixture.request_use_with(None, Some(id), false, false);
    }
    fixture.install("2.0.0", &[]);
    fixture.request_use(Some("2.0.0"), None, false);
    assert_eq!(
        fixture.history().live(None),
        Some("2.0.0".into()),
        "an operator insisted"
    );
    fixture.install("2.0.1", &[]);
    let untried = fixture.request_use_with(Some("2.0.1"), None, false, false);
    assert!(
        fixture.outcome(&untried).1.contains("cannot tell"),
        "{:?}",
        fixture.outcome(&untried)
    );
    assert_eq!(fixture.history().live(None), Some("2.0.0".into()));
}

#[test]
fn a_version_used_at_once_is_rolled_back_and_the_old_one_covers_its_failed_looks() {
    let mut fixture = Fixture::new(40);
    fixture.install("2.0.0", &[]);
    let request = fixture.request_use(Some("2.0.0"), None, true);
    assert_eq!(fixture.looks(1, 128), "garbage_nano_416@2.0.0");
    assert!(!fixture.has_outcome(&request));
    assert_eq!(fixture.looks(3, 0), SHIPPED, "the live version's detections are used");
    let (event, reason) = fixture.outcome(&request);
    assert!(matches!(event, Event::RolledBack { to: None, .. }), "{event:?}");
    assert!(reason.contains("3 looks in a row failed"), "{reason}");
    assert_eq!((fixture.looks(1, 128), fixture.used_slots()), (SHIPPED.into(), 2));
}

#[test]
fn a_single_camera_can_use_another_version() {
    let mut fixture = Fixture::new(2);
    fixture.install("2.0.0", &[]);
    let cameras: Vec<usize> = (0..fixture.config.cameras.len())
        .filter(|i| fixture.config.cameras[*i].models.contains(&MODEL))
        .collect();
    let (gate, yard) = (cameras[0], cameras[1]);
    let id = fixture.config.cameras[gate].id.to_string();
    fixture.request_use(Some("2.0.0"), Some(&id), false);
    for camera in [yard, yard, gate, gate] {
        fixture.look_at(camera, 128).unwrap();
    }
    fixture.process();
    let version = |fixture: &mut Fixture, camera| fixture.look_at(camera, 128).unwrap().1;
    assert!(version(&mut fixture, gate).contains(&"garbage_nano_416@2.0.0".to_owned()));
    assert!(version(&mut fixture, yard).contains(&SHIPPED.to_owned()));
    let mut fixture = fixture.restart();
    assert!(version(&mut fixture, gate).contains(&"garbage_nano_416@2.0.0".to_owned()));
    assert!(version(&mut fixture, yard).contains(&SHIPPED.to_owned()));
    fixture.roll_back(Some(&id));
    assert!(version(&mut fixture, gate).contains(&SHIPPED.to_owned()));
    assert_eq!(
        (fixture.used_slots(), fixture.history().has_own_version(&id)),
        (2, false)
    );
    let elsewhere = fixture.request_use(Some("2.0.0"), Some("nowhere"), false);
    assert!(
        fixture.outcome(&elsewhere).1.contains("no camera"),
        "{:?}",
        fixture.outcome(&elsewhere)
    );
}

#[test]
fn a_trial_interrupted_by_a_restart_starts_again() {
    let mut fixture = Fixture::new(3);
    fixture.install("2.0.0", &[]);
    let request = fixture.request_use(Some("2.0.0"), None, false);
    fixture.looks(2, 128);
    let mut fixture = fixture.restart();
    fixture.process();
    assert_eq!(fixture.looks(2, 128), SHIPPED);
    assert!(!fixture.has_outcome(&request));
    fixture.looks(1, 128);
    assert!(matches!(fixture.outcome(&request).0, Event::WentLive { .. }));
}

#[test]
fn a_version_damaged_on_disk_falls_back_to_the_one_before() {
    let mut fixture = Fixture::new(1);
    for version in ["2.0.0", "2.0.1"] {
        fixture.install(version, &[]);
        fixture.request_use(Some(version), None, false);
        fixture.looks(1, 128);
    }
    assert_eq!(fixture.history().live(None), Some("2.0.1".into()));
    let dir = fixture.models.registry.dir_of(GARBAGE, "2.0.1");
    fs::write(dir.join("model.onnx"), "spoiled").unwrap();
    let mut fixture = fixture.restart();
    assert_eq!(fixture.looks(1, 128), "garbage_nano_416@2.0.0");
    assert_eq!(fixture.history().outcomes["2.0.1"].kind, OutcomeKind::RolledBack);
    fs::remove_dir_all(fixture.models.registry.dir_of(GARBAGE, "2.0.0")).unwrap();
    let mut fixture = fixture.restart();
    assert_eq!(fixture.looks(1, 128), SHIPPED);
}

#[test]
fn a_version_without_a_rules_label_is_refused_naming_the_rule() {
    let mut fixture = Fixture::new(1);
    fixture.install("2.0.0", &[("\"overflow\", \"sign\"", "\"overflow\", \"poster\"")]);
    let request = fixture.request_use(Some("2.0.0"), None, false);
    let (event, reason) = fixture.outcome(&request);
    assert!(matches!(event, Event::Refused { .. }), "{event:?}");
    assert!(reason.contains("\"advert\"") && reason.contains("\"sign\""), "{reason}");
    assert_eq!(fixture.used_slots(), 2);
    let unknown = fixture.request_use(Some("9.9.9"), None, false);
    assert!(fixture.outcome(&unknown).1.contains("9.9.9"));
    let same = fixture.request_use(None, None, false);
    assert!(fixture.outcome(&same).1.contains("live already"));
}

#[test]
fn a_shadow_run_never_decides_and_reports_the_differences() {
    let mut fixture = Fixture::new(1);
    fixture.install("2.0.0", &[]);
    let shadow = |request| Event::Shadow {
        request,
        version: Some("2.0.0".into()),
        camera: None,
        looks: 4,
    };
    let request = fixture.request(shadow);
    assert_eq!(fixture.looks(4, 128), SHIPPED);
    let Event::ShadowEnded { report, cut_short, .. } = fixture.outcome(&request).0 else {
        panic!()
    };
    assert_eq!((report.looks, cut_short), (4, None));
    assert_eq!(report.differences.labels["garbage"].only_new, 4);
    let worst = &report.differences.worst[0];
    assert_eq!(worst.source, fixture.config.cameras[0].id.as_str());
    assert!(worst.at.is_some() && (worst.score - 0.81).abs() < 1e-3);
    assert_eq!(
        (
            fixture.history().live(None),
            fixture.history().shadow,
            fixture.used_slots()
        ),
        (None, None, 2)
    );
    // A trial replaces it, and a stop ends it.
    let shadowed = fixture.request(shadow);
    fixture.looks(1, 128);
    let request = fixture.request_use(Some("2.0.0"), None, false);
    assert!(fixture.outcome(&shadowed).1.contains("another version"));
    fixture.looks(1, 128);
    assert!(matches!(fixture.outcome(&request).0, Event::WentLive { .. }));
    fixture.roll_back(None);
    let stopped = fixture.request(shadow);
    fixture.request(|_| Event::ShadowStop {});
    let Event::ShadowEnded { report, .. } = fixture.outcome(&stopped).0 else {
        panic!()
    };
    assert_eq!(report.looks, 0);
}

#[test]
fn a_rollback_cancels_a_trial_and_keeps_the_live_version() {
    let mut fixture = Fixture::new(1);
    fixture.install("2.0.0", &[]);
    fixture.install("2.0.1", &[]);
    fixture.request_use(Some("2.0.0"), None, false);
    fixture.looks(1, 128);
    let trial = fixture.request_use(Some("2.0.1"), None, false);
    let back = fixture.roll_back(None);
    assert!(matches!(fixture.outcome(&trial).0, Event::Refused { .. }));
    assert!(matches!(fixture.outcome(&back).0, Event::RolledBack { to: Some(to), .. } if to == "2.0.0"));
    assert_eq!(fixture.looks(1, 128), "garbage_nano_416@2.0.0");
    assert_eq!(fixture.history().requests, [] as [ModelRequest; 0]);
    // A newer request replaces an older one, too.
    let first = fixture.request_use(Some("2.0.1"), None, false);
    let second = fixture.request_use(None, None, false);
    assert!(fixture.outcome(&first).1.contains("superseded"));
    fixture.looks(1, 128);
    assert!(matches!(
        fixture.outcome(&second).0,
        Event::WentLive { version: None, .. }
    ));
}

#[test]
fn a_configuration_takes_effect_only_when_it_is_decided() {
    let mut fixture = Fixture::new(1);
    fixture.install("2.0.0", &[]);
    fixture.request_use(Some("2.0.0"), None, false);
    fixture.looks(1, 128);
    assert_eq!(fixture.looks(1, 128), "garbage_nano_416@2.0.0");
    let slot = |fixture: &Fixture, model: usize| Arc::as_ptr(&fixture.models.default_slots[model]);
    let (garbage, coco) = (slot(&fixture, 0), slot(&fixture, 1));
    let slots = fixture.used_slots();
    let swap = |file: &mut raw::File| {
        file.models.swap(0, 1);
        file.cameras.remove(1);
    };

    fixture.configure(false, swap).unwrap();
    assert_eq!((slot(&fixture, 0), fixture.used_slots()), (garbage, slots));

    // What is loaded stays loaded, in whatever order the models are.
    fixture.configure(true, swap).unwrap();
    assert_eq!((slot(&fixture, 0), slot(&fixture, 1)), (coco, garbage));
    assert_eq!(fixture.looks(1, 128), "garbage_nano_416@2.0.0");
    assert_eq!(fixture.used_slots(), slots);
    assert_eq!(fixture.models.shipped[1].id, GARBAGE);
}

#[test]
fn a_trial_goes_on_unless_its_camera_is_taken_away() {
    let mut fixture = Fixture::new(3);
    fixture.install("2.0.0", &[]);
    let second = fixture.config.cameras[1].id.to_string();
    let request = fixture.request_use(Some("2.0.0"), Some(&second), false);
    fixture.configure(true, |file| file.models.swap(0, 1)).unwrap();
    assert!(!fixture.has_outcome(&request));
    fixture
        .configure(true, |file| {
            file.cameras.remove(1);
        })
        .unwrap();
    assert!(fixture.outcome(&request).1.contains("no longer configured"));
    assert_eq!(fixture.looks(1, 128), SHIPPED);
}

#[test]
fn a_second_look_scores_only_the_detections_at_its_place() {
    let mut fixture = Fixture::new(1);
    if !fixture.worker.is_current() {
        fixture.worker.update();
    }
    let path = root().join("tests/fixtures/pictures/bags.jpg");
    let frame = Frame::from_rgb(&image::open(path).unwrap().into_rgb8(), Timestamp::UNIX_EPOCH).unwrap();
    let id = fixture.config.cameras[0].id.clone();
    let (mut found, _) = fixture.worker.detect(&id, Timestamp::now(), &frame).unwrap();
    let bags = found.iter().find(|d| d.label.as_str() == "garbage").unwrap().bbox;
    let rule = RuleId::from("garbage");
    let mut look = |rule: &RuleId, place: &BBox, found: &mut [Detection]| {
        let version = fixture.worker.second_look_at(&id, &frame, rule, place, found).unwrap();
        version.into_iter().map(|m| m.info.id).collect::<Vec<_>>()
    };

    assert_eq!(
        look(&"vendor".into(), &bags, &mut found),
        [""; 0],
        "the rule asks for no second look"
    );
    let elsewhere_box = BBox {
        x1: 0.0,
        x2: 0.2,
        ..bags
    };
    assert_eq!(
        look(&rule, &elsewhere_box, &mut found),
        [""; 0],
        "nothing was detected there"
    );
    assert!(found.iter().all(|d| d.second_looks.is_empty()));

    assert_eq!(
        look(&rule, &bags, &mut found),
        [GARBAGE],
        "only the model that detects garbage"
    );
    for detection in &found {
        let is_it = detection.bbox == bags && detection.label.as_str() == "garbage";
        match detection.second_look_for(&rule) {
            Some(score) => assert!(rule_labels(&detection.label) && score > 0.3, "{detection:?}"),
            None => assert!(!is_it, "{detection:?}"),
        }
    }
    // A false detection where the network sees nothing.
    let mut false_one = vec![Detection {
        bbox: elsewhere_box,
        ..found[0].clone()
    }];
    false_one[0].label = "garbage".into();
    look(&rule, &elsewhere_box, &mut false_one);
    assert!(false_one[0].second_look_for(&rule).unwrap() < 0.3, "{false_one:?}");
}

fn rule_labels(label: &Label) -> bool {
    ["garbage", "overflow"].contains(&label.as_str())
}
