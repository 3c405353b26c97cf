//! Regions from look to look.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{region::FEATURES, score::probability, types::Occupant};
use gridwatch_engine::BBox;

/// Share by which a look's log odds enter a region's.
const BLEND: f32 = 0.3;
/// Looks that a region is kept without being seen: something stands before it.
const KEPT: u32 = 6;
/// A region is reported from this probability, and until it falls below the second.
const REPORT_FROM: f32 = 0.5;
const REPORT_UNTIL: f32 = 0.3;
/// Log odds beyond these count no further, so that one look does not outweigh the others.
const MOST: f32 = 8.0;
/// Looks that a region must have been proposed in before it is reported.
const CONFIRM: u32 = 2;
/// Looks for which a vehicle still explains its region after it was last detected. Networks miss parked vehicles for minutes.
const REMEMBER_VEHICLE: u32 = 60;
/// Overlap, as a share of the smaller box, from which a proposal continues a region; and from which a second one in the same look is a part of it
/// that somebody's passing cut off.
const SAME_REGION: f32 = 0.3;
const PART: f32 = 0.8;

/// A component of one look with its score.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub(super) bbox: BBox,
    pub(super) log_odds: f32,
    pub(super) since: Timestamp,
    pub(super) occupant: Option<Occupant>,
    pub(super) features: [f32; FEATURES],
}

/// A region that was proposed in several looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrackedRegion {
    pub(super) bbox: BBox,
    pub(super) log_odds: f32,
    pub(super) since: Timestamp,
    pub(super) occupant: Option<Occupant>,
    /// Looks for which a vehicle that was found explains it.
    #[serde(default)]
    pub(super) vehicle_for: u32,
    /// Looks in which it was proposed.
    pub(super) looks: u32,
    /// Looks since it was last proposed.
    pub(super) unseen: u32,
    /// Looks for which it has been reported without a break; 0: it is not.
    pub(super) reported: u32,
}

impl TrackedRegion {
    fn new(proposal: &Proposal) -> Self {
        let mut region = Self {
            bbox: proposal.bbox,
            log_odds: proposal.log_odds.clamp(-MOST, MOST),
            since: proposal.since,
            occupant: None,
            vehicle_for: 0,
            looks: 1,
            unseen: 0,
            reported: 0,
        };
        region.explain(proposal.occupant);
        region
    }

    /// Continues the region with a look's proposal. What somebody hides of it in this look is still there.
    fn update(&mut self, proposal: &Proposal, is_hidden: bool) {
        self.bbox = if is_hidden {
            self.bbox.union(&proposal.bbox)
        } else {
            proposal.bbox
        };
        if !is_hidden {
            self.log_odds += BLEND * (proposal.log_odds.clamp(-MOST, MOST) - self.log_odds);
        }
        self.since = self.since.min(proposal.since);
        self.explain(proposal.occupant);
        self.looks = self.looks.saturating_add(1);
        self.unseen = 0;
    }

    fn explain(&mut self, occupant: Option<Occupant>) {
        self.vehicle_for = match occupant {
            Some(Occupant::Vehicle) => REMEMBER_VEHICLE,
            _ => self.vehicle_for.saturating_sub(1),
        };
        self.occupant = if self.vehicle_for > 0 {
            Some(Occupant::Vehicle)
        } else {
            occupant
        };
    }

    /// True if its numbers are in range.
    pub(super) fn is_valid(&self) -> bool {
        let BBox { x1, y1, x2, y2 } = self.bbox;
        [x1, y1, x2, y2].iter().all(|v| (0.0..=1.0).contains(v)) && x1 <= x2 && y1 <= y2 && self.log_odds.abs() <= MOST
    }

    /// The probability that it is a thing, 0..=1.
    pub(super) fn score(&self) -> f32 {
        probability(self.log_odds)
    }
}

fn area(b: &BBox) -> f32 {
    (b.x2 - b.x1).max(0.0) * (b.y2 - b.y1).max(0.0)
}

/// The overlap of two boxes as a share of the smaller one.
pub(super) fn overlap(a: &BBox, b: &BBox) -> f32 {
    let both = BBox {
        x1: a.x1.max(b.x1),
        y1: a.y1.max(b.y1),
        x2: a.x2.min(b.x2),
        y2: a.y2.min(b.y2),
    };
    area(&both) / area(a).min(area(b)).max(f32::MIN_POSITIVE)
}

