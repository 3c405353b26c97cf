//! A missing, foreign or outdated ONNX Runtime library is an error with a remedy, never a panic or a hang. A library that loads
//! stays loaded for the process, so nothing here may load a working one.
#![cfg(feature = "ort")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_base::error::Class;
use gridwatch_model::runtime::{self, LibraryError};

/// Compiles a shared library from C with the compiler that built SQLite.
fn library(dir: &Path, name: &str, source: &str) -> PathBuf {
    let c = dir.join(format!("{name}.c"));
    let library = dir.join(format!("lib{name}.so"));
    fs::write(&c, source).unwrap();
    let compiler = std::env::var_os("CC").unwrap_or("cc".into());
    let status = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&c)
        .status()
        .unwrap();
    assert!(status.success());
    library
}

/// The first two members of OrtApiBase (onnxruntime_c_api.h).
fn base(version: &str, api: &str) -> String {
    format!(
        "#include <stdint.h>\n\
         static const void* get_api(uint32_t version) {{ (void)version; {api} }}\n\
         static const char* version(void) {{ return \"{version}\"; }}\n\
         static const struct {{ const void* (*a)(uint32_t); const char* (*b)(void); }} base = {{ get_api, version }};\n\
         const void* OrtGetApiBase(void) {{ return &base; }}\n"
    )
}

#[test]
fn a_missing_file_is_reported_with_its_path_and_the_remedy() {
    let error = runtime::init(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err();
    assert!(
        matches!(&error, LibraryError::Missing { searched } if searched == &[PathBuf::from("/nowhere/libonnxruntime.so")])
    );
    assert_eq!(error.class(), Class::Config);
    let text = error.to_string();
    for part in [
        "/nowhere/libonnxruntime.so",
        "edge-deploy/setup.sh",
        "runtime.onnxruntime",
        "GRIDWATCH_ONNXRUNTIME",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_text_file_is_not_a_library() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libonnxruntime.so");
    fs::write(&path, "not a library\n").unwrap();
    let error = runtime::init(Some(&path)).unwrap_err();
    let LibraryError::NotALibrary { path: named, message } = &error else {
        panic!("{error}")
    };
    assert_eq!(named, &path);
    assert!(
        message.contains("invalid ELF header") || message.contains("file too short"),
        "{message}"
    );
}

#[test]
fn a_foreign_library_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = library(dir.path(), "other", "int answer(void) { return 42; }\n");
    let error = runtime::init(Some(&path)).unwrap_err();
    assert!(
        matches!(&error, LibraryError::NotALibrary { message, .. } if message.contains("OrtGetApiBase")),
        "{error}"
    );
}

#[test]
fn an_outdated_library_is_refused_with_its_version() {
    let dir = tempfile::tempdir().unwrap();
    let path = library(dir.path(), "old", &base("1.19.2", "return 0;"));
    let error = runtime::init(Some(&path)).unwrap_err();
    assert!(
        matches!(&error, LibraryError::TooOld { found, .. } if found == "1.19.2"),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("1.19.2 is too old, 1.20 or newer is needed") && text.contains("setup.sh"),
        "{text}"
    );
}

/// ort asserts on such a library; the daemon must still report an error, and may try another file.
#[test]
fn a_library_without_an_interface_is_an_error_and_not_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = library(dir.path(), "nothing", "const void* OrtGetApiBase(void) { return 0; }\n");
    for _ in 0..2 {
        let error = runtime::init(Some(&nothing)).unwrap_err();
        assert!(matches!(&error, LibraryError::NotALibrary { .. }), "{error}");
    }
    // ort keeps this one, so this process can load no other; every attempt must still return an error.
    let empty = library(dir.path(), "empty", &base("1.99.0", "return 0;"));
    for _ in 0..2 {
        let error = runtime::init(Some(&empty)).unwrap_err();
        assert!(matches!(&error, LibraryError::NotALibrary { .. }), "{error}");
    }
}
