//! `gridwatch evidence mask`: masks pictures as the daemon does before they leave the box, and measures the coverage of labelled
//! faces and plates.

mod cover;

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;

use self::cover::{Coverage, MaskLabel, MaskSummary, MaskTruth};
use crate::cli::{
    Failure,
    pictures::{PictureRow, picture},
    share::share,
    terminal, written_to_stdout,
};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config as config;
use gridwatch_evidence as evidence;
use gridwatch_evidence::{Preview, Settings};
use gridwatch_model::{Model, TiledDetector, runtime};

/// Masking models unless others are named.
const DEFAULT_MODELS: [&str; 2] = ["yunet_n", "yolox_nano_416_coco"];

/// Mask pictures as the daemon does before they leave the box.
///
/// It finds faces, heads of persons and plate regions of vehicles and makes them unreadable with the code that the daemon uses
/// for case pictures. Try it on pictures of your own cameras and check what remains visible. With --truth it measures how much
/// of the labelled faces and plates is covered.
///
/// Exit codes: 0 all were masked; 3 the configuration, a model, the truth file or the ONNX Runtime library is not usable; 5 some
/// could not be read (each is reported on standard error; the others were masked).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch evidence mask street.jpg --out masked/
  gridwatch evidence mask pictures/ --config edge.toml --out masked/
  gridwatch evidence mask --truth tests/fixtures/masking/labels.json tests/fixtures/masking/

The truth file lists the boxes that must be unreadable in each picture, by file name, as pixels [left, top,
right, bottom]. Kinds are face (frontal or nearly), head (any other) and plate. Pictures that are not in it are
masked but not counted:
  {\"street.jpg\": {\"face\": [[366, 280, 382, 297]], \"head\": [], \"plate\": [[277, 368, 286, 385]]}}
A box counts as covered if 80 % of its area is masked, and as missed below 30 %.

With --json it prints one line per picture, then the summary:
  {\"image\":\"street.jpg\",\"width\":1280,\"height\":720,\"bytes\":183211,\"masked\":0.04,\"regions\":[[800.0,431.5,860.0,470.1]],
   \"labels\":[{\"kind\":\"face\",\"box\":[366.0,280.0,382.0,297.0],\"covered\":0.97}]}")]
pub struct MaskArgs {
    /// Take the models, JPEG quality and size limit from [evidence] of this configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "models")]
    config: Option<PathBuf>,

    /// Folder of a masking model; may be repeated. [default: gridwatch's own models/yunet_n and models/yolox_nano_416_coco]
    #[arg(long = "model", value_name = "DIR")]
    models: Vec<PathBuf>,

    /// Write each masked picture to DIR/NAME.jpg. Required unless --truth is given.
    #[arg(long, value_name = "DIR", required_unless_present = "truth")]
    out: Option<PathBuf>,

    /// JSON file of the faces, heads and plates that must be covered; report the coverage.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    /// Print JSON Lines; the last line is the summary.
    #[arg(long)]
    json: bool,

    /// ONNX Runtime shared library. [default: the configuration's, or the one that edge-deploy/setup.sh installs]
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,

    /// Pictures (JPEG, PNG, WebP or BMP), and folders of them.
    #[arg(required = true, value_name = "PICTURE|DIR")]
    pictures: Vec<PathBuf>,
}

/// Runs the command on standard output and standard error.
///
/// # Errors
/// As [`run_to`].
pub fn run(args: &MaskArgs) -> Result<ExitCode, Failure> {
    run_to(args, &mut BufWriter::new(terminal::stdout()), &mut terminal::stderr()).map(ExitCode::from)
}

/// Runs the command: results go to `out`, one line for each unreadable picture to `err`. Returns the exit code.
///
/// # Errors
/// An unusable configuration, model, truth file, folder or ONNX Runtime library.
pub fn run_to(args: &MaskArgs, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Failure> {
    let truth = args.truth.as_deref().map(MaskTruth::read).transpose()?;
    let pictures = pictures(&args.pictures)?;
    let (mut models, settings) = set_up(args)?;
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).map_err(|e| unwritable(dir, &e))?;
    }
    let (mut code, mut summary, mut written) = (0, MaskSummary::new(truth.is_some()), BTreeSet::new());
    for path in &pictures {
        let preview = match preview(path, &mut models, &settings) {
            Ok(preview) => preview,
            Err(e) => {
                // Standard error may be closed too; the exit code still reports the failure.
                let _ = writeln!(err, "{}: {}", path.display(), e.message);
                code = Class::Data.exit_code();
                continue;
            }
        };
        if let Some(dir) = &args.out {
            let file = dir.join(path.file_stem().unwrap_or_default()).with_extension("jpg");
            // Never overwrite an input picture, or the masked copy of another one with the same name.
            let is_input =
                |input: &PathBuf| matches!((input.canonicalize(), file.canonicalize()), (Ok(a), Ok(b)) if a == b);
            if pictures.iter().any(is_input) || !written.insert(file.clone()) {
                let what = "would overwrite an input picture, or the masked copy of another one; use another --out folder, and separate runs for pictures of the same name";
                return Err(Failure::new(Class::Config, format!("{}: {what}", file.display())));
            }
            fs::write(&file, &preview.picture.jpeg).map_err(|e| unwritable(&file, &e))?;
        }
        let masking = Masking::new(path, &preview, truth.as_ref());
        summary.add(masking.masked, &masking.labels);
        let size = (preview.picture.width, preview.picture.height);
        match PictureRow::new(path, size, masking).write(args.json, out) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            written => written_to_stdout(written)?,
        }
    }
    let printed = if args.json {
        writeln!(out, "{}", serde_json::json!({ "summary": summary }))
    } else {
        write!(out, "{summary}")
    };
    written_to_stdout(printed.and_then(|()| out.flush()))?;
    Ok(code)
}

