//! `gridwatch view`: lists, shows and confirms the cameras' views. Talks to the running daemon through files in its state
//! directory.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use image::{GrayImage, Rgb, RgbImage, imageops};
use jiff::Timestamp;
use serde::Serialize;

use super::{Failure, json_line, layer::Layer, options::ConfigArgs, print, private};
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Aim, Camera, Config, Preset};
use gridwatch_custody::{
    keys::{KeyRing, OriginalsKey},
    vault::VaultKey,
};
use gridwatch_engine::{CameraId, Point, ZoneKind};
use gridwatch_vision::views::{Standing, ViewFiles, ViewRequest, ViewStatus};

/// Confirm or re-learn a camera's view
///
/// The daemon learns each camera's view from its first looks. When a camera has been moved, its zones and
/// calibration no longer apply, so no case is confirmed or cleared there until it is back, or until you confirm
/// the new view:
///
/// 1. `gridwatch view list` lists the cameras that have moved.
/// 2. `gridwatch view show CAMERA --out view.png` draws the zones over the learned view and the newest look.
/// 3. Aim the camera back; the daemon notices. Or, if the new view is intended, correct its zones and
///    calibration in the configuration, restart the daemon, and
/// 4. run `gridwatch view confirm CAMERA`: the daemon discards the old view and what was seen in it, and learns
///    the new one. Open cases are kept.
///
/// For a PTZ camera, teach the daemon each preset once: move the camera there and run
/// `gridwatch view confirm CAMERA.PRESET`. The daemon then recognises the preset by its picture. Looks between
/// presets, or under manual control, are ignored.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ViewArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the view state of each camera, and since when.
    List {
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// Draw the zones over the learned view and over the newest look, side by side.
    ///
    /// Below them the two pictures are blended, the learned one in red and the newest in cyan: unchanged parts are grey. The
    /// pictures are the 320-pixel greyscale ones that views are compared with.
    Show {
        /// Camera id, or CAMERA.PRESET for a PTZ camera (taken when the camera next reaches the preset).
        camera: String,
        /// PNG file to write; only you can read it. Faces and plates are not masked.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Seconds to wait for the daemon's next look; after that the newest saved look is drawn.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
    /// Confirm that the camera's current view is right; for a PTZ camera, that it is at the preset now.
    Confirm {
        /// Camera id, or CAMERA.PRESET for a PTZ camera, which must stay there until the command ends.
        camera: String,
        /// Seconds to wait for the daemon to process the confirmation; it is processed at the next look in any case.
        #[arg(long, default_value_t = 60)]
        wait: u64,
    },
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, an unknown camera, no answer from the daemon, or files that cannot be read or written.
pub fn run(args: &ViewArgs) -> Result<ExitCode, Failure> {
    let config = args.config.load()?;
    match &args.command {
        Command::List { json } => list(&config, *json),
        Command::Show { camera, out, wait } => {
            let (_, preset) = find_view(&config, camera)?;
            show(&config, preset, out, Duration::from_secs(*wait))
        }
        Command::Confirm { camera, wait } => {
            let (camera, preset) = find_view(&config, camera)?;
            confirm(&config, camera, preset, Duration::from_secs(*wait))
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn find_view<'a>(config: &'a Config, id: &str) -> Result<(&'a Camera, &'a Preset), Failure> {
    config::find_view(&config.cameras, id).ok_or_else(|| {
        let names = config::view_names(&config.cameras);
        let message = format!("no camera has the id {id:?}; the configuration has {names}");
        Failure::new(Class::Config, message)
    })
}

/// A line of `view list --json`.
#[derive(Serialize)]
struct ViewLine<'a> {
    camera: &'a CameraId,
    /// False for a PTZ camera.
    fixed: bool,
    /// The preset of a PTZ camera.
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<&'a str>,
    #[serde(flatten)]
    status: Option<ViewStatus>,
}

fn list(config: &Config, json: bool) -> Result<(), Failure> {
    let mut text = String::new();
    let views = config
        .cameras
        .iter()
        .flat_map(|c| c.presets.iter().map(move |p| (c, p)));
    for (camera, preset) in views {
        let status = ViewFiles::new(&config.state_dir, preset.view.clone(), None).status()?;
        let is_watched = camera.aim != Aim::Unwatched;
        if json {
            let line = ViewLine {
                camera: &preset.view,
                fixed: camera.aim == Aim::Fixed,
                preset: preset.id.as_deref(),
                status: status.filter(|_| is_watched),
            };
            text += &json_line(&line)?;
            continue;
        }
        let state = match status {
            _ if !is_watched => "not checked: moves by itself (fixed = false)".into(),
            None => "no look yet".into(),
            Some(ViewStatus {
                standing, since, shift, ..
            }) => {
                let since = since.to_zoned(config.timezone.clone()).strftime("%F %H:%M:%S");
                match (standing, shift) {
                    (Standing::Learning, _) if preset.id.is_some() => {
                        format!(
                            "UNKNOWN: move the camera there, then run `gridwatch view confirm {}`",
                            preset.view
                        )
                    }
                    (Standing::Learning, _) => format!("learning  since {since}"),
                    (Standing::Aimed, _) => format!("aimed     since {since}"),
                    (Standing::Moved, _) if preset.id.is_some() => {
                        format!("MISSED    since {since}: the camera no longer reaches this preset")
                    }
                    (Standing::Moved, Some(shift)) => format!("MOVED     since {since}: {shift}"),
                    (Standing::Moved, None) => format!("MOVED     since {since}: no part of the learned view found"),
                }
            }
        };
        let _ = writeln!(text, "{:<24} {state}", preset.view.as_str());
    }
    print(&text)
}

fn confirm(config: &Config, camera: &Camera, preset: &Preset, wait: Duration) -> Result<(), Failure> {
    let id = &preset.view;
    if camera.aim == Aim::Unwatched {
        let message = format!("camera {id} moves by itself (fixed = false), so it has no view to confirm");
        return Err(Failure::new(Class::Config, message));
    }
    let files = ViewFiles::new(&config.state_dir, id.clone(), None);
    let (begin, requested_at) = (Instant::now(), Timestamp::now());
    files.request(ViewRequest::Confirm)?;
    if !wait_for_daemon(&files, wait) {
        let message = format!(
            "the daemon took no look at camera {} within {} s; it processes the confirmation at its next look",
            camera.id,
            wait.as_secs()
        );
        return Err(Failure::new(Class::Transient, message));
    }
    if preset.id.is_none() {
        return print(&format!(
            "View of camera {id} confirmed; the daemon is learning it again.\n"
        ));
    }
    // Only a person can say which preset a camera is at, and only while it stands still.
    while begin.elapsed() < wait {
        if files
            .status()?
            .is_some_and(|s| s.standing == Standing::Aimed && s.since >= requested_at)
        {
            return print(&format!("Preset {id} learned; its looks are now evaluated.\n"));
        }
        thread::sleep(Duration::from_millis(100));
    }
    let message = format!(
        "preset {id} was not learned within {} s: keep the camera at it for several looks, and see the daemon's log",
        wait.as_secs()
    );
    Err(Failure::new(Class::Transient, message))
}

/// Waits until the daemon has picked up the request; false on timeout.
fn wait_for_daemon(files: &ViewFiles, wait: Duration) -> bool {
    let end = Instant::now() + wait;
    while files.has_request() {
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(100));
    }
    true
}

/// The key of the pictures in `views`: that of the originals, or the box's own if none are kept. `None` before the daemon's
/// first start.
pub(super) fn pictures_key(
    state_dir: &Path,
    originals: Option<&OriginalsKey>,
) -> Result<Option<Arc<VaultKey>>, Failure> {
    let place = originals.unwrap_or(&OriginalsKey::Own);
    let key = KeyRing::of(state_dir).existing_originals(place);
    Ok(key.map_err(|e| Failure::new(e.class(), e.to_string()))?.map(Arc::new))
}

fn show(config: &Config, preset: &Preset, out: &Path, wait: Duration) -> Result<(), Failure> {
    let id = &preset.view;
    let key = pictures_key(&config.state_dir, config.evidence.originals.as_ref())?;
    let files = ViewFiles::new(&config.state_dir, id.clone(), key);
    let before = files.newest()?.map(|(_, at)| at);
    files.request(ViewRequest::Picture)?;
    let is_taken = wait_for_daemon(&files, wait);
    // The request is picked up when the look begins; the picture is written once it is decoded.
    let end = Instant::now() + Duration::from_secs(10);
    while is_taken && files.newest()?.map(|(_, at)| at) == before && Instant::now() < end {
        thread::sleep(Duration::from_millis(50));
    }
    files.cancel_request()?;
    let kept = files.load()?.unwrap_or_default();
    let newest = files.newest()?;
    if let (false, Some((_, at))) = (is_taken, &newest) {
        let at = at.to_zoned(config.timezone.clone());
        eprintln!(
            "The daemon took no look at camera {id} in that time; drawing the last saved one, from {}.",
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
            "no picture of camera {id} in {}, and the daemon does not answer; check that it is running",
            config.state_dir.display()
        );
        return Err(Failure::new(Class::Transient, message));
    }
    let zones = coloured_zones(config, preset);
    let picture = comparison(learned.as_ref(), newest.as_ref(), &zones);
    private::save_picture(&picture, image::ImageFormat::Png, out)
        .map_err(|e| Failure::new(Class::Config, format!("--out {}: {e}", out.display())))?;
    if learned.is_none() {
        eprintln!("The view of camera {id} is not learned yet; only the newest look is drawn.");
    }
    Ok(())
}

/// The zones and privacy masks of a view, each with a colour for its kind.
fn coloured_zones(config: &Config, preset: &Preset) -> Vec<(Vec<Point>, Rgb<u8>)> {
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

/// Width of each picture on the sheet, pixels.
const PICTURE_WIDTH: u32 = 640;
const GAP: u32 = 8;

/// The learned view, the newest look, and below them their red/cyan blend.
fn comparison(learned: Option<&GrayImage>, newest: Option<&GrayImage>, zones: &[(Vec<Point>, Rgb<u8>)]) -> RgbImage {
    let size = |p: &GrayImage| (PICTURE_WIDTH, (PICTURE_WIDTH * p.height() / p.width().max(1)).max(1));
    let enlarged = |p: &GrayImage| imageops::resize(p, size(p).0, size(p).1, imageops::FilterType::Triangle);
    let (learned, newest) = (learned.map(enlarged), newest.map(enlarged));
    let high = learned.iter().chain(&newest).map(GrayImage::height).max().unwrap_or(1);
    let both = learned.as_ref().zip(newest.as_ref());
    let rows = if both.is_some() { 2 } else { 1 };
    let mut sheet = RgbImage::from_pixel(2 * PICTURE_WIDTH + GAP, rows * (high + GAP), Rgb([60; 3]));
    for (i, picture) in (0..).zip([&learned, &newest]) {
        let Some(picture) = picture else { continue };
        let mut drawn = RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
            Rgb([picture.get_pixel(x, y)[0]; 3])
        });
        draw(&mut drawn, zones);
        imageops::replace(&mut sheet, &drawn, i * i64::from(PICTURE_WIDTH + GAP), 0);
    }
    if let Some((learned, newest)) = both {
        let over = RgbImage::from_fn(PICTURE_WIDTH, learned.height().min(newest.height()), |x, y| {
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
        let corners: Vec<(f64, f64)> = polygon.iter().map(|p| (p.x * w, p.y * h)).collect();
        let mut layer = Layer::of(picture);
        layer.polygon(&corners, 1.2);
        layer.over_outlined(picture, *colour, 1, 0.6);
    }
}
