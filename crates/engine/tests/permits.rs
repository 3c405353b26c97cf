//! Permitted ground, pauses and working hours: time outside a rule's hours is neither presence nor absence.
//! The tests' clock starts at 15:06:40 UTC; the hours here are 15:10 to 15:20, i.e. seconds 200 to 800.

use std::time::Duration;

use crate::engine_support::{HEAP, Harness, at, bbox, fixed, garbage, plan, rule, zone};
use gridwatch_engine::{
    Effect, Input, NotFiled, Plan, Rule, Validity, ZoneKind,
    calendar::{Days, Hours, Pause, Schedule, Window},
};
use proptest::prelude::*;

const OPENS: u16 = 15 * 60 + 10;

/// One camera and one rule; `hours` is open daily for `minutes` from 15:10.
fn plan_with(minutes: u16, hours: Hours, zones: Vec<gridwatch_engine::Zone>) -> Plan {
    let mut camera = fixed();
    camera.zones = zones;
    let mut plan = plan([("gate", camera)], vec![Rule { hours, ..rule() }]);
    let window = Window {
        days: Days::DAILY,
        from: OPENS,
        to: OPENS + minutes,
        season: None,
    };
    let schedule = Schedule { windows: vec![window] };
    plan.calendar.schedules.insert("hours".into(), schedule);
    plan
}

fn pause(after_s: u64) -> Hours {
    Hours {
        active: None,
        pause: Some(Pause {
            schedule: "hours".into(),
            after: Duration::from_secs(after_s),
        }),
    }
}

fn active() -> Hours {
    Hours {
        active: Some("hours".into()),
        pause: None,
    }
}

fn market() -> Harness {
    market_on(Validity::ALWAYS)
}

/// The tests' clock starts on 28 May 2026.
fn market_on(valid: Validity) -> Harness {
    let during = ZoneKind::Permitted {
        during: "hours".into(),
        valid,
    };
    let zones = vec![
        zone("pavement", ZoneKind::Watch, (0.0, 1.0), (0.0, 1.0)),
        zone("stalls", during, (0.3, 0.7), (0.4, 1.0)),
    ];
    Harness::new(plan_with(10, Hours::default(), zones))
}

#[test]
fn a_permit_holds_on_its_days_only() {
    let today = at(0.0).to_zoned(jiff::tz::TimeZone::UTC).date();
    let (yesterday, tomorrow) = (today.yesterday().unwrap(), today.tomorrow().unwrap());
    let on = |from, until| {
        let mut harness = market_on(Validity { from, until });
        harness.heap_stays("gate", 200, 790);
        harness.opened().len()
    };
    assert_eq!(on(Some(today), Some(today)), 0, "both days are included");
    assert_eq!(on(None, Some(yesterday)), 1, "expired");
    assert_eq!(on(Some(tomorrow), None), 1, "not yet");
    assert_eq!(on(Some(yesterday), Some(tomorrow)), 0);
}

/// A night market on its last day lasts until its stalls close after midnight.
#[test]
fn a_window_belongs_to_the_day_on_which_it_begins() {
    let mut plan = plan_with(10, Hours::default(), Vec::new());
    let night = Window {
        days: Days::DAILY,
        from: 18 * 60,
        to: 26 * 60,
        season: None,
    };
    let schedule = Schedule { windows: vec![night] };
    plan.calendar.schedules.insert("night".into(), schedule);
    let last = jiff::civil::date(2026, 5, 28);
    let valid = Validity {
        from: Some(last),
        until: Some(last),
    };
    let open = |time: &str| {
        let at: jiff::Timestamp = format!("{time}Z").parse().unwrap();
        plan.calendar.is_open_on(&"night".into(), &valid, at)
    };
    assert!(open("2026-05-28T18:00:00") && open("2026-05-29T01:59:00"));
    assert!(!open("2026-05-28T01:00:00") && !open("2026-05-29T18:00:00"));
}

