//! Files in `conf.d` beside the main file.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::sample::Folder;
use gridwatch_config::examine_with;

const LANE: &str =
    "[[cameras]]\nid = \"lane\"\nurl = \"rtsp://192.0.2.11/stream\"\nplace = { lon = 120.001, lat = 30.001 }\n";

fn folder_with(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    for (name, text) in files {
        folder.write(name, text);
    }
    folder
}

#[test]
fn tables_and_lists_of_tables_come_from_all_files_in_the_order_of_their_names() {
    let folder = folder_with(&[
        ("conf.d/b.toml", LANE),
        ("conf.d/Z.toml", &LANE.replace("lane", "first")),
        (
            "conf.d/telemetry.toml",
            "[telemetry]\nfilter = \"debug\"\n[node]\nlanguage = \"en\"\n",
        ),
        // None of these is a file of the configuration.
        ("conf.d/b.toml~", "="),
        ("conf.d/.b.toml.swp", "="),
        ("conf.d/.b.toml", "="),
        ("conf.d/README", "="),
        ("conf.d/sub/c.toml", "="),
    ]);
    folder.replace("edge.toml", "[broker]", "[telemetry]\nlog = \"json\"\n\n[broker]");
    let config = folder.load();
    let ids: Vec<&str> = config.cameras.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["gate", "first", "lane"], "by bytes: capitals first");
    assert_eq!(config.telemetry.filter, "debug");
    assert_eq!(config.telemetry.log, gridwatch_config::LogFormat::Json);
    let own: Vec<_> = config
        .sources
        .iter()
        .filter(|s| s.field.is_empty())
        .map(|s| s.file.clone())
        .collect();
    let expected = ["edge.toml", "conf.d/Z.toml", "conf.d/b.toml", "conf.d/telemetry.toml"];
    assert_eq!(own, expected.map(|name| folder.path(name)));
    // What the documentation says, with the real program.
    let script = "LC_ALL=C; cat edge.toml conf.d/*.toml | sha256sum";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.dir.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().split(' ').next(),
        Some(config.config_sha256.as_str())
    );
}

#[test]
fn without_conf_d_the_hash_is_that_of_the_file() {
    let folder = Folder::new();
    let alone = folder.load().config_sha256;
    assert_eq!(
        alone,
        gridwatch_base::digest::sha256_hex(folder.read("edge.toml").as_bytes())
    );
    fs::create_dir(folder.path("conf.d")).unwrap();
    assert_eq!(folder.load().config_sha256, alone);
}

#[test]
fn faults_name_the_file_and_line_in_which_they_are() {
    let folder = folder_with(&[
        ("conf.d/lane.toml", &format!("{LANE}look_evry = \"1s\"\n")),
        ("conf.d/more.toml", "\n[node]\nid = \"box-02\"\n"),
        (
            "conf.d/same.toml",
            &format!("# the same id\n{}", LANE.replace("0.2.11", "0.2.12")),
        ),
        ("conf.d/masks.toml", "[evidence]\nmask_models = []\n"),
    ]);
    folder.replace("edge.toml", "[broker]", "[evidence]\nmask_models = []\n\n[broker]");
    assert_eq!(
        folder.faults(),
        [
            "cameras[1].look_evry: unknown field (conf.d/lane.toml:5)",
            "evidence.mask_models: already set in edge.toml:8 (conf.d/masks.toml:2)",
            "node.id: already set in edge.toml:3 (conf.d/more.toml:3)",
            "cameras[2].id: already used by cameras[1] (conf.d/lane.toml:2) (conf.d/same.toml:3)",
        ]
    );
    // A file that is no TOML hides the others' faults, but not their syntax errors.
    folder.write("conf.d/lane.toml", "a = \n");
    folder.write("conf.d/same.toml", "b = \n");
    let faults = folder.faults();
    assert!(faults.iter().any(|f| f.ends_with("(conf.d/lane.toml:1)")), "{faults:?}");
    assert!(faults.iter().any(|f| f.ends_with("(conf.d/same.toml:1)")), "{faults:?}");
    assert!(!folder.examine().readable);
}

#[test]
fn relative_paths_start_at_the_main_file() {
    let folder = folder_with(&[(
        "conf.d/lane.toml",
        &format!("{LANE}credentials = {{ file = \"gate.secret\" }}\n"),
    )]);
    assert!(folder.load().cameras[1].credentials.is_some());
    // Also if the main file is named without a directory.
    let here = std::env::current_dir().unwrap();
    assert_eq!(
        gridwatch_config::files::conf_dir(Path::new("edge.toml")),
        Path::new("conf.d")
    );
    assert_eq!(std::env::current_dir().unwrap(), here);
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = Folder::new();
    folder.write("conf.d/dir.toml/x", "");
    symlink("nowhere", folder.path("conf.d/gone.toml")).unwrap();
    symlink("/dev/zero", folder.path("conf.d/endless.toml")).unwrap();
    assert_eq!(
        folder.faults(),
        [
            "cannot read the file: a folder, not a regular file (conf.d/dir.toml)",
            "cannot read the file: a device, not a regular file (conf.d/endless.toml)",
            "cannot read the file: No such file or directory (os error 2) (conf.d/gone.toml)",
        ]
    );
    fs::remove_dir_all(folder.path("conf.d")).unwrap();
    folder.write("conf.d", "a file");
    assert_eq!(
        folder.faults(),
        ["cannot list the directory: Not a directory (os error 20) (conf.d)"]
    );
    fs::remove_file(folder.path("conf.d")).unwrap();
    folder.write("conf.d/new\nline.toml", "");
    assert_eq!(
        folder.faults(),
        ["holds a .toml file whose name has control characters, backslashes or is not UTF-8 (conf.d)"]
    );
}

#[test]
fn number_and_size_are_bounded() {
    let folder = Folder::new();
    for n in 0..1025 {
        folder.write(&format!("conf.d/{n}.toml"), "");
    }
    assert_eq!(folder.faults(), ["1025 .toml files; at most 1024 are allowed (conf.d)"]);
    fs::remove_dir_all(folder.path("conf.d")).unwrap();
    for n in 0..3 {
        folder.write(&format!("conf.d/{n}.toml"), &"#".repeat(6 << 20));
    }
    assert_eq!(
        folder.faults(),
        ["the files of the configuration have more than 16 MiB together (edge.toml)"]
    );
}

#[test]
fn a_missing_main_file_is_the_fault_whatever_is_in_conf_d() {
    let folder = folder_with(&[("conf.d/lane.toml", LANE)]);
    let draft = examine_with(&folder.path("other.toml"), &|_| None);
    assert_eq!(draft.faults.len(), 1);
    assert!(!draft.readable && draft.faults[0].message.contains("cannot read the file"));
}
