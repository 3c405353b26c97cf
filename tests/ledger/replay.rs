//! What was recorded gives the live effects again, whole or from a start on, whatever came; another configuration gives
//! what it would have given.

use std::{sync::Arc, time::Duration};

use crate::engine_support::{HEAP, HERE, at, bbox, claim, elsewhere, fixed, garbage, plan, rule};
use crate::ledger_support::{happened, read, record, replay, settings, start};
use gridwatch_engine::{
    CaseId, CaseState, Detection, Effect, Input, Known, Light, Observation, OpenCase, Plan, Reply, Resumed, Rule,
    Scores, View,
};
use gridwatch_ledger::{
    What,
    replay::{Replay, Window},
};
use jiff::Timestamp;
use proptest::prelude::*;

/// Cases within a minute, so that few looks make many.
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

fn look(camera: &str, s: f64, seen: Vec<Detection>) -> Input {
    Input::Observed(Observation {
        camera: camera.into(),
        at: at(s),
        view: View::Clear,
        light: Light::Day,
        detections: seen,
        not_searched: Vec::new(),
    })
}

/// Looks every 10 s from `from` to `to`, both included, that see the heap scored `score`.
fn heap(from: u32, to: u32, score: f32) -> Vec<Input> {
    (from..=to)
        .step_by(10)
        .map(|s| look("a", s.into(), vec![garbage(score, HEAP)]))
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

/// What a store would give back: only what is known to the engine matters here.
fn remembered(live: &gridwatch_ledger::Recorded) -> Vec<OpenCase> {
    live.engine().remembered().cloned().collect()
}

/// Anything that can come in. Replies and failures name a case by how lately it was opened.
#[derive(Debug, Clone)]
enum Event {
    Look(&'static str, f64, View, Vec<Detection>),
    Reply(usize, CaseState),
    EvidenceFailed(usize),
    Tick(f64),
    /// Another box has a case open at the place of this one, it is over, or this box's gives way to it.
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
        1 => (0usize..4, 0u8..3).prop_map(|(n, what)| Event::Elsewhere(n, what)),
        1 => Just(Event::Reload),
    ]
}

/// Plays events on a recorded engine and gives its effects.
struct Player {
    plan: Arc<Plan>,
    seconds: f64,
    opened: Vec<CaseId>,
}

impl Player {
    fn play(&mut self, live: &mut gridwatch_ledger::Recorded, events: &[Event]) -> Vec<Effect> {
        let mut all = Vec::new();
        for event in events {
            let nth = |n: usize| {
                let case = self.opened.iter().rev().nth(n);
                case.cloned().unwrap_or_else(|| "01ARZ3NDEKTSV4RRFFQ69G5FAV".into())
            };
            let input = match event {
                Event::Look(camera, step, view, seen) => {
                    self.seconds += step;
                    // To the nanosecond, as a clock has it.
                    let at = at(self.seconds) + Duration::from_nanos(seen.len() as u64 * 137 + 1);
                    Input::Observed(Observation {
                        camera: (*camera).into(),
                        at,
                        view: *view,
                        light: Light::Day,
                        detections: seen.clone(),
                        // Now and then the rule's own label is not looked for.
                        not_searched: match at.as_nanosecond() % 7 {
                            0 => vec!["garbage".into()],
                            1 => vec!["small_ad".into()],
                            _ => Vec::new(),
                        },
                    })
                }
                Event::Reply(n, state) => reply(&nth(*n), *state, self.seconds),
                Event::EvidenceFailed(n) => Input::EvidenceFailed { case: nth(*n) },
                Event::Tick(step) => Input::Tick(at(self.seconds + step)),
                Event::Elsewhere(n, what) => {
                    let what = match what {
                        0 => Known::Claimed(claim("theirs", HERE)),
                        1 => Known::Released("theirs".into()),
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

/// NaN is not equal to itself; its text is.
fn text<T: std::fmt::Debug>(all: &[T]) -> Vec<String> {
    all.iter().map(|t| format!("{t:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_gives_the_live_effects_over_any_number_of_starts(
        // Smaller files would be begun faster than a slow disk has them, which is a loss, and another test's matter.
        runs in prop::collection::vec(prop::collection::vec(event(), 1..120), 1..4), file_kb in 8u64..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let plan = street(vec![quick()]);
        let settings = gridwatch_ledger::Settings { file_bytes: file_kb << 10, ..settings(dir.path()) };
        let mut player = Player { plan: Arc::clone(&plan), seconds: 0.0, opened: Vec::new() };
        let (mut effects, mut starts) = (Vec::new(), Vec::new());
        let mut restored = Vec::new();
        for events in &runs {
            player.seconds += 1.0;
            starts.push((at(player.seconds), effects.len()));
            let mut live = start(settings.clone(), at(player.seconds), &plan, restored);
            effects.extend(player.play(&mut live, events));
            restored = remembered(&live);
        }
        let (again, replayed) = replay(dir.path(), &plan, Window::default());
        prop_assert_eq!(text(&again), text(&effects));
        prop_assert_eq!(replayed.tally().starts as usize, runs.len());
        let (twice, _) = replay(dir.path(), &plan, Window::default());
        prop_assert_eq!(text(&twice), text(&again));
    }
}

#[test]
fn what_was_recorded_is_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let plan = street(vec![quick()]);
    let mut inputs = heap(0, 60, 0.8);
    inputs.push(Input::Tick(at(61.0)));
    let effects = record(start(settings(dir.path()), at(-1.0), &plan, vec![]), inputs.clone());
    let recorded = happened(dir.path());
    assert_eq!(recorded.len(), inputs.len());
    assert_eq!(recorded.last(), Some(&What::Tick(at(61.0))));
    let filed: Vec<CaseId> = read(dir.path()).0.into_iter().flat_map(|e| e.filed).collect();
    assert_eq!(filed, opened(&effects));
    assert_eq!(filed.len(), 1);
}

#[test]
fn from_begins_with_the_run_that_was_on_and_tells_only_what_came_later() {
    let dir = tempfile::tempdir().unwrap();
    let plan = street(vec![quick()]);
    let first = record(start(settings(dir.path()), at(0.0), &plan, vec![]), heap(1, 101, 0.8));
    // The second run knows nothing of the first, whose case was never committed: it files it again.
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

/// A crash takes the newest looks from the live engine: what it was given back at the start is a minute old.
#[test]
fn a_start_that_knew_what_came_before_is_replayed_as_it_was() {
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
        "of seven looks two are lost with the crash"
    );

    let replayed = |replay: Replay| {
        let mut replay = replay;
        let entries = read(dir.path()).0.into_iter();
        entries.flat_map(|e| replay.take(e)).collect::<Vec<_>>()
    };
    let new = || Replay::new(Arc::clone(&plan), Window::default());
    assert_eq!(replayed(new().under(&"ab".repeat(32))), effects);
    assert_eq!(
        looks(&replayed(new().under(&"cd".repeat(32)))),
        Some((7, at(61.0))),
        "a replay under another configuration loses nothing"
    );
}

#[test]
fn a_case_that_another_configuration_does_not_open_is_not_given_back_at_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let lax = street(vec![quick()]);
    let strict = street(vec![Rule {
        day: Scores { start: 0.7, keep: 0.3 },
        ..quick()
    }]);
    let mut live = start(settings(dir.path()), at(0.0), &lax, vec![]);
    let first: Vec<Effect> = heap(1, 61, 0.6).into_iter().flat_map(|i| live.apply(i)).collect();
    let restored = remembered(&live);
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
    assert_eq!(case.unwrap().first_seen_at, at(101.0), "nothing holds the site then");
    assert_eq!(
        replayed.tally().replies_unknown,
        1,
        "the answer is about no case of this replay"
    );
}

#[test]
fn a_case_that_only_another_configuration_opens_outlasts_a_start() {
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
fn a_case_that_only_one_of_two_configurations_takes_back_stands_as_it_stands_for_the_replay() {
    let dir = tempfile::tempdir().unwrap();
    let patient = street(vec![quick()]);
    let mut hasty = Plan::clone(&patient);
    hasty.intake.let_go_after = Some(Duration::from_secs(600));
    let hasty = Arc::new(hasty);
    let empty = |from: u32, to: u32| (from..to).step_by(10).map(|s| look("a", f64::from(s), vec![]));
    let mut live = start(settings(dir.path()), at(0.0), &patient, vec![]);
    let first: Vec<Effect> = heap(1, 61, 0.8)
        .into_iter()
        .chain(empty(71, 1000))
        .flat_map(|i| live.apply(i))
        .collect();
    let restored = remembered(&live);
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
        "once, though the store gave it back open"
    );
    let (effects, _) = replay(dir.path(), &patient, Window::default());
    assert_eq!(withdrawn(&effects), 0);
}

#[test]
fn clocks_that_jump_by_thousands_of_years_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let plan = street(vec![quick()]);
    let year = |s: i64| Timestamp::from_second(s).unwrap();
    let ticks = [year(200_000_000_000), year(-200_000_000_000), at(0.0)];
    // Otherwise all is ten thousand years old at once.
    let settings = gridwatch_ledger::Settings {
        keep_for: Duration::MAX,
        ..settings(dir.path())
    };
    record(start(settings, at(0.0), &plan, vec![]), ticks.map(Input::Tick));
    assert_eq!(happened(dir.path()), ticks.map(What::Tick));
}