#[test]
fn there_is_no_case_inside_the_hours_and_one_outside() {
    let mut harness = market();
    harness.heap_stays("gate", 200, 790);
    assert!(harness.opened().is_empty());
    assert_eq!(
        (harness.not_filed(), harness.pins()),
        (vec![NotFiled::Permitted], 0),
        "reported once"
    );
    harness.heap_stays("gate", 800, 850);
    assert!(harness.opened().is_empty(), "permitted time is not dwell");
    harness.heap_stays("gate", 860, 860);
    let [case] = harness.opened()[..] else {
        panic!("one case")
    };
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(800.0), at(860.0)));
    assert_eq!((case.dwell, case.looks), (Duration::from_secs(60), 7));
    assert_eq!(case.schedule.as_ref().map(|s| s.as_str()), Some("hours"));
    assert_eq!(case.zone.as_ref().map(|z| z.as_str()), Some("pavement"));
    harness.close();
}

#[test]
fn a_candidate_that_becomes_permitted_ends() {
    let mut harness = market();
    harness.heap_stays("gate", 150, 190);
    assert_eq!((harness.not_filed(), harness.pins()), (vec![], 1));
    harness.heap_stays("gate", 200, 400);
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::Permitted], 0));
    harness.close();
}

#[test]
fn the_hours_do_not_apply_next_to_the_permitted_ground() {
    let mut harness = market();
    for s in (200..=260).step_by(10) {
        harness.look("gate", f64::from(s), vec![garbage(0.8, bbox(0.1, 0.5, 0.2, 0.6))]);
    }
    let [case] = harness.opened()[..] else {
        panic!("one case")
    };
    assert_eq!(case.schedule, None);
}

#[test]
fn an_object_moving_through_the_market_is_reported_once() {
    let mut harness = market();
    for n in 0..10_u8 {
        let x = 0.31 + 0.02 * f32::from(n);
        harness.look(
            "gate",
            200.0 + 10.0 * f64::from(n),
            vec![garbage(0.8, bbox(x, 0.5, x + 0.1, 0.6))],
        );
    }
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::Permitted], 0));
}

#[test]
fn an_open_case_is_unaffected_by_the_hours() {
    let mut harness = market();
    harness.heap_stays("gate", 100, 300);
    assert_eq!((harness.opened().len(), harness.not_filed()), (1, vec![]));
    let id = harness.opened()[0].id.clone();
    assert_eq!(harness.engine.last_seen(&id), Some(at(300.0)));
}

#[test]
fn a_pause_neither_adds_to_the_dwell_nor_reduces_it() {
    let mut harness = Harness::new(plan_with(10, pause(60), Vec::new()));
    // 40 s before the pause, which lasts from 200 to 860.
    harness.heap_stays("gate", 160, 870);
    assert_eq!((harness.opened().len(), harness.pins()), (0, 1));
    harness.heap_stays("gate", 880, 880);
    let [case] = harness.opened()[..] else {
        panic!("one case")
    };
    assert_eq!((case.first_seen_at, case.dwell), (at(160.0), Duration::from_secs(60)));
    assert_eq!(case.looks, 4 + 3, "looks in the pause do not count");
    assert_eq!(case.schedule.as_ref().map(|s| s.as_str()), Some("hours"));
}

#[test]
fn a_pause_is_not_absence() {
    let mut harness = Harness::new(plan_with(10, pause(60), Vec::new()));
    harness.heap_stays("gate", 160, 190);
    for s in (200..=860).step_by(10) {
        harness.look("gate", f64::from(s), vec![]);
    }
    harness.heap_stays("gate", 870, 890);
    assert_eq!((harness.opened().len(), harness.not_filed()), (1, vec![]));
}

#[test]
fn bags_put_out_for_collection_start_their_dwell_afterwards() {
    let mut harness = Harness::new(plan_with(10, pause(60), Vec::new()));
    harness.heap_stays("gate", 210, 850);
    assert!(
        harness.effects.is_empty(),
        "not even a candidate: {:?}",
        harness.effects
    );
    harness.heap_stays("gate", 860, 920);
    assert_eq!(harness.opened()[0].first_seen_at, at(860.0));
}

