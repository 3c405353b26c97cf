//! Messages that could not be taken, with the reason and their bytes.

use gridwatch_base::digest::sha256_hex;
use jiff::Timestamp;
use sqlx::{Row, any::AnyRow};
use ulid::Ulid;

use super::{Database, Limits, Tx, millis, time};
use crate::HubError;

/// A message that could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeadLetter {
    /// Its id here.
    pub id: String,
    /// The box of its topic.
    pub node: String,
    /// Its topic.
    pub topic: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Why it was not taken.
    pub reason: String,
    /// When it came first.
    pub first_at: Timestamp,
    /// When it came last.
    pub last_at: Timestamp,
    /// How many times it came.
    pub times: u64,
}

/// A message to be kept as a dead letter.
#[derive(Debug, Clone, Copy)]
pub struct NewDeadLetter<'a> {
    /// The box of its topic.
    pub node: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// Its bytes.
    pub payload: &'a [u8],
    /// Why it is not taken.
    pub reason: &'a str,
}

const COLUMNS: &str = "id, node, topic, LENGTH(payload) AS bytes, reason, first_at, last_at, times";

impl DeadLetter {
    fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        // LENGTH is an INT in PostgreSQL and a BIGINT in SQLite.
        let bytes = row
            .try_get::<i64, _>("bytes")
            .or_else(|_| row.try_get::<i32, _>("bytes").map(i64::from))?;
        Ok(Self {
            id: row.try_get("id")?,
            node: row.try_get("node")?,
            topic: row.try_get("topic")?,
            bytes: u64::try_from(bytes).unwrap_or(0),
            reason: row.try_get("reason")?,
            first_at: time(row.try_get("first_at")?),
            last_at: time(row.try_get("last_at")?),
            times: u64::try_from(row.try_get::<i64, _>("times")?).unwrap_or(0),
        })
    }
}

impl Database {
    /// Keeps a message that could not be taken; one that was kept before is counted. False if the box has too many, and it was not kept.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_dead_letter(&self, letter: NewDeadLetter<'_>, at: Timestamp) -> Result<bool, HubError> {
        let mut tx = self.begin().await?;
        let is_kept = add(&mut tx, self.limits, letter, at).await?;
        tx.commit().await?;
        Ok(is_kept)
    }

    /// The dead letters, the newest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, HubError> {
        let sql = format!("SELECT {COLUMNS} FROM dead_letters ORDER BY last_at DESC, id LIMIT $1");
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(DeadLetter::of).collect::<Result<_, _>>()?)
    }

    /// How many there are.
    ///
    /// # Errors
    /// The database's.
    pub async fn count_dead_letters(&self) -> Result<u64, HubError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM dead_letters")
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(row.try_get::<i64, _>("n")?).unwrap_or(0))
    }

    /// A dead letter with its bytes.
    ///
    /// # Errors
    /// The database's; [`HubError::NotFound`].
    pub async fn dead_letter(&self, id: &str) -> Result<(DeadLetter, Vec<u8>), HubError> {
        let sql = format!("SELECT {COLUMNS}, payload FROM dead_letters WHERE id = $1");
        let row = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .fetch_optional(&self.pool)
            .await?;
        let row = row.ok_or_else(|| {
            HubError::NotFound(format!(
                "no dead letter {id}; list them with `gridwatch-hub dead-letters list`"
            ))
        })?;
        Ok((DeadLetter::of(&row)?, row.try_get("payload")?))
    }

    /// Deletes a dead letter; false if it was gone.
    ///
    /// # Errors
    /// The database's.
    pub async fn delete_dead_letter(&self, id: &str) -> Result<bool, HubError> {
        let deleted = sqlx::query("DELETE FROM dead_letters WHERE id = $1")
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(deleted.rows_affected() == 1)
    }
}

/// Keeps a message in the transaction; see [`Database::add_dead_letter`].
pub(super) async fn add(
    tx: &mut Tx<'_>,
    limits: Limits,
    letter: NewDeadLetter<'_>,
    at: Timestamp,
) -> Result<bool, HubError> {
    let sha256 = sha256_hex(letter.payload);
    let known = sqlx::query(
        "UPDATE dead_letters SET times = times + 1, last_at = $3, reason = $4 WHERE topic = $1 AND sha256 = $2",
    )
    .bind(letter.topic)
    .bind(&sha256)
    .bind(millis(at))
    .bind(letter.reason)
    .execute(&mut **tx)
    .await?;
    if known.rows_affected() > 0 {
        return Ok(true);
    }
    let kept = sqlx::query("SELECT COUNT(*) AS n FROM dead_letters WHERE node = $1")
        .bind(letter.node)
        .fetch_one(&mut **tx)
        .await?;
    if kept.try_get::<i64, _>("n")? >= i64::from(limits.dead_letters) {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO dead_letters (id, node, topic, payload, sha256, reason, first_at, last_at, times) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, 1) ON CONFLICT DO NOTHING",
    )
    .bind(Ulid::generate().to_string())
    .bind(letter.node)
    .bind(letter.topic)
    .bind(letter.payload)
    .bind(sha256)
    .bind(letter.reason)
    .bind(millis(at))
    .execute(&mut **tx)
    .await?;
    Ok(true)
}
