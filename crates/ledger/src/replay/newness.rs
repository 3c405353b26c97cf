//! How new in its view a case's object was.

use serde::Serialize;

use gridwatch_engine::{Case, Detection, Newness, Rule};

/// How new in its view the object of a case was at the look that confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseNewness {
    /// It had appeared after the view was learned.
    New,
    /// It was there when the view was learned, or had become a part of the background.
    Old,
    /// The look could not tell, or its record does not: the ledger is of an earlier version, or the camera has no change map.
    Unknown,
}

impl CaseNewness {
    /// The newness of a case that a look with these detections confirmed. An object of several parts is as new as its newest.
    pub fn of(case: &Case, rule: &Rule, detections: &[Detection]) -> Self {
        let is_part = |d: &&Detection| rule.labels.contains(&d.label) && case.confirmed_box.contains(d.bbox.centre());
        let parts = detections.iter().filter(is_part).filter_map(|d| d.newness);
        match parts.max_by(|a, b| a.share.total_cmp(&b.share)) {
            Some(newest) if Newness::is_new(&newest) => Self::New,
            Some(_) => Self::Old,
            None => Self::Unknown,
        }
    }
}
