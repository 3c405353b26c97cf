//! `gridwatch tune`: labelled cases give a table, a plot, and a recommended threshold with its reason.

use std::{fs, path::Path, process::Output};

use crate::engine_support::at;
use crate::filing::{case, form, pictures, record};
use crate::ledger_support::folder::{Folder, lines};
use gridwatch_engine::Newness;
use gridwatch_store::{Review, ReviewVerdict, Store};

fn tune(folder: &Folder, config: &Path, labels: &str, arguments: &[&str]) -> Output {
    let file = folder.dir.path().join("labels");
    fs::write(&file, labels).unwrap();
    let labels = ["--labels", file.to_str().unwrap()];
    folder.run("tune", config, &[&labels, arguments].concat())
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The numbers of the row that begins with `score`.
fn row(table: &str, score: &str) -> String {
    let row = table
        .lines()
        .find(|l| l.trim_start_matches(['>', ' ']).starts_with(score));
    row.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_threshold_that_separates_right_from_wrong_cases_is_recommended() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let cases = lines(&folder.replay(&config, &["--json"]));
    let id = |i: usize| cases[i]["case_id"].as_str().unwrap().to_owned();
    // The stall with the high score was real, the other was not.
    let labels = format!("case_id,right\n{},true\n{},false\n", id(0), id(1));
    let svg = folder.dir.path().join("tune.svg");
    let table = text(&tune(&folder, &config, &labels, &["--svg", svg.to_str().unwrap()]));
    assert_eq!(row(&table, "0.30"), "0.30 2 1 1 0 50 % 100 %");
    assert_eq!(row(&table, "0.70"), "0.70 1 1 0 0 100 % 100 %");
    assert_eq!(row(&table, "0.90"), "0.90 0 0 0 0 - 0 %");
    // Of 0.65, 0.70, 0.75 and 0.80.
    assert!(table.contains("> 0.75") || table.contains(">  0.75"), "{table}");
    assert!(
        table.contains("start_score = 0.75 (the middle of 4 equally good values)"),
        "{table}"
    );
    let svg = fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("vendor, now 0.50") && svg.contains("#c60"), "{svg}");
}

#[test]
fn a_labelled_problem_without_a_case_counts_as_missed() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let labels = format!(
        "{{\"camera\":\"gate\",\"rule\":\"vendor\",\"at\":\"{}\",\"x1\":0.3,\"y1\":0.5,\"x2\":0.4,\"y2\":0.7,\"right\":true}}\n\
         {{\"camera\":\"gate\",\"rule\":\"vendor\",\"at\":\"{}\",\"x1\":0.7,\"y1\":0.5,\"x2\":0.8,\"y2\":0.7,\"right\":true}}\n\
         {{\"case_id\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"right\":true}}\n",
        at(100.0),
        at(100.0),
    );
    let table = text(&tune(&folder, &config, &labels, &[]));
    // Both cases are of the first problem: half an hour apart, in the same place.
    assert_eq!(row(&table, "0.30"), "0.30 2 2 0 0 100 % 50 %");
    assert!(
        table.contains("Ignored 1 label: no threshold opens the case"),
        "{table}"
    );
}

#[test]
fn reviews_on_the_console_are_labels() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let ids: Vec<String> = lines(&folder.replay(&config, &["--json"]))
        .iter()
        .filter_map(|line| Some(line["case_id"].as_str()?.to_owned()))
        .collect();
    let state = folder.dir.path().join("reviewed");
    let mut store = Store::open(&state).unwrap();
    // The store has the cases as they were filed.
    for id in &ids {
        let mut case = case(1);
        case.id = id.as_str().into();
        case.dedup_key = format!("{}/{id}", case.dedup_key);
        let record = record(&case, pictures(store.dir(), 1));
        store.commit_case(&record, &case, &form()).unwrap();
    }
    let mut review = |case: usize, reviewer: &str, verdict| {
        let review = Review {
            case_id: ids[case].clone(),
            reviewer: reviewer.into(),
            verdict,
            duplicate_of: None,
            at: at(100.0),
        };
        assert!(store.set_review(&review).unwrap());
    };
    review(0, "wang", ReviewVerdict::True);
    review(1, "wang", ReviewVerdict::False);
    let tune = |arguments: &[&str]| {
        folder.run(
            "tune",
            &config,
            &[&["--reviews", state.to_str().unwrap()], arguments].concat(),
        )
    };
    let table = text(&tune(&[]));
    assert_eq!(row(&table, "0.30"), "0.30 2 1 1 0 50 % 100 %");
    assert!(table.contains("start_score = 0.75"), "{table}");
    // A file of labels decides on the cases that it has.
    let file = folder.dir.path().join("labels");
    fs::write(&file, format!("case_id,right\n{},true\n", ids[1])).unwrap();
    let table = text(&tune(&["--labels", file.to_str().unwrap()]));
    assert_eq!(row(&table, "0.30"), "0.30 2 2 0 0 100 % 100 %");
    // Another person disagrees: no label.
    review(1, "li", ReviewVerdict::True);
    let output = tune(&[]);
    // The case beside it in the same place is right, and so is this one then.
    assert_eq!(row(&text(&output), "0.30"), "0.30 2 2 0 0 100 % 100 %");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("1 case gives no label: reviewers disagree"), "{told}");
    let neither = folder.run("tune", &config, &[]);
    assert_eq!(neither.status.code(), Some(2), "{neither:?}");
}

