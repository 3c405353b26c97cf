//! `gridwatch ledger why-not`, `gridwatch ledger what-if`, and a replay with the configuration that held.

use std::{fs, process::Output};

use crate::ledger_support::folder::{Folder, lines};

fn run(folder: &Folder, command: &[&str], arguments: &[&str]) -> Output {
    let ledger = folder.ledger();
    let all = [command, &["--ledger", ledger.to_str().unwrap()], arguments].concat();
    std::process::Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(all)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_replay_without_a_configuration_judges_with_the_recorded_one() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let given = folder.replay(&config, &["--json"]);
    let recorded = run(&folder, &["replay"], &["--json"]);
    assert_eq!(recorded.stdout, given.stdout, "byte for byte");

    // A missing configuration is an error that says what to do; the given one still works.
    fs::remove_dir_all(folder.ledger().join("plans")).unwrap();
    let missing = run(&folder, &["replay"], &[]);
    let stderr = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(5), "{stderr}");
    assert!(
        stderr.contains("540 looks from ") && stderr.contains("is missing; restore it"),
        "{stderr}"
    );
    assert_eq!(folder.replay(&config, &["--json"]).stdout, given.stdout);
    let truth = run(&folder, &["replay"], &["--truth", "none.jsonl"]);
    assert!(String::from_utf8(truth.stderr).unwrap().contains("--config <FILE>"));
}

#[test]
fn why_not_lists_what_was_not_filed_and_why() {
    let folder = Folder::new();
    let strict = folder.config("strict.toml", &[("dwell = \"5m\"", "dwell = \"12m\"")]);
    let strict = strict.to_str().unwrap();
    let none = text(&run(&folder, &["ledger", "why-not"], &[]));
    assert!(none.starts_with("No candidate in that time."), "{none}");
    let filed = lines(&run(&folder, &["ledger", "why-not"], &["--filed", "--json"]));
    assert_eq!((filed.len(), &filed[0]["outcome"]), (3, &"filed".into()));
    assert_eq!(filed[0]["steps"][0]["reason"], "appeared");

    let shown = text(&run(&folder, &["ledger", "why-not"], &["--config", strict]));
    assert!(shown.contains("vendor, camera gate: left_before_dwell"), "{shown}");
    assert!(shown.contains("dwell: 590 s of 720 s"), "{shown}");
    assert!(shown.contains("Not filed, left_before_dwell: 2"), "{shown}");
    let other = text(&run(
        &folder,
        &["ledger", "why-not"],
        &["--config", strict, "--camera", "elsewhere"],
    ));
    assert!(other.starts_with("No candidate"), "{other}");
    let wrong = run(&folder, &["ledger", "why-not"], &["--reason", "bad_mood"]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn what_if_tells_which_cases_go_and_draws_a_curve() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let config = config.to_str().unwrap();
    let set = |change: &str| run(&folder, &["ledger", "what-if"], &["--config", config, "--set", change]);
    let shown = text(&set("vendor.start_score=0.7"));
    assert!(
        shown.contains("gone (score_too_low)") || shown.contains("gone"),
        "{shown}"
    );
    assert!(
        shown.contains("Against the current configuration: 1 unchanged, 0 shifted, 0 new, 1 gone."),
        "{shown}"
    );
    assert!(
        shown.contains("Against what was really filed: 1 unchanged, 0 shifted, 0 new, 1 gone."),
        "{shown}"
    );
    assert!(
        shown.contains("100 % (21-100) of 1"),
        "the platform closed the first case: {shown}"
    );
    let json = run(
        &folder,
        &["ledger", "what-if"],
        &["--config", config, "--set", "vendor.dwell=400", "--json"],
    );
    let answer = &lines(&json)[0];
    // The reply is about the live case, so the first one stays open, and the second belongs to it.
    let counts = &answer["against_current"];
    assert_eq!(
        (&counts["shifted"], &counts["gone"]),
        (&1.into(), &1.into()),
        "{counts}"
    );
    assert_eq!(answer["changes"][1]["why"]["reason"], "open_case_at_site");
    let curve = text(&run(
        &folder,
        &["ledger", "what-if"],
        &[
            "--config",
            config,
            "--curve",
            "vendor.start_score",
            "--values",
            "0.5,0.7,0.9",
        ],
    ));
    assert!(curve.contains("Rule vendor, start_score, current value"), "{curve}");
    assert!(curve.contains("Recommended: start_score = "), "{curve}");
    for (change, fault) in [
        ("vendor.start_score=2", "out of range; use 0 to 1"),
        ("vendor.mood=1", "unknown threshold; use one of start_score"),
        ("stall.dwell=1", "no rule has the id \"stall\"; the configuration has "),
        ("vendor.dwell", "expected RULE.THRESHOLD=VALUE"),
    ] {
        let output = set(change);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(fault), "{stderr}");
    }
}
