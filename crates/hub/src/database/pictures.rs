//! The index of the pictures: which ones are stored, whose, since when.

use jiff::Timestamp;

use super::{Database, Tx, millis};
use crate::HubError;

/// A stored picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureRow<'a> {
    /// SHA-256 of its bytes, lower-case hex.
    pub sha256: &'a str,
    /// Its size.
    pub bytes: u64,
    /// The box that sent it first.
    pub node: &'a str,
}

impl Database {
    /// Records a picture whose bytes are stored; false if it was recorded before.
    ///
    /// # Errors
    /// The database's.
    pub async fn add_picture(&self, picture: &PictureRow<'_>, at: Timestamp) -> Result<bool, HubError> {
        let added = sqlx::query(
            "INSERT INTO pictures (sha256, bytes, node, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(picture.sha256)
        .bind(i64::try_from(picture.bytes).unwrap_or(i64::MAX))
        .bind(picture.node)
        .bind(millis(at))
        .execute(&self.pool)
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Whether a picture is recorded.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_picture(&self, sha256: &str) -> Result<bool, HubError> {
        let found = sqlx::query("SELECT 1 FROM pictures WHERE sha256 = $1")
            .bind(sha256)
            .fetch_optional(&self.pool)
            .await?;
        Ok(found.is_some())
    }
}

/// Whether a picture is recorded, as the transaction sees it.
pub(super) async fn is_recorded(tx: &mut Tx<'_>, sha256: &str) -> Result<bool, HubError> {
    let found = sqlx::query("SELECT 1 FROM pictures WHERE sha256 = $1")
        .bind(sha256)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}
