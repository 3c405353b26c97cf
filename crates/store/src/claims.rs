//! Claims: the cases of this box that other boxes are told about, their progress, and those that are held back because another
//! box claims their site. `link::claims` decides; this module stores the state.

use jiff::Timestamp;
use rusqlite::{Transaction, params};
use serde::Serialize;

use super::{Revision, Store, StoreError, cases, outbox, row, schema};
use gridwatch_contract::Form;
use gridwatch_engine::{CaseId, CaseState, Claim, NodeId};

/// A case that this box claims towards other boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRow {
    /// The claim as it is published.
    pub claim: Claim,
    /// The progress of the claim.
    pub state: ClaimState,
    /// True if the case is open.
    pub is_open: bool,
    /// Since when the case is held back; `None` if it is not.
    pub held_since: Option<Timestamp>,
}

/// A case that was not filed when it was confirmed, because another box claims its site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldBack {
    /// The other box, by its own word.
    pub node_id: String,
    /// Its case.
    pub case_id: String,
    /// Whether it says that the platform has that case.
    pub is_filed: bool,
    /// Since when this box's case is held back.
    pub since: Timestamp,
}

/// Progress of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Waiting for other boxes to object; nothing about the case may be sent yet.
    Wanted,
    /// Granted: messages about the case may be sent, and may have been.
    Sent,
    /// The broker has acknowledged the case record; if the platform gives receipts, the platform has.
    Filed,
}

impl ClaimState {
    /// The value in the database.
    fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Sent => "sent",
            Self::Filed => "filed",
        }
    }
}

/// Adds a claim for a new case. Its messages are held back until the claim is granted.
pub(super) fn add(t: &Transaction<'_>, claim: &Claim) -> Result<(), StoreError> {
    t.execute(
        "INSERT INTO claims (case_id, claim, state) VALUES (?1, ?2, ?3)",
        params![claim.case.as_str(), row::to_json(claim), ClaimState::Wanted.as_str()],
    )?;
    Ok(())
}

/// Marks the claim of `case` as filed, if there is one.
pub(super) fn filed(t: &Transaction<'_>, case: &str) -> Result<(), StoreError> {
    t.prepare_cached("UPDATE claims SET state = ?2 WHERE case_id = ?1")?
        .execute(params![case, ClaimState::Filed.as_str()])?;
    Ok(())
}

impl Store {
    /// All claims that can be read, ordered by case id; the others are logged.
    ///
    /// # Errors
    /// A database error.
    pub fn claims(&self) -> Result<Vec<ClaimRow>, StoreError> {
        let sql = "SELECT claims.case_id AS case_id, claim, claims.state AS state, cases.state AS case_state, held_back.since AS held_since
                   FROM claims JOIN cases ON cases.id = claims.case_id
                   LEFT JOIN held_back ON held_back.case_id = claims.case_id AND held_back.until IS NULL
                   ORDER BY claims.case_id";
        row::readable(&self.db, sql, |row| {
            let case: String = row.get("case_id")?;
            let state: String = row.get("state")?;
            let case_state: CaseState = row::variant(row, &case, "case_state")?;
            Ok(ClaimRow {
                claim: row::json(row, &case, "claim")?,
                state: match state.as_str() {
                    "wanted" => ClaimState::Wanted,
                    "sent" => ClaimState::Sent,
                    _ => ClaimState::Filed,
                },
                is_open: case_state.is_open(),
                held_since: row
                    .get::<_, Option<i64>>("held_since")?
                    .and_then(|at| Timestamp::from_microsecond(at).ok()),
            })
        })
    }

