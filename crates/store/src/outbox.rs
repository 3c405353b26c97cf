//! The outbox: messages that the platform may not have.
//!
//! A row is written in the transaction of the change that it reports. If the platform gives no receipts, it is removed when the broker
//! acknowledges it, and kept in the table `sent` for a while, because a broker that crashes can lose messages that it
//! acknowledged but had not delivered; they are sent again. If the platform gives receipts, it stays until then ([`receipts`](super::receipts)).
//! Within a case the order is strict: a case record is sent once no older row of that case is to be sent. Cases do not wait for each other.
//!
//! If the broker rejects a row permanently, all rows of its case are quarantined (a case is not filed without its
//! pictures) until an operator releases them.

use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, params};
use serde::{Serialize, Serializer};

use super::{Store, StoreError, claims, receipts, row, schema};

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
    /// Revision of the case record, or of the one that the picture was added with.
    pub revision: u32,
    /// Time of the commit.
    pub queued_at: Timestamp,
    /// The broker accepted it before the case record, but had no matching subscriber.
    pub unheard: bool,
    /// When the broker last acknowledged it, if it awaits the platform's receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Timestamp>,
    /// How many times the broker acknowledged it.
    pub attempts: u32,
    /// When it is sent again unless its receipt comes before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// The platform says that it does not have this picture.
    pub missing: bool,
    /// Why it is quarantined; `None` if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

fn kind<S: Serializer>(kind: &OutboxKind, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(kind.as_str())
}

impl OutboxEntry {
    /// How far it has come.
    pub fn state(&self) -> OutboxState {
        match self {
            Self {
                quarantined: Some(_), ..
            } => OutboxState::Quarantined,
            Self { missing: true, .. } => OutboxState::Missing,
            Self { sent_at: Some(_), .. } => OutboxState::Sent,
            _ => OutboxState::Queued,
        }
    }
}

/// How far a message has come. One that the platform gave a receipt for is not in the outbox any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxState {
    /// It has not been sent, or the broker has not acknowledged it.
    Queued,
    /// The broker acknowledged it, and the platform has given no receipt.
    Sent,
    /// The platform does not have this picture; it is sent again.
    Missing,
    /// It was rejected, and waits for an operator.
    Quarantined,
}

impl OutboxState {
    /// Every state, in the order of progress.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Sent, Self::Missing, Self::Quarantined];

    /// The value of the metric label and in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Missing => "missing",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Number of rows in the outbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Rows that the broker has not acknowledged.
    pub waiting: u32,
    /// Rows that it acknowledged and for which the platform has given no receipt.
    pub sent: u32,
    /// Pictures that the platform does not have.
    pub missing: u32,
    /// Quarantined rows.
    pub quarantined: u32,
    /// When the oldest row was queued that awaits a receipt.
    pub unreceived_since: Option<Timestamp>,
}

impl OutboxDepth {
    /// Rows that the broker acknowledged and for which the platform has given no receipt, missing pictures among them.
    pub fn awaiting_receipt(&self) -> u64 {
        u64::from(self.sent) + u64::from(self.missing)
    }
}

/// Selects entries. A database that the daemon has not migrated yet, as before its restart after an update, knows no receipts.
fn entries(db: &Connection) -> Result<&'static str, StoreError> {
    Ok(match schema::version(db)? >= schema::WITH_RECEIPTS {
        true => {
            "SELECT seq, case_id, topic, sha256, payload, revision, queued_at, unheard, sent_at, attempts, due_at, missing, quarantined
             FROM outbox"
        }
        false => {
            "SELECT seq, case_id, topic, sha256, payload, 1 AS revision, queued_at, unheard, NULL AS sent_at, 0 AS attempts, NULL AS due_at,
                    0 AS missing, quarantined
             FROM outbox"
        }
    })
}

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
            revision: row.get("revision")?,
            queued_at: row::time(row, &case_id, "queued_at")?,
            sent_at: row::optional_time(row, &case_id, "sent_at")?,
            due_at: row::optional_time(row, &case_id, "due_at")?,
            case_id,
            kind,
            topic,
            unheard: row.get("unheard")?,
            attempts: row.get("attempts")?,
            missing: row.get("missing")?,
            quarantined: row.get("quarantined")?,
        })
    }
}

/// Row `?1`, and with a case record the pictures that were sent before it without a subscriber.
pub(super) const WITH_UNHEARD: &str = "seq = ?1 OR (unheard = 1 AND seq < ?1 AND case_id = (SELECT case_id FROM outbox WHERE seq = ?1 AND kind = 'case'))";

