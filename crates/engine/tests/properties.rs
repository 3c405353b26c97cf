//! Properties for arbitrary looks: no case early or late, one per object, and the same effects for the same input.

use std::{sync::Arc, time::Duration};

use crate::engine_support::*;
use gridwatch_engine::{
    BBox, CaseId, CaseState, Detection, Effect, Input, Known, Light, NotFiled, Observation, Reason, Reply, Rule, View,
    ZoneKind,
};
use proptest::prelude::*;

/// What a look at an object that never leaves yields.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Look {
    Seen,
    Missed,
    Blind,
}

/// A rule slow enough for looks every 50 s, with the given dwell and gap.
fn rule_with(dwell_s: f64, max_gap_s: u64) -> Rule {
    Rule {
        dwell: Duration::from_secs_f64(dwell_s),
        max_gap: Duration::from_secs(max_gap_s),
        ..rule()
    }
}

/// Times (in tenths of a second) and results of looks: periods of 1–50 s with jitter, misses, blind stretches and
/// outages.
fn looks() -> impl Strategy<Value = Vec<(f64, Look)>> {
    let step = prop_oneof![
        20 => Just((Look::Seen, 1.0)),
        4 => Just((Look::Missed, 1.0)),
        3 => Just((Look::Blind, 1.0)),
        1 => Just((Look::Seen, 12.0)),
        1 => Just((Look::Blind, 40.0)),
    ];
    (1.0f64..50.0, prop::collection::vec((step, 0.7f64..1.3), 10..250)).prop_map(|(period, steps)| {
        let mut s = 0.0;
        steps
            .into_iter()
            .map(|((look, stretch), jitter)| {
                s += ((period * stretch * jitter * 10.0).round() / 10.0).max(0.1);
                (s, look)
            })
            .collect()
    })
}

/// Slow reference that recomputes everything at every look. Returns the times of the first case's two looks.
fn reference_case(looks: &[(f64, Look)], rule: &Rule) -> Option<(f64, f64)> {
    let counts = |i: usize| {
        let ((a, before), (b, now)) = (looks[i - 1], looks[i]);
        let is_clear = before != Look::Blind && now != Look::Blind;
        (is_clear && b - a <= rule.max_gap.as_secs_f64() + 1e-9).then_some(b - a)
    };
    let time = |from: usize, to: usize| (from + 1..=to).filter_map(counts).sum::<f64>();
    let mut start: Option<usize> = None;
    for i in 0..looks.len() {
        let last_seen = (0..i).rev().find(|j| looks[*j].1 == Look::Seen);
        if let (Some(first), Some(last)) = (start, last_seen) {
            let is_gone = looks[i].1 == Look::Missed && time(last, i) >= rule.forget_after.as_secs_f64() - 1e-9;
            if is_gone || looks[i].0 - looks[last].0 >= 3600.0 || first > i {
                start = None;
            }
        }
        if looks[i].1 != Look::Seen {
            continue;
        }
        let Some(first) = start else {
            start = Some(i);
            continue;
        };
        let clear: Vec<bool> = looks[first..=i]
            .iter()
            .filter(|l| l.1 != Look::Blind)
            .map(|l| l.1 == Look::Seen)
            .collect();
        let (n, m) = (rule.seen_n as usize, rule.seen_m as usize);
        let newest = clear.iter().rev().take(m).filter(|s| **s).count();
        let missed_lately = |i: usize| clear[(i + 1).saturating_sub(m)..=i].iter().filter(|s| !**s).count();
        let present = (0..clear.len()).filter(|i| missed_lately(*i) <= m - n).count();
        if time(first, i) >= rule.dwell.as_secs_f64() - 1e-9
            && newest >= n
            && present as f64 / clear.len() as f64 >= f64::from(rule.present_share) - 1e-6
        {
            return Some((looks[first].0, looks[i].0));
        }
    }
    None
}

