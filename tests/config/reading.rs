//! What may be said of reading telephone numbers, and what is told of what may not.

use std::time::Duration;

use crate::config_support::*;
use gridwatch_engine::Label;

const READING: &str = "[reading]\nfinder = \"@ROOT@/models/ppocr_v3_text_det\"\nspeller = \
                       \"@ROOT@/models/ppocr_v2_number_rec\"\n";
const RULE: &str = "[[rules]]\nid = \"small-ads\"\ncategory = \"0201\"\nlabels = [\"small_ad\"]\ndwell = \"2h\"\n\
                    forget_after = \"45m\"\nstands = \"wall\"\n";
const CAMERA: &str = "[[cameras]]\nid = \"gate\"\n";

/// The good file with a table before its camera, and with a line in it.
fn with(tables: &str, line: &str) -> gridwatch_config::Draft {
    Folder::new().with(CAMERA, &format!("{tables}\n{CAMERA}{line}\n"))
}

fn faults(tables: &str, line: &str) -> Vec<String> {
    let mut draft = with(tables, line);
    // Only what the change does.
    draft.faults.retain(|f| !f.path.contains("zones"));
    told(&draft.faults)
}

#[test]
fn a_camera_is_read_at_its_pace_by_models_of_text() {
    let config = with(&format!("{READING}{RULE}max_gap = \"30m\"\n"), "read_numbers = true")
        .into_config()
        .unwrap();
    let reading = config.reading.unwrap();
    assert_eq!(reading.every, Duration::from_secs(600));
    assert!(reading.finder.is_absolute() && reading.finder.ends_with("models/ppocr_v3_text_det"));
    assert!(config.cameras[0].reads);
    let rule = config.plan.rules.iter().find(|r| r.id.as_str() == "small-ads").unwrap();
    assert_eq!(rule.labels, [Label::small_ad()]);
}

#[test]
fn without_the_table_nothing_is_read() {
    assert_eq!(
        faults("", "read_numbers = true"),
        ["cameras[0].read_numbers: nothing says how: [reading] is missing"]
    );
    let unknown = faults(&format!("{RULE}max_gap = \"30m\"\n"), "");
    assert_eq!(unknown, ["rules[1].labels[0]: no model finds \"small_ad\""]);
}

#[test]
fn models_are_named_where_they_belong() {
    let exchanged = READING
        .replace("ppocr_v3_text_det", "x")
        .replace("ppocr_v2_number_rec", "ppocr_v3_text_det");
    let exchanged = exchanged.replace("models/x", "models/ppocr_v2_number_rec");
    assert_eq!(
        faults(&exchanged, ""),
        [
            "reading.finder: the adapter of ppocr_v2_number_rec is ctc, and db is needed",
            "reading.speller: the adapter of ppocr_v3_text_det is db, and ctc is needed",
        ]
    );
    let among_others = faults("[[models]]\ndir = \"@ROOT@/models/ppocr_v3_text_det\"\n", "");
    assert_eq!(
        among_others,
        ["models[1].dir: its adapter is db: it is a model of text, and finds nothing"]
    );
}

#[test]
fn a_rule_must_bear_the_time_between_two_readings() {
    let tables = |gap: &str| format!("{READING}every = \"10m\"\n{RULE}max_gap = \"{gap}\"\n");
    assert_eq!(
        faults(&tables("90s"), "read_numbers = true"),
        [
            "rules[1].max_gap: 1m 30s is less than reading.every 10m: every gap would count as an outage and no dwell would pass"
        ]
    );
    let draft = with(&tables("11m"), "read_numbers = true");
    assert_eq!(told(&draft.faults), [""; 0]);
    assert_eq!(
        told(&draft.warnings),
        ["rules[1].max_gap: 11m is less than three times reading.every 10m: one or two late looks count as an outage"]
    );
    assert_eq!(
        faults(&format!("{READING}every = \"1s\"\n"), ""),
        ["reading.every: 1s is less than 10s"]
    );
}
