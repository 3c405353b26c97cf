//! `gridwatch tune`: labelled cases give a table, a plot, and a recommended threshold with its reason.

use std::{fs, path::Path, process::Output};

use crate::engine_support::at;
use crate::ledger_support::folder::{Folder, lines};

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
