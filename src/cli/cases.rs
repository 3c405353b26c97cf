//! `gridwatch cases`: lists, shows and exports the box's cases. Works while the daemon runs.

mod export;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::export::{ExportError, ExportFiles, ExportTarget};
use jiff::tz::TimeZone;

use super::{audited::audited, options::StateArgs, terminal};
use crate::audit::Act;
use gridwatch_base::{
    error::Class,
    text::{counted, printable},
};
use gridwatch_config::Faults;
use gridwatch_contract::When;
use gridwatch_custody::{
    chain::MAX_FIELD,
    keys::{KeyError, OriginalsKey},
    vault::Vault,
};
use gridwatch_engine::CaseState;
use gridwatch_store::{CaseFile, CaseSummary, Filter, Store, StoreError};

/// List, show and export cases.
///
/// Reads the state directory and works while the daemon runs, on a read-only mount, and without write access. Times are in the city's
/// time zone; in JSON, those of the history are in UTC.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch cases list --config /etc/gridwatch/edge.toml
  gridwatch cases list --in rejected --limit 20
  gridwatch cases show 01JW… --state /var/lib/gridwatch --json | jq .record
  gridwatch cases export 01JW… --out /media/usb")]
pub struct CasesArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: StateArgs,
    /// Print JSON: `list` as JSON Lines, the others as one object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List cases, newest first.
    ///
    /// QUEUED is the number of the case's messages that the platform may not have. A trailing `!` means that the broker
    /// rejected one permanently; `gridwatch outbox list --quarantined` shows why. Fix the cause and run `gridwatch outbox retry`.
    List {
        /// Only cases in this state: filed, accepted, rejected, duplicate_of, dispatched, disposed, verify_requested,
        /// closed, reopened, withdrawn.
        #[arg(long = "in", value_name = "CASE_STATE", value_parser = case_state)]
        in_state: Option<CaseState>,
        /// Maximum number of cases.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one case: its record, history and picture files.
    Show {
        /// Case id, or its first characters.
        case: String,
    },
    /// Export a case with its evidence to a folder.
    ///
    /// Writes the record, pictures, signature and the box's chain from the case's first line on to DIR/CASE_ID. The chain tells nothing of
    /// other cases. The export is recorded in the audit log. Anyone can check the folder
    /// with `gridwatch evidence verify`, or with sha256sum and openssl (docs/evidence.md). Only you can read the folder. A damaged
    /// picture or original is named and left out.
    ///
    /// Exit codes: 0 exported; 3 the case or the folder is wrong; 5 something was damaged, but the rest is exported if its path was
    /// printed.
    Export {
        /// Case id, or its first characters.
        case: String,
        /// Parent folder; the case's folder is created in it.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Include the unmasked originals as the camera sent them. The access is recorded first, with user and reason (`gridwatch audit`).
        #[arg(long, requires = "reason")]
        originals: bool,
        /// Reason for opening the originals, at most 1000 bytes. It stays on the box: the chain in the export has its hash.
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
        /// Let the chain in the export reach back to this line: that of a chain's head or a record that the platform received, to compare
        /// it with `gridwatch evidence verify --since`. [default: the case's first line]
        #[arg(long, value_name = "SEQ")]
        since: Option<u64>,
        /// Key file of the originals, if it is not in keys/ of the state directory.
        #[arg(long, value_name = "FILE")]
        originals_key: Option<PathBuf>,
    },
}

/// Parses a reason, which a person must be able to read again.
fn reason(text: &str) -> Result<String, String> {
    match text.len() {
        _ if text.trim().is_empty() => Err("give a reason".into()),
        length if length > MAX_FIELD => Err(format!("{length} bytes; give at most {MAX_FIELD}")),
        _ => Ok(text.to_owned()),
    }
}

fn case_state(text: &str) -> Result<CaseState, String> {
    serde_json::from_value(serde_json::Value::String(text.into())).map_err(|e| e.to_string())
}

/// Why `gridwatch cases` failed.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration names no state directory.
    #[error("{0}")]
    Config(#[from] Faults),
    /// No case has an id that starts with this text.
    #[error("no case id starts with {0:?}; list the cases with `gridwatch cases list`")]
    NoSuchCase(String),
    /// Several case ids start with this text.
    #[error("{1} case ids start with {0:?}; give more characters of the id")]
    Ambiguous(String, usize),
    /// The signing key or the originals' key cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The case cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The case was exported, but not completely.
    #[error("{} of case {case} {} damaged and {} not exported:\n  {}",
        counted(.damaged.len(), "file", "files"),
        if .damaged.len() == 1 { "is" } else { "are" },
        if .damaged.len() == 1 { "was" } else { "were" },
        .damaged.join("\n  "))]
    Incomplete {
        /// The case id.
        case: String,
        /// The pictures and originals that are not in the export, and why.
        damaged: Vec<String>,
    },
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Print(#[from] io::Error),
}