#[test]
fn an_invalid_label_is_reported_with_its_line() {
    let folder = Folder::new();
    let config = folder.config("edge.toml", &[]);
    let output = tune(&folder, &config, "case_id,right\n01JW,perhaps\n", &[]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains("labels: line 2: right: invalid value \"perhaps\""),
        "{told}"
    );
}

/// The rule of good.toml with `appeared`, and scores that file all stalls of the tests below.
fn with_appeared(appeared: &str) -> (&'static str, String) {
    let rule = "dwell = \"5m\"\n";
    (rule, format!("{rule}{appeared}\n"))
}

fn newness(share: f32) -> Option<Newness> {
    Some(Newness { share, since: None })
}

/// The part of the output about `objects`.
fn part<'a>(table: &'a str, objects: &str) -> &'a str {
    let mut parts = table.split("Rule vendor");
    parts.find(|p| p.contains(objects)).unwrap()
}

#[test]
fn each_start_score_is_chosen_from_the_objects_that_it_decides_about() {
    let folder = Folder::new();
    let (old, new) = with_appeared("appeared = \"preferred\"\nnew_start_score = 0.3\nold_start_score = 0.55");
    let config = folder.config("edge.toml", &[(old, &new)]);
    // Right, wrong; new, there before, unknown. The stalls that were there before need more, the new ones less.
    let stalls = [
        (0.47, newness(0.8), true),
        (0.37, newness(0.7), false),
        (0.92, newness(0.0), true),
        (0.72, newness(0.1), false),
        (0.66, None, true),
        (0.57, None, false),
    ];
    let recorded = stalls.map(|(score, newness, _)| (score, newness));
    let ids = folder.record_stalls(&config, &recorded);
    assert_eq!(ids.len(), stalls.len());
    let labels = ids
        .iter()
        .zip(stalls)
        .map(|(id, (.., right))| format!("{id},{right}\n"));
    let labels = format!("case_id,right\n{}", labels.collect::<String>());
    let svg = folder.dir.path().join("tune.svg");
    let table = text(&tune(&folder, &config, &labels, &["--svg", svg.to_str().unwrap()]));
    for (objects, recommended, lowest) in [
        (
            "new in the view, current new_start_score 0.30",
            "new_start_score = 0.45",
            "0.30 2 1 1 0 50 % 100 %",
        ),
        (
            "could not tell, current start_score 0.50",
            "start_score = 0.65",
            "0.30 2 1 1 0 50 % 100 %",
        ),
        (
            "view was learned, current old_start_score 0.55",
            "old_start_score = 0.85",
            "0.30 2 1 1 0 50 % 100 %",
        ),
    ] {
        let part = part(&table, objects);
        assert!(
            part.contains(&format!("Recommended: {recommended}")),
            "{objects}: {part}"
        );
        assert_eq!(row(part, "0.30"), lowest, "{objects}");
    }
    assert!(!table.contains("cannot tell"), "{table}");
    let svg = fs::read_to_string(svg).unwrap();
    assert!(
        svg.contains("vendor new_start_score, now 0.30") && svg.contains("vendor old_start_score"),
        "{svg}"
    );
}

#[test]
fn a_new_start_score_above_start_score_is_not_recommended() {
    let folder = Folder::new();
    let (old, new) = with_appeared("start_score = 0.5\nappeared = \"required\"\nnew_start_score = 0.3");
    let config = folder.config("edge.toml", &[(old, &new)]);
    let ids = folder.record_stalls(&config, &[(0.9, newness(0.8)), (0.8, newness(0.8))]);
    let labels = format!("case_id,right\n{},true\n{},false\n", ids[0], ids[1]);
    let table = text(&tune(&folder, &config, &labels, &[]));
    // Only above 0.80 would all be right.
    assert!(
        table.contains("No threshold reaches a precision of 90 %; new_start_score = 0.40"),
        "{table}"
    );
    assert!(
        !table.contains("current start_score"),
        "with `required`, it decides nothing: {table}"
    );
}

#[test]
fn a_ledger_without_newness_gives_the_start_score_as_before_and_tells_nothing_about_the_others() {
    let folder = Folder::new();
    let plain = folder.config("edge.toml", &[]);
    let cases = lines(&folder.replay(&plain, &["--json"]));
    let id = |i: usize| cases[i]["case_id"].as_str().unwrap().to_owned();
    let labels = format!("case_id,right\n{},true\n{},false\n", id(0), id(1));
    let before = text(&tune(&folder, &plain, &labels, &[]));

    let (old, new) = with_appeared("appeared = \"preferred\"\nnew_start_score = 0.3");
    let preferred = folder.config("preferred.toml", &[(old, &new)]);
    let now = text(&tune(&folder, &preferred, &labels, &[]));
    let untold = "Rule vendor, new_start_score and old_start_score: cannot tell: no looks with newness in the ledger.";
    assert!(now.starts_with(&before), "{before}\n{now}");
    assert!(now.contains(untold), "{now}");
    assert!(
        !now.contains("Recommended: new") && !now.contains("Recommended: old"),
        "{now}"
    );

    let (old, new) = with_appeared("appeared = \"required\"");
    let required = folder.config("required.toml", &[(old, &new)]);
    let now = text(&tune(&folder, &required, &labels, &[]));
    assert!(now.starts_with("Rule vendor, new_start_score: cannot tell"), "{now}");
    assert!(!now.contains("Recommended"), "{now}");
}
