//! Cases: committed once together with their messages, then revised by the box or by replies of the platform.

use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{Store, StoreError, chain, claims, evidence_file, outbox, with_dir};
use gridwatch_contract::{
    CaseRecord, EvidenceItem, EvidenceRole, Form, HistoryEntry, ReplyMessage, ReportKind, Verification, When,
};
use gridwatch_custody::{SigningKey, vault};
use gridwatch_engine::{Case, CaseId, CaseState, Finding, OpenCase, Question, Snapshot, Verified};

/// A change of a case's state, decided by the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// The case id.
    pub case: CaseId,
    /// The new state.
    pub state: CaseState,
    /// The time of the change.
    pub at: When,
    /// The reason; may be empty.
    pub reason: String,
}

/// The effect of a reply ([`Store::apply_reply`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyOutcome {
    /// The case has a new revision, with this number.
    Revised(u32),
    /// The reply was added to the history; the case is unchanged.
    Noted,
}

/// Author of a history entry.
const BOX: &str = "box";

impl Store {
    /// Commits a new case with its history, evidence and messages (pictures first, then the record) in one transaction,
    /// and notifies the link. The pictures must have been written with [`evidence_file::write`]. If sites are shared
    /// between boxes, nothing is sent before [`Store::grant_claim`].
    ///
    /// # Errors
    /// [`StoreError::InvalidEvidence`], [`StoreError::CaseExists`], [`StoreError::DiskFull`] or a database error; nothing
    /// is committed then.
    pub fn commit_case(&mut self, record: &CaseRecord, case: &Case, form: &Form) -> Result<(), StoreError> {
        self.check_evidence(record, case)?;
        let site = case.remembered(record.state, record.filed_at.timestamp());
        let filed_at = micros(record.filed_at);
        let (key, dir) = (self.key()?, &self.dir.clone());
        self.write(|t| {
            let sealed = chain::seal(t, record, &key, record.filed_at.timestamp())?;
            let inserted = t.execute(
                "INSERT INTO cases (id, category, cell, state, revision, confirmed_at, updated_at, site, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
                params![
                    record.case_id,
                    record.category_code,
                    record.cell_code,
                    record.state.as_str(),
                    record.revision,
                    micros(record.confirmed_at),
                    filed_at,
                    json(&site),
                    sealed
                ],
            )?;
            if inserted == 0 {
                return Err(StoreError::CaseExists { case: case.id.clone() });
            }
            add_history(t, &record.case_id, record.revision, BOX, record.state, filed_at, None)?;
            for item in &record.evidence {
                add_evidence(t, (dir, &record.case_id), item, form, filed_at)?;
            }
            outbox::add_case(
                t,
                &record.case_id,
                &form.topics.case(),
                &form.payload(&sealed),
                filed_at,
            )?;
            match &form.shares_sites {
                Some(node) => claims::add(t, &case.claim(node)),
                None => Ok(()),
            }
        })?;
        self.outbox_notify.notify_one();
        Ok(())
    }

    fn check_evidence(&self, record: &CaseRecord, case: &Case) -> Result<(), StoreError> {
        let refuse = |what: String| StoreError::InvalidEvidence {
            case: case.id.clone(),
            what,
        };
        if record.evidence.is_empty() {
            return Err(refuse("the record has no pictures".into()));
        }
        for item in &record.evidence {
            let path = evidence_file::path(&self.dir, &item.sha256);
            match std::fs::metadata(&path) {
                Ok(m) if m.len() == item.bytes => {}
                Ok(m) => {
                    let (actual, expected) = (m.len(), item.bytes);
                    return Err(refuse(format!(
                        "{} has {actual} bytes instead of {expected}",
                        path.display()
                    )));
                }
                Err(e) => return Err(refuse(format!("{}: {e}", path.display()))),
            }
        }
        Ok(())
    }

    /// Records a change of state that the box decided; returns the number of the new revision.
    ///
    /// Only `withdrawn` and the box's own `reopened` are sent to the platform. Every other state originates there.
    ///
    /// # Errors
    /// [`StoreError::UnknownCase`], [`StoreError::DiskFull`] or a database error; nothing is committed then.
    pub fn revise(&mut self, revision: &Revision, form: &Form) -> Result<u32, StoreError> {
        let key = self.key()?;
        let number = self.write(|t| revise(t, revision, None, form, &key))?;
        self.outbox_notify.notify_one();
        Ok(number)
    }