    /// Grants the claim: messages about `case` may be sent, and it is no longer held back.
    ///
    /// # Errors
    /// A database error.
    pub fn grant_claim(&mut self, case: &CaseId, now: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "UPDATE claims SET state = ?2 WHERE case_id = ?1 AND state = ?3",
                params![case.as_str(), ClaimState::Sent.as_str(), ClaimState::Wanted.as_str()],
            )?;
            t.execute(
                "UPDATE held_back SET until = ?2 WHERE case_id = ?1 AND until IS NULL",
                params![case.as_str(), row::micros(now)],
            )?;
            Ok(())
        })
    }

    /// Records that `case` is held back for `other`, a case of box `node`. The time at which it was first held back is kept.
    ///
    /// # Errors
    /// A database error.
    pub fn hold_back(
        &mut self,
        case: &CaseId,
        (node, other): (&NodeId, &CaseId),
        is_filed: bool,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "INSERT INTO held_back (case_id, node_id, other_case, is_filed, since) SELECT id, ?2, ?3, ?4, ?5 FROM cases WHERE id = ?1
                 ON CONFLICT (case_id) DO UPDATE SET node_id = ?2, other_case = ?3, is_filed = ?4, until = NULL",
                params![case.as_str(), node.as_str(), other.as_str(), is_filed, row::micros(now)],
            )?;
            Ok(())
        })
    }

    /// Records that nothing is held back any more for `other`, a case of another box; for `None`, for any case.
    ///
    /// # Errors
    /// A database error.
    pub fn end_hold_backs(&mut self, other: Option<&CaseId>, now: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "UPDATE held_back SET until = ?2 WHERE until IS NULL AND (?1 IS NULL OR other_case = ?1)",
                params![other.map(CaseId::as_str), row::micros(now)],
            )?;
            Ok(())
        })
    }

    /// Records that `case` of box `node` is over, by a message that is valid until `until`. Of each box, the last `limit` are kept.
    ///
    /// # Errors
    /// A database error.
    pub fn claim_released(
        &mut self,
        (node, case): (&NodeId, &CaseId),
        until: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("DELETE FROM released_claims WHERE until < ?1", [row::micros(now)])?;
            t.execute(
                "INSERT INTO released_claims (node_id, case_id, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET until = max(until, ?3)",
                params![node.as_str(), case.as_str(), row::micros(until)],
            )?;
            t.execute(
                "DELETE FROM released_claims WHERE node_id = ?1 AND case_id NOT IN
                    (SELECT case_id FROM released_claims WHERE node_id = ?1 ORDER BY until DESC LIMIT ?2)",
                params![node.as_str(), limit],
            )?;
            Ok(())
        })
    }

    /// The cases of other boxes that are over, each with the time until which its last message is valid.
    ///
    /// # Errors
    /// A database error.
    pub fn released_claims(&self) -> Result<Vec<(NodeId, CaseId, Timestamp)>, StoreError> {
        row::all(
            &self.db,
            "SELECT node_id, case_id, until FROM released_claims",
            [],
            |row| {
                let (node, case): (String, String) = (row.get("node_id")?, row.get("case_id")?);
                let until = row::time(row, &case, "until")?;
                Ok((node.as_str().into(), case.as_str().into(), until))
            },
        )
    }

    /// The cases that are held back now, each with the case that it is held back for; the longest held first, at most `limit`.
    ///
    /// # Errors
    /// A database error.
    pub fn held_back(&self, limit: u32) -> Result<Vec<(String, HeldBack)>, StoreError> {
        // A command may read a database before the daemon has migrated it.
        if schema::version(&self.db)? < schema::WITH_HELD_BACK {
            return Ok(Vec::new());
        }
        let sql = "SELECT h.case_id, h.node_id, h.other_case, h.is_filed, h.since FROM held_back AS h JOIN cases AS c ON c.id = h.case_id
                   WHERE h.until IS NULL AND c.state NOT IN ('withdrawn', 'closed', 'rejected') ORDER BY h.since, h.case_id LIMIT ?1";
        row::all(&self.db, sql, [limit], |row| {
            let case: String = row.get("case_id")?;
            let held = HeldBack {
                node_id: row.get("node_id")?,
                case_id: row.get("other_case")?,
                is_filed: row.get("is_filed")?,
                since: row::time(row, &case, "since")?,
            };
            Ok((case, held))
        })
    }

    /// Yields the case to another box that claimed the site first: applies `revision` and drops the unsent messages of
    /// the case, so that nothing about it is published. Returns the number of the new revision.
    ///
    /// # Errors
    /// The same as [`Store::revise`].
    pub fn yield_case(&mut self, revision: &Revision, form: &Form) -> Result<u32, StoreError> {
        let key = self.key()?;
        let number = self.write(|t| {
            let number = cases::revise(t, revision, None, form, &key)?;
            outbox::clear(t, revision.case.as_str())?;
            Ok(number)
        })?;
        self.outbox_notify.notify_one();
        Ok(number)
    }

    /// Removes the claim of a closed case once the other boxes have been told.
    ///
    /// # Errors
    /// A database error.
    pub fn remove_claim(&mut self, case: &CaseId) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("DELETE FROM claims WHERE case_id = ?1", [case.as_str()])?;
            Ok(())
        })
    }
}
