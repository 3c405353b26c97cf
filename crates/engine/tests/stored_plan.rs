//! Plans are stored beside the ledger and read again by later versions: their names are kept, and every number keeps its bits.

use std::{collections::BTreeMap, time::Duration};

use gridwatch_engine::{
    Appeared, ApprovedSign, Attended, Beyond, CameraPlan, ExceptLabels, FixedPlace, Intake, LonLat, Place, Plan, Point,
    Rule, Scores, Stands, StoredPlan, Validity, Verification, ZoneKind,
    calendar::{Calendar, DayKind, Days, Hours, Pause, Schedule, Season, Window},
    geometry::{Calibration, Lens, LocalPlane},
    grid::Grid,
};
use jiff::{civil::date, tz::TimeZone};

use crate::engine_support::{GRID, HEAP, HERE, fixed, plan, rule, zone};

/// A plan of an early version. It is never written again: a change that cannot read it breaks the ledgers of every box.
const GOLDEN: &str = include_str!("golden/plan-1.json");

/// One of everything that a plan can hold.
fn everything() -> Plan {
    let zones = vec![
        zone("pavement", ZoneKind::Watch, (0.1, 0.9), (0.3, 1.0)),
        zone("private", ZoneKind::Exclude, (0.0, 0.1), (0.0, 1.0)),
        gridwatch_engine::Zone {
            rules: vec!["vendor".into()],
            ..zone(
                "market",
                ZoneKind::Permitted {
                    during: "market".into(),
                    valid: Validity::ALWAYS,
                },
                (0.1, 0.2),
                (0.3, 0.4),
            )
        },
        zone("bins", ZoneKind::Container, (0.7, 0.8), (0.3, 0.4)),
        zone("front", ZoneKind::Shop, (0.8, 0.9), (0.3, 0.4)),
    ];
    let sign = ApprovedSign {
        label: "sign".into(),
        bbox: HEAP,
        number: Some("13800138000".into()),
        text: Some("兴隆五金".into()),
        valid: Validity::ALWAYS,
    };
    let gate = CameraPlan {
        look_every: Duration::from_millis(7_500),
        away: Duration::from_secs(180),
        zones,
        place: Place::Calibrated {
            calibration: calibration(),
            max_uncertainty_m: 12.5,
            fallback: FixedPlace {
                at: HERE,
                uncertainty_m: 40.0,
            },
        },
        approved: Some(vec![sign]),
    };
    let vendor = Rule {
        id: "vendor".into(),
        labels: vec!["stall".into(), "object".into()],
        day: Scores {
            start: 0.55,
            keep: 0.1 + 0.2,
        },
        night: Scores { start: 0.6, keep: 0.4 },
        unidentified_dwell: Some(Duration::from_mins(10)),
        max_move_m: Some(1.5),
        min_area_m2: Some(0.7),
        min_count: Some(2),
        gather: 0.5,
        appeared: Some(Appeared {
            new_start: 0.4,
            new_keep: Some(0.25),
            old_start: Some(0.8),
        }),
        attended: Some(Attended {
            labels: vec!["person".into()],
            within: 0.8,
            share: 0.5,
            min_size: 0.1,
        }),
        beyond: Some(Beyond::Shop),
        stands: Stands::Wall,
        second_look: Some(0.35),
        second_look_is_required: true,
        except_labels: Some(ExceptLabels {
            labels: vec!["garbage".into()],
            score: 0.5,
        }),
        except_approved: true,
        hours: Hours {
            active: Some("market".into()),
            pause: Some(Pause {
                schedule: "collection".into(),
                after: Duration::from_mins(20),
            }),
        },
        ..rule()
    };
    let window = |season| Window {
        days: Days {
            weekdays: [false, true, false, false, false, false, true],
            workday: true,
            restday: false,
            holiday: true,
        },
        from: 450,
        to: 1500,
        season,
    };
    let market = Schedule {
        windows: vec![window(None), window(Some(Season::new((11, 1), (3, 31))))],
    };
    Plan {
        grid: two_cells(),
        intake: Intake {
            per_camera_day: 8,
            per_box_day: u32::MAX,
            let_go_after: Some(Duration::from_hours(72)),
        },
        verification: Verification::default(),
        picture_interval: Duration::from_secs(2),
        calendar: Calendar {
            zone: TimeZone::UTC,
            days: BTreeMap::from([
                (date(2026, 10, 1), DayKind::Holiday),
                (date(2026, 10, 10), DayKind::WorkingDay),
            ]),
            schedules: BTreeMap::from([("market".into(), market), ("collection".into(), Schedule::default())]),
        },
        ..plan([("corner", fixed()), ("gate", gate)], vec![rule(), vendor])
    }
}

