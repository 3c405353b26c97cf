//! `gridwatch model record`: pictures with what is found in them, as a model's self-test.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::Library;
use crate::cli::{Failure, detect, print};
use gridwatch_base::error::Class;
use gridwatch_engine::Detection;
use gridwatch_model::{Manifest, Model, ModelSet};

/// Adds pictures to a model's self-test: each is copied into its folder, and what the model finds in it now is what it must
/// find from now on.
///
/// Look at what it finds first (`gridwatch detect --overlay`): a wrong reading recorded is a wrong reading kept. Two or three
/// pictures with several kinds of things, large and small, left and right, prove more than twenty alike. They travel with the
/// model: take some that may, without faces or plates.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gridwatch model record models/mine street.jpg night.jpg
  gridwatch model record models/mine --above 0.5 street.jpg

Exit codes: 0 they were added; 3 the model is not usable; 5 a picture cannot be read, or shows nothing.")]
pub(super) struct Args {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// Pictures to add.
    #[arg(required = true, value_name = "PICTURE")]
    pictures: Vec<PathBuf>,

    /// Keep what scores at least this, 0 to 1: what scores less is not compared later.
    #[arg(long, value_name = "S", default_value_t = 0.3, value_parser = detect::score)]
    above: f32,

    #[command(flatten)]
    library: Library,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let runtime = args.library.load()?;
    let model = Model::load(&args.dir)?;
    let mut panel = ModelSet::new(&runtime, [&model])?;
    let toml = args.dir.join("model.toml");
    let failed = |path: &Path, e: std::io::Error| Failure::new(Class::Config, format!("{}: {e}", path.display()));
    let mut text = fs::read_to_string(&toml).map_err(|e| failed(&toml, e))?;
    let mut copies = Vec::new();
    let mut told = String::new();
    for path in &args.pictures {
        let data = |message: String| Failure::new(Class::Data, format!("{}: {message}", path.display()));
        let frame = detect::picture(path).map_err(|e| data(e.to_string()))?;
        let mut found = panel.shown(&frame).detect(0)?;
        found.retain(|d| d.score >= args.above);
        if found.is_empty() {
            return Err(data(format!(
                "nothing scores {} or more: it would prove nothing",
                args.above
            )));
        }
        let name = path.file_name().unwrap_or_default();
        let within = Path::new("selftest").join(name);
        if copies.iter().any(|(_, to)| *to == within) || args.dir.join(&within).exists() {
            return Err(data(format!("{} is there already", args.dir.join(&within).display())));
        }
        text += &test(&within, args.above, &found);
        let _ = writeln!(told, "{}: {} things", path.display(), found.len());
        for d in &found {
            let _ = writeln!(told, "  {} {:.2}", d.label, d.score);
        }
        copies.push((path, within));
    }
    // What is about to be written must be readable again.
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
    print(&told)?;
    Ok(ExitCode::SUCCESS)
}

fn test(picture: &Path, above: f32, found: &[Detection]) -> String {
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
