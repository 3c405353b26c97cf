//! `gridwatch evidence`: is an exported case what the box filed, and what do its pictures show? Needs no box and no network.

#[cfg(feature = "ort")]
pub mod mask;

use std::{fs, path::PathBuf, process::ExitCode};

use super::{Failure, print};
use gridwatch_base::error::Class;
use gridwatch_custody::{
    PublicKey,
    bundle::{self, Report},
    keys::parse_public,
};

/// Check the evidence of exported cases, and see how pictures are masked.
///
/// A case is exported with `gridwatch cases export`. Its check needs nothing but the folder; docs/evidence.md tells how to do it
/// with sha256sum and openssl alone.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say whether an exported case is what its box filed, and if not, what was changed.
    ///
    /// Checks the sum of every file, the box's signature over the record, every picture that the record names, every link of the
    /// chain, and that nothing was cut off the chain's end. Give --key, as the box's operator told it to you: without it the
    /// folder vouches for itself, and whoever made all of it anew with a key of their own is not caught.
    ///
    /// Exit codes: 0 it holds; 1 it does not; 5 the folder cannot be read.
    #[command(verbatim_doc_comment)]
    Verify {
        /// The exported case's folder.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// The box's public key: base64, as `gridwatch keys show` prints it, or a PEM file.
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    #[cfg(feature = "ort")]
    Mask(mask::Args),
}

/// Runs the command.
///
/// # Errors
/// A key that is none, or a folder that cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (path, key, json) = match &args.command {
        Command::Verify { path, key, json } => (path, key, json),
        #[cfg(feature = "ort")]
        Command::Mask(args) => return mask::run(args),
    };
    let key = key.as_deref().map(public_key).transpose()?;
    let report =
        bundle::check(path, key.as_ref()).map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))?;
    let holds = report.faults.is_empty();
    print(&if *json { to_json(&report) } else { to_text(&report) })?;
    Ok(ExitCode::from(u8::from(!holds)))
}

fn public_key(text: &str) -> Result<PublicKey, Failure> {
    let read = match text.parse() {
        Ok(key) => return Ok(key),
        Err(_) => fs::read_to_string(text),
    };
    let pem = read.map_err(|e| Failure::new(Class::Config, format!("--key {text}: no key, and no file: {e}")))?;
    parse_public(&pem).map_err(|e| Failure::new(Class::Config, format!("--key {text}: {e}")))
}

fn to_json(report: &Report) -> String {
    // Text and numbers under string keys.
    serde_json::to_string(report).unwrap_or_default() + "\n"
}

fn to_text(report: &Report) -> String {
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
            " (taken from the folder itself; give the box's with --key)"
        },
    );
    for fault in &report.faults {
        text += &format!("WRONG  {}: {}\n", fault.file, fault.what);
    }
    text += &match report.faults.len() {
        0 => format!(
            "It holds: {} files, {} lines of the chain.\n",
            report.files, report.chain
        ),
        1 => "It does not hold: 1 fault.\n".into(),
        n => format!("It does not hold: {n} faults.\n"),
    };
    text
}
