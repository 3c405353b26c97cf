//! Places where things stand on most days: found with their hours, apart from passers-by, deliveries and what is always there.

use std::{collections::BTreeSet, sync::Arc};

use crate::engine_support::{bbox, fixed, plan, rule};
use gridwatch_engine::{
    BBox, CameraPlan, Detection, Label, Light, Observation, Plan, Point, Rule, Validity, View, Zone, ZoneKind,
    calendar::{self, Calendar, DayKind, Days, Schedule},
};
use gridwatch_ledger::places::{DayType, PlaceFinder, PlaceNote, RegularPlace, Regularity};
use jiff::{
    ToSpan,
    civil::{Date, Time, date},
    tz::{TimeZone, offset},
};

/// A Monday.
const FIRST: Date = date(2026, 6, 1);
const TABLE: BBox = BBox {
    x1: 0.3,
    y1: 0.5,
    x2: 0.4,
    y2: 0.6,
};

fn vendor() -> Rule {
    Rule {
        id: "vendor".into(),
        labels: vec!["dining table".into(), Label::object()],
        ..rule()
    }
}

fn street(camera: CameraPlan, rules: Vec<Rule>) -> Arc<Plan> {
    let calendar = Calendar {
        zone: TimeZone::fixed(offset(8)),
        ..Calendar::default()
    };
    Arc::new(Plan {
        calendar,
        ..plan([("gate", camera)], rules)
    })
}

/// Two weeks with a look every minute; `seen` gives what each shows, by date and minute of the day; `None`: no look.
fn feed(finder: &mut PlaceFinder, plan: &Plan, mut seen: impl FnMut(Date, i64) -> Option<Vec<Detection>>) {
    for day in 0..14_i64 {
        let date = FIRST + day.days();
        for minute in 0..24 * 60_i64 {
            let Some(detections) = seen(date, minute) else { continue };
            let local = date.to_datetime(Time::midnight()) + minute.minutes();
            finder.look(&Observation {
                camera: "gate".into(),
                at: local.to_zoned(plan.calendar.zone.clone()).unwrap().timestamp(),
                view: View::Clear,
                light: Light::Day,
                detections,
                not_searched: Vec::new(),
            });
        }
    }
}

fn finder(plan: &Arc<Plan>, wanted: Regularity) -> PlaceFinder {
    PlaceFinder::new(plan, plan.rules.clone(), BTreeSet::from(["gate".into()]), wanted)
}

fn search(plan: &Arc<Plan>, seen: impl FnMut(Date, i64) -> Option<Vec<Detection>>) -> Vec<RegularPlace> {
    search_for(plan, Regularity::default(), seen)
}

fn search_for(
    plan: &Arc<Plan>,
    wanted: Regularity,
    seen: impl FnMut(Date, i64) -> Option<Vec<Detection>>,
) -> Vec<RegularPlace> {
    let mut finder = finder(plan, wanted);
    feed(&mut finder, plan, seen);
    finder.finish()
}

fn table() -> Detection {
    Detection::new("dining table", 0.7, TABLE)
}

/// Days since the first one.
fn nth(date: Date) -> i64 {
    i64::from((date - FIRST).get_days())
}

fn is_workday(date: Date) -> bool {
    nth(date) % 7 < 5
}

#[test]
fn a_cafe_on_workday_mornings_is_found_with_its_hours() {
    let street = street(fixed(), vec![vendor()]);
    let places = search(&street, |date, minute| {
        // Set out between 07:30 and 07:50, put away between 10:20 and 10:40; not on the second Thursday, and never at weekends.
        let late = nth(date) % 3 * 10;
        let is_open = is_workday(date) && nth(date) != 10 && (450 + late..620 + late).contains(&minute);
        // A detector that misses every third look; someone passes with a table now and then.
        let found = is_open && minute % 3 != 2 || minute == nth(date) * 45;
        Some(found.then(table).into_iter().collect())
    });
    let [place] = &places[..] else { panic!("{places:#?}") };
    let [hours] = &place.hours[..] else {
        panic!("{place:#?}")
    };
    assert_eq!((hours.kind, hours.from, hours.to), (DayType::Workday, 450, 645));
    assert_eq!((hours.seen, hours.watched), (9, 10));
    assert_eq!((place.note, place.period), (None, (FIRST, FIRST + 13.days())));
    assert!(
        TABLE.share_in(&place.bbox) > 0.999 && place.bbox.share_in(&TABLE) > 0.5,
        "{place:?}"
    );
}

