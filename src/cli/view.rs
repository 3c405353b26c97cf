//! `gridwatch view`: how the cameras' aims are, what they look at, and that a new one is right. Works beside the daemon,
//! through files of its state directory.

use std::{
    fmt::Write,
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use image::{GrayImage, Rgb, RgbImage, imageops};
use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, layer::Layer, print};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Aim, Camera, Config, Preset};
use gridwatch_engine::{CameraId, Point, ZoneKind};
use gridwatch_vision::views::{Files, Request, Standing, Status};

/// Sees to cameras that were moved.
///
/// The daemon learns from its first looks what each camera looks at. When a camera looks elsewhere, its zones and its calibration
/// no longer fit, so nothing is confirmed or cleared there until it is back, or until you say that the new view is right:
///
/// 1. `gridwatch view list` names the cameras that were moved.
/// 2. `gridwatch view show CAMERA --out view.png` draws the zones into the learned view and into the newest look.
/// 3. Aim the camera back; that is noticed. Or mend its zones and calibration in the configuration, restart the daemon, and
/// 4. `gridwatch view confirm CAMERA`: the daemon forgets the old view and what was seen in it, and learns the new one.
///    Open cases stay as they are.
///
/// A camera that turns must be shown each of its presets once: aim it there, and `gridwatch view confirm CAMERA.PRESET`. From then
/// on it is recognised; what the camera sees between its presets, or where somebody steers it, is not judged.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The configuration that the daemon runs with.
    #[arg(
        long,
        short,
        value_name = "FILE",
        global = true,
        required = false,
        env = "GRIDWATCH_CONFIG"
    )]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// How each camera's aim is, and since when.
    List {
        /// Print JSON: a line per camera.
        #[arg(long)]
        json: bool,
    },
    /// Draw the zones into the learned view and into the newest look, side by side.
    ///
    /// Below them the two pictures lie over each other, the learned one red and the newest one cyan: what is grey is where
    /// it was. The pictures are small and grey, 320 pixels across, which is what views are judged by.
    Show {
        /// Which camera; of one that turns CAMERA.PRESET, which is shown when the camera comes there.
        camera: String,
        /// Where to write the picture (PNG).
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Wait this long, in seconds, for the daemon's next look; then the newest that it wrote is shown.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Say that what the camera looks at now is right; of a camera that turns, that it stands at the preset now.
    Confirm {
        /// Which camera; of one that turns CAMERA.PRESET. Hold it still there until the command has ended.
        camera: String,
        /// Wait this long, in seconds, until the daemon has taken it; it takes it at its next look in any case.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, a camera that it does not name, files that cannot be read or written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let Some(file) = &args.config else {
        return Err(Failure::new(
            Class::Config,
            "no configuration is named; write --config FILE",
        ));
    };
    let config = config::load_unconnected(file)?;
    match &args.command {
        Command::List { json } => list(&config, *json),
        Command::Show { camera, out, wait } => {
            let (_, preset) = known(&config, camera)?;
            show(&config, preset, out, Duration::from_secs(*wait))
        }
        Command::Confirm { camera, wait } => {
            let (camera, preset) = known(&config, camera)?;
            confirm(&config, camera, preset, Duration::from_secs(*wait))
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn known<'a>(config: &'a Config, id: &str) -> Result<(&'a Camera, &'a Preset), Failure> {
    config::view_called(&config.cameras, id).ok_or_else(|| {
        let names = config::view_names(&config.cameras);
        let message = format!("no camera has the id {id:?}; there are {names}");
        Failure::new(Class::Config, message)
    })
}

#[derive(Serialize)]
struct Line<'a> {
    camera: &'a CameraId,
    /// False where the camera turns.
    fixed: bool,
    /// Which of the presets of a camera that turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<&'a str>,
    #[serde(flatten)]
    status: Option<Status>,
}

fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let mut text = String::new();
    let views = config
        .cameras
        .iter()
        .flat_map(|c| c.presets.iter().map(move |p| (c, p)));
    for (camera, preset) in views {
        let status = Files::new(&config.state_dir, preset.view.clone()).status()?;
        let is_watched = camera.aim != Aim::Unwatched;
        if json {
            let line = Line {
                camera: &preset.view,
                fixed: camera.aim == Aim::Fixed,
                preset: preset.id.as_deref(),
                status: status.filter(|_| is_watched),
            };
            text += &serde_json::to_string(&line).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
            text.push('\n');
            continue;
        }
        let told = match status {
            _ if !is_watched => "turns by itself (fixed = false): nothing tells whether its zones fit".into(),
            None => "was not looked at yet".into(),
            Some(Status {
                standing, since, shift, ..
            }) => {
                let since = since.to_zoned(config.timezone.clone()).strftime("%F %H:%M:%S");
                match (standing, shift) {
                    (Standing::Learning, _) if preset.id.is_some() => {
                        format!(
                            "NOT KNOWN by sight: aim the camera there, then: gridwatch view confirm {}",
                            preset.view
                        )
                    }
                    (Standing::Learning, _) => format!("learning  since {since}"),
                    (Standing::Aimed, _) => format!("aimed     since {since}"),
                    (Standing::Moved, _) if preset.id.is_some() => {
                        format!("MISSED    since {since}: the camera does not come to it any more")
                    }
                    (Standing::Moved, Some(shift)) => format!("MOVED     since {since}: {shift}"),
                    (Standing::Moved, None) => format!("MOVED     since {since}: nothing of the view is found"),
                }
            }
        };
        let _ = writeln!(text, "{:<24} {told}", preset.view.as_str());
    }
    print(&text)
}

