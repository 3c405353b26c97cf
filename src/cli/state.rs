//! The options that locate the state directory.

use std::path::PathBuf;

use gridwatch_config as config;

use gridwatch_config::Faults;

/// Locates the state directory: `--state` or `--config`.
#[derive(Debug, clap::Args)]
pub(super) struct StateArgs {
    /// State directory (`node.state_dir` in the configuration), which holds gridwatch.db, evidence/ and keys/.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "GRIDWATCH_STATE",
        default_value = "/var/lib/gridwatch"
    )]
    state: PathBuf,
    /// Take the state directory from this configuration file instead of --state.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl StateArgs {
    /// The state directory. Other faults in the configuration are ignored; `gridwatch check` reports them.
    ///
    /// # Errors
    /// The configuration's faults, if it names no state directory.
    pub(super) fn dir(&self) -> Result<PathBuf, Faults> {
        let Some(path) = &self.config else {
            return Ok(self.state.clone());
        };
        let draft = config::examine(path);
        draft.state_dir.ok_or(Faults(draft.faults))
    }
}
