//! The outbox: messages that the broker has not acknowledged.
//!
//! A row is written in the transaction of what it tells, and leaves only on the broker's word. For a while it is kept beside (`sent`): a
//! broker that dies may forget what it had acknowledged and not yet passed on, and then it is sent again. Within a case the order
//! is strict: a case message may go once nothing older about that case is left. Cases do not wait for each other.
//!
//! A row that the broker refuses for good is quarantined with all other rows of its case (a case is not filed without
//! its pictures) and stays there until an operator releases it.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Serialize, Serializer};

use super::{Store, StoreError, claims};

/// What a row carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxKind {
    /// A picture, by its hash.
    Evidence {
        /// Which file.
        sha256: String,
    },
    /// A case record, as JSON.
    Case {
        /// Ready to be sent.
        json: String,
    },
}

impl OutboxKind {
    /// The metric label's value.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Evidence { .. } => "evidence",
            Self::Case { .. } => "case",
        }
    }
}

/// One message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its number, in the order of committing.
    pub seq: i64,
    /// The case it belongs to.
    pub case_id: String,
    /// Where it goes.
    pub topic: String,
    /// What it is.
    pub kind: OutboxKind,
}

/// One message, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxEntry {
    /// Its number, in the order of committing.
    pub seq: i64,
    /// The case it belongs to.
    pub case_id: String,
    /// What it is.
    #[serde(serialize_with = "kind")]
    pub kind: OutboxKind,
    /// Where it goes.
    pub topic: String,
    /// When it was committed.
    pub queued_at: Timestamp,
    /// It was sent ahead of its case, and nobody listened.
    pub unheard: bool,
    /// Why it waits for an operator, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

fn kind<S: Serializer>(kind: &OutboxKind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kind.as_str())
}

/// How full the outbox is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Rows that wait for the broker.
    pub waiting: u32,
    /// Rows that wait for an operator.
    pub quarantined: u32,
}

const ENTRIES: &str = "SELECT seq, case_id, topic, sha256, payload, queued_at, unheard, quarantined FROM outbox";

fn entry(row: &Row<'_>) -> rusqlite::Result<OutboxEntry> {
    let sha256: Option<String> = row.get(3)?;
    Ok(OutboxEntry {
        seq: row.get(0)?,
        case_id: row.get(1)?,
        topic: row.get(2)?,
        kind: match sha256 {
            Some(sha256) => OutboxKind::Evidence { sha256 },
            None => OutboxKind::Case { json: row.get(4)? },
        },
        // Written from a moment: within its range.
        queued_at: Timestamp::from_microsecond(row.get(5)?).unwrap_or_default(),
        unheard: row.get(6)?,
        quarantined: row.get(7)?,
    })
}

pub(super) fn add_evidence(
    t: &Transaction<'_>,
    case: &str,
    topic: &str,
    sha256: &str,
    at: i64,
) -> Result<(), StoreError> {
    add(t, case, "evidence", topic, Some(sha256), None, at)
}

pub(super) fn add_case(t: &Transaction<'_>, case: &str, topic: &str, json: &str, at: i64) -> Result<(), StoreError> {
    add(t, case, "case", topic, None, Some(json), at)
}

/// Nothing of `case` is sent.
pub(super) fn clear(t: &Transaction<'_>, case: &str) -> Result<(), StoreError> {
    t.execute("DELETE FROM outbox WHERE case_id = ?1", [case])?;
    Ok(())
}

/// A row of a quarantined case joins its quarantine: a withdrawal must not overtake the case it withdraws.
fn add(
    t: &Transaction<'_>,
    case: &str,
    kind: &str,
    topic: &str,
    sha256: Option<&str>,
    payload: Option<&str>,
    at: i64,
) -> Result<(), StoreError> {
    t.execute(
        "INSERT INTO outbox (case_id, kind, topic, sha256, payload, queued_at, quarantined) VALUES (?1, ?2, ?3, ?4, ?5, ?6,
            (SELECT quarantined FROM outbox WHERE case_id = ?1 AND quarantined IS NOT NULL LIMIT 1))",
        params![case, kind, topic, sha256, payload, at],
    )?;
    Ok(())
}

