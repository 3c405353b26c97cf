//! The answers are those of a plain replay, whatever happens in the street.

use std::{sync::atomic::AtomicBool, time::Duration};

mod week;

use super::*;
use crate::{
    Reader, RecordedEngine, Recorder, RunInfo, Settings,
    replay::{Replay, compare::CaseChange, tune::labels::LabelSubject},
};
use gridwatch_engine::{
    BBox, CameraPlan, CaseState, Category, Detection, Effect, ExceptLabels, Input, Intake, Label, Light, Observation,
    OpenCase, Plan, Reply, Resumed, Rule, Scores, View,
    calendar::{Calendar, Days, Hours, Schedule, Window as Hours24},
};

use crate::engine_support::{HERE, at, fixed_at, plan, rule};

/// Numbers that look random; the same for the same seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        // Knuth's MMIX constants.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn share(&mut self) -> f32 {
        self.below(1000) as f32 / 1000.0
    }
}

fn of_category(id: &str, code: &str, labels: &[&str]) -> Rule {
    Rule {
        id: id.into(),
        category: Category {
            code: code.into(),
            ..rule().category
        },
        labels: labels.iter().map(|l| Label::from(*l)).collect(),
        dwell: Duration::from_secs(60),
        seen_n: 2,
        present_share: 0.4,
        ..rule()
    }
}

/// Two cameras at one site and two elsewhere; two rules of one category, with two of others around and between them, one of which works at
/// some hours only.
fn street(per_camera_day: u32) -> Plan {
    let away = |east: f64| -> CameraPlan {
        fixed_at(LonLat {
            lon: HERE.lon + east,
            ..HERE
        })
    };
    let rules = vec![
        of_category("garbage", "0102", &["garbage"]),
        Rule {
            hours: Hours {
                active: Some("evening".into()),
                pause: None,
            },
            ..of_category("vendor", "0501", &["stall"])
        },
        Rule {
            except_labels: Some(ExceptLabels {
                labels: vec!["stall".into()],
                score: 0.6,
            }),
            ..of_category("heap", "0102", &["heap"])
        },
        Rule {
            second_look: Some(0.4),
            ..of_category("advert", "0505", &["small_ad"])
        },
    ];
    let window = |from: u16, to: u16| Hours24 {
        days: Days::DAILY,
        from,
        to,
        season: None,
    };
    let evening = Schedule {
        windows: vec![
            window(0, 30),
            window(23 * 60, 23 * 60 + 40),
            window(23 * 60 + 50, 24 * 60),
        ],
    };
    Plan {
        calendar: Calendar {
            zone: jiff::tz::TimeZone::get("Asia/Shanghai").unwrap(),
            // The recording is from 23:06 to 0:40.
            schedules: [("evening".into(), evening)].into(),
            ..Calendar::default()
        },
        intake: Intake {
            per_camera_day,
            per_box_day: u32::MAX,
            let_go_after: Some(Duration::from_mins(40)),
        },
        ..plan(CAMERAS.map(|(id, east)| (id, away(east))), rules)
    }
}

/// Ids, and degrees east of `HERE`.
const CAMERAS: [(&str, f64); 4] = [("a", 0.0), ("b", 0.0), ("c", 0.003), ("d", -0.003)];

struct Street {
    /// Of three things that come, so many are nothing.
    emptiness: u64,
    chance: Chance,
    /// What stands at each place of each camera, and its mean score.
    places: Vec<[Option<(usize, f32)>; 3]>,
    seconds: f64,
}

const LABELS: [&str; 4] = ["garbage", "stall", "heap", "small_ad"];

impl Street {
    fn look(&mut self, camera: usize) -> Observation {
        let mut detections = Vec::new();
        for (n, place) in self.places[camera].iter_mut().enumerate() {
            if self.chance.below(40) == 0 {
                *place = match self.chance.below(3) {
                    n if n < self.emptiness => None,
                    _ => Some((self.chance.below(4) as usize, 0.3 + 0.5 * self.chance.share())),
                };
            }
            let Some((label, score)) = *place else { continue };
            if self.chance.below(5) == 0 {
                continue;
            }
            let mut seen = |label: usize, score: f32| {
                let x = 0.1 + 0.25 * n as f32 + 0.01 * self.chance.share();
                let bbox = BBox {
                    x1: x,
                    y1: 0.5,
                    x2: x + 0.15,
                    y2: 0.65,
                };
                let mut detection = Detection::new(LABELS[label], score + 0.2 * self.chance.share(), bbox);
                if label == 3 && self.chance.below(3) == 0 {
                    detection.set_second_look(&"advert".into(), self.chance.share());
                }
                detections.push(detection);
            };
            seen(label, score);
            // Two networks take one thing for different things.
            if n == 1 {
                seen((label + 1) % 4, score);
            }
        }
        if self.chance.below(3) == 0 {
            detections.push(Detection::new("person", 0.9, crate::engine_support::HEAP));
        }
        let not_searched = match self.chance.below(4) {
            0 => Vec::new(),
            _ => vec![Label::small_ad()],
        };
        Observation {
            camera: CAMERAS[camera].0.into(),
            at: at(self.seconds),
            view: match self.chance.below(25) {
                0 => View::Dark,
                _ => View::Clear,
            },
            light: Light::Day,
            detections,
            not_searched,
        }
    }
}

