//! `gridwatch keys`: shows, rotates or replaces the box's signing key.

use std::{io, path::Path, process::ExitCode};

use jiff::Timestamp;

use super::{Failure, audited::audited, options::StateArgs, print};
use crate::audit::Act;
use gridwatch_base::error::Class;
use gridwatch_custody::{
    PublicKey,
    keys::{KeyError, KeyRing, public_pem},
};
use gridwatch_store::Store;

/// Show or rotate the key that signs the box's cases.
///
/// The daemon creates the private key in keys/ of the state directory at its first start; it never leaves the box. Verifying
/// evidence needs the public key: hand it to the platform when the box is installed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch keys show --config /etc/gridwatch/edge.toml > box-01.pub
  gridwatch keys show --pem                       for openssl
  gridwatch keys rotate                           with the daemon stopped")]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the public key.
    Show {
        /// Print it as PEM, for openssl.
        #[arg(long)]
        pem: bool,
    },
    /// Replace the signing key with a new one.
    ///
    /// The old key signs the hand-over to the new one in the box's chain and is then deleted, so that anyone who holds the old
    /// public key can verify the new one. Earlier signatures stay valid. Stop the daemon first. Prints the new public key.
    Rotate,
    /// Create a signing key if it is missing.
    ///
    /// On purpose only, after the keys were lost: the daemon refuses to start without the key that it had. Cases signed so far keep
    /// verifying with the old public key; give the platform the new one. Stop the daemon first. Prints the public key.
    New,
}

/// Runs the command.
///
/// # Errors
/// No key, no state directory, or a running daemon that holds the state directory's lock.
pub fn run(args: &KeysArgs) -> Result<ExitCode, Failure> {
    let dir = args.state.dir()?;
    let public = match &args.command {
        Command::New => audited(&dir, Act::new("keys new"), |act| {
            let public = gridwatch_store::create_missing_keys(&dir)?;
            act.add("public_key", &public);
            Ok::<_, Failure>(format!("{public}\n"))
        })?,
        Command::Show { pem: true } => public_pem(&public_key(&dir)?),
        Command::Show { pem: false } => format!("{}\n", public_key(&dir)?),
        Command::Rotate => audited(&dir, Act::new("keys rotate"), |act| {
            // Fails if there is no database, so that `Store::open` does not create one.
            drop(Store::open_read_only(&dir)?);
            let public = Store::open(&dir)?.rotate_key(Timestamp::now())?.public();
            act.add("public_key", &public);
            Ok::<_, Failure>(format!("{public}\n"))
        })?,
    };
    print(&public)?;
    Ok(ExitCode::SUCCESS)
}

/// The public key of the box. Only the owner of the private key can read that; for others the chain of custody has the public one.
fn public_key(dir: &Path) -> Result<PublicKey, Failure> {
    match KeyRing::of(dir).existing() {
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            let newest = Store::open_read_only(dir)?.chain_keys()?.into_iter().next();
            let parsed = newest.and_then(|key| key.parse().ok());
            parsed.ok_or_else(|| Failure::new(Class::Data, format!("no public key in the chain in {}", dir.display())))
        }
        key => Ok(key?.public()),
    }
}
