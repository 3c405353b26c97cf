//! Boxes, their keys, and what they last said of themselves.

use gridwatch_contract::{Presence, StatusMessage};
use gridwatch_custody::PublicKey;
use jiff::Timestamp;
use sqlx::{Row, any::AnyRow};

use super::{Database, Tx, millis, time};
use crate::HubError;

/// Maximum number of unconfirmed keys of one box. Any client that can publish to its status topic can announce keys.
const MAX_PENDING_KEYS: i64 = 8;

/// A box.
#[derive(Debug, Clone, serde::Serialize)]
pub struct BoxRow {
    /// Its id.
    pub node: String,
    /// When it was first heard of.
    pub first_seen_at: Timestamp,
    /// Whether it is connected, as it or its last will said; absent if nothing was heard.
    pub presence: Option<String>,
    /// Since when.
    pub presence_at: Option<Timestamp>,
    /// Version of gridwatch.
    pub version: Option<String>,
    /// When the newest health message came.
    pub health_at: Option<Timestamp>,
    /// When the newest case came.
    pub last_case_at: Option<Timestamp>,
    /// Its cases.
    pub cases: u64,
    /// Its dead letters.
    pub dead_letters: u64,
    /// Its keys, the oldest first.
    pub keys: Vec<BoxKey>,
}

/// A key that a box announced.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BoxKey {
    /// The key, as `gridwatch keys show` prints it.
    pub public_key: String,
    /// When it was first announced.
    pub announced_at: Timestamp,
    /// When it was confirmed; absent before.
    pub confirmed_at: Option<Timestamp>,
    /// Who confirmed it.
    pub confirmed_by: Option<String>,
}

impl BoxKey {
    /// The key, if it is one that this version knows.
    pub fn key(&self) -> Option<PublicKey> {
        self.public_key.parse().ok()
    }

    fn of(row: &AnyRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            public_key: row.try_get("public_key")?,
            announced_at: time(row.try_get("announced_at")?),
            confirmed_at: row.try_get::<Option<i64>, _>("confirmed_at")?.map(time),
            confirmed_by: row.try_get("confirmed_by")?,
        })
    }
}

