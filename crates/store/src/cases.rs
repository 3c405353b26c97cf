//! Cases: committed once with their messages, revised by the box or by the platform, read by engine and operator.

use std::path::Path;

use jiff::{Timestamp, tz::TimeZone};
use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{Store, StoreError, chain, claims, evidence_file, in_dir, outbox};
use gridwatch_contract::{
    CaseRecord, EvidenceItem, EvidenceRole, Form, HistoryEntry, ReplyMessage, ReportKind, Verification, When,
};
use gridwatch_custody::{SigningKey, vault};
use gridwatch_engine::{Case, CaseId, CaseState, Finding, OpenCase, Question, Snapshot, Verified};

/// A change of a case's state, as the engine decided it.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Which case.
    pub case: CaseId,
    /// Its new state.
    pub state: CaseState,
    /// When.
    pub at: When,
    /// Why.
    pub reason: String,
}

/// What [`Store::apply_reply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The case has a new revision.
    Revised(u32),
    /// The reply is on record, and the case stands as it stood.
    Noted,
}

/// Who said it, in the history.
const BOX: &str = "box";

impl Store {
    /// Commits a new case with its history, its evidence and its messages (pictures first, then the record) in one
    /// transaction, and wakes the link. Where sites are shared, nothing is sent before [`Store::claim_granted`]. The pictures must have been written with [`evidence_file::write`].
    ///
    /// # Errors
    /// [`StoreError::NoEvidence`], [`StoreError::Exists`], [`StoreError::DiskFull`] or what the database says; nothing
    /// was committed then.
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
                return Err(StoreError::Exists { case: case.id.clone() });
            }
            note(t, &record.case_id, record.revision, BOX, record.state, filed_at, None)?;
            for item in &record.evidence {
                add_evidence(t, (dir, &record.case_id), item, form, filed_at)?;
            }
            outbox::add_case(t, &record.case_id, &form.topics.case(), &form.words(&sealed), filed_at)?;
            match &form.shares_sites {
                Some(node) => claims::add(t, &case.claim(node)),
                None => Ok(()),
            }
        })?;
        self.news.notify_one();
        Ok(())
    }

    fn check_evidence(&self, record: &CaseRecord, case: &Case) -> Result<(), StoreError> {
        let refuse = |what: String| StoreError::NoEvidence {
            case: case.id.clone(),
            what,
        };
        if record.evidence.is_empty() {
            return Err(refuse("it has no pictures".into()));
        }
        for item in &record.evidence {
            let path = evidence_file::path(&self.dir, &item.sha256);
            match std::fs::metadata(&path) {
                Ok(m) if m.len() == item.bytes => {}
                Ok(m) => {
                    let (is, said) = (m.len(), item.bytes);
                    return Err(refuse(format!("{} has {is} bytes, not {said}", path.display())));
                }
                Err(e) => return Err(refuse(format!("{}: {e}", path.display()))),
            }
        }
        Ok(())
    }

    /// Records a change of state that the box itself decided, and gives the case's new revision.
    ///
    /// Only `withdrawn` and the box's own `reopened` are sent to the platform: every other state is the platform's own word,
    /// which it need not be told.
    ///
    /// # Errors
    /// [`StoreError::UnknownCase`], [`StoreError::DiskFull`] or what the database says; nothing was committed then.
    pub fn revise(&mut self, revision: &Revision, form: &Form) -> Result<u32, StoreError> {
        let key = self.key()?;
        let number = self.write(|t| revise(t, revision, None, form, &key))?;
        self.news.notify_one();
        Ok(number)
    }

    /// Records what became of a case's thing, and tells the platform: the verdict, and before it the pictures `after`, which must
    /// have been written with [`evidence_file::write`], beside the one that confirmed the case. Gives the case's new revision.
    ///
    /// # Errors
    /// As [`Store::revise`].
    pub fn verified(
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
            // A case that was over and came back may have lost its picture to retention.
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
                "The box looked again: {}, by {} clear looks, of which {} saw it.",
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
                is_told: true,
            });
            let at = micros(at);
            let sealed = chain::seal(t, &record, &key, answer.at)?;
            t.execute(
                "UPDATE cases SET revision = ?2, updated_at = ?3, site = ?4, record = ?5 WHERE id = ?1",
                params![record.case_id, record.revision, at, json(&site), sealed],
            )?;
            note(
                t,
                &record.case_id,
                record.revision,
                BOX,
                record.state,
                at,
                Some(&reason),
            )?;
            outbox::add_case(t, &record.case_id, &form.topics.case(), &form.words(&sealed), at)?;
            Ok(record.revision)
        })?;
        self.news.notify_one();
        Ok(number)
    }

    /// Records the platform's reply together with what the engine made of it: the revision, or none where the reply
    /// changes nothing (a repeated reply, or one that does not fit the case's state). One transaction: once this has
    /// returned, the reply may be acknowledged. Applied twice, a reply is on record twice and changes the case once.
    ///
    /// # Errors
    /// As [`Store::revise`].
    pub fn apply_reply(
        &mut self,
        reply: &ReplyMessage,
        received_at: Timestamp,
        decided: Option<&Revision>,
        form: &Form,
    ) -> Result<Applied, StoreError> {
        let key = self.key()?;
        let applied = self.write(|t| {
            if let Some(revision) = decided {
                return revise(t, revision, Some((reply, received_at)), form, &key).map(Applied::Revised);
            }
            let (mut record, mut site) = load(t, &reply.case_id)?;
            let question = reply.reply(received_at).question_after(site.state, site.question);
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
            note(t, &reply.case_id, record.revision, "platform", reply.state, at, reason)?;
            Ok(Applied::Noted)
        })?;
        self.news.notify_one();
        Ok(applied)
    }

    /// Keeps what the engine knew at `at` in place of what it knew before.
    ///
    /// # Errors
    /// What the database says: nothing is lost by it but the way back to this moment.
    pub fn keep_snapshot(&self, at: Timestamp, snapshot: &Snapshot) -> Result<(), StoreError> {
        // A map with keys that are no text is the one thing that JSON cannot hold, and there is none in it.
        let json = serde_json::to_string(snapshot).unwrap_or_default();
        self.db
            .prepare_cached("INSERT OR REPLACE INTO engine_state (id, at, snapshot) VALUES (1, ?1, ?2)")?
            .execute(params![at.as_microsecond(), json])?;
        Ok(())
    }

    /// What the engine knew when the last daemon kept it. What cannot be read is set aside as `engine-state.unreadable.json`
    /// in the state directory, loudly, and the engine begins with the cases alone.
    ///
    /// # Errors
    /// What the database says.
    pub fn snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT snapshot FROM engine_state WHERE id = 1")?;
        let json: Option<String> = query.query_row([], |r| r.get(0)).optional()?;
        let Some(json) = json else { return Ok(None) };
        let error = match serde_json::from_str(&json) {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => error,
        };
        let aside = self.dir().join("engine-state.unreadable.json");
        let kept = std::fs::write(&aside, json).map_or_else(|e| e.to_string(), |()| aside.display().to_string());
        tracing::error!(%error, set_aside = kept, "What the engine knew of problems that are no cases yet cannot be read; it was set aside, and each dwells anew.");
        self.db.prepare_cached("DELETE FROM engine_state")?.execute([])?;
        Ok(None)
    }

    /// What the engine must know at start-up: the open cases, and the ended ones that it still reckons with
    /// ([`CaseState::remembered_for`]). In the order of their ids, which is that of their confirmation.
    ///
    /// # Errors
    /// [`StoreError::BadRow`] or what the database says.
    pub fn remembered(&self, now: Timestamp) -> Result<Vec<OpenCase>, StoreError> {
        let mut query = self
            .db
            // What gave way to another box's case is that one's.
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

    /// Runs `work` in a transaction: all of it is committed, or nothing.
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
        run().map_err(|e| in_dir(e, dir))
    }
}

