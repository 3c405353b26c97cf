//! The checked `[console]` section.

use std::path::PathBuf;

use gridwatch_web::{Role, ServerSettings};

/// Folder of the console's files, below the state directory.
pub const CONSOLE_DIR: &str = "console";

/// The console: pages and JSON API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// Where it listens, and whom it believes.
    pub server: ServerSettings,
    /// Roles that may see pictures without masks, in ascending order.
    pub unmasked_roles: Vec<Role>,
    /// PMTiles file under the map of cells (absolute; existed when the configuration was read).
    pub basemap: Option<PathBuf>,
}