#[test]
fn passers_by_deliveries_and_irregular_hours_are_not_regular() {
    let street = street(fixed(), vec![vendor()]);
    // Something in each look, anywhere in the picture.
    let passers_by = search(&street, |date, minute| {
        let x = ((minute * 37 + nth(date) * 11) % 80) as f32 / 100.0;
        Some(vec![Detection::new("dining table", 0.9, bbox(x, 0.5, x + 0.1, 0.6))])
    });
    assert_eq!(passers_by, []);
    // A quarter of an hour each day, at the same time.
    let delivery = search(&street, |_, minute| {
        Some((480..495).contains(&minute).then(table).into_iter().collect())
    });
    assert_eq!(delivery, []);
    // Two hours on each day, at another time on each.
    let anytime = search(&street, |date, minute| {
        let from = 360 + nth(date) * 80 % 900;
        Some((from..from + 120).contains(&minute).then(table).into_iter().collect())
    });
    assert_eq!(anytime, []);
    // Four days are too few, however regular.
    let few = search(&street, |date, minute| {
        let is_open = nth(date) % 7 < 2 && (450..620).contains(&minute);
        Some(is_open.then(table).into_iter().collect())
    });
    assert_eq!(few, []);
    // A score that no rule keeps, a label of no rule, a box that is too small.
    let no_sighting = search(&street, |_, minute| {
        let mut found = vec![
            Detection::new("dining table", 0.29, TABLE),
            Detection::new("chair", 0.9, TABLE),
        ];
        found.push(Detection::new("dining table", 0.9, bbox(0.3, 0.5, 0.305, 0.505)));
        Some(found.into_iter().filter(|_| (450..620).contains(&minute)).collect())
    });
    assert_eq!(no_sighting, []);
}

#[test]
fn a_day_without_looks_at_those_hours_speaks_neither_for_nor_against() {
    let street = street(fixed(), vec![vendor()]);
    let places = search(&street, |date, minute| {
        // The camera is off on six of ten workday mornings, and at weekends nothing is there.
        if is_workday(date) && nth(date) % 7 < 3 && minute < 900 {
            return None;
        }
        let is_open = is_workday(date) && (450..620).contains(&minute);
        Some(is_open.then(table).into_iter().collect())
    });
    assert_eq!(places, [], "four days are not enough");
    let places = search(&street, |date, minute| {
        if is_workday(date) && nth(date) % 7 < 2 && minute < 900 {
            return None;
        }
        let is_open = is_workday(date) && (450..620).contains(&minute);
        Some(is_open.then(table).into_iter().collect())
    });
    let [place] = &places[..] else { panic!("{places:#?}") };
    assert_eq!((place.hours[0].seen, place.hours[0].watched), (6, 6));
}

#[test]
fn tables_side_by_side_are_one_place_and_a_distant_one_is_another() {
    let street = street(fixed(), vec![vendor()]);
    let unknown = Detection::new(Label::object(), 0.7, bbox(0.42, 0.5, 0.52, 0.6));
    let distant = Detection::new("dining table", 0.7, bbox(0.75, 0.5, 0.85, 0.6));
    let places = search(&street, |_, minute| {
        let mut found = Vec::new();
        if (450..620).contains(&minute) {
            found.extend([table(), unknown.clone()]);
        }
        if (1080..1320).contains(&minute) {
            found.push(distant.clone());
        }
        Some(found)
    });
    let [cafe, bar] = &places[..] else {
        panic!("{places:#?}")
    };
    let (cafe, bar) = if cafe.bbox.x1 < bar.bbox.x1 {
        (cafe, bar)
    } else {
        (bar, cafe)
    };
    assert!(
        cafe.bbox.x1 <= 0.3 && cafe.bbox.x2 >= 0.52 && cafe.bbox.x2 < 0.6,
        "{cafe:?}"
    );
    let kinds: Vec<DayType> = bar.hours.iter().map(|h| h.kind).collect();
    assert_eq!(kinds, [DayType::Workday, DayType::Restday]);
    assert_eq!((bar.hours[0].from, bar.hours[0].to), (1080, 1320));
}

