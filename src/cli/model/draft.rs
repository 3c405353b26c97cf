//! `gridwatch model draft`: writes a model folder with a manifest for an ONNX file.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::inspect::{readings, size};
use crate::cli::{
    Failure,
    options::{RuntimeArgs, must_be_new},
    print,
};
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_model::{
    draft::{self, Draft, DraftHints},
    manifest::{Adapter, Colour, Fit, Manifest},
};

/// Draft a model folder for an ONNX file.
///
/// Writes a copy of the file, a manifest (model.toml) and an empty model card (CARD.md). Class names and input size are taken from
/// the file. The preprocessing is not in an ONNX file, so the manifest gets the usual one of its model family, marked as a guess.
/// Check it with `gridwatch detect`, then add a self-test with `gridwatch model record`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model draft yolo11n.onnx
  gridwatch model draft nanodet.onnx --labels coco --out models/nanodet
  gridwatch model draft mine.onnx --labels labels.txt --adapter yolox --id bags_v2

Exit codes: 0 the folder was written; 3 an option is needed (the message names it), or the ONNX Runtime library
is not usable.")]
pub(super) struct DraftArgs {
    /// ONNX file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Folder to write; must not exist yet. [default: the file name without .onnx, in the current folder]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Model id, used by cameras and cases. [default: the folder's name]
    #[arg(long)]
    id: Option<String>,

    /// Class names in the network's order: a file with one per line, a comma-separated list, or `coco` for COCO's 80.
    /// [default: from the ONNX file]
    #[arg(long, value_name = "FILE|NAMES|coco")]
    labels: Option<String>,

    /// Output adapter, if several fit the file.
    #[arg(long, value_name = "NAME", value_parser = adapter)]
    adapter: Option<Adapter>,

