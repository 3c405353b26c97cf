//! Where a candidate is, and whether it is the problem of a known case.
//!
//! Deduplication is by place, never by track: every passing lorry ends a track, but the place stays.

use super::{
    geometry::distance_m,
    types::{
        AdvertIdentity, AdvertText, Appearance, BBox, CameraId, CameraPlan, Claim, Location, LonLat, OpenCase,
        PhoneNumber, Place, PlaceMethod, Plan, Rule, ZoneId,
    },
};

/// Places closer than this are one site whatever the rule says: a site's key is rounded to about a metre.
const MIN_MERGE_RADIUS_M: f64 = 2.0;
/// IoU above which an object is taken for the rejected one.
const SAME_OBJECT_IOU: f64 = 0.3;

/// Location of the object in `bbox`; `None` outside the grid.
pub(super) fn locate(plan: &Plan, camera: &CameraPlan, rule: &Rule, bbox: &BBox) -> Option<Location> {
    let (view, most_uncertain_m) = match &camera.place {
        Place::Fixed(view) => (view, 0.0),
        Place::Calibrated {
            max_uncertainty_m,
            fallback,
            ..
        } => (fallback, *max_uncertainty_m),
    };
    let ground = rule.calibration(camera).and_then(|c| c.ground(bbox.foot()));
    let (at, uncertainty_m, method) = match ground {
        Some((at, uncertainty_m)) if uncertainty_m <= most_uncertain_m => (at, uncertainty_m, PlaceMethod::Homography),
        _ => (view.at, view.uncertainty_m, PlaceMethod::CameraPoint),
    };
    let cell = plan.grid.cell_of(at)?.clone();
    Some(Location {
        at,
        uncertainty_m,
        method,
        cell,
    })
}

/// What contains some located things: the range of their longitudes and latitudes, and the largest uncertainty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SiteExtent {
    west: f64,
    east: f64,
    south: f64,
    north: f64,
    uncertainty_m: f64,
}

/// Metres of a degree of latitude, somewhat less than anywhere on the ellipsoid (110,574 at the equator).
const METRES_PER_DEGREE: f64 = 110_000.0;

impl SiteExtent {
    /// That of one position.
    pub fn at(LonLat { lon, lat }: LonLat, uncertainty_m: f64) -> Self {
        Self {
            west: lon,
            east: lon,
            south: lat,
            north: lat,
            uncertainty_m,
        }
    }

    /// That of one thing.
    pub fn of(located: &Location) -> Self {
        Self::at(located.at, located.uncertainty_m)
    }

    /// Makes it contain another thing.
    pub fn add(&mut self, located: &Location) {
        self.join(&Self::of(located));
    }

    /// Makes it contain what another contains.
    pub fn join(&mut self, other: &Self) {
        self.west = self.west.min(other.west);
        self.east = self.east.max(other.east);
        self.south = self.south.min(other.south);
        self.north = self.north.max(other.north);
        self.uncertainty_m = self.uncertainty_m.max(other.uncertainty_m);
    }

    /// False only if nothing in the one can be at the site of anything in the other for a rule with this merge radius.
    pub fn may_share_site(&self, other: &Self, merge_radius_m: f64) -> bool {
        let uncertainty = self.uncertainty_m.max(other.uncertainty_m);
        let radius = merge_radius_m.max(2.0 * uncertainty).max(MIN_MERGE_RADIUS_M);
        let apart = |low: f64, high: f64, other_low: f64, other_high: f64| (other_low - high).max(low - other_high);
        let north = apart(self.south, self.north, other.south, other.north);
        // Or the other way round, at the date line.
        let round = 360.0 - (self.east.max(other.east) - self.west.min(other.west));
        let east = apart(self.west, self.east, other.west, other.east).min(round);
        let poleward = [self.south, self.north, other.south, other.north].map(f64::abs);
        let narrowest = poleward.into_iter().fold(0.0, f64::max).min(90.0).to_radians().cos();
        // Written so that NaN may share every site.
        let is_apart = north * METRES_PER_DEGREE > radius || east * METRES_PER_DEGREE * narrowest > radius;
        !is_apart
    }
}

/// What identifies a problem at a place.
struct Site<'a> {
    category: &'a str,
    advert: AdvertIdentity<'a>,
    located: &'a Location,
}

impl<'a> Site<'a> {
    fn of(case: &'a OpenCase) -> Self {
        Self {
            category: &case.category,
            advert: AdvertIdentity {
                number: case.number.as_ref(),
                text: case.text.as_ref(),
            },
            located: &case.located,
        }
    }

    fn of_claim(claim: &'a Claim) -> Self {
        Self {
            category: &claim.category,
            advert: AdvertIdentity {
                number: claim.number.as_ref(),
                text: claim.text.as_ref(),
            },
            located: &claim.located,
        }
    }

    /// Same category, and not two different adverts on one wall.
    fn is_same_problem(&self, other: &Self) -> bool {
        self.category == other.category && !self.advert.differs_from(&other.advert)
    }

    /// Distance in metres if both are one site, else `None`.
    fn distance_if_same_m(&self, other: &Self, merge_radius_m: f64) -> Option<f64> {
        let distance = distance_m(self.located.at, other.located.at);
        let uncertainty = self.located.uncertainty_m.max(other.located.uncertainty_m);
        let radius = merge_radius_m.max(2.0 * uncertainty).max(MIN_MERGE_RADIUS_M);
        (self.is_same_problem(other) && distance <= radius).then_some(distance)
    }
}

