//! How right cases are: the judgements of people and of the platform, shares with their confidence limits.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::replay::tune::labels::{CaseLabel, LabelSubject};
use crate::{RecordedEvent, replay::ReplayedCase};
use gridwatch_engine::{CaseId, CaseState};

/// Two-sided 95 % of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A share of counted things, with its 95 % confidence limits by Wilson's score interval (E. B. Wilson, "Probable inference, the law of
/// succession, and statistical inference", JASA 22, 1927), which also holds for few things and for shares near 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// How many of them.
    pub hits: u64,
    /// How many there are; never 0.
    pub of: u64,
    /// The share, 0..=1.
    pub share: f64,
    /// Lower limit, 0..=1.
    pub low: f64,
    /// Upper limit, 0..=1.
    pub high: f64,
}

impl Estimate {
    /// `None` if nothing was counted.
    pub fn new(hits: u64, of: u64) -> Option<Self> {
        if of == 0 {
            return None;
        }
        let (n, share) = (of as f64, hits.min(of) as f64 / of as f64);
        let scale = 1.0 + Z * Z / n;
        let centre = (share + Z * Z / (2.0 * n)) / scale;
        let reach = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        Some(Self {
            hits,
            of,
            share,
            low: (centre - reach).max(0.0),
            high: (centre + reach).min(1.0),
        })
    }
}

/// What the platform's replies say about a case: right if it was accepted or worked on, wrong if it was rejected.
fn judgement(state: CaseState) -> Option<bool> {
    match state {
        CaseState::Filed | CaseState::Withdrawn => None,
        CaseState::Rejected => Some(false),
        CaseState::Accepted
        | CaseState::Dispatched
        | CaseState::Disposed
        | CaseState::VerifyRequested
        | CaseState::Closed
        | CaseState::Reopened
        | CaseState::DuplicateOf => Some(true),
    }
}

/// The platform's judgement of each case, by its newest reply that judges.
pub(super) fn replies<'a>(events: impl Iterator<Item = &'a RecordedEvent>) -> BTreeMap<CaseId, bool> {
    let mut judged = BTreeMap::new();
    for event in events {
        if let RecordedEvent::Reply(reply) = event
            && let Some(is_right) = judgement(reply.state)
        {
            judged.insert(reply.case.clone(), is_right);
        }
    }
    judged
}

/// The labels of cases: those of people, and for other cases the platform's.
pub(super) fn labels(
    people: &[CaseLabel],
    platform: &BTreeMap<CaseId, bool>,
    cases: &[&ReplayedCase],
) -> Vec<CaseLabel> {
    let is_labelled = |id: &CaseId| {
        let is_of = |l: &CaseLabel| matches!(&l.subject, LabelSubject::Case(case) if case == id.as_str());
        people.iter().any(is_of)
    };
    let known = |id: &&CaseId| cases.iter().any(|case| case.case_id == **id);
    let replied = platform.iter().filter(|(id, _)| known(id) && !is_labelled(id));
    let replied = replied.map(|(id, right)| CaseLabel {
        subject: LabelSubject::Case(id.to_string()),
        right: *right,
    });
    people.iter().cloned().chain(replied).collect()
}
