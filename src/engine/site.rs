//! Where a candidate is, and which case its place already has: one open case per category and site, whatever camera sees it.
//!
//! Keyed on the place, never on a track: a track is lost behind every lorry, the place stays. The register remembers cases
//! that are over for as long as they bear on new ones.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    case::{Illegal, transition},
    geometry::{Side, distance_m, side_of},
    since,
    types::{
        BBox, CameraId, CameraPlan, CaseId, CaseState, Located, NotFiled, OpenCase, Place, PlaceMethod, Plan, Point,
        Reply, Rule, RuleId, Zone, ZoneId, ZoneKind,
    },
};

/// Two places nearer than this are one whatever the rule says: a site's name is rounded to about a metre.
const LEAST_MERGE_M: f64 = 2.0;
/// Overlap by which a thing is the one that was rejected: half of it within the other's box.
const SAME_THING_IOU: f64 = 0.3;

/// What a foot stands on, for one rule: `None` outside the watched zones or inside an excluded one, else the zone, where one
/// is drawn. A line drawn belongs to its zone, and an excluded zone goes before a watched one.
pub(super) fn standing<'a>(zones: &'a [Zone], rule: &RuleId, foot: Point) -> Option<Option<&'a ZoneId>> {
    let mut is_watched_whole = true;
    let mut zone = None;
    for z in zones.iter().filter(|z| z.rules.is_empty() || z.rules.contains(rule)) {
        let is_in = (zone.is_none() || z.kind == ZoneKind::Exclude) && side_of(&z.polygon, foot) != Side::Outside;
        match z.kind {
            ZoneKind::Exclude if is_in => return None,
            ZoneKind::Exclude => {}
            ZoneKind::Watch => {
                is_watched_whole = false;
                if is_in {
                    zone = Some(&z.id);
                }
            }
        }
    }
    (is_watched_whole || zone.is_some()).then_some(zone)
}

/// Where the thing in `bbox` is; `None` outside the grid.
pub(super) fn locate(plan: &Plan, camera: &CameraPlan, bbox: &BBox) -> Option<Located> {
    let (at, uncertainty_m, method) = match &camera.place {
        Place::Fixed(place) => (place.at, place.uncertainty_m, PlaceMethod::CameraPoint),
        Place::Calibrated {
            calibration,
            max_uncertainty_m,
            fallback,
        } => match calibration.ground(bbox.foot()) {
            Some((at, uncertainty_m)) if uncertainty_m <= *max_uncertainty_m => {
                (at, uncertainty_m, PlaceMethod::Homography)
            }
            _ => (fallback.at, fallback.uncertainty_m, PlaceMethod::CameraPoint),
        },
    };
    let cell = plan.grid.cell_of(at)?.clone();
    Some(Located {
        at,
        uncertainty_m,
        method,
        cell,
    })
}

/// A candidate that is ready, with its place.
pub(super) struct Found<'a> {
    pub(super) camera: &'a CameraId,
    pub(super) rule: &'a Rule,
    pub(super) zone: Option<&'a ZoneId>,
    pub(super) located: &'a Located,
    pub(super) bbox: BBox,
}

impl Found<'_> {
    /// `cell/category/site`. A site is the drawn zone or the whole view where the place is the view's, else the ground point
    /// to 10⁻⁵ degree; none of the names holds a character with a meaning in MQTT topics.
    pub(super) fn dedup_key(&self) -> String {
        let Located { at, cell, method, .. } = self.located;
        let category = &self.rule.category.code;
        match (method, self.zone) {
            (PlaceMethod::Homography, _) => format!("{cell}/{category}/ground:{:.5},{:.5}", at.lon, at.lat),
            (PlaceMethod::CameraPoint, Some(zone)) => format!("{cell}/{category}/zone:{}:{zone}", self.camera),
            (PlaceMethod::CameraPoint, None) => format!("{cell}/{category}/view:{}", self.camera),
        }
    }

    /// How far `case` is, in metres, if it is the same problem at the same site.
    ///
    /// The cells themselves are not compared: the radius reaches over an edge by itself, and the case keeps its first cell.
    fn distance_to_site_m(&self, case: &OpenCase) -> Option<f64> {
        if case.category != self.rule.category.code {
            return None;
        }
        let are_view_points = [case.located.method, self.located.method] == [PlaceMethod::CameraPoint; 2];
        if are_view_points && case.camera == *self.camera {
            // All of a view is at one point: its zones tell its sites apart, distance cannot.
            return (case.zone.as_ref() == self.zone).then_some(0.0);
        }
        let distance = distance_m(case.located.at, self.located.at);
        let uncertainty = case.located.uncertainty_m.max(self.located.uncertainty_m);
        let radius = self.rule.merge_radius_m.max(2.0 * uncertainty).max(LEAST_MERGE_M);
        (distance <= radius).then_some(distance)
    }

    /// True where `case` is about this very thing, not only about its site.
    fn is_the_thing_of(&self, case: &OpenCase) -> bool {
        case.category == self.rule.category.code
            && if case.camera == *self.camera {
                case.bbox.iou(&self.bbox) >= SAME_THING_IOU
            } else {
                [case.located.method, self.located.method] == [PlaceMethod::Homography; 2]
                    && self.distance_to_site_m(case).is_some()
            }
    }
}

