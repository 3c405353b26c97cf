//! `gridwatch model inspect`: shows the inputs, outputs and metadata of an ONNX file and the adapters that fit it.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use crate::cli::{Failure, json_line, options::RuntimeArgs, print};
use gridwatch_model::{
    adapter::TensorInfo,
    draft::{self, Draft, DraftHints},
    manifest::Adapter,
};

/// Inspect an ONNX file: inputs, outputs, metadata, and the adapters that fit.
///
/// Runs the network once on an empty picture to resolve dynamic shapes. Writes nothing. The next step is `gridwatch model draft`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model inspect yolo11n.onnx
  gridwatch model inspect models/garbage_nano_416/model.onnx --json

Exit codes: 0 inspected; 3 the ONNX file or the ONNX Runtime library is not usable.")]
pub(super) struct InspectArgs {
    /// ONNX file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Input width and height, if the file does not fix them.
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
    sha256: &'a str,
    producer: &'a str,
    opset: u64,
    metadata: &'a std::collections::BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    inputs: Vec<PortInfo<'a>>,
    outputs: Vec<PortInfo<'a>>,
    readings: Vec<AdapterFit>,
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

/// Runs the command.
pub(super) fn run(args: &InspectArgs) -> Result<ExitCode, Failure> {
    let known = DraftHints {
        size: args.size,
        ..DraftHints::default()
    };
    let draft = draft::inspect(&args.runtime.load()?, &args.file, &known)?;
    print(&match args.json {
        true => json(&draft)?,
        false => text(&draft),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn opset(draft: &Draft) -> u64 {
    draft.graph.opsets.get("").copied().unwrap_or_default()
}

fn json(draft: &Draft) -> Result<String, Failure> {
    fn ports(ports: &[TensorInfo]) -> Vec<PortInfo<'_>> {
        let infos = ports.iter().map(|p| PortInfo {
            name: &p.name,
            element: &p.element,
            shape: &p.shape,
        });
        infos.collect()
    }
    let report = InspectReport {
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
            .map(|&(adapter, classes)| AdapterFit { adapter, classes })
            .collect(),
    };
    json_line(&report)
}

fn text(draft: &Draft) -> String {
    let mut text = format!(
        "sha256    {}\nproducer  {}, opset {}\n",
        draft.sha256,
        draft.graph.producer,
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
        text += &format!("metadata  {key} = {short}{more}\n");
    }
    text += &match draft.layouts.len() {
        0 => "adapter   none fits these outputs; docs/models.md lists the supported layouts\n".to_owned(),
        _ => readings(draft),
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
