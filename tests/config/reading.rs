//! The `[reading]` section: OCR of phone numbers, and its faults.

use std::time::Duration;

use crate::config_support::*;
use gridwatch_engine::Label;

const READING: &str = "[reading]\nfinder = \"@ROOT@/models/ppocr_v6_text_det\"\nspeller = \
                       \"@ROOT@/models/ppocr_v6_rec\"\n";
const RULE: &str = "[[rules]]\nid = \"small-ads\"\ncategory = \"0201\"\nlabels = [\"small_ad\"]\ndwell = \"2h\"\n\
                    forget_after = \"45m\"\nstands = \"wall\"\n";
const CAMERA: &str = "[[cameras]]\nid = \"gate\"\n";

/// good.toml with additional tables before its camera, and an additional line in the camera.
fn with(tables: &str, line: &str) -> gridwatch_config::Draft {
    Folder::new().with(CAMERA, &format!("{tables}\n{CAMERA}{line}\n"))
}

fn faults(tables: &str, line: &str) -> Vec<String> {
    let mut draft = with(tables, line);
    // Only the faults caused by the change.
    draft.faults.retain(|f| !f.path.contains("zones"));
    messages(&draft.faults)
}

#[test]
fn reading_settings_are_resolved() {
    let config = with(&format!("{READING}{RULE}max_gap = \"30m\"\n"), "read_numbers = true")
        .into_config()
        .unwrap();
    let reading = config.reading.unwrap();
    assert_eq!(reading.every, Duration::from_secs(600));
    assert!(reading.finder.is_absolute() && reading.finder.ends_with("models/ppocr_v6_text_det"));
    assert!(config.cameras[0].read_numbers);
    let rule = config.plan.rules.iter().find(|r| r.id.as_str() == "small-ads").unwrap();
    assert_eq!(rule.labels, [Label::small_ad()]);
}

#[test]
fn read_numbers_needs_the_reading_section() {
    assert_eq!(
        faults("", "read_numbers = true"),
        ["cameras[0].read_numbers: needs the [reading] section"]
    );
    let unknown = faults(&format!("{RULE}max_gap = \"30m\"\n"), "");
    assert_eq!(unknown, ["rules[1].labels[0]: no model detects \"small_ad\""]);
}

#[test]
fn text_models_and_detectors_cannot_be_swapped() {
    let exchanged = READING
        .replace("ppocr_v6_text_det", "x")
        .replace("ppocr_v6_rec", "ppocr_v6_text_det");
    let exchanged = exchanged.replace("models/x", "models/ppocr_v6_rec");
    assert_eq!(
        faults(&exchanged, ""),
        [
            "reading.finder: ppocr_v6_rec has adapter ctc, but db is required",
            "reading.speller: ppocr_v6_text_det has adapter db, but ctc is required",
        ]
    );
    let among_others = faults("[[models]]\ndir = \"@ROOT@/models/ppocr_v6_text_det\"\n", "");
    assert_eq!(
        among_others,
        ["models[1].dir: adapter db belongs to a text model, which detects no objects"]
    );
}

#[test]
fn max_gap_must_exceed_the_time_between_two_readings() {
    let tables = |gap: &str| format!("{READING}every = \"10m\"\n{RULE}max_gap = \"{gap}\"\n");
    assert_eq!(
        faults(&tables("90s"), "read_numbers = true"),
        [
            "rules[1].max_gap: 1m 30s is less than reading.every (10m): every gap would count as an outage, and no dwell would complete"
        ]
    );
    let draft = with(&tables("11m"), "read_numbers = true");
    assert_eq!(messages(&draft.faults), [""; 0]);
    assert_eq!(
        messages(&draft.warnings),
        [
            "rules[1].max_gap: 11m is less than three times reading.every (10m): one or two late looks count as an outage"
        ]
    );
    assert_eq!(
        faults(&format!("{READING}every = \"1s\"\n"), ""),
        ["reading.every: 1s is below the minimum of 10s"]
    );
}

const ADVERTS: &str = "[[trades]]\nid = \"locks\"\nzh = \"开锁\"\nen = \"locksmith\"\nphrases = [\"开锁\", \"换锁\"]\n";

/// The faults of a configuration whose `reading.adverts` holds `text`.
fn faults_of_adverts(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("adverts.toml");
    std::fs::write(&file, text).unwrap();
    faults(
        &format!(
            "{READING}adverts = {:?}\n{RULE}max_gap = \"30m\"\n",
            file.to_str().unwrap()
        ),
        "read_numbers = true",
    )
    .into_iter()
    .map(|fault| fault.replace(file.to_str().unwrap(), "adverts.toml"))
    .collect()
}

#[test]
fn the_words_of_adverts_are_read_and_their_faults_have_a_place() {
    assert_eq!(faults_of_adverts(ADVERTS), [""; 0]);
    let faulty = format!(
        "{ADVERTS}{ADVERTS}\n[[messengers]]\nid = \"qq\"\nform = \"numbers\"\nwords = [\"Q+\", \"、、\"]\n[banner]\nmin_chars = 1\nmin_aspect = 6.0\nheight = 3\n"
    );
    let found = faults_of_adverts(&faulty).join("\n");
    for part in [
        "trades[1].id",
        "\"locks\" is already used",
        "messengers[0].form",
        "banner.min_chars",
        "height",
    ] {
        assert!(found.contains(part), "{part}: {found}");
    }
    let punctuation = faults_of_adverts(&ADVERTS.replace("换锁", "、、"));
    assert!(
        punctuation.len() == 1
            && punctuation[0].contains("trades[0].phrases[1]: \"、、\" has fewer than two letters or digits"),
        "{punctuation:?}"
    );
    let missing = faults(&format!("{READING}adverts = \"nowhere.toml\"\n"), "");
    assert!(
        missing.len() == 1 && missing[0].starts_with("reading.adverts"),
        "{missing:?}"
    );
}

#[test]
fn a_second_look_that_reads_text_needs_the_reading_section() {
    let rule = "[[rules]]\nid = \"wall\"\ncategory = \"0201\"\nlabels = [\"sign\"]\ndwell = \"2h\"\nstands = \"wall\"\n\
                second_look = { score = 0.5, text = \"small_ad\" }\n";
    let faults = faults(rule, "");
    assert!(
        faults
            .iter()
            .any(|f| f == "rules[1].second_look.text: needs the [reading] section"),
        "{faults:?}"
    );
}