fn calibration() -> Calibration {
    let plane = LocalPlane::at(HERE);
    let pairs = [
        ((0.1, 0.9), (-3.0, 4.0)),
        ((0.9, 0.9), (3.0, 4.1)),
        ((0.7, 0.4), (7.0, 21.0)),
        ((0.3, 0.4), (-6.9, 20.7)),
        ((0.5, 0.6), (0.1, 9.9)),
    ];
    let pairs = pairs.map(|((x, y), (east, north))| (Point { x, y }, plane.lon_lat(east, north)));
    Calibration::fit_with_lens(&pairs, Lens::new(-0.03, 0.004, 16.0 / 9.0)).unwrap()
}

fn two_cells() -> Grid {
    serde_json::from_str(
        r#"{"410105001001002":[[[[113.601,34.7],[113.602,34.7],[113.602,34.701],[113.601,34.701]],[[113.6011,34.7001],[113.6012,34.7001],[113.6012,34.7002]]]],
            "410105001001001":[[[[113.6,34.7],[113.601,34.7],[113.601,34.701],[113.6,34.701]]]]}"#,
    )
    .unwrap()
}

fn stored(plan: &Plan) -> String {
    serde_json::to_string_pretty(&StoredPlan::of(plan).unwrap()).unwrap()
}

#[test]
fn a_plan_survives_with_every_bit() {
    let before = everything();
    let text = stored(&before);
    let read: StoredPlan = serde_json::from_str(&text).unwrap();
    assert_eq!(read.time_zone(), "UTC");
    let after = read.into_plan(before.grid.clone(), TimeZone::UTC);
    // The debug text of a number is the shortest that gives its bits.
    assert_eq!(format!("{after:?}"), format!("{before:?}"));
    assert_eq!(stored(&after), text);
}

#[test]
fn a_plan_of_an_early_version_is_read() {
    let read: StoredPlan = serde_json::from_str(GOLDEN).unwrap();
    let after = read.into_plan(two_cells(), TimeZone::UTC);
    let expected = everything();
    assert_eq!(format!("{:?}", after.rules), format!("{:?}", expected.rules));
    assert_eq!(format!("{:?}", after.calendar), format!("{:?}", expected.calendar));
    assert_eq!(
        after.cameras[&"gate".into()].zones,
        expected.cameras[&"gate".into()].zones
    );
    // The pairs of a calibration are fitted once; another version may fit others.
    let foot = Point { x: 0.4, y: 0.8 };
    let ground = |plan: &Plan| match &plan.cameras[&"gate".into()].place {
        Place::Calibrated { calibration, .. } => calibration.ground(foot).map(|(at, _)| at),
        Place::Fixed(_) => None,
    };
    let (a, b) = (ground(&after).unwrap(), ground(&expected).unwrap());
    assert!(
        (a.lon - b.lon).abs() < 1e-9 && (a.lat - b.lat).abs() < 1e-9,
        "{a:?} {b:?}"
    );
}

#[test]
fn a_field_of_a_later_version_is_refused_and_a_missing_optional_one_is_none() {
    let mut later: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    later["rules"][0]["mood"] = "bad".into();
    let error = serde_json::from_value::<StoredPlan>(later).unwrap_err().to_string();
    assert!(error.contains("unknown field `mood`"), "{error}");
    let mut earlier: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    earlier["rules"][1].as_object_mut().unwrap().remove("appeared");
    assert!(serde_json::from_value::<StoredPlan>(earlier).is_ok());
}

#[test]
fn a_grid_survives_and_its_cells_are_found() {
    let text = serde_json::to_string(&*GRID).unwrap();
    let read: Grid = serde_json::from_str(&text).unwrap();
    assert_eq!((read.len(), read.cell_of(HERE)), (100, GRID.cell_of(HERE)));
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    // In the hole of the second cell.
    let hole = LonLat {
        lon: 113.60118,
        lat: 34.70012,
    };
    assert_eq!(two_cells().cell_of(hole), None);
    let beside = LonLat {
        lon: 113.6015,
        lat: 34.7005,
    };
    assert_eq!(two_cells().cell_of(beside).unwrap().as_str(), "410105001001002");
}
