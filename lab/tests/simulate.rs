//! `gridwatch-lab simulate`: the same arguments give the same bytes, a replay of the ledger gives the cases of the simulation, and
//! with the shipped rules nearly all of them are correct.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use gridwatch_lab::simulate::{FALSE_REGIONS, Options, SimulateError, Summary, run};
use serde_json::Value;

fn options(cameras: usize, days: u32, seed: u64) -> Options {
    Options {
        cameras,
        days,
        seed,
        look_every: Duration::from_secs(10),
        recall: 0.7,
        false_per_look: 0.05,
        stubborn: 0.33,
        has_change_map: true,
        false_regions: FALSE_REGIONS / 1000.0,
        start: "2026-06-01T00:00:00+08:00".parse().unwrap(),
        rules: None,
    }
}

fn simulate(options: &Options) -> (tempfile::TempDir, Summary) {
    let dir = tempfile::tempdir().unwrap();
    let mut days = Vec::new();
    let summary = run(options, dir.path(), &mut |day| days.push(day)).unwrap();
    assert_eq!(days, (1..=options.days).collect::<Vec<_>>());
    (dir, summary)
}

/// All files below `dir`, by relative path.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(
                files(&path)
                    .into_iter()
                    .map(|(p, bytes)| (path.file_name().unwrap().into(), (p, bytes)))
                    .map(|(folder, (p, bytes)): (PathBuf, _)| (folder.join(p), bytes)),
            );
        } else {
            found.insert(path.file_name().unwrap().into(), fs::read(&path).unwrap());
        }
    }
    found
}

fn lab(arguments: &[&str]) -> Output {
    support::lab(arguments).output().unwrap()
}

fn gridwatch(arguments: &[&str]) -> Output {
    support::gridwatch(arguments).output().unwrap()
}

