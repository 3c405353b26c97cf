//! `gridwatch crashes`: lists and exports the pictures that ended decode workers.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{Failure, audited::audited, json_line, options::ConfigArgs, print, private};
use crate::audit::Act;
use crate::crashes::{CrashRecord, CrashStore};
use gridwatch_base::error::Class;

/// Fewest digits of a SHA-256 that name a picture.
const MIN_PREFIX: usize = 8;

/// List and export the pictures that ended decode workers.
///
/// The daemon decodes in confined processes. A picture that crashes or hangs one is never decoded again; it is recorded in
/// `decode-crashes/` of the state directory, and the newest are kept, encrypted with the key of the originals.
///
/// An exported picture is HOSTILE INPUT: it ended a decoder, and may have been made to take over the program that opens it. Do not
/// open it with a player or viewer on a machine that matters. Send it to those who maintain the decoder.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch crashes list
  gridwatch crashes export 5f2c90ab --out crash.h264")]
pub struct CrashesArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON: one object a line for `list`, one object for `export`.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what ended decode workers, oldest first.
    List,
    /// Write a kept picture to a file, as the camera sent it.
    ///
    /// The file is HOSTILE INPUT, and shows the street unmasked. Only you can read it.
    Export {
        /// SHA-256 of the picture, or its first 8 or more digits.
        sha256: String,
        /// Output file: Annex B, with the parameter sets in front.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// A line of `list`.
#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    record: &'a CrashRecord,
    /// The picture is kept.
    is_kept: bool,
}

/// The result of `export`.
#[derive(Serialize)]
struct Exported<'a> {
    #[serde(flatten)]
    record: &'a CrashRecord,
    path: &'a PathBuf,
    warning: &'a str,
}

/// Runs the command.
///
/// # Errors
/// A faulty configuration, no such picture, or a key or file that cannot be read or written.
pub fn run(args: &CrashesArgs) -> Result<ExitCode, Failure> {
    let config = args.config.load()?;
    let key = config
        .keys()
        .existing_originals(config.originals_key())
        .map_err(|e| Failure::new(e.class(), e.to_string()))?;
    let store = CrashStore::new(&config.state_dir, key);
    let records = store.records();
    match &args.command {
        Command::List => list(&store, &records, args.json)?,
        Command::Export { sha256, out } => {
            let act = Act::new("crashes export").with("sha256", sha256).with_path("out", out);
            let record = audited(&config.state_dir, act, |_| export(&store, &records, sha256, out))?;
            let warning =
                "hostile input: it ended a decoder; do not open it with a player or viewer on a machine that matters";
            print(&match args.json {
                true => json_line(&Exported {
                    record,
                    path: out,
                    warning,
                })?,
                false => format!("Picture written to {}. It is {warning}.\n", out.display()),
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn export<'a>(
    store: &CrashStore,
    records: &'a [CrashRecord],
    sha256: &str,
    out: &Path,
) -> Result<&'a CrashRecord, Failure> {
    let record = find(records, sha256)?;
    let picture = store.picture(record).map_err(|error| {
        let message = match store.has_picture(record) {
            true => format!("picture {}: {error}", record.sha256),
            false => format!("picture {} is not kept; only its record is", record.sha256),
        };
        Failure::new(Class::Data, message)
    })?;
    private::write(out, &picture).map_err(|e| Failure::new(Class::Transient, format!("{}: {e}", out.display())))?;
    Ok(record)
}

fn list(store: &CrashStore, records: &[CrashRecord], json: bool) -> Result<(), Failure> {
    let mut text = String::new();
    for record in records {
        let is_kept = store.has_picture(record);
        if json {
            text += &json_line(&Listed { record, is_kept })?;
            continue;
        }
        let CrashRecord {
            at,
            camera,
            codec,
            bytes,
            sha256,
            cause,
        } = record;
        let kept = if is_kept { "kept" } else { "not kept" };
        // Writing to a String cannot fail. What a decode worker said of itself is in the record.
        let line = format!("{at:.0}  {camera}  {codec}  {bytes} bytes  {sha256}  {kept}  {cause}");
        let _ = writeln!(text, "{}", line.replace(char::is_control, "?"));
    }
    if text.is_empty() && !json {
        text = "No picture has ended a decode worker.\n".into();
    }
    print(&text)
}

/// The only record whose hash begins with `prefix`.
fn find<'a>(records: &'a [CrashRecord], prefix: &str) -> Result<&'a CrashRecord, Failure> {
    let failed = |what: &str| Failure::new(Class::Config, format!("{prefix}: {what}; see `gridwatch crashes list`"));
    if prefix.len() < MIN_PREFIX {
        return Err(failed("give at least 8 digits of the SHA-256"));
    }
    let mut found = records
        .iter()
        .filter(|r| r.sha256.starts_with(&prefix.to_ascii_lowercase()));
    match (found.next(), found.next()) {
        (Some(record), None) => Ok(record),
        (None, _) => Err(failed("no such picture")),
        (Some(_), Some(_)) => Err(failed("more than one picture begins like this")),
    }
}