fn play(harness: &mut Harness, camera: &str, looks: &[(f64, Look)]) {
    for (s, look) in looks {
        match look {
            Look::Seen => harness.look(camera, *s, vec![garbage(0.8, HEAP)]),
            Look::Missed => harness.look(camera, *s, vec![]),
            // Detections in a blind picture must not matter.
            Look::Blind => harness.see(camera, *s, View::Dark, vec![garbage(0.9, HEAP)]),
        };
    }
}

/// The box shifted by up to an eighth of its size.
fn jittered(b: BBox, (dx, dy): (f32, f32)) -> BBox {
    let (dx, dy) = (dx * (b.x2 - b.x1) / 8.0, dy * (b.y2 - b.y1) / 8.0);
    bbox(b.x1 + dx, b.y1 + dy, b.x2 + dx, b.y2 + dy)
}

fn jitter() -> impl Strategy<Value = (f32, f32)> {
    (-1.0f32..1.0, -1.0f32..1.0)
}

proptest! {
    #[test]
    fn a_case_is_filed_exactly_when_the_reference_says_so(looks in looks(), dwell in 5.0f64..400.0, gap in 30u64..180) {
        let rule = rule_with((dwell * 10.0).round() / 10.0, gap);
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule.clone()]));
        play(&mut harness, "gate", &looks);
        let found = harness.opened().first().map(|c| (c.first_seen_at, c.confirmed_at));
        prop_assert_eq!(found, reference_case(&looks, &rule).map(|(a, b)| (at(a), at(b))));
        prop_assert!(harness.opened().len() <= 1, "one case per site");
        harness.close();
    }

    #[test]
    fn an_object_seen_in_every_look_is_filed_by_the_first_look_after_its_dwell(
        period in 1.0f64..50.0, dwell in 60.0f64..900.0, jitters in prop::collection::vec(0.8f64..1.2, 50),
    ) {
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule_with(dwell, 150)]));
        let (mut s, mut before) = (0.0, 0.0);
        for jitter in jitters.iter().cycle() {
            harness.look("gate", s, vec![garbage(0.8, HEAP)]);
            if s > dwell + 0.001 {
                break;
            }
            before = s;
            s += period * jitter;
        }
        let [case] = harness.opened()[..] else { return Err(TestCaseError::fail("not filed")) };
        prop_assert!(case.confirmed_at >= at(dwell - 0.001), "not early");
        prop_assert!(case.confirmed_at >= at(before) && case.confirmed_at <= at(s), "at most one look late");
    }

    #[test]
    fn blind_time_never_counts(
        period in 1.0f64..20.0, before in 1usize..20, blind_s in 5.0f64..3000.0, blind_looks in 1usize..30,
    ) {
        let mut looks: Vec<_> = (0..before).map(|i| (i as f64 * period, Look::Seen)).collect();
        let from = looks[before - 1].0;
        looks.extend((1..=blind_looks).map(|i| (from + blind_s * i as f64 / (blind_looks + 1) as f64, Look::Blind)));
        looks.extend((0..200).map(|i| (from + blind_s + f64::from(i) * period, Look::Seen)));
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule_with(180.0, 90)]));
        play(&mut harness, "gate", &looks);
        let case = harness.opened()[0];
        let wall = case.confirmed_at.duration_since(case.first_seen_at).as_secs_f64();
        let blind = if case.confirmed_at > at(from + 0.001) { blind_s } else { 0.0 };
        prop_assert!(wall - blind >= 180.0 - 0.01, "{wall} s of which {blind} s were blind");
        prop_assert!((wall - blind - case.dwell.as_secs_f64()).abs() < 0.01);
    }

    #[test]
    fn two_heaps_side_by_side_stay_two(
        period in 1.0f64..20.0,
        looks in prop::collection::vec((jitter(), jitter(), 0.0f32..1.0, 0.0f32..1.0, any::<bool>()), 60..150),
    ) {
        let mut camera = fixed();
        camera.zones = vec![
            zone("left", ZoneKind::Watch, (0.0, 0.5), (0.0, 1.0)),
            zone("right", ZoneKind::Watch, (0.5, 1.0), (0.0, 1.0)),
        ];
        let mut harness = Harness::new(plan([("gate", camera)], vec![rule_with(120.0, 90)]));
        // They touch, and each is missed in a fifth of the looks.
        let (left, right) = (bbox(0.4, 0.5, 0.5, 0.6), bbox(0.5, 0.5, 0.6, 0.6));
        for (i, (a, b, sees_left, sees_right, left_first)) in looks.iter().enumerate() {
            let mut seen = Vec::new();
            if *sees_left > 0.2 {
                seen.push(garbage(0.7, jittered(left, *a)));
            }
            if *sees_right > 0.2 {
                seen.push(garbage(0.7, jittered(right, *b)));
            }
            if !left_first {
                seen.reverse();
            }
            harness.look("gate", i as f64 * period, seen);
        }
        for case in harness.opened() {
            let is_left = case.zone.as_ref().is_some_and(|z| z.as_str() == "left");
            for b in [case.first_box, case.confirmed_box] {
                prop_assert_eq!(b.centre().x < 0.5, is_left, "no case switches to the other object");
            }
        }
        prop_assert!(harness.opened().len() <= 2);
        prop_assert!(!harness.not_filed().contains(&NotFiled::Moved));
        if period * 59.0 > 240.0 {
            prop_assert_eq!(harness.opened().len(), 2, "{:?}", harness.not_filed());
        }
        harness.close();
    }

    #[test]
    fn flickering_scores_are_one_case_in_an_hour(
        period in 1.0f64..20.0, scores in prop::collection::vec((0.3f32..0.8, jitter()), 200),
    ) {
        let mut harness = Harness::new(plan([("gate", fixed())], vec![rule()]));
        let mut s = 0.0;
        for (score, jitter) in scores.iter().cycle() {
            harness.look("gate", s, vec![garbage(*score, jittered(HEAP, *jitter))]);
            s += period;
            if s > 3600.0 {
                break;
            }
        }
        prop_assert_eq!(harness.opened().len(), 1);
        // Only detections before the first sufficient score may be reported.
        prop_assert!(harness.not_filed().iter().all(|r| *r == NotFiled::ScoreTooLow), "{:?}", harness.not_filed());
    }

    #[test]
    fn a_case_is_withdrawn_exactly_when_the_reference_says_so(looks in looks_at_left_place(), after in 100u64..900) {
        let rule = Rule { forget_after: Duration::from_secs(60), ..rule() };
        let mut plan = plan([("gate", fixed())], vec![rule.clone()]);
        plan.intake.let_go_after = Some(Duration::from_secs(after));
        let mut harness = Harness::new(plan);
        harness.heap_stays("gate", 0, FILED_S);
        prop_assert_eq!(harness.opened().len(), 1);
        for (s, look) in &looks {
            match look {
                // Too low to start a track, so that each is a doubt and not a sighting.
                Look::Seen => harness.look("gate", *s, vec![garbage(0.4, HEAP)]),
                Look::Missed => harness.look("gate", *s, vec![]),
                Look::Blind => harness.see("gate", *s, View::Dark, vec![garbage(0.9, HEAP)]),
            };
        }
        let withdrawn = harness.effects.iter().find_map(|e| match e {
            Effect::Revise { state: CaseState::Withdrawn, at, .. } => Some(*at),
            _ => None,
        });
        prop_assert_eq!(withdrawn, reference_withdrawal(&looks, &rule, after as f64).map(at));
    }

    #[test]
    fn cameras_around_one_heap_file_one_case(
        bearings in prop::collection::vec((0.0f64..360.0, 15.0f64..25.0, 5.0f64..9.0), 3),
        heap in (-3.0f64..3.0, -3.0f64..3.0), blunder in 0.0f64..0.003,
        looks in prop::collection::vec(prop::collection::vec((jitter(), 0.0f32..1.0), 3), 40),
    ) {
        let cameras: Vec<_> = ["a", "b", "c"].into_iter().zip(&bearings).map(|(id, (bearing, far, high))| {
            let (sin, cos) = bearing.to_radians().sin_cos();
            (id, Pinhole::towards_here((far * sin, far * cos), *high))
        }).collect();
        let mut harness = Harness::new(plan(cameras.iter().map(|(id, c)| (*id, c.plan(blunder))), vec![rule()]));
        for (i, seen) in looks.iter().enumerate() {
            for (n, ((id, camera), (jitter, hidden))) in cameras.iter().zip(seen).enumerate() {
                let sees = (*hidden > 0.1).then(|| garbage(0.8, jittered(camera.frames(heap), *jitter)));
                harness.look(id, i as f64 * 10.0 + n as f64 * 3.0, sees.into_iter().collect());
            }
        }
        prop_assert_eq!(harness.opened().len(), 1, "{:?}", harness.not_filed());
        harness.close();
    }
}

