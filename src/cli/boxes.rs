//! `gridwatch boxes`: lists and confirms the boxes that share sites with this one.

use std::process::ExitCode;

use jiff::Timestamp;

use super::{Failure, audited::audited, json_line, options::StateArgs, print, terminal::note};
use crate::audit::Act;
use gridwatch_base::{error::Class, text::printable};
use gridwatch_contract::When;
use gridwatch_custody::{PublicKey, keys::parse_public};
use gridwatch_store::{KnownBox, Store};

/// List and confirm the boxes that share sites with this one.
///
/// Boxes whose cameras see the same street tell each other over the broker which problems they have filed, so that each is filed once
/// (docs/contract.md). A box obeys only the claims of boxes that are enrolled: listed in `[[claims.boxes]]` of the configuration, or
/// confirmed here. A box that is not enrolled is named here and in the log once it has published a claim.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch boxes list --config /etc/gridwatch/edge.toml
  gridwatch boxes confirm box-02                       after comparing the key with `gridwatch keys show` on box-02
  gridwatch boxes confirm box-03 --key 3p1p…=          before it has published anything
  gridwatch boxes remove box-02")]
pub struct BoxesArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the boxes that published claims, or were confirmed.
    ///
    /// Boxes of the configuration are not listed.
    List {
        /// Print one JSON object per box.
        #[arg(long)]
        json: bool,
    },
    /// Obey the claims of a box, signed with its key.
    ///
    /// Compare the key first: anyone who may publish on the broker can claim to be that box. The daemon obeys within 15 seconds.
    Confirm {
        /// Its node id.
        node: String,
        /// Its public key, in base64 or PEM. Required if the box has not published a claim, or several keys did in its name.
        #[arg(long)]
        key: Option<String>,
    },
    /// No longer obey the claims of a box.
    ///
    /// What is held back for it is confirmed anew and filed if it is still there. The box stays in the list, as one whose claims are ignored;
    /// remove it again to delete it there.
    Remove {
        /// Its node id.
        node: String,
    },
}

/// Runs the command.
///
/// # Errors
/// No state directory, an unknown box, or an ambiguous or invalid key.
pub fn run(args: &BoxesArgs) -> Result<ExitCode, Failure> {
    let located = args.state.locate()?;
    let failed = |message: String| Failure::new(Class::Config, message);
    match &args.command {
        Command::List { json } => {
            let store = Store::open_read_only(&located.dir)?;
            let boxes = store.boxes()?;
            let zone = located.zone(&store)?;
            let mut text = String::new();
            if *json {
                for known in &boxes {
                    text += &json_line(known)?;
                }
            } else {
                text += &format!("{:20}  {:44}  {:29}  CONFIRMED\n", "BOX", "PUBLIC KEY", "FIRST SEEN");
                for known in &boxes {
                    let local = |at: Timestamp| When::new(at, &zone).to_string();
                    let confirmed = known.confirmed_at.map_or("no: its claims are ignored".into(), local);
                    let node = printable(&known.node_id);
                    text += &format!(
                        "{node:20}  {:44}  {:29}  {confirmed}\n",
                        known.public_key,
                        local(known.first_seen)
                    );
                }
            }
            print(&text)?;
        }
        Command::Confirm { node, key } => {
            let act = Act::new("boxes confirm").with("node", node);
            let key = audited(&located.dir, act, |act| {
                let mut store = Store::open_unlocked(&located.dir)?;
                let key = match key {
                    Some(text) => parse_public(text).map_err(|e| failed(format!("--key: {e}")))?,
                    None => only_key(&store.boxes()?, node)?,
                };
                act.add("public_key", &key);
                store.confirm_box(&node.as_str().into(), &key, Timestamp::now())?;
                Ok::<_, Failure>(key)
            })?;
            note(format!(
                "Confirmed: the claims of {} signed with {key} are obeyed.",
                printable(node)
            ));
        }
        Command::Remove { node } => {
            let act = Act::new("boxes remove").with("node", node);
            audited(&located.dir, act, |_| {
                let mut store = Store::open_unlocked(&located.dir)?;
                match store.remove_box(&node.as_str().into())? {
                    true => Ok(()),
                    false => Err(failed(format!(
                        "no box {} is known here; boxes of the configuration are removed there",
                        printable(node)
                    ))),
                }
            })?;
            note(format!("Removed: the claims of {} are ignored.", printable(node)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The only key with which `node` published claims.
fn only_key(boxes: &[KnownBox], node: &str) -> Result<PublicKey, Failure> {
    let failed = |message: String| Failure::new(Class::Config, message);
    let keys: Vec<&str> = boxes
        .iter()
        .filter(|known| known.node_id == node)
        .map(|known| known.public_key.as_str())
        .collect();
    match keys[..] {
        [key] => key.parse().map_err(failed),
        [] => Err(failed(format!(
            "no box {} has published a claim here; give its key with --key, as `gridwatch keys show` prints it there",
            printable(node)
        ))),
        _ => Err(failed(format!(
            "box {} published claims with several keys; give the right one with --key: {}",
            printable(node),
            keys.join(", ")
        ))),
    }
}
