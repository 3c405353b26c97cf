//! A path given by a person may lead to a FIFO, an endless device or a huge file: each command says so, at once.

use std::{
    fs::File,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command, which must end: waiting for a FIFO or reading an endless device would take for ever.
pub(crate) fn run(command: &mut Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(120);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            panic!("{command:?} hangs");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// A FIFO without a writer, a link to an endless device, and a hole of a terabyte.
pub(crate) fn hostile_files(dir: &Path) -> [PathBuf; 3] {
    let [fifo, endless, huge] = ["fifo", "endless", "huge"].map(|name| dir.join(name));
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    symlink("/dev/zero", &endless).unwrap();
    File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    [fifo, endless, huge]
}

const REASONS: [&str; 3] = [
    "a FIFO, not a regular file",
    "a device, not a regular file",
    "larger than",
];

/// Each command line gets the hostile file in place of `FILE`, and a folder to write in place of `OUT`. `huge` is false where a file may have any size.
fn refused(arguments: &[&str], huge: bool) {
    let dir = tempfile::tempdir().unwrap();
    let files = hostile_files(dir.path());
    let files = files.iter().zip(REASONS).take(if huge { 3 } else { 2 });
    for (file, reason) in files {
        let arguments: Vec<String> = arguments
            .iter()
            .map(|a| a.replace("FILE", file.to_str().unwrap()))
            .map(|a| a.replace("OUT", dir.path().join("out").to_str().unwrap()))
            .collect();
        let output = run(Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(&arguments)
            .current_dir(root())
            .env_remove("GRIDWATCH_STATE")
            .env_remove("GRIDWATCH_CONFIG"));
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success(), "{arguments:?}: {text}");
        assert!(text.contains(reason), "{arguments:?}: {text}");
        assert!(
            text.contains(file.to_str().unwrap()),
            "{arguments:?} names the file: {text}"
        );
    }
}

#[test]
fn no_command_waits_for_a_configuration_or_reads_it_without_end() {
    for command in [
        &["check", "--offline", "--config", "FILE"][..],
        &["cases", "list", "--config", "FILE"],
        &["view", "list", "--config", "FILE"],
        &["replay", "--ledger", "ledger", "--config", "FILE"],
    ] {
        refused(command, true);
    }
    #[cfg(all(feature = "gst", feature = "ort"))]
    refused(&["run", "--config", "FILE"], true);
}

#[test]
fn no_command_waits_for_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    refused(&["evidence", "verify", dir, "--key", "FILE"], true);
}

#[cfg(all(feature = "gst", feature = "ort"))]
#[test]
fn no_command_waits_for_a_picture_a_list_or_a_package() {
    const MODEL: &str = "models/garbage_nano_416";
    refused(&["detect", "--model", MODEL, "FILE"], false);
    refused(&["model", "inspect", "FILE"], true);
    refused(&["eval", "--model", MODEL, "--data", "FILE"], true);
    refused(&["evidence", "mask", "--model", MODEL, "FILE", "--out", "OUT"], true);
    refused(
        &["evidence", "mask", "--model", MODEL, "--truth", "FILE", "street.jpg"],
        true,
    );
}

#[cfg(all(feature = "gst", feature = "ort"))]
#[test]
fn a_jpeg_that_is_cut_off_is_refused_not_judged() {
    const MODEL: &str = "models/garbage_nano_416";
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(root().join("tests/fixtures/pictures/bags.jpg")).unwrap();
    let cut = dir.path().join("cut.jpg");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let (cut, folder) = (cut.to_str().unwrap(), dir.path().to_str().unwrap());
    let out = format!("{folder}/out");
    for arguments in [
        &["detect", "--model", MODEL, cut][..],
        &["eval", "--model", MODEL, "--data", folder],
        &["evidence", "mask", cut, "--out", &out],
        &["read", cut],
    ] {
        let output = run(Command::new(env!("CARGO_BIN_EXE_gridwatch"))
            .args(arguments)
            .current_dir(root()));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {error}");
        assert!(
            error.contains("cut.jpg") && error.contains("cut off"),
            "{arguments:?}: {error}"
        );
    }
}
