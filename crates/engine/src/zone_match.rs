//! Matches a point against the camera's drawn zones, for one rule at one moment.

use jiff::Timestamp;

use super::{
    calendar::Calendar,
    geometry::{Side, side_of},
    types::{Beyond, CameraPlan, Detection, Light, Point, Rule, ScheduleId, Zone, ZoneId, ZoneKind},
};

/// Where a point that counts lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ZoneMatch<'a> {
    /// The watch zone, if one is drawn.
    pub(super) zone: Option<&'a ZoneId>,
    /// The schedule of the permitted zone that contains the point, if any.
    pub(super) permit: Option<&'a ScheduleId>,
    /// That schedule is open, so the object is permitted now.
    pub(super) is_permitted: bool,
}

/// Matches `foot` against the zones that apply to `rule`; `None` if it does not count. A zone includes its boundary.
///
/// In this order, whatever the order of the zones:
/// 1. in an exclude zone, or in a container zone if the rule has `outside_containers`: `None`;
/// 2. if the rule has `beyond = "shop"`: `None` inside a shop zone, or if none is drawn;
/// 3. outside every watch zone, if any is drawn: `None`;
/// 4. otherwise it counts, under the first watch zone that contains it, unless it also lies in a permitted zone that is
///    open on one of its days. A permitted zone outside the watch zones has no effect.
pub(super) fn match_zones<'a>(
    zones: &'a [Zone],
    rule: &Rule,
    calendar: &Calendar,
    foot: Point,
    at: Timestamp,
) -> Option<ZoneMatch<'a>> {
    let mut is_watched_whole = true;
    let mut has_no_shop = rule.beyond == Some(Beyond::Shop);
    let (mut zone, mut permit, mut is_permitted) = (None, None, false);
    for z in zones
        .iter()
        .filter(|z| z.rules.is_empty() || z.rules.contains(&rule.id))
    {
        let is_in = || side_of(&z.polygon, foot) != Side::Outside;
        match &z.kind {
            ZoneKind::Exclude if is_in() => return None,
            ZoneKind::Container if rule.outside_containers && is_in() => return None,
            ZoneKind::Shop if rule.beyond == Some(Beyond::Shop) => {
                has_no_shop = false;
                if is_in() {
                    return None;
                }
            }
            ZoneKind::Watch => {
                is_watched_whole = false;
                if zone.is_none() && is_in() {
                    zone = Some(&z.id);
                }
            }
            ZoneKind::Permitted { during, valid } if !is_permitted && is_in() => {
                is_permitted = calendar.is_open_on(during, valid, at);
                if is_permitted || permit.is_none() {
                    permit = Some(during);
                }
            }
            ZoneKind::Exclude | ZoneKind::Container | ZoneKind::Shop | ZoneKind::Permitted { .. } => {}
        }
    }
    let counts = !has_no_shop && (is_watched_whole || zone.is_some());
    counts.then_some(ZoneMatch {
        zone,
        permit,
        is_permitted,
    })
}

