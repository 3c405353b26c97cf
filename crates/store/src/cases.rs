//! Cases: committed once together with their messages, then revised by the box or by replies of the platform.

use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::{Transaction, TransactionBehavior, params};

use super::{
    Store, StoreError, chain, claims, evidence_file,
    history::{self, Author, NewHistoryEntry},
    outbox::{self, NewMessage, Payload},
    row, with_dir,
};
use gridwatch_contract::{
    CaseRecord, EvidenceItem, EvidenceRole, Form, HistoryEntry, ReplyMessage, ReportKind, Verification, When,
};
use gridwatch_custody::{Signer, vault};
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

impl Store {
    /// Commits a new case with its history, evidence and messages (pictures first, then the record) in one transaction,
    /// and notifies the link. The pictures must have been written with [`evidence_file::write`]. If sites are shared
    /// between boxes, nothing is sent before [`Store::grant_claim`].
    ///
    /// # Errors
    /// [`StoreError::InvalidEvidence`], [`StoreError::CaseExists`], [`StoreError::DiskFull`] or a database error;
    /// nothing is committed then.
    pub fn commit_case(&mut self, record: &CaseRecord, case: &Case, form: &Form) -> Result<(), StoreError> {
        self.check_evidence(record, case)?;
        let filed_at = record.filed_at.timestamp();
        let site = case.remembered(record.state, filed_at);
        let (key, dir) = (self.key()?, &self.dir.clone());
        self.write(|t| {
            let sealed = chain::seal(t, record, &key, filed_at)?;
            let inserted = t.execute(
                "INSERT INTO cases (id, category, cell, state, revision, confirmed_at, updated_at, site, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
                params![
                    record.case_id,
                    record.category_code,
                    record.cell_code,
                    record.state.as_str(),
                    record.revision,
                    row::micros(record.confirmed_at.timestamp()),
                    row::micros(filed_at),
                    row::to_json(&site),
                    sealed
                ],
            )?;
            if inserted == 0 {
                return Err(StoreError::CaseExists { case: case.id.clone() });
            }
            let entry = NewHistoryEntry {
                case: &record.case_id,
                revision: record.revision,
                author: Author::Box,
                state: record.state,
                at: filed_at,
                reason: None,
            };
            history::add(t, &entry)?;
            for item in &record.evidence {
                add_evidence(t, dir, record, item, form, filed_at)?;
            }
            queue_record(t, (&record.case_id, record.revision), &sealed, form, filed_at)?;
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
    /// written with [`evidence_file::write`], the picture that confirmed the case, and then the record. Returns the
    /// number of the new revision.
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
            let mut ids = Vec::new();
            for item in verification_pictures(&record, after, dir) {
                add_evidence(t, dir, &record, &item, form, answer.at)?;
                ids.push(item.id.clone());
                record.evidence.push(item);
            }
            record.add_verification(Verification::new(answer, ids, zone));
            if answer.finding == Finding::StillPresent {
                record.last_seen_at = at;
            }
            let reason = format!(
                "Verified by the box: {}; {} clear looks, {} of them showing it.",
                answer.finding.as_str(),
                answer.looks,
                answer.looks_seen
            );
            let change = HistoryEntry::new(record.revision, record.state, at, Some(reason.clone()));
            record.add_history(change);
            site.question = (answer.finding == Finding::Unverifiable).then_some(Question {
                asked_at: answer.asked_at,
                is_reported: true,
            });
            let sealed = chain::seal(t, &record, &key, answer.at)?;
            let entry = NewHistoryEntry {
                case: &record.case_id,
                revision: record.revision,
                author: Author::Box,
                state: record.state,
                at: at.timestamp(),
                reason: Some(&reason),
            };
            save_revision(t, &sealed, &site, &entry)?;
            queue_record(t, (&record.case_id, record.revision), &sealed, form, at.timestamp())?;
            Ok(record.revision)
        })?;
        self.outbox_notify.notify_one();
        Ok(number)
    }

