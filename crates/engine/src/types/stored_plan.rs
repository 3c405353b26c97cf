//! The stored form of a [`Plan`], for the record of what the engine worked to.
//!
//! Stored names are kept for good: a plan of any earlier version is read, and a new field must have a default that judges as before
//! it existed. **A field that is not known is an error**: it was written by a newer version, which judges by it, and ignoring it would
//! give other cases than those that were filed.

use std::{collections::BTreeMap, time::Duration};

use jiff::{civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{CameraId, CameraPlan, Intake, NodeId, Plan, Rule, ScheduleId, Verification};
use crate::{
    calendar::{Calendar, DayKind, Schedule},
    grid::Grid,
};

/// A plan without its grid, which is stored by itself because it is large and rarely changes, and with the name of its time zone in
/// the place of the zone's rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPlan {
    node: NodeId,
    cameras: BTreeMap<CameraId, CameraPlan>,
    rules: Vec<Rule>,
    intake: Intake,
    verification: Verification,
    picture_interval: Duration,
    /// IANA name, such as `Asia/Shanghai`.
    time_zone: String,
    days: BTreeMap<Date, DayKind>,
    schedules: BTreeMap<ScheduleId, Schedule>,
}

impl StoredPlan {
    /// The stored form of `plan`; `None` if its time zone has no IANA name.
    pub fn of(plan: &Plan) -> Option<Self> {
        let Calendar { zone, days, schedules } = &plan.calendar;
        Some(Self {
            node: plan.node.clone(),
            cameras: plan.cameras.clone(),
            rules: plan.rules.clone(),
            intake: plan.intake.clone(),
            verification: plan.verification.clone(),
            picture_interval: plan.picture_interval,
            time_zone: zone.iana_name()?.to_owned(),
            days: days.clone(),
            schedules: schedules.clone(),
        })
    }

    /// IANA name of the time zone that [`StoredPlan::into_plan`] needs.
    pub fn time_zone(&self) -> &str {
        &self.time_zone
    }

    /// The plan, with its grid and its time zone.
    pub fn into_plan(self, grid: Grid, zone: TimeZone) -> Plan {
        Plan {
            node: self.node,
            cameras: self.cameras,
            rules: self.rules,
            grid,
            intake: self.intake,
            verification: self.verification,
            picture_interval: self.picture_interval,
            calendar: Calendar {
                zone,
                days: self.days,
                schedules: self.schedules,
            },
        }
    }
}
