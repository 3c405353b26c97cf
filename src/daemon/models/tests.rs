//! Swaps as the daemon makes them, look by look: the demo's configuration, real sessions, and pictures that are handed to one
//! worker. Of garbage the demo's model is followed by a tiny one that always finds a piece of it and fails at black pictures
//! (tests/fixtures/models/swap).

use std::{fs, path::Path};

use image::{Rgb, RgbImage};

use super::*;
use gridwatch_config::raw;
use gridwatch_engine::{BBox, Detection, RuleId};
use gridwatch_frame::Frame;
use gridwatch_model::{
    registry::{Verdict as Word, Wish},
    runtime,
};

const GARBAGE: &str = "garbage_nano_416";
const SHIPPED: &str = "garbage_nano_416@1.2.0";
/// Index of the model in the demo's configuration.
const MODEL: usize = 0;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn picture(luma: u8) -> Frame {
    Frame::from_rgb(&RgbImage::from_pixel(64, 64, Rgb([luma; 3])), Timestamp::UNIX_EPOCH).unwrap()
}

/// A box with one worker.
struct Station {
    dir: tempfile::TempDir,
    config: Arc<Config>,
    models: ModelManager,
    crew: WorkerModels,
    reports: Sender<Report>,
    wishes: u32,
}

impl Station {
    fn new(trial_looks: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let configs = root().join("configs");
        let mut file: raw::File = toml::from_str(&fs::read_to_string(configs.join("demo.toml")).unwrap()).unwrap();
        file.node.state_dir = dir.path().join("state");
        for path in file.data_paths_mut() {
            *path = configs.join(&*path);
        }
        file.runtime.workers = Some(1);
        file.registry.trial_looks = trial_looks;
        let path = dir.path().join("edge.toml");
        fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
        let mut config = config::load(&path).unwrap();
        // How fast networks are is asked of `trial` alone: the tiny one is thousands of times faster than the demo's.
        config.registry.slower_at_most = f64::INFINITY;
        config.registry.latency_budget = Duration::MAX;
        let config = Arc::new(config);
        let (models, crew, reports) = started(&config);
        Self {
            dir,
            config,
            models,
            crew,
            reports,
            wishes: 0,
        }
    }

    /// The daemon dies and is started again.
    fn restart(self) -> Self {
        let Self {
            dir,
            config,
            models,
            crew,
            wishes,
            ..
        } = self;
        drop((models, crew));
        let (models, crew, reports) = started(&config);
        Self {
            dir,
            config,
            models,
            crew,
            reports,
            wishes,
        }
    }

    /// The tiny network as a version, its manifest changed by `edits` (line for line).
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

    fn ask(&mut self, event: impl FnOnce(String) -> Event) -> String {
        self.wishes += 1;
        let wish = format!("wish {}", self.wishes);
        let journal = self.models.registry.journal();
        journal.append(GARBAGE, Timestamp::now(), event(wish.clone())).unwrap();
        self.turn();
        wish
    }

    fn want(&mut self, version: Option<&str>, camera: Option<&str>, now: bool) -> String {
        let (version, camera) = (version.map(Into::into), camera.map(Into::into));
        self.ask(|wish| Event::Use {
            wish,
            version,
            camera,
            now,
        })
    }

    fn roll_back(&mut self, camera: Option<&str>) -> String {
        let camera = camera.map(Into::into);
        self.ask(|wish| Event::Rollback { wish, camera })
    }

    /// Lets the keeper of the models do all that waits.
    fn turn(&mut self) {
        // Once to read what was asked, once to do it, and once for what came of that.
        for _ in 0..3 {
            assert!(self.models.turn(Duration::ZERO));
        }
    }

    /// One look of one camera.
    fn look_at(&mut self, camera: usize, luma: u8) -> Result<(Vec<Detection>, Vec<String>), ModelError> {
        if !self.crew.is_current() {
            self.crew.relieve();
        }
        let id = self.config.cameras[camera].id.clone();
        let (found, seen_by) = self.crew.detect((camera, &id), Timestamp::now(), &picture(luma))?;
        let names = seen_by
            .iter()
            .map(|m| format!("{}@{}", m.info.id, m.info.version))
            .collect();
        Ok((found, names))
    }