    /// Input width and height, if the file does not fix them.
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(u32, u32)>,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

fn adapter(text: &str) -> Result<Adapter, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

/// COCO's 80 class names in their standard order (cocodataset.org, 2017).
const COCO: &str = include_str!("coco.txt");

/// Runs the command.
pub(super) fn run(args: &DraftArgs) -> Result<ExitCode, Failure> {
    let fault = |message: String| Failure::new(Class::Config, message);
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&stem));
    must_be_new(&out)?;
    let known = DraftHints {
        labels: args.labels.as_deref().map(labels).transpose()?,
        adapter: args.adapter,
        size: args.size,
    };
    let draft = draft::inspect(&args.runtime.load()?, &args.file, &known)?;
    let (adapter, classes) = match draft.layouts.iter().collect::<Vec<_>>()[..] {
        [one] => *one,
        [] => {
            let reason = draft.refusal.as_deref().unwrap_or("no adapter fits the outputs");
            return Err(fault(format!("{}: {reason}", args.file.display())));
        }
        _ => {
            let choices = readings(&draft);
            let remedy = "Choose one with --adapter, and give the classes with --labels.";
            return Err(fault(format!("several adapters fit the outputs:\n{choices}{remedy}")));
        }
    };
    let names = known.labels.or_else(|| draft.graph.class_names());
    let is_named = names.is_some();
    let labels = names.unwrap_or_else(|| (0..classes).map(|i| format!("class {i}")).collect());
    let name = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let id = args.id.clone().unwrap_or_else(|| {
        let folder = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        folder.chars().map(name).collect()
    });
    let text = manifest(&id, adapter, &labels, is_named, &draft);
    Manifest::parse(&out.join("model.toml"), text.clone().into_bytes()).map_err(|e| fault(e.to_string()))?;
    write(&args.file, &out, &id, &text)?;
    let dir = out.display();
    let nameless = match is_named {
        true => "",
        false => "The ONNX file has no class names; write them to `labels` in model.toml first.\n",
    };
    print(&format!(
        "{dir}: {adapter} with {} at {}x{}.\n{nameless}\
         Next: check its detections, then record them as its self-test.\n  \
         gridwatch detect --model {dir} STREET.jpg --overlay .\n  \
         gridwatch model record {dir} STREET.jpg\n  gridwatch model check {dir}\n",
        counted(classes, "class", "classes"),
        draft.size.0,
        draft.size.1
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn labels(given: &str) -> Result<Vec<String>, Failure> {
    let listed = |text: &str| -> Vec<String> {
        let names = text.lines().map(str::trim).filter(|n| !n.is_empty());
        names.map(str::to_owned).collect()
    };
    if given == "coco" {
        return Ok(listed(COCO));
    }
    if given.contains(',') {
        return Ok(given.split(',').map(|n| n.trim().to_owned()).collect());
    }
    match file::read_text(given.as_ref(), file::MAX_TEXT) {
        Ok(text) => Ok(listed(&text)),
        Err(e) => {
            let remedy = "give a file with one class per line, a comma-separated list, or coco";
            Err(Failure::new(Class::Config, format!("--labels {given}: {e}; {remedy}")))
        }
    }
}

fn write(file: &Path, out: &Path, id: &str, text: &str) -> Result<(), Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    fs::create_dir_all(out).map_err(|e| failed(out, e))?;
    let onnx = out.join("model.onnx");
    fs::copy(file, &onnx).map_err(|e| failed(&onnx, e))?;
    let card = format!(
        "# {id}\n\n## Data\n\nTraining data and how it was split.\n\n## Metrics\n\nFrom `gridwatch eval`, and on which data.\n\n\
         ## Limitations\n\n## Licence\n"
    );
    for (name, text) in [("model.toml", text), ("CARD.md", &card)] {
        let path = out.join(name);
        fs::write(&path, text).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

fn manifest(id: &str, adapter: Adapter, labels: &[String], is_named: bool, draft: &Draft) -> String {
    let input = draft::default_input(adapter);
    let mut text = format!(
        "# Drafted from the ONNX file. Values marked as a guess are not in the file; check them with `gridwatch detect`.\n\
         id = {id:?}\nversion = \"1.0.0\"\nsha256 = \"{}\"\nlicence = \"unknown\"   # the licence of the weights\n\
         source = \"unknown\"    # where they come from\nadapter = \"{adapter}\"\n",
        draft.sha256
    );
    if !is_named {
        text += "# The ONNX file has no class names: write them here, in the network's order.\n";
    }
    text += "labels = [\n";
    for row in labels.chunks(8) {
        let names: Vec<String> = row.iter().map(|n| format!("{n:?}")).collect();
        let _ = writeln!(text, "    {},", names.join(", "));
    }
    let colour = if input.colour == Colour::Bgr { "bgr" } else { "rgb" };
    let fit = match input.fit {
        Fit::TopLeft => "top_left",
        Fit::Centre => "centre",
        Fit::Stretch => "stretch",
    };
    let _ = write!(
        text,
        "]\n# ignore = [\"a class\"]       # classes not to report\nscore_floor = 0.1\n\n\
         # [rename]                    # names of classes in gridwatch\n# \"trash bin\" = \"garbage_bin\"\n\n\
         [input]\nname = {:?}\nwidth = {}\nheight = {}\n",
        draft.input, draft.size.0, draft.size.1
    );
    if draft.takes_any_size {
        text += "# shape = \"picture\"         # the network takes any size; this avoids padding on wide pictures\n";
    }
    let _ = write!(
        text,
        "# The usual preprocessing of this model family; a guess.\ncolour = \"{colour}\"\n"
    );
    let is_u8 = draft
        .inputs
        .iter()
        .any(|i| i.name == draft.input && i.element.ends_with('8'));
    if !is_u8 {
        let is_set = |v: [f32; 3]| v.iter().any(|x| *x != v[0]) || v[0] != 0.0;
        if input.scale != 1.0 {
            let _ = writeln!(text, "scale = {}", input.scale);
        }
        if is_set(input.mean) {
            let _ = writeln!(text, "mean = {:?}\nstd = {:?}", input.mean, input.std);
        }
    }
    let _ = writeln!(text, "fit = \"{fit}\"");
    if input.pad != 0 {
        let _ = writeln!(text, "pad = {}", input.pad);
    }
    text
}
