//! `gridwatch model keygen` and `sign`: for whoever makes packages, not for the box.

use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf, process::ExitCode};

use crate::cli::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_custody::SigningKey;
use gridwatch_model::{
    Model,
    registry::{MANIFEST, SIGNATURE},
};

/// Make a key that signs packages.
///
/// The private key goes into FILE (PEM, readable by you alone) and stays with whoever makes models; the public one is printed and
/// goes into `registry.keys` of each box. `openssl genpkey -algorithm ed25519` makes such a key, too.
#[derive(Debug, clap::Args)]
pub(super) struct KeygenArgs {
    /// Where to write the private key; it must not be there.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Sign a model's folder: writes model.sig into it.
///
/// What is signed is model.toml, byte for byte, which holds the sum of model.onnx. Sign last: whatever changes model.toml
/// afterwards voids the signature.
#[derive(Debug, clap::Args)]
pub(super) struct SignArgs {
    /// The model's folder.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The private key (PEM).
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
    let pem = fs::read_to_string(&args.key)
        .map_err(|e| Failure::new(Class::Config, format!("--key {}: {e}", args.key.display())))?;
    let key = SigningKey::parse(&pem)
        .map_err(|e| Failure::new(Class::Config, format!("--key {}: {e}", args.key.display())))?;
    // Nobody should sign what no box would take.
    let model = Model::load(&args.dir)?;
    let path = args.dir.join(MANIFEST);
    let signed = fs::read(&path).map_err(|e| Failure::new(Class::Config, format!("{}: {e}", path.display())))?;
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