fn unwritable(path: &Path, e: &io::Error) -> Failure {
    Failure::new(Class::Config, format!("--out: cannot write {}: {e}", path.display()))
}

/// The masking models and picture settings: the configuration's, or the defaults.
fn set_up(args: &MaskArgs) -> Result<(TiledDetector, Settings), Failure> {
    let mut settings = Settings {
        jpeg_quality: 88,
        max_bytes: 400_000,
        min_interval: Duration::ZERO,
        mask: true,
        finds_persons: true,
        privacy: Vec::new(),
    };
    let (mut dirs, mut library) = (args.models.clone(), args.onnxruntime.clone());
    let mut options = gridwatch_model::Options::default();
    if let Some(file) = &args.config {
        let config = config::load_offline(file)?;
        if !config.evidence.mask || config.evidence.mask_models.is_empty() {
            let what = "evidence.mask is off or evidence.mask_models is empty, so nothing would be masked";
            return Err(Failure::new(Class::Config, format!("{}: {what}", file.display())));
        }
        (settings.jpeg_quality, settings.max_bytes) = (config.evidence.jpeg_quality, config.evidence.max_picture_bytes);
        dirs = config.evidence.mask_models;
        library = library.or(config.onnxruntime);
        options = config.inference;
    } else if dirs.is_empty() {
        let models = share()?.join("models");
        dirs = DEFAULT_MODELS.map(|name| models.join(name)).into();
    }
    let runtime = runtime::init(library.as_deref())
        .map_err(gridwatch_model::ModelError::from)?
        .with(options);
    let models = dirs.iter().map(|dir| Model::load(dir)).collect::<Result<Vec<_>, _>>()?;
    Ok((TiledDetector::new(&runtime, &models)?, settings))
}

/// Replaces each folder by the pictures in it, sorted by name.
fn pictures(arguments: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in arguments {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let unreadable = |e| Failure::new(Class::Config, format!("cannot read {}: {e}", path.display()));
        let entries = fs::read_dir(path)
            .and_then(Iterator::collect::<io::Result<Vec<_>>>)
            .map_err(unreadable)?;
        let is_picture = |path: &PathBuf| {
            let suffix = path.extension().unwrap_or_default().to_ascii_lowercase();
            ["jpg", "jpeg", "png", "webp", "bmp"]
                .iter()
                .any(|known| suffix == *known)
        };
        let mut inside: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).filter(is_picture).collect();
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

fn preview(path: &Path, models: &mut TiledDetector, settings: &Settings) -> Result<Preview, Failure> {
    let frame = picture(path).map_err(|e| Failure::new(Class::Data, e.to_string()))?;
    let found = models.detect(&frame)?;
    Ok(evidence::preview(&frame, &found, settings)?)
}

/// What was masked in one picture.
#[derive(Serialize)]
struct Masking {
    bytes: usize,
    /// Masked share of the picture's area, 0..=1.
    masked: f64,
    regions: Vec<[f64; 4]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<MaskLabel>,
}

impl Masking {
    fn new(path: &Path, preview: &Preview, truth: Option<&MaskTruth>) -> Self {
        let Preview { picture, regions, size } = preview;
        let coverage = Coverage::new(*size, regions);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            bytes: picture.jpeg.len(),
            masked: picture.masked_share,
            regions: coverage.regions(),
            labels: truth.map(|t| t.labels(&name, &coverage)).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} kB, {}, {:.1} % masked",
            self.bytes.div_ceil(1000),
            counted(self.regions.len(), "region", "regions"),
            self.masked * 100.0
        )?;
        for label in self.labels.iter().filter(|l| !l.is_covered()) {
            let [x1, y1, x2, y2] = label.corners;
            let (kind, percent) = (label.kind, label.covered * 100.0);
            write!(
                f,
                "\n  {kind} at x {x1:.0} to {x2:.0}, y {y1:.0} to {y2:.0}: {percent:.0} % covered"
            )?;
        }
        Ok(())
    }
}
