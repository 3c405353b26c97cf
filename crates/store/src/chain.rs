//! The chain of custody ([`gridwatch_custody::chain`]) in the database: one row per line, written in the same
//! transaction as the change that the line records.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::{Store, StoreError, row};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;
use gridwatch_custody::{
    Signer, SigningKey,
    chain::{ChainEntry, ChainHead, CustodyEvent, START},
    keys::{KeyError, KeyRing, SigningKeyPlace},
    seal as seal_json,
};

/// The last line of the chain.
struct LastLine {
    seq: u32,
    hash: String,
}

fn last(db: &Connection) -> Result<Option<LastLine>, StoreError> {
    row::first(db, "SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok(LastLine {
            seq: row.get("seq")?,
            hash: row.get("hash")?,
        })
    })
}

/// Number and hash of the last line; `None` if there is no chain yet.
pub(super) fn head(db: &Connection) -> Result<Option<(u32, String)>, StoreError> {
    Ok(last(db)?.map(|line| (line.seq, line.hash)))
}

/// Whether the chain has this line.
pub(super) fn has(db: &Connection, (seq, hash): &(u32, String)) -> Result<bool, StoreError> {
    let mut query = db.prepare("SELECT 1 FROM chain WHERE seq = ?1 AND hash = ?2")?;
    Ok(query.exists(params![seq, hash])?)
}

/// The time of the last line, whatever wrote it; `None` if there is none.
pub(super) fn newest_time(db: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let newest = row::first(
        db,
        "SELECT json_extract(line, '$.at') AS at FROM chain ORDER BY seq DESC LIMIT 1",
        [],
        |row| Ok(row.get::<_, String>("at")?),
    )?;
    Ok(newest.and_then(|at| at.parse().ok()))
}

/// Hash of the last line, or [`START`] if there is none.
fn last_hash(db: &Connection) -> Result<String, StoreError> {
    Ok(last(db)?.map_or_else(|| START.to_owned(), |line| line.hash))
}

