//! Before a case is filed the thing is looked at closer, where its rule asks for that: what a closer look doubts is not filed,
//! and what nobody could look at closer is not lost.

use crate::engine_support::{HEAP, World, at, fixed, fixed_at, garbage, plan, rule};
use gridwatch_engine::{Detection, Effect, Intake, LonLat, NotFiled, Plan, Rule};

/// A heap must be seen for a minute, and score 0.4 by a closer look.
fn careful() -> Rule {
    Rule {
        second_look: Some(0.4),
        ..rule()
    }
}

fn street() -> Plan {
    plan([("gate", fixed())], vec![careful()])
}

/// The heap, which a closer look at it gave this score.
fn seen_closer(score: f32) -> Vec<Detection> {
    vec![Detection {
        closer: Some(score),
        ..garbage(0.8, HEAP)
    }]
}

/// Looks every 10 s. Where the engine has asked for a closer look at the heap the next look has that score. Gives the moments at
/// which it asked.
fn answered(world: &mut World, from: u32, to: u32, score: f32) -> Vec<u32> {
    let mut asked: Vec<u32> = Vec::new();
    for s in (from..=to).step_by(10) {
        let is_due = asked.last().is_some_and(|last| *last + 10 == s);
        let found = if is_due {
            seen_closer(score)
        } else {
            vec![garbage(0.8, HEAP)]
        };
        let effects = world.look("gate", s.into(), found);
        let is_asking = |e: &Effect| {
            matches!(e, Effect::SecondLook { camera, rule, bbox }
                if camera.as_str() == "gate" && rule.as_str() == "garbage" && *bbox == HEAP)
        };
        if effects.iter().any(is_asking) {
            asked.push(s);
        }
    }
    asked
}

#[test]
fn what_is_there_by_a_closer_look_too_is_filed_without_delay() {
    let mut world = World::new(street());
    let asked = answered(&mut world, 0, 600, 0.7);
    let [case] = world.opened()[..] else {
        panic!("{:?}", world.opened())
    };
    assert_eq!(
        case.confirmed_at,
        at(60.0),
        "the minute that the rule asks, and no look more"
    );
    assert_eq!(case.confidence_closer, Some(0.7));
    assert!((case.confidence - 0.8).abs() < 1e-6, "the first looks' own");
    assert_eq!(asked, [50], "asked once, and never again");
    world.close();
}

#[test]
fn what_a_closer_look_doubts_is_not_filed_and_is_looked_at_again_after_another_dwell() {
    let mut world = World::new(street());
    let asked = answered(&mut world, 0, 190, 0.3);
    assert_eq!(asked, [50, 120, 190], "each time a dwell after it was doubted");
    assert!(world.opened().is_empty());
    assert_eq!(world.not_filed(), [NotFiled::Doubted], "told once");
    // Somebody had stood before it.
    let asked = answered(&mut world, 200, 400, 0.9);
    assert_eq!(asked, [200]);
    let [case] = world.opened()[..] else {
        panic!("{:?}", world.opened())
    };
    assert_eq!((case.first_seen_at, case.confidence_closer), (at(0.0), Some(0.9)));
    assert!(
        case.journal.iter().any(|n| n.reason.as_str() == "doubted"),
        "the case tells: {:?}",
        case.journal
    );
    world.close();
}

#[test]
fn a_score_that_is_none_is_a_doubt() {
    let mut world = World::new(street());
    answered(&mut world, 0, 60, f32::NAN);
    assert!(world.opened().is_empty());
    assert_eq!(world.not_filed(), [NotFiled::Doubted]);
    world.close();
}

#[test]
fn what_nobody_could_look_at_closer_is_filed_after_some_looks() {
    let mut world = World::new(street());
    world.heap_stays("gate", 0, 600);
    let [case] = world.opened()[..] else {
        panic!("{:?}", world.opened())
    };
    assert_eq!(
        (case.confirmed_at, case.confidence_closer),
        (at(90.0), None),
        "three looks waited"
    );
    world.close();
}

#[test]
fn what_was_doubted_is_not_filed_because_nobody_looks_again() {
    let mut world = World::new(street());
    answered(&mut world, 0, 60, 0.3);
    assert_eq!(world.not_filed(), [NotFiled::Doubted]);
    world.heap_stays("gate", 70, 600);
    assert!(world.opened().is_empty());
    world.look("gate", 610.0, seen_closer(0.5));
    assert_eq!(world.opened()[0].confidence_closer, Some(0.5));
    world.close();
}

#[test]
fn a_rule_that_asks_for_none_is_not_given_one() {
    let mut world = World::new(plan([("gate", fixed())], vec![rule()]));
    assert_eq!(answered(&mut world, 0, 50, 0.9), Vec::<u32>::new());
    // Another rule's, of the same thing.
    world.look("gate", 60.0, seen_closer(0.0));
    assert_eq!(world.opened()[0].confidence_closer, None);
    world.close();
}

#[test]
fn what_has_a_case_is_not_looked_at_closer_by_the_next_camera() {
    let here = || {
        fixed_at(LonLat {
            lon: 113.6005,
            lat: 34.7005,
        })
    };
    let mut world = World::new(plan([("gate", here()), ("corner", here())], vec![careful()]));
    answered(&mut world, 0, 120, 0.9);
    assert_eq!(world.opened().len(), 1);
    let mut asked = Vec::new();
    for s in (130..=300).step_by(10) {
        let effects = world.look("corner", f64::from(s), vec![garbage(0.8, HEAP)]);
        asked.extend(effects.into_iter().filter(|e| matches!(e, Effect::SecondLook { .. })));
    }
    assert!(world.not_filed().contains(&NotFiled::OpenCaseAtSite));
    assert!(asked.len() <= 1, "it cannot know before its dwell is over: {asked:?}");
    world.close();
}

#[test]
fn who_waits_for_another_day_has_been_looked_at_and_a_restart_knows() {
    let mut full = street();
    full.intake = Intake {
        per_camera_day: 0,
        per_box_day: 0,
        let_go_after: None,
    };
    let mut world = World::new(full);
    assert_eq!(answered(&mut world, 0, 300, 0.8), [50]);
    assert_eq!(world.not_filed(), [NotFiled::OverDailyCap]);
    world.restart(street(), |_| true);
    assert_eq!(answered(&mut world, 310, 330, 0.0), Vec::<u32>::new());
    assert_eq!(world.opened()[0].confidence_closer, Some(0.8));
    world.close();
}
