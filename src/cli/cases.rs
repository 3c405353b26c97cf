//! `gridwatch cases`: what was filed, where it stands, what waits to be sent. Reads beside a running daemon.

mod export;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use self::export::ExportError;
use super::state::State;
use gridwatch_base::error::Class;
use gridwatch_config::Faults;
use gridwatch_custody::{
    keys::{KeyError, KeyRing, OriginalsKey},
    vault::Vault,
};
use gridwatch_engine::CaseState;
use gridwatch_store::{CaseFile, CaseSummary, Filter, Store, StoreError};

/// Looks at the cases of this box.
///
/// Reads the state directory, also while the daemon runs on it. Times are in the city's zone.
///
///   gridwatch cases list --config /etc/gridwatch/edge.toml
///   gridwatch cases show 01JW… --state /var/lib/gridwatch --json | jq .record
///   gridwatch cases export 01JW… --out /media/stick
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: State,
    /// Print JSON: `list` a line per case, `show` one object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One line per case, newest first.
    ///
    /// QUEUED counts messages that the broker has not acknowledged; a `!` behind it says that the broker refused them
    /// for good and that they wait for `gridwatch outbox retry`.
    List {
        /// Only cases in this state: filed, accepted, rejected, duplicate_of, dispatched, disposed, verify_requested,
        /// closed, reopened, withdrawn.
        #[arg(long = "in", value_name = "CASE_STATE", value_parser = case_state)]
        in_state: Option<CaseState>,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One case: its record, everything that was said about it, and where its pictures are.
    Show {
        /// The case's id, or the first characters of it.
        case: String,
    },
    /// Writes a case into a folder that anybody can check: its record, pictures, signature, and the box's chain.
    Export {
        /// The case's id, or the first characters of it.
        case: String,
        /// The folder below which one of the case's id is made.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Put the originals into it, too: what the camera sent, unmasked. That they were opened, by whom and why, is a line of the chain.
        #[arg(long, requires = "reason")]
        originals: bool,
        /// Why the originals are opened.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Where the originals' key is, if not in keys/ of the state directory.
        #[arg(long, value_name = "FILE")]
        originals_key: Option<PathBuf>,
    },
}

