//! Read access for operators and other programs: lists of cases, and everything about one case.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use rusqlite::{Row, params};
use serde::Serialize;

use super::{HeldBack, ReviewFilter, Store, StoreError, evidence_file, reviews, row, schema};
use gridwatch_contract::{CaseRecord, When};
use gridwatch_engine::CaseState;

/// Selects the cases to list.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// Only cases in this state.
    pub state: Option<CaseState>,
    /// At most this many, the newest first.
    pub limit: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            state: None,
            limit: 100,
        }
    }
}

/// Selects cases for a page of a list. Criteria that are `None` match every case.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CaseQuery {
    /// Only cases in this state.
    pub state: Option<CaseState>,
    /// Only open cases, or only those that are not ([`CaseState::is_open`]).
    pub is_open: Option<bool>,
    /// Only cases of these cameras (ids of cameras, not of their presets).
    pub cameras: Option<Vec<String>>,
    /// Only cases of this category code.
    pub category: Option<String>,
    /// Only cases in this grid cell.
    pub cell: Option<String>,
    /// Only cases confirmed at or after this time.
    pub from: Option<Timestamp>,
    /// Only cases confirmed before this time.
    pub until: Option<Timestamp>,
    /// Only cases whose id contains this text, in capital letters or not.
    pub id_part: Option<String>,
    /// Only cases with such reviews.
    pub review: Option<ReviewFilter>,
    /// Only cases after the one with this id in the list: the last case of the previous page.
    pub after: Option<String>,
    /// At most this many, the newest first.
    pub limit: u32,
}

/// Cases in a grid cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CellCount {
    /// Code of the cell.
    pub cell: String,
    /// Number of cases.
    pub cases: u32,
    /// Of these, open.
    pub open: u32,
}

fn open_states() -> impl Iterator<Item = &'static str> {
    CaseState::ALL
        .into_iter()
        .filter(|state| state.is_open())
        .map(CaseState::as_str)
}

/// A row of the case list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseSummary {
    /// The case id.
    pub case_id: String,
    /// Category code.
    pub category_code: String,
    /// Category name, in the box's language.
    pub category_name: String,
    /// No model recognised the object.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unidentified: bool,
    /// Grid cell code.
    pub cell_code: String,
    /// Current state.
    pub state: CaseState,
    /// Newest revision.
    pub revision: u32,
    /// Time of confirmation, with the city's UTC offset.
    pub confirmed_at: When,
    /// Number of its messages in the outbox.
    pub queued: u32,
    /// Why its messages are quarantined; `None` if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
    /// The other box's case for which it is held back, so that nothing about it was sent; `None` if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_for: Option<HeldBack>,
}

/// Everything about one case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseFile {
    /// The newest revision.
    pub record: CaseRecord,
    /// State changes and replies, oldest first.
    pub history: Vec<HistoryRow>,
    /// Paths of the pictures by evidence id.
    pub evidence: BTreeMap<String, PathBuf>,
    /// The platform's receipt for its newest revision that has one; `None` if it gave none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received: Option<Received>,
    /// Number of its messages in the outbox.
    pub queued: u32,
    /// Why its messages are quarantined; `None` if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
    /// The other box's case for which it is held back, so that nothing about it was sent; `None` if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back_for: Option<HeldBack>,
}

/// What the platform has of a case, by its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Received {
    /// The newest revision that it has, with all its pictures.
    pub revision: u32,
    /// When the receipt came, UTC.
    pub at: Timestamp,
}

/// One entry in the history of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryRow {
    /// Revision of the case after this entry.
    pub revision: u32,
    /// Who made the entry: `box` or `platform`.
    pub author: String,
    /// The state that was set or reported.
    pub state: CaseState,
    /// Time of the entry, UTC.
    pub at: Timestamp,
    /// The reason, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many equal entries in a row this one stands for.
    pub times: u32,
    /// Time of the last of several equal entries, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<Timestamp>,
    /// How many entries before this one were left out, because the history was too long.
    pub omitted: u32,
}