impl Database {
    /// Records a box's status, and the key that it announces; false if there are too many boxes without a confirmed key.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_status(&self, status: &StatusMessage, at: Timestamp) -> Result<bool, HubError> {
        let mut tx = self.begin().await?;
        if !self.admit_box(&mut tx, &status.node_id, at).await? {
            return Ok(false);
        }
        let presence = match status.state {
            Presence::Online => "online",
            Presence::Offline => "offline",
        };
        let since = status.since.map_or(at, |since| since.timestamp());
        sqlx::query(
            "UPDATE boxes SET presence = $2, presence_at = $3, version = $4, installation = COALESCE($5, installation) WHERE node = $1",
        )
        .bind(&status.node_id)
        .bind(presence)
        .bind(millis(since))
        .bind(&status.version)
        .bind(status.installation.as_deref())
        .execute(&mut *tx)
        .await?;
        if let Some(key) = &status.public_key
            && let Ok(key) = key.parse::<PublicKey>()
        {
            sqlx::query(
                "INSERT INTO box_keys (node, public_key, announced_at) SELECT $1, $2, $3 \
                 WHERE (SELECT COUNT(*) FROM box_keys WHERE node = $1 AND confirmed_at IS NULL) < $4 ON CONFLICT DO NOTHING",
            )
            .bind(&status.node_id)
            .bind(key.to_string())
            .bind(millis(at))
            .bind(MAX_PENDING_KEYS)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Records a box's newest health message, as received; false if there are too many boxes without a confirmed key.
    ///
    /// # Errors
    /// The database's.
    pub async fn record_health(&self, node: &str, health: &str, at: Timestamp) -> Result<bool, HubError> {
        let mut tx = self.begin().await?;
        if !self.admit_box(&mut tx, node, at).await? {
            return Ok(false);
        }
        sqlx::query("UPDATE boxes SET health = $2, health_at = $3 WHERE node = $1")
            .bind(node)
            .bind(health)
            .bind(millis(at))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Confirms a key, which need not have been announced.
    ///
    /// # Errors
    /// The database's.
    pub async fn confirm_key(&self, node: &str, key: &PublicKey, who: &str, at: Timestamp) -> Result<(), HubError> {
        let mut tx = self.begin().await?;
        insert_box(&mut tx, node, at).await?;
        sqlx::query(
            "INSERT INTO box_keys (node, public_key, announced_at, confirmed_at, confirmed_by) VALUES ($1, $2, $3, $3, $4) \
             ON CONFLICT (node, public_key) DO UPDATE SET confirmed_at = $3, confirmed_by = $4 WHERE box_keys.confirmed_at IS NULL",
        )
        .bind(node)
        .bind(key.to_string())
        .bind(millis(at))
        .bind(who)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// When a key was last confirmed.
    ///
    /// # Errors
    /// The database's.
    pub async fn last_confirmation(&self) -> Result<Option<Timestamp>, HubError> {
        let row = sqlx::query("SELECT MAX(confirmed_at) AS at FROM box_keys")
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get::<Option<i64>, _>("at")?.map(time))
    }

    /// Adds a box that was not heard of before; false if there are too many without a confirmed key.
    async fn admit_box(&self, tx: &mut Tx<'_>, node: &str, at: Timestamp) -> Result<bool, HubError> {
        let known = sqlx::query("SELECT 1 FROM boxes WHERE node = $1")
            .bind(node)
            .fetch_optional(&mut **tx)
            .await?;
        if known.is_some() {
            return Ok(true);
        }
        let row = sqlx::query(
            "SELECT COUNT(*) AS n FROM boxes WHERE node NOT IN (SELECT node FROM box_keys WHERE confirmed_at IS NOT NULL)",
        )
        .fetch_one(&mut **tx)
        .await?;
        if row.try_get::<i64, _>("n")? >= i64::from(self.limits.strangers) {
            return Ok(false);
        }
        insert_box(tx, node, at).await?;
        Ok(true)
    }

    /// All boxes, by id.
    ///
    /// # Errors
    /// The database's.
    pub async fn boxes(&self) -> Result<Vec<BoxRow>, HubError> {
        let rows = sqlx::query(
            "SELECT node, first_seen_at, presence, presence_at, version, health_at, last_case_at, \
             (SELECT COUNT(*) FROM cases WHERE cases.node = boxes.node) AS cases, \
             (SELECT COUNT(*) FROM dead_letters WHERE dead_letters.node = boxes.node) AS dead_letters \
             FROM boxes ORDER BY node",
        )
        .fetch_all(&self.pool)
        .await?;
        let mut boxes = Vec::with_capacity(rows.len());
        for row in rows {
            let node: String = row.try_get("node")?;
            let optional_time = |column| row.try_get::<Option<i64>, _>(column).map(|at| at.map(time));
            let count = |column| row.try_get::<i64, _>(column).map(|n| u64::try_from(n).unwrap_or(0));
            boxes.push(BoxRow {
                first_seen_at: time(row.try_get("first_seen_at")?),
                presence: row.try_get("presence")?,
                presence_at: optional_time("presence_at")?,
                version: row.try_get("version")?,
                health_at: optional_time("health_at")?,
                last_case_at: optional_time("last_case_at")?,
                cases: count("cases")?,
                dead_letters: count("dead_letters")?,
                keys: self.keys(&node).await?,
                node,
            });
        }
        Ok(boxes)
    }

    /// The keys of a box, the oldest first.
    ///
    /// # Errors
    /// The database's.
    pub async fn keys(&self, node: &str) -> Result<Vec<BoxKey>, HubError> {
        let rows = sqlx::query(
            "SELECT public_key, announced_at, confirmed_at, confirmed_by FROM box_keys WHERE node = $1 \
             ORDER BY announced_at, public_key",
        )
        .bind(node)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.iter().map(BoxKey::of).collect::<Result<_, _>>()?)
    }
}

async fn insert_box(tx: &mut Tx<'_>, node: &str, at: Timestamp) -> Result<(), HubError> {
    sqlx::query("INSERT INTO boxes (node, first_seen_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(node)
        .bind(millis(at))
        .execute(&mut **tx)
        .await?;
    Ok(())
}
