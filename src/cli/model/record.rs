//! `gridwatch model record`: adds pictures with their current detections to a model's self-test.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::cli::{
    Failure,
    options::{RuntimeArgs, fraction},
    pictures, print,
};
use gridwatch_base::{error::Class, file, text::counted};
use gridwatch_engine::Detection;
use gridwatch_model::{Manifest, Model, ModelSet};

/// Add pictures to a model's self-test.
///
/// Copies each picture into the model folder and records the model's current detections as the expected ones. Check these first
/// with `gridwatch detect --overlay`: a wrong detection would become the expected one. Two or three pictures with several kinds of
/// objects, large and small, left and right, prove more than twenty similar ones. The pictures are shipped with the model, so
/// use ones that may be published, without faces or plates.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model record models/mine street.jpg night.jpg
  gridwatch model record models/mine --above 0.5 street.jpg

Exit codes: 0 added; 3 the model is not usable; 5 a picture cannot be read, or nothing is detected in it.")]
pub(super) struct ModelRecordArgs {
    /// Model folder.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Pictures to add.
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,

    /// Record detections with at least this score, 0 to 1; the self-test ignores lower ones.
    #[arg(long, value_name = "S", default_value_t = 0.3, value_parser = fraction::<f32>)]
    above: f32,

    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// Runs the command.
pub(super) fn run(args: &ModelRecordArgs) -> Result<ExitCode, Failure> {
    let runtime = args.runtime.load()?;
    let model = Model::load(&args.dir)?;
    let mut models = ModelSet::new(&runtime, [&model])?;
    let toml = args.dir.join("model.toml");
    let failed = |path: &Path, e: std::io::Error| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    let mut text = file::read_text(&toml, file::MAX_TEXT).map_err(|e| failed(&toml, e))?;
    let mut copies = Vec::new();
    let mut report = String::new();
    for path in &args.pictures {
        let data = |message: String| Failure::new(Class::Data, format!("{}: {message}", path.display()));
        let frame = pictures::picture(path).map_err(|e| e.in_file(path))?;
        let mut found = models.input(&frame).detect(0)?;
        found.retain(|d| d.score >= args.above);
        if found.is_empty() {
            return Err(data(format!(
                "no detection scores {} or more; use another picture or a lower --above",
                args.above
            )));
        }
        let name = path.file_name().unwrap_or_default();
        let relative = Path::new("selftest").join(name);
        if copies.iter().any(|(_, to)| *to == relative) || args.dir.join(&relative).exists() {
            return Err(data(format!("{} already exists", args.dir.join(&relative).display())));
        }
        text += &self_test(&relative, args.above, &found);
        let _ = writeln!(
            report,
            "{}: {}",
            path.display(),
            counted(found.len(), "detection", "detections")
        );
        for d in &found {
            let _ = writeln!(report, "  {} {:.2}", d.label, d.score);
        }
        copies.push((path, relative));
    }
    // The new manifest must be valid before it replaces the old one.
    Manifest::parse(&toml, text.clone().into_bytes())?;
    let pictures = args.dir.join("selftest");
    fs::create_dir_all(&pictures).map_err(|e| failed(&pictures, e))?;
    for (from, to) in copies {
        let to = args.dir.join(to);
        fs::copy(from, &to).map_err(|e| failed(&to, e))?;
    }
    let new = toml.with_extension("toml.new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, &toml))
        .map_err(|e| failed(&toml, e))?;
    print(&report)?;
    Ok(ExitCode::SUCCESS)
}

/// A `[[self_test]]` table.
fn self_test(picture: &Path, above: f32, found: &[Detection]) -> String {
    let mut text = format!(
        "\n[[self_test]]\npicture = {:?}\nabove = {above}\nexpect = [\n",
        picture.display().to_string()
    );
    for d in found {
        let b = d.bbox;
        let _ = writeln!(
            text,
            "    {{ label = {:?}, score = {:.3}, box = [{:.4}, {:.4}, {:.4}, {:.4}] }},",
            d.label.as_str(),
            d.score,
            b.x1,
            b.y1,
            b.x2,
            b.y2
        );
    }
    text + "]\n"
}
