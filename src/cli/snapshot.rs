//! `gridwatch snapshot`: saves one picture of a camera, to draw zones on.

use std::{io::BufWriter, path::PathBuf, process::ExitCode, time::Duration};

use image::ImageFormat;

use super::{Failure, live::LiveCamera, print, private, starter};
use gridwatch_base::error::Class;
use gridwatch_camera::Backend;
use gridwatch_config::{self as config, Camera, Faults};

/// Save one picture of a camera.
///
/// Connects as the daemon does, waits for the next keyframe and writes it, to draw zones on or to see why nothing is found. Faces
/// and plates are not masked: only you can read the file; keep it on the box.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch snapshot gate-east --config edge.toml --out gate.jpg
  gridwatch snapshot rtsp://admin:secret@192.0.2.10/stream --out gate.png

Exit codes: 0 written; 3 the configuration, the URL or the login is wrong; 4 the camera cannot be reached or sends no picture;
5 its picture is damaged.")]
pub struct SnapshotArgs {
    /// Camera id in the configuration, or a stream URL.
    #[arg(value_name = "CAMERA|URL")]
    camera: String,
    /// Configuration file that has the camera.
    #[arg(long, value_name = "FILE", env = "GRIDWATCH_CONFIG")]
    config: Option<PathBuf>,
    /// File to write: .jpg, .png, .webp or .bmp. An existing one is replaced.
    #[arg(long, value_name = "FILE", default_value = "snapshot.jpg")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration or URL, a camera that sends no picture, or a file that cannot be written.
pub fn run(args: &SnapshotArgs) -> Result<ExitCode, Failure> {
    let (camera, name, decoders) = if args.camera.contains("://") {
        let camera = stream(&args.camera)?;
        let name = starter::shown_url(&camera.url);
        (camera, name, Backend::Auto)
    } else {
        let (camera, decoders) = configured(args)?;
        let name = format!("camera {}", camera.id);
        (camera, name, decoders)
    };
    let format = ImageFormat::from_path(&args.out)
        .ok()
        .filter(ImageFormat::writing_enabled)
        .ok_or_else(|| {
            Failure::new(
                Class::Config,
                format!("--out {}: expected .jpg, .png, .webp or .bmp", args.out.display()),
            )
        })?;
    let unwritable =
        |e: &dyn std::fmt::Display| Failure::new(Class::Config, format!("cannot write {}: {e}", args.out.display()));
    // Beside the target and renamed, so that a full disk costs no earlier picture. Readable by this user only.
    let mut file = private::new_beside(&args.out).map_err(|e| unwritable(&e))?;
    let mut live = LiveCamera::start(&camera, name.clone(), decoders)?;
    let frame = live.next(Duration::ZERO)?;
    let picture = frame
        .to_rgb()
        .map_err(|e| Failure::new(e.class(), format!("{name}: {e}")))?;
    picture
        .write_to(&mut BufWriter::new(&mut file), format)
        .map_err(|e| unwritable(&e))?;
    file.persist(&args.out).map_err(|e| unwritable(&e.error))?;
    print(&format!(
        "{}: {}×{} pixels, unmasked\n",
        args.out.display(),
        picture.width(),
        picture.height()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// A camera of its own for a stream URL.
pub(super) fn stream(url: &str) -> Result<Camera, Failure> {
    let (url, credentials) = starter::stream_url(url)?;
    Ok(Camera::at(url, credentials))
}

fn configured(args: &SnapshotArgs) -> Result<(Camera, Backend), Failure> {
    let Some(file) = &args.config else {
        let message = format!(
            "{} is no URL; name the configuration that has this camera with --config",
            args.camera
        );
        return Err(Failure::new(Class::Config, message));
    };
    let draft = config::examine(file);
    if let Some(camera) = draft.cameras.iter().find(|c| c.id.as_str() == args.camera) {
        // What stands in for a faulty setting may send the password to the wrong host.
        if let Some(faults) = draft.connection_faults.get(&camera.id) {
            return Err(Faults(faults.clone()).into());
        }
        return Ok((camera.clone(), draft.decoders.unwrap_or_default()));
    }
    if !draft.faults.is_empty() {
        return Err(Faults(draft.faults).into());
    }
    let known: Vec<&str> = draft.cameras.iter().map(|c| c.id.as_str()).collect();
    let message = format!(
        "no camera has the id {:?}; the configuration has {}",
        args.camera,
        known.join(", ")
    );
    Err(Failure::new(Class::Config, message))
}