/// A message to be queued.
pub(super) struct NewMessage<'a> {
    pub(super) case: &'a str,
    /// Revision of the case that it belongs to.
    pub(super) revision: u32,
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
        "INSERT INTO outbox (case_id, kind, topic, sha256, payload, queued_at, revision, quarantined) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,
            (SELECT quarantined FROM outbox WHERE case_id = ?1 AND quarantined IS NOT NULL LIMIT 1))",
        params![
            message.case,
            kind,
            message.topic,
            sha256,
            json,
            row::micros(message.queued_at),
            message.revision
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
        let select = match schema::version(&self.db)? >= schema::WITH_RECEIPTS {
            true => {
                "SELECT count(*) FILTER (WHERE quarantined IS NULL AND sent_at IS NULL AND missing = 0),
                    count(*) FILTER (WHERE quarantined IS NULL AND sent_at IS NOT NULL AND missing = 0),
                    count(*) FILTER (WHERE quarantined IS NULL AND missing = 1),
                    count(quarantined),
                    min(queued_at) FILTER (WHERE quarantined IS NULL AND sent_at IS NOT NULL)
             FROM outbox"
            }
            false => "SELECT count(*) FILTER (WHERE quarantined IS NULL), 0, 0, count(quarantined), NULL FROM outbox",
        };
        let mut query = self.db.prepare_cached(select)?;
        Ok(query.query_row([], |r| {
            Ok(OutboxDepth {
                waiting: r.get(0)?,
                sent: r.get(1)?,
                missing: r.get(2)?,
                quarantined: r.get(3)?,
                unreceived_since: r
                    .get::<_, Option<i64>>(4)?
                    .and_then(|at| Timestamp::from_microsecond(at).ok()),
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
            &format!(
                "{} WHERE quarantined IS NOT NULL ORDER BY seq DESC LIMIT 1",
                entries(&self.db)?
            ),
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

    /// The oldest `limit` rows that may be sent at `now`.
    pub fn outbox_next(&self, limit: usize, now: Timestamp) -> Result<Vec<OutboxRow>, StoreError> {
        // Two queries, each with an index: rows that await their receipt may be many, and few of them are due.
        let select = |which: &str| {
            row::all(
                &self.db,
                &format!(
                    "SELECT seq, case_id, topic, sha256, payload FROM outbox AS o
                     WHERE {which} AND quarantined IS NULL AND unheard = 0
                       AND NOT EXISTS (SELECT 1 FROM claims WHERE claims.case_id = o.case_id AND claims.state = 'wanted')
                       AND (kind = 'evidence' OR NOT EXISTS
                            (SELECT 1 FROM outbox AS older WHERE older.case_id = o.case_id AND older.seq < o.seq AND older.unheard = 0
                               AND (older.sent_at IS NULL OR older.due_at <= ?2 OR older.due_at > ?3)))
                     ORDER BY seq LIMIT ?1"
                ),
                params![limit as i64, row::micros(now), row::micros(self.resend_delays.latest_due(now))],
                OutboxRow::from_row,
            )
        };
        let mut rows: Vec<OutboxRow> = select("sent_at IS NULL")?;
        rows.extend(select("sent_at IS NOT NULL AND (due_at <= ?2 OR due_at > ?3)")?);
        rows.sort_by_key(|row| row.seq);
        rows.truncate(limit);
        Ok(rows)
    }

    /// The oldest `limit` rows, or only the quarantined ones if `quarantined` is set.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_entries(&self, quarantined: bool, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        row::all(
            &self.db,
            &format!(
                "{} WHERE quarantined IS NOT NULL OR NOT ?1 ORDER BY seq LIMIT ?2",
                entries(&self.db)?
            ),
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
            &format!("{} WHERE seq = ?1", entries(&self.db)?),
            [seq],
            OutboxEntry::from_row,
        )
    }

    /// The broker acknowledged row `seq`: moves it to `sent`, and with a case record also the pictures that were sent
    /// before it without a subscriber.
    pub fn outbox_acknowledged(&mut self, seq: i64, now: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            t.prepare_cached(&format!(
                "INSERT OR REPLACE INTO sent (seq, case_id, kind, topic, sha256, payload, queued_at, revision, acked_at)
                 SELECT seq, case_id, kind, topic, sha256, payload, queued_at, revision, ?2 FROM outbox WHERE {WITH_UNHEARD}"
            ))?
            .execute(params![seq, row::micros(now)])?;
            let filed = row::first(
                t,
                "SELECT case_id FROM outbox WHERE seq = ?1 AND kind = 'case'",
                [seq],
                |row| Ok(row.get::<_, String>("case_id")?),
            )?;
            t.prepare_cached(&format!("DELETE FROM outbox WHERE {WITH_UNHEARD}"))?
                .execute([seq])?;
            filed.map_or(Ok(()), |case| claims::filed(t, &case))
        })
    }

    /// The broker lost its session state: puts recently acknowledged rows back into the outbox, and makes the records due that await
    /// their receipt. Returns the number of both.
    ///
    /// # Errors
    /// A database error.
    pub fn outbox_resend_acknowledged(&mut self, now: Timestamp) -> Result<usize, StoreError> {
        self.write(|t| {
            let again = t.execute(
                "INSERT OR IGNORE INTO outbox (seq, case_id, kind, topic, sha256, payload, queued_at, revision)
                 SELECT seq, case_id, kind, topic, sha256, payload, queued_at, revision FROM sent",
                [],
            )?;
            t.execute("DELETE FROM sent", [])?;
            Ok(again + receipts::make_due(t, now)?)
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