    /// Looks of the first camera, which all succeed; gives who saw the last, of garbage.
    fn looks(&mut self, count: u32, luma: u8) -> String {
        let mut by = String::new();
        for _ in 0..count {
            let (_, seen_by) = self.look_at(0, luma).unwrap();
            by = seen_by.into_iter().find(|m| m.starts_with(GARBAGE)).unwrap();
        }
        self.turn();
        by
    }

    fn known(&self) -> Known {
        self.models.registry.state().unwrap().known(GARBAGE)
    }

    /// What the wish came to, and why.
    fn answer(&self, wish: &str) -> (Event, String) {
        let told = self.models.registry.journal().read().unwrap();
        assert!(told.unreadable.is_empty());
        let mut answers = told.entries.into_iter().filter(|e| e.event.answers() == Some(wish));
        let answer = answers.next().unwrap_or_else(|| panic!("{wish} was not answered"));
        assert!(answers.next().is_none(), "{wish} was answered twice");
        let reason = match &answer.event {
            Event::Refused { reason, .. } | Event::RolledBack { reason, .. } => reason.clone(),
            Event::ShadowEnded { cut_short, .. } => cut_short.clone().unwrap_or_default(),
            _ => String::new(),
        };
        (answer.event, reason)
    }

    fn is_answered(&self, wish: &str) -> bool {
        let told = self.models.registry.journal().read().unwrap();
        told.entries.iter().any(|e| e.event.answers() == Some(wish))
    }

    fn seats(&self) -> usize {
        self.models.taken.len()
    }
}

fn started(config: &Arc<Config>) -> (ModelManager, WorkerModels, Sender<Report>) {
    let (reports, inbox) = std::sync::mpsc::channel();
    let runtime = runtime::init(None).unwrap_or_else(|e| panic!("{e}"));
    let (models, mut crews) = ModelManager::start(config, runtime, &reports, inbox).unwrap_or_else(|e| panic!("{e}"));
    (models, crews.pop().unwrap(), reports)
}

#[test]
fn a_version_takes_over_after_its_trial_and_every_look_says_who_saw() {
    let mut station = Station::new(6);
    assert_eq!(station.looks(1, 128), SHIPPED);
    station.install("2.0.0", &[]);
    let wish = station.want(Some("2.0.0"), None, false);
    assert_eq!(station.looks(5, 128), SHIPPED, "on trial it does not decide");
    assert!(!station.is_answered(&wish));
    assert_eq!(station.seats(), 3);
    station.looks(1, 128);
    let Event::WentLive { report, .. } = station.answer(&wish).0 else {
        panic!()
    };
    assert_eq!(report.unwrap().looks, 6);
    let (found, seen_by) = station.look_at(0, 128).unwrap();
    assert!(seen_by.contains(&"garbage_nano_416@2.0.0".to_owned()), "{seen_by:?}");
    assert_eq!(
        found.iter().filter(|d| d.label.as_str() == "garbage").count(),
        1,
        "{found:?}"
    );
    assert_eq!((station.known().live(None), station.seats()), (Some("2.0.0".into()), 2));
    // It stays so over a restart, whatever the configuration's folder holds.
    let mut station = station.restart();
    assert_eq!(station.looks(1, 128), "garbage_nano_416@2.0.0");
    let back = station.roll_back(None);
    assert!(matches!(station.answer(&back).0, Event::RolledBack { to: None, .. }));
    assert_eq!(station.looks(1, 128), SHIPPED);
    let nothing = station.roll_back(None);
    assert!(
        station.answer(&nothing).1.contains("no version before"),
        "{:?}",
        station.answer(&nothing)
    );
}

#[test]
fn one_that_fails_on_trial_is_refused_and_costs_no_look() {
    let mut station = Station::new(50);
    station.install("2.0.0", &[]);
    let wish = station.want(Some("2.0.0"), None, false);
    assert_eq!(station.looks(3, 0), SHIPPED);
    let (event, reason) = station.answer(&wish);
    assert!(
        matches!(event, Event::Refused { .. }) && reason.contains("3 looks in a row"),
        "{reason}"
    );
    assert_eq!((station.known().live(None), station.seats()), (None, 2));
    assert_eq!(station.known().outcomes["2.0.0"].verdict, Word::Refused);
}