#[test]
fn an_evening_ends_after_midnight_and_what_is_always_there_has_no_hours() {
    let street = street(fixed(), vec![vendor()]);
    let evening = search(&street, |_, minute| {
        Some((!(90..1200).contains(&minute)).then(table).into_iter().collect())
    });
    let [place] = &evening[..] else { panic!("{evening:#?}") };
    assert_eq!((place.hours[0].from, place.hours[0].to, place.note), (1200, 1530, None));
    let always = search(&street, |_, _| Some(vec![table()]));
    assert_eq!(
        always.iter().map(|p| p.note).collect::<Vec<_>>(),
        [Some(PlaceNote::Always)]
    );
    let night = search(&street, |_, minute| {
        Some((60..180).contains(&minute).then(table).into_iter().collect())
    });
    assert_eq!(
        night.iter().map(|p| p.note).collect::<Vec<_>>(),
        [Some(PlaceNote::AfterMidnight)]
    );
}

#[test]
fn ground_that_is_permitted_then_or_excluded_is_left_out() {
    let zone = |kind: ZoneKind| Zone {
        id: "zone".into(),
        kind,
        polygon: [(0.2, 0.4), (0.5, 0.4), (0.5, 0.7), (0.2, 0.7)]
            .map(|(x, y)| Point { x, y })
            .to_vec(),
        rules: Vec::new(),
    };
    let mornings = |_: Date, minute: i64| Some((450..620).contains(&minute).then(table).into_iter().collect());
    let permitted = |during: &str| ZoneKind::Permitted {
        during: during.into(),
        valid: Validity::ALWAYS,
    };
    for (kind, expected) in [
        (ZoneKind::Exclude, 0),
        (permitted("early"), 0),
        (permitted("never"), 1),
        (ZoneKind::Watch, 1),
    ] {
        let camera = CameraPlan {
            zones: vec![zone(kind.clone())],
            ..fixed()
        };
        let mut street = Arc::unwrap_or_clone(street(camera, vec![vendor()]));
        let window = calendar::Window {
            days: Days::DAILY,
            from: 420,
            to: 720,
            season: None,
        };
        let early = Schedule { windows: vec![window] };
        street.calendar.schedules.insert("early".into(), early);
        assert_eq!(search(&Arc::new(street), mornings).len(), expected, "{kind:?}");
    }
}

#[test]
fn a_holiday_is_a_rest_day_and_two_rules_at_one_place_are_one_place() {
    let spill = Rule {
        id: "spill-over".into(),
        labels: vec!["dining table".into()],
        ..vendor()
    };
    let mut street = Arc::unwrap_or_clone(street(fixed(), vec![vendor(), spill]));
    // The first week is a holiday, and the second Saturday is worked.
    for day in 0..5 {
        street.calendar.days.insert(FIRST + day.days(), DayKind::Holiday);
    }
    street.calendar.days.insert(FIRST + 12.days(), DayKind::WorkingDay);
    let places = search(&Arc::new(street), |date, minute| {
        let is_open = (7..13).contains(&nth(date)) && (450..620).contains(&minute);
        Some(is_open.then(table).into_iter().collect())
    });
    let [place] = &places[..] else { panic!("{places:#?}") };
    assert_eq!(place.rules, ["spill-over".into(), "vendor".into()]);
    assert_eq!(place.hours.len(), 1);
    assert_eq!(
        (place.hours[0].kind, place.hours[0].seen, place.hours[0].watched),
        (DayType::Workday, 6, 6)
    );
}

#[test]
fn only_the_last_days_count_and_a_view_that_was_aimed_anew_begins_anew() {
    let street = street(fixed(), vec![vendor()]);
    let mornings = |date: Date, minute: i64| {
        let is_open = nth(date) < 6 && (450..620).contains(&minute);
        Some(is_open.then(table).into_iter().collect())
    };
    assert_eq!(search(&street, mornings).len(), 0, "6 of 14 days");
    let all = Regularity {
        min_share: 0.2,
        ..Regularity::default()
    };
    assert_eq!(search_for(&street, all, mornings).len(), 1);
    let last_week = Regularity { days: 7, ..all };
    assert_eq!(search_for(&street, last_week, mornings), []);

    let mut aimed_anew = finder(&street, all);
    feed(&mut aimed_anew, &street, mornings);
    aimed_anew.reaimed(&"gate".into());
    assert_eq!(aimed_anew.finish(), []);
}