/// Records three runs of some hours; the engine's cases are answered, and some evidence fails.
fn record(dir: &Path, plan: &Arc<Plan>, seed: u64) {
    let settings = Settings {
        dir: dir.to_path_buf(),
        file_bytes: 60_000,
        keep_bytes: u64::MAX,
        keep_for: Duration::MAX,
    };
    let mut street = Street {
        chance: Chance(seed),
        emptiness: 1 + seed % 2,
        places: vec![[None; 3]; CAMERAS.len()],
        seconds: 0.0,
    };
    let (mut restored, mut snapshot): (Vec<OpenCase>, _) = (Vec::new(), None);
    for _ in 0..3 {
        street.seconds += 100.0;
        let run = RunInfo {
            started_at: at(street.seconds),
            boot: String::new(),
            config_sha256: "ab".into(),
        };
        let recorder = Recorder::lossless(settings.clone(), run).unwrap();
        let mut live = RecordedEngine::start(Arc::clone(plan), restored, Some(recorder));
        if let Some(snapshot) = snapshot.take() {
            let pictures = gridwatch_engine::Snapshot::firsts(&snapshot).collect();
            live.apply(Input::Resumed(Box::new(Resumed { snapshot, pictures })));
        }
        let mut open: Vec<CaseId> = Vec::new();
        for _ in 0..500 {
            street.seconds += 2.5 + f64::from(street.chance.share());
            if street.chance.below(150) == 0 {
                // Longer than any rule's longest gap.
                street.seconds += 100.0;
            }
            let camera = street.chance.below(CAMERAS.len() as u64) as usize;
            let look = street.look(camera);
            for effect in live.apply(Input::Observed(look)) {
                if let Effect::Open(case) = effect {
                    open.push(case.id);
                }
            }
            match street.chance.below(60) {
                0 => drop(live.apply(Input::Tick(at(street.seconds)))),
                1 if !open.is_empty() => {
                    let case = open.swap_remove(street.chance.below(open.len() as u64) as usize);
                    drop(live.apply(Input::EvidenceFailed { case }));
                }
                2..6 if !open.is_empty() => {
                    let states = [
                        CaseState::Accepted,
                        CaseState::Closed,
                        CaseState::Rejected,
                        CaseState::Closed,
                        CaseState::Reopened,
                        CaseState::VerifyRequested,
                        CaseState::Disposed,
                    ];
                    let state = states[street.chance.below(states.len() as u64) as usize];
                    let case = open[street.chance.below(open.len() as u64) as usize].clone();
                    drop(live.apply(Input::Reply(Reply {
                        case,
                        state,
                        at: at(street.seconds),
                        reason: None,
                        due: None,
                    })));
                }
                _ => {}
            }
        }
        restored = live.engine().remembered().cloned().collect();
        snapshot = Some(live.engine().snapshot());
        live.finish().unwrap();
    }
}

fn task<'a>(cancelled: &'a AtomicBool) -> Task<'a> {
    Task {
        cancelled,
        progress: &|_| (),
    }
}

fn load(dir: &Path, plan: &Arc<Plan>) -> WhatIf {
    let request = WhatIfRequest {
        ledger: dir,
        plan,
        window: Window::default(),
        max_bytes: WhatIf::MAX_BYTES,
    };
    WhatIf::load(&request, task(&AtomicBool::new(false))).unwrap()
}

fn plain(dir: &Path, plan: &Plan) -> Vec<ReplayedCase> {
    let mut replay = Replay::new(Arc::new(plan.clone()), Window::default());
    let mut reader = Reader::open(dir, None).unwrap();
    let mut cases = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        for effect in replay.apply(entry) {
            if let Effect::Open(case) = effect {
                cases.push(ReplayedCase::from(&*case));
            }
        }
    }
    cases.sort_by_key(|case| (case.confirmed_at, case.case_id.clone()));
    cases
}

fn with(plan: &Plan, rules: &[Rule]) -> Plan {
    let mut plan = plan.clone();
    for rule in rules {
        let position = plan.rules.iter().position(|r| r.id == rule.id).unwrap();
        plan.rules[position] = rule.clone();
    }
    plan
}

