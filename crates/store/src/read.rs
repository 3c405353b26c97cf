//! Read access for operators and other programs: lists of cases, and everything about one case.

use std::{collections::BTreeMap, path::PathBuf};

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};
use serde::Serialize;

use super::{Store, StoreError, cases::parse, evidence_file};
use gridwatch_contract::CaseRecord;
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

/// A row of the case list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseSummary {
    /// The case id.
    pub case_id: String,
    /// Category code.
    pub category_code: String,
    /// Category name, in the box's language.
    pub category_name: String,
    /// Grid cell code.
    pub cell_code: String,
    /// Current state.
    pub state: CaseState,
    /// Newest revision.
    pub revision: u32,
    /// Time of confirmation, RFC 3339 with the city's UTC offset.
    pub confirmed_at: String,
    /// Number of its messages in the outbox.
    pub queued: u32,
    /// Why its messages are quarantined; `None` if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
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
    /// Number of its messages in the outbox.
    pub queued: u32,
    /// Why its messages are quarantined; `None` if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
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
        let mut query = self
            .db
            .prepare_cached("SELECT id FROM cases WHERE substr(id, 1, length(?1)) = ?1 ORDER BY id LIMIT 100")?;
        let rows = query.query_map([start], |r| r.get(0))?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// The newest record of a case as stored: signed JSON, byte for byte. `None` if there is no such case.
    ///
    /// # Errors
    /// A database error.
    pub fn sealed_record(&self, id: &str) -> Result<Option<String>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT record FROM cases WHERE id = ?1")?;
        Ok(query.query_row([id], |r| r.get(0)).optional()?)
    }

    /// The cases that match `filter`, newest first.
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

    /// Everything about one case; `None` if there is no such case.
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