#[test]
fn one_that_fails_after_it_went_live_is_taken_back() {
    let mut station = Station::new(1);
    station.install("2.0.0", &[]);
    station.want(Some("2.0.0"), None, false);
    station.looks(1, 128);
    // Nine in a row, and one that succeeds, are none yet.
    for luma in [[0; 9].as_slice(), &[128], &[0; 9]].concat() {
        assert_eq!(station.look_at(0, luma).is_ok(), luma != 0);
    }
    station.turn();
    assert_eq!(station.known().live(None), Some("2.0.0".into()));
    assert!(station.look_at(0, 0).is_err(), "the tenth");
    station.turn();
    assert_eq!(station.looks(1, 0), SHIPPED);
    let known = station.known();
    assert_eq!(known.live(None), None);
    let outcome = &known.outcomes["2.0.0"];
    assert_eq!((outcome.verdict, outcome.wish.is_none()), (Word::RolledBack, true));
    assert!(outcome.reason.contains("look after look"), "{}", outcome.reason);
}

#[test]
fn the_configurations_own_model_is_never_taken_back_from() {
    let mut station = Station::new(1);
    for _ in 0..2 {
        station
            .reports
            .send(Report::Failing {
                seat: MODEL,
                reason: "a test".into(),
            })
            .unwrap();
        station.turn();
    }
    assert_eq!(station.looks(1, 128), SHIPPED);
    assert!(station.known().outcomes.is_empty());
}

/// 2.0.0 finds garbage at 0.81; with this floor the same network finds nothing.
const BLIND: (&str, &str) = ("score_floor = 0.1", "score_floor = 0.9");

#[test]
fn one_that_sees_nothing_of_what_the_other_sees_is_refused() {
    let mut station = Station::new(40);
    station.install("2.0.0", &[]);
    station.install("2.0.1", &[BLIND]);
    station.want(Some("2.0.0"), None, false);
    station.looks(40, 128);
    let wish = station.want(Some("2.0.1"), None, false);
    assert_eq!(station.looks(10, 128), "garbage_nano_416@2.0.0");
    let (event, reason) = station.answer(&wish);
    assert!(
        matches!(event, Event::Refused { report: Some(_), .. }) && reason.contains("10 of 10 looks"),
        "{reason}"
    );
    // The other way round nothing is lost.
    station.roll_back(None);
    station.want(Some("2.0.1"), None, false);
    station.looks(40, 128);
    assert_eq!(station.known().live(None), Some("2.0.1".into()));
}

#[test]
fn one_that_decides_at_once_is_taken_back_and_its_failing_looks_are_answered_by_the_other() {
    let mut station = Station::new(40);
    station.install("2.0.0", &[]);
    let wish = station.want(Some("2.0.0"), None, true);
    assert_eq!(station.looks(1, 128), "garbage_nano_416@2.0.0");
    assert!(!station.is_answered(&wish));
    assert_eq!(station.looks(3, 0), SHIPPED, "no look is lost by it");
    let (event, reason) = station.answer(&wish);
    assert!(matches!(event, Event::RolledBack { to: None, .. }), "{event:?}");
    assert!(reason.contains("failed at 3 looks in a row"), "{reason}");
    assert_eq!((station.looks(1, 128), station.seats()), (SHIPPED.into(), 2));
}

