//! The pure core of gridwatch: observations go in, effects come out.
//!
//! No clock, files, network, threads, environment or hash-order iteration: `clippy.toml` lists the bans, and this crate
//! denies them. [`Engine::apply`] on the same inputs returns the same effects, byte for byte, so live operation and
//! replay run the same code. `docs/judging.md` describes how a detection becomes a case.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod approved;
pub mod calendar;
mod case;
pub mod geometry;
pub mod grid;
mod group;
mod judge;
mod presence;
mod register;
mod site;
mod stage;
mod track;
mod types;
mod vacancy;
mod verification;
mod zone_match;

#[cfg(test)]
extern crate self as gridwatch_engine;
#[cfg(test)]
#[path = "../tests/engine_support/rule.rs"]
#[allow(unreachable_pub, reason = "shared with the integration tests")]
mod fixture;

use std::time::Duration;

use jiff::Timestamp;

pub use approved::is_approved;
pub use judge::{CandidateStatus, DetectionOutcome, Engine, JudgedDetection, Progress, TrackStatus};
pub use site::SiteExtent;
pub use types::*;

/// Time from `earlier` to `later`; zero if the clock was set back in between.
fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// `at` plus `after`, saturating at [`Timestamp::MAX`].
fn plus(at: Timestamp, after: Duration) -> Timestamp {
    at.checked_add(after).unwrap_or(Timestamp::MAX)
}
