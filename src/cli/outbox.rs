//! `gridwatch outbox`: inspects and retries messages that the platform may not have. Works while the daemon runs.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{
    Failure,
    audited::audited,
    options::{Point, StateArgs, point},
    terminal, written_to_stdout,
};
use crate::audit::Act;
use gridwatch_base::{
    error::Class,
    text::{counted, printable},
};
use gridwatch_contract::When;
use gridwatch_store::{OutboxEntry, OutboxKind, OutboxState, Store, evidence_file};

/// Inspect the outbox and retry rejected messages.
///
/// A message leaves the outbox when the broker acknowledges it, or, if the platform gives receipts, with its receipt; until then the record of a case is
/// sent again, later and later. If the broker rejects a message permanently, it and all other
/// messages of its case are quarantined until you fix the cause and run `gridwatch outbox retry`. Works while the daemon runs. `list`
/// prints times in the city's time zone, or in UTC as JSON; all but `retry` work without write access.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  gridwatch outbox list --config /etc/gridwatch/edge.toml
  gridwatch outbox list --quarantined --json | jq -r .quarantined
  gridwatch outbox retry
  gridwatch outbox resend --since 2026-05-01      the platform was restored from a backup
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
    /// Send cases again that the platform has lost, such as after it was restored from a backup.
    ///
    /// Queues every case that changed since then, or whose receipt came since then or is still awaited, with its pictures; what the platform has
    /// already, it recognises by case id and revision.
    /// Pictures that are not kept any more are left out and counted. A running daemon picks the messages up within 15 s.
    Resend {
        /// A day (from its beginning, in the city's time zone) or a time such as 2026-05-01T08:00:00+08:00.
        #[arg(long, value_name = "TIME", value_parser = point)]
        since: Point,
    },
    /// Write every queued message to a folder.
    ///
    /// For a box that cannot reach the broker: carry the folder to the platform. Writes `NNNNNNNN.json` or `.jpg` per message, and
    /// `index.jsonl` with the topic of each. The messages stay in the outbox. A damaged picture is named and left out; the exit code
    /// is 5 then.
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
    let located = args.state.locate()?;
    let dir = &located.dir;
    let mut out = BufWriter::new(terminal::stdout());
    let mut damaged = Vec::new();
    let printed = match &args.command {
        Command::List { quarantined, limit } => {
            let store = Store::open_read_only(dir)?;
            let entries = store.outbox_entries(*quarantined, *limit)?;
            list(&mut out, &entries, &located.zone(&store)?, args.json)
        }
        Command::Show { seq } => {
            let store = Store::open_read_only(dir)?;
            let entry = store.outbox_entry(*seq)?.ok_or_else(|| {
                Failure::new(
                    Class::Config,
                    format!("no message {seq} in the outbox; it may have been sent (see `gridwatch outbox list`)"),
                )
            })?;
            show(&mut out, dir, &entry, &located.zone(&store)?, args.json)
        }
        Command::Retry { case } => {
            let released = audited(dir, Act::new("outbox retry"), |act| {
                let mut store = Store::open_unlocked(dir)?;
                if let Some(case) = case {
                    act.add("case", case);
                    if store.has_case(case)? {
                        act.set_case(case);
                    }
                }
                let released = store.outbox_release(case.as_deref())?;
                act.add("released", released);
                Ok::<_, Failure>(released)
            })?;
            match args.json {
                true => writeln!(out, "{}", serde_json::json!({"released": released})),
                false => writeln!(
                    out,
                    "{} released for sending.",
                    counted(released, "message", "messages")
                ),
            }
        }
        Command::Resend { since } => {
            let resent = audited(dir, Act::new("outbox resend"), |act| {
                let form = located.form()?;
                let mut store = Store::open_unlocked(dir)?;
                let since = since.timestamp(&located.zone(&store)?)?;
                act.add("since", since);
                let resent = store.outbox_resend(since, &form, Timestamp::now())?;
                act.add("cases", resent.cases);
                Ok::<_, Failure>(resent)
            })?;
            match args.json {
                true => writeln!(
                    out,
                    "{}",
                    serde_json::json!({"cases": resent.cases, "pictures": resent.pictures, "gone": resent.gone})
                ),
                false => {
                    let gone = match resent.gone {
                        0 => String::new(),
                        gone => format!("; {} not kept any more", counted(gone, "picture is", "pictures are")),
                    };
                    writeln!(
                        out,
                        "{} with {} queued again{gone}.",
                        counted(resent.cases, "case", "cases"),
                        counted(resent.pictures, "picture", "pictures")
                    )
                }
            }
        }
        Command::Export { out: folder } => {
            let act = Act::new("outbox export").with_path("out", folder);
            let written = audited(dir, act, |act| {
                let entries = Store::open_read_only(dir)?.outbox_entries(false, u32::MAX)?;
                damaged = export(dir, &entries, folder)?;
                let written = entries.len() - damaged.len();
                act.add("messages", written);
                Ok::<_, Failure>(written)
            })?;
            match args.json {
                true => writeln!(
                    out,
                    "{}",
                    serde_json::json!({"path": folder, "messages": written, "damaged": damaged})
                ),
                false => {
                    let messages = counted(written, "message", "messages");
                    writeln!(out, "{messages} written to {}.", folder.display())
                }
            }
        }
    };
    written_to_stdout(printed.and_then(|()| out.flush()))?;
    if !damaged.is_empty() {
        let pictures = counted(damaged.len(), "message was", "messages were");
        let message = format!(
            "{pictures} not exported, because of a damaged picture:\n  {}",
            damaged.join("\n  ")
        );
        return Err(Failure::new(Class::Data, message));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(out: &mut impl Write, entries: &[OutboxEntry], zone: &TimeZone, json: bool) -> io::Result<()> {
    if json {
        for entry in entries {
            writeln!(out, "{}", serde_json::to_string(entry)?)?;
        }
        return Ok(());
    }
    writeln!(
        out,
        "{:>8}  {:29}  {:8}  {:26}  STATE",
        "NUMBER", "QUEUED", "KIND", "CASE"
    )?;
    for entry in entries {
        let again = || match entry.due_at {
            Some(due) => format!(", again at {}", When::new(due, zone)),
            None => String::new(),
        };
        let state = match entry.state() {
            OutboxState::Quarantined => {
                format!(
                    "quarantined: {}",
                    printable(entry.quarantined.as_deref().unwrap_or_default())
                )
            }
            OutboxState::Missing => format!("the platform lacks it{}", again()),
            OutboxState::Sent => format!(
                "sent {}, no receipt{}",
                counted(entry.attempts as usize, "time", "times"),
                again()
            ),
            OutboxState::Queued if entry.unheard => "sent, no subscriber".into(),
            OutboxState::Queued => "queued".into(),
        };
        writeln!(
            out,
            "{:>8}  {:29}  {:8}  {:26}  {state}",
            entry.seq,
            When::new(entry.queued_at, zone).to_string(),
            entry.kind.as_str(),
            entry.case_id
        )?;
    }
    Ok(())
}

fn show(out: &mut impl Write, state: &Path, entry: &OutboxEntry, zone: &TimeZone, json: bool) -> io::Result<()> {
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
    list(out, std::slice::from_ref(entry), zone, false)?;
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

/// Writes the messages to `folder`. Returns what is damaged and was left out.
fn export(state: &Path, entries: &[OutboxEntry], folder: &Path) -> Result<Vec<String>, Failure> {
    let failed = |path: &Path, e: io::Error| Failure::new(Class::Config, format!("--out {}: {e}", path.display()));
    fs::create_dir_all(folder).map_err(|e| failed(folder, e))?;
    if fs::read_dir(folder).map_err(|e| failed(folder, e))?.next().is_some() {
        let not_empty = io::Error::other("the folder is not empty; name a new or empty one");
        return Err(failed(folder, not_empty));
    }
    let (mut index, mut damaged) = (String::new(), Vec::new());
    for entry in entries {
        let (extension, bytes) = match &entry.kind {
            OutboxKind::Case { json } => ("json", json.clone().into_bytes()),
            OutboxKind::Evidence { sha256 } => match evidence_file::read(state, sha256) {
                Ok(bytes) => ("jpg", bytes),
                Err(e) => {
                    damaged.push(format!("{}: {e}", evidence_file::path(state, sha256).display()));
                    continue;
                }
            },
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
    Ok(damaged)
}
