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

#[test]
fn a_problem_another_box_has_open_is_not_filed() {
    let mut harness = harness();
    harness.apply(elsewhere(0.0, Known::Claimed(claim("theirs", north(9.0)))));
    harness.heap_stays("gate", 0, 10 * MINUTE);
    assert_eq!(
        (opened(&harness), harness.not_filed()),
        (0, vec![NotFiled::OpenElsewhere]),
        "reported once"
    );
    assert_eq!(
        harness.engine.open_cases().count(),
        0,
        "another box's case is not listed here"
    );
    assert_eq!(harness.pins(), 0, "no picture is kept for it");
    harness.close();
}

#[test]
fn claims_farther_away_or_of_another_category_do_not_matter() {
    let other = |change: fn(&mut Claim)| {
        let mut theirs = claim("theirs", HERE);
        change(&mut theirs);
        let mut harness = harness();
        harness.apply(elsewhere(0.0, Known::Claimed(theirs)));
        harness.heap_stays("gate", 0, 2 * MINUTE);
        opened(&harness)
    };
    assert_eq!(other(|_| ()), 0);
    assert_eq!(
        other(|c| c.located.at = north(15.0)),
        1,
        "twice the uncertainty is 10 m"
    );
    assert_eq!(other(|c| c.category = "0202".into()), 1);
    let reach = |c: &mut Claim| (c.located.at, c.merge_radius_m) = (north(15.0), 20.0);
    assert_eq!(other(reach), 0, "the larger merge radius applies to both boxes");
    let far =
        |c: &mut Claim| (c.located.at, c.located.uncertainty_m, c.merge_radius_m) = (north(110.0), 2000.0, 2000.0);
    assert_eq!(other(far), 1, "no claim silences a district");
}

#[test]
fn a_released_problem_is_filed_if_it_is_still_there() {
    let mut harness = harness();
    harness.apply(elsewhere(0.0, Known::Claimed(claim("theirs", HERE))));
    harness.heap_stays("gate", 0, 2 * MINUTE);
    harness.apply(elsewhere(125.0, Known::Released("theirs".into())));
    harness.heap_stays("gate", 130, 180);
    assert_eq!(opened(&harness), 0, "its dwell starts over");
    harness.heap_stays("gate", 190, 4 * MINUTE);
    assert_eq!(opened(&harness), 1);
    harness.close();
}

#[test]
fn its_dwell_starts_over_even_if_the_box_restarts_before_its_next_look() {
    let mut harness = harness();
    harness.apply(elsewhere(0.0, Known::Claimed(claim("theirs", HERE))));
    harness.heap_stays("gate", 0, 2 * MINUTE);
    harness.apply(elsewhere(125.0, Known::Released("theirs".into())));
    harness.restart(plan([("gate", fixed())], vec![rule()]), |_| true);
    harness.heap_stays("gate", 130, 180);
    assert_eq!(opened(&harness), 0);
    harness.heap_stays("gate", 190, 4 * MINUTE);
    assert_eq!(opened(&harness), 1);
    harness.close();
}

#[test]
fn of_two_simultaneous_cases_the_later_yields() {
    let mut harness = harness();
    harness.heap_stays("gate", 0, 2 * MINUTE);
    let ours = harness.opened()[0].id.clone();
    let theirs = CaseId::from("theirs");
    harness.apply(elsewhere(121.0, Known::Claimed(claim("theirs", HERE))));
    let yielded = Known::Yielded {
        case: ours.clone(),
        to: theirs.clone(),
    };
    harness.apply(elsewhere(122.0, yielded.clone()));
    assert_eq!(harness.not_filed(), [NotFiled::OpenElsewhere]);
    assert!(harness.engine.remembered().all(|c| c.id != ours), "it was never sent");
    harness.heap_stays("gate", 130, 10 * MINUTE);
    assert_eq!(opened(&harness), 1, "its heap belongs to the other box's case");
    assert!(
        harness.apply(elsewhere(601.0, yielded)).is_empty(),
        "a repeated message"
    );
    harness.apply(elsewhere(602.0, Known::Released(theirs)));
    harness.heap_stays("gate", 610, 12 * MINUTE);
    assert_eq!(opened(&harness), 2, "the other case ended and the heap is still there");
    harness.close();
}

#[test]
fn a_heap_belongs_to_the_nearer_of_two_claims() {
    let mut harness = harness();
    harness.apply(elsewhere(0.0, Known::Claimed(claim("near", north(1.0)))));
    harness.apply(elsewhere(0.0, Known::Claimed(claim("far", north(9.0)))));
    harness.heap_stays("gate", 0, 2 * MINUTE);
    harness.apply(elsewhere(125.0, Known::Released("far".into())));
    harness.heap_stays("gate", 130, 10 * MINUTE);
    assert_eq!(opened(&harness), 0, "it belongs to the nearer one");
}
