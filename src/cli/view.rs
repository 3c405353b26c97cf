//! `gridwatch view`: lists, shows and confirms the cameras' views, and absorbs what is new in them. Talks to the running daemon
//! through files in its state directory.

mod absorb;
mod list;
mod show;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Failure, audited::audited, options::ConfigArgs, print};
use crate::audit::Act;
use gridwatch_base::error::Class;
use gridwatch_config as config;
use gridwatch_config::{Aim, Camera, Config, Preset};
use gridwatch_custody::{
    keys::{KeyRing, OriginalsKey},
    vault::VaultKey,
};
use gridwatch_vision::views::{Standing, ViewFiles, ViewRequest};

/// Confirm or re-learn a camera's view
///
/// The daemon learns each camera's view from its first looks. When a camera has been moved, its zones and
/// calibration no longer apply, so no case is confirmed or cleared there until it is back, or until you confirm
/// the new view:
///
/// 1. `gridwatch view list` lists the cameras that have moved.
/// 2. `gridwatch view show CAMERA --out view.png` draws the zones over the learned view and the newest look.
/// 3. Aim the camera back; the daemon notices. Or, if the new view is intended, correct its zones and
///    calibration in the configuration (they take effect when saved), and
/// 4. run `gridwatch view confirm CAMERA`: the daemon discards the old view and what was seen in it, and learns
///    the new one. Open cases are kept.
///
/// For a PTZ camera, teach the daemon each preset once: move the camera there and run
/// `gridwatch view confirm CAMERA.PRESET`. The daemon then recognises the preset by its picture. Looks between
/// presets, or under manual control, are ignored.
///
/// What is new in a view and stays is a new region. `view list` lists the new regions, unexplained ones first; an
/// unexplained one may be a problem that no rule covers. If it belongs to the street, `gridwatch view absorb`
/// makes it part of the background.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ViewArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, clap::Subcommand)]
#[allow(
    missing_docs,
    reason = "the help text of `absorb` is on its Args; clap would print a variant's doc comment instead"
)]
enum Command {
    /// List the view state of each camera, and what is new in it.
    ///
    /// Below each view: whether its looks are compared with the learned background, in how many lights it is learned, and the regions
    /// that are new and still, with box, score (how likely a thing rather than a change of light) and since when. The daemon writes
    /// this down when regions come or go, at most every minute.
    List {
        /// Print JSON Lines.
        #[arg(long)]
        json: bool,
    },
    /// Draw the zones over the learned view and over the newest look, side by side.
    ///
    /// Over the newest look, what is new is boxed too, with its score and since when: in red what nothing explains, else in orange.
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
    Absorb(absorb::AbsorbArgs),
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, an unknown camera, no answer from the daemon, or files that cannot be read or written.
pub fn run(args: &ViewArgs) -> Result<ExitCode, Failure> {
    let config = args.config.load()?;
    match &args.command {
        Command::List { json } => list::run(&config, *json),
        Command::Show { camera, out, wait } => {
            let act = Act::new("view show").with("view", camera).with_path("out", out);
            audited(&config.state_dir, act, |_| {
                let (_, preset) = find_view(&config, camera)?;
                show::run(&config, preset, out, Duration::from_secs(*wait))
            })
        }
        Command::Confirm { camera, wait } => {
            audited(&config.state_dir, Act::new("view confirm").with("view", camera), |_| {
                let (camera, preset) = find_view(&config, camera)?;
                confirm(&config, camera, preset, Duration::from_secs(*wait))
            })
        }
        Command::Absorb(args) => audited(&config.state_dir, Act::new("view absorb"), |act| {
            absorb::run(&config, args, act)
        }),
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
