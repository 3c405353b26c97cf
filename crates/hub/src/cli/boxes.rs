//! `gridwatch-hub boxes`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use gridwatch_base::text::{counted, printable};
use gridwatch_custody::PublicKey;
use jiff::Timestamp;

use super::{json, local, print, table, who};
use crate::{
    HubError,
    database::{BoxRow, Database},
    ingest::Ingest,
    service::Storage,
};

/// List and confirm boxes.
///
/// A box announces its key over the broker, where others may be able to write. So its cases are dead letters, without a receipt, until somebody has
/// compared the key with what `gridwatch keys show` prints on the box, once, and confirmed it. After a box has changed its key, confirm the new one.
#[derive(Debug, Args)]
pub(super) struct BoxesArgs {
    #[command(subcommand)]
    command: BoxesCommand,
    /// Print JSON: `list` as JSON Lines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum BoxesCommand {
    /// List the boxes with their state and keys
    List,
    /// Confirm the key of a box, and take its dead letters again
    Confirm {
        /// The box.
        node: String,
        /// The key, as `gridwatch keys show` prints it on the box. Needed if the box announced several, or none.
        #[arg(long, value_name = "KEY")]
        key: Option<PublicKey>,
        /// Topic levels before `/v1/`, as for `run`.
        #[arg(long, value_name = "PREFIX", default_value = "gridwatch")]
        prefix: String,
    },
}

pub(super) async fn run(args: BoxesArgs, storage: &Storage) -> Result<ExitCode, HubError> {
    let (database, pictures) = storage.open().await?;
    match args.command {
        BoxesCommand::List => list(&database, args.json).await?,
        BoxesCommand::Confirm { node, key, prefix } => {
            let key = match key {
                Some(key) => key,
                None => only_pending(&database, &node).await?,
            };
            database.confirm_key(&node, &key, &who(), Timestamp::now()).await?;
            let letters = database.dead_letters_of(&node).await?;
            let taken = Ingest::new(database, pictures, &prefix)?
                .retry_all(&letters, Timestamp::now())
                .await?;
            match args.json {
                true => print([serde_json::json!({"node": node, "public_key": key.to_string(), "taken": taken})])?,
                false => print([format!(
                    "Key {key} of {} confirmed; {} taken. What else the box has, it sends again.",
                    printable(&node),
                    counted(taken, "dead letter", "dead letters")
                )])?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn only_pending(database: &Database, node: &str) -> Result<PublicKey, HubError> {
    let keys = database.keys(node).await?;
    let pending: Vec<_> = keys
        .iter()
        .filter(|key| key.confirmed_at.is_none())
        .filter_map(|key| key.key())
        .collect();
    match &pending[..] {
        [key] => Ok(key.clone()),
        [] if keys.is_empty() => Err(HubError::NotFound(format!(
            "{node} has announced no key; give the one that `gridwatch keys show` prints there with --key"
        ))),
        [] => Err(HubError::Conflict(format!(
            "all keys that {node} has announced are confirmed"
        ))),
        _ => {
            let keys: Vec<String> = pending.iter().map(ToString::to_string).collect();
            Err(HubError::Conflict(format!(
                "{node} has announced several keys; give the right one with --key: {}",
                keys.join(", ")
            )))
        }
    }
}

async fn list(database: &Database, as_json: bool) -> Result<(), HubError> {
    let boxes = database.boxes().await?;
    if as_json {
        return print(boxes.iter().map(json).collect::<Result<Vec<_>, _>>()?);
    }
    if boxes.is_empty() {
        return print(["No box has been heard of."]);
    }
    let head = [
        "box",
        "state",
        "since",
        "version",
        "last health",
        "last case",
        "cases",
        "dead letters",
        "key",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(boxes.iter().map(row));
    print(table(&rows))
}

fn row(found: &BoxRow) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), local);
    let keys: Vec<String> = found
        .keys
        .iter()
        .map(|key| {
            format!(
                "{} {}",
                key.public_key,
                if key.confirmed_at.is_some() {
                    "confirmed"
                } else {
                    "to be confirmed"
                }
            )
        })
        .collect();
    vec![
        printable(&found.node),
        found.presence.clone().unwrap_or_else(|| "-".into()),
        time(found.presence_at),
        found.version.as_deref().map_or_else(|| "-".into(), printable),
        time(found.health_at),
        time(found.last_case_at),
        found.cases.to_string(),
        found.dead_letters.to_string(),
        if keys.is_empty() {
            "none announced".into()
        } else {
            keys.join(", ")
        },
    ]
}