fn case_state(text: &str) -> Result<CaseState, String> {
    serde_json::from_value(serde_json::Value::String(text.into())).map_err(|e| e.to_string())
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration does not say where the state is.
    #[error("{0}")]
    Config(#[from] Faults),
    /// No such case.
    #[error("no case begins with {0:?}: `gridwatch cases list` shows those there are")]
    NoSuchCase(String),
    /// More than one.
    #[error("{0:?} begins {1} cases: write more of the id")]
    Ambiguous(String, usize),
    /// The box's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// Standard output.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl CasesError {
    /// What it means for whoever meets it.
    pub fn class(&self) -> Class {
        match self {
            Self::Store(e) => e.class(),
            Self::Config(e) => e.class(),
            Self::Key(e) => e.class(),
            Self::Export(ExportError::Write { .. }) => Class::Config,
            Self::Export(_) => Class::Data,
            Self::NoSuchCase(_) | Self::Ambiguous(..) => Class::Config,
            Self::Print(_) => Class::Transient,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// [`CasesError`]; its class gives the exit code.
pub fn run(args: &Args) -> Result<ExitCode, CasesError> {
    print(args, &mut io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}

fn print(args: &Args, out: &mut impl Write) -> Result<(), CasesError> {
    let state = &args.state.dir()?;
    match &args.command {
        Command::List { in_state, limit } => {
            let store = Store::open_read_only(state)?;
            let filter = Filter {
                state: *in_state,
                limit: *limit,
            };
            list(out, &store.cases(filter)?, args.json)?;
        }
        Command::Show { case } => {
            let store = Store::open_read_only(state)?;
            let file = store.case(&whole_id(&store, case)?)?;
            show(
                out,
                &file.ok_or_else(|| CasesError::NoSuchCase(case.clone()))?,
                args.json,
            )?;
        }
        Command::Export {
            case,
            out: folder,
            originals,
            reason,
            originals_key,
        } => {
            let store = Store::open_read_only(state)?;
            let case = whole_id(&store, case)?;
            let opened = match reason {
                Some(reason) if *originals => {
                    let place = originals_key.clone().map_or(OriginalsKey::Own, OriginalsKey::File);
                    let key = KeyRing::of(state).originals(&place)?;
                    export::open_originals(state, &case, &Vault::new(state, key), reason)?
                }
                _ => Vec::new(),
            };
            let dir = export::export(&store, state, &case, folder, opened)?;
            match args.json {
                true => writeln!(out, "{}", serde_json::json!({"path": dir}))?,
                false => {
                    let dir = dir.display();
                    writeln!(out, "{dir}\nCheck it with: gridwatch evidence verify {dir}")?;
                }
            }
        }
    }
    Ok(())
}

fn whole_id(store: &Store, start: &str) -> Result<String, CasesError> {
    let mut ids = store.case_ids(start)?;
    match (ids.pop(), ids.len()) {
        (Some(id), 0) => Ok(id),
        (None, _) => Err(CasesError::NoSuchCase(start.into())),
        (Some(_), others) => Err(CasesError::Ambiguous(start.into(), others + 1)),
    }
}

fn list(out: &mut impl Write, cases: &[CaseSummary], json: bool) -> io::Result<()> {
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
        let refused = if case.quarantined.is_some() { "!" } else { "" };
        writeln!(
            out,
            "{:26}  {:16}  {:29}  {:4}  {:6}  {} (cell {})",
            case.case_id,
            case.state.as_str(),
            case.confirmed_at,
            case.category_code,
            format!("{}{refused}", case.queued),
            case.category_name,
            case.cell_code
        )?;
    }
    Ok(())
}

fn show(out: &mut impl Write, case: &CaseFile, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", serde_json::to_string(case)?);
    }
    let r = &case.record;
    writeln!(out, "Case        {} (revision {})", r.case_id, r.revision)?;
    writeln!(out, "State       {}", r.state.as_str())?;
    if let Some(number) = &r.platform_task_no {
        writeln!(out, "Platform    {number}")?;
    }
    writeln!(
        out,
        "Category    {} {} ({})",
        r.category_code, r.category_name, r.category_scheme
    )?;
    writeln!(out, "Cell        {} (grid {})", r.cell_code, r.grid_version)?;
    let place = &r.location;
    writeln!(
        out,
        "Place       {:.6}, {:.6} ± {} m ({})",
        place.lon, place.lat, place.uncertainty_m, place.crs
    )?;
    match &r.camera.preset_id {
        Some(preset) => writeln!(out, "Camera      {}, at its preset {preset}", r.camera.local_id)?,
        None => writeln!(out, "Camera      {}", r.camera.local_id)?,
    }
    writeln!(out, "Text        {}", r.description)?;
    writeln!(out, "First seen  {}", r.first_seen_at)?;
    writeln!(out, "Confirmed   {}", r.confirmed_at)?;
    writeln!(
        out,
        "Confidence  {:.2}, rule {}, {} of {} looks",
        r.confidence, r.rule.id, r.rule.frames_seen, r.rule.frames_sampled
    )?;
    match &case.quarantined {
        Some(reason) => writeln!(
            out,
            "Outbox      {} messages wait for `gridwatch outbox retry`: {reason}",
            case.queued
        )?,
        None => writeln!(out, "Outbox      {} messages wait for the broker", case.queued)?,
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
                item.captured_at,
                path.display()
            )?;
        }
    }
    if !r.presence.is_empty() {
        writeln!(out, "Before")?;
    }
    for entry in &r.presence {
        write!(out, "  {}  {}", entry.first_at, entry.reason)?;
        match entry.times {
            1 => writeln!(out)?,
            times => writeln!(out, ", {times} times until {}", entry.last_at)?,
        }
    }
    writeln!(out, "History")?;
    for entry in &case.history {
        let reason = entry.reason.as_deref().unwrap_or_default();
        writeln!(
            out,
            "  {}  {:8}  {:16}  {reason}",
            entry.at,
            entry.author,
            entry.state.as_str()
        )?;
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
        args: Args,
    }

    fn said(line: &[&str]) -> Result<String, CasesError> {
        let cli = Cli::try_parse_from(std::iter::once("cases").chain(line.iter().copied())).unwrap();
        let mut out = Vec::new();
        print(&cli.args, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_state_directory_without_a_database_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = said(&["list", "--state", dir.path().to_str().unwrap()]).unwrap_err();
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains("gridwatch.db"), "{error}");
    }

    #[test]
    fn the_configuration_says_where_the_state_is_whatever_else_is_wrong_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edge.toml");
        drop(Store::open(&dir.path().join("state")).unwrap());
        let list = ["list", "--config", config.to_str().unwrap()];
        std::fs::write(&config, "[node]\nid = \"box-1\"\nstate_dir = \"state\"\n").unwrap();
        assert_eq!(said(&list).unwrap().lines().count(), 1);
        std::fs::write(&config, "[node]\nid = \"box-1\"\n").unwrap();
        let error = said(&list).unwrap_err();
        assert_eq!(error.class(), Class::Config);
        assert!(error.to_string().contains("node.state_dir"), "{error}");
    }

    #[test]
    fn an_id_that_begins_no_case_is_a_clear_error_and_an_empty_store_an_empty_list() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().to_str().unwrap();
        drop(Store::open(dir.path()).unwrap());
        let error = said(&["show", "01JW", "--state", state]).unwrap_err();
        assert!(matches!(error, CasesError::NoSuchCase(_)), "{error}");
        assert_eq!(said(&["list", "--state", state]).unwrap().lines().count(), 1);
        assert_eq!(said(&["list", "--json", "--state", state]).unwrap(), "");
        assert!(case_state("acepted").is_err());
    }
}
