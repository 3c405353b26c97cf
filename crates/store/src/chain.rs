//! The chain of custody ([`gridwatch_custody::chain`]) in the database: one row per line, written in the same
//! transaction as the change that the line records.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::{Store, StoreError, row, schema};
use gridwatch_base::digest::sha256_hex;
use gridwatch_contract::CaseRecord;
use gridwatch_custody::{
    Signer, SigningKey,
    chain::{self, CaseLines, ChainFault, ChainHead, CustodyEvent, NewLine, START, SaltedEvent, Segment, WithheldLine},
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

/// The JSON with the event of each line, as an expression: beside the line since format 2, else in it. An older database is read, too.
pub(super) fn event_column(db: &Connection) -> Result<&'static str, StoreError> {
    Ok(match schema::version(db)? >= schema::WITH_EVENTS {
        true => "coalesce(event, line)",
        false => "line",
    })
}

/// The time of the last line that is not about an act of a person, who may have run a command beside an older copy of the database;
/// `None` if there is none.
pub(super) fn newest_time(db: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let event = event_column(db)?;
    let newest = row::first(
        db,
        &format!(
            "SELECT json_extract(line, '$.at') AS at FROM chain
             WHERE json_extract({event}, '$.kind') != 'act' ORDER BY seq DESC LIMIT 1"
        ),
        [],
        |row| Ok(row.get::<_, String>("at")?),
    )?;
    Ok(newest.and_then(|at| at.parse().ok()))
}

/// Whether the chain has a line that is not about an act of a person: about a key or a case.
pub(super) fn has_more_than_acts(db: &Connection) -> Result<bool, StoreError> {
    let event = event_column(db)?;
    let mut query = db.prepare(&format!(
        "SELECT 1 FROM chain WHERE json_extract({event}, '$.kind') != 'act' LIMIT 1"
    ))?;
    Ok(query.exists([])?)
}

/// The public keys of a chain in base64, newest first.
pub(super) fn keys(db: &Connection) -> Result<Vec<String>, StoreError> {
    let event = event_column(db)?;
    let keys = format!(
        "SELECT json_extract({event}, '$.public_key') FROM chain
         WHERE json_extract({event}, '$.kind') IN ('begun', 'key') ORDER BY seq DESC"
    );
    row::texts(db, &keys, [])
}

/// Hash of the last line, or [`START`] if there is none.
fn last_hash(db: &Connection) -> Result<String, StoreError> {
    Ok(last(db)?.map_or_else(|| START.to_owned(), |line| line.hash))
}

/// A line of the chain that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendedLine {
    /// Its number.
    pub seq: u64,
    /// Its hash.
    pub hash: String,
}

/// Appends a line.
pub(super) fn append(t: &Transaction<'_>, event: CustodyEvent, at: Timestamp) -> Result<AppendedLine, StoreError> {
    append_with(t, event, None, at)
}

