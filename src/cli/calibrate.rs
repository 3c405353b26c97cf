//! `gridwatch calibrate`: how well point pairs fit, where they can be trusted, and how the ground lies in the picture.
//!
//! Reads files and writes at most the one picture it was asked for; nothing is measured from the picture itself.

mod drawing;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Faults, Survey};
use gridwatch_engine::{
    CameraId, Point,
    geometry::{Calibration, Lens},
};

/// Where the uncertainty is told, of the picture's width and height.
const ASKED: [f64; 5] = [0.1, 0.3, 0.5, 0.7, 0.9];
/// A lens is looked for in the usual picture, where none is given to measure.
const USUAL_ASPECT: f64 = 16.0 / 9.0;

/// Fits point pairs of picture and ground, tells how far each is off, and draws the ground into a picture.
///
/// The pairs are a camera's, from a configuration, or a file's: a TOML with `crs` and `points`, and if wanted `distortion`
/// and `max_uncertainty_m`, as `cameras.calibration` has them. What `check` refuses is refused here in the same words.
///
/// With 8 pairs or more it looks whether a bending lens (k1) explains what is left over better than chance does, and says
/// so; with pairs from a file it goes on with that lens.
///
/// With --picture it draws the ground into a still of the camera, of any resolution: lines every metre, thick ones every 5,
/// along the direction that most pairs share and through the first pair, whose distance the numbers tell. A kerb or a
/// paving joint must run along them. Orange is where places become less certain than max_uncertainty_m: beyond it a case
/// lies at the view's place. A ring is a pair, a red arrow leads from it to where its map point falls.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch calibrate --config edge.toml --camera gate-east
  gridwatch calibrate --config edge.toml --camera gate-east --picture still.jpg --out ground.jpg
  gridwatch calibrate --points pairs.toml --json | jq .rms_m

A file of pairs:
  crs = \"GCJ-02\"          # or EPSG:4490, EPSG:4326, local:LON,LAT,BEARING (metres)
  points = [
    { picture = [0.271, 0.854], ground = [120.005619, 29.998420] },
    …                       # 4 or more; the fifth is the first to show a mistake
  ]")]
pub struct Args {
    /// A file of point pairs.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "camera",
        conflicts_with = "camera"
    )]
    points: Option<PathBuf>,
    /// The camera of the configuration whose calibration is looked at.
    #[arg(long, value_name = "ID", requires = "config")]
    camera: Option<String>,
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: Option<PathBuf>,
    /// A still of the camera: JPEG, PNG, WebP or BMP.
    #[arg(long, value_name = "FILE", requires = "out")]
    picture: Option<PathBuf>,
    /// Where the picture with the ground drawn into it is written: .jpg or .png.
    #[arg(long, value_name = "FILE", requires = "picture")]
    out: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    /// What the ground points were written in.
    crs: String,
    pairs: Vec<Pair>,
    rms_m: f64,
    /// Index of the pair that is farthest off.
    worst: usize,
    max_uncertainty_m: f64,
    /// What the figures were computed through.
    distortion: Option<Distortion>,
    /// A lens that would explain the residuals better, where none is stated and one is found.
    suggested: Option<Suggestion>,
    uncertainty: Vec<Uncertainty>,
}