/// A picture of a case, the original that it was made from, and the message that carries it.
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
    // What was made from another picture has no original of its own.
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

/// One revision inside a transaction: record, site, history, and the message where the platform must hear of it. `said` is the
/// platform's word that it comes of, and when that came; `None` where the box decided.
pub(super) fn revise(
    t: &Transaction<'_>,
    revision: &Revision,
    said: Option<(&ReplyMessage, Timestamp)>,
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
    if let Some((reply, _)) = said {
        record.platform_task_no = reply.platform_task_no.clone().or(record.platform_task_no);
    }
    let reason = Some(revision.reason.as_str()).filter(|r| !r.is_empty());
    record.history.push(HistoryEntry {
        revision: record.revision,
        state: revision.state,
        at: revision.at,
        reason: reason.map(Into::into),
    });
    site.question = said.and_then(|(reply, at)| reply.reply(at).question_after(site.state, site.question));
    site.state = revision.state;
    site.at = revision.at.timestamp();
    let is_ours = said.is_none();
    let author = if is_ours { BOX } else { "platform" };
    site.was_reopened |= is_ours && revision.state == CaseState::Reopened;
    let at = micros(revision.at);
    let sealed = chain::seal(t, &record, key, revision.at.timestamp())?;
    t.execute(
        "UPDATE cases SET state = ?2, revision = ?3, updated_at = ?4, site = ?5, record = ?6 WHERE id = ?1",
        params![id, revision.state.as_str(), record.revision, at, json(&site), sealed],
    )?;
    note(t, id, record.revision, author, revision.state, at, reason)?;
    if is_ours && matches!(revision.state, CaseState::Withdrawn | CaseState::Reopened) {
        outbox::add_case(t, id, &form.topics.case(), &form.words(&sealed), at)?;
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

fn note(
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
    serde_json::to_string(value).expect("the contract's types have string keys and finite numbers or null")
}

/// The text of an enum that serialises as a string.
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
