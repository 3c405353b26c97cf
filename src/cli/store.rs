//! `gridwatch store`: backs the database up, restores it, rebuilds it or starts anew.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;

use super::{Failure, audited::audited, json_line, options::StateArgs, print};
use crate::audit::Act;
use gridwatch_store::{Recovered, Store, StoreError};

/// Back up, restore or rebuild the database.
///
/// The database knows which cases are open. Without it the box would file every open problem again, so the daemon refuses to
/// start if the database is missing from a state directory that had one. A backup holds the database only; copy `evidence/`,
/// `originals/` and `keys/` of the state directory as files.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch store backup --out /media/usb/gridwatch-2026-05-01.db     while the daemon runs
  gridwatch store restore /media/usb/gridwatch-2026-05-01.db          with the daemon stopped
  gridwatch store rebuild                                             with the daemon stopped")]
pub struct StoreArgs {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    state: StateArgs,
    /// Print one JSON object.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a consistent copy of the database to a file.
    ///
    /// Safe while the daemon runs: the copy is as of one moment.
    Backup {
        /// Output file; must not exist.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Replace the database by a backup.
    ///
    /// The previous database is moved aside, and what was filed or changed after the backup is taken over from it, as far as it
    /// can be read. Stop the daemon first.
    Restore {
        /// A file written by `gridwatch store backup`.
        file: PathBuf,
        /// Accept a backup of a box with another signing key or node id, whose place this box takes.
        #[arg(long)]
        from_other_box: bool,
    },
    /// Take over the cases of databases that were moved aside.
    ///
    /// Creates the database if it is missing. Cases that no database holds any more are not filed again while the broker has
    /// their claims (`broker.share_sites`): the daemon reads those itself. Stop the daemon first.
    Rebuild,
    /// Start with an empty database.
    ///
    /// On purpose only: open problems are filed again, unless the broker has their claims. An existing database is moved aside;
    /// keys and evidence stay. Stop the daemon first.
    New,
}

/// Runs the command.
///
/// # Errors
/// No state directory, a daemon that is running, or a file that cannot be read or written.
pub fn run(args: &StoreArgs) -> Result<ExitCode, Failure> {
    let dir = args.state.dir()?;
    let recovered = match &args.command {
        Command::Backup { out } => {
            let act = Act::new("store backup").with_path("out", out);
            audited(&dir, act, |_| {
                Ok::<_, Failure>(Store::open_read_only(&dir)?.backup(out)?)
            })?;
            print(&match args.json {
                true => json_line(&json!({"path": out}))?,
                false => format!("Backup written to {}.\n", out.display()),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Restore { file, from_other_box } => {
            let act = Act::new("store restore")
                .with_path("file", file)
                .with("from_other_box", from_other_box);
            recovering(&dir, act, || match from_other_box {
                true => Store::restore_from_other_box(&dir, file),
                false => Store::restore(&dir, file),
            })?
        }
        Command::Rebuild => recovering(&dir, Act::new("store rebuild"), || Store::rebuild(&dir))?,
        Command::New => recovering(&dir, Act::new("store new"), || Store::start_anew(&dir))?,
    };
    print(&match args.json {
        true => json_line(&recovered)?,
        false => summary(&recovered),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Recorded in the database that is there afterwards.
fn recovering(
    dir: &Path,
    act: Act,
    recover: impl FnOnce() -> Result<Recovered, StoreError>,
) -> Result<Recovered, Failure> {
    audited(dir, act, |act| {
        let recovered = recover()?;
        if let Some(moved_to) = &recovered.moved_to {
            act.add_path("moved_to", moved_to);
        }
        act.add("cases", recovered.cases);
        act.add("taken_over", recovered.taken_over);
        Ok(recovered)
    })
}

fn summary(recovered: &Recovered) -> String {
    let Recovered {
        moved_to,
        orphaned_wal,
        cases,
        taken_over,
        unreadable,
        unknown_pictures,
    } = recovered;
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(moved_to) = moved_to {
        let _ = writeln!(text, "The previous database is now {}.", moved_to.display());
    }
    if let Some(wal) = orphaned_wal {
        let wal = wal.display().to_string();
        let _ = writeln!(
            text,
            "A write-ahead log without its database is now {wal}; it may hold the newest cases. If its database is found, move it to \
             {} and run `gridwatch store rebuild` again.",
            wal.strip_suffix("-wal").unwrap_or(&wal)
        );
    }
    let _ = writeln!(
        text,
        "Cases in the database: {cases}, of these taken over from databases that were moved aside: {taken_over}."
    );
    if *unreadable > 0 {
        let _ = writeln!(text, "Cases that cannot be read any more: {unreadable}.");
    }
    if *unknown_pictures > 0 {
        let _ = writeln!(
            text,
            "Pictures in evidence/ of cases that the database does not have: {unknown_pictures}. The platform may have these cases; \
             their sites are not filed again while the broker has their claims."
        );
    }
    text
}