impl CasesError {
    /// The error's class, which determines the exit code.
    pub fn class(&self) -> Class {
        match self {
            Self::Store(e) => e.class(),
            Self::Config(e) => e.class(),
            Self::Key(e) => e.class(),
            Self::Export(ExportError::Write { .. }) => Class::Config,
            Self::Export(_) | Self::Incomplete { .. } => Class::Data,
            Self::NoSuchCase(_) | Self::Ambiguous(..) => Class::Config,
            Self::Print(_) => Class::Transient,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`CasesError`]; its class gives the exit code.
pub fn run(args: &CasesArgs) -> Result<ExitCode, CasesError> {
    print(args, &mut terminal::stdout())?;
    Ok(ExitCode::SUCCESS)
}

fn print(args: &CasesArgs, out: &mut impl Write) -> Result<(), CasesError> {
    let located = args.state.locate()?;
    let state = &located.dir;
    match &args.command {
        Command::List { in_state, limit } => {
            let store = Store::open_read_only(state)?;
            let filter = Filter {
                state: *in_state,
                limit: *limit,
            };
            list(out, &store.cases(filter)?, &located.zone(&store)?, args.json)?;
        }
        Command::Show { case } => {
            let store = Store::open_read_only(state)?;
            let file = store.case(&full_id(&store, case)?)?;
            let file = file.ok_or_else(|| CasesError::NoSuchCase(case.clone()))?;
            show(out, &file, &located.zone(&store)?, args.json)?;
        }
        Command::Export {
            case,
            out: folder,
            originals,
            reason,
            originals_key,
            since,
        } => {
            let act = Act::new("cases export")
                .with("case", case)
                .with_path("out", folder)
                .with("originals", originals);
            audited(state, act, |act| {
                let store = Store::open_read_only(state)?;
                let case = full_id(&store, case)?;
                act.set_case(&case);
                let mut files = ExportFiles::default();
                if let (true, Some(reason)) = (*originals, reason) {
                    let place = originals_key.clone().map(OriginalsKey::File);
                    let key = located
                        .keys
                        .originals(place.as_ref().unwrap_or(&located.originals_key))?;
                    export::open_originals(state, &case, &Vault::new(state, key), reason, &mut files)?;
                }
                let to = ExportTarget { folder, since: *since };
                let (dir, damaged) = export::export(&store, &located.keys, &case, &to, files)?;
                let key = store.chain_keys()?.into_iter().next().unwrap_or_default();
                print_export(out, &dir, &damaged, &key, args.json)?;
                match damaged.is_empty() {
                    true => Ok(()),
                    false => Err(CasesError::Incomplete { case, damaged }),
                }
            })?;
        }
    }
    Ok(())
}

fn print_export(out: &mut impl Write, dir: &Path, damaged: &[String], key: &str, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::json!({"path": dir, "damaged": damaged}));
    }
    let dir = dir.display();
    writeln!(
        out,
        "{dir}\nVerify it with: gridwatch evidence verify {dir} --key {key}"
    )
}

/// The only case id that starts with `prefix`.
pub(super) fn full_id(store: &Store, prefix: &str) -> Result<String, CasesError> {
    let mut ids = store.case_ids(prefix)?;
    match (ids.pop(), ids.len()) {
        (Some(id), 0) => Ok(id),
        (None, _) => Err(CasesError::NoSuchCase(prefix.into())),
        (Some(_), others) => Err(CasesError::Ambiguous(prefix.into(), others + 1)),
    }
}

fn list(out: &mut impl Write, cases: &[CaseSummary], zone: &TimeZone, json: bool) -> io::Result<()> {
    if json {
        for case in cases {
            writeln!(out, "{}", serde_json::to_string(case)?)?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:26}  {:16}  {:29}  {:4}  {:6}  CATEGORY",
        "CASE", "STATE", "CONFIRMED", "CODE", "QUEUED"
    )?;
    for case in cases {
        let mark = match (&case.quarantined, &case.held_back_for) {
            (Some(_), _) => "!",
            (None, Some(_)) => "=",
            (None, None) => "",
        };
        writeln!(
            out,
            "{:26}  {:16}  {:29}  {:4}  {:6}  {} (cell {})",
            case.case_id,
            case.state.as_str(),
            When::new(case.confirmed_at.timestamp(), zone).to_string(),
            case.category_code,
            format!("{}{mark}", case.queued),
            category(&case.category_name, case.unidentified),
            case.cell_code
        )?;
    }
    if cases.iter().any(|case| case.held_back_for.is_some()) {
        writeln!(
            out,
            "= Held back for another box's case of the same problem; nothing about it was sent: see `gridwatch cases show`."
        )?;
    }
    if cases.iter().any(|case| case.quarantined.is_some()) {
        writeln!(
            out,
            "! The broker rejected a message of the case: see `gridwatch outbox list --quarantined`, fix the cause, then run `gridwatch outbox retry`."
        )?;
    }
    Ok(())
}

/// The category's name; of an object that no model recognised, it does not say what the object is.
fn category(name: &str, is_unidentified: bool) -> String {
    match is_unidentified {
        true => format!("unidentified object, filed as {name}"),
        false => name.into(),
    }
}

