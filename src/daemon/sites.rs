//! Site sharing with other boxes: the cells that this box's cameras can see, and whose claims count.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::mpsc;

use gridwatch_config::Config;
use gridwatch_engine::{CaseId, CellCode, Place, Snapshot};
use gridwatch_link::{SiteNews, SiteSharing};

/// Range of a street camera in metres; farther problems have too few pixels to be detected.
const RANGE_M: f64 = 300.0;

/// The link's sharing settings; `None` if the configuration shares no sites.
pub(super) fn site_sharing(
    config: &Config,
    yielded_to: BTreeSet<CaseId>,
    news: mpsc::Sender<SiteNews>,
) -> Option<SiteSharing> {
    let plan = Arc::clone(&config.plan);
    config.broker.share_sites.then(|| SiteSharing {
        cells: visible_cells(config),
        cell_of: Box::new(move |at| plan.grid.cell_of(at).cloned()),
        boxes: config.claims.boxes.clone(),
        wait: config.claims.wait,
        yielded_to,
        news,
    })
}

/// The cases of other boxes for which `snapshot` holds cases back.
pub(super) fn yielded_to(snapshot: Option<&Snapshot>) -> BTreeSet<CaseId> {
    let held_back = snapshot.iter().flat_map(|s| s.held_back());
    held_back.map(|held| held.to.clone()).collect()
}

/// True if the link shares the same sites with both configurations.
pub(super) fn is_same_sharing(a: &Config, b: &Config) -> bool {
    let (is_shared, was_shared) = (b.broker.share_sites, a.broker.share_sites);
    is_shared == was_shared
        && (!is_shared
            || (a.claims.wait == b.claims.wait
                && a.claims.boxes == b.claims.boxes
                && a.plan.grid == b.plan.grid
                && visible_cells(a) == visible_cells(b)))
}

/// The cells within range of a camera.
fn visible_cells(config: &Config) -> BTreeSet<CellCode> {
    let places = config.plan.cameras.values().map(|camera| match &camera.place {
        Place::Fixed(view) | Place::Calibrated { fallback: view, .. } => view.at,
    });
    let near = places.flat_map(|at| config.plan.grid.cells_within(at, RANGE_M));
    near.cloned().collect()
}