#[test]
fn a_camera_may_have_a_version_of_its_own() {
    let mut station = Station::new(2);
    station.install("2.0.0", &[]);
    let cameras: Vec<usize> = (0..station.config.cameras.len())
        .filter(|i| station.config.cameras[*i].models.contains(&MODEL))
        .collect();
    let (gate, yard) = (cameras[0], cameras[1]);
    let id = station.config.cameras[gate].id.to_string();
    station.want(Some("2.0.0"), Some(&id), false);
    for camera in [yard, yard, gate, gate] {
        station.look_at(camera, 128).unwrap();
    }
    station.turn();
    let by = |station: &mut Station, camera| station.look_at(camera, 128).unwrap().1;
    assert!(by(&mut station, gate).contains(&"garbage_nano_416@2.0.0".to_owned()));
    assert!(by(&mut station, yard).contains(&SHIPPED.to_owned()));
    let mut station = station.restart();
    assert!(by(&mut station, gate).contains(&"garbage_nano_416@2.0.0".to_owned()));
    assert!(by(&mut station, yard).contains(&SHIPPED.to_owned()));
    station.roll_back(Some(&id));
    assert!(by(&mut station, gate).contains(&SHIPPED.to_owned()));
    assert_eq!((station.seats(), station.known().has_own(&id)), (2, false));
    let elsewhere = station.want(Some("2.0.0"), Some("nowhere"), false);
    assert!(
        station.answer(&elsewhere).1.contains("no camera"),
        "{:?}",
        station.answer(&elsewhere)
    );
}

#[test]
fn a_trial_that_a_restart_broke_off_begins_anew() {
    let mut station = Station::new(3);
    station.install("2.0.0", &[]);
    let wish = station.want(Some("2.0.0"), None, false);
    station.looks(2, 128);
    let mut station = station.restart();
    station.turn();
    assert_eq!(station.looks(2, 128), SHIPPED);
    assert!(!station.is_answered(&wish));
    station.looks(1, 128);
    assert!(matches!(station.answer(&wish).0, Event::WentLive { .. }));
}

#[test]
fn a_version_that_spoiled_on_the_disk_gives_way_to_the_one_before() {
    let mut station = Station::new(1);
    for version in ["2.0.0", "2.0.1"] {
        station.install(version, &[]);
        station.want(Some(version), None, false);
        station.looks(1, 128);
    }
    assert_eq!(station.known().live(None), Some("2.0.1".into()));
    let dir = station.models.registry.dir_of(GARBAGE, "2.0.1");
    fs::write(dir.join("model.onnx"), "spoiled").unwrap();
    let mut station = station.restart();
    assert_eq!(station.looks(1, 128), "garbage_nano_416@2.0.0");
    assert_eq!(station.known().outcomes["2.0.1"].verdict, Word::RolledBack);
    fs::remove_dir_all(station.models.registry.dir_of(GARBAGE, "2.0.0")).unwrap();
    let mut station = station.restart();
    assert_eq!(station.looks(1, 128), SHIPPED);
}

#[test]
fn one_that_lacks_a_label_of_a_rule_is_refused_with_the_rules_name() {
    let mut station = Station::new(1);
    station.install("2.0.0", &[("\"overflow\", \"sign\"", "\"overflow\", \"poster\"")]);
    let wish = station.want(Some("2.0.0"), None, false);
    let (event, reason) = station.answer(&wish);
    assert!(matches!(event, Event::Refused { .. }), "{event:?}");
    assert!(reason.contains("\"advert\"") && reason.contains("\"sign\""), "{reason}");
    assert_eq!(station.seats(), 2);
    let unknown = station.want(Some("9.9.9"), None, false);
    assert!(station.answer(&unknown).1.contains("9.9.9"));
    let same = station.want(None, None, false);
    assert!(station.answer(&same).1.contains("looks already"));
}

#[test]
fn a_shadow_never_decides_and_tells_where_it_differs() {
    let mut station = Station::new(1);
    station.install("2.0.0", &[]);
    let shadow = |wish| Event::Shadow {
        wish,
        version: Some("2.0.0".into()),
        camera: None,
        looks: 4,
    };
    let wish = station.ask(shadow);
    assert_eq!(station.looks(4, 128), SHIPPED);
    let Event::ShadowEnded { report, cut_short, .. } = station.answer(&wish).0 else {
        panic!()
    };
    assert_eq!((report.looks, cut_short), (4, None));
    assert_eq!(report.differences.labels["garbage"].only_new, 4);
    let worst = &report.differences.worst[0];
    assert_eq!(worst.source, station.config.cameras[0].id.as_str());
    assert!(worst.at.is_some() && (worst.score - 0.81).abs() < 1e-3);
    assert_eq!(
        (station.known().live(None), station.known().shadow, station.seats()),
        (None, None, 2)
    );
    // A trial takes its place, and a stop ends it.
    let shadowed = station.ask(shadow);
    station.looks(1, 128);
    let wish = station.want(Some("2.0.0"), None, false);
    assert!(station.answer(&shadowed).1.contains("another version"));
    station.looks(1, 128);
    assert!(matches!(station.answer(&wish).0, Event::WentLive { .. }));
    station.roll_back(None);
    let stopped = station.ask(shadow);
    station.ask(|_| Event::ShadowStop {});
    let Event::ShadowEnded { report, .. } = station.answer(&stopped).0 else {
        panic!()
    };
    assert_eq!(report.looks, 0);
}

