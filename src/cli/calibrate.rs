//! `gridwatch calibrate`: fits a homography to point pairs, reports residuals and uncertainty, and draws the ground grid into
//! a picture.
//!
//! Writes at most the requested picture, and measures nothing from the picture's content.

mod drawing;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{Failure, json_pretty, print, private};
use gridwatch_base::{error::Class, text::counted};
use gridwatch_config as config;
use gridwatch_config::{Faults, Survey};
use gridwatch_engine::{
    CameraId, Point,
    geometry::{Calibration, Lens},
};
use gridwatch_frame as frame;

/// Where the uncertainty is reported: fractions of the picture's width and height.
const SAMPLES: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];
/// The aspect ratio for fitting a lens when no picture is given.
const DEFAULT_ASPECT: f64 = 16.0 / 9.0;

/// Fit a camera's ground calibration and report its residuals and uncertainty.
///
/// Use it when you measure point pairs (picture position and map coordinates), before you put them into the configuration or
/// after a camera was moved. The pairs come from a camera of a configuration, or from a TOML file with `crs` and `points`, and
/// optionally `distortion` and `max_uncertainty_m`, as in `cameras[].calibration`. It accepts what `gridwatch check` accepts.
///
/// With 8 pairs or more it tests whether a radial lens distortion (k1) explains the residuals better than chance, and reports
/// it; with pairs from a file it also uses it.
///
/// With --picture it draws the ground grid into a still of the camera, of any resolution: a line every metre, a thick one every
/// 5, along the pairs' main direction and through the first pair; the numbers are metres from it. A kerb or a paving joint
/// should run along the lines. The orange line is where the uncertainty exceeds max_uncertainty_m: beyond it a case is
/// located at the view's fixed place. A ring is a pair; a red arrow leads to where its map point projects.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch calibrate --config edge.toml --camera gate-east
  gridwatch calibrate --config edge.toml --camera gate-east --picture still.jpg --out ground.jpg
  gridwatch calibrate --points pairs.toml --json | jq .rms_m

File of point pairs:
  crs = \"GCJ-02\"          # or EPSG:4490, EPSG:4326, local:LON,LAT,BEARING (metres)
  points = [
    { picture = [0.271, 0.854], ground = [120.005619, 29.998420] },
    …                       # 4 or more; only from the fifth can a mistake show
  ]")]
pub struct CalibrateArgs {
    /// File of point pairs.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "camera",
        conflicts_with = "camera"
    )]
    points: Option<PathBuf>,
    /// Camera whose calibration is read from the configuration.
    #[arg(long, value_name = "ID", requires = "config")]
    camera: Option<String>,
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: Option<PathBuf>,
    /// Still from the camera (JPEG, PNG, WebP or BMP) to draw the ground grid into.
    #[arg(long, value_name = "FILE", requires = "out")]
    picture: Option<PathBuf>,
    /// File to write that picture to: .jpg or .png. Faces and plates are not masked; only you can read the file.
    #[arg(long, value_name = "FILE", requires = "picture")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The command's output.
#[derive(Debug, Serialize)]
struct CalibrationReport {
    /// The coordinate reference system of the ground points.
    crs: String,
    pairs: Vec<PairResidual>,
    rms_m: f64,
    /// Index of the pair with the largest residual.
    worst: usize,
    max_uncertainty_m: f64,
    /// The distortion the figures were computed with.
    distortion: Option<Distortion>,
    /// A distortion that explains the residuals better, if none is configured and one is found.
    suggested: Option<SuggestedLens>,
    uncertainty: Vec<Uncertainty>,
}

