//! Which box's state a command is about.

use std::path::PathBuf;

use gridwatch_config as config;

use gridwatch_config::Faults;

/// Where the state is.
#[derive(Debug, clap::Args)]
pub(super) struct State {
    /// The state directory (`node.state_dir` of the configuration): gridwatch.db, evidence/ and keys/ are in it.
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "GRIDWATCH_STATE",
        default_value = "/var/lib/gridwatch"
    )]
    state: PathBuf,
    /// Take the state directory from this configuration instead of --state.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl State {
    /// The directory. Other faults of a configuration are `check`'s business: whoever looks for a case has other worries.
    pub(super) fn dir(&self) -> Result<PathBuf, Faults> {
        let Some(path) = &self.config else {
            return Ok(self.state.clone());
        };
        let draft = config::examine(path);
        draft.state_dir.ok_or(Faults(draft.faults))
    }
}
