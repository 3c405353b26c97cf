//! Receipts of the platform: what it has, beyond what the broker acknowledged.
//!
//! If the platform gives receipts, a message that the broker acknowledged stays in the outbox. A receipt names a revision of a case and the
//! pictures that the platform does not have. With none missing, all messages up to that revision leave the outbox; the missing ones are sent
//! again, and then the record once more, so that another receipt follows. A record without a receipt is sent again after two minutes, then
//! less and less often; its pictures are not, because the receipt says which are needed. Receipts may come late, twice and in any order.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Transaction, params};
use tracing::error;

use super::{
    Store, StoreError, cases, claims, evidence_file,
    outbox::{self, WITH_UNHEARD},
    row,
};
use gridwatch_contract::{Form, PlatformMessage, ReceiptMessage};
use gridwatch_engine::CaseState;

/// Key of the table `meta`: the platform's newest announcement.
const PLATFORM: &str = "platform";

/// After what time a record without a receipt is sent again. Both are positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResendDelays {
    /// After the first time that the broker acknowledged it; the next delay is four times as long, and so on.
    pub first: SignedDuration,
    /// The longest delay.
    pub longest: SignedDuration,
}

impl Default for ResendDelays {
    /// 2 min, 8 min, half an hour, 2 h, 8.5 h, then a day each.
    fn default() -> Self {
        Self {
            first: SignedDuration::from_mins(2),
            longest: SignedDuration::from_hours(24),
        }
    }
}

impl ResendDelays {
    /// When the next attempt is due, after `attempts` of them, the last one at `now`.
    fn due(self, attempts: u32, now: Timestamp) -> Timestamp {
        let factor = 4_i32.saturating_pow(attempts.saturating_sub(1));
        let delay = self.first.checked_mul(factor).unwrap_or(self.longest);
        after(now, delay.min(self.longest))
    }

    /// The latest time at which anything is due. What is due later was sent before the clock was set back, and is due now.
    pub(super) fn latest_due(self, now: Timestamp) -> Timestamp {
        after(now, self.longest)
    }
}

/// What a receipt changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptOutcome {
    /// The platform has this revision and all its pictures; `messages` left the outbox.
    Received {
        /// How many; 0 for a repeated receipt, and for one of a record that the broker has not acknowledged.
        messages: usize,
    },
    /// Pictures are sent again.
    Missing {
        /// How many.
        pictures: usize,
    },
    /// This box has no such case.
    UnknownCase,
    /// This box has no such revision yet: it was set back, or the receipt is wrong.
    UnknownRevision {
        /// The newest revision here.
        newest: u32,
    },
}

/// What an operator had sent again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resent {
    /// Cases.
    pub cases: usize,
    /// Their pictures.
    pub pictures: usize,
    /// Pictures that are not kept any more.
    pub gone: usize,
}

impl Store {
    /// What the platform announced last; `None` before the first announcement.
    ///
    /// # Errors
    /// A database error.
    pub fn platform(&self) -> Result<Option<PlatformMessage>, StoreError> {
        // An announcement that an earlier version wrote, and this one cannot read, is made again at the next connection.
        Ok(self.meta(PLATFORM)?.and_then(|json| serde_json::from_str(&json).ok()))
    }

    /// Remembers what the platform announced.
    ///
    /// # Errors
    /// A database error.
    pub fn set_platform(&mut self, message: &PlatformMessage) -> Result<(), StoreError> {
        self.set_meta(PLATFORM, &row::to_json(message))
    }

    /// Changes after what time this handle, and those made from it, have a record sent again without a receipt.
    pub fn set_resend_delays(&mut self, delays: ResendDelays) {
        self.resend_delays = delays;
    }

