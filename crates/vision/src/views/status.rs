//! What the daemon publishes about a view, and what `gridwatch view` requests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Shift,
    change::{ChangeLook, ChangeMap, ChangeState, NewRegion},
};
use gridwatch_engine::{BBox, Label};

/// State of a camera's aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No reference has been learned yet; the view is assumed to be right.
    Learning,
    /// The camera points at its learned view.
    Aimed,
    /// The camera was moved, or no longer comes to the preset. Nothing is confirmed or cleared there.
    Moved,
}

/// The status file of a camera or preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewStatus {
    /// State of the aim.
    pub standing: Standing,
    /// Time of the last change of `standing`.
    pub since: Timestamp,
    /// Displacement of the learned view, if the camera was moved and the view was found.
    #[serde(default)]
    pub shift: Option<Shift>,
}

/// A request of `gridwatch view` to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewRequest {
    /// Write the newest look.
    Picture,
    /// Learn the current view as the right one.
    Confirm,
    /// What is in the box belongs to the background. Boxes of open cases are left out.
    Absorb(BBox),
}

/// Whether a view is compared with its learned background.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeStanding {
    /// Most of the view is not learned yet in this light.
    Learning,
    /// Looks are compared.
    Judging,
    /// Too much of the view differs: its light is not learned, or it is hidden. Nothing new is found.
    Suspended,
}

/// The file `CAMERA.changes.json`: the state of a view's change map, and what is new in the view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeStatus {
    /// Whether looks are compared.
    pub state: ChangeStanding,
    /// The look that this describes. Later looks brought nothing that [`Self::differs_from`] counts.
    pub at: Timestamp,
    /// Looks that are still needed before most of the view is learned; 0 unless learning.
    pub looks_left: u8,
    /// Number of lights in which the view is learned or being learned.
    pub variants: usize,
    /// What is new and still: at most [`Self::MAX_REGIONS`], those that nothing explains and the oldest first.
    pub regions: Vec<RegionStatus>,
    /// Regions that are not listed.
    pub more: usize,
}

/// A part of a view that is new and still.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegionStatus {
    /// Where it is.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// How likely it is a thing rather than a change of light, 0..=1.
    pub score: f32,
    /// When it was first seen there.
    pub since: Timestamp,
    /// What a network found there: `person`, `animal`, `vehicle`, or the label of a rule. `None`: an unknown object.
    pub explained_by: Option<Label>,
}

impl ChangeStatus {
    /// Largest number of regions in the file, which bounds it to about 5 kB.
    pub const MAX_REGIONS: usize = 32;

    /// The status after a look. `explain` names what explains a region that no person, animal or vehicle explains.
    pub fn new(
        map: &ChangeMap,
        look: &ChangeLook,
        at: Timestamp,
        explain: impl Fn(&NewRegion) -> Option<Label>,
    ) -> Self {
        let mut regions: Vec<RegionStatus> = look
            .regions
            .iter()
            .map(|region| RegionStatus {
                bbox: region.bbox,
                score: region.score,
                since: region.since,
                explained_by: match region.explained_by {
                    Some(occupant) => Some(occupant.name().into()),
                    None => explain(region),
                },
            })
            .collect();
        regions.sort_by_key(|r| (r.explained_by.is_some(), r.since));
        let more = regions.len().saturating_sub(Self::MAX_REGIONS);
        regions.truncate(Self::MAX_REGIONS);
        let state = match look.state {
            ChangeState::Learning => ChangeStanding::Learning,
            ChangeState::Judged => ChangeStanding::Judging,
            ChangeState::OtherLight => ChangeStanding::Suspended,
        };
        Self {
            state,
            at,
            looks_left: match state {
                ChangeStanding::Learning => map.looks_left(),
                ChangeStanding::Judging | ChangeStanding::Suspended => 0,
            },
            variants: map.variants(),
            regions,
            more,
        }
    }

    /// True if an operator would want to know: another state, or a region that came, left, moved or was explained. Scores and edges
    /// of boxes change at every look and do not count.
    pub fn differs_from(&self, before: &Self) -> bool {
        /// Below this IoU, a region has grown or shrunk to another place.
        const SAME_PLACE_IOU: f64 = 0.5;
        let is_same = |(a, b): (&RegionStatus, &RegionStatus)| {
            (a.since, &a.explained_by) == (b.since, &b.explained_by) && a.bbox.iou(&b.bbox) >= SAME_PLACE_IOU
        };
        let key = |s: &Self| (s.state, s.looks_left, s.variants, s.regions.len(), s.more);
        key(self) != key(before) || !self.regions.iter().zip(&before.regions).all(is_same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{ChangeSettings, Occupant};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn region(since: i64, explained_by: Option<Occupant>) -> NewRegion {
        let x1 = since as f32 * 0.001;
        NewRegion {
            bbox: BBox {
                x1,
                y1: 0.5,
                x2: x1 + 0.1,
                y2: 0.6,
            },
            score: 0.8,
            since: at(since),
            explained_by,
            is_first: false,
        }
    }

    fn look(regions: Vec<NewRegion>) -> ChangeLook {
        ChangeLook {
            state: ChangeState::Judged,
            regions,
            changed: 0.0,
            shift: (0.0, 0.0),
            should_save: false,
            measured: Vec::new(),
        }
    }

    fn status(regions: Vec<NewRegion>) -> ChangeStatus {
        let map = ChangeMap::new(ChangeSettings::default());
        ChangeStatus::new(&map, &look(regions), at(1000), |_| None)
    }

    #[test]
    fn unexplained_regions_come_first_and_the_number_is_bounded() {
        let mut regions: Vec<NewRegion> = (0..50).map(|i| region(i, Some(Occupant::Vehicle))).collect();
        regions.push(region(700, None));
        regions.push(region(600, None));
        let status = status(regions);
        assert_eq!((status.regions.len(), status.more), (ChangeStatus::MAX_REGIONS, 20));
        let first: Vec<_> = status
            .regions
            .iter()
            .take(3)
            .map(|r| (r.since, &r.explained_by))
            .collect();
        assert_eq!(
            first,
            [(at(600), &None), (at(700), &None), (at(0), &Some("vehicle".into()))]
        );
        let written = serde_json::to_vec(&status).unwrap();
        assert!(written.len() < 6000, "{} bytes", written.len());
        assert_eq!(serde_json::from_slice::<ChangeStatus>(&written).unwrap(), status);
    }

    #[test]
    fn jitter_is_no_difference_but_another_region_is() {
        let before = status(vec![region(10, None)]);
        let mut jittered = before.clone();
        jittered.regions[0].score = 0.6;
        jittered.regions[0].bbox.x2 += 0.01;
        jittered.at = at(1010);
        assert!(!jittered.differs_from(&before));
        assert!(status(vec![]).differs_from(&before));
        assert!(status(vec![region(11, None)]).differs_from(&before));
        assert!(status(vec![region(10, Some(Occupant::Vehicle))]).differs_from(&before));
        let mut moved = before.clone();
        moved.regions[0].bbox.x2 += 0.3;
        assert!(moved.differs_from(&before));
    }
}