impl Rule {
    /// Whether a detection counts for the rule where and when it was seen: label, score to keep, least area, and zones. Not if it is
    /// permitted at that time. Newness, size on the ground and approved signs are not looked at.
    pub fn counts(
        &self,
        camera: &CameraPlan,
        calendar: &Calendar,
        light: Light,
        at: Timestamp,
        detection: &Detection,
    ) -> bool {
        if !self.labels.contains(&detection.label) {
            return false;
        }
        let Some(bbox) = detection.bbox.within_picture() else {
            return false;
        };
        // False for NaN.
        let is_seen = detection.score >= self.scores(light).keep && bbox.area() >= self.min_area.into();
        let zone = || match_zones(&camera.zones, self, calendar, self.anchor(&bbox), at);
        is_seen && zone().is_some_and(|zone| !zone.is_permitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calendar::{DAY, Days, Schedule, Window},
        types::Validity,
    };

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

    fn rule(id: &str) -> Rule {
        Rule {
            id: id.into(),
            ..crate::fixture::rule()
        }
    }

    fn on(zones: &[Zone], rule: &Rule, x: f64) -> Option<Option<String>> {
        let foot = Point { x, y: 0.75 };
        let found = match_zones(zones, rule, &Calendar::default(), foot, Timestamp::UNIX_EPOCH)?;
        Some(found.zone.map(|z| z.as_str().to_owned()))
    }

    #[test]
    fn the_zone_under_the_foot_decides() {
        let (garbage, advert) = (rule("garbage"), rule("advert"));
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.5, &["garbage"]),
            zone("kerb", ZoneKind::Watch, 0.4, 0.8, &["garbage"]),
            zone("bins", ZoneKind::Exclude, 0.2, 0.3, &[]),
        ];
        let at = |rule, x| on(&zones, rule, x);
        assert_eq!(at(&garbage, 0.1), Some(Some("pavement".into())));
        assert_eq!(at(&garbage, 0.45), Some(Some("pavement".into())), "the first of two");
        assert_eq!(at(&garbage, 0.6), Some(Some("kerb".into())));
        assert_eq!(
            at(&garbage, 0.8),
            Some(Some("kerb".into())),
            "the boundary belongs to the zone"
        );
        assert_eq!(at(&garbage, 0.25), None, "excluded within a watched zone");
        assert_eq!(at(&garbage, 0.3), None, "on the boundary of an excluded zone");
        assert_eq!(at(&garbage, 0.9), None);
        assert_eq!(
            at(&advert, 0.9),
            Some(None),
            "no watch zone applies to this rule: the whole picture"
        );
        assert_eq!(at(&advert, 0.25), None);
    }

    #[test]
    fn container_zones_are_excluded_unless_the_rule_is_about_them() {
        let zones = [zone("bins", ZoneKind::Container, 0.2, 0.3, &[])];
        let overflow = Rule {
            outside_containers: false,
            ..rule("overflow")
        };
        assert_eq!(on(&zones, &rule("garbage"), 0.25), None);
        assert_eq!(
            on(&zones, &rule("garbage"), 0.35),
            Some(None),
            "the whole picture: a container zone is not a watch zone"
        );
        assert_eq!(on(&zones, &overflow, 0.25), Some(None));
    }

    #[test]
    fn beyond_the_shop_is_watched_ground_outside_the_shop_zone() {
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.8, &[]),
            zone("front", ZoneKind::Shop, 0.0, 0.2, &[]),
        ];
        let spill = Rule {
            beyond: Some(Beyond::Shop),
            ..rule("spill")
        };
        assert_eq!(on(&zones, &spill, 0.1), None);
        assert_eq!(on(&zones, &spill, 0.2), None, "the boundary belongs to the shop");
        assert_eq!(on(&zones, &spill, 0.3), Some(Some("pavement".into())));
        assert_eq!(on(&zones, &spill, 0.9), None, "not watched");
        assert_eq!(
            on(&zones[..1], &spill, 0.3),
            None,
            "without a shop zone nothing spills over"
        );
        assert_eq!(
            on(&zones, &rule("garbage"), 0.1),
            Some(Some("pavement".into())),
            "shop zones do not affect other rules"
        );
    }

    #[test]
    fn permitted_ground_is_watched_ground_with_hours() {
        let permitted = |during: &str| ZoneKind::Permitted {
            during: during.into(),
            valid: Validity::ALWAYS,
        };
        let zones = [
            zone("pavement", ZoneKind::Watch, 0.0, 0.8, &[]),
            zone("closed", permitted("closed"), 0.2, 0.5, &[]),
            zone("market", permitted("open"), 0.4, 0.9, &["vendor"]),
            zone("late", permitted("closed"), 0.6, 0.7, &[]),
        ];
        let always = Schedule {
            windows: vec![Window {
                days: Days::DAILY,
                from: 0,
                to: DAY,
                season: None,
            }],
        };
        let calendar = Calendar {
            schedules: [("open".into(), always), ("closed".into(), Schedule::default())].into(),
            ..Calendar::default()
        };
        let at = |rule: &str, x| {
            let foot = Point { x, y: 0.75 };
            let found = match_zones(
                &zones,
                &super::tests::rule(rule),
                &calendar,
                foot,
                Timestamp::UNIX_EPOCH,
            )?;
            Some((found.permit.map(|s| s.as_str().to_owned()), found.is_permitted))
        };
        assert_eq!(at("vendor", 0.1), Some((None, false)));
        assert_eq!(at("vendor", 0.3), Some((Some("closed".into()), false)));
        assert_eq!(
            at("vendor", 0.45),
            Some((Some("open".into()), true)),
            "the open one takes precedence"
        );
        assert_eq!(
            at("vendor", 0.65),
            Some((Some("open".into()), true)),
            "whatever their order"
        );
        assert_eq!(at("garbage", 0.55), Some((None, false)), "not for this rule");
        assert_eq!(at("vendor", 0.85), None, "not watched");
    }
}
