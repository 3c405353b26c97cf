//! `gridwatch model draft`: a folder with a manifest for an ONNX file that has none.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    Library,
    inspect::{readings, size},
};
use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_model::{
    draft::{self, Draft, Known},
    manifest::{Adapter, Colour, Fit, Manifest},
};

/// Makes a model's folder of an ONNX file: a copy of it, a manifest with what can be told, and a card to be filled in.
///
/// What the file says (names of classes, size) is taken from it; how pictures are prepared is not in any ONNX file, so the
/// family's usual way is written down and marked as a guess. See with `detect` whether it holds, then `record` a self-test.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model draft yolo11n.onnx
  gridwatch model draft nanodet.onnx --labels coco --out models/nanodet
  gridwatch model draft mine.onnx --labels labels.txt --adapter yolox --id bags_v2

Exit codes: 0 the folder was written; 3 something has to be said (it is named), or ONNX Runtime's library is not usable.")]
pub(super) struct Args {
    /// The ONNX file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The folder to write; it must not be there yet. [default: the file's name without .onnx, here]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What cameras and cases call it. [default: the folder's name]
    #[arg(long)]
    id: Option<String>,

    /// The classes, in the network's order: a file with one a line, names with commas between, or `coco` for COCO's 80.
    /// [default: what the file says]
    #[arg(long, value_name = "FILE|NAMES|coco")]
    labels: Option<String>,

    /// How its outputs are read, where the file leaves several ways open.
    #[arg(long, value_name = "NAME", value_parser = adapter)]
    adapter: Option<Adapter>,

    /// Width and height of its input, where the file leaves them open.
    #[arg(long, value_name = "WxH", value_parser = size)]
    size: Option<(u32, u32)>,

    #[command(flatten)]
    library: Library,
}

fn adapter(text: &str) -> Result<Adapter, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

/// The names of COCO's 80 classes in their usual order (cocodataset.org, 2017).
const COCO: &str = include_str!("coco.txt");

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let wrong = |message: String| Failure::new(Class::Config, message);
    let stem = args.file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&stem));
    if out.exists() {
        return Err(wrong(format!(
            "{} is there already: name another folder with --out",
            out.display()
        )));
    }
    let known = Known {
        labels: args.labels.as_deref().map(labels).transpose()?,
        adapter: args.adapter,
        size: args.size,
    };
    let draft = draft::look(&args.library.load()?, &args.file, &known)?;
    let (adapter, classes) = match draft.readings.iter().collect::<Vec<_>>()[..] {
        [one] => *one,
        [] => {
            let labels = known
                .labels
                .as_ref()
                .map_or(String::new(), |l| format!(" with {} labels", l.len()));
            let remedy = "`gridwatch model inspect` shows them, docs/models.md lists what is read";
            return Err(wrong(format!("no adapter fits these outputs{labels}: {remedy}")));
        }
        _ => {
            let choices = readings(&draft);
            let remedy = "Say which with --adapter, and the classes with --labels.";
            return Err(wrong(format!("it can be read in several ways:\n{choices}{remedy}")));
        }
    };
    let told = known.labels.or_else(|| draft.graph.class_names());
    let is_named = told.is_some();
    let labels = told.unwrap_or_else(|| (0..classes).map(|i| format!("class {i}")).collect());
    let name = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let id = args.id.clone().unwrap_or_else(|| {
        let folder = out.file_name().unwrap_or_default().to_string_lossy().into_owned();
        folder.chars().map(name).collect()
    });
    let text = manifest(&id, adapter, &labels, is_named, &draft);
    Manifest::parse(&out.join("model.toml"), text.clone().into_bytes()).map_err(|e| wrong(e.to_string()))?;
    write(&args.file, &out, &id, &text)?;
    let dir = out.display();
    let nameless = match is_named {
        true => "",
        false => "It does not say what its classes are called: write `labels` in its model.toml first.\n",
    };
    print(&format!(
        "{dir}: {adapter} with {classes} classes at {}x{}.\n{nameless}\
         Next: see whether it finds what it should, then keep that as its self-test.\n  \
         gridwatch detect --model {dir} STREET.jpg --overlay .\n  \
         gridwatch model record {dir} STREET.jpg\n  gridwatch model check {dir}\n",
        draft.size.0, draft.size.1
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
    match fs::read_to_string(given) {
        Ok(text) => Ok(listed(&text)),
        Err(e) => {
            let remedy = "name a file with one class a line, names with commas between, or coco";
            Err(Failure::new(Class::Config, format!("--labels {given}: {e}: {remedy}")))
        }
    }
}

fn write(file: &Path, out: &Path, id: &str, text: &str) -> Result<(), Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    fs::create_dir_all(out).map_err(|e| failed(out, e))?;
    let onnx = out.join("model.onnx");
    fs::copy(file, &onnx).map_err(|e| failed(&onnx, e))?;
    let card = format!(
        "# {id}\n\n## Data\n\nWhat it was trained on, and how that was split.\n\n## Figures\n\nMeasured with `gridwatch eval`, on \
         which data.\n\n## What it cannot do\n\n## Licence\n"
    );
    for (name, text) in [("model.toml", text), ("CARD.md", &card)] {
        let path = out.join(name);
        fs::write(&path, text).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

fn manifest(id: &str, adapter: Adapter, labels: &[String], is_named: bool, draft: &Draft) -> String {
    let input = draft::usual(adapter);
    let mut text = format!(
        "# Drafted from the file. What is marked as a guess is not in it: see with `gridwatch detect` whether it holds.\n\
         id = {id:?}\nversion = \"1.0.0\"\nsha256 = \"{}\"\nlicence = \"unknown\"   # say what the weights may be used for\n\
         source = \"unknown\"    # say where they come from\nadapter = \"{adapter}\"\n",
        draft.sha256
    );
    if !is_named {
        text += "# The file does not name its classes: put their names here, in the network's order.\n";
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
        "]\n# ignore = [\"a class\"]       # classes that are not to be reported\nscore_floor = 0.1\n\n\
         # [rename]                    # what gridwatch is to call a class\n# \"trash bin\" = \"garbage_bin\"\n\n\
         [input]\nname = {:?}\nwidth = {}\nheight = {}\n",
        draft.input, draft.size.0, draft.size.1
    );
    if draft.is_free {
        text += "# shape = \"picture\"         # it takes any shape: try this, it wastes less on wide pictures\n";
    }
    let _ = write!(
        text,
        "# As networks of this family are usually fed; a guess.\ncolour = \"{colour}\"\n"
    );
    let is_u8 = draft
        .inputs
        .iter()
        .any(|i| i.name == draft.input && i.element.ends_with('8'));
    if !is_u8 {
        let three = |v: [f32; 3]| v.iter().any(|x| *x != v[0]) || v[0] != 0.0;
        if input.scale != 1.0 {
            let _ = writeln!(text, "scale = {}", input.scale);
        }
        if three(input.mean) {
            let _ = writeln!(text, "mean = {:?}\nstd = {:?}", input.mean, input.std);
        }
    }
    let _ = writeln!(text, "fit = \"{fit}\"");
    if input.pad != 0 {
        let _ = writeln!(text, "pad = {}", input.pad);
    }
    text
}
