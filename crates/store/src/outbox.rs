//! The outbox: messages that the broker has not acknowledged.
//!
//! A row is written in the transaction of the change that it reports and is removed only when the broker acknowledges
//! it. It is then kept in the table `sent` for a while, because a broker that crashes can lose messages that it
//! acknowledged but had not delivered; they are sent again. Within a case the order is strict: a case record is sent
//! once no older row of that case is left. Cases do not wait for each other.
//!
//! If the broker rejects a row permanently, all rows of its case are quarantined (a case is not filed without its
//! pictures) until an operator releases them.

use jiff::Timestamp;
use rusqlite::{Row, Transaction, params};
use serde::{Serialize, Serializer};

use super::{Store, StoreError, claims, row};

/// Payload of an outbox row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxKind {
    /// A picture, stored as a file.
    Evidence {
        /// SHA-256 of the file.
        sha256: String,
    },
    /// A case record.
    Case {
        /// The signed JSON, sent as it is.
        json: String,
    },
}

impl OutboxKind {
    /// The value of the metric label.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Evidence { .. } => "evidence",
            Self::Case { .. } => "case",
        }
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow {
    /// Sequence number, in commit order.
    pub seq: i64,
    /// The case that the message belongs to.
    pub case_id: String,
    /// The MQTT topic.
    pub topic: String,
    /// The payload.
    pub kind: OutboxKind,
}

/// An outbox row as shown to an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxEntry {
    /// Sequence number, in commit order.
    pub seq: i64,
    /// The case that the message belongs to.
    pub case_id: String,
    /// The payload; serialized as its kind only.
    #[serde(serialize_with = "kind")]
    pub kind: OutboxKind,
    /// The MQTT topic.
    pub topic: String,
    /// Time of the commit.
    pub queued_at: Timestamp,
    /// The broker accepted it before the case record, but had no matching subscriber.
    pub unheard: bool,
    /// Why it is quarantined; `None` if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

fn kind<S: Serializer>(kind: &OutboxKind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kind.as_str())
}

/// Number of rows in the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Rows to be sent.
    pub waiting: u32,
    /// Quarantined rows.
    pub quarantined: u32,
}

const ENTRIES: &str = "SELECT seq, case_id, topic, sha256, payload, queued_at, unheard, quarantined FROM outbox";

impl OutboxKind {
    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(match row.get("sha256")? {
            Some(sha256) => Self::Evidence { sha256 },
            None => Self::Case {
                json: row.get("payload")?,
            },
        })
    }
}

impl OutboxRow {
    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.get("seq")?,
            case_id: row.get("case_id")?,
            topic: row.get("topic")?,
            kind: OutboxKind::from_row(row)?,
        })
    }
}

impl OutboxEntry {
    fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let OutboxRow {
            seq,
            case_id,
            topic,
            kind,
        } = OutboxRow::from_row(row)?;
        Ok(Self {
            seq,
            queued_at: row::time(row, &case_id, "queued_at")?,
            case_id,
            kind,
            topic,
            unheard: row.get("unheard")?,
            quarantined: row.get("quarantined")?,
        })
    }
}

/// A message to be queued.
pub(super) struct NewMessage<'a> {
    pub(super) case: &'a str,
    /// The MQTT topic.
    pub(super) topic: &'a str,
    pub(super) payload: Payload<'a>,
    pub(super) queued_at: Timestamp,
}

/// Payload of a message to be queued.
pub(super) enum Payload<'a> {
    /// A picture, by its SHA-256.
    Evidence(&'a str),
    /// A case record, as signed JSON.
    Case(&'a str),
}

/// Queues a message. If the case is quarantined, so is the message: a withdrawal must not overtake the case that it
/// withdraws.
pub(super) fn add(t: &Transaction<'_>, message: &NewMessage<'_>) -> Result<(), StoreError> {
    let (kind, sha256, json) = match message.payload {
        Payload::Evidence(sha256) => ("evidence", Some(sha256), None),
        Payload::Case(json) => ("case", None, Some(json)),
    };
    t.execute(
        "INSERT INTO outbox (case_id, kind, topic, sha256, payload, queued_at, quarantined) VALUES (?1, ?2, ?3, ?4, ?5, ?6,
            (SELECT quarantined FROM outbox WHERE case_id = ?1 AND quarantined IS NOT NULL LIMIT 1))",
        params![
            message.case,
            kind,
            message.topic,
            sha256,
            json,
            row::micros(message.queued_at)
        ],
    )?;
    Ok(())
}

/// Removes all messages of `case`.
pub(super) fn clear(t: &Transaction<'_>, case: &str) -> Result<(), StoreError> {
    t.execute("DELETE FROM outbox WHERE case_id = ?1", [case])?;
    Ok(())
}

impl Store {
    /// Counts the rows of the outbox.
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

