//! A replay reproduces the effects of the live run, as a whole or from a start onwards; under another configuration it
//! gives the effects that configuration would have had.

use std::{sync::Arc, time::Duration};

use crate::engine_support::{HEAP, at, bbox, elsewhere, fixed, garbage, plan, rule};
use crate::ledger_support::{events, look, read, record, replay, settings, start};
use gridwatch_engine::{
    CaseId, CaseState, Detection, Effect, Input, Known, Observation, OpenCase, Plan, Reply, Resumed, Rule, Scores, View,
};
use gridwatch_ledger::{
    RecordedEvent,
    replay::{Replay, Window},
};
use jiff::Timestamp;
use proptest::prelude::*;

/// Opens cases within a minute, so that few looks give many cases.
fn quick() -> Rule {
    Rule {
        dwell: Duration::from_secs(20),
        seen_n: 2,
        ..rule()
    }
}

fn street(rules: Vec<Rule>) -> Arc<Plan> {
    Arc::new(plan([("a", fixed()), ("b", fixed())], rules))
}

fn observed(camera: &str, s: f64, detections: Vec<Detection>) -> Input {
    Input::Observed(look(camera, s, detections))
}

/// Looks every 10 s from `from` to `to`, both included, that detect the heap with `score`.
fn heap(from: u32, to: u32, score: f32) -> Vec<Input> {
    (from..=to)
        .step_by(10)
        .map(|s| observed("a", s.into(), vec![garbage(score, HEAP)]))
        .collect()
}

fn reply(case: &CaseId, state: CaseState, s: f64) -> Input {
    Input::Reply(Reply {
        case: case.clone(),
        state,
        at: at(s),
        reason: Some("其实没有".into()),
        due: None,
    })
}

fn opened(effects: &[Effect]) -> Vec<CaseId> {
    let case = |e: &Effect| match e {
        Effect::Open(case) => Some(case.id.clone()),
        _ => None,
    };
    effects.iter().filter_map(case).collect()
}

/// The cases that a store would restore.
fn cases_to_restore(live: &gridwatch_ledger::RecordedEngine) -> Vec<OpenCase> {
    live.engine().remembered().cloned().collect()
}

