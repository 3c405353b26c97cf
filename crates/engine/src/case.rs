//! A case's life after it is filed, and its name.
//!
//! [`CaseState::after`] alone says which answers of the platform are possible; each arm has its reason, and what has no
//! arm is refused. Answers may come twice and steps may be left out (platforms with automatic dispatch never say
//! "accepted"), but a case never goes back by itself.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::types::{CameraId, CaseId, CaseState, NodeId, RuleId};

/// An answer that cannot be: nothing is changed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a case that is {} cannot become {}: {why}", .from.as_str(), .to.as_str())]
pub struct Illegal {
    /// Where the case stands.
    pub from: CaseState,
    /// What the platform said.
    pub to: CaseState,
    /// Why not.
    pub why: &'static str,
}

impl CaseState {
    /// The state after the platform's answer `to`. The same answer again changes nothing.
    ///
    /// # Errors
    /// [`Illegal`] for an answer that cannot follow from here.
    pub fn after(self, to: Self) -> Result<Self, Illegal> {
        transition(self, to).map(|_| to)
    }
}

/// Why the step is taken, as a sentence for the case's history.
pub(super) fn transition(from: CaseState, to: CaseState) -> Result<&'static str, Illegal> {
    use CaseState::*;
    let refuse = |why| Err(Illegal { from, to, why });
    match (from, to) {
        (a, b) if a == b => Ok("The platform said so again."),
        // What only the box says.
        (_, Filed) => refuse("filing is the box's own word"),
        (_, Withdrawn) => refuse("withdrawing is the box's own word"),
        (Withdrawn, Closed) => Ok("The platform closed the case that the box had taken back."),
        (Withdrawn, _) => refuse("the box took it back and files anew if it is there"),
        // What is over comes back only by being reopened.
        (Closed, Reopened) => Ok("The platform reopened the case: the problem came back."),
        (Rejected | DuplicateOf, Reopened) => Ok("The platform reopened the case: it thought better of refusing it."),
        (Closed | Rejected | DuplicateOf, _) => refuse("the case is over, and only reopening brings it back"),
        (_, Reopened) => refuse("the case is not over"),
        // Triage. A clerk may think better of it at any time before the crew has done the work.
        (Disposed, Rejected) => refuse("a crew has already dealt with it"),
        (Filed | Accepted | Dispatched | VerifyRequested | Reopened, Rejected) => Ok("The platform refused the case."),
        (Filed | Accepted | Dispatched | Disposed | VerifyRequested | Reopened, DuplicateOf) => {
            Ok("The platform knows the problem under another number.")
        }
        // A platform may ask for a check before it accepts, and a reopened case is accepted anew.
        (Filed | VerifyRequested | Reopened, Accepted) => Ok("The platform took the case."),
        (Dispatched | Disposed, Accepted) => refuse("a crew was already sent"),
        // From Disposed and VerifyRequested a crew is sent again: the work did not hold.
        (Filed | Accepted | Reopened, Dispatched) => Ok("A crew was sent."),
        (Disposed | VerifyRequested, Dispatched) => Ok("A crew was sent again: the problem was not dealt with."),
        // Any of these may reach the box first when answers in between were lost with a broker.
        (Filed | Accepted | Dispatched | VerifyRequested | Reopened, Disposed) => {
            Ok("The crew says the problem is dealt with.")
        }
        (Filed | Accepted | Dispatched | Disposed | Reopened, VerifyRequested) => {
            Ok("The platform asks whether the problem is still there.")
        }
        (Filed | Accepted | Dispatched | Disposed | VerifyRequested | Reopened, Closed) => {
            Ok("The platform closed the case.")
        }
        // Equal states were the first arm.
        (Accepted, Accepted) | (Dispatched, Dispatched) | (Disposed, Disposed) | (VerifyRequested, VerifyRequested) => {
            Ok("The platform said so again.")
        }
    }
}

/// The case's ULID: 48 bits of milliseconds of `confirmed_at`, then the first 80 bits of SHA-256 over what the case is.
/// Content decides, not chance: replay gives the same id, and a receiver sees the same case.
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
        // The length first: "ab" + "c" and "a" + "bc" are different cases.
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

    /// Rows are where a case stands, columns what the platform says, both in the order of `ALL`; `=` changes nothing.
    #[test]
    fn the_whole_table_of_transitions() {
        let table: Vec<String> = ALL
            .iter()
            .map(|from| {
                let cell = |to: &CaseState| match from.after(*to) {
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
    fn a_refusal_says_why() {
        let refused = CaseState::Disposed.after(CaseState::Accepted).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a case that is disposed cannot become accepted: a crew was already sent"
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
        assert_ne!(one, id("a", "bc", 1_700_000_000), "fields do not run together");
        assert_ne!(one, id("ab", "c", 1_700_000_001));
        let ulid = Ulid::from_string(one.as_str()).unwrap();
        assert_eq!((one.as_str().len(), ulid.timestamp_ms()), (26, 1_700_000_300_000));
    }
}
