//! Other boxes that share sites with this one, by the key that signs their claims.

use jiff::Timestamp;
use rusqlite::params;
use serde::Serialize;

use super::{Store, StoreError, row};
use gridwatch_custody::PublicKey;
use gridwatch_engine::NodeId;

/// Keys that are kept without having been confirmed; far more than boxes share the sites of one. The oldest make room, so that nobody
/// keeps a box from being named by naming others.
const MAX_UNCONFIRMED: u32 = 64;
/// Keys that are kept for one box without having been confirmed.
const MAX_UNCONFIRMED_PER_BOX: u32 = 4;

/// A box whose claims were received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownBox {
    /// Its node id.
    pub node_id: String,
    /// The key that signed its claims: 32 bytes in base64.
    pub public_key: String,
    /// When this box first received a claim with that key, or when it was confirmed if that was earlier.
    pub first_seen: Timestamp,
    /// When an operator confirmed it; `None` while its claims are ignored.
    pub confirmed_at: Option<Timestamp>,
}

impl Store {
    /// Records that a claim of `node`, signed with `key`, was received. Returns false if it was known.
    ///
    /// # Errors
    /// A database error.
    pub fn box_seen(&mut self, node: &NodeId, key: &PublicKey, now: Timestamp) -> Result<bool, StoreError> {
        self.write(|t| {
            let inserted = t.execute(
                "INSERT INTO boxes (node_id, public_key, first_seen) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![node.as_str(), key.to_string(), row::micros(now)],
            )?;
            let newest = "SELECT rowid FROM boxes WHERE confirmed_at IS NULL";
            t.execute(
                &format!(
                    "DELETE FROM boxes WHERE confirmed_at IS NULL AND
                        (rowid NOT IN ({newest} ORDER BY first_seen DESC, rowid DESC LIMIT ?1)
                         OR node_id = ?2 AND rowid NOT IN ({newest} AND node_id = ?2 ORDER BY first_seen DESC, rowid DESC LIMIT ?3))"
                ),
                params![MAX_UNCONFIRMED, node.as_str(), MAX_UNCONFIRMED_PER_BOX],
            )?;
            Ok(inserted > 0)
        })
    }

    /// All known boxes, by node id.
    ///
    /// # Errors
    /// A database error.
    pub fn boxes(&self) -> Result<Vec<KnownBox>, StoreError> {
        let sql = "SELECT node_id, public_key, first_seen, confirmed_at FROM boxes ORDER BY node_id, first_seen";
        row::all(&self.db, sql, [], |row| {
            let node_id: String = row.get("node_id")?;
            let confirmed_at: Option<i64> = row.get("confirmed_at")?;
            Ok(KnownBox {
                public_key: row.get("public_key")?,
                first_seen: row::time(row, &node_id, "first_seen")?,
                confirmed_at: confirmed_at.and_then(|at| Timestamp::from_microsecond(at).ok()),
                node_id,
            })
        })
    }

    /// Confirms `node` with `key`, which need not have been seen. Its other keys are deleted: a box has one.
    ///
    /// # Errors
    /// A database error.
    pub fn confirm_box(&mut self, node: &NodeId, key: &PublicKey, now: Timestamp) -> Result<(), StoreError> {
        self.write(|t| {
            let key = key.to_string();
            t.execute(
                "DELETE FROM boxes WHERE node_id = ?1 AND public_key != ?2",
                params![node.as_str(), key],
            )?;
            t.execute(
                "INSERT INTO boxes (node_id, public_key, first_seen, confirmed_at) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT DO UPDATE SET confirmed_at = ?3",
                params![node.as_str(), key, row::micros(now)],
            )?;
            Ok(())
        })
    }

    /// No longer confirms `node`: its claims are ignored from then on. If it was not confirmed, its keys are deleted. Returns false if none was
    /// known.
    ///
    /// # Errors
    /// A database error.
    pub fn remove_box(&mut self, node: &NodeId) -> Result<bool, StoreError> {
        self.write(|t| {
            let sql = "UPDATE boxes SET confirmed_at = NULL WHERE node_id = ?1 AND confirmed_at IS NOT NULL";
            let was_confirmed = t.execute(sql, [node.as_str()])? > 0;
            Ok(was_confirmed || t.execute("DELETE FROM boxes WHERE node_id = ?1", [node.as_str()])? > 0)
        })
    }
}
