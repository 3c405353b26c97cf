//! `gridwatch evidence`: verifies exported cases and previews masking. Needs neither a box nor a network.

#[cfg(feature = "ort")]
pub mod mask;

use std::{fs, path::PathBuf, process::ExitCode};

use super::{Failure, json_line, print};
use gridwatch_base::error::Class;
use gridwatch_custody::{
    PublicKey,
    bundle::{self, BundleReport},
    keys::parse_public,
};

/// Verify exported cases and preview masking.
///
/// `gridwatch cases export` writes a case to a folder. Verifying needs only that folder and the box's public key;
/// docs/evidence.md describes the same check with sha256sum and openssl.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch evidence verify /media/usb/01JW… --key box-01.pub
  gridwatch evidence mask street.jpg --out masked/")]
pub struct EvidenceArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Verify that an exported case is what the box filed.
    ///
    /// Checks the checksum of every file, the box's signature over the record, every picture that the record names, every link of
    /// the chain, and that the chain is complete to its end. Names each file that was changed, added or removed. Pass --key with
    /// the public key that you got from the box's operator: without it the key in the folder is used, and a forgery that is signed
    /// with another key passes.
    ///
    /// Exit codes: 0 the case is authentic; 1 it is not; 5 the folder cannot be read.
    Verify {
        /// Folder of the exported case.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// The box's public key: base64 as printed by `gridwatch keys show`, or a PEM file.
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    #[cfg(feature = "ort")]
    Mask(mask::MaskArgs),
}

/// Runs the command.
///
/// # Errors
/// An invalid key, or a folder that cannot be read; for `mask`, also an unusable model or configuration.
pub fn run(args: &EvidenceArgs) -> Result<ExitCode, Failure> {
    let (path, key, json) = match &args.command {
        Command::Verify { path, key, json } => (path, key, json),
        #[cfg(feature = "ort")]
        Command::Mask(args) => return mask::run(args),
    };
    let key = key.as_deref().map(public_key).transpose()?;
    let report =
        bundle::check(path, key.as_ref()).map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))?;
    let is_authentic = report.faults.is_empty();
    print(&if *json { json_line(&report)? } else { to_text(&report) })?;
    Ok(ExitCode::from(u8::from(!is_authentic)))
}

fn public_key(text: &str) -> Result<PublicKey, Failure> {
    let read = match text.parse() {
        Ok(key) => return Ok(key),
        Err(_) => fs::read_to_string(text),
    };
    let pem = read.map_err(|e| {
        Failure::new(
            Class::Config,
            format!("--key {text}: neither a base64 key nor a readable file: {e}"),
        )
    })?;
    parse_public(&pem).map_err(|e| Failure::new(Class::Config, format!("--key {text}: {e}")))
}

fn to_text(report: &BundleReport) -> String {
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".into());
    let mut text = format!(
        "Case   {}, revision {}, of box {}\nKey    {}{}\n",
        or_unknown(&report.case_id),
        report.revision.map_or_else(|| "?".into(), |r| r.to_string()),
        or_unknown(&report.node_id),
        or_unknown(&report.public_key),
        if report.key_is_known {
            ""
        } else {
            " (from the folder itself, not verified; pass the box's key with --key)"
        },
    );
    for fault in &report.faults {
        text += &format!("WRONG  {}: {}\n", fault.file, fault.what);
    }
    text += &match report.faults.len() {
        0 => format!(
            "Authentic: {} files, {} chain entries verified.\n",
            report.files, report.chain
        ),
        1 => "Not authentic: 1 fault.\n".into(),
        n => format!("Not authentic: {n} faults.\n"),
    };
    text
}