impl Store {
    /// True if the store has that case.
    pub fn has_case(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT 1 FROM cases WHERE id = ?1")?
            .exists([id])?)
    }

    /// Case ids that begin with `start`, at most 100.
    pub fn case_ids(&self, start: &str) -> Result<Vec<String>, StoreError> {
        row::texts(
            &self.db,
            "SELECT id FROM cases WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 100",
            [start],
        )
    }

    /// The newest record of a case as stored: signed JSON, byte for byte. `None` if there is no such case.
    ///
    /// # Errors
    /// A database error.
    pub fn sealed_record(&self, id: &str) -> Result<Option<String>, StoreError> {
        row::first(&self.db, "SELECT record FROM cases WHERE id = ?1", [id], |row| {
            Ok(row.get("record")?)
        })
    }

    /// The cases that match `filter`, newest first.
    pub fn cases(&self, filter: Filter) -> Result<Vec<CaseSummary>, StoreError> {
        let mut held_back: BTreeMap<String, HeldBack> = self.held_back(u32::MAX)?.into_iter().collect();
        row::all(
            &self.db,
            "SELECT id, record, (SELECT count(*) FROM outbox WHERE case_id = id) AS queued,
                    (SELECT quarantined FROM outbox WHERE case_id = id AND quarantined IS NOT NULL LIMIT 1) AS quarantined
             FROM cases WHERE ?1 IS NULL OR state = ?1 ORDER BY confirmed_at DESC, id LIMIT ?2",
            params![filter.state.map(CaseState::as_str), filter.limit],
            |row| {
                let id: String = row.get("id")?;
                let record: CaseRecord = row::json(row, &id, "record")?;
                Ok(CaseSummary {
                    held_back_for: held_back.remove(&id),
                    case_id: record.case_id,
                    category_code: record.category_code,
                    category_name: record.category_name,
                    unidentified: record.unidentified,
                    cell_code: record.cell_code,
                    state: record.state,
                    revision: record.revision,
                    confirmed_at: record.confirmed_at,
                    queued: row.get("queued")?,
                    quarantined: row.get("quarantined")?,
                })
            },
        )
    }

    /// The newest records of the cases that match `query`, by time of confirmation, newest first.
    ///
    /// # Errors
    /// A database error.
    pub fn find_cases(&self, query: &CaseQuery) -> Result<Vec<CaseRecord>, StoreError> {
        self.matching(
            query,
            "SELECT id, record FROM cases",
            "ORDER BY confirmed_at DESC, id LIMIT ?12",
            |row| {
                let id: String = row.get("id")?;
                row::json(row, &id, "record")
            },
        )
    }

    /// How many cases match `query` in each cell, most first; at most `query.limit` cells.
    ///
    /// # Errors
    /// A database error.
    pub fn count_by_cell(&self, query: &CaseQuery) -> Result<Vec<CellCount>, StoreError> {
        let open = open_states().map(|state| format!("'{state}'"));
        let select = format!(
            "SELECT cell, count(*) AS cases, sum(state IN ({})) AS open FROM cases",
            open.collect::<Vec<_>>().join(", ")
        );
        self.matching(
            query,
            &select,
            "GROUP BY cell ORDER BY cases DESC, cell LIMIT ?12",
            |row| {
                Ok(CellCount {
                    cell: row.get("cell")?,
                    cases: row.get("cases")?,
                    open: row.get("open")?,
                })
            },
        )
    }

    /// `select` with the conditions of `query`, whose limit is `?12` in `rest`.
    fn matching<T>(
        &self,
        query: &CaseQuery,
        select: &str,
        rest: &str,
        map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let open: Vec<&str> = open_states().collect();
        let reviewer = match &query.review {
            Some(ReviewFilter::NotBy(reviewer)) => Some(reviewer),
            _ => None,
        };
        let reviews = reviews::condition(query.review.as_ref(), reviews::has_reviews(&self.db)?);
        row::all(
            &self.db,
            &format!(
                "{select}
                 WHERE (?1 IS NULL OR state = ?1)
                   AND (?2 IS NULL OR (state IN (SELECT value FROM json_each(?3))) = ?2)
                   AND (?4 IS NULL OR record ->> '$.camera.local_id' IN (SELECT value FROM json_each(?4)))
                   AND (?5 IS NULL OR category = ?5)
                   AND (?6 IS NULL OR cell = ?6)
                   AND (?7 IS NULL OR confirmed_at >= ?7)
                   AND (?8 IS NULL OR confirmed_at < ?8)
                   AND (?9 IS NULL OR (-confirmed_at, id) > (SELECT -confirmed_at, id FROM cases WHERE id = ?9))
                   AND (?10 IS NULL OR instr(id, ?10) > 0)
                   AND {reviews}
                 {rest}"
            ),
            params![
                query.state.map(CaseState::as_str),
                query.is_open,
                row::to_json(&open),
                query.cameras.as_ref().map(row::to_json),
                query.category,
                query.cell,
                query.from.map(row::micros),
                query.until.map(row::micros),
                query.after,
                query.id_part.as_ref().map(|part| part.to_ascii_uppercase()),
                reviewer,
                query.limit,
            ],
            map,
        )
    }

    /// Everything about one case; `None` if there is no such case.
    pub fn case(&self, id: &str) -> Result<Option<CaseFile>, StoreError> {
        let found = row::first(&self.db, "SELECT record FROM cases WHERE id = ?1", [id], |row| {
            row::json(row, id, "record")
        })?;
        let Some(record): Option<CaseRecord> = found else {
            return Ok(None);
        };
        let history = row::all(
            &self.db,
            "SELECT revision, author, state, at, reason, times, last_at, omitted FROM case_history WHERE case_id = ?1 ORDER BY id",
            [id],
            |row| {
                Ok(HistoryRow {
                    revision: row.get("revision")?,
                    author: row.get("author")?,
                    state: row::variant(row, id, "state")?,
                    at: row::time(row, id, "at")?,
                    reason: row.get("reason")?,
                    times: row.get("times")?,
                    last_at: row::optional_time(row, id, "last_at")?,
                    omitted: row.get("omitted")?,
                })
            },
        )?;
        let (queued, quarantined) = self.db.query_row(
            "SELECT count(*), max(quarantined) FROM outbox WHERE case_id = ?1",
            [id],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )?;
        let received = match schema::version(&self.db)? >= schema::WITH_RECEIPTS {
            true => row::first(
                &self.db,
                "SELECT received_revision, received_at FROM cases WHERE id = ?1 AND received_revision IS NOT NULL",
                [id],
                |row| {
                    Ok(Received {
                        revision: row.get("received_revision")?,
                        at: row::time(row, id, "received_at")?,
                    })
                },
            )?,
            // The daemon has not migrated it yet.
            false => None,
        };
        let evidence = record
            .evidence
            .iter()
            .map(|item| (item.id.clone(), evidence_file::path(&self.dir, &item.sha256)))
            .collect();
        let held_back = self.held_back(u32::MAX)?.into_iter().find(|(case, _)| case == id);
        Ok(Some(CaseFile {
            record,
            held_back_for: held_back.map(|(_, held)| held),
            history,
            evidence,
            received,
            queued,
            quarantined,
        }))
    }
}
