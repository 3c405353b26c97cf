//! `gridwatch config`: the versions of the configuration are listed, compared, shown and restored.

use std::{
    fs,
    process::{Command, Output},
};

use gridwatch_config::edit::{Editor, SaveRequest};
use serde_json::{Value, json};

struct Kept {
    dir: tempfile::TempDir,
}

impl Kept {
    /// Two versions: the first as a person wrote it, the second saved by wang.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let text = fs::read_to_string("tests/golden/good.toml").unwrap();
        let text = text
            .replace("@ROOT@", env!("CARGO_MANIFEST_DIR"))
            .replace("{ file = \"gate.secret\" }", "{ env = \"GRIDWATCH_TEST_UNSET\" }");
        fs::write(dir.path().join("edge.toml"), text).unwrap();
        let this = Self { dir };
        this.save("cameras[gate].look_every", &json!("5s"));
        this
    }

    fn save(&self, field: &str, value: &Value) {
        let mut editor = Editor::open_offline(&self.dir.path().join("edge.toml")).unwrap();
        editor.set(field, value).unwrap();
        let revision = editor.revision().to_owned();
        let request = SaveRequest {
            expected_revision: &revision,
            who: "wang",
            why: "closer \u{1b}[31mwatch",
        };
        editor.save(&request).unwrap();
    }

    fn text(&self) -> String {
        fs::read_to_string(self.dir.path().join("edge.toml")).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .arg("config")
            .args(arguments)
            .arg("--config")
            .arg(self.dir.path().join("edge.toml"))
            .env_remove("GRIDWATCH_CONFIG")
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn versions_are_listed_compared_shown_and_restored() {
    let kept = Kept::new();
    let first = kept.text().replace("look_every = \"5s\"\n", "");
    let table = stdout(&kept.run(&["history"]));
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].contains("2*") && lines[1].contains(" wang "), "{table}");
    assert!(lines[2].contains("1 ") && lines[2].contains("- (editor)"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");
    let list = kept.json(&["history"]);
    assert_eq!(list["versions"][0]["present"], true);
    assert_eq!(list["versions"][0]["changes"][0]["path"], "cameras[gate].look_every");

    let change = "cameras[gate].look_every: 10s → 5s (live)\n";
    assert_eq!(stdout(&kept.run(&["diff", "1"])), change);
    assert_eq!(stdout(&kept.run(&["diff", "1", "2"])), change);
    assert_eq!(stdout(&kept.run(&["diff", "2"])), "No setting differs.\n");
    assert_eq!(kept.json(&["diff", "1", "2"])["changes"][0]["new"], "5s");
    assert_eq!(stdout(&kept.run(&["show", "1", "--file", "edge.toml"])), first);
    assert_eq!(kept.json(&["show", "2"])["files"][0]["text"], kept.text());

    let restored = stdout(&kept.run(&["restore", "1", "--why", "too fast"]));
    assert!(
        restored.starts_with("Restored version 1 as version 3, with 1 change:\n"),
        "{restored}"
    );
    assert_eq!(kept.text(), first);
    let newest = &kept.json(&["history"])["versions"][0];
    assert_eq!((&newest["id"], &newest["why"]), (&json!(3), &json!("too fast")));

    for unknown in [
        &["restore", "9"][..],
        &["show", "9"],
        &["diff", "9"],
        &["show", "1", "--file", "x"],
    ] {
        assert_eq!(kept.run(unknown).status.code(), Some(3), "{unknown:?}");
    }
}

#[test]
fn a_version_that_has_become_faulty_is_not_restored() {
    let kept = Kept::new();
    fs::write(kept.dir.path().join("lane.secret"), "").unwrap();
    // The second version no longer fits what it refers to.
    let text = kept.text().replace("5s", "6s");
    kept.save(
        "grid.categories",
        &json!(format!(
            "{}/configs/categories/default.toml",
            env!("CARGO_MANIFEST_DIR")
        )),
    );
    fs::write(
        kept.dir.path().join("edge.toml"),
        text.replace("credentials = {", "address = \"lane\"\ncredentials = {"),
    )
    .unwrap();
    let own = kept.dir.path().join("categories.toml");
    fs::copy("configs/categories/default.toml", &own).unwrap();
    kept.save("grid.categories", &json!("categories.toml"));
    kept.save(
        "grid.categories",
        &json!(format!(
            "{}/configs/categories/default.toml",
            env!("CARGO_MANIFEST_DIR")
        )),
    );
    fs::remove_file(own).unwrap();
    let list = kept.json(&["history"]);
    let id = list["versions"][1]["id"].to_string();
    let before = kept.text();
    let output = kept.run(&["restore", &id]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("grid.categories: cannot read")
    );
    assert_eq!(kept.text(), before);
}

#[test]
fn a_damaged_file_is_restored_with_the_state_directory() {
    let kept = Kept::new();
    let good = kept.text();
    let file = kept.dir.path().join("edge.toml");
    fs::write(&file, "= damaged").unwrap();
    assert_eq!(kept.run(&["history"]).status.code(), Some(3));
    let state = kept.dir.path().join("state").display().to_string();
    let output = kept.run(&["restore", "2", "--state", &state]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(kept.text(), good);
}
