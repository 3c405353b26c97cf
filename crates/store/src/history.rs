//! The history of a case: its state changes and the replies about it, those without effect included.
//!
//! Replies come from outside, so the history has a limit: equal entries in a row are counted in one row, and of a long
//! history the first rows and the newest stay, with the count of those in between.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::{StoreError, row};
use gridwatch_engine::CaseState;

/// Rows per case; far more than a case without faults on the other side has.
const MAX_ROWS: u32 = 200;

/// First rows that always stay: how the case began, and whether it yielded to another box's.
const FIRST_ROWS: u32 = 20;

/// Author of a history entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Author {
    Box,
    Platform,
}

impl Author {
    /// The value in the database.
    fn as_str(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Platform => "platform",
        }
    }
}

/// A history entry to be written.
pub(super) struct NewHistoryEntry<'a> {
    pub(super) case: &'a str,
    /// Revision of the case after the entry.
    pub(super) revision: u32,
    pub(super) author: Author,
    pub(super) state: CaseState,
    pub(super) at: Timestamp,
    pub(super) reason: Option<&'a str>,
}

/// Adds an entry, or counts it in the newest row if it is equal.
pub(super) fn add(t: &Transaction<'_>, entry: &NewHistoryEntry<'_>) -> Result<(), StoreError> {
    let (author, state, at) = (entry.author.as_str(), entry.state.as_str(), row::micros(entry.at));
    let counted = t
        .prepare_cached(
            "UPDATE case_history SET times = times + 1, last_at = ?5, revision = ?2
             WHERE id = (SELECT max(id) FROM case_history WHERE case_id = ?1)
               AND author = ?3 AND state = ?4 AND reason IS ?6",
        )?
        .execute(params![entry.case, entry.revision, author, state, at, entry.reason])?;
    if counted > 0 {
        return Ok(());
    }
    t.prepare_cached(
        "INSERT INTO case_history (case_id, revision, author, state, at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![entry.case, entry.revision, author, state, at, entry.reason])?;
    shorten(t, entry.case)
}

/// Deletes the oldest rows after the first ones until the history is within its limit.
fn shorten(t: &Transaction<'_>, case: &str) -> Result<(), StoreError> {
    let rows: u32 = t
        .prepare_cached("SELECT count(*) FROM case_history WHERE case_id = ?1")?
        .query_row([case], |row| row.get(0))?;
    let Some(excess) = rows.checked_sub(MAX_ROWS).filter(|n| *n > 0) else {
        return Ok(());
    };
    let middle = "SELECT id FROM case_history WHERE case_id = ?1 ORDER BY id LIMIT ?2 OFFSET ?3";
    t.execute(
        &format!(
            "UPDATE case_history SET omitted = omitted + (SELECT sum(times + omitted) FROM case_history WHERE id IN ({middle}))
             WHERE id = (SELECT id FROM case_history WHERE case_id = ?1 ORDER BY id LIMIT 1 OFFSET ?2 + ?3)"
        ),
        params![case, excess, FIRST_ROWS],
    )?;
    t.execute(
        &format!("DELETE FROM case_history WHERE id IN ({middle})"),
        params![case, excess, FIRST_ROWS],
    )?;
    Ok(())
}
