//! `gridwatch model inspect`: what an ONNX file is.

use std::{path::PathBuf, process::ExitCode};

use serde::Serialize;

use super::Library;
use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_model::{
    adapter::Port,
    draft::{self, Draft, Known},
    manifest::Adapter,
};

/// Shows what an ONNX file takes and gives, what its exporter wrote into it, and how gridwatch could read it.
///
/// It is run once, on an empty picture, so that shapes that the file leaves open are known. Nothing is written.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model inspect yolo11n.onnx
  gridwatch model inspect models/garbage_nano_416/model.onnx --json

Exit codes: 0 it was looked at; 3 it is no usable ONNX file, or ONNX Runtime's library is not usable.")]
pub(super) struct Args {
    /// The ONNX file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Width and height of its input, where the file leaves them open.
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(u32, u32)>,

    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    library: Library,
}

pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text
        .split_once(['x', 'X', '×'])
        .and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    match sides {
        Some((w @ 16..=4096, h @ 16..=4096)) => Ok((w, h)),
        _ => Err("write width and height, 16 to 4096, as 640x640".into()),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    sha256: &'a str,
    producer: &'a str,
    opset: u64,
    metadata: &'a std::collections::BTreeMap<String, String>,
    labels: Option<Vec<String>>,
    inputs: Vec<ShownPort<'a>>,
    outputs: Vec<ShownPort<'a>>,
    readings: Vec<ShownReading>,
}

#[derive(Serialize)]
struct ShownPort<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    element: &'a str,
    shape: &'a [i64],
}

#[derive(Serialize)]
struct ShownReading {
    adapter: Adapter,
    classes: usize,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let known = Known {
        size: args.size,
        ..Known::default()
    };
    let draft = draft::look(&args.library.load()?, &args.file, &known)?;
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
    fn ports(ports: &[Port]) -> Vec<ShownPort<'_>> {
        let shown = ports.iter().map(|p| ShownPort {
            name: &p.name,
            element: &p.element,
            shape: &p.shape,
        });
        shown.collect()
    }
    let shown = Shown {
        sha256: &draft.sha256,
        producer: &draft.graph.producer,
        opset: opset(draft),
        metadata: &draft.graph.metadata,
        labels: draft.graph.class_names(),
        inputs: ports(&draft.inputs),
        outputs: ports(&draft.outputs),
        readings: draft
            .readings
            .iter()
            .map(|&(adapter, classes)| ShownReading { adapter, classes })
            .collect(),
    };
    serde_json::to_string(&shown)
        .map(|s| s + "\n")
        .map_err(|e| Failure::new(Class::Bug, e.to_string()))
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
    text += &match draft.readings.len() {
        0 => "reading   no adapter of gridwatch fits these outputs; docs/models.md lists what is read\n".to_owned(),
        _ => readings(draft),
    };
    text
}

/// One line for each way to read it.
pub(super) fn readings(draft: &Draft) -> String {
    let line = |(adapter, classes): &(Adapter, usize)| {
        let classes = match classes {
            1 => "1 class".to_owned(),
            n => format!("{n} classes"),
        };
        format!("reading   adapter = \"{adapter}\" with {classes}\n")
    };
    draft.readings.iter().map(line).collect()
}
