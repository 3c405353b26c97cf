//! Reviews: what persons say of cases after looking at their pictures. They change no case and are not sent; they are the labels that
//! `gridwatch tune` and `gridwatch ledger export --labelled` work with.
//!
//! The newest review of each person and case is kept, so that persons can disagree, which is shown and gives no label.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, row, schema};
use gridwatch_engine::CaseState;

/// What a person says of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewVerdict {
    /// A problem that should be filed.
    True,
    /// Not a problem （误报）.
    False,
    /// A problem that another case is about already （重复上报）.
    Duplicate,
    /// The pictures do not tell.
    Unsure,
}

impl ReviewVerdict {
    /// Every verdict.
    pub const ALL: [Self; 4] = [Self::True, Self::False, Self::Duplicate, Self::Unsure];

    /// The value as in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::False => "false",
            Self::Duplicate => "duplicate",
            Self::Unsure => "unsure",
        }
    }

    /// Whether the model and the rule were right; `None` if the person could not tell. They were with a duplicate: the object is there, and
    /// only what recognises one site twice was not.
    pub fn is_right(self) -> Option<bool> {
        match self {
            Self::True | Self::Duplicate => Some(true),
            Self::False => Some(false),
            Self::Unsure => None,
        }
    }
}

/// A review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Review {
    /// The case.
    pub case_id: String,
    /// Who: a user's name, `token:NAME` for a program, or empty on a console without users.
    pub reviewer: String,
    /// What they say.
    pub verdict: ReviewVerdict,
    /// For a duplicate: the other case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<String>,
    /// When, UTC.
    pub at: Timestamp,
}

/// Selects cases by their reviews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReviewFilter {
    /// Cases that this person has not reviewed.
    NotBy(String),
    /// Cases that nobody has reviewed.
    NotByAnyone,
    /// Cases of which one person says that they are right and another that they are not.
    Disputed,
}

/// Labels of cases by reviews.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReviewLabels {
    /// Whether the case is right, where all who could tell agree.
    pub right: BTreeMap<String, bool>,
    /// Cases on which they disagree.
    pub disputed: BTreeSet<String>,
}

/// How far the reviews are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReviewProgress {
    /// All cases.
    pub cases: u32,
    /// Of these, reviewed by the person who asks.
    pub by_person: u32,
    /// Of these, reviewed by anyone.
    pub by_anyone: u32,
    /// Of these, disputed.
    pub disputed: u32,
    /// Number of reviewed cases without dispute, by the platform's state and whether the reviews say that they are right.
    pub judged: BTreeMap<(CaseState, bool), u32>,
}

/// In SQL: whether a review's verdict is [`ReviewVerdict::is_right`].
const IS_RIGHT: &str = "verdict IN ('true', 'duplicate')";

/// The condition of a filter on rows of `cases`, in which `?11` is the person. `has_reviews` is false for a database of an older version,
/// which has none.
pub(super) fn condition(filter: Option<&ReviewFilter>, has_reviews: bool) -> String {
    match (filter, has_reviews) {
        (None, _) | (Some(ReviewFilter::NotBy(_) | ReviewFilter::NotByAnyone), false) => "1".into(),
        (Some(ReviewFilter::Disputed), false) => "0".into(),
        (Some(ReviewFilter::NotBy(_)), true) => {
            "NOT EXISTS (SELECT 1 FROM reviews WHERE case_id = cases.id AND reviewer = ?11)".into()
        }
        (Some(ReviewFilter::NotByAnyone), true) => "NOT EXISTS (SELECT 1 FROM reviews WHERE case_id = cases.id)".into(),
        (Some(ReviewFilter::Disputed), true) => format!(
            "(SELECT count(DISTINCT {IS_RIGHT}) FROM reviews WHERE case_id = cases.id AND verdict != 'unsure') > 1"
        ),
    }
}

/// True if the database has the table of reviews.
pub(super) fn has_reviews(db: &Connection) -> Result<bool, StoreError> {
    Ok(schema::version(db)? >= schema::WITH_REVIEWS)
}

const COLUMNS: &str = "case_id, reviewer, verdict, duplicate_of, at";

fn review(row: &Row<'_>) -> Result<Review, StoreError> {
    let case_id: String = row.get("case_id")?;
    Ok(Review {
        reviewer: row.get("reviewer")?,
        verdict: row::variant(row, &case_id, "verdict")?,
        duplicate_of: row.get("duplicate_of")?,
        at: row::time(row, &case_id, "at")?,
        case_id,
    })
}

impl Store {
    /// Stores a review in the place of an earlier one by the same person of the same case. False if there is no such case.
    ///
    /// # Errors
    /// [`StoreError::Older`] or a database error.
    pub fn set_review(&mut self, review: &Review) -> Result<bool, StoreError> {
        self.expect_reviews()?;
        if !self.has_case(&review.case_id)? {
            return Ok(false);
        }
        self.write(|t| {
            t.prepare_cached(
                "INSERT INTO reviews (case_id, reviewer, verdict, duplicate_of, at, recorded) VALUES (?1, ?2, ?3, ?4, ?5, 0)
                 ON CONFLICT (case_id, reviewer) DO UPDATE SET verdict = ?3, duplicate_of = ?4, at = ?5, recorded = 0",
            )?
            .execute(params![
                review.case_id,
                review.reviewer,
                review.verdict.as_str(),
                review.duplicate_of,
                row::micros(review.at)
            ])?;
            Ok(true)
        })
    }