/// Any input. Replies and failures refer to a case by how recently it was opened.
#[derive(Debug, Clone)]
enum Event {
    Look(&'static str, f64, View, Vec<Detection>),
    Reply(usize, CaseState),
    EvidenceFailed(usize),
    Tick(f64),
    /// Another box claims the site, releases it, or this box yields to it.
    Elsewhere(usize, u8),
    Reload,
}

fn event() -> impl Strategy<Value = Event> {
    let spot = prop_oneof![
        8 => (0u8..4, -0.02f32..0.02).prop_map(|(n, j)| {
            let x = 0.1 + f32::from(n) * 0.2 + j;
            bbox(x, 0.6, x + 0.12, 0.7)
        }),
        1 => Just(bbox(f32::NAN, 0.0, f32::INFINITY, 1.0)),
    ];
    let score = prop_oneof![9 => 0.2f32..1.0, 1 => Just(f32::NAN)];
    let number = prop_oneof![9 => Just(None), 1 => "1[38]8000000[0-9]{2}".prop_map(Some)];
    let label = prop_oneof![Just("garbage"), Just("person")];
    let seen = (spot, score, label, number).prop_map(|(b, score, label, number)| Detection {
        label: label.into(),
        number: number.map(Into::into),
        ..garbage(score, b)
    });
    let view = prop_oneof![8 => Just(View::Clear), 1 => Just(View::Dark), 1 => Just(View::Damaged)];
    let step = prop_oneof![30 => 0.001f64..20.0, 2 => 50.0f64..400.0, 1 => 3000.0f64..90000.0, 1 => -300.0f64..0.0];
    prop_oneof![
        40 => (prop_oneof![Just("a"), Just("b"), Just("elsewhere")], step.clone(), view, prop::collection::vec(seen, 0..5))
            .prop_map(|(camera, step, view, seen)| Event::Look(camera, step, view, seen)),
        2 => (0usize..4, prop::sample::select(&CaseState::ALL[..])).prop_map(|(n, state)| Event::Reply(n, state)),
        1 => (0usize..4).prop_map(Event::EvidenceFailed),
        2 => step.prop_map(Event::Tick),
        1 => (0usize..4, 0u8..2).prop_map(|(n, what)| Event::Elsewhere(n, what)),
        1 => Just(Event::Reload),
    ]
}

/// Applies events to a recorded engine and returns its effects.
struct Player {
    plan: Arc<Plan>,
    seconds: f64,
    opened: Vec<CaseId>,
}

impl Player {
    fn play(&mut self, live: &mut gridwatch_ledger::RecordedEngine, steps: &[Event]) -> Vec<Effect> {
        let mut all = Vec::new();
        for event in steps {
            let nth = |n: usize| {
                let case = self.opened.iter().rev().nth(n);
                case.cloned().unwrap_or_else(|| "01ARZ3NDEKTSV4RRFFQ69G5FAV".into())
            };
            let input = match event {
                Event::Look(camera, step, view, seen) => {
                    self.seconds += step;
                    // With nanoseconds, like a real clock.
                    let at = at(self.seconds) + Duration::from_nanos(seen.len() as u64 * 137 + 1);
                    Input::Observed(Observation {
                        at,
                        view: *view,
                        // Sometimes the label of the rule is not searched for.
                        not_searched: match at.as_nanosecond() % 7 {
                            0 => vec!["garbage".into()],
                            1 => vec!["small_ad".into()],
                            _ => Vec::new(),
                        },
                        ..look(camera, self.seconds, seen.clone())
                    })
                }
                Event::Reply(n, state) => reply(&nth(*n), *state, self.seconds),
                Event::EvidenceFailed(n) => Input::EvidenceFailed { case: nth(*n) },
                Event::Tick(step) => Input::Tick(at(self.seconds + step)),
                Event::Elsewhere(n, what) => {
                    let what = match what {
                        0 => Known::Released("theirs".into()),
                        _ => Known::Yielded {
                            case: nth(*n),
                            to: "theirs".into(),
                        },
                    };
                    elsewhere(self.seconds, what)
                }
                Event::Reload => Input::Configured(Arc::clone(&self.plan)),
            };
            let effects = live.apply(input);
            self.opened.extend(opened(&effects));
            all.extend(effects);
        }
        all
    }
}

/// NaN is not equal to itself; its debug text is.
fn text<T: std::fmt::Debug>(all: &[T]) -> Vec<String> {
    all.iter().map(|t| format!("{t:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_reproduces_the_live_effects_over_any_number_of_starts(
        // Smaller files would rotate faster than a slow disk can write, and records would be lost, which other tests
        // cover.
        runs in prop::collection::vec(prop::collection::vec(event(), 1..120), 1..4), file_kb in 8u64..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let plan = street(vec![quick()]);
        let settings = gridwatch_ledger::Settings { file_bytes: file_kb << 10, ..settings(dir.path()) };
        let mut player = Player { plan: Arc::clone(&plan), seconds: 0.0, opened: Vec::new() };
        let (mut effects, mut starts) = (Vec::new(), Vec::new());
        let mut restored = Vec::new();
        for steps in &runs {
            player.seconds += 1.0;
            starts.push((at(player.seconds), effects.len()));
            let mut live = start(settings.clone(), at(player.seconds), &plan, restored);
            effects.extend(player.play(&mut live, steps));
            restored = cases_to_restore(&live);
        }
        let (again, replayed) = replay(dir.path(), &plan, Window::default());
        prop_assert_eq!(text(&again), text(&effects));
        prop_assert_eq!(replayed.tally().starts as usize, runs.len());
        let (twice, _) = replay(dir.path(), &plan, Window::default());
        prop_assert_eq!(text(&twice), text(&again));
    }
}

#[test]
fn the_ledger_contains_every_input_and_the_opened_cases() {
    let dir = tempfile::tempdir().unwrap();
    let plan = street(vec![quick()]);
    let mut inputs = heap(0, 60, 0.8);
    inputs.push(Input::Tick(at(61.0)));
    let effects = record(start(settings(dir.path()), at(-1.0), &plan, vec![]), inputs.clone());
    let recorded = events(dir.path());
    assert_eq!(recorded.len(), inputs.len());
    assert_eq!(recorded.last(), Some(&RecordedEvent::Tick(at(61.0))));
    let filed: Vec<CaseId> = read(dir.path()).0.into_iter().flat_map(|e| e.opened).collect();
    assert_eq!(filed, opened(&effects));
    assert_eq!(filed.len(), 1);
}

#[test]
fn a_window_starts_with_the_current_run_and_reports_only_later_effects() {
    let dir = tempfile::tempdir().unwrap();
    let plan = street(vec![quick()]);
    let first = record(start(settings(dir.path()), at(0.0), &plan, vec![]), heap(1, 101, 0.8));
    // The second run does not know the case of the first, which was never committed, and files it again.
    let second = record(
        start(settings(dir.path()), at(200.0), &plan, vec![]),
        heap(201, 301, 0.8),
    );
    let (whole, _) = replay(dir.path(), &plan, Window::default());
    assert_eq!(opened(&whole), [opened(&first), opened(&second)].concat());
    let of = |from: f64, to: Option<f64>| {
        let window = Window {
            from: Some(at(from)),
            to: to.map(at),
        };
        opened(&replay(dir.path(), &plan, window).0)
    };
    assert_eq!(of(200.0, None), opened(&second));
    assert_eq!(of(100.0, None), opened(&second), "the first run's case came before");
    assert_eq!(of(0.0, Some(200.0)), opened(&first));
    assert_eq!(of(0.0, Some(10.0)), []);
}

/// After a crash the live engine resumes from an older snapshot and misses the newest looks.
#[test]
fn a_resumed_start_is_replayed_as_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let slow = Rule {
        dwell: Duration::from_secs(60),
        ..quick()
    };
    let plan = street(vec![slow]);
    let mut live = start(settings(dir.path()), at(0.0), &plan, vec![]);
    let mut effects: Vec<Effect> = heap(1, 21, 0.8).into_iter().flat_map(|i| live.apply(i)).collect();
    let snapshot = live.engine().snapshot();
    effects.extend(heap(31, 41, 0.8).into_iter().flat_map(|i| live.apply(i)));
    drop(live);
    let live = start(settings(dir.path()), at(49.0), &plan, vec![]);
    let pictures = snapshot.firsts().collect();
    let resumed = Input::Resumed(Box::new(Resumed { snapshot, pictures }));
    effects.extend(record(live, std::iter::once(resumed).chain(heap(51, 81, 0.8))));
    let looks = |effects: &[Effect]| {
        effects.iter().find_map(|e| match e {
            Effect::Open(case) => Some((case.looks, case.confirmed_at)),
            _ => None,
        })
    };
    assert_eq!(
        looks(&effects),
        Some((5, at(61.0))),
        "two of seven looks are lost in the crash"
    );

    let replayed = |replay: Replay| {
        let mut replay = replay;
        let entries = read(dir.path()).0.into_iter();
        entries.flat_map(|e| replay.apply(e)).collect::<Vec<_>>()
    };
    let new = || Replay::new(Arc::clone(&plan), Window::default());
    assert_eq!(replayed(new().with_config_sha256(&"ab".repeat(32))), effects);
    assert_eq!(
        looks(&replayed(new().with_config_sha256(&"cd".repeat(32)))),
        Some((7, at(61.0))),
        "a replay under another configuration loses nothing"
    );
}

#[test]
fn a_case_opened_only_live_is_not_restored_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let lax = street(vec![quick()]);
    let strict = street(vec![Rule {
        day: Scores { start: 0.7, keep: 0.3 },
        ..quick()
    }]);
    let mut live = start(settings(dir.path()), at(0.0), &lax, vec![]);
    let first: Vec<Effect> = heap(1, 61, 0.6).into_iter().flat_map(|i| live.apply(i)).collect();
    let restored = cases_to_restore(&live);
    drop(live);
    let mut inputs = vec![reply(&opened(&first)[0], CaseState::Accepted, 100.0)];
    inputs.extend(heap(101, 161, 0.8));
    let second = record(start(settings(dir.path()), at(99.0), &lax, restored), inputs);
    assert_eq!((opened(&first).len(), opened(&second).len()), (1, 0));

