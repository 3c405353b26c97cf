//! `gridwatch take-over` leaves a request that the daemon finds in its state directory.

use std::process::{Command, Output};

use gridwatch_base::installation::Installation;

fn take_over(state: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gridwatch"))
        .args(["take-over", "--state", state])
        .env_remove("GRIDWATCH_STATE")
        .output()
        .unwrap()
}

#[test]
fn the_daemon_finds_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let installation = Installation::of(dir.path()).unwrap();
    assert!(!installation.has_take_over_request());
    let output = take_over(dir.path().to_str().unwrap());
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(installation.has_take_over_request());
}

#[test]
fn a_folder_of_something_else_gets_no_request() {
    let dir = tempfile::tempdir().unwrap();
    // Somebody else's file of that name.
    for (name, text) in [("notes.txt", "mine"), ("installation", "how to install it")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let output = take_over(dir.path().to_str().unwrap());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(
        message.contains("not the state directory") && message.contains("--state"),
        "{message}"
    );
    assert!(!dir.path().join("take-over").exists());
}

#[test]
fn a_missing_state_directory_is_not_created() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("elsewhere");
    let output = take_over(missing.to_str().unwrap());
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--state"));
    assert!(!missing.exists());
}
