//! More than twenty defects of a model, each refused by the self-test with its reason. Without it, a model with wrong preprocessing or
//! a wrong adapter would not fail, but find less, or other objects, on every street.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use gridwatch_base::digest::sha256_hex;
use gridwatch_model::{
    Model, Runtime, runtime,
    selftest::{self, SelfTestReport, StepResult},
};

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| runtime::init(None).unwrap_or_else(|e| panic!("{e}")))
}

/// A copy of a shipped model to introduce a defect into.
struct Package {
    dir: tempfile::TempDir,
}

impl Package {
    fn new() -> Self {
        let package = Self::of("yolox_nano_416_coco");
        let manifest = root().join("tests/fixtures/models/square/model.toml");
        fs::copy(manifest, package.path("model.toml")).unwrap();
        package
    }

    fn of(model: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&root().join("models").join(model), dir.path());
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces text in the manifest.
    fn manifest(self, from: &str, to: &str) -> Self {
        let path = self.path("model.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replace(from, to)).unwrap();
        self
    }

    /// Changes the weights and updates the checksum, as when a wrong file is packaged.
    fn weights(self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Self {
        let path = self.path("model.onnx");
        let before = fs::read(&path).unwrap();
        let sum = sha256_hex(&before);
        let after = change(before);
        fs::write(path, &after).unwrap();
        self.manifest(&sum, &sha256_hex(&after))
    }

    /// Reason for the refusal; `None` if the model is accepted.
    fn refusal(&self) -> Option<String> {
        match Model::load(self.dir.path()) {
            Ok(model) => selftest::check(runtime(), &model).refusal().map(str::to_owned),
            Err(e) => Some(e.to_string()),
        }
    }

    fn refused(&self, case: &str, reasons: &[&str]) {
        let refusal = self.refusal().unwrap_or_else(|| panic!("{case} was accepted"));
        for reason in reasons {
            assert!(refusal.contains(reason), "{case}: {reason:?} is not in {refusal}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn check(dir: &Path) -> SelfTestReport {
    selftest::check(runtime(), &Model::load(dir).unwrap_or_else(|e| panic!("{e}")))
}

#[test]
fn an_intact_model_passes_every_step() {
    let report = check(Package::new().dir.path());
    assert_eq!(report.refusal(), None);
    assert_eq!(report.findings.len(), 5, "{report:?}");
    assert!(
        report.findings.iter().all(|f| f.result == StepResult::Passed),
        "{report:?}"
    );
    assert!(report.ms.is_some_and(|ms| ms > 0.0));
}

#[test]
fn without_test_pictures_the_model_is_accepted_as_unproven() {
    let package = Package::new();
    let text = fs::read_to_string(package.path("model.toml")).unwrap();
    let (head, _) = text.split_once("[[self_test]]").unwrap();
    fs::write(package.path("model.toml"), head).unwrap();
    let report = check(package.dir.path());
    assert!(report.is_good());
    assert!(
        report.findings.iter().any(|f| f.result == StepResult::Unproven),
        "{report:?}"
    );
}

#[test]
fn wrong_preprocessing_is_refused_with_its_cause() {
    let refused = |case: &str, from: &str, to: &str, cause: &str| {
        let cause = format!("Everything matches {cause}");
        Package::new().manifest(from, to).refused(case, &["selftest/", &cause]);
    };
    refused(
        "colour order",
        "colour = \"bgr\"",
        "colour = \"rgb\"",
        "with the other channel order",
    );
    refused(
        "scale",
        "pad = 114",
        "pad = 114\nscale = 255",
        "with unscaled samples, 0..=255",
    );
    refused(
        "ImageNet's normalisation",
        "pad = 114",
        "pad = 114\nmean = [103.53, 116.28, 123.675]\nstd = [57.375, 57.12, 58.395]",
        "with unscaled samples, 0..=255",
    );
    refused(
        "stretched",
        "fit = \"top_left\"",
        "fit = \"stretch\"",
        "with fit = \"top_left\"",
    );
    refused(
        "centred",
        "fit = \"top_left\"",
        "fit = \"centre\"",
        "with fit = \"top_left\"",
    );
}

#[test]
fn a_wrong_adapter_is_refused_with_the_right_one() {
    Package::new()
        .manifest("adapter = \"yolox\"", "adapter = \"yolox_decoded\"")
        .refused(
            "decoded twice",
            &["is not found", "Everything matches with adapter = \"yolox\""],
        );
    Package::new()
        .manifest("adapter = \"yolox\"", "adapter = \"auto\"")
        .refused("ambiguous", &["fits 2 adapters", "\"yolox\" or \"yolox_decoded\""]);
    Package::new()
        .manifest("adapter = \"yolox\"", "adapter = \"yolov8\"")
        .refused(
            "another family",
            &["adapter yolov8 does not fit", "[1, 84, 3549]", "which fits \"yolox\""],
        );
}

#[test]
fn wrong_labels_are_refused() {
    Package::new()
        .manifest("\"person\", \"bicycle\", \"car\",", "\"car\", \"bicycle\", \"person\",")
        .refused("two swapped", &["is reported as person; check the order of `labels`"]);
    Package::new()
        .manifest("\"person\", \"bicycle\",", "\"toothbrush\", \"person\", \"bicycle\",")
        .manifest("\"hair drier\", \"toothbrush\"", "\"hair drier\"")
        .refused("all shifted by one", &["check the order of `labels`"]);
    Package::new()
        .manifest("\"hair drier\", \"toothbrush\"", "\"hair drier\"")
        .refused("one too few", &["[1, 3549, 84] is needed", "[1, 3549, 85]"]);
    Package::new()
        .manifest("\"toothbrush\"", "\"toothbrush\", \"stall\"")
        .refused("one too many", &["[1, 3549, 86] is needed"]);
}

#[test]
fn inputs_that_differ_from_the_graph_are_refused() {
    // The graph of this model has a fixed input shape.
    let fixed = || Package::of("picodet_s_416_coco");
    fixed().manifest("width = 416", "width = 640").refused(
        "size",
        &["[1, 3, 416, 416]", "model.toml describes image [1, 3, 416, 640]"],
    );
    Package::new()
        .manifest("name = \"images\"", "name = \"image\"")
        .refused("name", &["the graph takes images f32", "an image input named image"]);
    fixed()
        .manifest("width = 416", "width = 416\nlayout = \"nhwc\"")
        .refused("axes", &["[1, 416, 416, 3]"]);
    fixed()
        .manifest("fit = \"stretch\"", "fit = \"top_left\"\nshape = \"picture\"")
        .refused("shape", &["[1, 3, any, any]"]);
}

#[test]
fn damaged_and_missing_files_are_refused() {
    Package::new()
        .weights(|bytes| bytes[..bytes.len() / 2].to_vec())
        .refused("truncated", &["model.onnx", "not an ONNX file, or damaged"]);
    Package::new()
        .weights(|_| b"<!doctype html>not found".to_vec())
        .refused("a web page", &["not an ONNX file"]);
    let package = Package::new();
    fs::write(package.path("model.onnx"), fs::read(package.path("CARD.md")).unwrap()).unwrap();
    package.refused(
        "another file under the old checksum",
        &["SHA-256 is", "model.toml says"],
    );
    let package = Package::new();
    fs::remove_file(package.path("selftest/cars.jpg")).unwrap();
    package.refused("a missing picture", &["selftest/cars.jpg", "[[self_test]]"]);
    let package = Package::new();
    fs::write(package.path("selftest/cars.jpg"), "not a picture").unwrap();
    package.refused("a picture that cannot be decoded", &["selftest/cars.jpg"]);
}

#[test]
fn modified_graphs_are_refused() {
    Package::new()
        .weights(|bytes| onnx::with_opset(&bytes, 99))
        .refused("a newer operator set", &["ONNX Runtime cannot load the file", "99"]);
    Package::new()
        .weights(|bytes| onnx::with_nan(&bytes))
        .refused("a NaN weight", &["not finite"]);
    Package::new()
        .weights(|bytes| onnx::without_last_sigmoids(&bytes))
        .refused("the sigmoid missing", &["is outside 0..=1: the sigmoid is missing"]);
    Package::new()
        .weights(|bytes| onnx::with_weak_weights(&bytes))
        .refused("other weights under a new checksum", &["is not found"]);
}

#[test]
fn boxes_that_cannot_run_the_model_refuse_it() {
    Package::new()
        .manifest("[input]", "[runtime]\nproviders = [\"cuda\"]\n\n[input]")
        .refused("a missing GPU", &["cuda is not available", "add \"cpu\" as the last"]);
    Package::new()
        .manifest("[input]", "[runtime]\nbudget_ms = 1\n\n[input]")
        .refused(
            "too slow",
            &["ms on this box, but runtime.budget_ms in model.toml allows 1"],
        );
    // With the CPU as a fallback the model is accepted.
    let package = Package::new().manifest("[input]", "[runtime]\nproviders = [\"cuda\", \"cpu\"]\n\n[input]");
    assert_eq!(package.refusal(), None);
}

/// Minimal protocol buffer editing for ONNX graphs (`onnx.proto3`): a message is a list of fields, and nested messages are parsed on
/// demand.
mod onnx {
    /// Field numbers.
    const GRAPH: u64 = 7;
    const OPSET: u64 = 8;
    const NODE: u64 = 1;
    const INITIALIZER: u64 = 5;

    type Field = (u64, Value);

    #[derive(Clone, PartialEq)]
    enum Value {
        Number(u64),
        Fixed(Vec<u8>),
        Bytes(Vec<u8>),
    }

    fn varint(bytes: &[u8], at: &mut usize) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn parse(bytes: &[u8]) -> Vec<Field> {
        let (mut at, mut fields) = (0, Vec::new());
        while at < bytes.len() {
            let tag = varint(bytes, &mut at);
            let value = match tag & 7 {
                0 => Value::Number(varint(bytes, &mut at)),
                5 => {
                    at += 4;
                    Value::Fixed(bytes[at - 4..at].to_vec())
                }
                2 => {
                    let length = varint(bytes, &mut at) as usize;
                    at += length;
                    Value::Bytes(bytes[at - length..at].to_vec())
                }
                other => panic!("wire type {other}"),
            };
            fields.push((tag >> 3, value));
        }
        fields
    }

    fn put(out: &mut Vec<u8>, mut value: u64) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn write(fields: &[Field]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, value) in fields {
            match value {
                Value::Number(n) => {
                    put(&mut out, number << 3);
                    put(&mut out, *n);
                }
                Value::Fixed(bytes) => {
                    put(&mut out, number << 3 | 5);
                    out.extend(bytes);
                }
                Value::Bytes(bytes) => {
                    put(&mut out, number << 3 | 2);
                    put(&mut out, bytes.len() as u64);
                    out.extend(bytes);
                }
            }
        }
        out
    }

    fn texts(node: &[Field], number: u64) -> Vec<Vec<u8>> {
        let of = |(n, v): &Field| match v {
            Value::Bytes(bytes) if *n == number => Some(bytes.clone()),
            _ => None,
        };
        node.iter().filter_map(of).collect()
    }

    /// Changes every nested message with field number `number`.
    fn each(bytes: &[u8], number: u64, mut change: impl FnMut(&mut Vec<Field>)) -> Vec<u8> {
        let mut fields = parse(bytes);
        for (n, value) in &mut fields {
            if let (true, Value::Bytes(inner)) = (*n == number, value) {
                let mut message = parse(inner);
                change(&mut message);
                *inner = write(&message);
            }
        }
        write(&fields)
    }

    fn each_in_graph(model: &[u8], number: u64, mut change: impl FnMut(&mut Vec<Field>)) -> Vec<u8> {
        let mut fields = parse(model);
        for (n, value) in &mut fields {
            if let (true, Value::Bytes(graph)) = (*n == GRAPH, value) {
                *graph = each(graph, number, &mut change);
            }
        }
        write(&fields)
    }

    pub(super) fn with_opset(model: &[u8], version: u64) -> Vec<u8> {
        each(model, OPSET, |opset| {
            let version_of = opset.iter_mut().filter(|(n, _)| *n == 2);
            version_of.for_each(|(_, v)| *v = Value::Number(version));
        })
    }

    /// Changes the raw data (field 9) of every initializer.
    fn with_weights(model: &[u8], mut change: impl FnMut(&mut Vec<u8>)) -> Vec<u8> {
        each_in_graph(model, INITIALIZER, |tensor| {
            for (n, value) in tensor.iter_mut() {
                if let (9, Value::Bytes(raw)) = (*n, value) {
                    change(raw);
                }
            }
        })
    }

    pub(super) fn with_nan(model: &[u8]) -> Vec<u8> {
        let mut left = 1;
        with_weights(model, |raw| {
            if left > 0 && raw.len() > 4096 {
                raw[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                left -= 1;
            }
        })
    }

    /// Halves the values of every large tensor, like a faulty quantisation.
    pub(super) fn with_weak_weights(model: &[u8]) -> Vec<u8> {
        with_weights(model, |raw| {
            if raw.len() > 4096 {
                for weight in raw.as_chunks_mut::<4>().0 {
                    *weight = (f32::from_le_bytes(*weight) / 2.0).to_le_bytes();
                }
            }
        })
    }

    /// Removes the sigmoids whose results are only concatenated: those of scores, not those of activations.
    pub(super) fn without_last_sigmoids(model: &[u8]) -> Vec<u8> {
        let mut joined = Vec::new();
        each_in_graph(model, NODE, |node| {
            if texts(node, 4) == [b"Concat".to_vec()] {
                joined.extend(texts(node, 1));
            }
        });
        let mut changed = 0;
        let model = each_in_graph(model, NODE, |node| {
            if texts(node, 4) == [b"Sigmoid".to_vec()] && texts(node, 2).iter().all(|name| joined.contains(name)) {
                changed += 1;
                for (n, value) in node.iter_mut() {
                    if *n == 4 {
                        *value = Value::Bytes(b"Identity".to_vec());
                    }
                }
            }
        });
        assert_eq!(changed, 6, "objectness and classes of three strides");
        model
    }
}
