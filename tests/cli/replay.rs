//! `gridwatch replay`: the same ledger and configuration give the same bytes, and `--compare` reports what another
//! configuration changes. Needs neither credentials nor a broker.

use std::fs;

use crate::engine_support::at;
use crate::ledger_support::folder::{Folder, lines};

const STRICT: (&str, &str) = ("dwell = \"5m\"", "dwell = \"5m\"\nstart_score = 0.7");

#[test]
fn the_same_ledger_and_configuration_give_the_same_bytes() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let (one, two) = (folder.replay(&config, &["--json"]), folder.replay(&config, &["--json"]));
    assert_eq!(one, two);
    let lines = lines(&one);
    let [first, second, summary] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!((&first["rule"], &first["camera"]), (&"vendor".into(), &"gate".into()));
    assert_eq!(first["dwell_s"], 300.0);
    assert!(first["confirmed_at"].as_str() < second["confirmed_at"].as_str());
    assert_eq!(
        (&summary["cases"], &summary["inputs"], &summary["looks"]),
        (&2.into(), &541.into(), &540.into())
    );
    let stderr = String::from_utf8(one.stderr).unwrap();
    assert!(
        stderr.contains("cameras[0].credentials.file: the file does not exist"),
        "{stderr}"
    );
    assert!(!String::from_utf8(one.stdout).unwrap().contains("secret"));

    let table = folder.replay(&config, &[]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().filter(|l| l.contains("vendor")).count(), 2, "{table}");
    assert!(table.contains("2 cases from 541 inputs"), "{table}");
}

#[test]
fn a_ledger_without_newness_gives_the_same_cases_under_a_rule_that_prefers_what_is_new() {
    let folder = Folder::new();
    let plain = folder.config("edge.toml", &[]);
    let prefers = "dwell = \"5m\"\nappeared = \"preferred\"\nnew_start_score = 0.3\nold_start_score = 0.99";
    let preferred = folder.config("preferred.toml", &[("dwell = \"5m\"", prefers)]);
    let before = folder.replay(&plain, &["--json"]);
    let now = folder.replay(&preferred, &["--json"]);
    assert_eq!(lines(&before)[2]["cases"], 2);
    assert_eq!(now.stdout, before.stdout, "byte for byte");
}

#[test]
fn a_comparison_lists_missing_cases_with_the_reason() {
    let folder = Folder::new();
    let (config, strict) = (folder.config("edge.toml", &[]), folder.config("strict.toml", &[STRICT]));
    let old = folder.dir.path().join("old.jsonl");
    fs::write(&old, folder.replay(&config, &["--json"]).stdout).unwrap();
    let old = old.to_str().unwrap();

    let same = lines(&folder.replay(&config, &["--json", "--compare", old]));
    assert_eq!(same.len(), 1);
    assert_eq!(same[0]["compared"]["same"], 2);

    let later = lines(&folder.replay(
        &config,
        &["--json", "--compare", old, "--from", &at(1200.0).to_string()],
    ));
    assert_eq!(
        (later.len(), &later[0]["compared"]["gone"]),
        (1, &0.into()),
        "a case outside the window is not gone"
    );

    let changes = lines(&folder.replay(&strict, &["--json", "--compare", old]));
    let [gone, summary] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!(
        (&gone["change"], &gone["why"]["reason"]),
        (&"gone".into(), &"score_too_low".into())
    );
    assert_eq!(
        (&summary["compared"]["same"], &summary["compared"]["gone"]),
        (&1.into(), &1.into())
    );

    let longer = folder.config("longer.toml", &[("dwell = \"5m\"", "dwell = \"6m\"")]);
    let changes = lines(&folder.replay(&longer, &["--json", "--compare", old]));
    assert_eq!(
        (&changes[0]["change"], &changes[0]["later_s"]),
        (&"shifted".into(), &60.0.into())
    );
    // The recorded `closed` reply names a case that this configuration does not open.
    assert_eq!(changes.last().unwrap()["replies_unknown"], 1);
    let text = String::from_utf8(folder.replay(&longer, &["--compare", old]).stdout).unwrap();
    assert!(text.contains("60 s later"), "{text}");
}

#[test]
fn only_cases_between_from_and_to_are_reported() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let (noon, end) = (at(1200.0).to_string(), at(1500.0).to_string());
    let count = |arguments: &[&str]| lines(&folder.replay(&config, arguments)).len() - 1;
    assert_eq!(count(&["--json", "--from", &noon]), 1);
    assert_eq!(count(&["--json", "--to", &noon]), 1);
    assert_eq!(count(&["--json", "--from", &noon, "--to", &end]), 0);
}

#[test]
fn faulty_rules_and_a_missing_ledger_are_errors() {
    let folder = Folder::new();
    let faulty = folder.config("faulty.toml", &[("category = \"0501\"", "category = \"9999\"")]);
    let output = folder.replay(&faulty, &[]);
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("rules[0].category"), "{stderr}");
    assert!(!stderr.contains("gate.secret"), "not needed for a replay: {stderr}");

    let config = folder.config("edge.toml", &[]);
    fs::remove_dir_all(folder.ledger()).unwrap();
    let output = folder.replay(&config, &[]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no ledger in"));
}
