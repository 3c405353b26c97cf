//! Faults of schedules and holidays.

use std::{fs, path::Path};

use crate::config_support::*;
use gridwatch_config as config;

#[test]
fn faults_of_a_window_name_the_window_and_the_field() {
    let folder = Folder::new();
    for (window, expected) in [
        ("from = \"6:00\", to = \"09:30\"", "from: invalid time of day"),
        (
            "from = \"24:00\", to = \"09:30\"",
            "from: a window cannot start at 24:00",
        ),
        (
            "from = \"06:00\", to = \"06:00\"",
            "to: from and to are both 06:00, which is ambiguous",
        ),
        (
            "days = [\"mon\", \"feiertag\"], from = \"06:00\", to = \"24:00\"",
            "days[1]: unknown day name",
        ),
        (
            "season = \"02-30..04-01\", from = \"06:00\", to = \"24:00\"",
            "season: contains a day that does not exist",
        ),
        (
            "season = \"April\", from = \"06:00\", to = \"24:00\"",
            "season: invalid season",
        ),
    ] {
        let draft = folder.with(
            "[[models]]",
            &format!("[[schedules]]\nid = \"market\"\nwindows = [{{ {window} }}]\n[[models]]"),
        );
        let expected = format!("schedules[0].windows[0].{expected}");
        assert_eq!(messages(&draft.faults), [expected], "{window}");
        assert_eq!(messages(&draft.warnings), [""; 0], "{window}");
    }
}

#[test]
fn only_permitted_zones_have_a_schedule() {
    let folder = Folder::new();
    let schedule = "[[schedules]]\nid = \"market\"\nwindows = [{ from = \"06:00\", to = \"09:30\" }]\n";
    for (zone, expected) in [
        ("kind = \"permitted\"", "required on a permitted zone"),
        (
            "kind = \"permitted\"\nschedule = \"markets\"",
            "unknown schedule \"markets\"",
        ),
        (
            "kind = \"watch\"\nschedule = \"market\"",
            "only allowed on a permitted zone",
        ),
    ] {
        let good = fs::read_to_string("tests/golden/good.toml").unwrap();
        let text = good
            .replace("[[models]]", &format!("{schedule}[[models]]"))
            .replace("kind = \"watch\"", zone);
        let draft = config::examine_with(&folder.write(&text), &variable);
        assert_eq!(
            messages(&draft.faults),
            [format!("cameras[0].zones[0].schedule: {expected}")],
            "{zone}"
        );
    }
}

#[test]
fn faults_of_holidays_and_of_references_to_schedules() {
    assert_faults(&[
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\npause = \"collection\"",
            "rules[0].pause: unknown schedule \"collection\"",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\n[calendar]\nholidays = [\"2026-02-30\"]",
            "calendar.holidays[0]: \"2026-02-30\" is not a valid date",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [\"2026-02-07..2026-02-06\"]\n[[models]]",
            "calendar.holidays[0]: \"2026-02-07..2026-02-06\" ends before it starts",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [\"2026-02-07..2036-02-08\"]\n[[models]]",
            "calendar.holidays[0]: \"2026-02-07..2036-02-08\" is longer than 31 days",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [\"2026-02-07\"]\nworking_days = [\"2026-02-07\"]\n[[models]]",
            "calendar.working_days[0]: 2026-02-07 is listed both as a holiday and as a working day",
        ),
        (
            "[[models]]",
            "[calendar]\nholidays = [2026-02-07]\n[[models]]",
            "calendar.holidays[0]: TOML dates and times are not supported",
        ),
    ]);
}

#[test]
fn warnings_of_schedules_and_holidays() {
    assert_warnings(&[
        (
            "[[models]]",
            "[calendar]\nworking_days = [\"2026-02-09\"]\n[[models]]",
            "calendar.working_days[0]: 2026-02-09 is not a Saturday or Sunday, so it is a working day anyway",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\nactive = \"night\"\n[[schedules]]\nid = \"night\"\nwindows = [{ days = [\"workday\"], from = \"18:00\", to = \"02:00\" \
             }]",
            "schedules[0].windows[0].days: depends on public holidays, but there is no [calendar]",
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
            "rules[0].beyond: no camera has a shop zone for this rule, so it never files anything",
        ),
        (
            "dwell = \"5m\"",
            "dwell = \"5m\"\npause_after = \"10m\"",
            "rules[0].pause_after: has no effect without pause",
        ),
        (
            "[[models]]",
            "[[schedules]]\nid = \"night\"\nwindows = [{ from = \"18:00\", to = \"02:00\" }]\n[[models]]",
            "schedules[0].id: this schedule is not used",
        ),
    ]);
}

#[test]
fn windows_on_other_days_or_in_other_seasons_do_not_overlap() {
    let draft = Folder::new().with(
        "dwell = \"5m\"",
        "dwell = \"5m\"\nactive = \"night\"\n[[schedules]]\nid = \"night\"\nwindows = [{ days = [\"fri\"], from = \"18:00\", to = \"02:00\" }, { days = [\"sat\"], \
         from = \"02:00\", to = \"03:00\" }, { days = [\"sat\"], from = \"18:00\", to = \"20:00\", season = \"04-01..10-31\" }, { \
         days = [\"sat\"], from = \"18:00\", to = \"19:00\", season = \"11-01..03-31\" }]",
    );
    assert_eq!((messages(&draft.faults), messages(&draft.warnings)), (vec![], vec![]));
}

#[test]
fn a_year_without_holidays_is_a_warning() {
    let folder = Folder::new();
    let good = fs::read_to_string("tests/golden/good.toml").unwrap();
    let with = |days: &str, calendar: &str| {
        let hours = format!(
            "[[schedules]]\nid = \"day\"\nwindows = [{{ days = [\"{days}\"], from = \"06:00\", to = \"22:00\" }}]"
        );
        let rule = format!("dwell = \"5m\"\nactive = \"day\"\n{hours}\n[calendar]\n{calendar}");
        folder.write(&good.replace("dwell = \"5m\"", &rule))
    };
    let messages_on = |file: &Path, today: &str| {
        let draft = config::examine_on(file, &variable, today.parse().unwrap());
        assert_eq!(messages(&draft.faults), [""; 0]);
        messages(&draft.warnings)
    };
    let without =
        |year| format!("calendar.files: no holidays listed for {year}: every Monday to Friday counts as a workday");
    let file = with("workday", "files = [\"@ROOT@/configs/calendar/cn-2026.toml\"]");
    assert_eq!(messages_on(&file, "2026-11-30"), [""; 0]);
    assert_eq!(messages_on(&file, "2026-12-01"), [without(2027)]);
    assert_eq!(messages_on(&file, "2027-01-01"), [without(2027)]);
    // The city's own holidays cover a year only if there are no calendar files.
    let own = "holidays = [\"2027-03-03\"]";
    let file = with(
        "workday",
        &format!("files = [\"@ROOT@/configs/calendar/cn-2026.toml\"]\n{own}"),
    );
    assert_eq!(messages_on(&file, "2027-01-01"), [without(2027)]);
    assert_eq!(messages_on(&with("workday", own), "2027-01-01"), [""; 0]);
    // Windows on weekdays do not depend on holidays.
    let file = with("mon-fri", "files = [\"@ROOT@/configs/calendar/cn-2026.toml\"]");
    assert_eq!(messages_on(&file, "2027-01-01"), [""; 0]);
}