    /// Records the result of a verification and queues it for the platform: the pictures `after`, which must have been
    /// written with [`evidence_file::write`], the picture that confirmed the case, and then the record. Returns the number
    /// of the new revision.
    ///
    /// # Errors
    /// The same as [`Store::revise`].
    pub fn record_verification(
        &mut self,
        answer: &Verified,
        after: Vec<EvidenceItem>,
        zone: &TimeZone,
        form: &Form,
    ) -> Result<u32, StoreError> {
        let (key, dir) = (self.key()?, &self.dir.clone());
        let number = self.write(|t| {
            let (mut record, mut site) = load(t, answer.case.as_str())?;
            let at = When::new(answer.at, zone);
            record.revision += 1;
            record.report_kind = ReportKind::VerifyReport;
            let scene = record.evidence.iter().rfind(|i| i.role == EvidenceRole::Scene).cloned();
            // A reopened case may have lost its picture to retention.
            let is_there = |i: &EvidenceItem| evidence_file::path(dir, &i.sha256).is_file();
            let before = scene
                .filter(|i| !after.is_empty() && is_there(i))
                .map(|scene| EvidenceItem {
                    role: EvidenceRole::Before,
                    ..scene
                });
            let nth = record.verification.len() + 1;
            let mut ids = Vec::new();
            for item in before.into_iter().chain(after) {
                let id = format!("v{nth}.{}", ids.len() + 1);
                let caption = Some(record.caption_verified(&item));
                let item = EvidenceItem {
                    id: id.clone(),
                    caption,
                    ..item
                };
                add_evidence(t, (dir, &record.case_id), &item, form, answer.at.as_microsecond())?;
                record.evidence.push(item);
                ids.push(id);
            }
            record.verification.push(Verification::new(answer, ids, zone));
            if answer.finding == Finding::StillPresent {
                record.last_seen_at = at;
            }
            let reason = format!(
                "Verified by the box: {}; {} clear looks, {} of them showing it.",
                answer.finding.as_str(),
                answer.looks,
                answer.looks_seen
            );
            record.history.push(HistoryEntry {
                revision: record.revision,
                state: record.state,
                at,
                reason: Some(reason.clone()),
            });
            site.question = (answer.finding == Finding::Unverifiable).then_some(Question {
                asked_at: answer.asked_at,
                is_reported: true,
            });
            let at = micros(at);
            let sealed = chain::seal(t, &record, &key, answer.at)?;
            t.execute(
                "UPDATE cases SET revision = ?2, updated_at = ?3, site = ?4, record = ?5 WHERE id = ?1",
                params![record.case_id, record.revision, at, json(&site), sealed],
            )?;
            add_history(
                t,
                &record.case_id,
                record.revision,
                BOX,
                record.state,
                at,
                Some(&reason),
            )?;
            outbox::add_case(t, &record.case_id, &form.topics.case(), &form.payload(&sealed), at)?;
            Ok(record.revision)
        })?;
        self.outbox_notify.notify_one();
        Ok(number)
    }

    /// Records a reply of the platform and the engine's decision about it: a revision, or `None` if the reply changes
    /// nothing (a repeated reply, or one that does not fit the state of the case). Both are one transaction, so the reply
    /// may be acknowledged once this returns. Applying a reply twice adds two history entries and changes the case once.
    ///
    /// # Errors
    /// The same as [`Store::revise`].
    pub fn apply_reply(
        &mut self,
        reply: &ReplyMessage,
        received_at: Timestamp,
        decided: Option<&Revision>,
        form: &Form,
    ) -> Result<ReplyOutcome, StoreError> {
        let key = self.key()?;
        let applied = self.write(|t| {
            if let Some(revision) = decided {
                return revise(t, revision, Some((reply, received_at)), form, &key).map(ReplyOutcome::Revised);
            }
            let (mut record, mut site) = load(t, &reply.case_id)?;
            let question = reply.reply(received_at).next_question(site.state, site.question);
            if reply.state == site.state && question != site.question {
                site.question = question;
                t.execute(
                    "UPDATE cases SET site = ?2 WHERE id = ?1",
                    params![reply.case_id, json(&site)],
                )?;
            }
            if reply.platform_task_no.is_some() && record.platform_task_no != reply.platform_task_no {
                record.platform_task_no.clone_from(&reply.platform_task_no);
                t.execute(
                    "UPDATE cases SET record = ?2 WHERE id = ?1",
                    params![reply.case_id, chain::seal(t, &record, &key, received_at)?],
                )?;
            }
            let at = received_at.as_microsecond();
            let reason = reply.reason.as_deref();
            add_history(t, &reply.case_id, record.revision, "platform", reply.state, at, reason)?;
            Ok(ReplyOutcome::Noted)
        })?;
        self.outbox_notify.notify_one();
        Ok(applied)
    }