/// Until when the heap is seen.
const FILED_S: u32 = 120;

/// Looks at the place of a filed heap after its track has ended: empty, blind, and stray boxes.
fn looks_at_left_place() -> impl Strategy<Value = Vec<(f64, Look)>> {
    let look = prop_oneof![12 => Just(Look::Missed), 2 => Just(Look::Blind), 1 => Just(Look::Seen)];
    let step = prop_oneof![12 => 5.0f64..40.0, 1 => 80.0f64..400.0];
    prop::collection::vec((step, look), 20..250).prop_map(|steps| {
        let gone = (1..=7).map(|n| (f64::from(FILED_S + n * 10), Look::Missed));
        let mut s = f64::from(FILED_S + 70);
        let then = steps.into_iter().map(|(step, look)| {
            s = ((s + step) * 10.0).round() / 10.0;
            (s, look)
        });
        gone.chain(then).collect()
    })
}

/// When the heap is filed.
const FILED_AT: f64 = 60.0;

/// Slow reference that compares every look with all observed time before it.
fn reference_withdrawal(looks: &[(f64, Look)], rule: &Rule, after: f64) -> Option<f64> {
    let mut all = vec![(f64::from(FILED_S), Look::Seen)];
    all.extend_from_slice(looks);
    // Observed time laid end to end, and the position of each look in it.
    let mut known = vec![0.0];
    for pair in all.windows(2) {
        let ((a, before), (b, now)) = (pair[0], pair[1]);
        let is_known = before != Look::Blind && now != Look::Blind && b - a <= rule.max_gap.as_secs_f64() + 1e-9;
        known.push(known[known.len() - 1] + if is_known { b - a } else { 0.0 });
    }
    let empty_at = |last: usize| -> f64 {
        let steps = (1..=last).filter(|i| all[*i].1 == Look::Missed);
        let seen_before = |i: usize| (0..i).rev().find(|j| all[*j].1 == Look::Seen);
        let counted = |i: usize| {
            let grace = seen_before(i).map_or(0.0, |j| known[j] + rule.forget_after.as_secs_f64());
            (known[i] - known[i - 1].max(grace)).max(0.0)
        };
        steps.map(counted).sum()
    };
    let silent_at = |i: usize| f64::from(FILED_S) - FILED_AT + known[i];
    let is_up = |i: &usize| {
        let (_, look) = all[*i];
        look != Look::Blind && silent_at(*i) >= after - 1e-6 && empty_at(*i) >= after.min(86400.0) - 1e-6
    };
    (1..all.len()).find(is_up).map(|i| all[i].0)
}