#[test]
fn tracks_become_stale_after_an_hour_in_a_pause_too() {
    let mut harness = Harness::new(plan_with(180, pause(60), Vec::new()));
    harness.heap_stays("gate", 160, 190);
    for s in (200..3900).step_by(60) {
        harness.look("gate", f64::from(s), vec![]);
    }
    assert_eq!((harness.not_filed(), harness.pins()), (vec![NotFiled::BlindTooLong], 0));
}

#[test]
fn a_rule_is_active_only_in_its_hours() {
    let mut harness = Harness::new(plan_with(10, active(), Vec::new()));
    harness.heap_stays("gate", 0, 190);
    assert!(harness.effects.is_empty(), "{:?}", harness.effects);
    harness.heap_stays("gate", 200, 260);
    let [case] = harness.opened()[..] else {
        panic!("one case")
    };
    assert_eq!((case.first_seen_at, case.confirmed_at), (at(200.0), at(260.0)));
    assert_eq!(case.schedule.as_ref().map(|s| s.as_str()), Some("hours"));
}

#[test]
fn no_look_is_requested_that_would_decide_nothing() {
    let asked = |hours| {
        let mut plan = plan_with(10, hours, Vec::new());
        plan.rules[0].dwell = Duration::from_secs(58);
        let mut harness = Harness::new(plan);
        for s in (147..=197).step_by(10) {
            harness.look("gate", f64::from(s), vec![garbage(0.8, HEAP)]);
        }
        let by = |e: &Effect| matches!(e, Effect::Look { .. });
        harness.effects.iter().filter(|e| by(e)).count()
    };
    assert_eq!(asked(Hours::default()), 1, "at 205");
    assert_eq!(asked(pause(0)), 0, "205 lies in the pause");
}

#[test]
fn a_clock_set_back_into_the_hours_files_nothing() {
    let mut harness = Harness::new(plan_with(10, pause(0), Vec::new()));
    harness.heap_stays("gate", 800, 850);
    // The schedule depends on the current clock only, whatever it was set back by.
    harness.heap_stays("gate", 300, 790);
    assert_eq!(
        (harness.opened().len(), harness.not_filed()),
        (0, vec![NotFiled::BlindTooLong])
    );
    harness.heap_stays("gate", 800, 860);
    assert_eq!(harness.opened()[0].first_seen_at, at(800.0));
    harness.close();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Second-by-second reference: a heap that never leaves is filed at the first look in the rule's hours by which the
    /// rule has been active for the dwell since the first counted look.
    #[test]
    fn the_dwell_is_the_seconds_in_which_the_rule_was_active(
        (minutes, after, dwell) in (1..20_u16, 0..900_u64, 60..900_u64),
        (start, every) in (0..1200_u64, 5..40_u64),
        is_pause in any::<bool>(),
    ) {
        let hours = if is_pause { pause(after) } else { active() };
        let mut plan = plan_with(minutes, hours, Vec::new());
        plan.rules[0].dwell = Duration::from_secs(dwell);
        plan.rules[0].seen_n = 1;
        let closes = 200 + 60 * u64::from(minutes);
        let works = |s: u64| {
            if is_pause { !(200..closes + after).contains(&s) } else { (200..closes).contains(&s) }
        };
        let looks: Vec<u64> = (0..200).map(|n| start + n * every).collect();
        let first = looks.iter().copied().find(|s| works(*s));
        let confirmed = first.and_then(|first| {
            let worked = |s: u64| (first..s).filter(|s| works(*s)).count() as u64;
            looks.iter().copied().find(|s| *s > first && works(*s) && worked(*s) >= dwell)
        });
        let mut harness = Harness::new(plan);
        for s in &looks {
            harness.look("gate", *s as f64, vec![garbage(0.8, HEAP)]);
        }
        let got = harness.opened().first().map(|c| (c.first_seen_at, c.confirmed_at));
        let expected = first.zip(confirmed).map(|(first, confirmed)| (at(first as f64), at(confirmed as f64)));
        prop_assert_eq!(got, expected);
        harness.apply(Input::Tick(at(1e6)));
        harness.close();
    }
}
