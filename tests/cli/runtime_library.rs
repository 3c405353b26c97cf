//! Which ONNX Runtime library the commands load: never one that somebody left in the working directory, and in a default place only the
//! pinned one.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Output},
};

/// The program in a folder of its own, run with `here` as working directory.
fn inspect(program: &Path, here: &Path) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(program)
        .args(["detect", "--model"])
        .arg(root.join("models/garbage_nano_416"))
        .arg(root.join("tests/fixtures/pictures/bags.jpg"))
        .current_dir(here)
        .env_remove("CARGO_MANIFEST_DIR")
        .env_remove("GRIDWATCH_ONNXRUNTIME")
        .output()
        .unwrap()
}

#[test]
fn a_library_in_the_working_directory_is_not_loaded() {
    let (installed, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = installed.path().join("gridwatch");
    fs::copy(env!("CARGO_BIN_EXE_gridwatch"), &program).unwrap();
    let planted = here.path().join(".cache/onnxruntime/1.31.1");
    fs::create_dir_all(&planted).unwrap();
    fs::write(planted.join("libonnxruntime.so.1.31.1"), "code of a stranger").unwrap();
    let output = inspect(&program, here.path());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains(here.path().to_str().unwrap()), "{error}");
    // A box with an installed library goes on with that one.
    assert!(
        output.status.success() || error.contains("ONNX Runtime's shared library was not found"),
        "{error}"
    );
}

#[test]
fn another_library_in_a_default_place_is_refused_by_its_content() {
    let installed = tempfile::tempdir().unwrap();
    let program = installed.path().join("gridwatch");
    fs::copy(env!("CARGO_BIN_EXE_gridwatch"), &program).unwrap();
    let replaced = installed.path().join("libonnxruntime.so.1.31.1");
    fs::write(&replaced, "code of a stranger").unwrap();
    let output = inspect(&program, installed.path());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    let expected = format!(
        "{}: not the ONNX Runtime 1.31.1 that edge-deploy/setup.sh installs",
        replaced.display()
    );
    assert!(
        error.contains(&expected) && error.contains("runtime.onnxruntime"),
        "{error}"
    );
}
