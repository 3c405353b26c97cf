//! Cases, their revisions, and what happened to them on this side.

use gridwatch_contract::{CaseRecord, ReplyMessage, When};
use gridwatch_engine::CaseState;
use jiff::{Timestamp, tz::TimeZone};
use sqlx::{Row, any::AnyRow};

use super::{Database, Tx, millis, pictures, replies, time};
use crate::{
    HubError,
    workflow::{self, Act},
};

/// Author of what the hub decides by itself.
pub const HUB: &str = "hub";

/// A revision of a case, as received.
#[derive(Debug, Clone, Copy)]
pub struct NewRevision<'a> {
    /// The record.
    pub record: &'a CaseRecord,
    /// Its bytes as received, which the signature covers.
    pub text: &'a str,
}

/// What became of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseChange {
    /// The case is committed, up to this revision.
    Committed {
        /// The highest revision of the case here.
        revision: u32,
        /// False if it was here before.
        is_new: bool,
        /// SHA-256 of the pictures to which that revision refers and which are not here.
        missing: Vec<String>,
    },
    /// Why it was not taken, as a sentence.
    Refused(String),
}

/// A case.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct CaseRow {
    /// Its id.
    pub case_id: String,
    /// The box.
    pub node: String,
    /// The highest revision here.
    pub revision: u32,
    /// Where the platform is with it.
    pub state: CaseState,
    /// The task number, from its acceptance on.
    pub task_no: Option<String>,
    /// Category code.
    pub category_code: String,
    /// Unit grid cell.
    pub cell_code: String,
    /// The camera, on the box.
    pub camera: String,
    /// Longitude in degrees, in the record's coordinate reference system.
    pub lon: f64,
    /// Latitude in degrees.
    pub lat: f64,
    /// Detection score, 0 to 1.
    pub confidence: f64,
    /// When the box filed it.
    pub filed_at: Timestamp,
    /// When it came.
    pub received_at: Timestamp,
    /// When it last changed here.
    pub changed_at: Timestamp,
    /// When its state last changed here.
    pub decided_at: Timestamp,
    /// Result of the newest verification: `cleared`, `still_present` or `unverifiable`.
    pub finding: Option<String>,
    /// When the box had that result, by its clock.
    pub finding_at: Option<Timestamp>,
    /// The unit that deals with it.
    pub unit: Option<String>,
    /// Until when.
    pub due_at: Option<Timestamp>,
}

/// Something that happened to a case here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CaseEvent {
    /// Its number within the case, from 1.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// A person, the box, or `hub`.
    pub who: String,
    /// The state since then.
    pub state: CaseState,
    /// Why.
    pub reason: Option<String>,
}

/// Which cases are listed.
#[derive(Debug, Clone, Default)]
pub struct CaseFilter {
    /// In this state.
    pub state: Option<CaseState>,
    /// Of this box.
    pub node: Option<String>,
    /// In this cell.
    pub cell: Option<String>,
    /// Of this category.
    pub category: Option<String>,
    /// At most so many.
    pub limit: u32,
}

const COLUMNS: &str = "case_id, node, revision, state, task_no, category_code, cell_code, camera, lon, lat, confidence, \
    filed_at, received_at, changed_at, decided_at, finding, finding_at, unit, due_at";

impl CaseRow {
    fn of(row: &AnyRow) -> Result<Self, HubError> {
        let case_id: String = row.try_get("case_id")?;
        Ok(Self {
            node: row.try_get("node")?,
            revision: u32::try_from(row.try_get::<i64, _>("revision")?).unwrap_or(u32::MAX),
            state: state(row.try_get("state")?, &case_id)?,
            task_no: row.try_get("task_no")?,
            category_code: row.try_get("category_code")?,
            cell_code: row.try_get("cell_code")?,
            camera: row.try_get("camera")?,
            lon: row.try_get("lon")?,
            lat: row.try_get("lat")?,
            confidence: row.try_get("confidence")?,
            filed_at: time(row.try_get("filed_at")?),
            received_at: time(row.try_get("received_at")?),
            changed_at: time(row.try_get("changed_at")?),
            decided_at: time(row.try_get("decided_at")?),
            finding: row.try_get("finding")?,
            finding_at: row.try_get::<Option<i64>, _>("finding_at")?.map(time),
            unit: row.try_get("unit")?,
            due_at: row.try_get::<Option<i64>, _>("due_at")?.map(time),
            case_id,
        })
    }
}

fn state(name: &str, case_id: &str) -> Result<CaseState, HubError> {
    let found = CaseState::ALL.into_iter().find(|state| state.as_str() == name);
    found.ok_or_else(|| HubError::Damaged {
        what: format!("case {case_id}"),
        reason: format!("state {name:?} does not exist"),
    })
}