    /// Takes a person's review of a case back. Returns it, and whether it is in the audit log; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Older`] or a database error.
    pub fn remove_review(&mut self, case: &str, reviewer: &str) -> Result<Option<(Review, bool)>, StoreError> {
        self.expect_reviews()?;
        self.write(|t| {
            row::first(
                t,
                &format!("DELETE FROM reviews WHERE case_id = ?1 AND reviewer = ?2 RETURNING {COLUMNS}, recorded"),
                [case, reviewer],
                |row| Ok((review(row)?, row.get("recorded")?)),
            )
        })
    }

    /// The reviews of a case, oldest first.
    ///
    /// # Errors
    /// A database error.
    pub fn reviews_of(&self, case: &str) -> Result<Vec<Review>, StoreError> {
        if !has_reviews(&self.db)? {
            return Ok(Vec::new());
        }
        let query = format!("SELECT {COLUMNS} FROM reviews WHERE case_id = ?1 ORDER BY at, reviewer");
        row::all(&self.db, &query, [case], review)
    }

    /// The newest reviews of a person, newest first.
    ///
    /// # Errors
    /// A database error.
    pub fn reviews_by(&self, reviewer: &str, limit: u32) -> Result<Vec<Review>, StoreError> {
        if !has_reviews(&self.db)? {
            return Ok(Vec::new());
        }
        let query =
            format!("SELECT {COLUMNS} FROM reviews WHERE reviewer = ?1 ORDER BY at DESC, case_id DESC LIMIT ?2");
        row::all(&self.db, &query, params![reviewer, limit], review)
    }

    /// The labels that all reviews give.
    ///
    /// # Errors
    /// A database error.
    pub fn review_labels(&self) -> Result<ReviewLabels, StoreError> {
        let mut labels = ReviewLabels::default();
        if !has_reviews(&self.db)? {
            return Ok(labels);
        }
        let query = format!(
            "SELECT case_id, min({IS_RIGHT}) AS least, max({IS_RIGHT}) AS most FROM reviews
             WHERE verdict != 'unsure' GROUP BY case_id"
        );
        let rows = row::all(&self.db, &query, [], |row| {
            Ok((
                row.get::<_, String>("case_id")?,
                row.get::<_, bool>("least")?,
                row.get::<_, bool>("most")?,
            ))
        })?;
        for (case, least, most) in rows {
            match least == most {
                true => drop(labels.right.insert(case, most)),
                false => drop(labels.disputed.insert(case)),
            }
        }
        Ok(labels)
    }

    /// How far the reviews are, over the cases of `cameras` (ids of cameras; `None`: all).
    ///
    /// # Errors
    /// A database error.
    pub fn review_progress(&self, reviewer: &str, cameras: Option<&[String]>) -> Result<ReviewProgress, StoreError> {
        let cameras = cameras.map(|cameras| row::to_json(&cameras));
        // Without a restriction, the records need not be parsed.
        let is_seen = "(?1 IS NULL OR record ->> '$.camera.local_id' IN (SELECT value FROM json_each(?1)))";
        let count = format!("SELECT count(*) FROM cases WHERE {is_seen}");
        let mut progress = ReviewProgress {
            cases: self.db.query_row(&count, [&cameras], |row| row.get(0))?,
            ..ReviewProgress::default()
        };
        if !has_reviews(&self.db)? {
            return Ok(progress);
        }
        let query = format!(
            "SELECT id, state, max(reviewer = ?2) AS own, min({IS_RIGHT}) FILTER (WHERE verdict != 'unsure') AS least,
                    max({IS_RIGHT}) FILTER (WHERE verdict != 'unsure') AS most
             FROM reviews JOIN cases ON id = case_id WHERE {is_seen} GROUP BY id"
        );
        let rows = row::all(&self.db, &query, params![cameras, reviewer], |row| {
            let id: String = row.get("id")?;
            let verdicts: (Option<bool>, Option<bool>) = (row.get("least")?, row.get("most")?);
            Ok((row.get::<_, bool>("own")?, row::variant(row, &id, "state")?, verdicts))
        })?;
        for (is_own, state, verdicts) in rows {
            progress.by_anyone += 1;
            progress.by_person += u32::from(is_own);
            match verdicts {
                (Some(least), Some(most)) if least != most => progress.disputed += 1,
                (Some(right), _) => *progress.judged.entry((state, right)).or_default() += 1,
                _ => {}
            }
        }
        Ok(progress)
    }

    /// The reviews that are not in the audit log yet, by person and time.
    ///
    /// # Errors
    /// A database error.
    pub fn unrecorded_reviews(&self) -> Result<Vec<Review>, StoreError> {
        if !has_reviews(&self.db)? {
            return Ok(Vec::new());
        }
        let query = format!("SELECT {COLUMNS} FROM reviews WHERE recorded = 0 ORDER BY reviewer, at, case_id");
        row::all(&self.db, &query, [], review)
    }

    /// Notes that these reviews are in the audit log; one that was replaced meanwhile is not.
    ///
    /// # Errors
    /// [`StoreError::Older`] or a database error.
    pub fn mark_reviews_recorded(&mut self, reviews: &[Review]) -> Result<(), StoreError> {
        self.expect_reviews()?;
        self.write(|t| {
            let mut mark =
                t.prepare_cached("UPDATE reviews SET recorded = 1 WHERE case_id = ?1 AND reviewer = ?2 AND at = ?3")?;
            for review in reviews {
                mark.execute(params![review.case_id, review.reviewer, row::micros(review.at)])?;
            }
            Ok(())
        })
    }

    /// A database that a daemon of an older version has open is not migrated under it.
    fn expect_reviews(&self) -> Result<(), StoreError> {
        let found = schema::version(&self.db)?;
        match found >= schema::WITH_REVIEWS {
            true => Ok(()),
            false => Err(StoreError::Older {
                found,
                known: schema::VERSION,
            }),
        }
    }
}
