//! Several boxes that see one site: what another box has open is filed no second time, and nothing hangs on it longer.

use crate::engine_support::{HERE, World, claim, elsewhere, fixed, plan, rule};
use gridwatch_engine::{CaseId, Claim, Known, LonLat, NotFiled};

const MINUTE: u32 = 60;

fn world() -> World {
    World::new(plan([("gate", fixed())], vec![rule()]))
}

/// `metres` north of `HERE`.
fn north(metres: f64) -> LonLat {
    LonLat {
        lat: HERE.lat + metres / 111_000.0,
        ..HERE
    }
}

fn opened(world: &World) -> usize {
    world.opened().len()
}

#[test]
fn what_another_box_has_open_is_not_filed() {
    let mut world = world();
    world.apply(elsewhere(0.0, Known::Claimed(claim("theirs", north(9.0)))));
    world.heap_stays("gate", 0, 10 * MINUTE);
    assert_eq!(
        (opened(&world), world.not_filed()),
        (0, vec![NotFiled::OpenElsewhere]),
        "told once"
    );
    assert_eq!(
        world.engine.open_cases().count(),
        0,
        "another box's case is none of this one"
    );
    assert_eq!(world.pins(), 0, "no picture is kept for it");
    world.close();
}

#[test]
fn what_another_box_has_open_farther_off_or_of_another_kind_is_nothing_to_this_one() {
    let other = |change: fn(&mut Claim)| {
        let mut theirs = claim("theirs", HERE);
        change(&mut theirs);
        let mut world = world();
        world.apply(elsewhere(0.0, Known::Claimed(theirs)));
        world.heap_stays("gate", 0, 2 * MINUTE);
        opened(&world)
    };
    assert_eq!(other(|_| ()), 0);
    assert_eq!(other(|c| c.located.at = north(15.0)), 1, "two uncertainties are 10 m");
    assert_eq!(other(|c| c.category = "0202".into()), 1);
    let reach = |c: &mut Claim| (c.located.at, c.merge_radius_m) = (north(15.0), 20.0);
    assert_eq!(other(reach), 0, "the wider of two rules' radii is both boxes'");
}

#[test]
fn what_the_other_box_lets_go_of_is_filed_if_it_is_still_there() {
    let mut world = world();
    world.apply(elsewhere(0.0, Known::Claimed(claim("theirs", HERE))));
    world.heap_stays("gate", 0, 2 * MINUTE);
    world.apply(elsewhere(125.0, Known::Released("theirs".into())));
    world.heap_stays("gate", 130, 180);
    assert_eq!(opened(&world), 0, "it dwells anew");
    world.heap_stays("gate", 190, 4 * MINUTE);
    assert_eq!(opened(&world), 1);
    world.close();
}

#[test]
fn of_two_that_were_confirmed_at_a_time_the_later_gives_way() {
    let mut world = world();
    world.heap_stays("gate", 0, 2 * MINUTE);
    let ours = world.opened()[0].id.clone();
    let theirs = CaseId::from("theirs");
    world.apply(elsewhere(121.0, Known::Claimed(claim("theirs", HERE))));
    let yielded = Known::Yielded {
        case: ours.clone(),
        to: theirs.clone(),
    };
    world.apply(elsewhere(122.0, yielded.clone()));
    assert_eq!(world.not_filed(), [NotFiled::OpenElsewhere]);
    assert!(
        world.engine.remembered().all(|c| c.id != ours),
        "nobody ever heard of it"
    );
    world.heap_stays("gate", 130, 10 * MINUTE);
    assert_eq!(opened(&world), 1, "its heap belongs to the other box's case");
    assert!(world.apply(elsewhere(601.0, yielded)).is_empty(), "said twice");
    world.apply(elsewhere(602.0, Known::Released(theirs)));
    world.heap_stays("gate", 610, 12 * MINUTE);
    assert_eq!(
        opened(&world),
        2,
        "the case it gave way to is over, and the heap is not"
    );
    world.close();
}

#[test]
fn a_heap_may_come_nearer_to_one_of_two_claims() {
    let mut world = world();
    world.apply(elsewhere(0.0, Known::Claimed(claim("near", north(1.0)))));
    world.apply(elsewhere(0.0, Known::Claimed(claim("far", north(9.0)))));
    world.heap_stays("gate", 0, 2 * MINUTE);
    world.apply(elsewhere(125.0, Known::Released("far".into())));
    world.heap_stays("gate", 130, 10 * MINUTE);
    assert_eq!(opened(&world), 0, "it is the nearer one's");
}