/// Updates the regions with a look's proposals. Regions that are not proposed are dropped after a while, at once where
/// `is_gone` tells that the background is seen there again. `is_hidden` tells whether somebody stands before a part of a box that is new.
pub(super) fn update(
    regions: &mut Vec<TrackedRegion>,
    proposals: &[Proposal],
    is_gone: impl Fn(&BBox) -> bool,
    is_hidden: impl Fn(&BBox) -> bool,
) {
    for region in regions.iter_mut() {
        region.unseen = region.unseen.saturating_add(1);
    }
    // The best fitting pairs first, so that a thing that appears before another one does not take over its region.
    let pairs = regions.iter().enumerate().flat_map(|(r, region)| {
        let overlaps = proposals.iter().enumerate();
        overlaps.map(move |(p, proposal)| (region.bbox.iou(&proposal.bbox), r, p))
    });
    let is_same = |(_, r, p): &(f64, usize, usize)| overlap(&regions[*r].bbox, &proposals[*p].bbox) > SAME_REGION;
    let mut pairs: Vec<(f64, usize, usize)> = pairs.filter(is_same).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut is_hidden_in_part = vec![false; regions.len()];
    let mut is_taken = vec![false; proposals.len()];
    for (_, r, p) in pairs {
        if regions[r].unseen > 0 && !is_taken[p] {
            is_taken[p] = true;
            is_hidden_in_part[r] = is_hidden(&regions[r].bbox);
            regions[r].update(&proposals[p], is_hidden_in_part[r]);
        }
    }
    for (proposal, _) in proposals.iter().zip(&is_taken).filter(|(_, is_taken)| !**is_taken) {
        let is_part = |(r, region): &(usize, &mut TrackedRegion)| {
            is_hidden_in_part.get(*r) == Some(&true)
                && region.occupant == proposal.occupant
                && overlap(&region.bbox, &proposal.bbox) > PART
        };
        match regions.iter_mut().enumerate().find(is_part) {
            Some((_, region)) => region.bbox = region.bbox.union(&proposal.bbox),
            None => regions.push(TrackedRegion::new(proposal)),
        }
    }
    regions.retain(|r| r.unseen == 0 || r.unseen <= KEPT && !is_gone(&r.bbox));
    for region in regions.iter_mut() {
        let is_reported = match region.reported {
            0 => region.looks >= CONFIRM && region.score() >= REPORT_FROM,
            _ => region.score() >= REPORT_UNTIL,
        };
        region.reported = if is_reported {
            region.reported.saturating_add(1)
        } else {
            0
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x1: f32, y1: f32, x2: f32, y2: f32) -> BBox {
        BBox { x1, y1, x2, y2 }
    }

    fn proposal(bbox: BBox, occupant: Option<Occupant>) -> Proposal {
        Proposal {
            bbox,
            log_odds: 3.0,
            since: Timestamp::UNIX_EPOCH,
            occupant,
            features: [0.0; FEATURES],
        }
    }

    #[test]
    fn a_thing_within_the_box_of_another_region_has_a_region_of_its_own() {
        let (car, bag) = (bbox(0.30, 0.40, 0.55, 0.60), bbox(0.31, 0.56, 0.34, 0.59));
        let mut regions = Vec::new();
        for look in 0..20 {
            let mut proposals = vec![proposal(car, Some(Occupant::Vehicle))];
            // In every order.
            if look >= 6 {
                proposals.insert(look % 2, proposal(bag, None));
            }
            update(&mut regions, &proposals, |_| false, |_| false);
        }
        let found: Vec<_> = regions.iter().map(|r| (r.bbox, r.occupant, r.reported > 0)).collect();
        assert_eq!(found, [(car, Some(Occupant::Vehicle), true), (bag, None, true)]);
    }

    #[test]
    fn parts_of_a_region_that_somebody_stands_before_stay_one() {
        let whole = bbox(0.2, 0.4, 0.5, 0.5);
        let mut regions = Vec::new();
        for look in 0..20 {
            let is_hidden = look >= 6 && look % 3 == 0;
            let parts = match is_hidden {
                true => vec![bbox(0.2, 0.4, 0.3, 0.5), bbox(0.4, 0.4, 0.5, 0.5)],
                false => vec![whole],
            };
            let proposals: Vec<Proposal> = parts.into_iter().map(|b| proposal(b, None)).collect();
            update(&mut regions, &proposals, |_| false, |_| is_hidden);
            assert_eq!(
                regions.iter().map(|r| r.bbox).collect::<Vec<_>>(),
                [whole],
                "look {look}"
            );
        }
    }

    #[test]
    fn a_vehicle_explains_its_region_for_a_while_after_it_was_last_found() {
        let place = bbox(0.2, 0.4, 0.5, 0.5);
        let mut regions = Vec::new();
        update(
            &mut regions,
            &[proposal(place, Some(Occupant::Vehicle))],
            |_| false,
            |_| false,
        );
        for look in 1..=REMEMBER_VEHICLE {
            update(&mut regions, &[proposal(place, None)], |_| false, |_| false);
            let expected = (look < REMEMBER_VEHICLE).then_some(Occupant::Vehicle);
            assert_eq!(regions[0].occupant, expected, "look {look}");
        }
    }
}
