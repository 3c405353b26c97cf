//! `gridwatch signs`: the approved-sign baselines, by which unlawful signs are told from those that may hang.
//!
//! Looks and writes files; what is lawful is the operator's to say, by what he strikes out of them.

mod baseline;
#[cfg(feature = "gst")]
mod live;
mod record;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use image::{Rgb, RgbImage};

use super::{Failure, layer::Layer, print};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Camera, Draft, Faults, Preset, raw};
use gridwatch_engine::BBox;

/// Records and shows the signs that may hang in a camera's view.
///
/// Whether a sign is lawful cannot be seen. Rules with `except_approved` file what is new against a camera's baseline: the
/// file that its `approved_signs` names. Record it, look at the picture with the numbers, and strike the signs that may not
/// hang there out of the file (each is a block of a few lines under its number); say in `note` whose the others are.
///
///   gridwatch signs record gate-east --config edge.toml --overlay signs.png
///   gridwatch signs list gate-east --config edge.toml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Record(record::Args),
    List(List),
}

/// One line a sign: its number, where it hangs, since when it is approved, whose it is.
#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    of: Of,
    /// Draw them, with their numbers, into this still of the camera: JPEG, PNG, WebP or BMP.
    #[arg(long, value_name = "FILE", requires = "overlay")]
    picture: Option<PathBuf>,
    /// Where the drawn picture is written: .jpg or .png.
    #[arg(long, value_name = "FILE", requires = "picture")]
    overlay: Option<PathBuf>,
}

/// Which baseline.
#[derive(Debug, clap::Args)]
struct Of {
    /// The camera; of one that turns CAMERA.PRESET.
    #[arg(value_name = "CAMERA")]
    camera: String,
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Of {
    /// The configuration as far as it is sound, the camera and its view. Its baseline may be faulty or missing: that is what this
    /// is about; and what else is wrong is `check`'s business.
    fn view(&self) -> Result<(Draft, Camera, Preset), Failure> {
        let draft = config::examine(&self.config);
        if let Some((camera, preset)) = config::view_called(&draft.cameras, &self.camera) {
            let (camera, preset) = (camera.clone(), preset.clone());
            return Ok((draft, camera, preset));
        }
        if !draft.faults.is_empty() {
            return Err(Faults(draft.faults).into());
        }
        let known = config::view_names(&draft.cameras);
        let message = format!("no camera has the id {:?}: write one of {known}", self.camera);
        Err(Failure::new(Class::Config, message))
    }
}

/// Runs the command.
///
/// # Errors
/// What a person must mend first: the configuration, the baseline, a picture, a camera that is away.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Record(args) => record::run(&args),
        Command::List(args) => list(&args),
    }
}

fn list(args: &List) -> Result<ExitCode, Failure> {
    let (_, _, preset) = args.of.view()?;
    let Some(file) = &preset.approved_signs else {
        return Err(unnamed(&preset));
    };
    let signs = read(file)?;
    if let (Some(picture), Some(overlay)) = (&args.picture, &args.overlay) {
        let picture = image::open(picture)
            .map_err(|e| Failure::new(Class::Data, format!("{}: {e}", picture.display())))?
            .to_rgb8();
        draw(picture, &signs, 0, overlay)?;
    }
    let text = if args.of.json {
        serde_json::to_string_pretty(&signs).map_err(|e| Failure::new(Class::Bug, e.to_string()))? + "\n"
    } else {
        table(&signs, file)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(signs: &raw::Signs, file: &Path) -> String {
    let mut text = format!(
        "{} signs may hang in view of {}, recorded {} by {} ({}).\n",
        signs.signs.len(),
        signs.camera,
        signs.recorded,
        signs.model,
        file.display()
    );
    for (i, sign) in signs.signs.iter().enumerate() {
        let [x1, y1, x2, y2] = sign.corners;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>4}  {:<12} x {x1:.3} to {x2:.3}, y {y1:.3} to {y2:.3}  {:<10}  {}",
            i + 1,
            sign.label,
            sign.added.as_deref().unwrap_or_default(),
            sign.note.as_deref().unwrap_or_default()
        );
    }
    text
}

fn read(file: &Path) -> Result<raw::Signs, Failure> {
    // It is no configuration: only its faults are told.
    config::read_signs(file).map_err(|f| Failure::new(f.class(), f.to_string()))
}

fn unnamed(preset: &Preset) -> Failure {
    let id = &preset.view;
    let message = format!(
        "the camera {id} names no baseline: write approved_signs = \"signs/{id}.toml\" into its table of the configuration"
    );
    Failure::new(Class::Config, message)
}

const KNOWN: Rgb<u8> = Rgb([90, 220, 110]);
const NEW: Rgb<u8> = Rgb([255, 214, 0]);

/// Writes `picture` with each sign framed and numbered: green, but those from the `known`th on yellow.
fn draw(mut picture: RgbImage, signs: &raw::Signs, known: usize, file: &Path) -> Result<(), Failure> {
    let unit = (f64::from(picture.width()) / 960.0).max(1.0);
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    let (mut green, mut yellow) = (Layer::of(&picture), Layer::of(&picture));
    for (i, sign) in signs.signs.iter().enumerate() {
        let layer = if i < known { &mut green } else { &mut yellow };
        let [x1, y1, x2, y2] = sign.corners.map(f64::from);
        let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)].map(|(x, y)| (x * w, y * h));
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            layer.line(*from, *to, 1.2 * unit);
        }
        let (left, top) = corners[0];
        // Above the sign, or in it where there is no room above.
        let above = top - 16.0 * unit;
        let y = if above < 0.0 { top + 5.0 * unit } else { above };
        layer.text(&(i + 1).to_string(), (left + 3.0 * unit, y), 2.4 * unit);
    }
    for (layer, colour) in [(green, KNOWN), (yellow, NEW)] {
        layer.clone().grown().grown().over(&mut picture, Rgb([0, 0, 0]), 0.8);
        layer.over(&mut picture, colour, 1.0);
    }
    picture
        .save(file)
        .map_err(|e| Failure::new(Class::Config, format!("{} cannot be written: {e}", file.display())))
}

fn corners(bbox: &BBox) -> [f32; 4] {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2]
}
