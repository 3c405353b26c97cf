//! Site sharing with other boxes: the cells that this box's cameras can see, and the claims known from the last run.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use gridwatch_config::Config;
use gridwatch_engine::{CellCode, Known, Place, Snapshot};
use gridwatch_link::SiteSharing;

/// Range of a street camera in metres; farther problems have too few pixels to be detected.
const RANGE_M: f64 = 300.0;

/// The link's sharing settings; `None` if the configuration shares no sites.
pub(super) fn site_sharing(
    config: &Config,
    snapshot: Option<&Snapshot>,
    news: mpsc::UnboundedSender<Known>,
) -> Option<SiteSharing> {
    config.broker.share_sites.then(|| SiteSharing {
        cells: visible_cells(config),
        known: snapshot.map(|s| s.claims().to_vec()).unwrap_or_default(),
        news,
    })
}

/// The cells within range of a camera.
fn visible_cells(config: &Config) -> BTreeSet<CellCode> {
    let places = config.plan.cameras.values().map(|camera| match &camera.place {
        Place::Fixed(view) | Place::Calibrated { fallback: view, .. } => view.at,
    });
    let near = places.flat_map(|at| config.plan.grid.cells_within(at, RANGE_M));
    near.cloned().collect()
}