#[derive(Debug, Serialize)]
struct PairResidual {
    /// Fractions of the picture's width and height.
    picture: [f64; 2],
    /// Longitude and latitude, degrees.
    ground: [f64; 2],
    residual_m: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Distortion {
    k1: f64,
    k2: f64,
}

impl From<Lens> for Distortion {
    fn from(lens: Lens) -> Self {
        let (k1, k2) = lens.coefficients();
        Self { k1, k2 }
    }
}

#[derive(Debug, Serialize)]
struct SuggestedLens {
    k1: f64,
    aspect: f64,
    rms_m: f64,
    /// Whether the report's figures were computed with it.
    used: bool,
}

#[derive(Debug, Serialize)]
struct Uncertainty {
    picture: [f64; 2],
    /// One standard deviation, metres; `null` at and above the horizon.
    uncertainty_m: Option<f64>,
}

/// Runs the command.
///
/// # Errors
/// Faulty point pairs, an unknown camera, or a picture that cannot be read or written.
pub fn run(args: &CalibrateArgs) -> Result<ExitCode, Failure> {
    let survey = survey(args)?;
    let picture = args.picture.as_deref().map(open).transpose()?;
    let aspect = match &picture {
        Some(p) => f64::from(p.width()) / f64::from(p.height()),
        None => DEFAULT_ASPECT,
    };
    let configured = &survey.calibration;
    let found = match configured.lens() {
        Some(_) => None,
        // Cannot fail: the same pairs were already fitted without a lens.
        None => Calibration::fit_estimating_lens(&survey.pairs, aspect)
            .ok()
            .filter(|c| c.lens().is_some()),
    };
    let is_used = args.points.is_some();
    let suggested = found.as_ref().and_then(|c| {
        Some(SuggestedLens {
            k1: c.lens()?.coefficients().0,
            aspect,
            rms_m: c.rms_residual_m(),
            used: is_used,
        })
    });
    let calibration = found.as_ref().filter(|_| is_used).unwrap_or(configured);
    let report = report(&survey, calibration, suggested);
    if let (Some(mut picture), Some(out)) = (picture, &args.out) {
        drawing::draw(&mut picture, &survey, calibration);
        private::save_picture_as_named(&picture, out)
            .map_err(|e| Failure::new(Class::Config, format!("--out: cannot write {}: {e}", out.display())))?;
    }
    let text = if args.json {
        json_pretty(&report)?
    } else {
        table(&report, configured.rms_residual_m(), args.out.as_deref())
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn survey(args: &CalibrateArgs) -> Result<Survey, Failure> {
    if let Some(points) = &args.points {
        return config::read_survey(points).map_err(|f| Failure::new(f.class(), f.to_string()));
    }
    let (Some(file), Some(id)) = (&args.config, &args.camera) else {
        let message = "no point pairs given; use --points FILE, or --camera ID and --config FILE";
        return Err(Failure::new(Class::Config, message));
    };
    let mut draft = config::examine(file);
    if let Some(survey) = draft.surveys.remove(&CameraId::from(id.as_str())) {
        // Other faults in the configuration do not matter here; `gridwatch check` reports them.
        return Ok(survey);
    }
    let known = config::view_names(&draft.cameras);
    let is_known = config::find_view(&draft.cameras, id).is_some();
    if !draft.faults.is_empty() {
        return Err(Faults(draft.faults).into());
    }
    let message = match is_known {
        true => format!("camera {id} has no calibration; put its point pairs into a file and use --points FILE"),
        false => format!("no camera has the id {id:?}; the configuration has {known}"),
    };
    Err(Failure::new(Class::Config, message))
}

fn open(path: &Path) -> Result<image::RgbImage, Failure> {
    frame::open_upright(path)
        .map(|p| p.to_rgb8())
        .map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))
}

fn report(survey: &Survey, calibration: &Calibration, suggested: Option<SuggestedLens>) -> CalibrationReport {
    let residuals = calibration.residuals_m();
    let pairs = survey
        .pairs
        .iter()
        .zip(residuals)
        .map(|((p, g), residual_m)| PairResidual {
            picture: [p.x, p.y],
            ground: [g.lon, g.lat],
            residual_m: *residual_m,
        });
    let worst = residuals.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let samples = SAMPLES.into_iter().flat_map(|y| SAMPLES.map(|x| [x, y]));
    CalibrationReport {
        crs: survey.crs.to_string(),
        pairs: pairs.collect(),
        rms_m: calibration.rms_residual_m(),
        worst: worst.map_or(0, |(i, _)| i),
        max_uncertainty_m: survey.max_uncertainty_m,
        distortion: calibration.lens().map(Into::into),
        suggested,
        uncertainty: samples
            .map(|[x, y]| Uncertainty {
                picture: [x, y],
                uncertainty_m: calibration.ground(Point { x, y }).map(|(_, u)| u),
            })
            .collect(),
    }
}

/// `configured_rms_m` is the residual without the suggested lens; `drawn` is the picture written.
fn table(report: &CalibrationReport, configured_rms_m: f64, drawn: Option<&Path>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "PAIR  PICTURE         GROUND (longitude, latitude)  RESIDUAL");
    for (i, pair) in report.pairs.iter().enumerate() {
        let ([x, y], [lon, lat]) = (pair.picture, pair.ground);
        let mark = if i == report.worst { "  worst" } else { "" };
        let _ = writeln!(
            text,
            "{i:>4}  {x:.4}, {y:.4}  {lon:>14.8}, {lat:>12.8}  {:.2} m{mark}",
            pair.residual_m
        );
    }
    let count = report.pairs.len();
    let _ = writeln!(
        text,
        "\n{} in {}, residual {:.2} m (RMS).",
        counted(count, "pair", "pairs"),
        report.crs,
        report.rms_m
    );
    if count == 4 {
        let _ = writeln!(text, "Four pairs always fit exactly; add a fifth to detect a mistake.");
    }
    match (&report.distortion, &report.suggested) {
        (
            _,
            Some(SuggestedLens {
                k1,
                aspect,
                rms_m,
                used,
            }),
        ) => {
            let line = format!("distortion = {{ k1 = {k1:.3}, aspect = {aspect:.3} }}");
            let _ = writeln!(
                text,
                "The lens has radial distortion: residual {rms_m:.2} m with it, {configured_rms_m:.2} m without. {} {line}",
                if *used {
                    "Used here:"
                } else {
                    "Not used here; to use it, add to the calibration:"
                }
            );
        }
        (Some(Distortion { k1, k2 }), None) => {
            let _ = writeln!(text, "With the configured lens distortion: k1 = {k1}, k2 = {k2}.");
        }
        (None, None) if count >= 8 => {
            let _ = writeln!(text, "No lens distortion explains the residuals better.");
        }
        (None, None) => {
            let _ = writeln!(text, "Detecting lens distortion takes 8 pairs or more.");
        }
    }
    let limit = report.max_uncertainty_m;
    let _ = writeln!(
        text,
        "\nUncertainty of a ground position, ± metres (one standard deviation), by picture position. `-`: at or above the \
         horizon.\n`*`: above max_uncertainty_m = {limit}, so a case is located at the view's fixed place.\n"
    );
    let heads: String = SAMPLES.map(|x| format!("{:>9}", format!("x {x}"))).concat();
    let _ = writeln!(text, "      {heads}");
    for (row, y) in report.uncertainty.chunks(SAMPLES.len()).zip(SAMPLES) {
        let cells: String = row
            .iter()
            .map(|u| format!("{:>9}", cell(u.uncertainty_m, limit)))
            .collect();
        let _ = writeln!(text, "y {y}  {cells}");
    }
    if let Some(path) = drawn {
        let _ = writeln!(text, "\nGround grid drawn into {}.", path.display());
    }
    text
}

fn cell(uncertainty_m: Option<f64>, limit: f64) -> String {
    match uncertainty_m {
        None => "-".into(),
        Some(u) if u > 999.0 => ">999*".into(),
        Some(u) if u > limit => format!("{u:.1}*"),
        Some(u) => format!("{u:.1} "),
    }
}
