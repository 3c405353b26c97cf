//! `gridwatch config`: the versions of the configuration are listed, compared, shown and restored.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
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

/// A user who owns nothing: permissions do not bind root, so the command runs as this one if the tests run as root.
const NOBODY: u32 = 65_534;

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_the_remedy_and_no_version_is_kept() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let dir = tempfile::tempdir().unwrap();
    let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open(dir.path());
    let root = dir.path().join("root");
    for folder in ["configs/grid", "configs/categories", "models/yolox_nano_416_coco"] {
        copy_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &root.join(folder));
    }
    let folder = dir.path().join("etc");
    fs::create_dir(&folder).unwrap();
    let (main, state) = (folder.join("edge.toml"), dir.path().join("state"));
    let text = fs::read_to_string("tests/golden/good.toml").unwrap();
    let text = text
        .replace("@ROOT@", root.to_str().unwrap())
        .replace(
            "state_dir = \"state\"",
            &format!("state_dir = {:?}", state.to_str().unwrap()),
        )
        .replace("{ file = \"gate.secret\" }", "{ env = \"GRIDWATCH_TEST_UNSET\" }");
    fs::write(&main, text).unwrap();
    let mut editor = Editor::open_offline(&main).unwrap();
    editor.set("cameras[gate].look_every", &json!("5s")).unwrap();
    let revision = editor.revision().to_owned();
    let request = SaveRequest {
        expected_revision: &revision,
        who: "wang",
        why: "",
    };
    editor.save(&request).unwrap();
    let program = dir.path().join("gridwatch");
    if fs::hard_link(env!("CARGO_BIN_EXE_gridwatch"), &program).is_err() {
        fs::copy(env!("CARGO_BIN_EXE_gridwatch"), &program).unwrap();
    }
    fs::set_permissions(&main, fs::Permissions::from_mode(0o644)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if is_root {
        own(&state);
    }
    let versions = || fs::read_to_string(state.join("configurations/index.json")).unwrap();
    let before = versions();

    let mut command = Command::new(&program);
    command
        .args(["config", "restore", "1", "--config"])
        .arg(&main)
        .current_dir("/");
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    for part in [
        &format!("make files in {}", folder.display()),
        "chown",
        "ReadWritePaths=",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert_eq!(versions(), before);
}

/// Gives a folder and all that is in it to [`NOBODY`].
fn own(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path)
            .unwrap()
            .for_each(|entry| own(&entry.unwrap().path()));
    }
}
