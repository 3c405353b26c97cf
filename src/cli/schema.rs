//! `gridwatch schema`: prints the JSON Schemas of configuration files and MQTT messages.

use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{Failure, print};
use gridwatch_config::schema;
use gridwatch_contract as contract;
use gridwatch_contract::MessageType;
use gridwatch_model::Manifest;

/// Print the JSON Schema of the configuration, the words of adverts, a model manifest or an MQTT message.
///
/// Without options it prints the schema (draft 2020-12) of the configuration file. The same files are in configs/schema/. An editor
/// with Taplo completes and checks a TOML file whose first lines contain `#:schema PATH`. A schema cannot check references,
/// files or geometry; `gridwatch check` and `gridwatch model check` do.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch schema > config.schema.json
  gridwatch schema --message case
  gridwatch schema --asyncapi > asyncapi.json")]
pub struct SchemaArgs {
    /// Print the schema of a model manifest (model.toml).
    #[arg(long)]
    model: bool,
    /// Print the schema of a file of advert words (`reading.adverts`).
    #[arg(long, conflicts_with = "model")]
    adverts: bool,
    /// Print the schema of an MQTT message.
    #[arg(long, value_name = "MESSAGE", conflicts_with_all = ["model", "adverts"], value_parser = message())]
    message: Option<MessageType>,
    /// Print the AsyncAPI 3.0 document of all topics and messages; it refers to the message schemas.
    #[arg(long, conflicts_with_all = ["model", "adverts", "message"])]
    asyncapi: bool,
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: SchemaArgs) -> Result<ExitCode, Failure> {
    print(&match args {
        SchemaArgs { model: true, .. } => format!("{:#}\n", Manifest::schema()),
        SchemaArgs { adverts: true, .. } => schema::adverts_text(),
        SchemaArgs { asyncapi: true, .. } => contract::asyncapi(),
        SchemaArgs {
            message: Some(message), ..
        } => message.schema(),
        _ => schema::generate_text(),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Lists the messages in help and in errors.
fn message() -> impl TypedValueParser<Value = MessageType> {
    PossibleValuesParser::new(MessageType::ALL.map(MessageType::as_str))
        .try_map(|name| MessageType::named(&name).ok_or("unknown message"))
}