/// What the register holds of a case.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub(super) case: OpenCase,
    /// Which rule filed it, where that was since the start.
    pub(super) rule: Option<RuleId>,
    pub(super) last_seen: Timestamp,
}

impl Record {
    fn is_remembered(&self, now: Timestamp) -> bool {
        self.case.state.is_open()
            || since(now, self.last_seen.max(self.case.at)) < CaseState::remembered_for(self.case.state)
    }
}

/// The cases that bear on new ones: open, and lately over.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Register {
    cases: BTreeMap<CaseId, Record>,
}

impl Register {
    /// The case that `found` belongs to, and why it is therefore not filed. An open case goes before a refused one, the
    /// nearest before the others.
    pub(super) fn holder(&self, found: &Found<'_>, now: Timestamp) -> Option<(&CaseId, NotFiled)> {
        let mut nearest: Option<(f64, &CaseId)> = None;
        let mut refused = None;
        for (id, record) in self.cases.iter().filter(|(_, r)| r.is_remembered(now)) {
            match record.case.state {
                CaseState::Rejected if found.is_the_thing_of(&record.case) => refused = Some(id),
                CaseState::Rejected | CaseState::Closed | CaseState::Withdrawn => {}
                // The platform has it open, under another number.
                _ => {
                    if let Some(distance) = found.distance_to_site_m(&record.case)
                        && nearest.is_none_or(|(least, _)| distance < least)
                    {
                        nearest = Some((distance, id));
                    }
                }
            }
        }
        let open = nearest.map(|(_, id)| (id, NotFiled::OpenCaseAtSite));
        open.or(refused.map(|id| (id, NotFiled::RejectedBefore)))
    }

    pub(super) fn insert(&mut self, case: OpenCase, rule: Option<RuleId>, last_seen: Timestamp) {
        self.cases.insert(case.id.clone(), Record { case, rule, last_seen });
    }

    pub(super) fn remove(&mut self, id: &CaseId) -> Option<Record> {
        self.cases.remove(id)
    }

    pub(super) fn get(&self, id: &CaseId) -> Option<&Record> {
        self.cases.get(id)
    }

    /// The thing of case `id` was seen.
    pub(super) fn seen(&mut self, id: &CaseId, at: Timestamp) {
        if let Some(record) = self.cases.get_mut(id) {
            record.last_seen = record.last_seen.max(at);
        }
    }

    /// Takes the platform's answer: the reason of the step, or `Ok(None)` where it changes nothing.
    pub(super) fn answer(&mut self, reply: &Reply) -> Result<Option<&'static str>, (Option<CaseState>, String)> {
        let Some(record) = self.cases.get_mut(&reply.case) else {
            return Err((None, "no case of that id is open, or was lately".into()));
        };
        let from = record.case.state;
        let reason = transition(from, reply.state).map_err(|e: Illegal| (Some(from), e.to_string()))?;
        if from == reply.state {
            return Ok(None);
        }
        record.case.state = reply.state;
        record.case.at = reply.at;
        Ok(Some(reason))
    }

    /// Drops what has no bearing any more.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.cases.retain(|_, r| r.is_remembered(now));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &OpenCase> {
        self.cases.values().map(|r| &r.case)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &OpenCase> {
        self.all().filter(|c| c.state.is_open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(id: &str, kind: ZoneKind, x1: f64, x2: f64, rules: &[&str]) -> Zone {
        let polygon = [(x1, 0.5), (x2, 0.5), (x2, 1.0), (x1, 1.0)]
            .map(|(x, y)| Point { x, y })
            .to_vec();
        Zone {
            id: id.into(),
            kind,
            polygon,
            rules: rules.iter().map(|r| (*r).into()).collect(),
        }
    }

    #[test]
    fn zones_decide_what_a_foot_stands_on() {
        let (garbage, advert) = (RuleId::from("garbage"), RuleId::from("advert"));
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.5, &["garbage"]),
            zone("kerb", ZoneKind::Watch, 0.4, 0.8, &["garbage"]),
            zone("bins", ZoneKind::Exclude, 0.2, 0.3, &[]),
        ];
        let at = |rule, x| standing(&zones, rule, Point { x, y: 0.75 }).map(|z| z.map(|z| z.as_str().to_owned()));
        assert_eq!(at(&garbage, 0.1), Some(Some("pavement".into())));
        assert_eq!(at(&garbage, 0.45), Some(Some("pavement".into())), "the first of two");
        assert_eq!(at(&garbage, 0.6), Some(Some("kerb".into())));
        assert_eq!(at(&garbage, 0.8), Some(Some("kerb".into())), "its line is the zone's");
        assert_eq!(at(&garbage, 0.25), None, "excluded within a watched zone");
        assert_eq!(at(&garbage, 0.3), None, "on an excluded zone's line");
        assert_eq!(at(&garbage, 0.9), None);
        assert_eq!(
            at(&advert, 0.9),
            Some(None),
            "no watch zone is for this rule: the whole picture"
        );
        assert_eq!(at(&advert, 0.25), None);
    }
}