/// Any input, sensible or not.
#[derive(Debug, Clone)]
enum Event {
    Look {
        camera: usize,
        step: f64,
        view: View,
        seen: Vec<Detection>,
    },
    Reply {
        case: usize,
        state: CaseState,
    },
    EvidenceFailed {
        case: usize,
    },
    Tick {
        step: f64,
    },
    Reaimed {
        camera: usize,
    },
    Elsewhere(ClaimEvent),
    Reload {
        cameras: usize,
        rules: usize,
    },
}

/// What the claims of another box, which has two cases, lead to.
#[derive(Debug, Clone)]
enum ClaimEvent {
    Released(usize),
    Yielded { case: usize, to: usize },
}

const THEIRS: [&str; 2] = ["theirs-1", "theirs-2"];

const STATES: [CaseState; 10] = [
    CaseState::Filed,
    CaseState::Accepted,
    CaseState::Rejected,
    CaseState::DuplicateOf,
    CaseState::Dispatched,
    CaseState::Disposed,
    CaseState::VerifyRequested,
    CaseState::Closed,
    CaseState::Reopened,
    CaseState::Withdrawn,
];

fn event() -> impl Strategy<Value = Event> {
    // A few places, so that objects are seen again, and some invalid boxes.
    let spot = prop_oneof![
        8 => (0u8..5, jitter()).prop_map(|(n, j)| {
            let x = 0.1 + f32::from(n) * 0.15;
            jittered(bbox(x, 0.6, x + 0.12, 0.7), j)
        }),
        1 => (-0.5f32..1.5, -0.5f32..1.5, -0.5f32..1.5, -0.5f32..1.5).prop_map(|(a, b, c, d)| bbox(a, b, c, d)),
        1 => Just(bbox(f32::NAN, 0.0, f32::INFINITY, 1.0)),
    ];
    let score = prop_oneof![9 => 0.2f32..1.0, 1 => Just(f32::NAN)];
    let label = prop_oneof![Just("garbage"), Just("sign")];
    let seen = (spot, score, label).prop_map(|(b, score, label)| Detection::new(label, score, b));
    let view = prop_oneof![8 => Just(View::Clear), 1 => Just(View::Dark), 1 => Just(View::Damaged)];
    let step = prop_oneof![30 => 0.5f64..20.0, 2 => 50.0f64..400.0, 1 => 3000.0f64..90000.0, 1 => Just(0.0), 1 => -300.0f64..0.0];
    let claim_event = prop_oneof![
        (0usize..2).prop_map(ClaimEvent::Released),
        (0usize..8, 0usize..2).prop_map(|(case, to)| ClaimEvent::Yielded { case, to }),
    ];
    prop_oneof![
        40 => (0usize..3, step.clone(), view, prop::collection::vec(seen, 0..6))
            .prop_map(|(camera, step, view, seen)| Event::Look { camera, step, view, seen }),
        2 => (0usize..8, prop::sample::select(&STATES[..])).prop_map(|(case, state)| Event::Reply { case, state }),
        1 => (0usize..8).prop_map(|case| Event::EvidenceFailed { case }),
        2 => step.prop_map(|step| Event::Tick { step }),
        1 => (0usize..3).prop_map(|camera| Event::Reaimed { camera }),
        1 => claim_event.prop_map(Event::Elsewhere),
        1 => (1usize..4, 1usize..3).prop_map(|(cameras, rules)| Event::Reload { cameras, rules }),
    ]
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    prop::collection::vec(event(), 1..300)
}

