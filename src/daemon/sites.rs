//! Where other boxes may see the same sites, and what is known of them from before.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use gridwatch_config::Config;
use gridwatch_engine::{CellCode, Known, Place, Snapshot};
use gridwatch_link::SiteSharing;

/// How far a street camera tells things, metres: a problem farther off has too few pixels to be judged.
const SIGHT_M: f64 = 300.0;

/// What the link shares with other boxes, where the configuration says so.
pub(super) fn sharing(
    config: &Config,
    snapshot: Option<&Snapshot>,
    news: mpsc::UnboundedSender<Known>,
) -> Option<SiteSharing> {
    config.broker.share_sites.then(|| SiteSharing {
        cells: cells(config),
        known: snapshot.map(|s| s.claims().to_vec()).unwrap_or_default(),
        news,
    })
}

/// The cells that the cameras see a part of.
fn cells(config: &Config) -> BTreeSet<CellCode> {
    let places = config.plan.cameras.values().map(|camera| match &camera.place {
        Place::Fixed(view) | Place::Calibrated { fallback: view, .. } => view.at,
    });
    let near = places.flat_map(|at| config.plan.grid.cells_within(at, SIGHT_M));
    near.cloned().collect()
}