fn show(out: &mut impl Write, case: &CaseFile, zone: &TimeZone, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string(case)?);
    }
    let r = &case.record;
    let local = |at: When| When::new(at.timestamp(), zone);
    writeln!(out, "Case        {} (revision {})", r.case_id, r.revision)?;
    writeln!(out, "State       {}", r.state.as_str())?;
    if let Some(number) = &r.platform_task_no {
        writeln!(out, "Platform    {number}")?;
    }
    writeln!(
        out,
        "Category    {} {} ({})",
        r.category_code,
        category(&r.category_name, r.unidentified),
        r.category_scheme
    )?;
    writeln!(out, "Cell        {} (grid {})", r.cell_code, r.grid_version)?;
    let location = &r.location;
    writeln!(
        out,
        "Location    {:.6}, {:.6} ± {} m ({})",
        location.lon, location.lat, location.uncertainty_m, location.crs
    )?;
    match &r.camera.preset_id {
        Some(preset) => writeln!(out, "Camera      {}, preset {preset}", r.camera.local_id)?,
        None => writeln!(out, "Camera      {}", r.camera.local_id)?,
    }
    writeln!(out, "Text        {}", r.description)?;
    writeln!(out, "First seen  {}", local(r.first_seen_at))?;
    writeln!(out, "Confirmed   {}", local(r.confirmed_at))?;
    writeln!(
        out,
        "Confidence  {:.2}, rule {}, {} of {}",
        r.confidence,
        r.rule.id,
        r.rule.frames_seen,
        counted(r.rule.frames_sampled, "look", "looks")
    )?;
    if let Some(held) = &case.held_back_for {
        writeln!(
            out,
            "Held back   since {}, for case {} of box {}, {}",
            When::new(held.since, zone),
            printable(&held.case_id),
            printable(&held.node_id),
            match held.is_filed {
                true => "which it says the platform has",
                false => "which is not filed yet; see claims.wait",
            }
        )?;
    }
    let messages = counted(case.queued, "message", "messages");
    match &case.quarantined {
        Some(reason) => writeln!(
            out,
            "Outbox      {messages} quarantined, see `gridwatch outbox retry`: {}",
            printable(reason)
        )?,
        None => writeln!(out, "Outbox      {messages} that the platform may not have")?,
    }
    if let Some(received) = case.received {
        let at = When::new(received.at, zone);
        writeln!(out, "Receipt     for revision {}, at {at}", received.revision)?;
    }
    writeln!(out, "Evidence")?;
    for item in &r.evidence {
        if let Some(path) = case.evidence.get(&item.id) {
            writeln!(
                out,
                "  {:8} {}×{}  {}  {}",
                item.role.as_str(),
                item.width,
                item.height,
                local(item.captured_at),
                path.display()
            )?;
        }
    }
    if !r.presence.is_empty() {
        writeln!(out, "Before")?;
    }
    for entry in &r.presence {
        write!(out, "  {}  {}", local(entry.first_at), entry.reason)?;
        match entry.times {
            1 => writeln!(out)?,
            times => writeln!(out, ", {times} times until {}", local(entry.last_at))?,
        }
    }
    writeln!(out, "History")?;
    for entry in &case.history {
        let reason = entry.reason.as_deref().map(printable).unwrap_or_default();
        if entry.omitted > 0 {
            writeln!(out, "  … {} entries left out", entry.omitted)?;
        }
        write!(
            out,
            "  {}  {:8}  {:16}  {reason}",
            When::new(entry.at, zone),
            entry.author,
            entry.state.as_str()
        )?;
        match entry.last_at {
            None => writeln!(out)?,
            Some(last) => writeln!(out, ", {} times until {last}", entry.times)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CasesArgs,
    }

    fn cases(arguments: &[&str]) -> Result<String, CasesError> {
        let cli = Cli::try_parse_from(std::iter::once("cases").chain(arguments.iter().copied())).unwrap();
        let mut out = Vec::new();
        print(&cli.args, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_state_directory_without_a_database_is_a_configuration_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = cases(&["list", "--state", dir.path().to_str().unwrap()]).unwrap_err();
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains("gridwatch.db"), "{error}");
    }

    #[test]
    fn the_state_directory_is_read_from_a_configuration_with_other_faults() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edge.toml");
        drop(Store::open(&dir.path().join("state")).unwrap());
        let list = ["list", "--config", config.to_str().unwrap()];
        std::fs::write(&config, "[node]\nid = \"box-1\"\nstate_dir = \"state\"\n").unwrap();
        assert_eq!(cases(&list).unwrap().lines().count(), 1);
        std::fs::write(&config, "[node]\nid = \"box-1\"\n").unwrap();
        let error = cases(&list).unwrap_err();
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains("node.state_dir"), "{error}");
    }

    #[test]
    fn an_unknown_id_is_an_error_and_an_empty_store_gives_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().to_str().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let error = cases(&["show", "01JW", "--state", state]).unwrap_err();
        assert!(matches!(error, CasesError::NoSuchCase(_)), "{error}");
        assert_eq!(cases(&["list", "--state", state]).unwrap().lines().count(), 1);
        assert_eq!(cases(&["list", "--json", "--state", state]).unwrap(), "");
        assert!(case_state("acepted").is_err());
    }
}
