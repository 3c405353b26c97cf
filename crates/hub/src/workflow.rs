//! Which step may follow which: what a person may decide about a case, and what a box's report changes. Pure: no clock, no database.

use gridwatch_contract::{CaseRecord, ReportKind};
use gridwatch_engine::{CaseState, Finding};
use jiff::Timestamp;

use crate::database::CaseRow;

/// A decision about a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It is taken up （受理、立案）.
    Accept,
    /// It is not a problem, or not one of this city's （不予受理）.
    Reject {
        /// Why.
        reason: String,
    },
    /// It was reported before （重复上报）.
    Duplicate {
        /// The other case.
        of: String,
    },
    /// A unit is to deal with it （派遣）.
    Dispatch {
        /// The unit.
        unit: String,
        /// Until when （处置期限）; the box looks then, unless the unit reports before.
        due: Option<Timestamp>,
    },
    /// The unit reports that it is done （处置完成）; the box looks.
    Dispose,
    /// The box is to look （要求核查）.
    Verify,
    /// It is over （结案）.
    Close {
        /// Why, if it is worth saying.
        reason: Option<String>,
    },
    /// It goes on （恢复办理）.
    Reopen {
        /// Why.
        reason: String,
    },
}

/// A decision that does not fit the case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a case that is {} cannot be {act}; possible: {}", .state.as_str(), .possible.join(", "))]
pub struct Refused {
    state: CaseState,
    act: &'static str,
    possible: Vec<&'static str>,
}

impl Act {
    /// What it does to the case, completing "cannot be".
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Reject { .. } => "rejected",
            Self::Duplicate { .. } => "marked as a duplicate",
            Self::Dispatch { .. } => "dispatched",
            Self::Dispose => "marked as disposed",
            Self::Verify => "verified",
            Self::Close { .. } => "closed",
            Self::Reopen { .. } => "reopened",
        }
    }

    /// The state after it, which is also the state of the reply.
    pub fn state(&self) -> CaseState {
        match self {
            Self::Accept => CaseState::Accepted,
            Self::Reject { .. } => CaseState::Rejected,
            Self::Duplicate { .. } => CaseState::DuplicateOf,
            Self::Dispatch { .. } => CaseState::Dispatched,
            Self::Dispose => CaseState::Disposed,
            Self::Verify => CaseState::VerifyRequested,
            Self::Close { .. } => CaseState::Closed,
            Self::Reopen { .. } => CaseState::Reopened,
        }
    }

    /// The reason that goes into the case's history and the reply.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Reject { reason } | Self::Reopen { reason } => Some(reason),
            Self::Duplicate { of } => Some(of),
            Self::Close { reason } => reason.as_deref(),
            Self::Accept | Self::Dispatch { .. } | Self::Dispose | Self::Verify => None,
        }
    }
}

/// The states that a person may bring a case to from `state`.
pub fn possible(state: CaseState) -> &'static [CaseState] {
    use CaseState::{
        Accepted, Closed, Dispatched, Disposed, DuplicateOf, Filed, Rejected, Reopened, VerifyRequested, Withdrawn,
    };
    match state {
        Filed => &[Accepted, Rejected, DuplicateOf],
        // The box asks whether a problem that came back goes on.
        Reopened => &[Accepted, Rejected, DuplicateOf, Dispatched, Closed],
        Accepted => &[Dispatched, Disposed, VerifyRequested, Rejected, DuplicateOf, Closed],
        Dispatched => &[Dispatched, Disposed, VerifyRequested, Closed],
        Disposed => &[VerifyRequested, Dispatched, Closed],
        VerifyRequested => &[VerifyRequested, Dispatched, Disposed, Closed],
        Closed | Rejected => &[Reopened],
        DuplicateOf | Withdrawn => &[],
    }
}

/// Whether `act` fits a case in `state`.
///
/// # Errors
/// It does not; the error names what would.
pub fn check(state: CaseState, act: &Act) -> Result<CaseState, Refused> {
    let next = act.state();
    if possible(state).contains(&next) {
        return Ok(next);
    }
    Err(Refused {
        state,
        act: act.as_str(),
        possible: possible(state).iter().map(|state| state.as_str()).collect(),
    })
}