#[derive(Debug, Serialize)]
struct Pair {
    picture: [f64; 2],
    /// Longitude and latitude.
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
struct Suggestion {
    k1: f64,
    aspect: f64,
    rms_m: f64,
    /// True where the figures are already those with this lens.
    used: bool,
}

#[derive(Debug, Serialize)]
struct Uncertainty {
    picture: [f64; 2],
    /// One standard deviation; `null` at and above the horizon.
    uncertainty_m: Option<f64>,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let survey = survey(args)?;
    let picture = args.picture.as_deref().map(open).transpose()?;
    let aspect = match &picture {
        Some(p) => f64::from(p.width()) / f64::from(p.height()),
        None => USUAL_ASPECT,
    };
    let stated = &survey.calibration;
    let found = match stated.lens() {
        Some(_) => None,
        // The pairs were fitted once without a lens, so they are again.
        None => Calibration::fit_finding_lens(&survey.pairs, aspect)
            .ok()
            .filter(|c| c.lens().is_some()),
    };
    let is_used = args.points.is_some();
    let suggested = found.as_ref().and_then(|c| {
        Some(Suggestion {
            k1: c.lens()?.coefficients().0,
            aspect,
            rms_m: c.rms_residual_m(),
            used: is_used,
        })
    });
    let calibration = found.as_ref().filter(|_| is_used).unwrap_or(stated);
    let report = report(&survey, calibration, suggested);
    if let (Some(mut picture), Some(out)) = (picture, &args.out) {
        drawing::draw(&mut picture, &survey, calibration);
        picture
            .save(out)
            .map_err(|e| Failure::new(Class::Config, format!("{} cannot be written: {e}", out.display())))?;
    }
    let text = if args.json {
        serde_json::to_string_pretty(&report)
            .map_err(|e| Failure::new(Class::Bug, format!("the report is no JSON: {e}")))?
            + "\n"
    } else {
        table(&report, stated.rms_residual_m(), args.out.as_deref())
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn survey(args: &Args) -> Result<Survey, Failure> {
    if let Some(points) = &args.points {
        // The file is no configuration: only its faults are told.
        return config::read_survey(points).map_err(|f| Failure::new(f.class(), f.to_string()));
    }
    let (Some(file), Some(id)) = (&args.config, &args.camera) else {
        let message = "name a file of --points, or a --camera and its --config";
        return Err(Failure::new(Class::Config, message));
    };
    let mut draft = config::examine(file);
    if let Some(survey) = draft.surveys.remove(&CameraId::from(id.as_str())) {
        // Whatever else is wrong with the file is `check`'s business.
        return Ok(survey);
    }
    let known = config::view_names(&draft.cameras);
    let is_known = config::view_called(&draft.cameras, id).is_some();
    if !draft.faults.is_empty() {
        return Err(Faults(draft.faults).into());
    }
    let message = match is_known {
        true => format!("the camera {id} has no calibration: write its pairs into a file and name that with --points"),
        false => format!("no camera has the id {id:?}: write one of {known}"),
    };
    Err(Failure::new(Class::Config, message))
}

fn open(path: &Path) -> Result<image::RgbImage, Failure> {
    image::open(path)
        .map(|p| p.to_rgb8())
        .map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))
}

fn report(survey: &Survey, calibration: &Calibration, suggested: Option<Suggestion>) -> Report {
    let residuals = calibration.residuals_m();
    let pairs = survey.pairs.iter().zip(residuals).map(|((p, g), residual_m)| Pair {
        picture: [p.x, p.y],
        ground: [g.lon, g.lat],
        residual_m: *residual_m,
    });
    let worst = residuals.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    let asked = ASKED.into_iter().flat_map(|y| ASKED.map(|x| [x, y]));
    Report {
        crs: survey.crs.to_string(),
        pairs: pairs.collect(),
        rms_m: calibration.rms_residual_m(),
        worst: worst.map_or(0, |(i, _)| i),
        max_uncertainty_m: survey.max_uncertainty_m,
        distortion: calibration.lens().map(Into::into),
        suggested,
        uncertainty: asked
            .map(|[x, y]| Uncertainty {
                picture: [x, y],
                uncertainty_m: calibration.ground(Point { x, y }).map(|(_, u)| u),
            })
            .collect(),
    }
}

/// `plain_rms_m`: with the lens that is stated, or without one.
fn table(report: &Report, plain_rms_m: f64, drawn: Option<&Path>) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "PAIR  PICTURE         GROUND (longitude, latitude)  OFF BY");
    for (i, pair) in report.pairs.iter().enumerate() {
        let ([x, y], [lon, lat]) = (pair.picture, pair.ground);
        let mark = if i == report.worst { "  the worst" } else { "" };
        let _ = writeln!(
            text,
            "{i:>4}  {x:.4}, {y:.4}  {lon:>14.8}, {lat:>12.8}  {:.2} m{mark}",
            pair.residual_m
        );
    }
    let count = report.pairs.len();
    let _ = writeln!(
        text,
        "\n{count} pairs in {}, off by {:.2} m (root mean square).",
        report.crs, report.rms_m
    );
    if count == 4 {
        let _ = writeln!(text, "Four pairs always fit: only a fifth shows a mistake.");
    }
    match (&report.distortion, &report.suggested) {
        (
            _,
            Some(Suggestion {
                k1,
                aspect,
                rms_m,
                used,
            }),
        ) => {
            let line = format!("distortion = {{ k1 = {k1:.3}, aspect = {aspect:.3} }}");
            let _ = writeln!(
                text,
                "The lens bends: with it the pairs are off by {rms_m:.2} m, without by {plain_rms_m:.2} m. {} {line}",
                if *used {
                    "Used here:"
                } else {
                    "Not used here; state in the calibration"
                }
            );
        }
        (Some(Distortion { k1, k2 }), None) => {
            let _ = writeln!(text, "Through the lens that is stated: k1 = {k1}, k2 = {k2}.");
        }
        (None, None) if count >= 8 => {
            let _ = writeln!(text, "No bending lens explains that better.");
        }
        (None, None) => {
            let _ = writeln!(text, "Whether the lens bends can be told from 8 pairs on.");
        }
    }
    let limit = report.max_uncertainty_m;
    let _ = writeln!(
        text,
        "\nHow certain a place is, ± metres (one standard deviation), across and down the picture. `-`: at or above the \
         horizon.\n`*`: less certain than max_uncertainty_m = {limit}, so a case lies at the view's place.\n"
    );
    let heads: String = ASKED.map(|x| format!("{:>9}", format!("x {x}"))).concat();
    let _ = writeln!(text, "      {heads}");
    for (row, y) in report.uncertainty.chunks(ASKED.len()).zip(ASKED) {
        let cells: String = row
            .iter()
            .map(|u| format!("{:>9}", certain(u.uncertainty_m, limit)))
            .collect();
        let _ = writeln!(text, "y {y}  {cells}");
    }
    if let Some(path) = drawn {
        let _ = writeln!(text, "\nThe ground is drawn into {}.", path.display());
    }
    text
}

fn certain(uncertainty_m: Option<f64>, limit: f64) -> String {
    match uncertainty_m {
        None => "-".into(),
        Some(u) if u > 999.0 => ">999*".into(),
        Some(u) if u > limit => format!("{u:.1}*"),
        Some(u) => format!("{u:.1} "),
    }
}
