//! Schedules and holidays in the configuration are compiled for the engine.

use std::fs;

use gridwatch_config as config;
use gridwatch_engine::{Beyond, Rule, Validity, ZoneKind, calendar::Calendar};
use jiff::Timestamp;

/// Loads `good.toml` with additional schedules, rule fields and zones.
fn load(schedules: &str, rule: &str, zone: &str) -> config::Config {
    let dir = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string("tests/golden/good.toml")
        .unwrap()
        .replace("{ file = \"gate.secret\" }", "{ env = \"GATE\" }")
        .replace("[[models]]", &format!("{schedules}\n[[models]]"))
        .replace("dwell = \"5m\"", &format!("dwell = \"5m\"\n{rule}"));
    let text = format!("{text}\n{zone}").replace("@ROOT@", root);
    let file = dir.path().join("edge.toml");
    fs::write(&file, text).unwrap();
    let draft = config::examine_with(&file, &|_| Some("admin:secret".into()));
    assert_eq!(draft.warnings, []);
    draft.into_config().unwrap()
}

fn is_open(calendar: &Calendar, schedule: &str, local: &str) -> bool {
    let at: Timestamp = format!("{local}:00+08:00").parse().unwrap();
    calendar.is_open(&schedule.into(), at)
}

#[test]
fn holidays_and_make_up_days_of_china_2026() {
    let config = load(
        "[calendar]\nfiles = [\"@ROOT@/configs/calendar/cn-2026.toml\"]\nholidays = [\"2026-10-10..2026-10-11\"]\n\
         [[schedules]]\nid = \"work\"\nwindows = [{ days = [\"workday\"], from = \"06:00\", to = \"09:30\" }]\n\
         [[schedules]]\nid = \"feast\"\nwindows = [{ days = [\"holiday\"], from = \"00:00\", to = \"24:00\" }]",
        "active = \"work\"\npause = \"feast\"",
        "",
    );
    let calendar = &config.plan.calendar;
    assert_eq!(
        calendar.days.len(),
        3 + 9 + 3 + 5 + 3 + 3 + 7 + 6 + 1,
        "one working day became a holiday"
    );
    for (day, is_worked, is_feast) in [
        ("2026-01-04", true, false),
        ("2026-02-14", true, false),
        ("2026-02-15", false, true),
        ("2026-02-23", false, true),
        ("2026-02-24", true, false),
        ("2026-09-20", true, false),
        ("2026-10-07", false, true),
        ("2026-10-10", false, true),
        ("2026-10-17", false, false),
    ] {
        assert_eq!(is_open(calendar, "work", &format!("{day}T07:00")), is_worked, "{day}");
        assert_eq!(is_open(calendar, "feast", &format!("{day}T23:59")), is_feast, "{day}");
    }
}

#[test]
fn windows_wrap_midnight_weekends_and_seasons() {
    let config = load(
        "[[schedules]]\nid = \"night\"\nwindows = [\n  { days = [\"sat-mon\", \"wed\"], from = \"18:00\", to = \"02:00\", \
         season = \"11-01..02-29\" },\n  { days = [\"tue\"], from = \"12:00\", to = \"00:00\" },\n]",
        "active = \"night\"",
        "",
    );
    let calendar = &config.plan.calendar;
    for (local, expected) in [
        ("2026-01-03T18:00", true), // Saturday
        ("2026-01-05T18:00", true),
        ("2026-01-06T01:59", true),
        ("2026-01-06T02:00", false),
        ("2026-01-06T23:59", true),
        ("2026-01-07T00:00", false),
        ("2026-01-07T18:00", true),
        ("2026-01-08T18:00", false),
        ("2026-02-28T18:00", true),
        ("2026-03-01T01:00", true), // Started in season.
        ("2026-03-01T18:00", false),
        ("2040-02-29T18:00", true), // A Wednesday.
    ] {
        assert_eq!(is_open(calendar, "night", local), expected, "{local}");
    }
}

#[test]
fn rules_and_zones_refer_to_schedules() {
    let config = load(
        "[[schedules]]\nid = \"collection\"\nwindows = [{ from = \"06:00\", to = \"09:30\" }]\n[[schedules]]\nid = \
         \"night\"\nwindows = [{ from = \"18:00\", to = \"02:00\" }]",
        "active = \"night\"\npause = \"collection\"\npause_after = \"45m\"\noutside_containers = false\nbeyond = \"shop\"",
        "[[cameras.zones]]\nid = \"stalls\"\nkind = \"permitted\"\nschedule = \"night\"\npolygon = [[0.1, 0.9], [0.1, 0.5], \
         [0.3, 0.5]]\n[[cameras.zones]]\nid = \"bins\"\nkind = \"container\"\npolygon = [[0.1, 0.9], [0.1, 0.5], [0.3, \
         0.5]]\n[[cameras.zones]]\nid = \"front\"\nkind = \"shop\"\npolygon = [[0.1, 0.9], [0.1, 0.5], [0.3, 0.5]]",
    );
    let Rule {
        outside_containers,
        beyond,
        hours,
        ..
    } = &config.plan.rules[0];
    assert_eq!((*outside_containers, *beyond), (false, Some(Beyond::Shop)));
    assert_eq!(hours.active, Some("night".into()));
    let pause = hours.pause.as_ref().unwrap();
    assert_eq!((pause.schedule.as_str(), pause.after.as_secs()), ("collection", 2700));
    let zones = config.plan.cameras.values().flat_map(|c| &c.zones);
    let kinds: Vec<ZoneKind> = zones.map(|z| z.kind.clone()).collect();
    let permitted = ZoneKind::Permitted {
        during: "night".into(),
        valid: Validity::ALWAYS,
    };
    assert_eq!(kinds, [ZoneKind::Watch, permitted, ZoneKind::Container, ZoneKind::Shop]);
}
