//! Claims: the cases of this box that other boxes are told about, and their progress. `link::claims` decides; this
//! module stores the state.

use rusqlite::{Transaction, params};

use super::{Revision, Store, StoreError, cases, outbox, row};
use gridwatch_contract::Form;
use gridwatch_engine::{CaseId, CaseState, Claim};

/// A case that this box claims towards other boxes.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRow {
    /// The claim as it is published.
    pub claim: Claim,
    /// The progress of the claim.
    pub state: ClaimState,
    /// True if the case is open.
    pub is_open: bool,
}

/// Progress of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Waiting for other boxes to object; nothing about the case may be sent yet.
    Wanted,
    /// Granted: messages about the case may be sent, and may have been.
    Sent,
    /// The broker has acknowledged the case record.
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
        let sql = "SELECT claims.case_id AS case_id, claim, claims.state AS state, cases.state AS case_state
                   FROM claims JOIN cases ON cases.id = claims.case_id ORDER BY claims.case_id";
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
            })
        })
    }

    /// Grants the claim: no other box claimed the site first, so messages about `case` may be sent.
    ///
    /// # Errors
    /// A database error.
    pub fn grant_claim(&mut self, case: &CaseId) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "UPDATE claims SET state = ?2 WHERE case_id = ?1 AND state = ?3",
                params![case.as_str(), ClaimState::Sent.as_str(), ClaimState::Wanted.as_str()],
            )?;
            Ok(())
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
