//! `gridwatch schema`: the JSON Schema of the configuration file, for editors and for tools that write one.

use std::process::ExitCode;

use super::{Failure, print};
use crate::config::schema;

/// Prints the JSON Schema (draft 2020-12) of the configuration file.
///
/// The same text is in configs/schema/config.schema.json. Editors that speak Taplo complete and check a configuration that
/// says `#:schema PATH` in its first lines. What a schema cannot say (references, files, geometry) is for `gridwatch check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_: Args) -> Result<ExitCode, Failure> {
    print(&schema::generate_text())?;
    Ok(ExitCode::SUCCESS)
}