impl Store {
    /// How full the outbox is.
    pub fn outbox_depth(&self) -> Result<OutboxDepth, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT count(*) FILTER (WHERE quarantined IS NULL), count(quarantined) FROM outbox")?;
        Ok(query.query_row([], |r| {
            Ok(OutboxDepth {
                waiting: r.get(0)?,
                quarantined: r.get(1)?,
            })
        })?)
    }

    /// The oldest `limit` rows that may be sent now.
    pub fn outbox_next(&self, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT seq, case_id, topic, sha256, payload FROM outbox AS o
             WHERE quarantined IS NULL AND unheard = 0
               AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.case_id = o.case_id AND claims.state = 'wanted')
               AND (kind = 'evidence' OR NOT EXISTS
                    (SELECT 1 FROM outbox AS older WHERE older.case_id = o.case_id AND older.seq < o.seq AND older.unheard = 0))
             ORDER BY seq LIMIT ?1",
        )?;
        let rows = query.query_map([limit as i64], |r| {
            let sha256: Option<String> = r.get(3)?;
            let kind = match sha256 {
                Some(sha256) => OutboxKind::Evidence { sha256 },
                None => OutboxKind::Case { json: r.get(4)? },
            };
            Ok(OutboxRow {
                seq: r.get(0)?,
                case_id: r.get(1)?,
                topic: r.get(2)?,
                kind,
            })
        })?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// The oldest `limit` messages; those alone that wait for an operator, where `quarantined` says so.
    ///
    /// # Errors
    /// What the database says.
    pub fn outbox_entries(&self, quarantined: bool, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut query = self.db.prepare_cached(&format!(
            "{ENTRIES} WHERE quarantined IS NOT NULL OR NOT ?1 ORDER BY seq LIMIT ?2"
        ))?;
        let rows = query.query_map(params![quarantined, limit], entry)?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// The message with that number; `None` where there is none.
    ///
    /// # Errors
    /// What the database says.
    pub fn outbox_entry(&self, seq: i64) -> Result<Option<OutboxEntry>, StoreError> {
        let mut query = self.db.prepare_cached(&format!("{ENTRIES} WHERE seq = ?1"))?;
        Ok(query.query_row([seq], entry).optional()?)
    }

    /// The broker took row `seq`: it leaves, and with a case message what was sent ahead of it unheard.
    pub fn outbox_acknowledged(&mut self, seq: i64, now: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            let done = "seq = ?1 OR (unheard = 1 AND seq < ?1 AND case_id = (SELECT case_id FROM outbox WHERE seq = ?1 AND kind = 'case'))";
            t.prepare_cached(&format!(
                "INSERT OR REPLACE INTO sent (seq, case_id, kind, topic, sha256, payload, queued_at, acked_at)
                 SELECT seq, case_id, kind, topic, sha256, payload, queued_at, ?2 FROM outbox WHERE {done}"
            ))?
            .execute(params![seq, now.as_microsecond()])?;
            let case: Option<String> = t
                .prepare_cached("SELECT case_id FROM outbox WHERE seq = ?1 AND kind = 'case'")?
                .query_row([seq], |r| r.get(0))
                .optional()?;
            t.prepare_cached(&format!("DELETE FROM outbox WHERE {done}"))?.execute([seq])?;
            case.map_or(Ok(()), |case| claims::filed(t, &case))
        })
    }

    /// The broker has lost its memory: what it acknowledged lately is to be sent again. Gives the number of rows.
    ///
    /// # Errors
    /// What the database says.
    pub fn outbox_resend_acknowledged(&mut self) -> Result<usize, StoreError> {
        self.write(|t| {
            let again = t.execute(
                "INSERT OR IGNORE INTO outbox (seq, case_id, kind, topic, sha256, payload, queued_at)
                 SELECT seq, case_id, kind, topic, sha256, payload, queued_at FROM sent",
                [],
            )?;
            t.execute("DELETE FROM sent", [])?;
            Ok(again)
        })
    }

    /// What the broker acknowledged before `then` has long been passed on.
    ///
    /// # Errors
    /// What the database says.
    pub fn outbox_forget_acknowledged(&mut self, then: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("DELETE FROM sent WHERE acked_at < ?1", [then.as_microsecond()])?;
            Ok(())
        })
    }

    /// The broker took picture `seq` and had nobody to give it to. The case it belongs to may go, but the row stays
    /// until that case was heard.
    pub fn outbox_mark_unheard(&mut self, seq: i64) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "UPDATE outbox SET unheard = 1 WHERE seq = ?1 AND kind = 'evidence'",
                [seq],
            )?;
            Ok(())
        })
    }

    /// Everything that was sent unheard is to be sent again: a new connection, or a case that nobody heard.
    pub fn outbox_resend_unheard(&mut self) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("UPDATE outbox SET unheard = 0 WHERE unheard = 1", [])?;
            Ok(())
        })
    }

    /// Row `seq` can never be sent: its whole case waits for an operator. Gives the number of rows that wait now.
    pub fn outbox_quarantine(&mut self, seq: i64, reason: &str) -> Result<usize, StoreError> {
        self.write(|t| {
            Ok(t.execute(
                "UPDATE outbox SET quarantined = ?2, unheard = 0
                 WHERE case_id = (SELECT case_id FROM outbox WHERE seq = ?1) AND quarantined IS NULL",
                params![seq, reason],
            )?)
        })
    }

    /// An operator has removed the cause: the quarantined rows of `case`, or of all cases, are sent again. Gives their
    /// number.
    pub fn outbox_release(&mut self, case: Option<&str>) -> Result<usize, StoreError> {
        let released = self.write(|t| {
            Ok(t.execute(
                "UPDATE outbox SET quarantined = NULL WHERE quarantined IS NOT NULL AND (?1 IS NULL OR case_id = ?1)",
                params![case],
            )?)
        })?;
        self.outbox_notify.notify_one();
        Ok(released)
    }
}
