//! Site sharing with other boxes: the cells that this box's cameras can see, and whose claims count.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::mpsc;

use gridwatch_config::Config;
use gridwatch_engine::{CellCode, Place, Snapshot};
use gridwatch_link::{SiteNews, SiteSharing};

/// Range of a street camera in metres; farther problems have too few pixels to be detected.
const RANGE_M: f64 = 300.0;

/// The link's sharing settings; `None` if the configuration shares no sites.
pub(super) fn site_sharing(
    config: &Config,
    snapshot: Option<&Snapshot>,
    news: mpsc::Sender<SiteNews>,
) -> Option<SiteSharing> {
    let plan = Arc::clone(&config.plan);
    let held_back = snapshot.iter().flat_map(|s| s.held_back());
    config.broker.share_sites.then(|| SiteSharing {
        cells: visible_cells(config),
        cell_of: Box::new(move |at| plan.grid.cell_of(at).cloned()),
        boxes: config.claims.boxes.clone(),
        wait: config.claims.wait,
        yielded_to: held_back.map(|held| held.to.clone()).collect(),
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