    /// Replaces the stored snapshot of the engine by the one taken at `at`.
    ///
    /// # Errors
    /// A database error; the previous snapshot is kept then.
    pub fn save_snapshot(&self, at: Timestamp, snapshot: &Snapshot) -> Result<(), StoreError> {
        // Serialization fails only for maps with non-string keys; a snapshot has none.
        let json = serde_json::to_string(snapshot).unwrap_or_default();
        self.db
            .prepare_cached("INSERT OR REPLACE INTO engine_state (id, at, snapshot) VALUES (1, ?1, ?2)")?
            .execute(params![at.as_microsecond(), json])?;
        Ok(())
    }

    /// The last snapshot of the engine. A snapshot that cannot be parsed is moved to `engine-state.unreadable.json` in the
    /// state directory and logged; the engine then starts with the cases alone.
    ///
    /// # Errors
    /// A database error.
    pub fn load_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT snapshot FROM engine_state WHERE id = 1")?;
        let json: Option<String> = query.query_row([], |r| r.get(0)).optional()?;
        let Some(json) = json else { return Ok(None) };
        let error = match serde_json::from_str(&json) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => error,
        };
        let moved_to = self.dir().join("engine-state.unreadable.json");
        let kept = std::fs::write(&moved_to, json).map_or_else(|e| e.to_string(), |()| moved_to.display().to_string());
        tracing::error!(%error, moved_to = kept, "Engine snapshot cannot be parsed; moved it aside. Candidates that were not yet cases start their dwell time again");
        self.db.prepare_cached("DELETE FROM engine_state")?.execute([])?;
        Ok(None)
    }

    /// The cases that the engine needs at start-up: the open ones, and closed ones that are still within
    /// [`CaseState::remembered_for`]. Ordered by id, which is the order of confirmation.
    ///
    /// # Errors
    /// [`StoreError::BadRow`] or a database error.
    pub fn cases_to_restore(&self, now: Timestamp) -> Result<Vec<OpenCase>, StoreError> {
        let mut query = self
            .db
            // A case that yielded to another box is that box's to remember.
            .prepare_cached(
                "SELECT id, site FROM cases AS c WHERE state = ?1 AND updated_at >= ?2 AND NOT (state = 'duplicate_of' AND EXISTS
                    (SELECT 1 FROM case_history WHERE case_id = c.id AND author = 'box' AND state = 'duplicate_of'))",
            )?;
        let mut cases: Vec<OpenCase> = Vec::new();
        for state in CaseState::ALL {
            let oldest = now.saturating_sub(state.remembered_for()).unwrap_or(Timestamp::MIN);
            let since = if state.is_open() { Timestamp::MIN } else { oldest };
            let rows = query.query_map(params![state.as_str(), since.as_microsecond()], |r| {
                Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))
            })?;
            for row in rows {
                let (id, site) = row?;
                cases.push(parse(&id, "site", &site)?);
            }
        }
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(cases)
    }

    /// Runs `work` in a transaction and commits it, or rolls back on an error.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let dir = &self.dir;
        let run = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|e| with_dir(e, dir))
    }
}

