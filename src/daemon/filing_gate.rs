//! Whether the core may decide and file now: the clock must be believed, the database must still be the one that was opened, and no
//! other box may use this box's node id: what this one filed meanwhile would be sent once that is resolved, a second time.
//!
//! While the gate is closed the core feeds the engine nothing: a look with a wrong time would end candidates or confirm cases
//! with times that are signed. A missing look is not an absence, so nothing is lost but time.

use std::sync::Arc;

use gridwatch_base::{
    clock::trust::{ClockAssessment, ClockDoubt, ClockReading, ClockTrust},
    message,
    message::Message,
};
use gridwatch_link::{LinkProblem, LinkState};
use gridwatch_store::{Store, StoreError};
use tokio::sync::watch;

use crate::telemetry::Health;

/// Why nothing is filed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Clock(ClockDoubt),
    Database,
    Duplicate,
}

/// Judges clock and database, and reports what it finds.
pub(super) struct FilingGate {
    clock: ClockTrust,
    health: Arc<Health>,
    link: watch::Receiver<LinkState>,
    obstacle: Option<Obstacle>,
    /// Why evidence is not deleted for its age, as logged last.
    no_deletion: Option<ClockDoubt>,
}

impl FilingGate {
    /// # Errors
    /// The newest time of the chain cannot be read.
    pub(super) fn new(
        store: &Store,
        health: Arc<Health>,
        link: watch::Receiver<LinkState>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            clock: ClockTrust::new(store.newest_trusted_time()?),
            health,
            link,
            obstacle: None,
            no_deletion: None,
        })
    }

    /// Whether cases may be filed, as of the last check.
    pub(super) fn is_open(&self) -> bool {
        self.obstacle.is_none()
    }

    /// Whether evidence may be deleted for its age, as of the last check.
    pub(super) fn may_delete_by_age(&self) -> bool {
        self.is_open() && self.no_deletion.is_none()
    }

    /// Reads the clocks, the database's files and the state of the link.
    pub(super) fn check(&mut self, store: &Store) {
        let is_duplicate = self.link.borrow().problem == Some(LinkProblem::DuplicateNodeId);
        // What cannot be read cannot be sent either: the link only retries.
        let files = store.check_files().and_then(|()| store.outbox_depth().map(drop));
        self.judge(ClockReading::now(), files, is_duplicate);
    }

    fn judge(&mut self, reading: ClockReading, files: Result<(), StoreError>, is_duplicate: bool) {
        let ClockAssessment { step, filing, deletion } = self.clock.assess(reading);
        if let Some(by) = step {
            tracing::warn!(
                by_s = by.as_secs_f64(),
                now = %reading.wall,
                synchronised = reading.is_synchronised,
                "System clock was set"
            );
        }
        let gone = files.err().map(|error| error.to_string());
        self.health.set_blocker("database", gone.clone().map(Message::from));
        let doubt = filing.err();
        let held = doubt.map(|doubt| {
            let doubt = doubt.message();
            message!("{doubt}; cases are held until then", doubt)
        });
        self.health.set_blocker("clock", held);
        let obstacle = match (&gone, doubt) {
            (Some(_), _) => Some(Obstacle::Database),
            (None, Some(doubt)) => Some(Obstacle::Clock(doubt)),
            // The link is the blocker that readiness names.
            (None, None) => is_duplicate.then_some(Obstacle::Duplicate),
        };
        if obstacle != self.obstacle {
            match (obstacle, gone) {
                (Some(Obstacle::Clock(doubt)), _) => {
                    tracing::error!(reason = %doubt, "Clock is not believed; looks are not judged and nothing is filed until it is");
                }
                (Some(Obstacle::Database), reason) => {
                    tracing::error!(
                        reason = reason.unwrap_or_default(),
                        "Database is gone or cannot be read; looks are not judged and nothing is filed"
                    );
                }
                (Some(Obstacle::Duplicate), _) => {
                    tracing::error!("Another box uses this node id; looks are not judged and nothing is filed");
                }
                (None, _) => tracing::info!("Clock, database and node id are in order; filing goes on"),
            }
            self.obstacle = obstacle;
        }
        let no_deletion = deletion.err();
        if no_deletion != self.no_deletion {
            match no_deletion {
                Some(doubt) => tracing::warn!(reason = %doubt, "Evidence is not deleted for its age"),
                None => tracing::info!("Evidence is deleted for its age again"),
            }
            self.no_deletion = no_deletion;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use jiff::Timestamp;

    use super::*;

    /// A gate, and the seconds since 1970 and since its start.
    fn gate() -> FilingGate {
        FilingGate {
            clock: ClockTrust::new(None),
            health: Arc::new(Health::default()),
            link: watch::channel(LinkState::default()).1,
            obstacle: None,
            no_deletion: None,
        }
    }

    fn reading(start: Instant, wall: i64, elapsed: u64) -> ClockReading {
        ClockReading {
            wall: Timestamp::from_second(wall).unwrap(),
            monotonic: start + Duration::from_secs(elapsed),
            is_synchronised: true,
        }
    }

    fn gone() -> Result<(), StoreError> {
        Err(StoreError::Gone {
            path: "state/gridwatch.db".into(),
        })
    }

    #[test]
    fn a_box_that_starts_in_2000_is_not_ready_until_its_clock_is_set() {
        let (mut gate, start) = (gate(), Instant::now());
        gate.health.started();
        gate.judge(reading(start, 946_684_800, 0), Ok(()), false);
        assert!(!gate.is_open() && !gate.may_delete_by_age());
        let reasons = gate.health.reasons();
        assert!(reasons[0].contains("the clock shows a time before 2026"), "{reasons:?}");
        gate.judge(reading(start, 1_780_315_200, 1), Ok(()), false);
        assert!(gate.is_open() && !gate.may_delete_by_age(), "it was set just now");
        assert_eq!(gate.health.reasons(), [""; 0]);
    }

    #[test]
    fn a_database_that_is_gone_closes_the_gate_until_it_is_back() {
        let (mut gate, start) = (gate(), Instant::now());
        gate.health.started();
        gate.judge(reading(start, 1_780_315_200, 0), gone(), false);
        assert!(!gate.is_open());
        let reasons = gate.health.reasons();
        assert!(
            reasons[0].contains("state/gridwatch.db was deleted or replaced"),
            "{reasons:?}"
        );
        // A commit elsewhere that succeeds says nothing about the database.
        gate.health.set_blocker("storage", None);
        assert_eq!(gate.health.reasons().len(), 1);
        gate.judge(reading(start, 1_780_315_201, 1), Ok(()), false);
        assert!(gate.is_open() && gate.may_delete_by_age());
        assert_eq!(gate.health.reasons(), [""; 0]);
    }

    #[test]
    fn a_database_that_is_overwritten_while_it_is_open_closes_the_gate() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut gate = gate();
        gate.health.started();
        gate.check(&store);
        let of_database = |gate: &FilingGate| gate.health.reasons().into_iter().any(|r| r.contains("was overwritten"));
        assert!(!of_database(&gate));
        std::fs::write(dir.path().join("gridwatch.db"), [7; 8192]).unwrap();
        gate.check(&store);
        assert!(!gate.is_open() && of_database(&gate), "{:?}", gate.health.reasons());
    }

    #[test]
    fn nothing_is_filed_while_another_box_uses_the_node_id() {
        let (mut gate, start) = (gate(), Instant::now());
        gate.judge(reading(start, 1_780_315_200, 0), Ok(()), true);
        assert!(!gate.is_open());
        gate.judge(reading(start, 1_780_315_201, 1), Ok(()), false);
        assert!(gate.is_open());
    }
}
