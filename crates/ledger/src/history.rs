//! What the ledger tells about a camera: its looks and what was made of them, where things stand, and why things were filed or not.
//!
//! Everything is judged with the configuration that held at each moment ([`Replay::recorded`](crate::replay::Replay::recorded)) or with
//! a given one, and every result is bounded. A query replays the time that it is about and a day before it, so that what was there
//! already is known; objects and cases from before that day are known as far as the head of the first file has them. Like a replay, a
//! query keeps its thread busy: none belongs on an async runtime.

pub mod candidates;
pub mod feet;
pub mod looks;

use std::{path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    Damage, Entry, LedgerError, Reader, RecordedEvent,
    replay::{Replay, UnjudgedSpan, Window},
};
use gridwatch_base::error::Class;
use gridwatch_engine::Plan;

pub use crate::what_if::Task;

/// Time that is replayed before what is asked for. A day covers the longest dwells.
const LEAD: SignedDuration = SignedDuration::from_hours(24);
/// Records between two checks for cancellation.
const CHECK_EVERY: u32 = 4096;

/// Why a query gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The task was cancelled.
    #[error("cancelled")]
    Cancelled,
}

impl HistoryError {
    /// The class of the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Ledger(e) => e.class(),
            Self::Cancelled => Class::Transient,
        }
    }
}

/// Where and with what a query looks.
#[derive(Debug, Clone)]
pub struct HistorySource<'a> {
    /// Folder of the ledger.
    pub ledger: &'a Path,
    /// The time that is asked for.
    pub window: Window,
    /// Judges with this plan instead of the one that held.
    pub plan: Option<&'a Arc<Plan>>,
}

/// What a query could not read or judge.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    /// Damaged files, read up to the damage.
    pub damage: Vec<Damage>,
    /// Time whose configuration is not known.
    pub unjudged: Vec<UnjudgedSpan>,
}

impl Gaps {
    /// One sentence for each.
    pub fn describe(&self) -> Vec<String> {
        let damage = self.damage.iter().map(ToString::to_string);
        damage.chain(self.unjudged.iter().map(UnjudgedSpan::describe)).collect()
    }
}

impl HistorySource<'_> {
    /// Feeds `each` with every record, from a day before the window on, and the replay before it is applied; `each` applies it.
    fn replay(&self, task: Task<'_>, mut each: impl FnMut(&mut Replay, Entry)) -> Result<(Replay, Gaps), HistoryError> {
        let mut reader = match self.window.from {
            Some(from) => Reader::open_near(self.ledger, from.checked_sub(LEAD).unwrap_or(Timestamp::MIN))?,
            None => Reader::open(self.ledger, None)?,
        };
        let all = Window::default();
        let mut replay = match self.plan {
            Some(plan) => Replay::new(Arc::clone(plan), all),
            None => Replay::recorded(self.ledger, all),
        };
        let (mut count, mut first) = (0_u32, None);
        while let Some(entry) = reader.next_entry()? {
            let at = match &entry.event {
                RecordedEvent::Observed(look) => Some(look.at),
                RecordedEvent::Tick(at) => Some(*at),
                _ => None,
            };
            if self.window.to.zip(at).is_some_and(|(to, at)| at >= to) {
                break;
            }
            count = count.wrapping_add(1);
            if count.is_multiple_of(CHECK_EVERY) {
                if task.cancelled.load(std::sync::atomic::Ordering::Relaxed) {
                    return Err(HistoryError::Cancelled);
                }
                if let Some((to, at)) = self.window.to.zip(at) {
                    let first = *first.get_or_insert(at);
                    let share = at.duration_since(first).as_secs_f64() / to.duration_since(first).as_secs_f64();
                    (task.progress)(share.clamp(0.0, 1.0));
                }
            }
            each(&mut replay, entry);
        }
        let unjudged = replay
            .unjudged()
            .filter(|span| self.window.from.is_none_or(|from| span.to >= from));
        let gaps = Gaps {
            damage: reader.damage().to_vec(),
            unjudged: unjudged.cloned().collect(),
        };
        Ok((replay, gaps))
    }
}

/// A number that a rule requires, and how far something came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Shortfall {
    /// What was missing.
    pub what: Requirement,
    /// What it reached: seconds for the dwell, looks for `seen_n`, otherwise a share or score 0..=1.
    pub has: f64,
    /// What the rule requires.
    pub needs: f64,
}

/// What a rule requires of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// A score that starts a candidate.
    StartScore,
    /// Presence without blind time.
    Dwell,
    /// Sightings among the newest looks.
    SeenN,
    /// The share of looks at which it counts as present.
    PresentShare,
    /// The share of sightings in which it is attended.
    AttendedShare,
}

#[cfg(test)]
mod tests;