    let (effects, replayed) = replay(dir.path(), &strict, Window::default());
    let case = effects.iter().find_map(|e| match e {
        Effect::Open(case) => Some(case),
        _ => None,
    });
    assert_eq!(case.unwrap().first_seen_at, at(101.0), "no case occupies the site");
    assert_eq!(
        replayed.tally().replies_unknown,
        1,
        "the reply is about a case that this replay has not opened"
    );
}

#[test]
fn a_case_opened_only_by_the_replay_survives_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let lax = street(vec![quick()]);
    let strict = street(vec![Rule {
        day: Scores { start: 0.7, keep: 0.3 },
        ..quick()
    }]);
    record(start(settings(dir.path()), at(0.0), &strict, vec![]), heap(1, 61, 0.6));
    record(
        start(settings(dir.path()), at(99.0), &strict, vec![]),
        heap(101, 161, 0.6),
    );
    let (effects, replayed) = replay(dir.path(), &lax, Window::default());
    assert_eq!(opened(&effects).len(), 1);
    assert_eq!(replayed.tally().not_filed.get("open_case_at_site"), Some(&1));
}

#[test]
fn a_case_withdrawn_only_by_the_replay_is_restored_as_withdrawn() {
    let dir = tempfile::tempdir().unwrap();
    let patient = street(vec![quick()]);
    let mut hasty = Plan::clone(&patient);
    hasty.intake.let_go_after = Some(Duration::from_secs(600));
    let hasty = Arc::new(hasty);
    let empty = |from: u32, to: u32| (from..to).step_by(10).map(|s| observed("a", f64::from(s), vec![]));
    let mut live = start(settings(dir.path()), at(0.0), &patient, vec![]);
    let first: Vec<Effect> = heap(1, 61, 0.8)
        .into_iter()
        .chain(empty(71, 1000))
        .flat_map(|i| live.apply(i))
        .collect();
    let restored = cases_to_restore(&live);
    drop(live);
    let second = record(
        start(settings(dir.path()), at(1001.0), &patient, restored),
        empty(1002, 3000),
    );
    let withdrawn = |effects: &[Effect]| {
        let is_one = |e: &&Effect| {
            matches!(
                e,
                Effect::Revise {
                    state: CaseState::Withdrawn,
                    ..
                }
            )
        };
        effects.iter().filter(is_one).count()
    };
    assert_eq!(withdrawn(&first) + withdrawn(&second), 0);
    let (effects, replayed) = replay(dir.path(), &hasty, Window::default());
    assert_eq!(
        (withdrawn(&effects), replayed.tally().withdrawn),
        (1, 1),
        "once, although the store restored it as open"
    );
    let (effects, _) = replay(dir.path(), &patient, Window::default());
    assert_eq!(withdrawn(&effects), 0);
}

#[test]
fn clock_jumps_of_thousands_of_years_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let plan = street(vec![quick()]);
    let year = |s: i64| Timestamp::from_second(s).unwrap();
    let ticks = [year(200_000_000_000), year(-200_000_000_000), at(0.0)];
    // Otherwise every file would exceed the maximum age at once.
    let settings = gridwatch_ledger::Settings {
        keep_for: Duration::MAX,
        ..settings(dir.path())
    };
    record(start(settings, at(0.0), &plan, vec![]), ticks.map(Input::Tick));
    assert_eq!(events(dir.path()), ticks.map(RecordedEvent::Tick));
}