#[test]
fn answers_are_those_of_a_plain_replay() {
    let (mut partly, mut changed, mut cases, mut capped) = (0, 0, 0, 0);
    for seed in 0..16 {
        let dir = tempfile::tempdir().unwrap();
        // A cap that is reached in every fourth street.
        let plan = Arc::new(street(if seed % 4 == 3 { 3 } else { 1000 }));
        record(dir.path(), &plan, seed);
        let what_if = load(dir.path(), &plan);
        let current = what_if.evaluate(&[], None, task(&AtomicBool::new(false))).unwrap();
        let same: Vec<_> = current.cases.iter().map(|c| c.case.clone()).collect();
        match what_if.clusters() {
            1 if seed % 4 == 3 => capped += 1,
            clusters => assert_eq!(clusters, 3, "seed {seed}"),
        }
        assert_eq!(same, plain(dir.path(), &plan), "seed {seed}");
        cases += same.len();
        let mut chance = Chance(seed + 1000);
        for _ in 0..6 {
            let mut tried = Vec::new();
            for _ in 0..=chance.below(4) / 3 {
                let mut rule = plan.rules[chance.below(4) as usize].clone();
                let threshold = Threshold::ALL[chance.below(Threshold::ALL.len() as u64) as usize];
                let range = threshold.range();
                if let Some(value) = threshold.get(&rule) {
                    let value = (value * f64::from(0.2 + 2.0 * chance.share())).clamp(range.min, range.max);
                    let value = if range.is_whole { value.round() } else { value };
                    threshold.set(&mut rule, value).unwrap();
                }
                tried.retain(|r: &Rule| r.id != rule.id);
                tried.push(rule);
            }
            let answer = what_if.evaluate(&tried, None, task(&AtomicBool::new(false))).unwrap();
            let answered: Vec<_> = answer.cases.iter().map(|c| c.case.clone()).collect();
            let expected = plain(dir.path(), &with(&plan, &tried));
            assert_eq!(answered, expected, "seed {seed}, {tried:?}, judged {:?}", answer.judged);
            partly += usize::from((1..plan.rules.len()).contains(&answer.judged.len()));
            changed += usize::from(answered != same);
        }
    }
    // The streets are not so quiet, nor so entangled, that nothing was tested.
    assert!(
        cases > 200 && changed > 15 && partly > 20 && capped > 0,
        "{cases} {changed} {partly} {capped}"
    );
}

#[test]
fn what_comes_and_goes_is_told_with_its_evidence_and_judgement() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(street(1000));
    record(dir.path(), &plan, 5);
    let what_if = load(dir.path(), &plan);
    let none = AtomicBool::new(false);
    let current = what_if.evaluate(&[], None, task(&none)).unwrap();
    assert_eq!(
        (current.against_current.same, current.changes.len()),
        (current.cases.len() as u64, 0)
    );
    assert_eq!(current.filed_unknown, 0);
    assert!(
        current
            .cases
            .iter()
            .any(|c| c.evidence.as_ref() == Some(&c.case.case_id))
    );
    let judged: usize = current.cases.iter().filter(|c| c.right.is_some()).count();
    assert!(judged > 0, "by the platform's replies");

    // Nothing scores that high.
    let mut strict = plan.rules[0].clone();
    Threshold::StartScore.set(&mut strict, 1.0).unwrap();
    let answer = what_if.evaluate(&[strict.clone()], None, task(&none)).unwrap();
    let before = current.rules[0].cases;
    assert_eq!((answer.rules[0].cases, before > 0), (0, true));
    assert!(answer.against_current.gone >= before as u64);
    let gone = answer
        .changes
        .iter()
        .find(|c| matches!(c.change, CaseChange::Gone { .. }))
        .unwrap();
    assert!(what_if.place(&gone.change.case().case_id).is_some());

    // People have the last word.
    let first = current.cases[0].case.clone();
    what_if.set_labels(vec![CaseLabel {
        subject: LabelSubject::Case(first.case_id.to_string()),
        right: false,
    }]);
    let again = what_if.evaluate(&[], None, task(&none)).unwrap();
    assert_eq!(again.cases[0].right, Some(false));

    // One camera only.
    let only = BTreeSet::from([CameraId::from("c")]);
    let of_one = what_if.evaluate(&[strict], Some(&only), task(&none)).unwrap();
    assert!(of_one.cases.iter().all(|c| c.case.camera == "c"));
}

