//! `gridwatch schema`: the JSON Schemas of the files that people write and of the messages that programs send.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Failure, print};
use gridwatch_config::schema;
use gridwatch_contract as contract;
use gridwatch_contract::Message;
use gridwatch_model::Manifest;

/// Prints the JSON Schema (draft 2020-12) of the configuration file, of a model's manifest, or of what box and platform say to each
/// other.
///
/// The same texts are in configs/schema/. Editors that speak Taplo complete and check a file that says `#:schema PATH` in its
/// first lines. What a schema cannot say (references, files, geometry) is for `gridwatch check` and `gridwatch model check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// That of model.toml.
    #[arg(long)]
    model: bool,
    /// That of a message between box and platform.
    #[arg(long, value_name = "MESSAGE", conflicts_with = "model", value_parser = message())]
    message: Option<Message>,
    /// The AsyncAPI 3.0 document of topics and messages; it refers to the schemas of the messages.
    #[arg(long, conflicts_with_all = ["model", "message"])]
    asyncapi: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    print(&match args {
        Args { model: true, .. } => format!("{:#}\n", Manifest::schema()),
        Args { asyncapi: true, .. } => contract::asyncapi(),
        Args {
            message: Some(message), ..
        } => message.schema(),
        _ => schema::generate_text(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the messages in help and in errors.
fn message() -> impl TypedValueParser<Value = Message> {
    PossibleValuesParser::new(Message::ALL.map(Message::as_str))
        .try_map(|name| Message::named(&name).ok_or("unknown message"))
}
