//! The grid platform: clerks who look at what was filed, and crews who are sent. Its answers come as the real ones do: late,
//! in steps, and some never.

use fastrand::Rng;

use super::{Ms, chance::Chance};
use gridwatch_engine::CaseState;

const MINUTE: f64 = 60_000.0;

/// Of all cases, so many are never answered: lost between two systems. Each holds its site until the box lets it go.
const NEVER: f64 = 0.02;
/// Of the cases about nothing, so many are refused by the clerk; with the others a crew finds nothing.
const REFUSED: f64 = 0.85;
/// Of the problems that a crew is sent to, so many are called done and are not.
const NOT_DONE: f64 = 0.05;
/// How long each step takes, in minutes: half of them less, and sigma of the logarithm. A clerk has about two minutes for a
/// case and a queue before it; a crew comes within hours.
const CLERK: (f64, f64) = (12.0, 0.8);
const SENT: (f64, f64) = (25.0, 0.8);
const CREW: (f64, f64) = (120.0, 0.8);
const CLOSED: (f64, f64) = (30.0, 0.8);

/// What the platform, or somebody it sent, does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// It says so.
    Say(CaseState),
    /// The crew takes the thing away.
    Remove,
}

/// Everything that becomes of a case: what is done, and how long after it was filed.
pub(super) fn handle(is_right: bool, chance: &mut Rng) -> Vec<(Ms, Act)> {
    if chance.happens(NEVER) {
        return Vec::new();
    }
    let mut at = 0;
    let mut after = |(median, sigma): (f64, f64), chance: &mut Rng| {
        at += (chance.log_normal(median, sigma) * MINUTE) as Ms + 1000;
        at
    };
    let clerk = after(CLERK, chance);
    if !is_right && chance.happens(REFUSED) {
        return vec![(clerk, Act::Say(CaseState::Rejected))];
    }
    let mut acts = vec![(clerk, Act::Say(CaseState::Accepted))];
    acts.push((after(SENT, chance), Act::Say(CaseState::Dispatched)));
    let crew = after(CREW, chance);
    if is_right && !chance.happens(NOT_DONE) {
        acts.push((crew, Act::Remove));
    }
    // The crew reports when it has swept up.
    acts.push((crew + 60_000, Act::Say(CaseState::Disposed)));
    acts.push((after(CLOSED, chance) + 60_000, Act::Say(CaseState::Closed)));
    acts
}
