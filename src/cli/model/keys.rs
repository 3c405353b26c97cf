//! `gridwatch model keygen` and `sign`: sign model packages; for the packages' author, not for the box.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, process::ExitCode};

use crate::cli::{Failure, print};
use gridwatch_base::{error::Class, file};
use gridwatch_custody::SigningKey;
use gridwatch_model::{
    Model,
    registry::{MANIFEST, SIGNATURE},
};

/// Generate a key pair for signing model packages.
///
/// Writes the private key to FILE (PEM, mode 0600), which stays with the packages' author, and prints the public key, which goes
/// into `registry.keys` of each box. `openssl genpkey -algorithm ed25519` makes such a key, too.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gridwatch model keygen --out maker.pem")]
pub(super) struct KeygenArgs {
    /// File for the private key; must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Sign a model folder.
///
/// Signs model.toml, which holds the checksum of model.onnx, and writes model.sig. Sign last: any later change to model.toml
/// invalidates the signature.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  gridwatch model sign models/garbage_nano_416 --key maker.pem")]
pub(super) struct SignArgs {
    /// Model folder.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Private key (PEM).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn keygen(args: &KeygenArgs) -> Result<ExitCode, Failure> {
    let (pem, key) = SigningKey::generate().map_err(|e| Failure::new(Class::Transient, e))?;
    let failed = |e| Failure::new(Class::Config, format!("--out {}: {e}", args.out.display()));
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.out)
        .map_err(failed)?;
    file.write_all(pem.as_bytes()).map_err(failed)?;
    print(&format!("{}\n", key.public()))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sign(args: &SignArgs) -> Result<ExitCode, Failure> {
    let pem = file::read_secret(&args.key, file::MAX_KEY)
        .map_err(|e| Failure::new(Class::Config, format!("--key {}: {e}", args.key.display())))?;
    let key = SigningKey::parse(&pem)
        .map_err(|e| Failure::new(Class::Config, format!("--key {}: {e}", args.key.display())))?;
    // Do not sign a model that no box would accept.
    let model = Model::load(&args.dir)?;
    let path = args.dir.join(MANIFEST);
    let signed = file::read(&path, file::MAX_TEXT)
        .map_err(|e| Failure::new(Class::Config, format!("{}: {e}", path.display())))?;
    let path = args.dir.join(SIGNATURE);
    fs::write(&path, key.sign(&signed)).map_err(|e| Failure::new(Class::Config, format!("{}: {e}", path.display())))?;
    let manifest = model.manifest();
    print(&format!(
        "{}: {}@{}, signed with {}\n",
        path.display(),
        manifest.id,
        manifest.version,
        key.public()
    ))?;
    Ok(ExitCode::SUCCESS)
}
