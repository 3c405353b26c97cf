//! `gridwatch evidence mask`: what leaves the box. Pictures as the daemon would mask them, and, where somebody labelled what must
//! not be seen in them, how much of it is covered.

mod cover;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde::Serialize;

use self::cover::{Cover, Label, Summary, Truth};
use crate::cli::{Failure, detect};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_evidence as evidence;
use gridwatch_evidence::{Preview, Settings};
use gridwatch_model::{Model, TiledDetector, runtime};

/// Mask pictures as the daemon would before they leave the box.
///
/// Faces, heads of persons and plate regions of vehicles are looked for and made unreadable by the very code that makes the
/// pictures of cases. Try it on pictures of your own cameras, and look at what is left. With --truth it says what was missed.
///
/// Exit codes: 0 all were masked; 3 the configuration, a model, the truth or ONNX Runtime's library is not usable; 5 some could
/// not be read: each is named on standard error, and the others were masked.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  gridwatch evidence mask street.jpg --out masked/
  gridwatch evidence mask pictures/ --config edge.toml --out masked/
  gridwatch evidence mask --truth tests/fixtures/masking/labels.json tests/fixtures/masking/

The truth names what must not be readable in each picture, by its file's name, in pixels [left, top, right, bottom]; kinds are
face (looks at the camera, or nearly), head (of anybody else) and plate. Pictures that it does not name are masked and not counted:
  {\"street.jpg\": {\"face\": [[366, 280, 382, 297]], \"head\": [], \"plate\": [[277, 368, 286, 385]]}}
A label counts as covered from 80 in 100 of its area up, and as missed below 30.

With --json each picture gives one line, and the last line is the summary:
  {\"image\":\"street.jpg\",\"width\":1280,\"height\":720,\"bytes\":183211,\"masked\":0.04,\"regions\":[[800.0,431.5,860.0,470.1]],
   \"labels\":[{\"kind\":\"face\",\"box\":[366.0,280.0,382.0,297.0],\"covered\":0.97}]}"
)]
pub struct Args {
    /// Take the models, quality and size of this configuration's [evidence].
    #[arg(long, value_name = "FILE", conflicts_with = "models")]
    config: Option<PathBuf>,

    /// The folder of a model that looks; may be given several times.
    #[arg(long = "model", value_name = "DIR", default_values = ["models/yunet_n", "models/yolox_nano_416_coco"])]
    models: Vec<PathBuf>,

    /// Write each masked picture here, as NAME.jpg. Needed unless --truth is given.
    #[arg(long, value_name = "DIR", required_unless_present = "truth")]
    out: Option<PathBuf>,

    /// What must not be readable, as JSON: tells how much of it is covered.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,

    /// Print one JSON object a line, for programs.
    #[arg(long)]
    json: bool,

    /// ONNX Runtime's shared library. [default: the configuration's, or where edge-deploy/setup.sh puts it]
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
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    run_to(args, &mut BufWriter::new(io::stdout().lock()), &mut io::stderr()).map(ExitCode::from)
}

/// Runs the command: what it did goes to `out`, pictures that cannot be read are named on `err`. Returns the exit code.
///
/// # Errors
/// A configuration, model, truth, folder or library that cannot be used.
pub fn run_to(args: &Args, out: &mut impl Write, err: &mut impl Write) -> Result<u8, Failure> {
    let truth = args.truth.as_deref().map(Truth::read).transpose()?;
    let pictures = pictures(&args.pictures)?;
    let (mut models, settings) = set_up(args)?;
    if let Some(dir) = &args.out {
        fs::create_dir_all(dir).map_err(|e| unwritable(dir, &e))?;
    }
    let (mut code, mut summary, mut written) = (0, Summary::new(truth.is_some()), BTreeSet::new());
    for path in &pictures {
        let preview = match preview(path, &mut models, &settings) {
            Ok(preview) => preview,
            Err(e) => {
                // Standard error may be closed too; the exit code still tells.
                let _ = writeln!(err, "{}: {}", path.display(), e.message);
                code = Class::Data.exit_code();
                continue;
            }
        };
        if let Some(dir) = &args.out {
            let file = dir.join(path.file_stem().unwrap_or_default()).with_extension("jpg");
            // Nothing that was given is written over: not the picture itself, and not another's masked one.
            let is_given =
                |given: &PathBuf| matches!((given.canonicalize(), file.canonicalize()), (Ok(a), Ok(b)) if a == b);
            if pictures.iter().any(is_given) || !written.insert(file.clone()) {
                let what = "this would write over one of the pictures, or over one masked before: give --out another folder, and pictures of one name in turn";
                return Err(Failure::new(Class::Config, format!("{}: {what}", file.display())));
            }
            fs::write(&file, &preview.picture.jpeg).map_err(|e| unwritable(&file, &e))?;
        }
        let report = Report::new(path, &preview, truth.as_ref());
        summary.add(report.masked, &report.labels);
        match tell(&report, args.json, out) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(code),
            told => told.map_err(|e| Failure::new(Class::Transient, e.to_string()))?,
        }
    }
    let told = if args.json {
        writeln!(out, "{}", serde_json::json!({ "summary": summary }))
    } else {
        write!(out, "{summary}")
    };
    match told.and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(Class::Transient, e.to_string())),
        _ => Ok(code),
    }
}

