//! The box's chain of custody ([`gridwatch_custody::chain`]), a row a line, written in the transaction of what it tells.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Store, StoreError};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;
use gridwatch_custody::{
    SigningKey,
    chain::{Entry, Head, START, What},
    keys::KeyRing,
};

/// Number and hash of the last line.
fn last(db: &Connection) -> rusqlite::Result<Option<(u64, String)>> {
    db.prepare_cached("SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1")?
        .query_row([], |r| Ok((r.get::<_, u32>(0)?.into(), r.get(1)?)))
        .optional()
}

/// Writes the next line.
pub(super) fn append(t: &Transaction<'_>, what: What, at: Timestamp) -> Result<(), StoreError> {
    let (seq, prev) = last(t)?.map_or((0, START.to_owned()), |(seq, hash)| (seq + 1, hash));
    let entry = Entry { seq, at, what, prev };
    let (line, hash) = entry.line();
    t.prepare_cached("INSERT INTO chain (seq, line, hash, case_id) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![seq as i64, line, hash, entry.what.case_id()])?;
    Ok(())
}

/// Seals a record: it names the line before its own, is signed, and gets its line. Gives it as it is kept and sent.
pub(super) fn seal(
    t: &Transaction<'_>,
    record: &CaseRecord,
    key: &SigningKey,
    at: Timestamp,
) -> Result<String, StoreError> {
    let record = CaseRecord {
        prev_hash: Some(last(t)?.map_or(START.to_owned(), |(_, hash)| hash)),
        signature: None,
        ..record.clone()
    };
    let body = super::cases::json(&record);
    let what = What::Case {
        case_id: record.case_id,
        revision: record.revision,
        sha256: sha256_hex(body.as_bytes()),
    };
    append(t, what, at)?;
    Ok(key.seal(&body))
}

impl Store {
    /// Begins the chain, or goes on with it. A box that signs with a key that the one before did not hand over to says so.
    pub(super) fn take_up_chain(&mut self, key: &SigningKey, now: Timestamp) -> Result<(), StoreError> {
        let public_key = key.public().to_string();
        let known = self.chain_keys()?.into_iter().next();
        if known.as_ref() == Some(&public_key) {
            return Ok(());
        }
        if let Some(known) = known {
            tracing::error!(
                before = known,
                now = public_key,
                "The box signs with another key than its chain says, and the one before did not hand over to it: it was lost or replaced by hand. Tell the platform the new one (gridwatch keys show)."
            );
        }
        self.write(|t| append(t, What::Begun { public_key }, now))
    }

    /// What the box signed with, newest first; nothing where there is no chain yet.
    ///
    /// # Errors
    /// What the database says.
    pub fn chain_keys(&self) -> Result<Vec<String>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT json_extract(line, '$.public_key') FROM chain
             WHERE json_extract(line, '$.kind') IN ('begun', 'key') ORDER BY seq DESC",
        )?;
        let keys = query.query_map([], |r| r.get(0))?;
        keys.map(|key| Ok(key?)).collect()
    }

    /// The chain's lines from the first about that case to the last; none where there is no line of it.
    ///
    /// # Errors
    /// What the database says.
    pub fn chain_of(&self, case: &str) -> Result<Vec<String>, StoreError> {
        let mut query = self.db.prepare_cached(
            "SELECT line FROM chain WHERE seq >= (SELECT min(seq) FROM chain WHERE case_id = ?1) ORDER BY seq",
        )?;
        let lines = query.query_map([case], |r| r.get(0))?;
        lines.map(|line| Ok(line?)).collect()
    }

    /// The originals that are kept of a case, by their hashes.
    ///
    /// # Errors
    /// What the database says.
    pub fn originals(&self, case: &str) -> Result<Vec<String>, StoreError> {
        let mut query = self
            .db
            .prepare_cached("SELECT sha256 FROM originals WHERE case_id = ?1 ORDER BY captured_at, sha256")?;
        let rows = query.query_map([case], |r| r.get(0))?;
        rows.map(|row| Ok(row?)).collect()
    }

    /// Writes down that originals are about to be opened.
    ///
    /// # Errors
    /// What the database says; then they must not be.
    pub fn originals_opened(
        &mut self,
        case: &str,
        sha256: &[String],
        by: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let what = What::Opened {
            case_id: case.into(),
            sha256: sha256.to_vec(),
            by: by.into(),
            reason: reason.into(),
        };
        self.write(|t| append(t, what, now))
    }

    /// How long the chain is, as it may be signed; `None` where there is none.
    ///
    /// # Errors
    /// What the database says.
    pub fn chain_head(&self, node: &str, key: &SigningKey, now: Timestamp) -> Result<Option<Head>, StoreError> {
        Ok(last(&self.db)?.map(|(seq, hash)| Head {
            seq,
            hash,
            at: now,
            node_id: node.to_owned(),
            public_key: key.public().to_string(),
        }))
    }

    /// Lets the box sign with a new key from here on: its chain says so in the old one's name, and the file is replaced.
    ///
    /// # Errors
    /// What the database says, or [`StoreError::Key`]. Nothing was changed then, but in one case: the disk died between the two,
    /// and the next start says that the keys do not fit.
    pub fn rotate_key(&mut self, now: Timestamp) -> Result<SigningKey, StoreError> {
        let ring = KeyRing::of(&self.dir);
        let old = ring.signing()?;
        let (pem, new) = SigningKey::generate().map_err(|_| gridwatch_custody::keys::KeyError::NoChance)?;
        self.write(|t| {
            let prev = last(t)?.map_or(START.to_owned(), |(_, hash)| hash);
            append(t, What::key(&old, &new.public(), &prev), now)?;
            // Within the transaction: where the file cannot be written, the chain does not say that it was.
            ring.replace_signing(&pem)?;
            Ok(())
        })?;
        Ok(new)
    }
}
