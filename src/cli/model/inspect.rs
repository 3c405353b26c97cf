//! `gridwatch model inspect`: shows the inputs, outputs and metadata of an ONNX file and the adapters that fit it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use crate::cli::{Failure, json_line, options::RuntimeArgs, print, terminal::note};
use gridwatch_base::text::printable;
use gridwatch_model::{
    Manifest, Runtime,
    adapter::TensorInfo,
    draft::{self, Draft, DraftError, DraftHints},
    manifest::Adapter,
    registry::MANIFEST,
};

/// Inspect an ONNX file: inputs, outputs, metadata, and the adapters that fit.
///
/// Takes an ONNX file, or a model folder. Runs the network once on an empty picture to resolve dynamic shapes; if the file fixes no
/// input size, the model.toml beside it, its metadata or --size give one. Writes nothing. The next step is `gridwatch model draft`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model inspect yolo11n.onnx
  gridwatch model inspect models/garbage_nano_416 --json

Exit codes: 0 inspected; 3 the ONNX file or the ONNX Runtime library is not usable.")]
pub(super) struct InspectArgs {
    /// ONNX file, or a folder with model.onnx and model.toml.
    #[arg(value_name = "FILE|DIR")]
    file: PathBuf,

    /// Input width and height, if the file does not fix them. [default: from model.toml, else from the file's metadata, else 640x640]
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(u32, u32)>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text
        .split_once(['x', 'X', '×'])
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match sides {
        Some((w @ 16..=4096, h @ 16..=4096)) => Ok((w, h)),
        _ => Err("expected WIDTHxHEIGHT, each 16 to 4096, such as 640x640".into()),
    }
}

/// The JSON output.
#[derive(Serialize)]
struct InspectReport<'a> {
    /// `id@version` of the model.toml beside the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<String>,
    sha256: &'a str,
    producer: &'a str,
    opset: u64,
    metadata: &'a std::collections::BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    inputs: Vec<PortInfo<'a>>,
    outputs: Vec<PortInfo<'a>>,
    readings: Vec<AdapterFit>,
    /// Why no adapter fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

#[derive(Serialize)]
struct PortInfo<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    element: &'a str,
    shape: &'a [i64],
}

/// An adapter that fits the outputs, and the number of classes it would read.
#[derive(Serialize)]
struct AdapterFit {
    adapter: Adapter,
    classes: usize,
}

/// Input size to try if nothing tells it: what most exporters use.
const USUAL_SIZE: (u32, u32) = (640, 640);

/// Runs the command.
pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let file = match args.file.is_dir() {
        true => args.file.join("model.onnx"),
        false => args.file.clone(),
    };
    let manifest = manifest_of(&file);
    let hints = DraftHints {
        size: args.size.or(manifest.as_ref().map(|m| (m.input.width, m.input.height))),
        labels: manifest
            .as_ref()
            .filter(|m| m.adapter.detects_objects())
            .map(|m| m.labels.clone()),
        adapter: manifest
            .as_ref()
            .filter(|m| m.adapter.detects_objects())
            .map(|m| m.adapter),
    };
    let draft = inspect(&args.runtime.load()?, &file, hints)?;
    print(&match args.json {
        true => json(&draft, manifest.as_ref())?,
        false => text(&draft, manifest.as_ref()),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(runtime: &Runtime, file: &Path, hints: DraftHints) -> Result<Draft, Failure> {
    match draft::inspect(runtime, file, &hints) {
        Err(DraftError::NoSize) => {
            let (width, height) = USUAL_SIZE;
            note(format_args!(
                "The file does not fix its input size; inspected at {width}x{height} where it is free, give another with --size."
            ));
            let size = Some(USUAL_SIZE);
            Ok(draft::inspect(runtime, file, &DraftHints { size, ..hints })?)
        }
        other => Ok(other?),
    }
}

/// The manifest of the model folder that `file` belongs to. A faulty one is reported and not used: inspecting helps to mend it.
fn manifest_of(file: &Path) -> Option<Manifest> {
    let path = file.with_file_name(MANIFEST);
    if file.file_name()? != "model.onnx" {
        return None;
    }
    let text = fs::read(&path).ok()?;
    match Manifest::parse(&path, text) {
        Ok(manifest) => Some(manifest),
        Err(faults) => {
            note(format_args!(
                "{} is faulty and not used here:\n{faults}",
                path.display()
            ));
            None
        }
    }
}

fn opset(draft: &Draft) -> u64 {
    draft.graph.opsets.get("").copied().unwrap_or_default()
}

fn json(draft: &Draft, manifest: Option<&Manifest>) -> Result<String, Failure> {
    fn ports(ports: &[TensorInfo]) -> Vec<PortInfo<'_>> {
        let infos = ports.iter().map(|p| PortInfo {
            name: &p.name,
            element: &p.element,
            shape: &p.shape,
        });
        infos.collect()
    }
    let report = InspectReport {
        package: manifest.map(package),
        sha256: &draft.sha256,
        producer: &draft.graph.producer,
        opset: opset(draft),
        metadata: &draft.graph.metadata,
        labels: draft.graph.class_names(),
        inputs: ports(&draft.inputs),
        outputs: ports(&draft.outputs),
        readings: draft
            .layouts
            .iter()
            // A shape may fit a detector by chance.
            .filter(|_| text_adapter(manifest).is_none())
            .map(|&(adapter, classes)| AdapterFit { adapter, classes })
            .collect(),
        refusal: draft.refusal.clone().filter(|_| text_adapter(manifest).is_none()),
    };
    json_line(&report)
}

fn package(manifest: &Manifest) -> String {
    format!("{}@{}", manifest.id, manifest.version)
}

/// The manifest's adapter if it reads text, of which the outputs tell nothing.
fn text_adapter(manifest: Option<&Manifest>) -> Option<Adapter> {
    manifest.map(|m| m.adapter).filter(|adapter| !adapter.detects_objects())
}

fn text(draft: &Draft, manifest: Option<&Manifest>) -> String {
    let mut text = manifest.map_or_else(String::new, |m| format!("package   {}\n", package(m)));
    text += &format!(
        "sha256    {}\nproducer  {}, opset {}\n",
        draft.sha256,
        printable(&draft.graph.producer),
        opset(draft)
    );
    for port in &draft.inputs {
        text += &format!("input     {port}\n");
    }
    for port in &draft.outputs {
        text += &format!("output    {port}\n");
    }
    for (key, value) in &draft.graph.metadata {
        let short: String = value.chars().take(100).collect();
        let more = if short.len() < value.len() { " …" } else { "" };
        text += &format!("metadata  {} = {}{more}\n", printable(key), printable(&short));
    }
    text += &match (text_adapter(manifest), &draft.refusal) {
        (Some(adapter), _) => format!("adapter   \"{adapter}\" in model.toml, which reads text\n"),
        (None, Some(refusal)) => format!("adapter   {refusal}\n"),
        (None, None) => readings(draft),
    };
    text
}

/// One line per adapter that fits.
pub(super) fn readings(draft: &Draft) -> String {
    let line = |(adapter, classes): &(Adapter, usize)| {
        let classes = match classes {
            1 => "1 class".to_owned(),
            n => format!("{n} classes"),
        };
        format!("adapter   \"{adapter}\" with {classes}\n")
    };
    draft.layouts.iter().map(line).collect()
}