fn unwritable(path: &Path, e: &io::Error) -> Failure {
    Failure::new(Class::Config, format!("{}: cannot be written: {e}", path.display()))
}

/// The models and how pictures are made: as configured, else by the defaults.
fn set_up(args: &Args) -> Result<(TiledDetector, Settings), Failure> {
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
        let config = config::load_unconnected(file)?;
        if !config.evidence.mask || config.evidence.mask_models.is_empty() {
            let what = "evidence.mask is off, or evidence.mask_models is empty: nothing would be looked for";
            return Err(Failure::new(Class::Config, format!("{}: {what}", file.display())));
        }
        (settings.jpeg_quality, settings.max_bytes) = (config.evidence.jpeg_quality, config.evidence.max_picture_bytes);
        dirs = config.evidence.mask_models;
        library = library.or(config.onnxruntime);
        options = config.inference;
    }
    let runtime = runtime::init(library.as_deref())
        .map_err(gridwatch_model::ModelError::from)?
        .with(options);
    let models = dirs.iter().map(|dir| Model::load(dir)).collect::<Result<Vec<_>, _>>()?;
    Ok((TiledDetector::new(&runtime, &models)?, settings))
}

/// The pictures, those of folders by their names.
fn pictures(given: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for path in given {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let unreadable = |e| Failure::new(Class::Config, format!("{}: cannot be read: {e}", path.display()));
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
    let frame = detect::picture(path).map_err(|e| Failure::new(Class::Data, e.to_string()))?;
    let found = models.find(&frame)?;
    Ok(evidence::preview(&frame, &found, settings)?)
}

/// One line of the command's JSON.
#[derive(Serialize)]
struct Report {
    image: String,
    width: u32,
    height: u32,
    bytes: usize,
    /// Share of the picture that was made unreadable.
    masked: f64,
    regions: Vec<[f64; 4]>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
}

impl Report {
    fn new(path: &Path, preview: &Preview, truth: Option<&Truth>) -> Self {
        let Preview { picture, regions, size } = preview;
        let cover = Cover::new(*size, regions);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Self {
            image: path.display().to_string(),
            width: picture.width,
            height: picture.height,
            bytes: picture.jpeg.len(),
            masked: cover.share(),
            regions: cover.regions(),
            labels: truth.map(|t| t.labels(&name, &cover)).unwrap_or_default(),
        }
    }
}

fn tell(report: &Report, json: bool, out: &mut impl Write) -> io::Result<()> {
    if json {
        serde_json::to_writer(&mut *out, report)?;
        return writeln!(out);
    }
    writeln!(
        out,
        "{} ({}×{}, {} kB): {} regions, {:.1} % of it masked",
        report.image,
        report.width,
        report.height,
        report.bytes.div_ceil(1000),
        report.regions.len(),
        report.masked * 100.0
    )?;
    for label in report.labels.iter().filter(|l| !l.is_covered()) {
        let [x1, y1, x2, y2] = label.corners;
        let (kind, percent) = (label.kind, label.covered * 100.0);
        writeln!(
            out,
            "  {kind} at x {x1:.0} to {x2:.0}, y {y1:.0} to {y2:.0}: {percent:.0} % covered"
        )?;
    }
    out.flush()
}
