//! The grid platform: clerks who check the filed cases, and crews who are dispatched. As with real platforms, replies come late,
//! in steps, and some never.

use fastrand::Rng;

use super::{clock::Ms, random::Distributions};
use gridwatch_engine::CaseState;

const MINUTE: f64 = 60_000.0;

/// Fraction of cases that never get a reply (lost between two systems). Each blocks its site until the box releases it.
const NO_REPLY: f64 = 0.02;
/// Fraction of false cases that the clerk rejects; for the others a crew finds nothing.
const REJECTED: f64 = 0.85;
/// Fraction of dispatched problems that are reported as done but are not.
const NOT_DONE: f64 = 0.05;
/// Duration of each step in minutes: median, and sigma of the logarithm. A clerk has about two minutes per case and a queue; a
/// crew comes within hours.
const CLERK: (f64, f64) = (12.0, 0.8);
const DISPATCH: (f64, f64) = (25.0, 0.8);
const CREW: (f64, f64) = (120.0, 0.8);
const CLOSED: (f64, f64) = (30.0, 0.8);

/// An action of the platform or of a crew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PlatformAction {
    /// Sends a reply.
    Reply(CaseState),
    /// A crew removes the object.
    Remove,
}

/// The actions on a case, each with its delay after filing in milliseconds. `is_true`: the case shows a real problem.
pub(super) fn actions_for(is_true: bool, rng: &mut Rng) -> Vec<(Ms, PlatformAction)> {
    if rng.happens(NO_REPLY) {
        return Vec::new();
    }
    let mut at = 0;
    let mut after = |(median, sigma): (f64, f64), rng: &mut Rng| {
        at += (rng.log_normal(median, sigma) * MINUTE) as Ms + 1000;
        at
    };
    let clerk = after(CLERK, rng);
    if !is_true && rng.happens(REJECTED) {
        return vec![(clerk, PlatformAction::Reply(CaseState::Rejected))];
    }
    let mut actions = vec![(clerk, PlatformAction::Reply(CaseState::Accepted))];
    actions.push((after(DISPATCH, rng), PlatformAction::Reply(CaseState::Dispatched)));
    let crew = after(CREW, rng);
    if is_true && !rng.happens(NOT_DONE) {
        actions.push((crew, PlatformAction::Remove));
    }
    // The crew reports after clearing up.
    actions.push((crew + 60_000, PlatformAction::Reply(CaseState::Disposed)));
    actions.push((after(CLOSED, rng) + 60_000, PlatformAction::Reply(CaseState::Closed)));
    actions
}