    /// The newest quarantined row, if no row committed after it has been delivered: what is sent now is rejected, too.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_rejected(&self) -> Result<Option<OutboxEntry>, StoreError> {
        let newest = row::first(
            &self.db,
            &format!("{ENTRIES} WHERE quarantined IS NOT NULL ORDER BY seq DESC LIMIT 1"),
            [],
            OutboxEntry::from_row,
        )?;
        let Some(newest) = newest else { return Ok(None) };
        // A delivered row leaves the outbox, and its number is not given again.
        let is_delivered_since: bool = self.db.query_row(
            "SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'outbox') - ?1 > (SELECT count(*) FROM outbox WHERE seq > ?1)",
            [newest.seq],
            |r| r.get(0),
        )?;
        Ok((!is_delivered_since).then_some(newest))
    }

    /// The oldest `limit` rows that may be sent now.
    pub fn outbox_next(&self, limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        row::all(
            &self.db,
            "SELECT seq, case_id, topic, sha256, payload FROM outbox AS o
             WHERE quarantined IS NULL AND unheard = 0
               AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.case_id = o.case_id AND claims.state = 'wanted')
               AND (kind = 'evidence' OR NOT EXISTS
                    (SELECT 1 FROM outbox AS older WHERE older.case_id = o.case_id AND older.seq < o.seq AND older.unheard = 0))
             ORDER BY seq LIMIT ?1",
            [limit as i64],
            OutboxRow::from_row,
        )
    }

    /// The oldest `limit` rows, or only the quarantined ones if `quarantined` is set.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_entries(&self, quarantined: bool, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        row::all(
            &self.db,
            &format!("{ENTRIES} WHERE quarantined IS NOT NULL OR NOT ?1 ORDER BY seq LIMIT ?2"),
            params![quarantined, limit],
            OutboxEntry::from_row,
        )
    }

    /// The row with that sequence number, if there is one.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_entry(&self, seq: i64) -> Result<Option<OutboxEntry>, StoreError> {
        row::first(
            &self.db,
            &format!("{ENTRIES} WHERE seq = ?1"),
            [seq],
            OutboxEntry::from_row,
        )
    }

    /// The broker acknowledged row `seq`: moves it to `sent`, and with a case record also the pictures that were sent
    /// before it without a subscriber.
    pub fn outbox_acknowledged(&mut self, seq: i64, now: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            let done = "seq = ?1 OR (unheard = 1 AND seq < ?1 AND case_id = (SELECT case_id FROM outbox WHERE seq = ?1 AND kind = 'case'))";
            t.prepare_cached(&format!(
                "INSERT OR REPLACE INTO sent (seq, case_id, kind, topic, sha256, payload, queued_at, acked_at)
                 SELECT seq, case_id, kind, topic, sha256, payload, queued_at, ?2 FROM outbox WHERE {done}"
            ))?
            .execute(params![seq, row::micros(now)])?;
            let filed = row::first(
                t,
                "SELECT case_id FROM outbox WHERE seq = ?1 AND kind = 'case'",
                [seq],
                |row| Ok(row.get::<_, String>("case_id")?),
            )?;
            t.prepare_cached(&format!("DELETE FROM outbox WHERE {done}"))?.execute([seq])?;
            filed.map_or(Ok(()), |case| claims::filed(t, &case))
        })
    }

    /// The broker lost its session state: puts recently acknowledged rows back into the outbox. Returns their number.
    ///
    /// # Errors
    /// A database error.
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

    /// Forgets rows that were acknowledged before `then`; the broker has delivered them by now.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_forget_acknowledged(&mut self, then: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("DELETE FROM sent WHERE acked_at < ?1", [row::micros(then)])?;
            Ok(())
        })
    }

    /// The broker accepted picture `seq` but had no matching subscriber. The case record may be sent, but the picture
    /// stays in the outbox until a subscriber has received that record.
    pub fn outbox_mark_unheard(&mut self, seq: i64) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute(
                "UPDATE outbox SET unheard = 1 WHERE seq = ?1 AND kind = 'evidence'",
                [seq],
            )?;
            Ok(())
        })
    }

    /// Makes unheard pictures due again, after a reconnect or when a case record found no subscriber either.
    pub fn outbox_resend_unheard(&mut self) -> Result<(), StoreError> {
        self.write(|t| {
            t.execute("UPDATE outbox SET unheard = 0 WHERE unheard = 1", [])?;
            Ok(())
        })
    }

    /// Quarantines the whole case of row `seq`, which can never be sent. Returns the number of rows quarantined.
    pub fn outbox_quarantine(&mut self, seq: i64, reason: &str) -> Result<usize, StoreError> {
        self.write(|t| {
            Ok(t.execute(
                "UPDATE outbox SET quarantined = ?2, unheard = 0
                 WHERE case_id = (SELECT case_id FROM outbox WHERE seq = ?1) AND quarantined IS NULL",
                params![seq, reason],
            )?)
        })
    }

    /// Releases the quarantined rows of `case`, or of all cases, once an operator has fixed the cause. Returns their
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