impl Database {
    /// Takes a revision of a case, whose signature was verified: commits it with everything that follows from it. One that was taken before changes
    /// nothing.
    ///
    /// # Errors
    /// The database's; nothing is committed then.
    pub async fn take_revision(&self, new: NewRevision<'_>, at: Timestamp) -> Result<CaseChange, HubError> {
        let record = new.record;
        let mut tx = self.begin().await?;
        insert_case(&mut tx, new, at).await?;
        let case = lock(&mut tx, &record.case_id).await?;
        if case.node != record.node_id {
            return Ok(CaseChange::Refused(format!("the case is one of {}", case.node)));
        }
        let is_new = insert_revision(&mut tx, new, at).await?;
        if !is_new && revision_text(&mut tx, &record.case_id, record.revision).await? != new.text {
            return Ok(CaseChange::Refused(format!(
                "revision {} of the case was received before with other contents, which stay",
                record.revision
            )));
        }
        let older;
        let current = if record.revision >= case.revision {
            record
        } else {
            older = parse(
                &revision_text(&mut tx, &case.case_id, case.revision).await?,
                &case.case_id,
            )?;
            &older
        };
        if record.revision > case.revision {
            advance(&mut tx, &case, record, at).await?;
        }
        let mut missing = Vec::new();
        for item in &current.evidence {
            if !missing.contains(&item.sha256) && !pictures::is_recorded(&mut tx, &item.sha256).await? {
                missing.push(item.sha256.clone());
            }
        }
        let revision = current.revision;
        tx.commit().await?;
        Ok(CaseChange::Committed {
            revision,
            is_new,
            missing,
        })
    }

    /// Decides about a case, and queues the reply that tells the box. `expected`: the state for which this was decided; `None`: any that it fits.
    ///
    /// # Errors
    /// [`HubError::NotFound`]; [`HubError::Conflict`] if the decision does not fit the case's state.
    pub async fn decide(
        &self,
        case_id: &str,
        act: &Act,
        expected: Option<CaseState>,
        who: &str,
        at: Timestamp,
    ) -> Result<CaseRow, HubError> {
        let mut tx = self.begin().await?;
        let case = lock(&mut tx, case_id).await?;
        if expected.is_some_and(|expected| expected != case.state) {
            return Err(HubError::Conflict(format!(
                "{case_id}: it is {} meanwhile",
                case.state.as_str()
            )));
        }
        let state =
            workflow::check(case.state, act).map_err(|refused| HubError::Conflict(format!("{case_id}: {refused}")))?;
        if let Act::Duplicate { of } = act {
            let other = sqlx::query("SELECT 1 FROM cases WHERE case_id = $1 AND case_id <> $2")
                .bind(of)
                .bind(case_id)
                .fetch_optional(&mut *tx)
                .await?;
            if other.is_none() {
                return Err(HubError::NotFound(format!(
                    "{case_id}: cannot be a duplicate of {of}: the hub has no other case with that id; list them with `gridwatch-hub cases list`"
                )));
            }
        }
        let record = parse(&revision_text(&mut tx, case_id, case.revision).await?, case_id)?;
        let zone = TimeZone::fixed(record.filed_at.offset());
        let task_no = match case.task_no.clone() {
            None if state == CaseState::Accepted => Some(next_task_number(&mut tx, at, &zone).await?),
            known => known,
        };
        let (unit, due) = match act {
            Act::Dispatch { unit, due } => (Some(unit.clone()), *due),
            _ => (case.unit.clone(), case.due_at),
        };
        sqlx::query(
            "UPDATE cases SET state = $2, task_no = $3, unit = $4, due_at = $5, changed_at = $6, decided_at = $6 WHERE case_id = $1",
        )
        .bind(case_id)
        .bind(state.as_str())
        .bind(task_no.as_deref())
        .bind(unit.as_deref())
        .bind(due.map(millis))
        .bind(millis(at))
        .execute(&mut *tx)
        .await?;
        let event = match act {
            Act::Dispatch { unit, .. } => Some(unit.as_str()),
            other => other.reason(),
        };
        let seq = add_event(&mut tx, case_id, who, state, event, at).await?;
        let reply = ReplyMessage {
            case_id: case_id.to_owned(),
            state,
            reason: act.reason().map(str::to_owned),
            platform_task_no: task_no,
            at: Some(When::new(at, &zone)),
            due_at: match act {
                Act::Dispatch { due, .. } => due.map(|due| When::new(due, &zone)),
                _ => None,
            },
        };
        replies::queue(&mut tx, &case.node, seq, &reply, at).await?;
        let case = lock(&mut tx, case_id).await?;
        tx.commit().await?;
        Ok(case)
    }