const CAMERAS: [&str; 3] = ["a", "b", "c"];

fn plan_of(cameras: usize, rules: usize) -> gridwatch_engine::Plan {
    let street = Pinhole::towards_here((0.0, -18.0), 6.0);
    let mut zoned = fixed();
    zoned.away = Duration::from_secs(300);
    zoned.zones = vec![
        zone("kerb", ZoneKind::Watch, (0.0, 0.5), (0.0, 1.0)),
        zone("bin", ZoneKind::Exclude, (0.4, 0.45), (0.0, 1.0)),
    ];
    let quick = Rule {
        dwell: Duration::from_secs(20),
        seen_n: 2,
        ..rule()
    };
    let mut sign = Rule {
        id: "sign".into(),
        labels: vec!["sign".into()],
        max_move: 2.0,
        ..quick.clone()
    };
    sign.category.code = "0202".into();
    let all = [fixed(), zoned, street.plan(0.001)];
    let mut plan = plan(
        CAMERAS.into_iter().zip(all).take(cameras),
        [quick, sign].into_iter().take(rules).collect(),
    );
    // Short enough to happen among the events.
    plan.intake.let_go_after = Some(Duration::from_secs(60));
    plan
}

/// Current time and configuration.
struct Street {
    seconds: f64,
    cameras: usize,
    rules: usize,
}

impl Default for Street {
    fn default() -> Self {
        Self {
            seconds: 0.0,
            cameras: 3,
            rules: 2,
        }
    }
}

impl Street {
    fn plan(&self) -> gridwatch_engine::Plan {
        plan_of(self.cameras, self.rules)
    }

