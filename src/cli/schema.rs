//! `gridwatch schema`: the JSON Schemas of the files that people write, for editors and for tools.

use std::process::ExitCode;

use super::{Failure, print};
use crate::{config::schema, model::Manifest};

/// Prints the JSON Schema (draft 2020-12) of the configuration file, or of a model's manifest.
///
/// The same texts are in configs/schema/. Editors that speak Taplo complete and check a file that says `#:schema PATH` in its
/// first lines. What a schema cannot say (references, files, geometry) is for `gridwatch check` and `gridwatch model check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// That of model.toml.
    #[arg(long)]
    model: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    print(&match args.model {
        true => format!("{:#}\n", Manifest::schema()),
        false => schema::generate_text(),
    })?;
    Ok(ExitCode::SUCCESS)
}