    /// The broker acknowledged row `seq`, and with a case record also the pictures that were sent before it without a subscriber: they
    /// stay until the platform's receipt, and the record is due again after a while.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_sent(&mut self, seq: i64, now: Timestamp) -> Result<(), StoreError> {
        let delays = self.resend_delays;
        self.write(|t| {
            let found = row::first(t, "SELECT kind, attempts FROM outbox WHERE seq = ?1", [seq], |row| {
                Ok((row.get::<_, String>("kind")?, row.get::<_, u32>("attempts")?))
            })?;
            // Its receipt came first, or it was queued anew.
            let Some((kind, attempts)) = found else { return Ok(()) };
            t.prepare_cached(&format!(
                "UPDATE outbox SET sent_at = ?2, attempts = attempts + 1, unheard = 0, missing = 0, due_at = NULL WHERE {WITH_UNHEARD}"
            ))?
            .execute(params![seq, row::micros(now)])?;
            if kind == "case" {
                t.prepare_cached("UPDATE outbox SET due_at = ?2 WHERE seq = ?1")?
                    .execute(params![seq, row::micros(delays.due(attempts + 1, now))])?;
            }
            Ok(())
        })
    }

    /// Records a receipt of the platform. `form` is how a record is queued whose pictures are missing and which has left the outbox already.
    ///
    /// # Errors
    /// A database error; nothing is changed then.
    pub fn record_receipt(
        &mut self,
        receipt: &ReceiptMessage,
        form: &Form,
        now: Timestamp,
    ) -> Result<ReceiptOutcome, StoreError> {
        let (dir, delays) = (self.dir().to_owned(), self.resend_delays);
        let outcome = self.write(|t| {
            let case = receipt.case_id.as_str();
            let newest = row::first(t, "SELECT revision FROM cases WHERE id = ?1", [case], |row| {
                Ok(row.get::<_, u32>("revision")?)
            })?;
            let Some(newest) = newest else {
                return Ok(ReceiptOutcome::UnknownCase);
            };
            if receipt.revision > newest {
                return Ok(ReceiptOutcome::UnknownRevision { newest });
            }
            let mut missing = Vec::new();
            for sha256 in &receipt.missing {
                let is_ours = t
                    .prepare_cached("SELECT 1 FROM evidence WHERE case_id = ?1 AND sha256 = ?2")?
                    .exists([case, sha256])?;
                match evidence_file::path(&dir, sha256).is_file() {
                    true if is_ours => missing.push(sha256.as_str()),
                    // It will never come; the platform has the rest.
                    false if is_ours => error!(
                        case,
                        sha256, "The platform lacks a picture that this box does not keep any more"
                    ),
                    _ => {}
                }
            }
            match missing.is_empty() {
                true => received(t, receipt, now).map(|messages| ReceiptOutcome::Received { messages }),
                false => {
                    resend_missing(t, receipt, &missing, (form, delays), now)?;
                    Ok(ReceiptOutcome::Missing {
                        pictures: missing.len(),
                    })
                }
            }
        })?;
        self.outbox_notify().notify_one();
        Ok(outcome)
    }

    /// The platform gives no receipts any more: what the broker acknowledged is taken as delivered. Returns the number of messages.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_settle_sent(&mut self) -> Result<usize, StoreError> {
        self.write(|t| {
            let cases = row::texts(
                t,
                "SELECT DISTINCT case_id FROM outbox WHERE kind = 'case' AND sent_at IS NOT NULL AND quarantined IS NULL",
                [],
            )?;
            for case in &cases {
                claims::filed(t, case)?;
            }
            Ok(t.execute(
                "DELETE FROM outbox WHERE sent_at IS NOT NULL AND missing = 0 AND quarantined IS NULL",
                [],
            )?)
        })
    }

    /// The platform was restarted, and may have lost what it had not committed: makes the records due that await their receipt. Returns
    /// their number.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_make_due(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(|t| make_due(t, now))
    }

    /// Queues cases again, with their pictures, as for a platform that was restored from a backup of `since`: those that changed at or
    /// after it, those whose receipt came at or after it, however old they are, and those that await one. Cases that wait for their
    /// claim, were never sent because another box has filed them, or are quarantined stay as they are.
    ///
    /// # Errors
    /// A database error; the cases before are queued then.
    pub fn outbox_resend(&mut self, since: Timestamp, form: &Form, now: Timestamp) -> Result<Resent, StoreError> {
        let dir = self.dir().to_owned();
        let cases = row::texts(
            &self.db,
            "SELECT id FROM cases AS c
             WHERE (updated_at >= ?1 OR received_at >= ?1 OR EXISTS (SELECT 1 FROM outbox WHERE case_id = c.id AND sent_at IS NOT NULL))
               AND NOT EXISTS (SELECT 1 FROM claims WHERE case_id = c.id AND claims.state = 'wanted')
               AND NOT EXISTS (SELECT 1 FROM outbox WHERE case_id = c.id AND quarantined IS NOT NULL)
               AND NOT (state = ?2 AND EXISTS
                    (SELECT 1 FROM case_history WHERE case_id = c.id AND author = 'box' AND state = ?2))
             ORDER BY id",
            params![row::micros(since), CaseState::DuplicateOf.as_str()],
        )?;
        let mut resent = Resent::default();
        for case in cases {
            let (pictures, gone) = self.write(|t| {
                outbox::clear(t, &case)?;
                let found = row::first(t, "SELECT revision, record FROM cases WHERE id = ?1", [&case], |row| {
                    Ok((row.get::<_, u32>("revision")?, row.get::<_, String>("record")?))
                })?;
                let Some((revision, record)) = found else {
                    return Ok((0, 0));
                };
                let all = row::texts(t, "SELECT DISTINCT sha256 FROM evidence WHERE case_id = ?1", [&case])?;
                let (kept, gone): (Vec<_>, Vec<_>) = all
                    .iter()
                    .partition(|sha256| evidence_file::path(&dir, sha256).is_file());
                for sha256 in &kept {
                    cases::queue_picture(t, (&case, revision), sha256, form, now)?;
                }
                cases::queue_record(t, (&case, revision), &record, form, now)?;
                t.execute(
                    "UPDATE cases SET received_revision = NULL, received_at = NULL WHERE id = ?1",
                    [&case],
                )?;
                Ok((kept.len(), gone.len()))
            })?;
            resent.cases += 1;
            resent.pictures += pictures;
            resent.gone += gone;
        }
        self.outbox_notify().notify_one();
        Ok(resent)
    }
}

