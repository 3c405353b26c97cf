//! Telephone numbers on walls: one case for each advertiser and wall; a look that did not read is no absence; and what an
//! operator approved is lawful by its number.

use std::time::Duration;

use crate::engine_support::*;
use gridwatch_engine::{
    ApprovedSign, BBox, CameraPlan, Detection, Input, Label, Light, NotFiled, Observation, PhoneNumber, Rule, Stands,
    View,
};

const READ_EVERY_S: u32 = 600;
const LOOK_EVERY_S: u32 = 10;
const LOCKSMITH: &str = "13800138000";
const MOVER: &str = "037167890123";

fn small_ads() -> Rule {
    Rule {
        id: "small-ads".into(),
        labels: vec![Label::small_ad()],
        dwell: Duration::from_secs(2 * 3600),
        seen_n: 2,
        min_area: 0.0004,
        stands: Stands::Wall,
        except_approved: true,
        forget_after: Duration::from_secs(45 * 60),
        max_gap: Duration::from_secs(31 * 60),
        ..rule()
    }
}

fn wall(approved: Vec<ApprovedSign>) -> CameraPlan {
    CameraPlan {
        approved: Some(approved),
        ..fixed()
    }
}

/// A line of digits somewhere on the wall.
fn place(n: u8) -> BBox {
    let y = 0.1 + 0.1 * f32::from(n);
    bbox(0.3, y, 0.4, y + 0.02)
}

fn ad(number: &str, at: BBox) -> Detection {
    Detection {
        label: Label::small_ad(),
        number: Some(PhoneNumber::from(number)),
        ..garbage(0.95, at)
    }
}

/// A look by which the numbers were not read, as most are.
fn glance(world: &mut World, seconds: u32, view: View) {
    world.apply(Input::Observed(Observation {
        camera: "wall".into(),
        at: at(f64::from(seconds)),
        view,
        light: Light::Day,
        detections: Vec::new(),
        not_searched: vec![Label::small_ad()],
    }));
}

/// From the beginning until a little after the dwell: a look every 10 s, and at every sixtieth what `read` gives.
fn watch(camera: CameraPlan, read: impl Fn(u32) -> Vec<Detection>) -> World {
    let mut world = World::new(plan([("wall", camera)], vec![small_ads()]));
    watch_on(&mut world, 0, 14, read);
    world
}

fn watch_on(world: &mut World, from: u32, readings: u32, read: impl Fn(u32) -> Vec<Detection>) {
    for s in (from * READ_EVERY_S..(from + readings) * READ_EVERY_S).step_by(LOOK_EVERY_S as usize) {
        if s % READ_EVERY_S == 0 {
            world.look("wall", s.into(), read(s / READ_EVERY_S));
        } else {
            glance(world, s, View::Clear);
        }
    }
}

