//! Which step may follow which: what a person may decide about a case, and what a box's report changes. Pure: no clock, no database.

use gridwatch_contract::{CaseRecord, ReportKind};
use gridwatch_engine::{CaseState, Finding};
use jiff::Timestamp;

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

/// What a box's report changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reported {
    /// The case is in this state now, as the box says.
    State(CaseState),
    /// The box verified that the problem is gone, and nobody needs to look: the hub closes the case, and tells the box （智能结案）.
    Close,
    /// Nothing but what the record says.
    Nothing,
}

/// What a newer revision changes about a case that is in `state` here. `closes_cleared`: the city lets the hub close a case whose place a box found
/// cleared after a unit's report or a request.
pub fn reported(state: CaseState, record: &CaseRecord, closes_cleared: bool) -> Reported {
    let is_over = matches!(state, CaseState::Closed | CaseState::Rejected | CaseState::DuplicateOf);
    match record.report_kind {
        ReportKind::New => Reported::Nothing,
        // Withdrawn while the reply that ends it is on its way: that stands.
        ReportKind::Withdraw if is_over => Reported::Nothing,
        ReportKind::Withdraw => Reported::State(CaseState::Withdrawn),
        ReportKind::Update if record.state == CaseState::Reopened && state == CaseState::Closed => {
            Reported::State(CaseState::Reopened)
        }
        ReportKind::Update => Reported::Nothing,
        ReportKind::VerifyReport => {
            let is_asked = matches!(
                state,
                CaseState::Dispatched | CaseState::Disposed | CaseState::VerifyRequested
            );
            let finding = record.verification.last().map(|v| v.result);
            if closes_cleared && is_asked && finding == Some(Finding::Cleared) {
                Reported::Close
            } else {
                Reported::Nothing
            }
        }
    }
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
        let refused = check(CaseState::Filed, &Act::Dispose).expect_err("nobody was sent");
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
    fn a_cleared_place_closes_a_case_only_where_somebody_was_asked_and_the_city_allows_it() {
        let mut record: CaseRecord =
            serde_json::from_str(include_str!("../../../tests/fixtures/contract/case.json")).expect("a record");
        record.report_kind = ReportKind::VerifyReport;
        let when = record.filed_at;
        let verification = |result| gridwatch_contract::Verification {
            asked_at: when,
            checked_at: when,
            result,
            evidence_ids: Vec::new(),
            visible: true,
            looks: 3,
            looks_seen: 0,
            confidence: 1.0,
        };
        record.verification = vec![verification(Finding::StillPresent), verification(Finding::Cleared)];
        assert_eq!(reported(CaseState::Disposed, &record, true), Reported::Close);
        assert_eq!(reported(CaseState::Disposed, &record, false), Reported::Nothing);
        assert_eq!(reported(CaseState::Accepted, &record, true), Reported::Nothing);
        record.verification.push(verification(Finding::Unverifiable));
        assert_eq!(reported(CaseState::Disposed, &record, true), Reported::Nothing);
    }

    #[test]
    fn a_withdrawal_ends_what_is_open_and_changes_nothing_else() {
        let mut record: CaseRecord =
            serde_json::from_str(include_str!("../../../tests/fixtures/contract/case.json")).expect("a record");
        record.report_kind = ReportKind::Withdraw;
        assert_eq!(
            reported(CaseState::Accepted, &record, false),
            Reported::State(CaseState::Withdrawn)
        );
        assert_eq!(reported(CaseState::Closed, &record, false), Reported::Nothing);
    }
}
