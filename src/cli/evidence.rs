//! `gridwatch evidence`: verifies exported cases and previews masking. Needs neither a box nor a network.

#[cfg(feature = "ort")]
pub mod mask;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{Failure, json_line, print};
use gridwatch_base::{
    error::Class,
    file,
    text::{counted, printable},
};
use gridwatch_custody::{
    PublicKey,
    bundle::{self, BundleReport, CheckOptions, EarlierHead, Verdict},
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
  gridwatch evidence verify /media/usb/01JW… --key box-01.pub --since health.json
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
    /// with another key holds, too.
    ///
    /// The folder may come from anyone: links and devices in it are not followed, and no file is read beyond the size that the
    /// record states, or that its kind can have.
    ///
    /// Exit codes: 0 the case is authentic; 1 it is not; 5 the folder cannot be read; 6 the case holds for the key in the folder,
    /// but no --key was given; 7 it is authentic, but cannot be compared with --since.
    Verify {
        /// Folder of the exported case.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// The box's public key: base64 as printed by `gridwatch keys show`, or a PEM file.
        #[arg(long, value_name = "KEY|FILE")]
        key: Option<String>,
        /// Check that the chain contains the line that this names, so that a chain that was rewritten or a box that was set back is
        /// noticed: a health message, its member `chain` or a case record, as the platform received it, as a file or as JSON; or head.json
        /// of an earlier export, with head.sig beside it. If the export begins after that line, export it again with `cases export --since`.
        #[arg(long, value_name = "HEAD")]
        since: Option<String>,
        /// Accept files that no signature covers, such as your own notes. They are still named.
        #[arg(long)]
        allow_extra: bool,
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
    let (path, key, since, allow_extra, json) = match &args.command {
        Command::Verify {
            path,
            key,
            since,
            allow_extra,
            json,
        } => (path, key, since, *allow_extra, *json),
        #[cfg(feature = "ort")]
        Command::Mask(args) => return mask::run(args),
    };
    let key = key.as_deref().map(public_key).transpose()?;
    let since = since.as_deref().map(earlier_head).transpose()?;
    if !["case.json", "SHA256SUMS"]
        .iter()
        .any(|name| path.join(name).symlink_metadata().is_ok())
    {
        let message = format!(
            "{}: no exported case there: neither case.json nor SHA256SUMS",
            path.display()
        );
        return Err(Failure::new(Class::Data, message));
    }
    let options = CheckOptions {
        key: key.as_ref(),
        allow_extra,
        since: since.as_ref(),
    };
    let report =
        bundle::check(path, &options).map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))?;
    print(&if json { json_line(&report)? } else { to_text(&report) })?;
    Ok(ExitCode::from(match report.verdict {
        Verdict::Authentic if report.not_compared.is_some() => 7,
        Verdict::Authentic => 0,
        Verdict::NotAuthentic => 1,
        Verdict::AuthenticForOwnKey => 6,
    }))
}

fn public_key(text: &str) -> Result<PublicKey, Failure> {
    let read = match text.parse() {
        Ok(key) => return Ok(key),
        Err(_) => file::read_text(text.as_ref(), file::MAX_KEY),
    };
    let pem = read.map_err(|e| {
        Failure::new(
            Class::Config,
            format!("--key {text}: neither a base64 key nor a readable file: {e}"),
        )
    })?;
    parse_public(&pem).map_err(|e| Failure::new(Class::Config, format!("--key {text}: {e}")))
}

/// Maximum size of a health message or a case record in bytes; `case.json` may have no more.
const MAX_HEAD: u64 = 16 << 20;

/// The end of the chain that `--since` names.
fn earlier_head(text: &str) -> Result<EarlierHead, Failure> {
    // The file's name, or the JSON itself, which is too long to be repeated.
    let failed = |e: String| match text.starts_with('{') {
        true => Failure::new(Class::Config, format!("--since: {e}")),
        false => Failure::new(Class::Config, format!("--since {text}: {e}")),
    };
    if text.starts_with('{') {
        return EarlierHead::parse(text, None).map_err(failed);
    }
    let path = Path::new(text);
    let json = file::read_text(path, MAX_HEAD).map_err(|e| failed(e.to_string()))?;
    let signature = match path.file_name().is_some_and(|name| name == "head.json") {
        true => Some(
            file::read(&path.with_file_name("head.sig"), file::MAX_KEY)
                .map_err(|e| failed(format!("head.sig beside it: {e}")))?,
        ),
        false => None,
    };
    EarlierHead::parse(&json, signature.as_deref()).map_err(failed)
}

fn to_text(report: &BundleReport) -> String {
    let or_unknown = |text: &Option<String>| text.as_deref().map_or_else(|| "?".into(), printable);
    let mut text = format!(
        "Case   {}, revision {}, of box {}\nKey    {}\n",
        or_unknown(&report.case_id),
        report.revision.map_or_else(|| "?".into(), |r| r.to_string()),
        or_unknown(&report.node_id),
        or_unknown(&report.public_key),
    );
    for fault in &report.faults {
        text += &format!("WRONG  {}: {}\n", printable(&fault.file), printable(&fault.what));
    }
    if report.verdict != Verdict::NotAuthentic {
        for name in &report.extra {
            let what = match name.ends_with('/') {
                true => "empty folder",
                false => "no signature covers this file",
            };
            text += &format!("EXTRA  {}: {what}\n", printable(name));
        }
    }
    if let Some(seq) = report.contains {
        text += &format!("Chain  continues from entry {seq}, which --since names\n");
    }
    if let Some(why) = &report.not_compared {
        text += &format!("NOTE   not compared with --since: {}\n", printable(why));
    }
    if let Some(revision) = report.begins_with_revision {
        text += &format!(
            "NOTE   the chain in the folder begins with revision {revision} of the case: what was recorded of it before is not in the folder. \
             An export begins with the first, unless the box lost its database\n"
        );
    }
    if report.withheld > 0 {
        text += &format!(
            "NOTE   of {} of an older format only the hash is in the folder. Nothing in them can be read, and the entries before the last of \
             them are tied to the end by their number alone, except those of the case, which head.json states\n",
            counted(report.withheld, "chain entry", "chain entries")
        );
    }
    let verified = format!(
        "{}, {} verified",
        counted(report.files, "file", "files"),
        counted(report.chain, "chain entry", "chain entries"),
    );
    text += &match report.verdict {
        Verdict::Authentic if report.not_compared.is_some() => {
            format!("Authentic: {verified}. Whether the box was set back or its chain rewritten cannot be told.\n")
        }
        Verdict::Authentic => format!("Authentic: {verified}.\n"),
        Verdict::AuthenticForOwnKey => format!(
            "Holds only for the key in the folder itself, which may be anyone's: {verified}. Pass the box's public key with --key.\n"
        ),
        Verdict::NotAuthentic => format!("Not authentic: {}.\n", counted(report.faults.len(), "fault", "faults")),
    };
    text
}