    fn play(&mut self, harness: &mut Harness, event: &Event) {
        // Newest case first; past the last, an unknown one.
        let nth = |harness: &Harness, n: &usize| {
            let case = harness.opened().into_iter().rev().nth(*n);
            case.map_or_else(|| CaseId::from("01ARZ3NDEKTSV4RRFFQ69G5FAV"), |c| c.id.clone())
        };
        let input = match event {
            Event::Look {
                camera,
                step,
                view,
                seen,
            } => {
                self.seconds += step;
                Input::Observed(Observation {
                    camera: CAMERAS[*camera].into(),
                    at: at(self.seconds),
                    view: *view,
                    light: Light::Day,
                    detections: seen.clone(),
                    not_searched: Vec::new(),
                })
            }
            Event::Reply { case: n, state } => Input::Reply(Reply {
                case: nth(harness, n),
                state: *state,
                at: at(self.seconds),
                reason: None,
                due: None,
            }),
            Event::EvidenceFailed { case: n } => Input::EvidenceFailed { case: nth(harness, n) },
            Event::Tick { step } => Input::Tick(at(self.seconds + step)),
            Event::Reaimed { camera } => Input::Reaimed {
                camera: CAMERAS[*camera].into(),
                at: at(self.seconds),
            },
            Event::Elsewhere(change) => {
                let theirs = |n: &usize| THEIRS[*n];
                let what = match change {
                    ClaimEvent::Released(n) => Known::Released(theirs(n).into()),
                    ClaimEvent::Yielded { case, to } => Known::Yielded {
                        case: nth(harness, case),
                        to: theirs(to).into(),
                    },
                };
                elsewhere(self.seconds, what)
            }
            Event::Reload { cameras, rules } => {
                (self.cameras, self.rules) = (*cameras, *rules);
                Input::Configured(Arc::new(self.plan()))
            }
        };
        harness.apply(input);
    }
}

fn run(events: &[Event]) -> Harness {
    let mut harness = Harness::new(plan_of(3, 2));
    let mut street = Street::default();
    for event in events {
        street.play(&mut harness, event);
    }
    harness
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// `Harness` panics on an `Unpin` without its `Pin`, and `close` on a `Pin` that is never released.
    #[test]
    fn pins_balance_and_cases_are_valid_for_any_input(events in any_events()) {
        let mut harness = run(&events);
        for case in harness.opened() {
            prop_assert!(case.first_seen_at < case.confirmed_at, "two different pictures");
            prop_assert!(case.dwell >= Duration::from_secs(20));
            prop_assert!(case.looks_seen <= case.looks && case.looks_seen >= 2);
            prop_assert!((0.0..=1.0).contains(&case.confidence));
        }
        let mut ids: Vec<_> = harness.opened().iter().map(|c| c.id.clone()).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), all, "ids are unique");
        harness.close();
    }

    /// A prefix, a restart and the rest give the same effects as the whole.
    #[test]
    fn a_restart_at_any_point_changes_nothing(events in any_events(), cut in 0usize..300) {
        let whole = run(&events);
        let cut = cut.min(events.len());
        let mut harness = Harness::new(plan_of(3, 2));
        let mut street = Street::default();
        for event in &events[..cut] {
            street.play(&mut harness, event);
        }
        let before = harness.effects.len();
        harness.restart(street.plan(), |_| true);
        let pinned_again = harness.effects.drain(before..).all(|e| matches!(e, Effect::Pin { .. }));
        prop_assert!(pinned_again, "a restart decides nothing");
        for event in &events[cut..] {
            street.play(&mut harness, event);
        }
        for case in harness.effects.iter_mut().filter_map(|e| if let Effect::Open(case) = e { Some(case) } else { None }) {
            case.journal.retain(|n| n.reason != Reason::Restarted);
        }
        prop_assert_eq!(&harness.effects, &whole.effects);
        harness.close();
    }

    #[test]
    fn the_same_inputs_give_the_same_effects(events in any_events()) {
        prop_assert_eq!(run(&events).effects, run(&events).effects);
    }
}
