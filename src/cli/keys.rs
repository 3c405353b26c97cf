//! `gridwatch keys`: shows, creates and rotates the keys of the box.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    Failure,
    audited::audited,
    options::{BoxState, StateArgs},
    print,
    terminal::note,
};
use crate::audit::Act;
use gridwatch_base::{error::Class, text::counted};
use gridwatch_custody::{
    PublicKey,
    keys::{KeyError, KeyRing, OriginalsKey, SigningKeyPlace, public_pem},
    reencrypt::{Progress, Reencrypted, reencrypt},
};
use gridwatch_store::Store;

/// Show, create or rotate the keys of the box.
///
/// The daemon creates the private key that signs cases in keys/ of the state directory at its first start, unless evidence.signing_key
/// names one in a token; it never leaves the box. Verifying evidence needs the public key: hand it to the platform when the box is
/// installed. Give --config if the configuration places keys elsewhere than in the state directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch keys show --config /etc/gridwatch/edge.toml > box-01.pub
  gridwatch keys show --pem                       for openssl
  gridwatch keys rotate                           with the daemon stopped
  gridwatch keys rotate --originals               with the daemon stopped")]
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
    /// Replace the signing key, or with --originals the key that encrypts originals.
    ///
    /// The old signing key signs the hand-over to the new one in the box's chain, so that anyone who holds the old public key can verify the
    /// new one. Earlier signatures stay valid. The new key is the one that the configuration names: in the state directory it is
    /// generated, and the old one deleted; in a token it must exist (`gridwatch keys new`). Stop the daemon first. Prints the new public key.
    Rotate {
        /// The token key that signs so far, as a PKCS#11 URI. [default: the key in the state directory]
        #[arg(long, value_name = "URI", conflicts_with = "originals")]
        from: Option<String>,
        /// Replace the key of the originals: encrypts originals, pictures of views and candidates' first pictures with a new one.
        ///
        /// May be interrupted at any moment, and is finished by running it again; everything can be decrypted meanwhile. A key in the state
        /// directory is generated. Otherwise put the new key in the place of the old one first, and name a file with the old one.
        #[arg(long)]
        originals: bool,
        /// File with the previous key of the originals, if the configuration places the key elsewhere than in the state directory.
        #[arg(long, value_name = "FILE", requires = "originals")]
        old_key: Option<PathBuf>,
    },
    /// Create keys that are missing.
    ///
    /// In a token that evidence.signing_key names: Ed25519 if the token can sign with it, else a key on P-256. In the state directory on
    /// purpose only, after the keys were lost: the daemon refuses to start without the keys that it had. Cases signed so far keep verifying
    /// with the old public key; give the platform the new one. Originals of a lost key stay unreadable. Stop the daemon first. Prints the
    /// public key.
    New,
}

