//! The case lifecycle after filing, and case ids.
//!
//! [`transition`] is the only table of the platform's replies; each arm has its reason, and anything else is
//! rejected. Replies may be repeated and steps may be skipped (platforms with automatic dispatch never say "accepted"),
//! but a case never goes back on its own.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::types::{CameraId, CaseId, CaseState, NodeId, RuleId};

/// A reply that does not fit the state of the case. Nothing is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a case that is {} cannot become {}: {why}", .from.as_str(), .to.as_str())]
pub(super) struct IllegalTransition {
    /// Current state of the case.
    pub(super) from: CaseState,
    /// State that the platform replied.
    pub(super) to: CaseState,
    /// Why the transition is not allowed.
    pub(super) why: &'static str,
}

/// The reason for the transition from `from` to the replied state `to`, as a sentence for the case history. A repeated
/// reply changes nothing.
///
/// # Errors
/// [`IllegalTransition`] if `to` cannot follow from this state.
pub(super) fn transition(from: CaseState, to: CaseState) -> Result<&'static str, IllegalTransition> {
    use CaseState::*;
    let refuse = |why| Err(IllegalTransition { from, to, why });
    match (from, to) {
        (a, b) if a == b => Ok("The platform repeated its reply."),
        // Only the box files and withdraws.
        (_, Filed) => refuse("only the box files cases"),
        (_, Withdrawn) => refuse("only the box withdraws cases"),
        (Withdrawn, Closed) => Ok("The platform closed the withdrawn case."),
        (Withdrawn, _) => refuse("the box withdrew it, and files a new case if the problem is still there"),
        // An ended case can only be reopened.
        (Closed, Reopened) => Ok("The platform reopened the case: the problem recurred."),
        (Rejected | DuplicateOf, Reopened) => Ok("The platform reopened the case: it reversed its decision."),
        (Closed | Rejected | DuplicateOf, _) => refuse("the case has ended and can only be reopened"),
        (_, Reopened) => refuse("the case has not ended"),
        // Triage: a clerk may change their mind until the crew has done the work.
        (Disposed, Rejected) => refuse("a crew has already dealt with it"),
        (Filed | Accepted | Dispatched | VerifyRequested | Reopened, Rejected) => Ok("The platform rejected the case."),
        (Filed | Accepted | Dispatched | Disposed | VerifyRequested | Reopened, DuplicateOf) => {
            Ok("The platform has the problem under another case number.")
        }
        // A platform may ask for verification before it accepts, and a reopened case is accepted again.
        (Filed | VerifyRequested | Reopened, Accepted) => Ok("The platform accepted the case."),
        (Dispatched | Disposed, Accepted) => refuse("a crew was already dispatched"),
        // From Disposed and VerifyRequested a crew is dispatched again: the problem was not fixed.
        (Filed | Accepted | Reopened, Dispatched) => Ok("A crew was dispatched."),
        (Disposed | VerifyRequested, Dispatched) => Ok("A crew was dispatched again: the problem was not fixed."),
        // Any of these may arrive first if the replies in between were lost.
        (Filed | Accepted | Dispatched | VerifyRequested | Reopened, Disposed) => {
            Ok("The crew reports the problem as fixed.")
        }
        (Filed | Accepted | Dispatched | Disposed | Reopened, VerifyRequested) => {
            Ok("The platform asks whether the problem is still there.")
        }
        (Filed | Accepted | Dispatched | Disposed | VerifyRequested | Reopened, Closed) => {
            Ok("The platform closed the case.")
        }
        // Handled by the first arm.
        (Accepted, Accepted) | (Dispatched, Dispatched) | (Disposed, Disposed) | (VerifyRequested, VerifyRequested) => {
            Ok("The platform repeated its reply.")
        }
    }
}

/// The case's ULID: 48 bits of milliseconds of `confirmed_at`, then the first 80 bits of SHA-256 over the case's
/// identity. Derived from content, not random, so that replay gives the same id and receivers see the same case.
pub(super) fn case_id(
    node: &NodeId,
    camera: &CameraId,
    rule: &RuleId,
    dedup_key: &str,
    first_seen_at: Timestamp,
    confirmed_at: Timestamp,
) -> CaseId {
    let mut hash = Sha256::new();
    for field in [node.as_str(), camera.as_str(), rule.as_str(), dedup_key] {
        // Hash the length first, so that "ab" + "c" and "a" + "bc" differ.
        hash.update((field.len() as u64).to_be_bytes());
        hash.update(field);
    }
    hash.update(first_seen_at.as_nanosecond().to_be_bytes());
    let chance = hash.finalize()[..10]
        .iter()
        .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
    let ms = u64::try_from(confirmed_at.as_millisecond()).unwrap_or(0);
    Ulid::from_parts(ms, chance).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [CaseState; 10] = [
        CaseState::Filed,
        CaseState::Accepted,
        CaseState::Rejected,
        CaseState::DuplicateOf,
        CaseState::Dispatched,
        CaseState::Disposed,
        CaseState::VerifyRequested,
        CaseState::Closed,
        CaseState::Reopened,
        CaseState::Withdrawn,
    ];

    /// One row per current state, one column per reply, both in the order of `ALL`; `=` changes nothing.
    #[test]
    fn the_whole_case_transition_table() {
        let table: Vec<String> = ALL
            .iter()
            .map(|from| {
                let cell = |to: &CaseState| match transition(*from, *to) {
                    Ok(_) if from == to => '=',
                    Ok(_) => 'x',
                    Err(_) => '.',
                };
                format!("{:<16} {}", from.as_str(), ALL.iter().map(cell).collect::<String>())
            })
            .collect();
        //                                                              FARDdDVCRW
        assert_eq!(
            table,
            [
                "filed            =xxxxxxx..",
                "accepted         .=xxxxxx..",
                "rejected         ..=.....x.",
                "duplicate_of     ...=....x.",
                "dispatched       ..xx=xxx..",
                "disposed         ...xx=xx..",
                "verify_requested .xxxxx=x..",
                "closed           .......=x.",
                "reopened         .xxxxxxx=.",
                "withdrawn        .......x.=",
            ]
        );
    }

    #[test]
    fn a_rejection_states_its_reason() {
        let refused = transition(CaseState::Disposed, CaseState::Accepted).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a case that is disposed cannot become accepted: a crew was already dispatched"
        );
    }

    #[test]
    fn an_id_is_a_ulid_of_the_content() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let id = |camera: &str, rule: &str, first| {
            case_id(
                &"box".into(),
                &camera.into(),
                &rule.into(),
                "cell/0102/view:a",
                at(first),
                at(1_700_000_300),
            )
        };
        let one = id("ab", "c", 1_700_000_000);
        assert_eq!(one, id("ab", "c", 1_700_000_000));
        assert_ne!(one, id("a", "bc", 1_700_000_000), "field boundaries count");
        assert_ne!(one, id("ab", "c", 1_700_000_001));
        let ulid = Ulid::from_string(one.as_str()).unwrap();
        assert_eq!((one.as_str().len(), ulid.timestamp_ms()), (26, 1_700_000_300_000));
    }
}
