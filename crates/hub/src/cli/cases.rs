//! `gridwatch-hub cases`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use gridwatch_base::{disk::write_private, text::printable};
use gridwatch_engine::CaseState;
use jiff::Timestamp;

use super::{json, local, print, table, who};
use crate::{
    HubError,
    database::{CaseFilter, CaseRow, Database},
    dispatch::DispatchTable,
    pictures::Pictures,
    service::Storage,
    workflow::Act,
};

/// List, show and decide about cases.
///
/// A case is named by its id, or by the end of it (at least four characters) if only one case has that.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  gridwatch-hub cases list --state filed                 what is to be decided
  gridwatch-hub cases show 4K7Q --pictures ./4K7Q        the case, its history, its pictures
  gridwatch-hub cases accept 4K7Q
  gridwatch-hub cases dispatch 4K7Q --unit 'Street cleaning 3' --due 2026-05-01T14:00:00+08:00
  gridwatch-hub cases dispose 4K7Q                       the unit is done: the box looks again
  gridwatch-hub cases close 4K7Q")]
pub(super) struct CasesArgs {
    #[command(subcommand)]
    command: CasesCommand,
    /// Print JSON: `list` as JSON Lines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum CasesCommand {
    /// List cases, the newest first
    List {
        /// Only those in this state: filed, accepted, dispatched, …
        #[arg(long, value_parser = state)]
        state: Option<CaseState>,
        /// Only those of this box.
        #[arg(long, value_name = "BOX")]
        node: Option<String>,
        /// Only those in this unit grid cell.
        #[arg(long)]
        cell: Option<String>,
        /// Only those of this category code.
        #[arg(long, value_name = "CODE")]
        category: Option<String>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Show a case with its history
    Show {
        /// The case.
        case: String,
        /// Write its pictures into this folder, made if missing.
        #[arg(long, value_name = "DIR")]
        pictures: Option<PathBuf>,
    },
    /// Take it up （受理、立案）
    Accept {
        /// The case.
        case: String,
    },
    /// It is not a problem （不予受理）
    Reject {
        /// The case.
        case: String,
        /// Why; the box learns it.
        #[arg(long, value_parser = reason)]
        reason: String,
    },
    /// It was reported before （重复上报）
    Duplicate {
        /// The case.
        case: String,
        /// The other case.
        #[arg(long, value_name = "CASE")]
        of: String,
    },
    /// Send a unit （派遣）
    Dispatch {
        /// The case.
        case: String,
        /// The unit that deals with it.
        #[arg(long, value_parser = reason, required_unless_present = "table")]
        unit: Option<String>,
        /// Until when, such as 2026-05-01T14:00:00+08:00; the box looks then, unless it was disposed before.
        #[arg(long, value_name = "TIME")]
        due: Option<Timestamp>,
        /// The unit and the time limit as this table says.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["unit", "due"])]
        table: Option<PathBuf>,
    },
    /// The unit is done （处置完成）; the box looks again
    Dispose {
        /// The case.
        case: String,
    },
    /// Have the box look （要求核查）
    Verify {
        /// The case.
        case: String,
    },
    /// It is over （结案）
    Close {
        /// The case.
        case: String,
        /// Why.
        #[arg(long, value_parser = reason)]
        reason: Option<String>,
    },
    /// It goes on （恢复办理）
    Reopen {
        /// The case.
        case: String,
        /// Why.
        #[arg(long, value_parser = reason)]
        reason: String,
    },
}

/// Longest reason and name of a unit, in characters; the contract allows 2000.
const MAX_REASON: usize = 500;

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > MAX_REASON || text.contains(char::is_control) {
        return Err(format!("expected 1 to {MAX_REASON} characters in one line"));
    }
    Ok(text.to_owned())
}

fn state(name: &str) -> Result<CaseState, String> {
    CaseState::ALL
        .into_iter()
        .find(|state| state.as_str() == name)
        .ok_or_else(|| {
            let names: Vec<&str> = CaseState::ALL.into_iter().map(CaseState::as_str).collect();
            format!("expected one of {}", names.join(", "))
        })
}

