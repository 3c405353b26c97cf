//! `gridwatch-hub dead-letters`.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Subcommand};
use gridwatch_base::text::{counted, printable};
use jiff::Timestamp;

use super::{json, local, print, table};
use crate::{
    HubError,
    database::Database,
    ingest::{Ingest, Taken},
    service::Storage,
};

/// List, show and retry messages that could not be taken.
///
/// A case among them got no receipt, so its box still has it, too, and sends it again; a message that repeats is counted, not kept again.
#[derive(Debug, Args)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
    /// Topic levels before `/v1/`, as for `run`.
    #[arg(long, global = true, value_name = "PREFIX", default_value = "gridwatch")]
    prefix: String,
    /// Print JSON: `list` as JSON Lines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List the newest ones with the reason
    List {
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Write the bytes of one to standard output
    Show {
        /// Its id, from `list`.
        id: String,
    },
    /// Take some again, as after a key was confirmed
    Retry {
        /// Their ids, from `list`.
        #[arg(required_unless_present = "all")]
        ids: Vec<String>,
        /// All of them.
        #[arg(long, conflicts_with = "ids")]
        all: bool,
    },
    /// Delete some
    Delete {
        /// Their ids, from `list`.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

pub(super) async fn run(args: DeadLettersArgs, storage: &Storage) -> Result<ExitCode, HubError> {
    let (database, pictures) = storage.open().await?;
    match args.command {
        DeadLettersCommand::List { limit } => list(&database, limit, args.json).await?,
        DeadLettersCommand::Show { id } => {
            let (_, payload) = database.dead_letter(&id).await?;
            // As it is, for a file or a pipe; a terminal gets it escaped.
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
            let written = match is_terminal {
                true => super::stdout().write_all(&payload),
                false => std::io::stdout().write_all(&payload),
            };
            written.map_err(|source| HubError::Io {
                what: "standard output".into(),
                source,
            })?;
        }
        DeadLettersCommand::Retry { ids, all } => {
            let ids = match all {
                true => database
                    .dead_letters(u32::MAX)
                    .await?
                    .into_iter()
                    .map(|letter| letter.id)
                    .collect(),
                false => ids,
            };
            let ingest = Ingest::new(database, pictures, &args.prefix)?;
            return retry(&ingest, &ids, args.json).await;
        }
        DeadLettersCommand::Delete { ids } => {
            let mut deleted = 0_u32;
            for id in &ids {
                deleted += u32::from(database.delete_dead_letter(id).await?);
            }
            match args.json {
                true => print([serde_json::json!({"deleted": deleted})])?,
                false => print([format!("{} deleted.", counted(deleted, "dead letter", "dead letters"))])?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(database: &Database, limit: u32, as_json: bool) -> Result<(), HubError> {
    let letters = database.dead_letters(limit).await?;
    if as_json {
        return print(letters.iter().map(json).collect::<Result<Vec<_>, _>>()?);
    }
    if letters.is_empty() {
        return print(["No dead letters."]);
    }
    let mut rows = vec![
        ["id", "last", "times", "bytes", "topic", "reason"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(letters.iter().map(|letter| {
        vec![
            letter.id.clone(),
            local(letter.last_at),
            letter.times.to_string(),
            letter.bytes.to_string(),
            printable(&letter.topic),
            printable(&letter.reason),
        ]
    }));
    print(table(&rows))
}

async fn retry(ingest: &Ingest, ids: &[String], as_json: bool) -> Result<ExitCode, HubError> {
    let mut is_all_taken = true;
    for id in ids {
        let reason = match ingest.retry(id, Timestamp::now()).await {
            Ok(Taken::Case { .. } | Taken::Picture(_) | Taken::Status) => None,
            Ok(Taken::DeadLetter(reason) | Taken::Dropped(reason)) => Some(reason),
            Ok(Taken::Ignored) => Some("its topic is not below the prefix (give --prefix), or it is a picture of a box without a confirmed key".to_owned()),
            Err(error @ HubError::NotFound(_)) => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        is_all_taken &= reason.is_none();
        match as_json {
            true => print([serde_json::json!({"id": id, "taken": reason.is_none(), "reason": reason})])?,
            false => match reason {
                None => print([format!(
                    "{id}: taken; the box gets its receipt when it sends the message again."
                )])?,
                Some(reason) => print([format!("{id}: not taken: {}", printable(&reason))])?,
            },
        }
    }
    Ok(if is_all_taken {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
