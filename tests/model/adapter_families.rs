//! Every family of networks is recognised by metadata and shapes, and decoded like an independent implementation.
//!
//! `tests/fixtures/models/families.py` generated the graphs in each exporter's exact layout and decoded them with numpy only;
//! `FAMILIES.md` in the same folder cites the source of each layout.
#![cfg(feature = "ort")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{collections::BTreeMap, fs, path::Path, sync::OnceLock};

use gridwatch_base::digest::sha256_hex;
use gridwatch_model::{
    Model, ModelError, ModelSet, Runtime,
    adapter::{LayoutError, RawDetection},
    graph::Graph,
    manifest::Adapter,
    runtime,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Entry {
    file: String,
    /// The adapter that decodes it; `None` if it must be refused.
    told: Option<Adapter>,
    /// The adapter that `auto` must recognise, if it can.
    adapter: Option<Adapter>,
    /// The adapters that fit, if `auto` cannot decide.
    choices: Vec<Adapter>,
    /// `None` if the entry only tests whether class names can be read from the file.
    labels: Option<Vec<String>>,
    labels_from_metadata: bool,
    input: Input,
    floor: f32,
    nms_iou: Option<f32>,
    /// Set for 8-bit outputs, whose scale is known only to the graph.
    quantised: Option<serde_json::Value>,
    /// `None`: any input will do.
    picture: Option<Picture>,
    detections: Option<Vec<Golden>>,
}

/// A picture placed in the top left corner of the input, with each pixel repeated `repeat` times in both directions.
#[derive(Deserialize)]
struct Picture {
    file: String,
    repeat: u32,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    width: u32,
    height: u32,
    layout: String,
    dtype: String,
    batch: serde_json::Value,
    #[serde(default)]
    pad: u8,
    #[serde(default)]
    mean: [f32; 3],
    std: Option<[f32; 3]>,
}

impl Entry {
    /// The input tensor, built as in families_real.py.
    fn tensor(&self) -> Vec<f32> {
        let Input {
            width,
            height,
            pad,
            mean,
            std,
            ..
        } = &self.input;
        let Some(picture) = &self.picture else {
            return vec![0.0; 3 * *width as usize * *height as usize];
        };
        let rgb = image::open(fixtures().join(&picture.file)).unwrap().into_rgb8();
        let std = std.unwrap_or([1.0; 3]);
        let mut tensor = Vec::new();
        for channel in 0..3 {
            for y in 0..*height {
                for x in 0..*width {
                    let pixel = rgb.get_pixel_checked(x / picture.repeat, y / picture.repeat);
                    // All real networks take BGR.
                    let value = pixel.map_or(*pad, |p| p.0[2 - channel]);
                    tensor.push((f32::from(value) - mean[channel]) / std[channel]);
                }
            }
        }
        tensor
    }
}

#[derive(Deserialize, Debug)]
struct Golden {
    class: usize,
    score: f32,
    #[serde(rename = "box")]
    corners: [f32; 4],
}

fn fixtures() -> &'static Path {
    static DIR: OnceLock<std::path::PathBuf> = OnceLock::new();
    DIR.get_or_init(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models"))
}

fn entries() -> Vec<Entry> {
    let text = fs::read_to_string(fixtures().join("families.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| runtime::init(None).unwrap_or_else(|e| panic!("{e}")))
}

/// Loads the graph from a model folder with a generated manifest.
fn load(entry: &Entry, adapter: Adapter, labels: &[String]) -> Result<ModelSet, ModelError> {
    let dir = tempfile::tempdir().unwrap();
    let bytes = fs::read(fixtures().join(&entry.file)).unwrap();
    let Input {
        name,
        width,
        height,
        dtype,
        ..
    } = &entry.input;
    let nms = entry.nms_iou.map_or(String::new(), |iou| format!("nms_iou = {iou}\n"));
    let scale = if dtype.starts_with("float") {
        "scale = 255\n"
    } else {
        ""
    };
    let manifest = format!(
        "id = \"it\"\nversion = \"1\"\nsha256 = \"{}\"\nlicence = \"CC0\"\nsource = \"families.py\"\n\
         adapter = \"{adapter}\"\nlabels = {labels:?}\nscore_floor = {}\n{nms}[input]\nname = \"{name}\"\nwidth = {width}\n\
         height = {height}\ncolour = \"rgb\"\nfit = \"stretch\"\n{scale}",
        sha256_hex(&bytes),
        entry.floor
    );
    fs::write(dir.path().join("model.toml"), manifest).unwrap();
    fs::write(dir.path().join("model.onnx"), bytes).unwrap();
    ModelSet::new(
        runtime(),
        [&Model::load(dir.path()).unwrap_or_else(|e| panic!("{}: {e}", entry.file))],
    )
}

fn iou(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |c: [f32; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let both = area([a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])]);
    both / (area(a) + area(b) - both)
}

#[test]
fn each_family_is_decoded_like_the_reference() {
    let mut read = BTreeMap::new();
    for entry in entries().iter().filter(|e| e.quantised.is_none()) {
        let (Some(told), Some(labels), Some(goldens)) = (entry.told, &entry.labels, &entry.detections) else {
            continue;
        };
        let case = format!("{} as {told}", entry.file);
        let mut models = load(entry, told, labels).unwrap_or_else(|e| panic!("{case}: {e}"));
        let Input { width, height, .. } = entry.input;
        let found = models
            .detect_tensor(0, &entry.tensor(), (width, height))
            .unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(found.len(), goldens.len(), "{case}: {found:?}");
        assert!(found.is_sorted_by(|a, b| a.score >= b.score), "{case}");
        for golden in goldens {
            let same = |f: &&RawDetection| {
                f.label == golden.class
                    && (f.score - golden.score).abs() <= 1e-3
                    && iou(f.corners, golden.corners) >= 0.99
            };
            assert!(
                found.iter().any(|f| same(&f)),
                "{case}: {golden:?} is not among {found:?}"
            );
        }
        *read.entry(told).or_insert(0) += 1;
    }
    // Every object detection adapter has a graph here.
    assert_eq!(read.len(), 19, "{read:?}");
}

#[test]
fn each_graph_is_recognised_or_its_choices_are_listed() {
    let mut ambiguous = 0;
    for entry in entries().iter().filter(|e| e.quantised.is_none() && e.told.is_some()) {
        let Some(labels) = &entry.labels else { continue };
        let result = load(entry, Adapter::Auto, labels);
        match (result, entry.adapter) {
            (Ok(models), Some(adapter)) => assert_eq!(models.adapter(0), adapter, "{}", entry.file),
            // One run resolves what the file leaves open, here the number of rows.
            (Ok(models), None) => {
                assert_eq!(entry.input.batch, "dynamic", "{}", entry.file);
                assert_eq!(Some(models.adapter(0)), entry.told, "{}", entry.file);
            }
            (Err(ModelError::Layout { source, .. }), None) => {
                let LayoutError::Ambiguous { choices, .. } = &source else {
                    panic!("{}: {source}", entry.file);
                };
                let (mut have, mut want) = (choices.clone(), entry.choices.clone());
                have.sort();
                want.sort();
                assert_eq!(have, want, "{}", entry.file);
                let text = source.to_string();
                assert!(choices.iter().all(|c| text.contains(&format!("\"{c}\""))), "{text}");
                ambiguous += 1;
            }
            (Err(e), _) => panic!("{}: {e}", entry.file),
        }
    }
    assert!(ambiguous >= 5);
}

#[test]
fn class_names_in_the_file_must_match_the_manifest() {
    let mut named = 0;
    for entry in entries().iter().filter(|e| e.labels_from_metadata && e.told.is_some()) {
        let labels = entry.labels.clone().unwrap();
        let graph = Graph::read(&fs::read(fixtures().join(&entry.file)).unwrap()).unwrap();
        assert_eq!(graph.class_names().as_ref(), Some(&labels), "{}", entry.file);
        let size = graph.image_size();
        let wanted = (entry.input.width, entry.input.height);
        assert!(size.is_none() || size == Some(wanted), "{}: {size:?}", entry.file);
        let mut swapped = labels.clone();
        swapped.swap(0, 1);
        match load(entry, Adapter::Auto, &swapped) {
            Err(ModelError::Layout {
                source: LayoutError::Names { index: 0, .. },
                ..
            }) => named += 1,
            Err(e) => panic!("{}: {e}", entry.file),
            Ok(_) => panic!("{}: swapped labels were accepted", entry.file),
        }
    }
    assert!(named >= 8);
}

#[test]
fn quantised_outputs_without_scale_are_refused() {
    let entries = entries();
    let quantised: Vec<&Entry> = entries.iter().filter(|e| e.quantised.is_some()).collect();
    assert!(quantised.len() >= 2);
    for entry in quantised {
        let error = load(entry, Adapter::Auto, entry.labels.as_ref().unwrap())
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("keep the last DequantizeLinear"),
            "{}: {error}",
            entry.file
        );
    }
}

#[test]
fn graphs_that_are_not_detectors_are_refused() {
    let entries = entries();
    let others: Vec<&Entry> = entries.iter().filter(|e| e.told.is_none()).collect();
    assert!(others.len() >= 4);
    for entry in others {
        match load(entry, Adapter::Auto, entry.labels.as_ref().unwrap()) {
            Err(ModelError::Layout {
                source: LayoutError::Unknown { .. } | LayoutError::Task { .. },
                ..
            }) => {}
            Err(e) => panic!("{}: {e}", entry.file),
            Ok(models) => panic!("{}: read as {}", entry.file, models.adapter(0)),
        }
    }
}

#[test]
fn the_fixtures_cover_layouts_types_and_batches() {
    let entries = entries();
    let count = |is: &dyn Fn(&Entry) -> bool| entries.iter().filter(|e| is(e)).count();
    assert!(count(&|e| e.input.layout == "nhwc") >= 2);
    assert!(count(&|e| e.input.dtype == "float16") >= 2);
    assert!(count(&|e| e.input.dtype == "uint8") >= 3);
    assert!(count(&|e| e.input.batch == "dynamic") >= 7);
    assert!(count(&|e| e.input.batch.as_u64().is_some_and(|n| n > 1)) >= 1);
    assert!(count(&|e| e.picture.is_some()) >= 7);
}