    /// Records a reply of the platform and the engine's decision about it: a revision, or `None` if the reply changes
    /// nothing (a repeated reply, or one that does not fit the state of the case). Both are one transaction, so the
    /// reply may be acknowledged once this returns. Applying a reply twice changes the case once, and
    /// its history counts both.
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
                    params![reply.case_id, row::to_json(&site)],
                )?;
            }
            if reply.platform_task_no.is_some() && record.platform_task_no != reply.platform_task_no {
                record.platform_task_no.clone_from(&reply.platform_task_no);
                t.execute(
                    "UPDATE cases SET record = ?2 WHERE id = ?1",
                    params![reply.case_id, chain::seal(t, &record, &key, received_at)?],
                )?;
            }
            let entry = NewHistoryEntry {
                case: &reply.case_id,
                revision: record.revision,
                author: Author::Platform,
                state: reply.state,
                at: received_at,
                reason: reply.reason.as_deref(),
            };
            history::add(t, &entry)?;
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
            .execute(params![row::micros(at), json])?;
        self.committed();
        Ok(())
    }

    /// The last snapshot of the engine. A snapshot that cannot be parsed is moved to `engine-state.unreadable.json` in
    /// the state directory and logged; the engine then starts with the cases alone.
    ///
    /// # Errors
    /// A database error.
    pub fn load_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let found = row::first(&self.db, "SELECT snapshot FROM engine_state WHERE id = 1", [], |row| {
            Ok(row.get("snapshot")?)
        })?;
        let Some(json): Option<String> = found else {
            return Ok(None);
        };
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
        // A case that yielded to another box is that box's to remember.
        let sql = "SELECT id, site FROM cases AS c WHERE state = ?1 AND updated_at >= ?2 AND NOT (state = 'duplicate_of' AND EXISTS
                    (SELECT 1 FROM case_history WHERE case_id = c.id AND author = 'box' AND state = 'duplicate_of'))";
        let mut cases: Vec<OpenCase> = Vec::new();
        for state in CaseState::ALL {
            let oldest = now.saturating_sub(state.remembered_for()).unwrap_or(Timestamp::MIN);
            let since = if state.is_open() { Timestamp::MIN } else { oldest };
            cases.extend(row::all(
                &self.db,
                sql,
                params![state.as_str(), row::micros(since)],
                |row| row::json(row, &row.get::<_, String>("id")?, "site"),
            )?);
        }
        cases.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(cases)
    }

    /// Runs `work` in a transaction and commits it, or rolls back on an error.
    pub(super) fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_files()?;
        let dir = &self.dir;
        let run = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        let done = run().map_err(|e| with_dir(e, dir))?;
        self.committed();
        Ok(done)
    }
}

/// The pictures that a verification adds to a case: the one that confirmed the case, then those of the verification.
fn verification_pictures(record: &CaseRecord, after: Vec<EvidenceItem>, dir: &Path) -> Vec<EvidenceItem> {
    let scene = record.evidence.iter().rfind(|i| i.role == EvidenceRole::Scene);
    // A reopened case may have lost its picture to retention.
    let is_there = |i: &&EvidenceItem| evidence_file::path(dir, &i.sha256).is_file();
    let before = scene
        .filter(|i| !after.is_empty() && is_there(i))
        .map(|scene| EvidenceItem {
            role: EvidenceRole::Before,
            ..scene.clone()
        });
    // The oldest verifications may have left the record; a number is not used again.
    let numbers = record.evidence.iter().filter_map(|item| {
        let (number, _) = item.id.strip_prefix('v')?.split_once('.')?;
        number.parse::<usize>().ok()
    });
    let verification = numbers.max().unwrap_or(0).max(record.verification.len()) + 1;
    let pictures = before.into_iter().chain(after);
    (1..)
        .zip(pictures)
        .map(|(nth, item)| EvidenceItem {
            id: format!("v{verification}.{nth}"),
            caption: Some(record.caption_verified(&item)),
            ..item
        })
        .collect()
}

