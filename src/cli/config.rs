//! `gridwatch config`: lists, shows, compares and restores the versions of the configuration's files.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Failure, audited::audited, json_pretty, print};
use crate::audit::Act;
use gridwatch_base::{
    error::Class,
    person::Person,
    text::{counted, printable},
};
use gridwatch_config as config;
use gridwatch_config::{
    Faults,
    diff::Change,
    edit::{SaveRequest, Version, Versions},
    files::ConfigFiles,
};

/// List, compare and restore versions of the configuration.
///
/// Whenever gridwatch saves the configuration, and when the daemon finds that it was edited, the files (the main file and those in conf.d)
/// are kept as a version: the last 20, in `configurations` of the state directory. Restoring one is a save like any other: it is
/// checked as `gridwatch check` does, without connecting to anything, and is a new version itself.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gridwatch config history --config edge.toml
  gridwatch config diff 7 --config edge.toml          what has changed since version 7
  gridwatch config diff 5 7 --config edge.toml --json
  gridwatch config restore 7 --why \"too many false cases\" --config edge.toml")]
pub struct ConfigCommandArgs {
    #[command(subcommand)]
    command: Command,
    /// The configuration's main file.
    #[arg(
        long,
        short,
        value_name = "FILE",
        global = true,
        required = false,
        env = "GRIDWATCH_CONFIG"
    )]
    config: Option<PathBuf>,
    /// State directory with the versions, for a file that is too damaged to name it. [default: that of the configuration]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the kept versions, newest first.
    ///
    /// Prints for each version its number, when and by whom it was saved, what it changed, and the reason. The version that the files are
    /// now has an asterisk. A version without a person was made with an editor; its time is when that was found.
    History {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show what differs between two versions, or between a version and the files as they are.
    ///
    /// Names each field by camera, zone and rule, with its old and new value, and whether the daemon takes it while it runs or at a
    /// restart. Credentials are not shown.
    Diff {
        /// The older version.
        #[arg(value_name = "VERSION")]
        old: u64,
        /// The newer version. [default: the files as they are]
        #[arg(value_name = "VERSION")]
        new: Option<u64>,
        /// Print one JSON object, with long values whole.
        #[arg(long)]
        json: bool,
    },
    /// Make the files what they were in a version.
    ///
    /// Comments and formatting are those of the version. A faulty version is refused. The daemon takes the files as it takes any edit.
    Restore {
        /// The version, from `gridwatch config history`.
        #[arg(value_name = "VERSION")]
        id: u64,
        /// The reason, kept with the new version; at most 1000 bytes.
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print the files of a version.
    Show {
        /// The version, from `gridwatch config history`.
        #[arg(value_name = "VERSION")]
        id: u64,
        /// Only this file, as it is: edge.toml, or conf.d/gate.toml.
        #[arg(long, value_name = "NAME", conflicts_with = "json")]
        file: Option<String>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// An unknown version, a version that is faulty or cannot be read, or files that cannot be written.
pub fn run(args: &ConfigCommandArgs) -> Result<ExitCode, Failure> {
    let kept = Kept::of(args)?;
    match &args.command {
        Command::History { json } => kept.history(*json),
        Command::Diff { old, new, json } => kept.diff(*old, *new, *json),
        Command::Restore { id, why, json } => {
            let act = Act::new("config restore")
                .with_path("file", kept.main)
                .with("version", id);
            audited(&kept.state_dir, act, |act| kept.restore(*id, why, *json, act))
        }
        Command::Show { id, file, json } => kept.show(*id, file.as_deref(), *json),
    }
}

/// The versions of the configuration that a command is about.
struct Kept<'a> {
    main: &'a Path,
    state_dir: PathBuf,
    versions: Versions,
    zone: TimeZone,
}

#[derive(Serialize)]
struct Listed<'a> {
    #[serde(flatten)]
    version: &'a Version,
    /// Whether the files are these now.
    present: bool,
    /// What it changed from the version before; absent for the oldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
}

impl<'a> Kept<'a> {
    fn of(args: &'a ConfigCommandArgs) -> Result<Self, Failure> {
        let message = "no configuration given; use --config FILE";
        let main = args
            .config
            .as_deref()
            .ok_or_else(|| Failure::new(Class::Config, message))?;
        let draft = config::examine(main);
        let state_dir = match (&args.state, draft.state_dir) {
            (Some(dir), _) => dir.clone(),
            (None, Some(dir)) => dir,
            (None, None) => return Err(Faults(draft.faults).into()),
        };
        Ok(Self {
            main,
            versions: Versions::in_state(main, &state_dir).offline(),
            state_dir,
            zone: draft.timezone.unwrap_or(TimeZone::UTC),
        })
    }

    fn history(&self, json: bool) -> Result<ExitCode, Failure> {
        let versions = self.versions.list()?;
        let now = ConfigFiles::read(self.main).revision();
        let present = versions.iter().position(|version| version.revision == now);
        let mut list = Vec::new();
        for (n, version) in versions.iter().enumerate() {
            let changes = match versions.get(n + 1) {
                Some(before) => Some(
                    self.versions
                        .get(before.id)?
                        .changes_to(&self.versions.get(version.id)?),
                ),
                None => None,
            };
            list.push(Listed {
                version,
                present: present == Some(n),
                changes,
            });
        }
        print(&match json {
            true => json_pretty(&serde_json::json!({ "versions": list }))?,
            false => self.table(&list),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn table(&self, list: &[Listed<'_>]) -> String {
        if list.is_empty() {
            return format!("No versions of {} are kept yet.\n", self.main.display());
        }
        let mut text = String::from("VERSION  SAVED                WHO               CHANGES  WHY\n");
        for Listed {
            version,
            present,
            changes,
        } in list
        {
            let mark = if *present { "*" } else { " " };
            let count = changes
                .as_ref()
                .map_or("-".to_owned(), |changes| changes.len().to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{:>6}{mark}  {:<19}  {:<16}  {count:>7}  {}",
                version.id,
                self.time(version.at),
                printable(version.who.as_deref().unwrap_or("- (editor)")),
                printable(version.why.as_deref().unwrap_or_default()),
            );
        }
        if !list.iter().any(|listed| listed.present) {
            text += "The files as they are now are none of these.\n";
        }
        text
    }

    fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn diff(&self, old: u64, new: Option<u64>, json: bool) -> Result<ExitCode, Failure> {
        let before = self.versions.get(old)?;
        let changes = match new {
            Some(new) => before.changes_to(&self.versions.get(new)?),
            None => {
                let files = ConfigFiles::read(self.main);
                // Else everything would seem to be removed.
                files.document().map_err(|faults| Failure::from(Faults(faults)))?;
                before.changes_to_files(&files)
            }
        };
        print(&match json {
            true => json_pretty(&serde_json::json!({ "old": old, "new": new, "changes": changes }))?,
            false if changes.is_empty() => "No setting differs.\n".into(),
            false => lines(&changes),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn restore(&self, id: u64, why: &str, json: bool, act: &mut Act) -> Result<ExitCode, Failure> {
        let saved = self.versions.restore(
            id,
            &SaveRequest {
                expected_revision: &ConfigFiles::read(self.main).revision(),
                who: &Person::current().describe(),
                why,
            },
        )?;
        act.add("revision", &saved.revision);
        act.add("saved", saved.version);
        if !why.is_empty() {
            act.add("why", why);
        }
        print(&match json {
            true => json_pretty(&serde_json::json!({
                "restored": id, "version": saved.version, "revision": saved.revision, "changes": saved.changes,
            }))?,
            false if saved.changes.is_empty() => format!(
                "No setting changed; the files are those of version {id} (now version {}).\n",
                saved.version
            ),
            false => format!(
                "Restored version {id} as version {}, with {}:\n{}",
                saved.version,
                counted(saved.changes.len(), "change", "changes"),
                lines(&saved.changes)
            ),
        })?;
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, id: u64, file: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
        let kept = self.versions.get(id)?;
        let mut text = String::new();
        if json {
            let files = kept
                .texts()
                .map(|(name, text)| serde_json::json!({ "name": name, "text": text }));
            let mut object =
                serde_json::to_value(&kept.version).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
            object["files"] = files.collect();
            text = json_pretty(&object)?;
        } else if let Some(wanted) = file {
            let found = kept.texts().find(|(name, _)| *name == wanted);
            text = found.map(|(_, text)| text).ok_or_else(|| {
                let names: Vec<&str> = kept.texts().map(|(name, _)| name).collect();
                let message = format!(
                    "--file: version {id} has no file {wanted:?}; it has {}",
                    names.join(", ")
                );
                Failure::new(Class::Config, message)
            })?;
        } else {
            for (name, content) in kept.texts() {
                let _ = writeln!(text, "# ---- {name}\n{}", content.trim_end());
            }
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn lines(changes: &[Change]) -> String {
    changes.iter().map(|change| format!("{change}\n")).collect()
}
