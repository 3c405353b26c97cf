//! The truth about places where there is no object, although the detector or the change map reports one: they name what a false case
//! was about.

use super::{
    background::FalseRegion,
    clock::{Ms, TownClock},
    detector::FalseSpot,
    town::Town,
};
use gridwatch_engine::{BBox, Label, Plan};
use gridwatch_ledger::replay::truth::{GroundTruth, TruthView};

/// A false spot of a camera's detector, and its label.
#[derive(Debug)]
pub(super) struct SpotTruth {
    pub(super) camera: usize,
    pub(super) spot: FalseSpot,
    pub(super) label: Label,
}

/// A place of one view without an object.
struct FalsePlace<'a> {
    camera: usize,
    kind: &'static str,
    label: Label,
    bbox: BBox,
    span: (Ms, Ms),
    appeared: bool,
    id: &'a str,
}

/// The false spots, and the regions of each camera's change map, up to the time `end`: one entry for each category that a case about it
/// may have.
pub(super) fn false_places(
    spots: &[SpotTruth],
    regions: impl Iterator<Item = (usize, Vec<FalseRegion>)>,
    town: &Town,
    plan: &Plan,
    (clock, end): (&TownClock, Ms),
) -> Vec<GroundTruth> {
    let spots = spots.iter().map(|SpotTruth { camera, spot, label }| FalsePlace {
        camera: *camera,
        kind: if spot.is_recurring {
            "stain or façade"
        } else {
            "shadow or wet ground"
        },
        label: label.clone(),
        bbox: spot.bbox,
        span: (spot.from, spot.to),
        // A stain was there when the view was learned, whenever it is detected.
        appeared: !spot.is_recurring,
        id: "f",
    });
    let regions = regions.flat_map(|(camera, regions)| regions.into_iter().map(move |region| (camera, region)));
    let regions = regions.map(|(camera, region)| FalsePlace {
        camera,
        kind: region.kind,
        label: Label::object(),
        bbox: region.bbox,
        span: (region.from, region.to),
        appeared: true,
        id: "r",
    });
    let mut truths = Vec::new();
    for (n, place) in spots.chain(regions).enumerate() {
        let (from, to) = (place.span.0, place.span.1.min(end));
        let Some(bbox) = place.bbox.within_picture().filter(|_| from < to) else {
            continue;
        };
        let rules = plan.rules.iter().filter(|r| r.labels.contains(&place.label));
        let mut categories: Vec<&str> = rules.map(|r| r.category.code.as_str()).collect();
        categories.sort_unstable();
        categories.dedup();
        truths.extend(categories.into_iter().map(|category| GroundTruth {
            id: format!("{}{n:06}-{category}", place.id),
            kind: place.kind.into(),
            category: category.into(),
            problem: false,
            from: clock.at(from),
            to: clock.at(to),
            place: None,
            views: vec![TruthView {
                camera: town.cameras[place.camera].id.as_str().into(),
                bbox,
                hidden_s: Vec::new(),
                appeared: Some(place.appeared),
            }],
        }));
    }
    truths
}
