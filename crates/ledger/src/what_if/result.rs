//! What a run found, beside the cases what other rules need to know of it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::replay::ReplayedCase;
use gridwatch_engine::{BBox, CameraId, CaseId, LonLat, NotFiled, OpenCase, RuleId, SiteExtent};

/// A case that a rule opened or changed.
#[derive(Debug, Clone)]
pub(super) struct CaseChangeAt {
    /// Index of the look.
    pub(super) look: u32,
    /// Position of the rule in the configuration.
    pub(super) rule: usize,
    pub(super) is_opened: bool,
    pub(super) case: OpenCase,
}

/// Looks of one camera at which a candidate of a rule was ready, so that open cases of other categories mattered to it.
#[derive(Debug, Clone)]
pub(super) struct ReadySpan {
    pub(super) camera: CameraId,
    pub(super) rule: usize,
    /// Indices of the first and the last look.
    pub(super) looks: (u32, u32),
    /// A box around all places.
    pub(super) bbox: BBox,
}

/// The time for which a case was open.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OpenSpan {
    pub(super) camera: CameraId,
    pub(super) category: String,
    pub(super) bbox: BBox,
    pub(super) from: u32,
    /// Index of the first look at which it was not open any more; `u32::MAX`: it stayed open.
    pub(super) to: u32,
}

impl OpenSpan {
    pub(super) fn new(case: &OpenCase, from: u32) -> Self {
        Self {
            camera: case.camera.clone(),
            category: case.category.clone(),
            bbox: case.bbox,
            from,
            to: u32::MAX,
        }
    }
}

/// The result of a run.
#[derive(Debug, Default)]
pub(super) struct RunResult {
    pub(super) cases: Vec<ReplayedCase>,
    /// Their ground positions.
    pub(super) places: BTreeMap<CaseId, LonLat>,
    pub(super) changes: Vec<CaseChangeAt>,
    pub(super) ready: Vec<ReadySpan>,
    pub(super) open: BTreeMap<CaseId, OpenSpan>,
    /// Why candidates were not filed, for the comparison with other runs.
    pub(super) not_filed: BTreeMap<(CameraId, RuleId), Vec<(NotFiled, Timestamp)>>,
    /// Confirmation times of cases from before the run.
    pub(super) earlier: BTreeMap<CaseId, (CameraId, Timestamp)>,
    /// A daily cap was reached.
    pub(super) is_capped: bool,
    /// Where candidates and known cases were.
    pub(super) extent: Option<SiteExtent>,
}

impl RunResult {
    /// Adds the result of another cluster.
    pub(super) fn join(&mut self, other: Self) {
        self.cases.extend(other.cases);
        self.places.extend(other.places);
        self.changes.extend(other.changes);
        self.ready.extend(other.ready);
        self.open.extend(other.open);
        self.not_filed.extend(other.not_filed);
        self.earlier.extend(other.earlier);
        self.is_capped |= other.is_capped;
        self.add_extent(other.extent);
    }

    pub(super) fn add_extent(&mut self, other: Option<SiteExtent>) {
        match (&mut self.extent, other) {
            (Some(extent), Some(other)) => extent.join(&other),
            (extent @ None, other) => *extent = other,
            (Some(_), None) => {}
        }
    }
}
