//! What the daemon needs at its start is taken, missing or of the wrong kind: it ends at once, names it, and never panics.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, farm, gridwatch, root};
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

/// Polls until `is_so` for half a minute.
#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "timed out: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_start_that_hangs_ends_at_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), |file| file.telemetry.filter = "info".into());
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    // The daemon waits for the lock of the database, as it would for a disk that hangs.
    let database = rusqlite::Connection::open(state.join("gridwatch.db")).unwrap();
    database.execute_batch("CREATE TABLE t (a); BEGIN EXCLUSIVE").unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let mut daemon = gridwatch(&["run", "--config"]).arg(&path).stderr(log).spawn().unwrap();
        let lock = state.join("gridwatch.lock");
        wait_until("the start opens the store", || lock.exists());
        // It has got as far as the database.
        thread::sleep(Duration::from_millis(500));
        let sent = Instant::now();
        kill_process(Pid::from_child(&daemon), signal).unwrap();
        let status = daemon.wait().unwrap();
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(status.code(), Some(0), "{signal:?} {status:?}: {log}");
        assert!(sent.elapsed() < Duration::from_secs(4), "{:?}: {log}", sent.elapsed());
        assert!(log.contains("Stopped before the start was complete"), "{log}");
        fs::remove_file(lock).unwrap();
    }
}

#[test]
fn a_second_signal_ends_a_shutdown_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let farm = farm(&["street-a"]);
    let mut daemon = Daemon::start(dir.path(), &farm, &["street-a"], 1);
    daemon.until("the first look", |d| {
        (d.metric("gridwatch_looks_total", "street-a") >= 1.0).then_some(())
    });
    // The core cannot commit what it has to commit at the end.
    let database = rusqlite::Connection::open(dir.path().join("state/gridwatch.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    daemon.signal(Signal::TERM);
    daemon.until("the shutdown", |d| d.log().contains("Shutting down").then_some(()));
    let sent = Instant::now();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait_for_exit().code(), Some(128 + 15), "{}", daemon.log());
    assert!(sent.elapsed() < Duration::from_secs(4), "{:?}", sent.elapsed());
}
