//! Which of this box's cases other boxes are told of, and how far that is: `link::claims` decides, this keeps.

use rusqlite::{Transaction, params};

use super::{Revision, Store, StoreError, cases, outbox};
use gridwatch_contract::Form;
use gridwatch_engine::{CaseId, CaseState, Claim};

/// A case that other boxes are told of.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimRow {
    /// What they are told.
    pub claim: Claim,
    /// How far it is.
    pub state: ClaimState,
    /// The case is open.
    pub is_open: bool,
}

/// How far a case is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// Nothing of it may be sent yet: another box may be first.
    Wanted,
    /// It may be sent, and may have been.
    Sent,
    /// The broker has acknowledged it.
    Filed,
}

impl ClaimState {
    /// As it is kept.
    fn as_str(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Sent => "sent",
            Self::Filed => "filed",
        }
    }
}

/// Other boxes are to be told of a new case before anything of it is sent.
pub(super) fn add(t: &Transaction<'_>, claim: &Claim) -> Result<(), StoreError> {
    t.execute(
        "INSERT INTO claims (case_id, claim, state) VALUES (?1, ?2, ?3)",
        params![claim.case.as_str(), cases::json(claim), ClaimState::Wanted.as_str()],
    )?;
    Ok(())
}

/// The broker has acknowledged the case.
pub(super) fn filed(t: &Transaction<'_>, case: &str) -> Result<(), StoreError> {
    t.prepare_cached("UPDATE claims SET state = ?2 WHERE case_id = ?1")?
        .execute(params![case, ClaimState::Filed.as_str()])?;
    Ok(())
}

impl Store {
    /// The cases that other boxes are told of, by id.
    ///
    /// # Errors
    /// [`StoreError::BadRow`] or what the database says.
    pub fn claims(&self) -> Result<Vec<ClaimRow>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT claims.case_id, claim, claims.state, cases.state FROM claims JOIN cases ON cases.id = claims.case_id
             ORDER BY claims.case_id",
        )?;
        let rows = query.query_map([], |r| {
            let text = |column| r.get::<_, String>(column);
            Ok((text(0)?, text(1)?, text(2)?, text(3)?))
        })?;
        rows.map(|row| {
            let (case, claim, state, case_state) = row?;
            Ok(ClaimRow {
                claim: cases::parse(&case, "claim", &claim)?,
                state: match state.as_str() {
                    "wanted" => ClaimState::Wanted,
                    "sent" => ClaimState::Sent,
                    _ => ClaimState::Filed,
                },
                is_open: CaseState::ALL
                    .into_iter()
                    .any(|s| s.is_open() && s.as_str() == case_state),
            })
        })
        .collect()
    }

    /// No other box was first: what there is about `case` may be sent.
    ///
    /// # Errors
    /// What the database says.
    pub fn claim_granted(&mut self, case: &CaseId) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "UPDATE claims SET state = ?2 WHERE case_id = ?1 AND state = ?3",
                params![case.as_str(), ClaimState::Sent.as_str(), ClaimState::Wanted.as_str()],
            )?;
            Ok(())
        })
    }

    /// Another box was first: the case, of which nothing was sent, is none of this box's any more. Gives its new revision, which
    /// nobody is told.
    ///
    /// # Errors
    /// As [`Store::revise`].
    pub fn yielded(&mut self, revision: &Revision, form: &Form) -> Result<u32, StoreError> {
        let key = self.key()?;
        let number = self.write(|t| {
            let number = cases::revise(t, revision, None, form, &key)?;
            outbox::clear(t, revision.case.as_str())?;
            Ok(number)
        })?;
        self.news.notify_one();
        Ok(number)
    }

    /// Everybody has heard that `case` is over.
    ///
    /// # Errors
    /// What the database says.
    pub fn claim_over(&mut self, case: &CaseId) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("DELETE FROM claims WHERE case_id = ?1", [case.as_str()])?;
            Ok(())
        })
    }
}
