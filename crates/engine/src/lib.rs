//! The pure core: what was seen goes in, what to do comes out.
//!
//! No clock, no files, no network, no threads, no environment, no hash-order iteration (clippy.toml holds the bans, this
//! module turns them on): [`Engine::apply`] on the same inputs gives the same effects, byte for byte. Live and replay run
//! this code. How a detection becomes a case is told in `docs/judging.md`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod approved;
pub mod calendar;
mod case;
pub mod geometry;
pub mod grid;
mod group;
mod judge;
mod presence;
mod site;
mod stage;
mod track;
pub mod types;
mod vacancy;
mod verification;
mod zone_match;

use std::time::Duration;

use jiff::Timestamp;

pub use approved::is_approved;
pub use case::IllegalTransition;
pub use judge::Engine;
pub use types::*;

/// Time from `earlier` to `later`; nothing where the clock was set back between them.
fn since(later: Timestamp, earlier: Timestamp) -> Duration {
    later.duration_since(earlier).try_into().unwrap_or_default()
}

/// The moment `after` later, or the end of time.
fn plus(at: Timestamp, after: Duration) -> Timestamp {
    at.checked_add(after).unwrap_or(Timestamp::MAX)
}