    /// A case by its id, or by a part at its end, of at least four characters, that only one has.
    ///
    /// # Errors
    /// [`HubError::NotFound`], also for a part that several have.
    pub async fn case(&self, id: &str) -> Result<CaseRow, HubError> {
        let unknown = || HubError::NotFound(format!("no case {id}; list them with `gridwatch-hub cases list`"));
        if id.len() < 4 || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(unknown());
        }
        let sql = match id.len() {
            26 => format!("SELECT {COLUMNS} FROM cases WHERE case_id = $1"),
            _ => format!("SELECT {COLUMNS} FROM cases WHERE case_id LIKE '%' || $1 ORDER BY case_id LIMIT 2"),
        };
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id.to_ascii_uppercase())
            .fetch_all(&self.pool)
            .await?;
        match &rows[..] {
            [row] => CaseRow::of(row),
            [] => Err(unknown()),
            _ => Err(HubError::NotFound(format!(
                "several cases end in {id}; give more of the id"
            ))),
        }
    }

    /// Cases, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn cases(&self, filter: &CaseFilter) -> Result<Vec<CaseRow>, HubError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM cases WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR node = $2) AND ($3 IS NULL OR cell_code = $3) \
             AND ($4 IS NULL OR category_code = $4) ORDER BY received_at DESC, case_id DESC LIMIT $5"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(filter.state.map(CaseState::as_str))
            .bind(filter.node.as_deref())
            .bind(filter.cell.as_deref())
            .bind(filter.category.as_deref())
            .bind(i64::from(filter.limit))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(CaseRow::of).collect()
    }

    /// How many cases are in each state.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_cases(&self) -> Result<Vec<(CaseState, u64)>, HubError> {
        let rows = sqlx::query("SELECT state, COUNT(*) AS n FROM cases GROUP BY state ORDER BY state")
            .fetch_all(&self.pool)
            .await?;
        let counts = rows.iter().map(|row| {
            let n: i64 = row.try_get("n")?;
            Ok((state(row.try_get("state")?, "")?, u64::try_from(n).unwrap_or(0)))
        });
        counts.collect()
    }

    /// The newest record of a case, as received.
    ///
    /// # Errors
    /// [`HubError::NotFound`]; a damaged row.
    pub async fn record(&self, case: &CaseRow) -> Result<(CaseRecord, String), HubError> {
        let row = sqlx::query("SELECT record FROM revisions WHERE case_id = $1 AND revision = $2")
            .bind(&case.case_id)
            .bind(i64::from(case.revision))
            .fetch_one(&self.pool)
            .await?;
        let text: String = row.try_get("record")?;
        Ok((parse(&text, &case.case_id)?, text))
    }

    /// What happened to a case, oldest first.
    ///
    /// # Errors
    /// The database's; a damaged row.
    pub async fn case_events(&self, case_id: &str) -> Result<Vec<CaseEvent>, HubError> {
        let rows = sqlx::query("SELECT seq, at, who, state, reason FROM case_events WHERE case_id = $1 ORDER BY seq")
            .bind(case_id)
            .fetch_all(&self.pool)
            .await?;
        let events = rows.iter().map(|row| {
            Ok(CaseEvent {
                seq: row.try_get("seq")?,
                at: time(row.try_get("at")?),
                who: row.try_get("who")?,
                state: state(row.try_get("state")?, case_id)?,
                reason: row.try_get("reason")?,
            })
        });
        events.collect()
    }
}

/// Adds the case if it is not there, with revision 0.
async fn insert_case(tx: &mut Tx<'_>, new: NewRevision<'_>, at: Timestamp) -> Result<(), HubError> {
    let record = new.record;
    sqlx::query(
        "INSERT INTO cases (case_id, node, revision, state, category_code, cell_code, camera, lon, lat, confidence, filed_at, \
         received_at, changed_at, decided_at) VALUES ($1, $2, 0, 'filed', $3, $4, $5, $6, $7, $8, $9, $10, $10, $10) ON CONFLICT DO NOTHING",
    )
    .bind(&record.case_id)
    .bind(&record.node_id)
    .bind(&record.category_code)
    .bind(&record.cell_code)
    .bind(record.view())
    .bind(record.location.lon)
    .bind(record.location.lat)
    .bind(record.confidence)
    .bind(millis(record.filed_at.timestamp()))
    .bind(millis(at))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Reads a case and locks its row until the transaction ends.
async fn lock(tx: &mut Tx<'_>, case_id: &str) -> Result<CaseRow, HubError> {
    // An update locks the row in both databases; `FOR UPDATE` is PostgreSQL's only.
    let sql = format!("UPDATE cases SET revision = revision WHERE case_id = $1 RETURNING {COLUMNS}");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql))
        .bind(case_id)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref()
        .map(CaseRow::of)
        .transpose()?
        .ok_or_else(|| HubError::NotFound(format!("no case {case_id}")))
}