fn numbers(world: &World) -> Vec<&str> {
    let opened = world.opened().into_iter();
    let mut numbers: Vec<&str> = opened
        .map(|c| c.number.as_ref().map_or("none", |n| n.as_str()))
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn looks_that_did_not_read_are_neither_presence_nor_absence() {
    let mut world = watch(wall(vec![]), |_| vec![ad(LOCKSMITH, place(0))]);
    assert_eq!(numbers(&world), [LOCKSMITH]);
    let case = world.opened()[0].clone();
    assert_eq!(case.dwell, Duration::from_secs(2 * 3600));
    assert_eq!((case.looks_seen, case.looks), (13, 13), "readings alone count");
    world.close();

    // The same looks, had each of them sought: nothing was there at 59 of 60.
    let mut world = World::new(plan([("wall", wall(vec![]))], vec![small_ads()]));
    for s in (0..14 * READ_EVERY_S).step_by(LOOK_EVERY_S as usize) {
        let seen = (s % READ_EVERY_S == 0).then(|| ad(LOCKSMITH, place(0)));
        world.look("wall", s.into(), seen.into_iter().collect());
    }
    assert_eq!(numbers(&world), [""; 0]);
    world.close();
}

#[test]
fn a_number_that_is_gone_is_gone_by_the_looks_that_read() {
    let mut world = watch(
        wall(vec![]),
        |n| if n < 3 { vec![ad(LOCKSMITH, place(0))] } else { vec![] },
    );
    assert_eq!(numbers(&world), [""; 0]);
    assert_eq!(world.not_filed(), [NotFiled::LeftBeforeDwell]);
    world.close();
}

#[test]
fn a_blind_look_between_two_readings_makes_their_time_blind() {
    let mut world = World::new(plan([("wall", wall(vec![]))], vec![small_ads()]));
    for n in 0..14 {
        world.look("wall", f64::from(n * READ_EVERY_S), vec![ad(LOCKSMITH, place(0))]);
        glance(&mut world, n * READ_EVERY_S + 100, View::Clear);
        glance(&mut world, n * READ_EVERY_S + 200, View::Dark);
        glance(&mut world, n * READ_EVERY_S + 300, View::Clear);
    }
    assert_eq!(numbers(&world), [""; 0], "who knows what hung there meanwhile");
    world.close();
}

#[test]
fn it_goes_on_after_a_restart() {
    let ads = |_| vec![ad(LOCKSMITH, place(0))];
    let mut world = World::new(plan([("wall", wall(vec![]))], vec![small_ads()]));
    watch_on(&mut world, 0, 7, ads);
    world.restart(plan([("wall", wall(vec![]))], vec![small_ads()]), |_| true);
    watch_on(&mut world, 7, 8, ads);
    assert_eq!(numbers(&world), [LOCKSMITH]);
    world.close();
}

#[test]
fn one_advertiser_on_one_wall_is_one_case_and_two_are_two() {
    let mut world = watch(wall(vec![]), |_| {
        vec![ad(LOCKSMITH, place(0)), ad(MOVER, place(1)), ad(LOCKSMITH, place(4))]
    });
    assert_eq!(numbers(&world), [MOVER, LOCKSMITH]);
    assert!(
        world.not_filed().contains(&NotFiled::OpenCaseAtSite),
        "the locksmith's second flyer"
    );
    let mut keys: Vec<&str> = world.opened().iter().map(|c| c.dedup_key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            format!("410105001001044/0102/view:wall:{MOVER}"),
            format!("410105001001044/0102/view:wall:{LOCKSMITH}"),
        ]
    );
    // A flyer over the locksmith's, at the very place: another number is another thing.
    let world_before = world.opened().len();
    watch_on(&mut world, 14, 14, |_| vec![ad("4001234567", place(0))]);
    assert_eq!(world.opened().len(), world_before + 1);
    world.close();
}

#[test]
fn a_number_that_was_misread_once_is_no_case() {
    let mut world = watch(wall(vec![]), |n| {
        let number = if n == 5 { "13800138008" } else { LOCKSMITH };
        vec![ad(number, place(0))]
    });
    assert_eq!(numbers(&world), [LOCKSMITH]);
    world.close();
}

#[test]
fn what_was_approved_is_lawful_by_its_number_and_on_its_board() {
    let board = bbox(0.2, 0.05, 0.6, 0.25);
    let approved = vec![
        ApprovedSign {
            label: Label::small_ad(),
            bbox: place(3),
            number: Some(LOCKSMITH.into()),
        },
        ApprovedSign {
            label: "sign".into(),
            bbox: board,
            number: None,
        },
    ];
    let mut world = watch(wall(approved), |_| {
        vec![ad(LOCKSMITH, place(6)), ad("4008123123", place(0)), ad(MOVER, place(3))]
    });
    assert_eq!(numbers(&world), [MOVER], "it hangs where the locksmith's may");
    assert!(
        world.not_filed().iter().all(|r| *r == NotFiled::ApprovedSign),
        "{:?}",
        world.not_filed()
    );
    world.close();
}