/// Runs the command.
///
/// # Errors
/// No key, no state directory, or a running daemon that holds the state directory's lock.
pub fn run(args: &KeysArgs) -> Result<ExitCode, Failure> {
    let located = args.state.locate()?;
    let text = match &args.command {
        Command::New => audited(&located.dir, Act::new("keys new"), |act| create(&located, act))?,
        Command::Show { pem: true } => public_pem(&public_key(&located)?),
        Command::Show { pem: false } => format!("{}\n", public_key(&located)?),
        Command::Rotate {
            originals: true,
            old_key,
            ..
        } => audited(&located.dir, Act::new("keys rotate").with("key", "originals"), |act| {
            rotate_originals(&located, old_key.as_deref(), act)
        })?,
        Command::Rotate { from, .. } => audited(&located.dir, Act::new("keys rotate").with("key", "signing"), |act| {
            rotate_signing(&located, from.as_deref(), act)
        })?,
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn create(located: &BoxState, act: &mut Act) -> Result<String, Failure> {
    let (public, was_other) =
        gridwatch_store::create_missing_keys(&located.dir, &located.keys, &located.originals_key)?;
    act.add("public_key", &public);
    if was_other {
        note("The key of the originals is another one now; what the previous one encrypted stays unreadable.");
    }
    Ok(format!("{public}\n"))
}

fn rotate_signing(located: &BoxState, from: Option<&str>, act: &mut Act) -> Result<String, Failure> {
    let from = match from {
        Some(uri) => {
            let invalid = |what: String| Failure::new(Class::Config, format!("--from: {what}"));
            SigningKeyPlace::Token(Box::new(uri.parse().map_err(invalid)?))
        }
        None => SigningKeyPlace::Own,
    };
    let old = KeyRing::with_signing(&located.dir, from);
    // Fails if there is no database, so that `Store::open_with` does not create one.
    let newest = Store::open_read_only(&located.dir)?.chain_keys()?.into_iter().next();
    if *located.keys.signing_place() != *old.signing_place() {
        let is_newest = |key: &PublicKey| newest.as_ref() == Some(&key.to_string());
        if let Ok(new) = located.keys.existing()
            && is_newest(&new.public())
        {
            if *old.signing_place() != SigningKeyPlace::Own {
                let message = "--from: the key that the configuration names signs for this box already, so there is nothing to hand over; give \
                               --config if the new key is in a token";
                return Err(Failure::new(Class::Config, message));
            }
            // Handed over, but perhaps killed before the old key was deleted.
            located.keys.remove_replaced_signing_file()?;
            return Ok(format!("{}\n", new.public()));
        }
        // A hand-over by another key than the chain's would begin the chain anew.
        if !is_newest(&old.existing()?.public()) {
            let message = "the key to be replaced is not the one that signs for this box; name that one with --from";
            return Err(Failure::new(Class::Config, message));
        }
    }
    let mut store = Store::open_with(&located.dir, &old)?;
    let new = store.rotate_key(&located.keys, Timestamp::now())?;
    act.add("public_key", new.public());
    Ok(format!("{}\n", new.public()))
}

fn rotate_originals(located: &BoxState, old_key: Option<&std::path::Path>, act: &mut Act) -> Result<String, Failure> {
    let BoxState {
        dir,
        keys,
        originals_key,
        ..
    } = located;
    if old_key.is_some() && *originals_key == OriginalsKey::Own {
        let message = "--old-key: the key of the originals is in the state directory, where the old one is found; leave it out, or give --config";
        return Err(Failure::new(Class::Config, message));
    }
    // Fails if there is no database, so that `Store::open_with` does not create one. Its lock keeps the daemon from starting.
    drop(Store::open_read_only(dir)?);
    let store = Store::open_with(dir, keys)?;
    let key = keys.begin_rotation(originals_key, old_key)?;
    let mut shown = Shown::default();
    let done = reencrypt(dir, &key, &mut |progress| shown.show(progress))?;
    keys.end_rotation()?;
    drop(store);
    let text = summary(&done);
    act.add("done", text.trim());
    Ok(text)
}

fn summary(done: &Reencrypted) -> String {
    let Reencrypted {
        anew,
        current,
        unreadable: (unreadable, first),
    } = done;
    let mut text = format!(
        "{} encrypted with the new key",
        counted(*anew as usize, "file", "files")
    );
    if *current > 0 {
        text += &format!(", {current} before");
    }
    if let Some(first) = first {
        text += &format!(
            "; {unreadable} that no key decrypts left as they are, such as {}",
            first.display()
        );
    }
    text + "\n"
}

/// How long between two lines about the progress.
const SHOW_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a rotation that takes long.
struct Shown(Instant);

impl Default for Shown {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Shown {
    fn show(&mut self, Progress { done, total }: Progress) {
        if self.0.elapsed() < SHOW_EVERY {
            return;
        }
        self.0 = Instant::now();
        let mut out = io::stderr();
        let end = if out.is_terminal() { '\r' } else { '\n' };
        // Best effort: the rotation matters more.
        let _ = write!(out, "gridwatch: {done} of {total} files{end}");
        let _ = out.flush();
    }
}

/// The public key of the box. Only the owner of the private key, or of the token's PIN, can read that; for others the chain of custody has
/// the public one.
fn public_key(located: &BoxState) -> Result<PublicKey, Failure> {
    let is_elsewhere = |e: &KeyError| match e {
        KeyError::Io { source, .. } => source.kind() == io::ErrorKind::PermissionDenied,
        KeyError::Token(_) | KeyError::Malformed { .. } => *located.keys.signing_place() != SigningKeyPlace::Own,
        _ => false,
    };
    match located.keys.existing() {
        Err(e) if is_elsewhere(&e) => {
            let known = Store::open_read_only(&located.dir).and_then(|store| store.chain_keys());
            let newest = known.unwrap_or_default().into_iter().next();
            newest.and_then(|key| key.parse().ok()).ok_or_else(|| e.into())
        }
        key => Ok(key?.public()),
    }
}
