//! `gridwatch outbox`: inspects and retries messages that the broker has not acknowledged. Works while the daemon runs.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;

use super::{Failure, options::StateArgs, written_to_stdout};
use gridwatch_base::error::Class;
use gridwatch_store::{OutboxEntry, OutboxKind, Store, evidence_file};

/// Inspect the outbox and retry rejected messages.
///
/// A message leaves the outbox when the broker acknowledges it. If the broker rejects a message permanently, it and all other
/// messages of its case are quarantined until you fix the cause and run `gridwatch outbox retry`. Works while the daemon runs.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  gridwatch outbox list --config /etc/gridwatch/edge.toml
  gridwatch outbox list --quarantined --json | jq -r .quarantined
  gridwatch outbox retry
  gridwatch outbox export --out /media/usb        carry the messages to the platform by hand")]
pub struct OutboxArgs {
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
    /// List the queued messages in sending order.
    List {
        /// Only quarantined messages.
        #[arg(long)]
        quarantined: bool,
        /// Maximum number of messages.
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Show one message with its payload.
    Show {
        /// Message number, from `gridwatch outbox list`.
        seq: i64,
    },
    /// Release quarantined messages for sending.
    ///
    /// A running daemon picks them up within 15 s.
    Retry {
        /// Only the messages of this case.
        case: Option<String>,
    },
    /// Write every queued message to a folder.
    ///
    /// For a box that cannot reach the broker: carry the folder to the platform. Writes `NNNNNNNN.json` or `.jpg` per message, and
    /// `index.jsonl` with the topic of each. The messages stay in the outbox.
    Export {
        /// Output folder; created if missing, must be empty.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command.
///
/// # Errors
/// No state directory, no such message, or an output folder that is not empty or not writable.
pub fn run(args: &OutboxArgs) -> Result<ExitCode, Failure> {
    let dir = args.state.dir()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = match &args.command {
        Command::List { quarantined, limit } => {
            let entries = Store::open_read_only(&dir)?.outbox_entries(*quarantined, *limit)?;
            list(&mut out, &entries, args.json)
        }
        Command::Show { seq } => {
            let entry = Store::open_read_only(&dir)?.outbox_entry(*seq)?.ok_or_else(|| {
                Failure::new(
                    Class::Config,
                    format!("no message {seq} in the outbox; it may have been sent (see `gridwatch outbox list`)"),
                )
            })?;
            show(&mut out, &dir, &entry, args.json)
        }
        Command::Retry { case } => {
            let released = Store::open_unlocked(&dir)?.outbox_release(case.as_deref())?;
            match args.json {
                true => writeln!(out, "{}", serde_json::json!({"released": released})),
                false => writeln!(out, "{released} messages released; they are sent again."),
            }
        }
        Command::Export { out: folder } => {
            let entries = Store::open_read_only(&dir)?.outbox_entries(false, u32::MAX)?;
            let written = export(&dir, &entries, folder)?;
            match args.json {
                true => writeln!(out, "{}", serde_json::json!({"path": folder, "messages": written})),
                false => writeln!(out, "{written} messages written to {}.", folder.display()),
            }
        }
    };
    written_to_stdout(printed.and_then(|()| out.flush()))?;
    Ok(ExitCode::SUCCESS)
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
            (Some(reason), _) => format!("quarantined: {reason}"),
            (None, true) => "sent, no subscriber".into(),
            (None, false) => "queued".into(),
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
struct IndexLine<'a> {
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
        let not_empty = io::Error::other("the folder is not empty; name a new or empty one");
        return Err(failed(folder, not_empty));
    }
    let mut index = String::new();
    for entry in entries {
        let (extension, bytes) = match &entry.kind {
            OutboxKind::Case { json } => ("json", json.clone().into_bytes()),
            OutboxKind::Evidence { sha256 } => {
                let path = evidence_file::path(state, sha256);
                let bytes = evidence_file::read(state, sha256)
                    .map_err(|e| Failure::new(Class::Data, format!("{}: {e}", path.display())))?;
                ("jpg", bytes)
            }
        };
        let file = format!("{:08}.{extension}", entry.seq);
        let path = folder.join(&file);
        fs::write(&path, bytes).map_err(|e| failed(&path, e))?;
        let line = IndexLine {
            file,
            topic: &entry.topic,
            case_id: &entry.case_id,
            quarantined: entry.quarantined.as_deref(),
        };
        // Serializing strings under string keys cannot fail.
        index += &(serde_json::to_string(&line).unwrap_or_default() + "\n");
    }
    let path = folder.join("index.jsonl");
    fs::write(&path, index).map_err(|e| failed(&path, e))?;
    Ok(entries.len())
}