/// Adds a picture of a case, its encrypted original, and the message that carries it.
fn add_evidence(
    t: &Transaction<'_>,
    (dir, case): (&Path, &str),
    item: &EvidenceItem,
    form: &Form,
    at: i64,
) -> Result<(), StoreError> {
    t.execute(
        "INSERT INTO evidence (case_id, item_id, role, sha256, bytes, captured_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            case,
            item.id,
            text_of(&item.role),
            item.sha256,
            i64::try_from(item.bytes).unwrap_or(i64::MAX),
            micros(item.captured_at)
        ],
    )?;
    // Pictures derived from another picture have no original.
    if let Some(original) = &item.derived_from
        && let Some(bytes) = vault::size(dir, original)
    {
        t.execute(
            "INSERT INTO originals (case_id, sha256, bytes, captured_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![
                case,
                original,
                i64::try_from(bytes).unwrap_or(i64::MAX),
                micros(item.captured_at)
            ],
        )?;
    }
    outbox::add_evidence(t, case, &form.topics.evidence(&item.sha256), &item.sha256, at)
}

/// Writes one revision inside a transaction: record, site, history, and the message if the platform has to be told.
/// `reply` is the platform's reply that caused it and the time it was received; `None` if the box decided.
pub(super) fn revise(
    t: &Transaction<'_>,
    revision: &Revision,
    reply: Option<(&ReplyMessage, Timestamp)>,
    form: &Form,
    key: &SigningKey,
) -> Result<u32, StoreError> {
    let id = revision.case.as_str();
    let (mut record, mut site) = load(t, id)?;
    record.revision += 1;
    record.state = revision.state;
    record.report_kind = match revision.state {
        CaseState::Withdrawn => ReportKind::Withdraw,
        _ => ReportKind::Update,
    };
    if let Some((reply, _)) = reply {
        record.platform_task_no = reply.platform_task_no.clone().or(record.platform_task_no);
    }
    let reason = Some(revision.reason.as_str()).filter(|r| !r.is_empty());
    record.history.push(HistoryEntry {
        revision: record.revision,
        state: revision.state,
        at: revision.at,
        reason: reason.map(Into::into),
    });
    site.question = reply.and_then(|(reply, at)| reply.reply(at).next_question(site.state, site.question));
    site.state = revision.state;
    site.at = revision.at.timestamp();
    let is_ours = reply.is_none();
    let author = if is_ours { BOX } else { "platform" };
    site.was_reopened |= is_ours && revision.state == CaseState::Reopened;
    let at = micros(revision.at);
    let sealed = chain::seal(t, &record, key, revision.at.timestamp())?;
    t.execute(
        "UPDATE cases SET state = ?2, revision = ?3, updated_at = ?4, site = ?5, record = ?6 WHERE id = ?1",
        params![id, revision.state.as_str(), record.revision, at, json(&site), sealed],
    )?;
    add_history(t, id, record.revision, author, revision.state, at, reason)?;
    if is_ours && matches!(revision.state, CaseState::Withdrawn | CaseState::Reopened) {
        outbox::add_case(t, id, &form.topics.case(), &form.payload(&sealed), at)?;
    }
    Ok(record.revision)
}

fn load(t: &Transaction<'_>, id: &str) -> Result<(CaseRecord, OpenCase), StoreError> {
    let found = t
        .query_row("SELECT record, site FROM cases WHERE id = ?1", [id], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?))
        })
        .optional()?;
    let Some((record, site)) = found else {
        return Err(StoreError::UnknownCase { case: id.into() });
    };
    Ok((parse(id, "record", &record)?, parse(id, "site", &site)?))
}

fn add_history(
    t: &Transaction<'_>,
    id: &str,
    revision: u32,
    author: &str,
    state: CaseState,
    at: i64,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    t.execute(
        "INSERT INTO case_history (case_id, revision, author, state, at, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![id, revision, author, state.as_str(), at, reason],
    )?;
    Ok(())
}

fn micros(at: When) -> i64 {
    at.timestamp().as_microsecond()
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("contract types serialize to JSON: string keys, no NaN")
}

/// The serialized name of an enum variant.
fn text_of(value: &impl Serialize) -> String {
    json(value).trim_matches('"').to_string()
}

pub(super) fn parse<T: DeserializeOwned>(case: &str, field: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::BadRow {
        case: case.into(),
        field,
        reason: e.to_string(),
    })
}
