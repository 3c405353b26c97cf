//! Messages that could not be taken, with the reason and their bytes.

use gridwatch_base::digest::sha256_hex;
use jiff::Timestamp;
use sqlx::{Row, any::AnyRow};
use ulid::Ulid;

use super::{Database, Tx, millis, time};
use crate::HubError;

/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 500;

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

const COLUMNS: &str = "id, node, topic, bytes, reason, first_at, last_at, times";

impl DeadLetter {
    fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            node: row.try_get("node")?,
            topic: row.try_get("topic")?,
            bytes: u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or(0),
            reason: row.try_get("reason")?,
            first_at: time(row.try_get("first_at")?),
            last_at: time(row.try_get("last_at")?),
            times: u64::try_from(row.try_get::<i64, _>("times")?).unwrap_or(0),
        })
    }
}

impl Database {
    /// Keeps a message that could not be taken; one that was kept before is counted. False if there are too many, and it was not kept.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_dead_letter(&self, letter: NewDeadLetter<'_>, at: Timestamp) -> Result<bool, HubError> {
        let mut tx = self.begin().await?;
        let sha256 = sha256_hex(letter.payload);
        // Parts of it are the sender's.
        let reason: String = letter.reason.chars().filter(|c| *c != '\0').take(MAX_REASON).collect();
        let known = sqlx::query(
            "UPDATE dead_letters SET times = times + 1, last_at = $3, reason = $4 WHERE topic = $1 AND sha256 = $2",
        )
        .bind(letter.topic)
        .bind(&sha256)
        .bind(millis(at))
        .bind(&reason)
        .execute(&mut *tx)
        .await?;
        if known.rows_affected() == 0 {
            let bytes = letter.payload.len() as u64;
            let (count, sum) = filled(&mut tx, letter.node).await?;
            if count >= u64::from(self.limits.dead_letters) || sum + bytes > self.limits.dead_letter_bytes {
                return Ok(false);
            }
            sqlx::query(
                "INSERT INTO dead_letters (id, node, topic, payload, bytes, sha256, reason, first_at, last_at, times) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, 1) ON CONFLICT DO NOTHING",
            )
            .bind(Ulid::generate().to_string())
            .bind(letter.node)
            .bind(letter.topic)
            .bind(letter.payload)
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(sha256)
            .bind(&reason)
            .bind(millis(at))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// The ids of a box's dead letters, the oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn dead_letters_of(&self, node: &str) -> Result<Vec<String>, HubError> {
        let rows = sqlx::query("SELECT id FROM dead_letters WHERE node = $1 ORDER BY first_at, id")
            .bind(node)
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?)
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

/// Number and bytes of the dead letters that share a limit with those of `node`.
async fn filled(tx: &mut Tx<'_>, node: &str) -> Result<(u64, u64), HubError> {
    let is_confirmed = sqlx::query("SELECT 1 FROM box_keys WHERE node = $1 AND confirmed_at IS NOT NULL")
        .bind(node)
        .fetch_optional(&mut **tx)
        .await?
        .is_some();
    // A sender without a key can be any number of boxes.
    let sql = match is_confirmed {
        true => {
            "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM dead_letters WHERE node = $1"
        }
        false => {
            "SELECT COUNT(*) AS n, CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM dead_letters \
             WHERE node NOT IN (SELECT node FROM box_keys WHERE confirmed_at IS NOT NULL) OR node = $1"
        }
    };
    let row = sqlx::query(sql).bind(node).fetch_one(&mut **tx).await?;
    let count = |column| row.try_get::<i64, _>(column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok((count("n")?, count("bytes")?))
}