fn confirm(config: &Config, camera: &Camera, preset: &Preset, wait: Duration) -> Result<(), Failure> {
    let id = &preset.view;
    if camera.aim == Aim::Unwatched {
        let message = format!("camera {id} turns by itself (fixed = false): nothing is learned of it");
        return Err(Failure::new(Class::Config, message));
    }
    let files = Files::new(&config.state_dir, id.clone());
    let (begin, asked_at) = (Instant::now(), Timestamp::now());
    files.request(Request::Confirm)?;
    if !is_taken(&files, wait) {
        let message = format!(
            "the daemon has not looked at camera {} for {} s; it takes the confirmation at its next look",
            camera.id,
            wait.as_secs()
        );
        return Err(Failure::new(Class::Transient, message));
    }
    if preset.id.is_none() {
        return print(&format!(
            "Camera {id} is taken to look where it should: the daemon learns its view anew.\n"
        ));
    }
    // Which of its presets a camera shows is believed of a person alone, and while the camera stands still.
    while begin.elapsed() < wait {
        if files
            .status()?
            .is_some_and(|s| s.standing == Standing::Aimed && s.since >= asked_at)
        {
            return print(&format!(
                "Preset {id} is known by sight: what the camera sees there is judged.\n"
            ));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let message = format!(
        "preset {id} was not learned within {} s: hold the camera still at it for some looks; the daemon's log says more",
        wait.as_secs()
    );
    Err(Failure::new(Class::Transient, message))
}

/// Waits until the daemon has taken the request.
fn is_taken(files: &Files, wait: Duration) -> bool {
    let end = Instant::now() + wait;
    while files.is_asked() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
    true
}

fn show(config: &Config, preset: &Preset, out: &PathBuf, wait: Duration) -> Result<(), Failure> {
    let id = &preset.view;
    let files = Files::new(&config.state_dir, id.clone());
    let before = files.newest()?.map(|(_, at)| at);
    files.request(Request::Picture)?;
    let is_taken = is_taken(&files, wait);
    // It is taken when the look begins; the picture is written when it is decoded.
    let end = Instant::now() + Duration::from_secs(10);
    while is_taken && files.newest()?.map(|(_, at)| at) == before && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    files.take_back()?;
    let kept = files.kept()?.unwrap_or_default();
    let newest = files.newest()?;
    if let (false, Some((_, at))) = (is_taken, &newest) {
        let at = at.to_zoned(config.timezone.clone());
        eprintln!(
            "The daemon did not look at camera {id} meanwhile; the newest look that it wrote is of {}.",
            at.strftime("%F %H:%M:%S")
        );
    }
    let learned = kept
        .references
        .iter()
        .max_by_key(|(_, reference, _)| reference.renewed_at());
    let learned = learned.and_then(|(_, _, picture)| picture.to_gray());
    let newest = newest.map(|(picture, _)| picture);
    if learned.is_none() && newest.is_none() {
        let message = format!(
            "nothing is kept of camera {id} in {}, and the daemon writes nothing: is it running?",
            config.state_dir.display()
        );
        return Err(Failure::new(Class::Transient, message));
    }
    let zones = drawn_zones(config, preset);
    let picture = beside(learned.as_ref(), newest.as_ref(), &zones);
    picture
        .save_with_format(out, image::ImageFormat::Png)
        .map_err(|e| Failure::new(Class::Config, format!("--out {}: {e}", out.display())))?;
    if learned.is_none() {
        eprintln!("Nothing is learned of camera {id} yet; the newest look alone is drawn.");
    }
    Ok(())
}

/// Its zones with the colour of their kind.
fn drawn_zones(config: &Config, preset: &Preset) -> Vec<(Vec<Point>, Rgb<u8>)> {
    let zones = config.plan.cameras.get(&preset.view).map(|plan| &plan.zones);
    let coloured = zones.into_iter().flatten().map(|zone| {
        let colour = match &zone.kind {
            ZoneKind::Watch => Rgb([90, 220, 90]),
            ZoneKind::Exclude => Rgb([255, 80, 80]),
            ZoneKind::Permitted { .. } => Rgb([90, 160, 255]),
            ZoneKind::Container => Rgb([255, 200, 60]),
            ZoneKind::Shop => Rgb([220, 120, 255]),
        };
        (zone.polygon.clone(), colour)
    });
    let private = preset.privacy.iter().map(|p| (p.clone(), Rgb([20, 20, 20])));
    coloured.chain(private).collect()
}

/// Across each of the pictures that are shown.
const SHOWN: u32 = 640;
const GAP: u32 = 8;

/// Learned, newest, and below them the two over each other.
fn beside(learned: Option<&GrayImage>, newest: Option<&GrayImage>, zones: &[(Vec<Point>, Rgb<u8>)]) -> RgbImage {
    let size = |p: &GrayImage| (SHOWN, (SHOWN * p.height() / p.width().max(1)).max(1));
    let enlarged = |p: &GrayImage| imageops::resize(p, size(p).0, size(p).1, imageops::FilterType::Triangle);
    let (learned, newest) = (learned.map(enlarged), newest.map(enlarged));
    let high = learned.iter().chain(&newest).map(GrayImage::height).max().unwrap_or(1);
    let both = learned.as_ref().zip(newest.as_ref());
    let rows = if both.is_some() { 2 } else { 1 };
    let mut sheet = RgbImage::from_pixel(2 * SHOWN + GAP, rows * (high + GAP), Rgb([60; 3]));
    for (i, picture) in (0..).zip([&learned, &newest]) {
        let Some(picture) = picture else { continue };
        let mut drawn = RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            Rgb([picture.get_pixel(x, y)[0]; 3])
        });
        draw(&mut drawn, zones);
        imageops::replace(&mut sheet, &drawn, i * i64::from(SHOWN + GAP), 0);
    }
    if let Some((learned, newest)) = both {
        let over = RgbImage::from_fn(SHOWN, learned.height().min(newest.height()), |x, y| {
            let (old, new) = (learned.get_pixel(x, y)[0], newest.get_pixel(x, y)[0]);
            Rgb([old, new, new])
        });
        imageops::replace(&mut sheet, &over, 0, (high + GAP).into());
    }
    sheet
}

fn draw(picture: &mut RgbImage, zones: &[(Vec<Point>, Rgb<u8>)]) {
    let (w, h) = (f64::from(picture.width()), f64::from(picture.height()));
    for (polygon, colour) in zones {
        let mut line = Layer::of(picture);
        let next = polygon.iter().cycle().skip(1);
        for (a, b) in polygon.iter().zip(next) {
            line.line((a.x * w, a.y * h), (b.x * w, b.y * h), 1.2);
        }
        line.clone().grown().over(picture, Rgb([0; 3]), 0.6);
        line.over(picture, *colour, 1.0);
    }
}