fn after(now: Timestamp, delay: SignedDuration) -> Timestamp {
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// Makes the records due that await their receipt.
pub(super) fn make_due(t: &Transaction<'_>, now: Timestamp) -> Result<usize, StoreError> {
    Ok(t.execute(
        "UPDATE outbox SET due_at = ?1 WHERE kind = 'case' AND sent_at IS NOT NULL AND quarantined IS NULL AND (due_at IS NULL OR due_at > ?1)",
        [row::micros(now)],
    )?)
}

/// The platform has everything up to a revision. Returns the number of messages that left the outbox.
///
/// Nothing changes while the broker has not acknowledged the record since it was queued: the receipt may be of before
/// [`Store::outbox_resend`], such as one that the broker kept while the box was offline, about a case that the platform has lost since.
fn received(t: &Transaction<'_>, receipt: &ReceiptMessage, now: Timestamp) -> Result<usize, StoreError> {
    let up_to = params![receipt.case_id, receipt.revision];
    let is_to_be_sent = t
        .prepare_cached(
            "SELECT 1 FROM outbox WHERE case_id = ?1 AND revision <= ?2 AND kind = 'case' AND sent_at IS NULL AND quarantined IS NULL",
        )?
        .exists(up_to)?;
    if is_to_be_sent {
        return Ok(0);
    }
    let messages = t.execute("DELETE FROM outbox WHERE case_id = ?1 AND revision <= ?2", up_to)?;
    // A repeated receipt changes nothing, but one for what was sent again says that the platform has it now.
    t.execute(
        "UPDATE cases SET received_revision = max(coalesce(received_revision, 0), ?2), received_at = ?3
         WHERE id = ?1 AND (received_revision IS NULL OR received_revision < ?2 OR ?4)",
        params![receipt.case_id, receipt.revision, row::micros(now), messages > 0],
    )?;
    claims::filed(t, &receipt.case_id)?;
    Ok(messages)
}

/// Has missing pictures sent again, and then the newest record, so that another receipt follows.
fn resend_missing(
    t: &Transaction<'_>,
    receipt: &ReceiptMessage,
    missing: &[&str],
    (form, delays): (&Form, ResendDelays),
    now: Timestamp,
) -> Result<(), StoreError> {
    let (case, revision) = (receipt.case_id.as_str(), receipt.revision);
    // The others have arrived.
    let others = row::all(
        t,
        "SELECT seq, sha256 FROM outbox WHERE case_id = ?1 AND kind = 'evidence' AND revision <= ?2 AND sent_at IS NOT NULL",
        params![case, revision],
        |row| Ok((row.get::<_, i64>("seq")?, row.get::<_, String>("sha256")?)),
    )?;
    let (mut due, mut is_behind) = (now, false);
    for (seq, sha256) in &others {
        if !missing.contains(&sha256.as_str()) {
            t.execute("DELETE FROM outbox WHERE seq = ?1", [seq])?;
        }
    }
    for sha256 in missing {
        let queued = row::first(
            t,
            "SELECT attempts FROM outbox WHERE case_id = ?1 AND sha256 = ?2 ORDER BY seq LIMIT 1",
            [case, sha256],
            |row| Ok(row.get::<_, u32>("attempts")?),
        )?;
        match queued {
            // The first time at once; a platform that keeps asking waits as for a receipt.
            Some(attempts) if attempts > 1 => due = due.max(delays.due(attempts - 1, now)),
            Some(_) => {}
            None => {
                cases::queue_picture(t, (case, revision), sha256, form, now)?;
                is_behind = true;
            }
        }
    }
    for sha256 in missing {
        t.execute(
            "UPDATE outbox SET missing = 1, due_at = ?3 WHERE case_id = ?1 AND sha256 = ?2 AND sent_at IS NOT NULL",
            params![case, sha256, row::micros(due)],
        )?;
    }
    if is_behind {
        // The record goes behind its pictures.
        t.execute(
            "DELETE FROM outbox WHERE case_id = ?1 AND kind = 'case' AND sent_at IS NOT NULL",
            [case],
        )?;
    }
    // A later revision than the receipt's gets one of its own.
    let is_queued = t
        .prepare_cached("SELECT 1 FROM outbox WHERE case_id = ?1 AND kind = 'case'")?
        .exists([case])?;
    if !is_queued {
        let newest = row::first(t, "SELECT revision, record FROM cases WHERE id = ?1", [case], |row| {
            Ok((row.get::<_, u32>("revision")?, row.get::<_, String>("record")?))
        })?;
        if let Some((revision, record)) = newest {
            cases::queue_record(t, (case, revision), &record, form, now)?;
        }
    }
    t.execute(
        "UPDATE outbox SET due_at = ?2 WHERE case_id = ?1 AND kind = 'case' AND sent_at IS NOT NULL",
        params![case, row::micros(due)],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_once_a_day() {
        let (now, delays) = (Timestamp::UNIX_EPOCH, ResendDelays::default());
        let minutes: Vec<i64> = (1..=8)
            .map(|attempts| delays.due(attempts, now).as_second() / 60)
            .collect();
        assert_eq!(minutes, [2, 8, 32, 128, 512, 1440, 1440, 1440]);
        assert_eq!(delays.due(u32::MAX, now), delays.latest_due(now));
    }
}