/// Appends a line whose event has `details`.
pub(super) fn append_with(
    t: &Transaction<'_>,
    event: CustodyEvent,
    details: Option<&str>,
    at: Timestamp,
) -> Result<AppendedLine, StoreError> {
    let (seq, prev) = match last(t)? {
        Some(line) => (u64::from(line.seq) + 1, line.hash),
        None => (0, START.to_owned()),
    };
    let case_id = event.case_id().map(str::to_owned);
    let case_key = row::first(
        t,
        "SELECT json_extract(event, '$.case_key') AS key FROM chain WHERE case_id = ?1 AND event IS NOT NULL ORDER BY seq LIMIT 1",
        [&case_id],
        |row| Ok(row.get::<_, String>("key")?),
    )?;
    let NewLine { line, hash, event } = NewLine::new(seq, at, prev, event, case_key)?;
    t.prepare_cached("INSERT INTO chain (seq, line, hash, case_id, event, details) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![seq as i64, line, hash, case_id, event, details])?;
    Ok(AppendedLine { seq, hash })
}

/// Signs a record and appends its line to the chain. The record carries the number and the hash of the line before its own
/// (`prev_seq`, `prev_hash`). Returns the sealed JSON, which is stored and sent as it is.
pub(super) fn seal(
    t: &Transaction<'_>,
    record: &CaseRecord,
    key: &dyn Signer,
    at: Timestamp,
) -> Result<String, StoreError> {
    let before = last(t)?;
    let record = CaseRecord {
        prev_seq: before.as_ref().map(|line| line.seq.into()),
        prev_hash: Some(before.map_or_else(|| START.to_owned(), |line| line.hash)),
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

/// The part of the chain that an export of one case contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainExcerpt {
    /// The lines: headers, whole lines of the first format about the case or about no case, and in place of others their hashes.
    pub lines: Vec<String>,
    /// The events of the lines about the case and about the signing key.
    pub events: Vec<String>,
    /// The lines about the case that are given away.
    pub of_case: CaseLines,
}

impl ChainExcerpt {
    /// Parses the lines and events, and checks the links.
    ///
    /// # Errors
    /// The faults: the chain in the database was changed.
    pub fn read(&self) -> Result<Segment, Vec<ChainFault>> {
        Segment::read(&self.lines.join("\n"), &self.events.join("\n"))
    }
}

struct ExcerptRow {
    seq: u64,
    line: String,
    hash: String,
    case_id: Option<String>,
    event: Option<String>,
    /// Kind of the event, if it is a part of the line.
    old_kind: Option<String>,
}

fn is_public(event: &str) -> bool {
    serde_json::from_str(event).is_ok_and(|salted: SaltedEvent| salted.event.is_public())
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
        self.write(|t| append(t, CustodyEvent::begun(&key.public()), now).map(drop))
    }

    /// The newest time that a daemon wrote with a believed clock: that of a line of the chain about a case, or of the engine's
    /// snapshot. Lines about acts of persons do not count: they are written whatever the clock shows. So are those about keys, which
    /// count only while there is nothing else; `None` if there is nothing at all.
    ///
    /// # Errors
    /// A database error.
    pub fn newest_trusted_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let event = event_column(&self.db)?;
        let newest_of = |kinds: &str| -> Result<Option<Timestamp>, StoreError> {
            let newest = row::first(
                &self.db,
                &format!(
                    "SELECT json_extract(line, '$.at') AS at FROM chain
                     WHERE json_extract({event}, '$.kind') IN ({kinds}) ORDER BY seq DESC LIMIT 1"
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
        keys(&self.db)
    }

    /// The chain for an export of `case`: from the first line about it, or from line `since` if that is earlier, to the end. It tells nothing
    /// of other cases and of persons. Without lines if no line is about the case.
    ///
    /// # Errors
    /// A database error.
    pub fn chain_excerpt(&self, case: &str, since: Option<u64>) -> Result<ChainExcerpt, StoreError> {
        let event = match schema::version(&self.db)? >= schema::WITH_EVENTS {
            true => "event",
            false => "NULL AS event",
        };
        let rows = row::all(
            &self.db,
            &format!(
                "SELECT seq, line, hash, case_id, {event}, json_extract(line, '$.kind') AS old_kind FROM chain
                 WHERE seq >= (SELECT min(min(seq), ?2) FROM chain WHERE case_id = ?1) ORDER BY seq"
            ),
            params![
                case,
                since.map_or(i64::MAX, |seq| i64::try_from(seq).unwrap_or(i64::MAX))
            ],
            |row| {
                Ok(ExcerptRow {
                    seq: row.get::<_, u32>("seq")?.into(),
                    line: row.get("line")?,
                    hash: row.get("hash")?,
                    case_id: row.get("case_id")?,
                    event: row.get("event")?,
                    old_kind: row.get("old_kind")?,
                })
            },
        )?;
        let (mut lines, mut events) = (Vec::new(), Vec::new());
        let (mut of_case, mut withheld_openings) = (Vec::new(), 0);
        for row in rows {
            let is_of_case = row.case_id.as_deref() == Some(case);
            match (row.event, row.old_kind.as_deref()) {
                (Some(event), _) => {
                    lines.push(row.line);
                    if is_of_case || is_public(&event) {
                        events.push(event);
                    }
                }
                // The reason and the person are a part of the line.
                (None, Some("opened")) => {
                    withheld_openings += usize::from(is_of_case);
                    lines.push(WithheldLine::json(row.seq, &row.hash));
                    continue;
                }
                (None, _) if is_of_case || row.case_id.is_none() => lines.push(row.line),
                (None, _) => lines.push(WithheldLine::json(row.seq, &row.hash)),
            }
            if is_of_case {
                of_case.push(row.hash);
            }
        }
        let hashes = of_case.iter().map(String::as_str);
        Ok(ChainExcerpt {
            of_case: CaseLines::of(case, hashes, withheld_openings),
            lines,
            events,
        })
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
            algorithm: chain::algorithm(&key.public()),
            case: None,
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
        // Both keys are there until the line is committed, which decides: an interruption leaves the one that the chain names.
        pem.as_ref().map_or(Ok(()), |pem| to.stage_signing(pem))?;
        let written = self.write(|t| {
            append(t, CustodyEvent::rotation(&*old, &new.public(), &last_hash(t)?)?, now)?;
            Ok(())
        });
        to.finish_rotation(self.chain_keys()?.first().map(String::as_str))?;
        written?;
        to.remove_replaced_signing_file()?;
        self.key = Some(Arc::clone(&new));
        Ok(new)
    }
}
