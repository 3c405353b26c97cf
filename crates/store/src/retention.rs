//! What goes when it is old, or when room is needed: originals, and pictures of cases that are over.
//!
//! What waits in the outbox stays, and so do the pictures of open cases, whatever room they take. Each deletion is a line of the
//! chain. Files go before the line is written: where the power fails between, the next turn does it again.

use std::{fs, io, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{Store, StoreError, chain, evidence_file};
use gridwatch_custody::{chain::What, vault};
use gridwatch_engine::CaseState;

/// How much of one kind is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// For so long; `None`: as long as there is room.
    pub keep: Option<Duration>,
    /// Bytes, at most.
    pub bytes: u64,
}

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Of originals, from when they were taken.
    pub originals: Budget,
    /// Of pictures of cases that are over, from when the case ended. All pictures count for the room they take.
    pub pictures: Budget,
}

/// How many files went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Originals.
    pub originals: usize,
    /// Pictures.
    pub pictures: usize,
}

/// A kind of file.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Original,
    Picture,
}

/// A file that may go.
struct Old {
    case: String,
    sha256: String,
    bytes: u64,
    /// From when its time counts.
    since: Timestamp,
}

impl Store {
    /// Deletes what is too old or too much at `now`, the oldest first, and says so in the chain. Originals of cases that are over go
    /// before those that a clerk may still ask for.
    ///
    /// # Errors
    /// What the disk or the database says; what went before is gone and on record.
    pub fn prune(&mut self, keep: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        let over = CaseState::ALL.into_iter().filter(|s| !s.is_open());
        let over: Vec<String> = over.map(|s| format!("'{}'", s.as_str())).collect();
        let over = over.join(", ");
        let originals = old(
            &self.db,
            &format!(
                "SELECT o.case_id, o.sha256, o.bytes, o.captured_at FROM originals o JOIN cases c ON c.id = o.case_id
                 ORDER BY c.state IN ({over}) DESC, o.captured_at, o.case_id"
            ),
        )?;
        let pictures = old(
            &self.db,
            &format!(
                "SELECT e.case_id, e.sha256, max(e.bytes), max(c.updated_at) FROM evidence e JOIN cases c ON c.id = e.case_id
                 WHERE c.state IN ({over})
                   AND e.case_id NOT IN (SELECT case_id FROM outbox UNION SELECT case_id FROM sent)
                   AND NOT EXISTS (SELECT 1 FROM evidence other WHERE other.sha256 = e.sha256 AND other.case_id != e.case_id)
                 GROUP BY e.case_id, e.sha256 ORDER BY max(c.updated_at), e.case_id"
            ),
        )?;
        let taken = "SELECT coalesce(sum(bytes), 0) FROM (SELECT max(bytes) AS bytes FROM evidence GROUP BY sha256)";
        let taken: i64 = self.db.query_row(taken, [], |r| r.get(0))?;
        let all_originals = originals.iter().map(|o| o.bytes).sum();
        let originals = surplus(originals, all_originals, &keep.originals, now);
        let pictures = surplus(pictures, taken.unsigned_abs(), &keep.pictures, now);
        Ok(Pruned {
            originals: self.delete(Kind::Original, &originals, now)?,
            pictures: self.delete(Kind::Picture, &pictures, now)?,
        })
    }

    /// Deletes files, case by case, each for its reason.
    fn delete(&mut self, kind: Kind, files: &[(Old, &'static str)], now: Timestamp) -> Result<usize, StoreError> {
        let (table, what) = match kind {
            Kind::Original => ("originals", "original"),
            Kind::Picture => ("evidence", "picture"),
        };
        for of_case in files.chunk_by(|(a, why), (b, other)| a.case == b.case && why == other) {
            let [(Old { case, .. }, reason), ..] = of_case else {
                continue;
            };
            let sha256: Vec<String> = of_case.iter().map(|(old, _)| old.sha256.clone()).collect();
            for name in &sha256 {
                let removed = match kind {
                    Kind::Original => vault::remove(&self.dir, name),
                    Kind::Picture => match fs::remove_file(evidence_file::path(&self.dir, name)) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                        other => other,
                    },
                };
                removed.map_err(|e| StoreError::io("delete a file of", &self.dir, e))?;
            }
            self.write(|t| {
                for name in &sha256 {
                    let row = format!("DELETE FROM {table} WHERE case_id = ?1 AND sha256 = ?2");
                    t.execute(&row, params![case, name])?;
                }
                let entry = What::Deleted {
                    case_id: case.clone(),
                    what: what.into(),
                    sha256: sha256.clone(),
                    reason: (*reason).into(),
                };
                chain::append(t, entry, now)
            })?;
        }
        Ok(files.len())
    }
}

fn old(db: &Connection, query: &str) -> Result<Vec<Old>, StoreError> {
    let mut query = db.prepare_cached(query)?;
    let rows = query.query_map([], |r| {
        Ok(Old {
            case: r.get(0)?,
            sha256: r.get(1)?,
            bytes: r.get::<_, i64>(2)?.unsigned_abs(),
            // Written from a moment: within its range.
            since: Timestamp::from_microsecond(r.get(3)?).unwrap_or_default(),
        })
    })?;
    rows.map(|row| Ok(row?)).collect()
}

/// What is too old, and behind it as many of the first ones as are too much of `taken` bytes.
fn surplus(files: Vec<Old>, taken: u64, budget: &Budget, now: Timestamp) -> Vec<(Old, &'static str)> {
    let is_old = |file: &Old| {
        let age = Duration::try_from(now.duration_since(file.since)).unwrap_or_default();
        budget.keep.is_some_and(|keep| age > keep)
    };
    let (old, young): (Vec<Old>, Vec<Old>) = files.into_iter().partition(is_old);
    let mut left = taken;
    let mut gone = Vec::new();
    for file in old {
        left = left.saturating_sub(file.bytes);
        gone.push((file, "its time is over"));
    }
    for file in young {
        if left <= budget.bytes {
            break;
        }
        left = left.saturating_sub(file.bytes);
        gone.push((file, "room was needed"));
    }
    gone
}
