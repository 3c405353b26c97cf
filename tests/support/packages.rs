//! Model packages for the tests: the demo's garbage model under other versions, intact and broken.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses what it needs, and one that cannot be set up must fail"
)]

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use gridwatch_base::digest::sha256_hex;

/// The id of the demo's garbage model.
pub const MODEL: &str = "garbage_nano_416";

/// Copies that model's folder to `to`, replacing what is there, and sets its version.
pub fn package(to: &Path, version: &str) -> PathBuf {
    let _ = fs::remove_dir_all(to);
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(MODEL), to);
    set_version(to, version);
    to.to_path_buf()
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Sets the version in a package's manifest.
pub fn set_version(dir: &Path, version: &str) {
    edit(dir, "version", &format!("version = {version:?}"));
}

/// Removes the self-test, the last section, from a package's manifest.
pub fn without_self_test(dir: &Path) {
    let toml = dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let (before, _) = text.split_once("[[self_test]]").expect("the manifest has a self-test");
    fs::write(&toml, before).unwrap();
}

/// Zeroes every weight of the network, as in a file that was saved before training or cut and padded: it runs, and every cell of its
/// grids reports the first class at the same score (0.25 for YOLOX, the product of two sigmoids).
pub fn zero_weights(dir: &Path) {
    let file = dir.join("model.onnx");
    let mut bytes = fs::read(&file).unwrap();
    let (mut spans, end) = (Vec::new(), bytes.len());
    // ModelProto.graph, GraphProto.initializer, and in it TensorProto's data_type and raw_data (onnx.proto3).
    for (_, graph) in fields(&bytes, 0..end).into_iter().filter(|(n, _)| *n == 7) {
        for (_, tensor) in fields(&bytes, graph).into_iter().filter(|(n, _)| *n == 5) {
            let fields = fields(&bytes, tensor);
            let is_float = fields.iter().any(|(n, value)| *n == 2 && bytes[value.clone()] == [1]);
            let data = fields.into_iter().filter(|(n, _)| is_float && matches!(n, 4 | 9));
            spans.extend(data.map(|(_, span)| span));
        }
    }
    assert!(!spans.is_empty(), "the weights are not where they are expected");
    for span in spans {
        bytes[span].fill(0);
    }
    fs::write(&file, &bytes).unwrap();
    edit(dir, "sha256", &format!("sha256 = {:?}", sha256_hex(&bytes)));
}

/// The fields of a protocol buffer message in `bytes[span]`: their numbers, and the places of their values.
fn fields(bytes: &[u8], span: Range<usize>) -> Vec<(usize, Range<usize>)> {
    let varint = |at: &mut usize| {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[*at];
            *at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    };
    let (mut found, mut at) = (Vec::new(), span.start);
    while at < span.end {
        let tag = varint(&mut at);
        let start = at;
        match tag & 7 {
            0 => drop(varint(&mut at)),
            1 => at += 8,
            2 => {
                let length = varint(&mut at);
                found.push((tag >> 3, at..at + length));
                at += length;
                continue;
            }
            5 => at += 4,
            other => panic!("wire type {other} in an ONNX file"),
        }
        found.push((tag >> 3, start..at));
    }
    found
}

/// Replaces the manifest's line that sets `key`; panics unless there is exactly one.
pub fn edit(dir: &Path, key: &str, line: &str) {
    let toml = dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    let mut found = 0;
    let lines: Vec<&str> = text
        .lines()
        .map(|l| {
            let is_match = l.split('=').next().is_some_and(|k| k.trim() == key);
            found += usize::from(is_match);
            if is_match { line } else { l }
        })
        .collect();
    assert_eq!(found, 1, "{key}");
    fs::write(&toml, lines.join("\n") + "\n").unwrap();
}