#[test]
fn a_curve_falls_with_the_score_and_chooses_a_point() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(street(1000));
    record(dir.path(), &plan, 8);
    let what_if = load(dir.path(), &plan);
    let values = [0.3, 0.6, 1.0];
    let none = AtomicBool::new(false);
    let request = CurveRequest {
        rule: &plan.rules[0],
        threshold: Threshold::StartScore,
        values: &values,
        min_precision: 0.5,
        cameras: None,
    };
    let curve = what_if.curve(&request, task(&none)).unwrap();
    assert_eq!(curve.points.iter().map(|p| p.value).collect::<Vec<_>>(), values);
    assert!(curve.points[0].score.cases > 0);
    assert_eq!(curve.points[2].score.cases, 0);
    assert!(curve.chosen.is_some());
    let only = BTreeSet::from([CameraId::from("c")]);
    let of_one = CurveRequest {
        cameras: Some(&only),
        ..request
    };
    let of_one = what_if.curve(&of_one, task(&none)).unwrap();
    let same_camera = what_if.evaluate(&[], Some(&only), task(&none)).unwrap();
    assert!(of_one.points[0].score.cases < curve.points[0].score.cases);
    // Problems that other cameras saw are not among those that this one could have found.
    let problems = |score: &RuleScore| score.recall.map(|recall| recall.of);
    assert_eq!(problems(&of_one.points[0].score), problems(&same_camera.rules[0]));
    assert!(problems(&of_one.points[0].score) < problems(&curve.points[0].score));
    // The other thresholds of the tried rule count.
    let mut patient = plan.rules[0].clone();
    Threshold::Dwell.set(&mut patient, 7.0 * 86400.0).unwrap();
    let none_stays = CurveRequest {
        rule: &patient,
        ..request
    };
    let none_stays = what_if.curve(&none_stays, task(&none)).unwrap();
    assert!(none_stays.points.iter().all(|point| point.score.cases == 0));
    let absent = CurveRequest {
        threshold: Threshold::NewStartScore,
        ..request
    };
    let error = what_if.curve(&absent, task(&none)).unwrap_err();
    assert!(error.to_string().contains("has no new_start_score"), "{error}");
}

#[test]
fn a_cancelled_task_a_small_limit_and_an_unknown_label_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Arc::new(street(1000));
    record(dir.path(), &plan, 1);
    let request = WhatIfRequest {
        ledger: dir.path(),
        plan: &plan,
        window: Window::default(),
        max_bytes: 10_000,
    };
    let small = WhatIf::load(&request, task(&AtomicBool::new(false))).unwrap_err();
    assert!(matches!(small, WhatIfError::TooLarge { .. }), "{small}");
    let what_if = load(dir.path(), &plan);
    let mut other = plan.rules[0].clone();
    other.dwell += Duration::from_secs(1);
    let cancelled = what_if
        .evaluate(&[other.clone()], None, task(&AtomicBool::new(true)))
        .unwrap_err();
    assert!(matches!(cancelled, WhatIfError::Cancelled), "{cancelled}");
    other.labels.push("umbrella".into());
    let unknown = what_if
        .evaluate(&[other], None, task(&AtomicBool::new(false)))
        .unwrap_err();
    assert!(matches!(unknown, WhatIfError::NotLoaded { .. }), "{unknown}");
}

#[test]
fn confidence_limits_are_wilsons() {
    // Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I, method 3.
    for (hits, of, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ] {
        let estimate = Estimate::new(hits, of).unwrap();
        assert!(
            (estimate.low - low).abs() < 1e-4 && (estimate.high - high).abs() < 1e-4,
            "{estimate:?}"
        );
    }
    assert_eq!(Estimate::new(0, 0), None);
}

#[test]
fn thresholds_are_set_without_contradiction() {
    let mut rule = rule();
    for threshold in Threshold::ALL {
        assert_eq!(Threshold::from_name(threshold.as_str()), Some(threshold));
        if let Some(value) = threshold.get(&rule) {
            let before = rule.clone();
            threshold.set(&mut rule, value).unwrap();
            assert_eq!(rule, before, "{threshold:?}");
        }
        assert!(threshold.set(&mut rule, f64::NAN).is_err());
        assert!(threshold.set(&mut rule, -1.0).is_err());
    }
    Threshold::StartScore.set(&mut rule, 0.2).unwrap();
    assert_eq!((rule.day, rule.night), (Scores { start: 0.2, keep: 0.2 }, rule.day));
    Threshold::SeenM.set(&mut rule, 2.0).unwrap();
    assert_eq!((rule.seen_n, rule.seen_m), (2, 2));
    assert!(Threshold::SeenN.set(&mut rule, 2.5).is_err());
    assert!(Threshold::MinCount.set(&mut rule, 2.0).is_err(), "the rule has none");
}
