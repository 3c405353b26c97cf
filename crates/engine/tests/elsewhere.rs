//! Several boxes that see one site: a problem that another box has open is not filed a second time, and is freed when
//! that case ends.

use crate::engine_support::{HERE, Harness, claim, elsewhere, fixed, plan, rule};
use gridwatch_engine::{CaseId, Claim, Known, LonLat, NotFiled};

const MINUTE: u32 = 60;

fn harness() -> Harness {
    Harness::new(plan([("gate", fixed())], vec![rule()]))
}

/// `metres` north of `HERE`.
fn north(metres: f64) -> LonLat {
    LonLat {
        lat: HERE.lat + metres / 111_000.0,
        ..HERE
    }
}

fn opened(harness: &Harness) -> usize {
    harness.opened().len()
}

fn released() -> Known {
    Known::Released("theirs".into())
}

/// After two minutes: one case, which yielded to another box's.
fn yielded() -> (Harness, CaseId) {
    let mut harness = harness();
    harness.heap_stays("gate", 0, 2 * MINUTE);
    let case = harness.opened()[0].id.clone();
    let to = "theirs".into();
    harness.apply(elsewhere(121.0, Known::Yielded { case: case.clone(), to }));
    (harness, case)
}

#[test]
fn a_claim_reaches_as_far_as_this_boxs_own_rule_says() {
    let mut ours = claim("ours", HERE);
    ours.merge_radius_m = 8.0;
    let is_same = |change: &dyn Fn(&mut Claim)| {
        let mut theirs = claim("theirs", HERE);
        change(&mut theirs);
        ours.is_same_site_as(&theirs)
    };
    assert!(is_same(&|_| ()));
    assert!(is_same(&|c| c.located.at = north(9.0)), "twice the uncertainty is 10 m");
    assert!(!is_same(&|c| c.located.at = north(15.0)));
    assert!(!is_same(&|c| c.category = "0202".into()));
    let vague = |metres: f64| {
        move |c: &mut Claim| {
            c.located.at = north(metres);
            (c.located.uncertainty_m, c.merge_radius_m) = (1000.0, 1000.0);
        }
    };
    assert!(
        is_same(&vague(15.0)),
        "its uncertainty counts up to this box's merge radius"
    );
    assert!(!is_same(&vague(17.0)), "no claim silences a street");
}

#[test]
fn a_case_that_yielded_is_not_filed_again_while_the_other_one_is_open() {
    let (mut harness, ours) = yielded();
    assert_eq!(harness.not_filed(), [NotFiled::OpenElsewhere], "reported once");
    assert!(harness.engine.remembered().all(|c| c.id != ours), "it was never sent");
    assert_eq!(harness.engine.held_back().count(), 1);
    harness.heap_stays("gate", 130, 10 * MINUTE);
    assert_eq!(opened(&harness), 1);
    let again = Known::Yielded {
        case: ours,
        to: "theirs".into(),
    };
    assert!(harness.apply(elsewhere(601.0, again)).is_empty(), "a repeated message");
    harness.close();
}

#[test]
fn a_new_heap_at_its_site_belongs_to_the_other_boxs_case_too() {
    let (mut harness, _) = yielded();
    for second in (130..40 * MINUTE).step_by(10) {
        harness.look("gate", second.into(), Vec::new());
    }
    harness.heap_stays("gate", 41 * MINUTE, 50 * MINUTE);
    assert_eq!(opened(&harness), 1);
    assert_eq!(harness.pins(), 0, "no picture is kept for it");
    harness.close();
}

#[test]
fn a_released_problem_is_filed_if_it_is_still_there() {
    let (mut harness, _) = yielded();
    harness.apply(elsewhere(125.0, Known::Released("another".into())));
    harness.heap_stays("gate", 130, 5 * MINUTE);
    assert_eq!(opened(&harness), 1);
    harness.apply(elsewhere(301.0, released()));
    harness.heap_stays("gate", 310, 360);
    assert_eq!(opened(&harness), 1, "its dwell starts over");
    harness.heap_stays("gate", 370, 8 * MINUTE);
    assert_eq!(opened(&harness), 2);
    harness.close();
}

#[test]
fn it_is_held_back_over_a_restart_and_its_dwell_starts_over_after_one() {
    let (mut harness, _) = yielded();
    harness.restart(plan([("gate", fixed())], vec![rule()]), |_| true);
    harness.heap_stays("gate", 130, 5 * MINUTE);
    assert_eq!(opened(&harness), 1, "held back over the restart");
    harness.apply(elsewhere(301.0, released()));
    harness.restart(plan([("gate", fixed())], vec![rule()]), |_| true);
    harness.heap_stays("gate", 310, 360);
    assert_eq!(opened(&harness), 1);
    harness.heap_stays("gate", 370, 8 * MINUTE);
    assert_eq!(opened(&harness), 2);
    harness.close();
}
