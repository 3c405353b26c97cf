//! `gridwatch keys`: what the box signs its cases with.

use std::process::ExitCode;

use jiff::Timestamp;

use super::{Failure, print, state::State};
use gridwatch_custody::keys::{KeyRing, public_pem};
use gridwatch_store::Store;

/// Show or change the key that the box signs its cases with.
///
/// The key is made at the daemon's first start, in keys/ of the state directory, and never leaves it. Who checks evidence needs the
/// public one: give it to the platform when the box is set up, before anybody has a reason to forge it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: State,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the public key.
    Show {
        /// As PEM, for openssl.
        #[arg(long)]
        pem: bool,
    },
    /// Make a new key and sign with it from here on.
    ///
    /// The old key hands over to it in the box's chain, so that who knows the old one can follow; then it is gone. What was signed
    /// with it stays good. The daemon must be stopped.
    Rotate,
}

/// Runs the command.
///
/// # Errors
/// No key, no state directory, or a daemon that runs on it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let dir = args.state.dir()?;
    let public = match &args.command {
        Command::Show { pem: true } => public_pem(&KeyRing::of(&dir).existing()?.public()),
        Command::Show { pem: false } => format!("{}\n", KeyRing::of(&dir).existing()?.public()),
        Command::Rotate => {
            // Makes nothing where there is no box.
            drop(Store::open_read_only(&dir)?);
            let mut store = Store::open(&dir)?;
            format!("{}\n", store.rotate_key(Timestamp::now())?.public())
        }
    };
    print(&public)?;
    Ok(ExitCode::SUCCESS)
}
