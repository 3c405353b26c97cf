//! Cases as operators and other programs read them: lists, and everything about one.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::{Store, StoreError, cases::parse, evidence_file};
use gridwatch_contract::CaseRecord;
use gridwatch_engine::CaseState;

/// Which cases to list.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// In this state only.
    pub state: Option<CaseState>,
    /// The newest this many.
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

/// A line of the list of cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseSummary {
    /// Which.
    pub case_id: String,
    /// Category code.
    pub category_code: String,
    /// Category name, in the box's language.
    pub category_name: String,
    /// Grid cell code.
    pub cell_code: String,
    /// Where it stands.
    pub state: CaseState,
    /// Its newest revision.
    pub revision: u32,
    /// When it was confirmed, with the city's offset.
    pub confirmed_at: String,
    /// Messages about it that the broker has not acknowledged.
    pub queued: u32,
    /// Why they wait for an operator, where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// Everything about one case.
#[derive(Debug, Clone, Serialize)]
pub struct CaseFile {
    /// Its newest revision.
    pub record: CaseRecord,
    /// All that was said about it, oldest first.
    pub history: Vec<HistoryRow>,
    /// Its pictures by evidence id.
    pub evidence: BTreeMap<String, PathBuf>,
    /// Messages about it that the broker has not acknowledged.
    pub queued: u32,
    /// Why they wait for an operator, where they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// One thing said about a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryRow {
    /// The case's revision after it.
    pub revision: u32,
    /// `box` or `platform`.
    pub author: String,
    /// The state that was said.
    pub state: CaseState,
    /// When.
    pub at: Timestamp,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Store {
    /// True where the store has that case.
    pub fn has_case(&self, id: &str) -> Result<bool, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT 1 FROM cases WHERE id = ?1")?
            .exists([id])?)
    }

    /// The ids that begin with `start`, at most 100.
    pub fn case_ids(&self, start: &str) -> Result<Vec<String>, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT id FROM cases WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 100")?;
        let rows = query.query_map([start], |r| r.get(0))?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// The newest record of a case as it is kept: sealed, byte for byte. `None` where there is no such case.
    ///
    /// # Errors
    /// What the database says.
    pub fn sealed(&self, id: &str) -> Result<Option<String>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT record FROM cases WHERE id = ?1")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?)
    }

    /// The newest cases that pass `filter`, newest first.
    pub fn cases(&self, filter: Filter) -> Result<Vec<CaseSummary>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT id, record, (SELECT count(*) FROM outbox WHERE case_id = id),
                    (SELECT quarantined FROM outbox WHERE case_id = id AND quarantined IS NOT NULL LIMIT 1)
             FROM cases WHERE ?1 IS NULL OR state = ?1 ORDER BY confirmed_at DESC, id LIMIT ?2",
        )?;
        let rows = query.query_map(params![filter.state.map(CaseState::as_str), filter.limit], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get(2)?, r.get(3)?))
        })?;
        rows.map(|row| {
            let (id, record, queued, quarantined) = row?;
            let record: CaseRecord = parse(&id, "record", &record)?;
            Ok(CaseSummary {
                case_id: record.case_id,
                category_code: record.category_code,
                category_name: record.category_name,
                cell_code: record.cell_code,
                state: record.state,
                revision: record.revision,
                confirmed_at: record.confirmed_at.to_string(),
                queued,
                quarantined,
            })
        })
        .collect()
    }

    /// Everything about one case; `None` where there is no such case.
    pub fn case(&self, id: &str) -> Result<Option<CaseFile>, StoreError> {
        let found = self.db.query_row("SELECT record FROM cases WHERE id = ?1", [id], |r| {
            r.get::<_, String>(0)
        });
        let Some(record) = found.optional()? else {
            return Ok(None);
        };
        let record: CaseRecord = parse(id, "record", &record)?;
        let mut query = self.db.prepare_cached(
            "SELECT revision, author, state, at, reason FROM case_history WHERE case_id = ?1 ORDER BY id",
        )?;
        let history = query
            .query_map([id], |r| {
                let at: i64 = r.get(3)?;
                Ok((r.get(0)?, r.get(1)?, r.get::<_, String>(2)?, at, r.get(4)?))
            })?
            .map(|row| {
                let (revision, author, state, at, reason) = row?;
                Ok(HistoryRow {
                    revision,
                    author,
                    state: parse(id, "state", &format!("\"{state}\""))?,
                    at: Timestamp::from_microsecond(at).map_err(|e| StoreError::BadRow {
                        case: id.into(),
                        field: "at",
                        reason: e.to_string(),
                    })?,
                    reason,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        let (queued, quarantined) = self.db.query_row(
            "SELECT count(*), max(quarantined) FROM outbox WHERE case_id = ?1",
            [id],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )?;
        let evidence = record
            .evidence
            .iter()
            .map(|item| (item.id.clone(), evidence_file::path(&self.dir, &item.sha256)))
            .collect();
        Ok(Some(CaseFile {
            record,
            history,
            evidence,
            queued,
            quarantined,
        }))
    }
}
