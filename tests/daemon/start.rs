//! What the daemon needs at its start is taken, missing or of the wrong kind: it ends at once, names it, and never panics.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use crate::daemon::{gridwatch, root};
use gridwatch_config::raw;

/// The demo's configuration with its state in `dir`, changed by `change`.
fn config(dir: &Path, change: impl FnOnce(&mut raw::File)) -> PathBuf {
    let configs = root().join("configs");
    let mut file: raw::File = toml::from_str(&fs::read_to_string(configs.join("demo.toml")).unwrap()).unwrap();
    for path in file.data_paths_mut() {
        *path = configs.join(&*path);
    }
    file.node.state_dir = dir.join("state");
    file.telemetry.listen = String::new();
    change(&mut file);
    let path = dir.join("edge.toml");
    fs::write(&path, toml::to_string(&file).unwrap()).unwrap();
    path
}

/// Exit code and standard error of `gridwatch run`.
fn run(config: &Path) -> (i32, String) {
    let output = gridwatch(&["run", "--config"]).arg(config).output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_taken_port_is_named_by_run_and_by_check() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = config(dir.path(), |file| file.telemetry.listen.clone_from(&address));
    let (code, message) = run(&path);
    assert_eq!(code, 3, "{message}");
    assert!(
        message.contains("telemetry.listen") && message.contains(&address),
        "{message}"
    );
    assert!(!message.contains("panicked"), "{message}");

    let checked = gridwatch(&["check", "--offline", "--config"])
        .arg(&path)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
    let row = printed
        .lines()
        .find(|line| line.contains("telemetry"))
        .unwrap_or_default();
    assert!(!checked.status.success() && row.contains(&address), "{printed}");
}

#[test]
fn what_is_missing_or_of_the_wrong_kind_is_named_without_a_panic() {
    type Change = fn(&mut raw::File, &Path);
    let changes: [(&str, Change); 6] = [
        ("state_dir is a file", |file, dir| {
            file.node.state_dir = dir.join("plain");
        }),
        ("state_dir below a file", |file, dir| {
            file.node.state_dir = dir.join("plain/state");
        }),
        ("the database is a folder", |file, _| {
            fs::create_dir_all(file.node.state_dir.join("gridwatch.db")).unwrap();
        }),
        ("the keys are a file", |file, _| {
            fs::create_dir_all(&file.node.state_dir).unwrap();
            fs::write(file.node.state_dir.join("keys"), "").unwrap();
        }),
        ("ONNX Runtime is a text", |file, dir| {
            file.runtime.onnxruntime = Some(dir.join("plain"));
        }),
        ("the ledger is a file", |file, dir| {
            file.ledger.dir = Some(dir.join("plain"));
        }),
    ];
    for (what, change) in changes {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plain"), "text").unwrap();
        let path = config(dir.path(), |file| change(file, dir.path()));
        let (code, message) = run(&path);
        assert!((3..=5).contains(&code), "{what}: {code}: {message}");
        assert!(!message.contains("panicked"), "{what}: {message}");
        let named = message.contains("error:") && message.contains(dir.path().to_str().unwrap());
        assert!(named, "{what}: {message}");
    }
}