#[test]
fn a_rollback_calls_a_trial_off_and_leaves_what_looks() {
    let mut station = Station::new(1);
    station.install("2.0.0", &[]);
    station.install("2.0.1", &[]);
    station.want(Some("2.0.0"), None, false);
    station.looks(1, 128);
    let trial = station.want(Some("2.0.1"), None, false);
    let back = station.roll_back(None);
    assert!(matches!(station.answer(&trial).0, Event::Refused { .. }));
    assert!(matches!(station.answer(&back).0, Event::RolledBack { to: Some(to), .. } if to == "2.0.0"));
    assert_eq!(station.looks(1, 128), "garbage_nano_416@2.0.0");
    assert_eq!(station.known().wishes, [] as [Wish; 0]);
    // A newer wish takes the place of an older one, too.
    let first = station.want(Some("2.0.1"), None, false);
    let second = station.want(None, None, false);
    assert!(station.answer(&first).1.contains("another wish"));
    station.looks(1, 128);
    assert!(matches!(
        station.answer(&second).0,
        Event::WentLive { version: None, .. }
    ));
}

#[test]
fn a_closer_look_scores_what_lies_there_and_nothing_else() {
    let mut station = Station::new(1);
    if !station.crew.is_current() {
        station.crew.relieve();
    }
    let path = root().join("tests/fixtures/pictures/bags.jpg");
    let frame = Frame::from_rgb(&image::open(path).unwrap().into_rgb8(), Timestamp::UNIX_EPOCH).unwrap();
    let id = station.config.cameras[0].id.clone();
    let (mut found, _) = station.crew.detect((0, &id), Timestamp::now(), &frame).unwrap();
    let bags = found.iter().find(|d| d.label.as_str() == "garbage").unwrap().bbox;
    let rule = RuleId::from("garbage");
    let mut look = |rule: &RuleId, place: &BBox, found: &mut [Detection]| {
        let by = station.crew.second_look_at(0, &frame, (rule, place), found).unwrap();
        by.into_iter().map(|m| m.info.id).collect::<Vec<_>>()
    };

    assert_eq!(
        look(&"vendor".into(), &bags, &mut found),
        [""; 0],
        "that rule asks for none"
    );
    let beside = BBox {
        x1: 0.0,
        x2: 0.2,
        ..bags
    };
    assert_eq!(look(&rule, &beside, &mut found), [""; 0], "nothing was found there");
    assert!(found.iter().all(|d| d.closer.is_none()));

    assert_eq!(
        look(&rule, &bags, &mut found),
        [GARBAGE],
        "the one that finds garbage, and not the other"
    );
    for detection in &found {
        let is_it = detection.bbox == bags && detection.label.as_str() == "garbage";
        match detection.closer {
            Some(score) => assert!(rule_labels(&detection.label) && score > 0.3, "{detection:?}"),
            None => assert!(!is_it, "{detection:?}"),
        }
    }
    // A box where the network sees nothing at all, though somebody said it did.
    let mut false_one = vec![Detection {
        bbox: beside,
        ..found[0].clone()
    }];
    false_one[0].label = "garbage".into();
    look(&rule, &beside, &mut false_one);
    assert!(false_one[0].closer.unwrap() < 0.3, "{false_one:?}");
}

fn rule_labels(label: &Label) -> bool {
    ["garbage", "overflow"].contains(&label.as_str())
}