/// Appends a line.
pub(super) fn append(t: &Transaction<'_>, event: CustodyEvent, at: Timestamp) -> Result<(), StoreError> {
    let (seq, prev) = match last(t)? {
        Some(line) => (u64::from(line.seq) + 1, line.hash),
        None => (0, START.to_owned()),
    };
    let entry = ChainEntry { seq, at, event, prev };
    let (line, hash) = entry.line();
    t.prepare_cached("INSERT INTO chain (seq, line, hash, case_id) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![seq as i64, line, hash, entry.event.case_id()])?;
    Ok(())
}

/// Signs a record and appends its line to the chain. The record carries the hash of the line before its own
/// (`prev_hash`). Returns the sealed JSON, which is stored and sent as it is.
pub(super) fn seal(
    t: &Transaction<'_>,
    record: &CaseRecord,
    key: &dyn Signer,
    at: Timestamp,
) -> Result<String, StoreError> {
    let record = CaseRecord {
        prev_hash: Some(last_hash(t)?),
        signature_algorithm: Some(key.public().algorithm().to_string()),
        signature: None,
        ..record.clone()
    };
    let body = row::to_json(&record);
    let event = CustodyEvent::Case {
        case_id: record.case_id,
        revision: record.revision,
        sha256: sha256_hex(body.as_bytes()),
    };
    append(t, event, at)?;
    Ok(seal_json(key, &body)?)
}

impl Store {
    /// Starts the chain, or continues it. Logs an error if the signing key changed without a rotation on record.
    pub(super) fn begin_or_resume_chain(&mut self, key: &dyn Signer, now: Timestamp) -> Result<(), StoreError> {
        let public_key = key.public().to_string();
        let known = self.chain_keys()?.into_iter().next();
        if known.as_ref() == Some(&public_key) {
            return Ok(());
        }
        if let Some(known) = known {
            tracing::error!(
                before = known,
                now = public_key,
                "Signing key differs from the last key in the chain and was not rotated; the old key was lost or replaced by hand. Give the platform the new public key (gridwatch keys show)"
            );
        }
        self.write(|t| append(t, CustodyEvent::Begun { public_key }, now))
    }

    /// The newest time that a daemon wrote with a believed clock: that of a line of the chain about a case, or of the engine's
    /// snapshot. Lines about opened originals do not count: they are written whatever the clock shows. So are those about keys, which
    /// count only while there is nothing else; `None` if there is nothing at all.
    ///
    /// # Errors
    /// A database error.
    pub fn newest_trusted_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let newest_of = |kinds: &str| -> Result<Option<Timestamp>, StoreError> {
            let newest = row::first(
                &self.db,
                &format!(
                    "SELECT json_extract(line, '$.at') AS at FROM chain
                     WHERE json_extract(line, '$.kind') IN ({kinds}) ORDER BY seq DESC LIMIT 1"
                ),
                [],
                |row| Ok(row.get::<_, String>("at")?),
            )?;
            Ok(newest.and_then(|at| at.parse().ok()))
        };
        let snapshot = row::first(&self.db, "SELECT at FROM engine_state WHERE id = 1", [], |row| {
            Ok(row.get::<_, i64>("at")?)
        })?;
        let snapshot = snapshot.and_then(|at| Timestamp::from_microsecond(at).ok());
        match newest_of("'case', 'deleted'")?.max(snapshot) {
            None => newest_of("'begun', 'key'"),
            trusted => Ok(trusted),
        }
    }

    /// The public keys of the chain in base64, newest first; empty if there is no chain yet.
    ///
    /// # Errors
    /// A database error.
    pub fn chain_keys(&self) -> Result<Vec<String>, StoreError> {
        row::texts(
            &self.db,
            "SELECT json_extract(line, '$.public_key') FROM chain
             WHERE json_extract(line, '$.kind') IN ('begun', 'key') ORDER BY seq DESC",
            [],
        )
    }

    /// The lines of the chain from the first one about `case` to the end; empty if no line is about it.
    ///
    /// # Errors
    /// A database error.
    pub fn chain_of(&self, case: &str) -> Result<Vec<String>, StoreError> {
        row::texts(
            &self.db,
            "SELECT line FROM chain WHERE seq >= (SELECT min(seq) FROM chain WHERE case_id = ?1) ORDER BY seq",
            [case],
        )
    }

    /// The SHA-256 hashes of the originals of a case that are still stored.
    ///
    /// # Errors
    /// A database error.
    pub fn originals(&self, case: &str) -> Result<Vec<String>, StoreError> {
        row::texts(
            &self.db,
            "SELECT sha256 FROM originals WHERE case_id = ?1 ORDER BY captured_at, sha256",
            [case],
        )
    }

    /// Appends a line saying that `by` is about to decrypt originals, and why.
    ///
    /// # Errors
    /// A database error; the originals must not be decrypted then.
    pub fn record_originals_opened(
        &mut self,
        case: &str,
        sha256: &[String],
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let event = CustodyEvent::Opened {
            case_id: case.into(),
            sha256: sha256.to_vec(),
            by: by.into(),
            reason: reason.into(),
        };
        self.write(|t| append(t, event, now))
    }

    /// The current end of the chain, to be signed; `None` if there is no chain.
    ///
    /// # Errors
    /// A database error.
    pub fn chain_head(&self, node: &str, key: &dyn Signer, now: Timestamp) -> Result<Option<ChainHead>, StoreError> {
        Ok(last(&self.db)?.map(|line| ChainHead {
            seq: line.seq.into(),
            hash: line.hash,
            at: now,
            node_id: node.to_owned(),
            public_key: key.public().to_string(),
        }))
    }

    /// The current end of the chain as JSON, and its signature by this handle's key; `None` if there is no chain.
    ///
    /// # Errors
    /// A database error, or a handle without a signing key.
    pub fn signed_chain_head(&self, node: &str, now: Timestamp) -> Result<Option<(String, String)>, StoreError> {
        let key = self.key()?;
        let head = self.chain_head(node, &*key, now)?;
        // Numbers and strings always serialize.
        let text = head.and_then(|head| serde_json::to_string(&head).ok());
        text.map(|text| {
            let signature = key.sign(text.as_bytes())?;
            Ok((text, signature))
        })
        .transpose()
    }

    /// Replaces the signing key by the one of `to`: a key in the state directory is generated, one in a token must be there. The chain gets a
    /// line in which this handle's key signs the new one, and the key file is replaced, or deleted after a token took its place.
    ///
    /// # Errors
    /// A database error or [`StoreError::Key`]; nothing is changed then. If the commit fails after the key file was
    /// replaced, the next start logs that the key differs from the chain.
    pub fn rotate_key(&mut self, to: &KeyRing, now: Timestamp) -> Result<Arc<dyn Signer>, StoreError> {
        let old = self.key()?;
        let (pem, new): (_, Arc<dyn Signer>) = match to.signing_place() {
            SigningKeyPlace::Own => {
                let (pem, new) = SigningKey::generate().map_err(|_| KeyError::NoRandomness)?;
                (Some(pem), Arc::new(new))
            }
            SigningKeyPlace::Token(_) => (None, to.existing()?),
        };
        if new.public() == old.public() {
            return Err(StoreError::SameKey {
                key: new.public().to_string(),
            });
        }
        self.write(|t| {
            append(t, CustodyEvent::rotation(&*old, &new.public(), &last_hash(t)?)?, now)?;
            // Inside the transaction: if the key file cannot be written, the line is rolled back.
            pem.as_ref().map_or(Ok(()), |pem| to.replace_signing(pem))?;
            Ok(())
        })?;
        to.remove_replaced_signing_file()?;
        self.key = Some(Arc::clone(&new));
        Ok(new)
    }
}
