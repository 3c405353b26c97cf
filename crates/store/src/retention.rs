//! Retention: deletes originals, and pictures of closed cases, that are too old or exceed the storage limit.
//!
//! Files of cases with unsent messages and pictures of open cases are never deleted, whatever space they take. Originals of
//! open cases are not deleted for their age, only for space, after those of closed cases: a clerk may still ask for them. Each
//! deletion is recorded in the chain of custody. Files are deleted before the line is committed; after a power cut in
//! between, the next run deletes them again.

use std::{fs, io, time::Duration};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::{Store, StoreError, chain, evidence_file, row};
use gridwatch_custody::{chain::CustodyEvent, vault};
use gridwatch_engine::CaseState;

/// Limits for one kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Maximum age; `None` for no limit.
    pub keep: Option<Duration>,
    /// Maximum total size in bytes.
    pub bytes: u64,
}

/// Limits for all files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// For originals; their age counts from the capture, and those of open cases have no limit on it.
    pub originals: Budget,
    /// For pictures; the age counts from the end of the case. The size includes pictures of open cases.
    pub pictures: Budget,
}

/// Number of files deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Originals.
    pub originals: usize,
    /// Pictures.
    pub pictures: usize,
}

#[derive(Debug, Clone, Copy)]
enum FileKind {
    Original,
    Picture,
}

/// A file that may be deleted.
struct Deletable {
    case: String,
    sha256: String,
    bytes: u64,
    /// The time from which the age counts.
    since: Timestamp,
    /// The file belongs to an open case.
    is_open: bool,
}

impl Store {
    /// Deletes files that are too old at `now` or exceed the storage limit, oldest first, and records it in the chain.
    /// Originals of closed cases go before those of open cases, which a clerk may still ask for.
    ///
    /// # Errors
    /// [`StoreError::Io`] or a database error. Files deleted up to then are gone and recorded.
    pub fn prune(&mut self, keep: &Retention, now: Timestamp) -> Result<Pruned, StoreError> {
        let over = CaseState::ALL.into_iter().filter(|s| !s.is_open());
        let over: Vec<String> = over.map(|s| format!("'{}'", s.as_str())).collect();
        let over = over.join(", ");
        let originals = deletable(
            &self.db,
            &format!(
                "SELECT o.case_id AS case_id, o.sha256 AS sha256, o.bytes AS bytes, o.captured_at AS since,
                        EXISTS (SELECT 1 FROM originals other JOIN cases d ON d.id = other.case_id
                                WHERE other.sha256 = o.sha256 AND d.state NOT IN ({over})) AS is_open
                 FROM originals o JOIN cases c ON c.id = o.case_id
                 ORDER BY is_open, o.captured_at, o.case_id"
            ),
        )?;
        let pictures = deletable(
            &self.db,
            &format!(
                "SELECT e.case_id AS case_id, e.sha256 AS sha256, max(e.bytes) AS bytes, max(c.updated_at) AS since, 0 AS is_open
                 FROM evidence e JOIN cases c ON c.id = e.case_id
                 WHERE c.state IN ({over})
                   AND e.case_id NOT IN (SELECT case_id FROM outbox UNION SELECT case_id FROM sent)
                   AND NOT EXISTS (SELECT 1 FROM evidence other WHERE other.sha256 = e.sha256 AND other.case_id != e.case_id)
                 GROUP BY e.case_id, e.sha256 ORDER BY max(c.updated_at), e.case_id"
            ),
        )?;
        let taken = "SELECT coalesce(sum(bytes), 0) FROM (SELECT max(bytes) AS bytes FROM evidence GROUP BY sha256)";
        let taken: i64 = self.db.query_row(taken, [], |r| r.get(0))?;
        let all_originals = originals.iter().map(|o| o.bytes).sum();
        let originals = to_delete(originals, all_originals, &keep.originals, now);
        let pictures = to_delete(pictures, taken.unsigned_abs(), &keep.pictures, now);
        Ok(Pruned {
            originals: self.delete(FileKind::Original, &originals, now)?,
            pictures: self.delete(FileKind::Picture, &pictures, now)?,
        })
    }

    /// Deletes files; one line of the chain per case and reason.
    fn delete(
        &mut self,
        kind: FileKind,
        files: &[(Deletable, &'static str)],
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let (table, what) = match kind {
            FileKind::Original => ("originals", "original"),
            FileKind::Picture => ("evidence", "picture"),
        };
        for of_case in files.chunk_by(|(a, why), (b, other)| a.case == b.case && why == other) {
            let [(Deletable { case, .. }, reason), ..] = of_case else {
                continue;
            };
            let sha256: Vec<String> = of_case.iter().map(|(old, _)| old.sha256.clone()).collect();
            for name in &sha256 {
                let removed = match kind {
                    FileKind::Original => vault::remove(&self.dir, name),
                    FileKind::Picture => match fs::remove_file(evidence_file::path(&self.dir, name)) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                        other => other,
                    },
                };
                removed.map_err(|e| StoreError::io("delete an evidence file in", &self.dir, e))?;
            }
            self.write(|t| {
                for name in &sha256 {
                    let row = format!("DELETE FROM {table} WHERE case_id = ?1 AND sha256 = ?2");
                    t.execute(&row, params![case, name])?;
                }
                let entry = CustodyEvent::Deleted {
                    case_id: case.clone(),
                    what: what.into(),
                    sha256: sha256.clone(),
                    reason: (*reason).into(),
                };
                chain::append(t, entry, now).map(drop)
            })?;
        }
        Ok(files.len())
    }
}

fn deletable(db: &Connection, query: &str) -> Result<Vec<Deletable>, StoreError> {
    row::readable(db, query, |row| {
        let case: String = row.get("case_id")?;
        Ok(Deletable {
            since: row::time(row, &case, "since")?,
            case,
            sha256: row.get("sha256")?,
            bytes: row.get::<_, i64>("bytes")?.unsigned_abs(),
            is_open: row.get("is_open")?,
        })
    })
}

/// The files that are too old, then as many of the oldest others as needed to bring `taken` bytes below the limit.
fn to_delete(files: Vec<Deletable>, taken: u64, budget: &Budget, now: Timestamp) -> Vec<(Deletable, &'static str)> {
    let is_old = |file: &Deletable| {
        let age = Duration::try_from(now.duration_since(file.since)).unwrap_or_default();
        budget.keep.is_some_and(|keep| age > keep) && !file.is_open
    };
    let (old, young): (Vec<Deletable>, Vec<Deletable>) = files.into_iter().partition(is_old);
    let mut remaining = taken;
    let mut deleted = Vec::new();
    for file in old {
        remaining = remaining.saturating_sub(file.bytes);
        deleted.push((file, "retention period expired"));
    }
    for file in young {
        if remaining <= budget.bytes {
            break;
        }
        remaining = remaining.saturating_sub(file.bytes);
        deleted.push((file, "storage limit exceeded"));
    }
    deleted
}