/// The JSON lines of `replay --truth --json` on the simulation's output.
fn replay(dir: &Path) -> Vec<Value> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let output = gridwatch(&[
        "replay",
        "--ledger",
        &path("ledger"),
        "--config",
        &path("config.toml"),
        "--truth",
        &path("truth.jsonl"),
        "--json",
    ]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "",
        "the configuration has no faults"
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let (one, _) = simulate(&options(5, 1, 7));
    let (two, _) = simulate(&options(5, 1, 7));
    let (one, two) = (files(one.path()), files(two.path()));
    let names: Vec<_> = one.keys().map(|p| p.to_str().unwrap()).collect();
    for name in [
        "config.toml",
        "truth.jsonl",
        "grid.geojson",
        "categories/default.toml",
        "ledger/ledger-00000001.gwl",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(one == two, "{names:?}");
    let (other, _) = simulate(&options(5, 1, 8));
    assert!(files(other.path())[Path::new("truth.jsonl")] != one[Path::new("truth.jsonl")]);
}

#[test]
fn a_town_of_twelve_cameras_is_judged_well_and_replays_to_the_same_cases() {
    let (dir, summary) = simulate(&options(12, 3, 7));
    assert!(summary.starts >= 2, "the simulation includes a restart");
    let lines = replay(dir.path());
    let sum = lines.last().unwrap();
    assert_eq!(sum["cases"], summary.cases, "the replay gives the same cases");
    assert_eq!(sum["starts"], summary.starts);
    assert_eq!(sum["replies_unknown"], 0);
    let number = |name: &str| sum[name].as_f64().unwrap();
    assert!(number("asked") >= 10.0, "too few problems to judge by: {sum}");
    assert!(number("precision") >= 0.9, "{sum}");
    assert!(number("recall") >= 0.85, "{sum}");
    assert!(number("repeated") <= 0.05, "{sum}");

    // `check` accepts the configuration, although its model has no network, and warns only that it masks nothing.
    let config = dir.path().join("config.toml");
    let checked = gridwatch(&["check", "--offline", "--json", "--config", config.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    let configuration: Vec<&Value> = checks.filter(|c| c["what"] == "configuration").collect();
    assert_eq!(configuration[0]["state"], "ok", "{report}");
    let faults = configuration[1..].iter().map(|c| &c["fault"]["path"]);
    // From December on, the calendar lacks the holidays of the next year, which are published late.
    let faults: Vec<&Value> = faults.filter(|path| *path != "calendar.files").collect();
    assert_eq!(faults, ["evidence.mask"], "{report}");
}

#[test]
fn change_maps_tell_what_is_new_and_find_what_no_network_has_a_label_for() {
    let (dir, summary) = simulate(&options(8, 1, 7));
    assert!(summary.new_boxes > summary.unlabelled, "{summary:?}");
    assert!(summary.unlabelled > 0, "{summary:?}");
    // Each view is learned from 30 looks, and with infrared from 33 more in its other light.
    assert!(
        summary.untold >= 8 * 30 && summary.untold < summary.looks / 10,
        "{summary:?}"
    );
    let truth = fs::read_to_string(dir.path().join("truth.jsonl")).unwrap();
    let truths = || truth.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    let appeared = |kind: &str| -> Vec<Value> {
        let of_kind = truths().filter(|t| t["kind"] == kind);
        of_kind.map(|t| t["views"][0]["appeared"].clone()).collect()
    };
    let signs = appeared("sign with a permit");
    assert!(!signs.is_empty() && signs.iter().all(|a| a == false), "{signs:?}");
    let spots = appeared("stain or façade");
    assert!(!spots.is_empty() && spots.iter().all(|a| a == false), "{spots:?}");
    let bags = appeared("rubbish that a sweeper takes");
    assert!(bags.iter().any(|a| a == true), "{bags:?}");
    let problems = truths().filter(|t| t["problem"] == true).count();
    assert_eq!(problems as u64, summary.problems);

    let lines = replay(dir.path());
    let newness = &lines.last().unwrap()["newness"];
    let judged = |which: &str| newness[which]["judged"].as_u64().unwrap();
    assert!(judged("new") > judged("old") + judged("unknown"), "{newness}");
}

#[test]
fn a_town_without_change_maps_has_no_newness_and_finds_nothing_unlabelled() {
    let without = Options {
        has_change_map: false,
        ..options(8, 1, 7)
    };
    let (dir, summary) = simulate(&without);
    assert_eq!((summary.new_boxes, summary.unlabelled, summary.untold), (0, 0, 0));
    let config = fs::read_to_string(dir.path().join("config.toml")).unwrap();
    assert!(config.contains("enabled = false"), "{config}");
    assert!(
        !config.contains("appeared") && !config.contains("\"object\""),
        "{config}"
    );
    let truth = fs::read_to_string(dir.path().join("truth.jsonl")).unwrap();
    assert!(!truth.contains("light taken for something new"));
    let lines = replay(dir.path());
    let sum = lines.last().unwrap();
    assert_eq!(sum["cases"], summary.cases, "the replay gives the same cases");
    assert_eq!(sum["newness"], Value::Null);
}

#[test]
fn more_light_taken_for_something_new_gives_more_unlabelled_regions() {
    let unlabelled = |false_regions| {
        simulate(&Options {
            false_regions,
            ..options(4, 1, 7)
        })
        .1
        .unlabelled
    };
    assert!(unlabelled(0.02) > 2 * unlabelled(0.0));
}

#[test]
fn a_worse_detector_gives_a_lower_recall_and_what_is_new_is_searched_more_often() {
    let share = |recall, has_change_map| {
        let (dir, _) = simulate(&Options {
            recall,
            has_change_map,
            ..options(8, 1, 7)
        });
        replay(dir.path()).last().unwrap()["recall"].as_f64().unwrap()
    };
    let blind = share(0.3, false);
    assert!(blind < share(0.7, false) - 0.2);
    // What a crop of a new region shows is remembered for some looks.
    assert!(blind < share(0.3, true) - 0.2);
}

#[test]
fn a_folder_that_is_not_empty_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let error = run(&options(1, 1, 7), dir.path(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, SimulateError::NotEmpty { .. }), "{error}");
    let output = lab(&[
        "simulate",
        "--cameras",
        "1",
        "--days",
        "1",
        "--out",
        dir.path().to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(3));
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(why.contains("is not empty"), "{why}");
    assert_eq!(files(dir.path()).len(), 1, "the folder is unchanged");
}

#[test]
fn a_given_rules_file_replaces_the_shipped_rules() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.toml");
    fs::write(
        &rules,
        "[[rules]]\nid = \"heaps\"\ncategory = \"0102\"\nlabels = [\"garbage\"]\ndwell = \"10m\"\n",
    )
    .unwrap();
    let (out, _) = simulate(&Options {
        rules: Some(rules.clone()),
        ..options(5, 1, 7)
    });
    let config = fs::read_to_string(out.path().join("config.toml")).unwrap();
    assert!(
        config.contains("id = \"heaps\"") && !config.contains("vendor"),
        "{config}"
    );
    let truth = fs::read_to_string(out.path().join("truth.jsonl")).unwrap();
    assert!(
        truth.contains("heap of bags") && !truth.contains("0501"),
        "without a rule there are no vendors"
    );

    fs::write(
        &rules,
        "[[rules]]\nid = \"heaps\"\ncategory = \"9999\"\nlabels = [\"garbage\"]\ndwell = \"10m\"\n",
    )
    .unwrap();
    let wrong = Options {
        rules: Some(rules),
        ..options(1, 1, 7)
    };
    let error = run(&wrong, &out.path().join("new"), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("9999"), "{error}");
}
