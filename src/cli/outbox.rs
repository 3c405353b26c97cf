//! `gridwatch outbox`: what the broker has not acknowledged. Reads beside a running daemon.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{Failure, state::State};
use gridwatch_base::error::Class;
use gridwatch_store::{OutboxEntry, OutboxKind, Store, evidence_file};

/// Look at what waits to be sent, and send again what the broker refused.
///
/// A message leaves the outbox when the broker acknowledges it. One that the broker refuses for good is quarantined with all others
/// of its case, and waits for you: remove the cause, then `gridwatch outbox retry`.
///
///   gridwatch outbox list --config /etc/gridwatch/edge.toml
///   gridwatch outbox list --quarantined --json | jq -r .quarantined
///   gridwatch outbox export --out /media/stick       for a box whose broker does not come back
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: State,
    /// Print JSON: `list` an object a line, the others one object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// One line per message, in the order in which they are sent.
    List {
        /// Only those that the broker refused for good.
        #[arg(long)]
        quarantined: bool,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One message, with what it carries.
    Show {
        /// Its number, as `list` has it.
        seq: i64,
    },
    /// Sends again what the broker refused for good. The running daemon finds it within 15 s.
    Retry {
        /// Only the messages of this case.
        case: Option<String>,
    },
    /// Writes every waiting message into a folder, for another way to the platform: `NNNN.json` or `.jpg`, and `index.jsonl`, which
    /// has each one's topic. They stay in the outbox.
    Export {
        /// The folder; it is made, and must be empty.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// No state directory, no such message, or a folder that takes no files.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let dir = args.state.dir()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let said = match &args.command {
        Command::List { quarantined, limit } => {
            let entries = Store::open_read_only(&dir)?.outbox_entries(*quarantined, *limit)?;
            list(&mut out, &entries, args.json)
        }
        Command::Show { seq } => {
            let entry = Store::open_read_only(&dir)?.outbox_entry(*seq)?.ok_or_else(|| {
                Failure::new(
                    Class::Config,
                    format!("no message has the number {seq}: it was sent, or never was (gridwatch outbox list)"),
                )
            })?;
            show(&mut out, &dir, &entry, args.json)
        }
        Command::Retry { case } => {
            let released = Store::open_unlocked(&dir)?.outbox_release(case.as_deref())?;
            match args.json {
                true => writeln!(out, "{}", serde_json::json!({"released": released})),
                false => writeln!(out, "{released} messages are on their way again."),
            }
        }
        Command::Export { out: folder } => {
            let entries = Store::open_read_only(&dir)?.outbox_entries(false, u32::MAX)?;
            let written = export(&dir, &entries, folder)?;
            match args.json {
                true => writeln!(out, "{}", serde_json::json!({"path": folder, "messages": written})),
                false => writeln!(out, "{written} messages are in {}.", folder.display()),
            }
        }
    };
    match said.and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Class::Transient, format!("standard output: {e}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn list(out: &mut impl Write, entries: &[OutboxEntry], json: bool) -> io::Result<()> {
    if json {
        for entry in entries {
            writeln!(out, "{}", serde_json::to_string(entry)?)?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:>8}  {:24}  {:8}  {:26}  STATE",
        "NUMBER", "QUEUED", "KIND", "CASE"
    )?;
    for entry in entries {
        let state = match (&entry.quarantined, entry.unheard) {
            (Some(reason), _) => format!("refused: {reason}"),
            (None, true) => "sent, and nobody listened".into(),
            (None, false) => "waits".into(),
        };
        writeln!(
            out,
            "{:>8}  {:24}  {:8}  {:26}  {state}",
            entry.seq,
            entry.queued_at.to_string(),
            entry.kind.as_str(),
            entry.case_id
        )?;
    }
    Ok(())
}

fn show(out: &mut impl Write, state: &Path, entry: &OutboxEntry, json: bool) -> io::Result<()> {
    let picture = match &entry.kind {
        OutboxKind::Evidence { sha256 } => Some(evidence_file::path(state, sha256)),
        OutboxKind::Case { .. } => None,
    };
    if json {
        let mut value = serde_json::to_value(entry)?;
        match &entry.kind {
            OutboxKind::Case { json } => value["payload"] = serde_json::from_str(json)?,
            OutboxKind::Evidence { .. } => value["path"] = serde_json::to_value(&picture)?,
        }
        return writeln!(out, "{value}");
    }
    list(out, std::slice::from_ref(entry), false)?;
    writeln!(out, "\nTopic  {}", entry.topic)?;
    match (&entry.kind, picture) {
        (OutboxKind::Case { json }, _) => {
            let value: serde_json::Value = serde_json::from_str(json)?;
            writeln!(out, "{value:#}")
        }
        (_, Some(path)) => writeln!(out, "File   {}", path.display()),
        _ => Ok(()),
    }
}

/// A line of `index.jsonl`.
#[derive(Serialize)]
struct Line<'a> {
    file: String,
    topic: &'a str,
    case_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantined: Option<&'a str>,
}

fn export(state: &Path, entries: &[OutboxEntry], folder: &Path) -> Result<usize, Failure> {
    let failed = |path: &Path, e: io::Error| Failure::new(Class::Config, format!("--out {}: {e}", path.display()));
    fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    if fs::read_dir(folder).map_err(|e| failed(folder, e))?.next().is_some() {
        let full = io::Error::other("it is not empty: what is in it would be mistaken for messages");
        return Err(failed(folder, full));
    }
    let mut index = String::new();
    for entry in entries {
        let (ending, bytes) = match &entry.kind {
            OutboxKind::Case { json } => ("json", json.clone().into_bytes()),
            OutboxKind::Evidence { sha256 } => {
                let path = evidence_file::path(state, sha256);
                let bytes = evidence_file::read(state, sha256)
                    .map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))?;
                ("jpg", bytes)
            }
        };
        let file = format!("{:08}.{ending}", entry.seq);
        let path = folder.join(&file);
        fs::write(&path, bytes).map_err(|e| failed(&path, e))?;
        let line = Line {
            file,
            topic: &entry.topic,
            case_id: &entry.case_id,
            quarantined: entry.quarantined.as_deref(),
        };
        // Text under string keys.
        index += &(serde_json::to_string(&line).unwrap_or_default() + "\n");
    }
    let path = folder.join("index.jsonl");
    fs::write(&path, index).map_err(|e| failed(&path, e))?;
    Ok(entries.len())
}
