//! `gridwatch signs`: records and lists the approved-sign baselines, which separate new signs from approved ones.
//!
//! Recording lists every sign in view; the operator deletes the unapproved ones from the file.

mod baseline;
mod record;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use image::{Rgb, RgbImage};

use super::{Failure, audited::audited, json_pretty, layer::Layer, print, private};
use crate::audit::Act;
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Camera, Draft, Faults, Preset, raw};
use gridwatch_engine::BBox;
use gridwatch_frame as frame;

/// Record and list the approved signs in a camera's view.
///
/// A picture does not show whether a sign is approved. So rules with `except_approved` report only signs that are not in the
/// camera's baseline, the file named by its `approved_signs`. Record the baseline, check the numbered picture, and delete the
/// signs that are not approved from the file (one numbered block each); use `note` for the owner and permit of the others.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch signs record gate-east --config edge.toml --overlay signs.png
  gridwatch signs list gate-east --config edge.toml")]
pub struct SignsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Record(record::SignsRecordArgs),
    List(SignsListArgs),
}

/// List the approved signs of a camera.
///
/// Prints for each sign its number, label, position, the date it was added, its note, and its permit and last day if it has them.
#[derive(Debug, clap::Args)]
struct SignsListArgs {
    #[command(flatten)]
    of: SignsViewArgs,
    /// Still from the camera (JPEG, PNG, WebP or BMP) to draw the numbered signs into.
    #[arg(long, value_name = "FILE", requires = "overlay")]
    picture: Option<PathBuf>,
    /// File to write that picture to: .jpg or .png.
    #[arg(long, value_name = "FILE", requires = "picture")]
    overlay: Option<PathBuf>,
}

/// The view whose baseline a command works on.
#[derive(Debug, clap::Args)]
struct SignsViewArgs {
    /// Camera id, or CAMERA.PRESET for a PTZ camera.
    #[arg(value_name = "CAMERA")]
    camera: String,
    /// Configuration file.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl SignsViewArgs {
    /// The valid part of the configuration, the camera and its view. A missing or faulty baseline is not an error here; other
    /// faults are left to `gridwatch check`.
    fn view(&self) -> Result<(Draft, Camera, Preset), Failure> {
        let draft = config::examine(&self.config);
        if let Some((camera, preset)) = config::find_view(&draft.cameras, &self.camera) {
            let (camera, preset) = (camera.clone(), preset.clone());
            return Ok((draft, camera, preset));
        }
        if !draft.faults.is_empty() {
            return Err(Faults(draft.faults).into());
        }
        let known = config::view_names(&draft.cameras);
        let message = format!("no camera has the id {:?}; the configuration has {known}", self.camera);
        Err(Failure::new(Class::Config, message))
    }
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration or baseline, an unreadable picture, or an unreachable camera.
pub fn run(args: SignsArgs) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Record(args) => {
            let (draft, camera, preset) = args.of.view()?;
            let act = Act::new("signs record")
                .with("view", &preset.view)
                .with("replace", args.replace);
            match draft.state_dir.clone() {
                Some(dir) => audited(&dir, act, |act| record::run(&args, (draft, camera, preset), act)),
                // `check` reports it; without a state directory there is no chain.
                None => record::run(&args, (draft, camera, preset), &mut act.clone()),
            }
        }
        Command::List(args) => list(&args),
    }
}

fn list(args: &SignsListArgs) -> Result<ExitCode, Failure> {
    let (_, _, preset) = args.of.view()?;
    let Some(file) = &preset.approved_signs else {
        return Err(no_baseline(&preset));
    };
    let signs = read(file)?;
    if let (Some(picture), Some(overlay)) = (&args.picture, &args.overlay) {
        let picture = frame::open_upright(picture)
            .map_err(|e| Failure::new(Class::Data, format!("{}: {e}", picture.display())))?
            .to_rgb8();
        draw(picture, &signs, 0, overlay)?;
    }
    let text = if args.of.json {
        json_pretty(&signs)?
    } else {
        table(&signs, file)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(signs: &raw::Signs, file: &Path) -> String {
    let mut text = format!(
        "{} approved signs in view of {}, recorded {} with {} ({}).\n",
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
            "{:>4}  {:<12} x {x1:.3} to {x2:.3}, y {y1:.3} to {y2:.3}  {:<10}  {}{}{}",
            i + 1,
            sign.label,
            sign.added.as_deref().unwrap_or_default(),
            sign.note.as_deref().unwrap_or_default(),
            optional(", permit ", sign.permit.as_deref()),
            optional(", until ", sign.valid_until.as_deref()),
        );
    }
    text
}

fn optional(name: &str, value: Option<&str>) -> String {
    value.map(|value| format!("{name}{value}")).unwrap_or_default()
}

fn read(file: &Path) -> Result<raw::Signs, Failure> {
    config::read_signs(file).map_err(|f| Failure::new(f.class(), f.to_string()))
}

fn no_baseline(preset: &Preset) -> Failure {
    let id = &preset.view;
    let message = format!(
        "camera {id} has no baseline; add approved_signs = \"signs/{id}.toml\" to its table in the configuration"
    );
    Failure::new(Class::Config, message)
}

const APPROVED: Rgb<u8> = Rgb([90, 220, 110]);
const NEW: Rgb<u8> = Rgb([255, 214, 0]);

/// Writes `picture` with each sign outlined and numbered: the first `known` in green, the others in yellow.
fn draw(mut picture: RgbImage, signs: &raw::Signs, known: usize, file: &Path) -> Result<(), Failure> {
    let unit = (f64::from(picture.width()) / 960.0).max(1.0);
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    let (mut green, mut yellow) = (Layer::of(&picture), Layer::of(&picture));
    for (i, sign) in signs.signs.iter().enumerate() {
        let layer = if i < known { &mut green } else { &mut yellow };
        let [x1, y1, x2, y2] = sign.corners.map(f64::from);
        let corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)].map(|(x, y)| (x * w, y * h));
        layer.polygon(&corners, 1.2 * unit);
        let (left, top) = corners[0];
        // Above the sign, or inside it at the top edge of the picture.
        let above = top - 16.0 * unit;
        let y = if above < 0.0 { top + 5.0 * unit } else { above };
        layer.text(&(i + 1).to_string(), (left + 3.0 * unit, y), 2.4 * unit);
    }
    for (layer, colour) in [(green, APPROVED), (yellow, NEW)] {
        layer.over_outlined(&mut picture, colour, 2, 0.8);
    }
    private::save_picture_as_named(&picture, file)
        .map_err(|e| Failure::new(Class::Config, format!("cannot write {}: {e}", file.display())))
}

fn corners(bbox: &BBox) -> [f32; 4] {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2]
}
