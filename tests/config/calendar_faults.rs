//! Faults of days, hours and holidays, told as all others are.

use std::{fs, path::Path};

use crate::config_support::*;
use gridwatch_config as config;

#[test]
fn days_and_hours() {
    let folder = Folder::new();
    let schedule = "[[schedules]]\nid = \"market\"\nwindows = [{ from = \"06:00\", to = \"09:30\" }]\n";
    let told_of = |old: &str, new: &str| {
        let draft = folder.with(old, new);
        (told(&draft.faults), told(&draft.warnings))
    };
    for (window, expected) in [
        ("from = \"6:00\", to = \"09:30\"", "from: not a time of day"),
        ("from = \"24:00\", to = \"09:30\"", "from: no day begins at 24:00"),
        (
            "from = \"06:00\", to = \"06:00\"",
            "to: ends where it begins, at 06:00: it could be nothing or a whole day",
        ),
        (
            "days = [\"mon\", \"feiertag\"], from = \"06:00\", to = \"24:00\"",
            "days[1]: not days that are known",
        ),
        (
            "season = \"02-30..04-01\", from = \"06:00\", to = \"24:00\"",
            "season: names a day that no year has",
        ),
        (
            "season = \"April\", from = \"06:00\", to = \"24:00\"",
            "season: not a part of the year",
        ),
    ] {
        let (faults, warnings) = told_of(
            "[[models]]",
            &format!("[[schedules]]\nid = \"market\"\nwindows = [{{ {window} }}]\n[[models]]"),
        );
        assert_eq!(faults, [format!("schedules[0].windows[0].{expected}")], "{window}");
        assert_eq!(warnings, [""; 0], "{window}");
    }
    for (zone, expected) in [
        ("kind = \"permitted\"", "missing, and a permitted zone has hours"),
        (
            "kind = \"permitted\"\nschedule = \"markets\"",
            "no schedule has the id \"markets\"",
        ),
        (
            "kind = \"watch\"\nschedule = \"market\"",
            "is set, but only a permitted zone has hours",
        ),
    ] {
        let good = fs::read_to_string("tests/golden/good.toml").unwrap();
        let text = good
            .replace("[[models]]", &format!("{schedule}[[models]]"))
            .replace("kind = \"watch\"", zone);
        let draft = config::examine_with(&folder.write(&text), &variable);
        assert_eq!(
            told(&draft.faults),
            [format!("cameras[0].zones[0].schedule: {expected}")],
            "{zone}"
        );
    }
    assert_faults(&[
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\npause = \"collection\"",
            "rules[0].pause: no schedule has the id \"collection\"",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\n[calendar]\nholidays = [\"2026-02-30\"]",
            "calendar.holidays[0]: \"2026-02-30\" names a day that is in no calendar",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [\"2026-02-07..2026-02-06\"]\n[[models]]",
            "calendar.holidays[0]: \"2026-02-07..2026-02-06\" ends before it begins",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [\"2026-02-07..2036-02-08\"]\n[[models]]",
            "calendar.holidays[0]: \"2026-02-07..2036-02-08\" is longer than 31 days",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [\"2026-02-07\"]\nworking_days = [\"2026-02-07\"]\n[[models]]",
            "calendar.working_days[0]: 2026-02-07 is a holiday and a working day",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [2026-02-07]\n[[models]]",
            "calendar.holidays[0]: a date or a time, which no field takes",
        ),
    ]);
    assert_warnings(&[
        (
            "[[models]]",
            "[calendar]\nworking_days = [\"2026-02-09\"]\n[[models]]",
            "calendar.working_days[0]: 2026-02-09 is no Saturday or Sunday, so it is worked anyway",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\nactive = \"night\"\n[[schedules]]\nid = \"night\"\nwindows = [{ days = [\"workday\"], from = \"18:00\", to = \"02:00\" \
             }]",
            "schedules[0].windows[0].days: asks for holidays, and there is no [calendar] that knows them",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\nactive = \"night\"\n[[schedules]]\nid = \"night\"\nwindows = [{ days = [\"fri\"], from = \"18:00\", to = \"02:00\" }, { days = \
             [\"sat\"], from = \"00:00\", to = \"24:00\" }]",
            "schedules[0].windows[1]: overlaps windows[0]",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\nbeyond = \"shop\"",
            "rules[0].beyond: no camera has a shop zone for this rule: it finds nothing",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\npause_after = \"10m\"",
            "rules[0].pause_after: does nothing without pause",
        ),
        (
            "[[models]]",
            "[[schedules]]\nid = \"night\"\nwindows = [{ from = \"18:00\", to = \"02:00\" }]\n[[models]]",
            "schedules[0].id: nothing names this schedule",
        ),
    ]);
    // Windows that only seem to: of other days, of another half of the year, one after the other.
    let (faults, warnings) = told_of(
        "dwell = \"5m\"",
        "dwell = \"5m\"\nactive = \"night\"\n[[schedules]]\nid = \"night\"\nwindows = [{ days = [\"fri\"], from = \"18:00\", to = \"02:00\" }, { days = [\"sat\"], \
         from = \"02:00\", to = \"03:00\" }, { days = [\"sat\"], from = \"18:00\", to = \"20:00\", season = \"04-01..10-31\" }, { \
         days = [\"sat\"], from = \"18:00\", to = \"19:00\", season = \"11-01..03-31\" }]",
    );
    assert_eq!((faults, warnings), (vec![], vec![]));
}

#[test]
fn a_year_without_its_holidays() {
    let folder = Folder::new();
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let with = |days: &str, calendar: &str| {
        let hours = format!(
            "[[schedules]]\nid = \"day\"\nwindows = [{{ days = [\"{days}\"], from = \"06:00\", to = \"22:00\" }}]"
        );
        let rule = format!("dwell = \"5m\"\nactive = \"day\"\n{hours}\n[calendar]\n{calendar}");
        folder.write(&good.replace("dwell = \"5m\"", &rule))
    };
    let told_on = |file: &Path, today: &str| {
        let draft = config::examine_on(file, &variable, today.parse().unwrap());
        assert_eq!(told(&draft.faults), [""; 0]);
        told(&draft.warnings)
    };
    let without =
        |year| format!("calendar.files: know no holiday of {year}: all its Mondays to Fridays count as workdays");
    let file = with("workday", "files = [\"@ROOT@/configs/calendar/cn-2026.toml\"]");
    assert_eq!(told_on(&file, "2026-11-30"), [""; 0]);
    assert_eq!(told_on(&file, "2026-12-01"), [without(2027)]);
    assert_eq!(told_on(&file, "2027-01-01"), [without(2027)]);
    // The city's own day makes no year, unless there is no file.
    let own = "holidays = [\"2027-03-03\"]";
    let file = with(
        "workday",
        &format!("files = [\"@ROOT@/configs/calendar/cn-2026.toml\"]\n{own}"),
    );
    assert_eq!(told_on(&file, "2027-01-01"), [without(2027)]);
    assert_eq!(told_on(&with("workday", own), "2027-01-01"), [""; 0]);
    // Who asks for weekdays needs no notice.
    let file = with("mon-fri", "files = [\"@ROOT@/configs/calendar/cn-2026.toml\"]");
    assert_eq!(told_on(&file, "2027-01-01"), [""; 0]);
}
