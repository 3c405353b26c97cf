//! `gridwatch take-over`: lets this box use its node id although another box does.

use std::{path::Path, process::ExitCode};

use super::{Failure, audited::audited, options::StateArgs, terminal::note};
use crate::audit::Act;
use gridwatch_base::{error::Class, installation};

/// Use this box's node id although another box uses it.
///
/// Two boxes with one `node.id`, such as a cloned disk, would keep disconnecting each other and file every problem twice. The
/// one that starts later notices the other, publishes no case and says so in its log and in /readyz. Usually one of them
/// needs another `node.id`. Run this where the other box is gone for good, or on the box that is to keep the id: within
/// seconds the daemon here connects and publishes, and the other one stops.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  gridwatch take-over --config /etc/gridwatch/edge.toml")]
pub struct TakeOverArgs {
    #[command(flatten)]
    state: StateArgs,
}

/// Runs the command.
///
/// # Errors
/// No state directory of a gridwatch that has run, or it is not writable.
pub fn run(args: &TakeOverArgs) -> Result<ExitCode, Failure> {
    let dir = args.state.dir()?;
    audited(&dir, Act::new("take-over"), |_| request(&dir))?;
    note("Requested: the daemon takes the node id over within seconds, or when it starts.");
    Ok(ExitCode::SUCCESS)
}

fn request(dir: &Path) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new(Class::Config, format!("{}: {reason}", dir.display()));
    if !dir.is_dir() {
        return Err(failed(
            "no such state directory; start the daemon once, or correct --state".into(),
        ));
    }
    if !gridwatch_store::is_state_dir(dir) {
        return Err(failed(
            "not the state directory of a gridwatch that has run; start the daemon once, or correct --state".into(),
        ));
    }
    installation::request_take_over(dir).map_err(|e| {
        failed(format!(
            "cannot write the request: {e}; run this as the user of the daemon"
        ))
    })
}