impl Claim {
    /// True if `theirs`, another box's claim, is about the problem of this box's claim, at its site.
    ///
    /// How far a claim reaches is decided by this box's rule, not by what the other box states: its merge radius does not count, and its
    /// uncertainty only up to this box's merge radius. Otherwise one message could silence a district.
    pub fn is_same_site_as(&self, theirs: &Self) -> bool {
        let mut there = theirs.located.clone();
        there.uncertainty_m = there
            .uncertainty_m
            .min(self.merge_radius_m.max(self.located.uncertainty_m));
        let there = Site {
            located: &there,
            ..Site::of_claim(theirs)
        };
        Site::of_claim(self)
            .distance_if_same_m(&there, self.merge_radius_m)
            .is_some()
    }
}

/// A candidate that is ready, with its location.
pub(super) struct LocatedCandidate<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) rule: &'a Rule,
    pub(super) zone: Option<&'a ZoneId>,
    pub(super) located: &'a Location,
    pub(super) bbox: BBox,
    pub(super) appearance: Option<Appearance>,
    pub(super) number: Option<&'a PhoneNumber>,
    pub(super) text: Option<&'a AdvertText>,
}

impl LocatedCandidate<'_> {
    /// `cell/category/site`. The site is the ground point to 10⁻⁵ degree if there is one, else the drawn zone or the
    /// whole view. The phone number, or else the text, is appended, because one wall has many advertisers. No part
    /// contains a character that is special in MQTT topics.
    pub(super) fn dedup_key(&self) -> String {
        let Location { at, cell, method, .. } = self.located;
        let category = &self.rule.category.code;
        let site = match (method, self.zone) {
            (PlaceMethod::Homography, _) => format!("{cell}/{category}/ground:{:.5},{:.5}", at.lon, at.lat),
            (PlaceMethod::CameraPoint, Some(zone)) => format!("{cell}/{category}/zone:{}:{zone}", self.camera),
            (PlaceMethod::CameraPoint, None) => format!("{cell}/{category}/view:{}", self.camera),
        };
        match (self.number, self.text) {
            (Some(number), _) => format!("{site}:{number}"),
            (None, Some(text)) if text.is_distinctive() => format!("{site}:{}", text.key()),
            (None, _) => site,
        }
    }

    /// Distance to `case` in metres if it is the same problem at the same site, else `None`.
    ///
    /// Cells are not compared: the radius reaches across cell edges, and the case keeps its first cell.
    pub(super) fn distance_to_site_m(&self, case: &OpenCase) -> Option<f64> {
        let (here, there) = (self.site(), Site::of(case));
        let are_view_points = [case.located.method, self.located.method] == [PlaceMethod::CameraPoint; 2];
        if are_view_points && case.camera == *self.camera {
            // Everything in the view has the same location, so sites are told apart by zone, not distance.
            return (here.is_same_problem(&there) && case.zone.as_ref() == self.zone).then_some(0.0);
        }
        here.distance_if_same_m(&there, self.rule.merge_radius_m)
    }

    fn site(&self) -> Site<'_> {
        Site {
            category: &self.rule.category.code,
            advert: AdvertIdentity {
                number: self.number,
                text: self.text,
            },
            located: self.located,
        }
    }

    /// True if `case` is about this very object, not only about its site. Two colour appearances that have nothing in
    /// common are two objects.
    pub(super) fn is_same_object_as(&self, case: &OpenCase) -> bool {
        let in_colour = |a: &Option<Appearance>| a.filter(Appearance::has_colour);
        let looks_other = in_colour(&case.appearance)
            .zip(in_colour(&self.appearance))
            .is_some_and(|(a, b)| a.resemblance(&b) < Appearance::DIFFERENT_OBJECT);
        !looks_other
            && self.site().is_same_problem(&Site::of(case))
            && if case.camera == *self.camera {
                case.bbox.iou(&self.bbox) >= SAME_OBJECT_IOU
            } else {
                [case.located.method, self.located.method] == [PlaceMethod::Homography; 2]
                    && self.distance_to_site_m(case).is_some()
            }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = (LonLat, f64)> {
        // Some at the date line.
        let lon = prop_oneof![179.999..180.0, -180.0..-179.999, 113.6..113.603];
        (lon, 34.6..34.603, 0.5..40.0).prop_map(|(lon, lat, uncertainty_m)| (LonLat { lon, lat }, uncertainty_m))
    }

    proptest! {
        #[test]
        fn extents_are_apart_only_if_no_two_of_their_things_are_at_one_site(
            one in prop::collection::vec(place(), 1..4),
            other in prop::collection::vec(place(), 1..4),
            radius in 0.5..30.0,
        ) {
            let extent = |of: &[(LonLat, f64)]| {
                let mut whole = SiteExtent::at(of[0].0, of[0].1);
                of.iter().for_each(|(at, uncertainty_m)| whole.join(&SiteExtent::at(*at, *uncertainty_m)));
                whole
            };
            let is_one_site = one.iter().any(|(a, a_m)| other.iter().any(|(b, b_m)| {
                let reach: f64 = radius;
                distance_m(*a, *b) <= reach.max(2.0 * a_m.max(*b_m)).max(MIN_MERGE_RADIUS_M)
            }));
            prop_assert!(!is_one_site || extent(&one).may_share_site(&extent(&other), radius));
        }
    }

    #[test]
    fn cameras_a_street_apart_share_no_site() {
        let at = |lon: f64| SiteExtent::at(LonLat { lon, lat: 34.7 }, 5.0);
        assert!(at(113.6).may_share_site(&at(113.6001), 8.0), "9 m");
        assert!(!at(113.6).may_share_site(&at(113.6002), 8.0), "18 m");
        assert!(at(113.6).may_share_site(&at(113.6002), 20.0));
    }
}