/// The state that a box's newer revision brings a case to that is in `state` here; `None`: it changes no state. The result of a verification
/// does not: [`is_cleared`] tells what follows from it.
pub fn reported(state: CaseState, record: &CaseRecord) -> Option<CaseState> {
    let is_over = matches!(state, CaseState::Closed | CaseState::Rejected | CaseState::DuplicateOf);
    match record.report_kind {
        // If the reply that ends it is on its way, that stands.
        ReportKind::Withdraw if !is_over => Some(CaseState::Withdrawn),
        ReportKind::Update if record.state == CaseState::Reopened && state == CaseState::Closed => {
            Some(CaseState::Reopened)
        }
        _ => None,
    }
}

/// Whether a box found the place of a case cleared after the last decision about it, so that the case may be closed without a person （智能结案）.
pub fn is_cleared(case: &CaseRow) -> bool {
    let is_asked = matches!(
        case.state,
        CaseState::Dispatched | CaseState::Disposed | CaseState::VerifyRequested
    );
    // An older finding says nothing about what was decided since.
    let is_newer = case.finding_at.is_some_and(|at| at >= case.decided_at);
    is_asked && is_newer && case.finding.as_deref() == Some(Finding::Cleared.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dispatch() -> Act {
        Act::Dispatch {
            unit: "unit 1".into(),
            due: None,
        }
    }

    #[test]
    fn the_usual_path_and_what_is_refused() {
        let mut state = CaseState::Filed;
        let close = Act::Close { reason: None };
        for act in [&Act::Accept, &dispatch(), &Act::Dispose, &Act::Verify, &close] {
            state = check(state, act).expect("a step of the usual path");
        }
        assert_eq!(state, CaseState::Closed);
        let refused = check(CaseState::Filed, &Act::Dispose).expect_err("not dispatched yet");
        assert_eq!(
            refused.to_string(),
            "a case that is filed cannot be marked as disposed; possible: accepted, rejected, duplicate_of"
        );
        assert!(check(CaseState::Withdrawn, &Act::Accept).is_err());
    }

    #[test]
    fn no_decision_sets_a_state_that_only_a_box_can_set() {
        for state in CaseState::ALL {
            for next in possible(state) {
                assert!(!matches!(next, CaseState::Filed | CaseState::Withdrawn), "{state:?}");
            }
        }
    }

    #[test]
    fn a_cleared_place_closes_a_case_only_where_somebody_was_asked_before() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        let row = |state, finding: &str, finding_at, decided_at| CaseRow {
            case_id: "01KQGKEW010000000000000001".into(),
            node: "box-7".into(),
            revision: 2,
            state,
            task_no: None,
            category_code: "0102".into(),
            cell_code: "310115001001042".into(),
            camera: "gate".into(),
            lon: 121.5,
            lat: 31.2,
            confidence: 0.9,
            filed_at: at(0),
            received_at: at(1),
            changed_at: at(20),
            decided_at: at(decided_at),
            finding: Some(finding.into()),
            finding_at: Some(at(finding_at)),
            unit: None,
            due_at: None,
        };
        assert!(is_cleared(&row(CaseState::Disposed, "cleared", 20, 10)));
        assert!(!is_cleared(&row(CaseState::Disposed, "cleared", 5, 10)), "found before");
        assert!(
            !is_cleared(&row(CaseState::Accepted, "cleared", 20, 10)),
            "no verification was requested"
        );
        assert!(!is_cleared(&row(CaseState::Disposed, "unverifiable", 20, 10)));
    }

    #[test]
    fn a_withdrawal_ends_what_is_open_and_changes_nothing_else() {
        let mut record: CaseRecord =
            serde_json::from_str(include_str!("../../../tests/fixtures/contract/case.json")).expect("a record");
        record.report_kind = ReportKind::Withdraw;
        assert_eq!(reported(CaseState::Accepted, &record), Some(CaseState::Withdrawn));
        assert_eq!(reported(CaseState::Closed, &record), None);
    }
}
