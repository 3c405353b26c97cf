//! The command line.

mod boxes;
mod cases;
mod dead_letters;
mod run;

use std::{
    fmt::Display,
    io::{self, StdoutLock, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use gridwatch_base::{error::Class, person::Person, text::EscapingWriter};
use jiff::{Timestamp, tz::TimeZone};

use crate::{HubError, service::Storage};

/// Receive the cases of gridwatch boxes, decide about them, and tell the boxes.
///
/// The hub subscribes to what boxes publish, commits it to a database and a folder of pictures, and answers each case with a receipt: until then,
/// the box keeps it. What is decided here goes back to the box as a reply; when a case is marked as disposed, the box looks again, and its result
/// is shown with the case.
#[derive(Debug, Parser)]
#[command(
    name = "gridwatch-hub",
    version,
    max_term_width = 110,
    propagate_version = true,
    after_long_help = "\
Getting started:
  gridwatch-hub run --broker mqtt://127.0.0.1:1883     receive; prints the boxes and cases that come
  gridwatch-hub boxes list                             the boxes and their keys
  gridwatch-hub boxes confirm box-7                    the key is that of `gridwatch keys show` on box-7
  gridwatch-hub cases list --state filed               what is to be decided
  gridwatch-hub cases accept 4K7Q                      the end of a case's id will do

Exit codes:
  0   success
  1   a part of what was asked for failed
  2   usage error
  3   wrong input or configuration
  4   database, pictures or broker unavailable; try again later
  5   damaged data
  70  a bug in gridwatch-hub"
)]
struct Cli {
    #[command(flatten)]
    storage: StorageArgs,
    #[command(subcommand)]
    command: Command,
}

/// Where the hub keeps its data.
#[derive(Debug, Args)]
struct StorageArgs {
    /// Folder of the SQLite database and the pictures, unless the next two say otherwise; created if missing.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "GRIDWATCH_HUB_DATA",
        default_value = "gridwatch-hub-data"
    )]
    data: PathBuf,
    /// Database: `sqlite:FILE` or `postgres://USER@HOST/NAME`. Default: `hub.db` in the data folder. Give a password of PostgreSQL by the
    /// environment (this variable, or PGPASSWORD) or in ~/.pgpass, not on the command line, which other users can see.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "GRIDWATCH_HUB_DATABASE",
        hide_env_values = true
    )]
    database: Option<String>,
    /// Folder of the pictures. Default: `pictures` in the data folder. Several hubs on one database need one that all of them see.
    #[arg(long, global = true, value_name = "DIR", env = "GRIDWATCH_HUB_OBJECTS")]
    objects: Option<PathBuf>,
}

impl StorageArgs {
    fn storage(&self) -> Storage {
        let default = Storage::in_folder(&self.data);
        Storage {
            database: self.database.clone().unwrap_or(default.database),
            objects: self.objects.clone().unwrap_or(default.objects),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive from the broker, until stopped
    Run(Box<run::RunArgs>),
    /// List and confirm boxes
    Boxes(boxes::BoxesArgs),
    /// List, show and decide about cases
    Cases(cases::CasesArgs),
    /// List, show and retry messages that could not be taken
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Copy a SQLite database while the hub runs
    ///
    /// Copy the folder of the pictures after it: then each case in the copy has its pictures. For PostgreSQL use pg_dump.
    Backup {
        /// File to write; must not exist.
        #[arg(value_name = "FILE")]
        out: PathBuf,
    },
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), Class::Transient),
    };
    let storage = cli.storage.storage();
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(*args, storage).await,
            Command::Boxes(args) => boxes::run(args, &storage).await,
            Command::Cases(args) => cases::run(args, &storage).await,
            Command::DeadLetters(args) => dead_letters::run(args, &storage).await,
            Command::Backup { out } => backup(&storage, &out).await,
        }
    });
    done.unwrap_or_else(|error| fail(&error.to_string(), error.class()))
}

async fn backup(storage: &Storage, out: &Path) -> Result<ExitCode, HubError> {
    let (database, _) = storage.open().await?;
    database.backup(out).await?;
    print([format!("{} written.", out.display())])?;
    Ok(ExitCode::SUCCESS)
}

/// The command, for the reference of all commands.
pub fn command() -> clap::Command {
    Cli::command()
}

fn fail(message: &str, class: Class) -> ExitCode {
    let _ = writeln!(EscapingWriter::new(io::stderr()), "error: {message}");
    ExitCode::from(class.exit_code())
}

/// Standard output, on which no text from outside controls the terminal.
fn stdout() -> EscapingWriter<StdoutLock<'static>> {
    EscapingWriter::new(io::stdout().lock())
}

/// Writes lines to standard output. A reader that has gone, such as `head`, is not an error.
fn print(lines: impl IntoIterator<Item = impl Display>) -> Result<(), HubError> {
    let mut out = stdout();
    for line in lines {
        match writeln!(out, "{line}") {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(source) => {
                return Err(HubError::Io {
                    what: "standard output".into(),
                    source,
                });
            }
        }
    }
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Result<String, HubError> {
    serde_json::to_string(value).map_err(|e| HubError::Damaged {
        what: "a row".into(),
        reason: e.to_string(),
    })
}

/// Who decides, for the history of a case: the login, as the kernel knows it.
fn who() -> String {
    Person::current().describe()
}

/// A time in the zone of this machine.
fn local(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system())
        .strftime("%Y-%m-%d %H:%M:%S")
        .to_string()
}

/// Rows as columns of equal width; the first is the head.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            let missing = width.saturating_sub(cell.chars().count());
            format!("{cell}{}", " ".repeat(missing))
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect()
}