/// Adds a picture of a case, its encrypted original, and the message that carries it.
fn add_evidence(
    t: &Transaction<'_>,
    dir: &Path,
    record: &CaseRecord,
    item: &EvidenceItem,
    form: &Form,
    at: Timestamp,
) -> Result<(), StoreError> {
    let case = record.case_id.as_str();
    let captured_at = row::micros(item.captured_at.timestamp());
    t.execute(
        "INSERT INTO evidence (case_id, item_id, role, sha256, bytes, captured_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            case,
            item.id,
            row::name_of(&item.role),
            item.sha256,
            row::size(item.bytes),
            captured_at
        ],
    )?;
    // Pictures derived from another picture have no original.
    if let Some(original) = &item.derived_from
        && let Some(bytes) = vault::size(dir, original)
    {
        t.execute(
            "INSERT INTO originals (case_id, sha256, bytes, captured_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            params![case, original, row::size(bytes), captured_at],
        )?;
    }
    queue_picture(t, (case, record.revision), &item.sha256, form, at)
}

/// Queues a picture of a revision of a case for the platform.
pub(super) fn queue_picture(
    t: &Transaction<'_>,
    (case, revision): (&str, u32),
    sha256: &str,
    form: &Form,
    at: Timestamp,
) -> Result<(), StoreError> {
    let message = NewMessage {
        case,
        revision,
        topic: &form.topics.evidence(sha256),
        payload: Payload::Evidence(sha256),
        queued_at: at,
    };
    outbox::add(t, &message)
}

/// Queues a sealed record, a revision of a case, for the platform.
pub(super) fn queue_record(
    t: &Transaction<'_>,
    (case, revision): (&str, u32),
    sealed: &str,
    form: &Form,
    at: Timestamp,
) -> Result<(), StoreError> {
    let message = NewMessage {
        case,
        revision,
        topic: &form.topics.case(),
        payload: Payload::Case(&form.payload(sealed)),
        queued_at: at,
    };
    outbox::add(t, &message)
}

/// Writes one revision inside a transaction: record, site, history, and the message if the platform has to be told.
/// `reply` is the platform's reply that caused it and the time it was received; `None` if the box decided.
pub(super) fn revise(
    t: &Transaction<'_>,
    revision: &Revision,
    reply: Option<(&ReplyMessage, Timestamp)>,
    form: &Form,
    key: &dyn Signer,
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
    let change = HistoryEntry::new(record.revision, revision.state, revision.at, reason.map(Into::into));
    record.add_history(change);
    site.question = reply.and_then(|(reply, at)| reply.reply(at).next_question(site.state, site.question));
    site.state = revision.state;
    site.at = revision.at.timestamp();
    let is_ours = reply.is_none();
    site.was_reopened |= is_ours && revision.state == CaseState::Reopened;
    let at = revision.at.timestamp();
    let sealed = chain::seal(t, &record, key, at)?;
    let entry = NewHistoryEntry {
        case: id,
        revision: record.revision,
        author: if is_ours { Author::Box } else { Author::Platform },
        state: revision.state,
        at,
        reason,
    };
    save_revision(t, &sealed, &site, &entry)?;
    if is_ours && matches!(revision.state, CaseState::Withdrawn | CaseState::Reopened) {
        queue_record(t, (id, record.revision), &sealed, form, at)?;
    }
    Ok(record.revision)
}

/// Stores a new revision of a case: the sealed record, the site, and the history entry that describes it.
fn save_revision(
    t: &Transaction<'_>,
    sealed: &str,
    site: &OpenCase,
    entry: &NewHistoryEntry<'_>,
) -> Result<(), StoreError> {
    t.execute(
        "UPDATE cases SET state = ?2, revision = ?3, updated_at = ?4, site = ?5, record = ?6 WHERE id = ?1",
        params![
            entry.case,
            entry.state.as_str(),
            entry.revision,
            row::micros(entry.at),
            row::to_json(site),
            sealed
        ],
    )?;
    history::add(t, entry)
}

fn load(t: &Transaction<'_>, id: &str) -> Result<(CaseRecord, OpenCase), StoreError> {
    let found = row::first(t, "SELECT record, site FROM cases WHERE id = ?1", [id], |row| {
        Ok((row::json(row, id, "record")?, row::json(row, id, "site")?))
    })?;
    found.ok_or_else(|| StoreError::UnknownCase { case: id.into() })
}