/// Adds a revision; false if it is there.
async fn insert_revision(tx: &mut Tx<'_>, new: NewRevision<'_>, at: Timestamp) -> Result<bool, HubError> {
    let added = sqlx::query(
        "INSERT INTO revisions (case_id, revision, record, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(&new.record.case_id)
    .bind(i64::from(new.record.revision))
    .bind(new.text)
    .bind(millis(at))
    .execute(&mut **tx)
    .await?;
    Ok(added.rows_affected() == 1)
}

async fn revision_text(tx: &mut Tx<'_>, case_id: &str, revision: u32) -> Result<String, HubError> {
    let row = sqlx::query("SELECT record FROM revisions WHERE case_id = $1 AND revision = $2")
        .bind(case_id)
        .bind(i64::from(revision))
        .fetch_one(&mut **tx)
        .await?;
    Ok(row.try_get("record")?)
}

fn parse(text: &str, case_id: &str) -> Result<CaseRecord, HubError> {
    serde_json::from_str(text).map_err(|e| HubError::Damaged {
        what: format!("the record of case {case_id}"),
        reason: e.to_string(),
    })
}

/// The case takes a newer revision.
async fn advance(tx: &mut Tx<'_>, case: &CaseRow, record: &CaseRecord, at: Timestamp) -> Result<(), HubError> {
    let reported = workflow::reported(case.state, record);
    let state = reported.unwrap_or(case.state);
    let decided_at = if reported.is_some() { at } else { case.decided_at };
    let verification = record.verification.last();
    sqlx::query(
        "UPDATE cases SET revision = $2, state = $3, category_code = $4, cell_code = $5, camera = $6, lon = $7, lat = $8, \
         confidence = $9, finding = $10, finding_at = $11, changed_at = $12, decided_at = $13 WHERE case_id = $1",
    )
    .bind(&record.case_id)
    .bind(i64::from(record.revision))
    .bind(state.as_str())
    .bind(&record.category_code)
    .bind(&record.cell_code)
    .bind(record.view())
    .bind(record.location.lon)
    .bind(record.location.lat)
    .bind(record.confidence)
    .bind(verification.map(|v| v.result.as_str()))
    .bind(verification.map(|v| millis(v.checked_at.timestamp())))
    .bind(millis(at))
    .bind(millis(decided_at))
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE boxes SET last_case_at = $2 WHERE node = $1")
        .bind(&record.node_id)
        .bind(millis(at))
        .execute(&mut **tx)
        .await?;
    let is_first = case.revision == 0;
    if is_first || reported.is_some() {
        let entry = record.history.last();
        let reason = entry
            .and_then(|entry| entry.reason.as_deref())
            .filter(|_| reported.is_some());
        add_event(tx, &case.case_id, &case.node, state, reason, at).await?;
    }
    Ok(())
}

/// Adds an event to a case; returns its number.
async fn add_event(
    tx: &mut Tx<'_>,
    case_id: &str,
    who: &str,
    state: CaseState,
    reason: Option<&str>,
    at: Timestamp,
) -> Result<i64, HubError> {
    let row = sqlx::query(
        "INSERT INTO case_events (case_id, seq, at, who, state, reason) \
         VALUES ($1, (SELECT COALESCE(MAX(seq), 0) + 1 FROM case_events WHERE case_id = $1), $2, $3, $4, $5) RETURNING seq",
    )
    .bind(case_id)
    .bind(millis(at))
    .bind(who)
    .bind(state.as_str())
    .bind(reason)
    .fetch_one(&mut **tx)
    .await?;
    Ok(row.try_get("seq")?)
}

/// The next task number of the day, such as `20260501-000042`.
async fn next_task_number(tx: &mut Tx<'_>, at: Timestamp, zone: &TimeZone) -> Result<String, HubError> {
    let day = at.to_zoned(zone.clone()).strftime("%Y%m%d").to_string();
    let row = sqlx::query(
        "INSERT INTO task_numbers (day, last) VALUES ($1, 1) ON CONFLICT (day) DO UPDATE SET last = task_numbers.last + 1 RETURNING last",
    )
    .bind(&day)
    .fetch_one(&mut **tx)
    .await?;
    Ok(format!("{day}-{:06}", row.try_get::<i64, _>("last")?))
}