pub(super) async fn run(args: CasesArgs, storage: &Storage) -> Result<ExitCode, HubError> {
    let (database, pictures) = storage.open().await?;
    let (case, act) = match args.command {
        CasesCommand::List {
            state,
            node,
            cell,
            category,
            limit,
        } => {
            let filter = CaseFilter {
                state,
                node,
                cell,
                category,
                limit,
            };
            list(&database, &filter, args.json).await?;
            return Ok(ExitCode::SUCCESS);
        }
        CasesCommand::Show { case, pictures: folder } => {
            let case = database.case(&case).await?;
            show(&database, &case, args.json).await?;
            if let Some(folder) = folder {
                return write_pictures(&database, &pictures, &case, &folder).await;
            }
            return Ok(ExitCode::SUCCESS);
        }
        CasesCommand::Accept { case } => (case, Act::Accept),
        CasesCommand::Reject { case, reason } => (case, Act::Reject { reason }),
        CasesCommand::Duplicate { case, of } => (
            case,
            Act::Duplicate {
                of: database.case(&of).await?.case_id,
            },
        ),
        CasesCommand::Dispatch { case, unit, due, table } => {
            let act = match (unit, table) {
                (Some(unit), _) => Act::Dispatch { unit, due },
                (None, Some(table)) => by_table(&database.case(&case).await?, &table)?,
                (None, None) => return Err(HubError::Input("--unit or --table is needed".into())),
            };
            (case, act)
        }
        CasesCommand::Dispose { case } => (case, Act::Dispose),
        CasesCommand::Verify { case } => (case, Act::Verify),
        CasesCommand::Close { case, reason } => (case, Act::Close { reason }),
        CasesCommand::Reopen { case, reason } => (case, Act::Reopen { reason }),
    };
    let case = database.case(&case).await?;
    let decided = database
        .decide(&case.case_id, &act, None, &who(), Timestamp::now())
        .await?;
    match args.json {
        true => print([json(&decided)?])?,
        false => {
            let number = decided
                .task_no
                .as_ref()
                .map_or_else(String::new, |number| format!(", task {number}"));
            print([format!(
                "{} is {}{number}; the box is told.",
                decided.case_id,
                decided.state.as_str()
            )])?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn by_table(case: &CaseRow, table: &std::path::Path) -> Result<Act, HubError> {
    let act = DispatchTable::read(table)?.dispatch(&case.category_code, &case.cell_code, Timestamp::now());
    act.ok_or_else(|| {
        HubError::Input(format!(
            "{}: no rule fits category {} in cell {}; add one, or name a --unit",
            table.display(),
            printable(&case.category_code),
            printable(&case.cell_code)
        ))
    })
}

async fn list(database: &Database, filter: &CaseFilter, as_json: bool) -> Result<(), HubError> {
    let cases = database.cases(filter).await?;
    if as_json {
        return print(cases.iter().map(json).collect::<Result<Vec<_>, _>>()?);
    }
    if cases.is_empty() {
        return print(["No such cases."]);
    }
    let head = [
        "case", "received", "state", "category", "cell", "box", "camera", "score", "unit", "due", "finding",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(cases.iter().map(|case| {
        let dash = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), printable);
        vec![
            case.case_id.clone(),
            local(case.received_at),
            case.state.as_str().to_owned(),
            printable(&case.category_code),
            printable(&case.cell_code),
            printable(&case.node),
            printable(&case.camera),
            format!("{:.2}", case.confidence),
            dash(&case.unit),
            case.due_at.map_or_else(|| "-".to_owned(), local),
            dash(&case.finding),
        ]
    }));
    print(table(&rows))
}

async fn show(database: &Database, case: &CaseRow, as_json: bool) -> Result<(), HubError> {
    let (record, text) = database.record(case).await?;
    let events = database.case_events(&case.case_id).await?;
    let mut missing = Vec::new();
    for item in &record.evidence {
        if !database.has_picture(&item.sha256).await? {
            missing.push(item.sha256.clone());
        }
    }
    if as_json {
        let record: serde_json::Value = serde_json::from_str(&text).map_err(|e| HubError::Damaged {
            what: format!("the record of case {}", case.case_id),
            reason: e.to_string(),
        })?;
        let shown = serde_json::json!({"case": case, "events": events, "missing": missing, "record": record});
        return print([json(&shown)?]);
    }
    let mut lines = vec![
        format!("case       {}, revision {}", case.case_id, case.revision),
        format!("state      {}", case.state.as_str()),
        format!(
            "what       {} {}",
            printable(&record.category_code),
            printable(&record.category_name)
        ),
        format!(
            "where      cell {}, {:.6}, {:.6}, {}",
            printable(&case.cell_code),
            case.lon,
            case.lat,
            printable(&record.location.crs)
        ),
        format!(
            "from       box {}, camera {}",
            printable(&case.node),
            printable(&case.camera)
        ),
        format!("           {}", printable(&record.description)),
    ];
    let optional = [
        ("task", &case.task_no),
        ("unit", &case.unit),
        ("finding", &case.finding),
    ];
    lines.extend(
        optional
            .iter()
            .filter_map(|(name, value)| Some(format!("{name:<10} {}", printable(value.as_deref()?)))),
    );
    lines.extend(case.due_at.map(|due| format!("due        {}", local(due))));
    lines.push("pictures".into());
    lines.extend(record.evidence.iter().map(|item| {
        let note = if missing.contains(&item.sha256) {
            "  MISSING: the box was asked for it"
        } else {
            ""
        };
        let caption = item.caption.as_ref().map_or("", |caption| caption.en.as_str());
        format!(
            "           {}  {}  {}{note}",
            printable(&item.id),
            item.sha256,
            printable(caption)
        )
    }));
    lines.push("history".into());
    lines.extend(events.iter().map(|event| {
        let reason = event
            .reason
            .as_deref()
            .map_or_else(String::new, |reason| format!(": {}", printable(reason)));
        format!(
            "           {}  {}  {}{reason}",
            local(event.at),
            printable(&event.who),
            event.state.as_str()
        )
    }));
    print(lines)
}

/// Writes a case's pictures as `ID-SHA256.jpg`; fails if one is missing.
async fn write_pictures(
    database: &Database,
    pictures: &Pictures,
    case: &CaseRow,
    folder: &std::path::Path,
) -> Result<ExitCode, HubError> {
    let io = |source| HubError::Io {
        what: folder.display().to_string(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(io)?;
    let (record, _) = database.record(case).await?;
    let mut is_complete = true;
    for item in &record.evidence {
        // The id is the box's; only the hash is known to be a name.
        let id: String = item.id.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
        let file = folder.join(format!("{id}-{}.jpg", &item.sha256[..16]));
        match pictures.get(&item.sha256).await? {
            Some(bytes) => write_private(&file, &bytes).map_err(io)?,
            None => {
                is_complete = false;
                eprintln!("{} is missing", item.sha256);
            }
        }
    }
    Ok(if is_complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
