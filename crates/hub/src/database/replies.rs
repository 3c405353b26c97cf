//! Replies to boxes, from their commit until the broker has them.

use std::time::Duration;

use gridwatch_contract::ReplyMessage;
use jiff::Timestamp;
use sqlx::Row;

use super::{Database, Tx, millis};
use crate::HubError;

/// A process that took replies to send them has this long, before another one may: longer than a dead connection goes unnoticed, so that
/// an earlier reply does not overtake a later one.
const LEASE: Duration = Duration::from_secs(120);

/// How long a reply that was sent is kept, for those who look for it.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// A reply to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyRow {
    /// The case.
    pub case_id: String,
    /// Number of the case's event that it tells.
    pub seq: i64,
    /// The box.
    pub node: String,
    /// The message.
    pub payload: String,
}

impl Database {
    /// Takes up to `limit` replies to send, of each case the first that was not sent. They are due again after two minutes, in case this process dies.
    ///
    /// # Errors
    /// The database's.
    pub async fn take_replies(&self, limit: u32, now: Timestamp) -> Result<Vec<ReplyRow>, HubError> {
        // The outer condition is tested again when another process's update of the same rows has ended.
        let rows = sqlx::query(
            "UPDATE replies SET due_at = $1 WHERE sent_at IS NULL AND due_at <= $2 AND (case_id, seq) IN \
             (SELECT case_id, seq FROM replies AS head WHERE sent_at IS NULL AND due_at <= $2 AND NOT EXISTS \
             (SELECT 1 FROM replies AS earlier WHERE earlier.case_id = head.case_id AND earlier.seq < head.seq AND earlier.sent_at IS NULL) \
             ORDER BY due_at, case_id LIMIT $3) \
             RETURNING case_id, seq, node, payload",
        )
        .bind(millis(now + LEASE))
        .bind(millis(now))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        let replies = rows.iter().map(|row| {
            Ok(ReplyRow {
                case_id: row.try_get("case_id")?,
                seq: row.try_get("seq")?,
                node: row.try_get("node")?,
                payload: row.try_get("payload")?,
            })
        });
        Ok(replies.collect::<Result<_, sqlx::Error>>()?)
    }

    /// The broker has a reply.
    ///
    /// # Errors
    /// The database's.
    pub async fn reply_sent(&self, reply: &ReplyRow, at: Timestamp) -> Result<(), HubError> {
        sqlx::query("UPDATE replies SET sent_at = $3 WHERE case_id = $1 AND seq = $2")
            .bind(&reply.case_id)
            .bind(reply.seq)
            .bind(millis(at))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// A reply could not be sent: it is due again at `at`.
    ///
    /// # Errors
    /// The database's.
    pub async fn reply_due(&self, reply: &ReplyRow, at: Timestamp) -> Result<(), HubError> {
        sqlx::query("UPDATE replies SET due_at = $3 WHERE case_id = $1 AND seq = $2 AND sent_at IS NULL")
            .bind(&reply.case_id)
            .bind(reply.seq)
            .bind(millis(at))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Replies that the broker does not have yet.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_unsent_replies(&self) -> Result<u64, HubError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM replies WHERE sent_at IS NULL")
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0))
    }

    /// Deletes replies that were sent a month ago.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_old_replies(&self, now: Timestamp) -> Result<u64, HubError> {
        let deleted = sqlx::query("DELETE FROM replies WHERE sent_at < $1")
            .bind(millis(now - KEPT))
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected())
    }
}

/// Queues the reply that tells a case's event `seq`, in the transaction of that event.
pub(super) async fn queue(
    tx: &mut Tx<'_>,
    node: &str,
    seq: i64,
    reply: &ReplyMessage,
    at: Timestamp,
) -> Result<(), HubError> {
    let payload = serde_json::to_string(reply).map_err(|e| HubError::Damaged {
        what: "a reply".into(),
        reason: e.to_string(),
    })?;
    sqlx::query("INSERT INTO replies (case_id, seq, node, payload, due_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(&reply.case_id)
        .bind(seq)
        .bind(node)
        .bind(payload)
        .bind(millis(at))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
