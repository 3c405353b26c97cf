//! Acts of persons in the chain of custody, so that they cannot be changed unnoticed: commands append them beside the daemon, and
//! `gridwatch audit` reads them. The chain is never shortened.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::{
    Store, StoreError,
    chain::{self, AppendedLine},
    schema,
};
use gridwatch_base::digest::sha256_hex;
use gridwatch_custody::chain::{ActResult, AuditedLine, ChainReader, CustodyEvent, Details, LineRow};

/// Keys of the table `meta`: the hash of the newest configuration that a daemon started with, and whether acts go to the system log.
const CONFIGURATION: &str = "configuration";
const SYSLOG: &str = "audit_syslog";

/// What a person did.
#[derive(Debug, Clone, Copy)]
pub struct NewAct<'a> {
    /// The command, such as `keys rotate`.
    pub act: &'a str,
    /// The case that it is about.
    pub case: Option<&'a str>,
    /// How it ended.
    pub result: ActResult,
    /// Who did what exactly.
    pub details: &'a Details,
}

impl Store {
    /// Appends a line about an act.
    ///
    /// # Errors
    /// [`StoreError::Older`] or a database error.
    pub fn record_act(&mut self, act: &NewAct<'_>, now: Timestamp) -> Result<AppendedLine, StoreError> {
        let details = act.details.json();
        let event = CustodyEvent::Act {
            act: act.act.into(),
            case_id: act.case.map(str::to_owned),
            result: act.result,
            details: sha256_hex(details.as_bytes()),
        };
        self.append_with_details(event, &details, now)
    }

    /// Appends a line saying that a person is about to decrypt originals. The person and the reason are in the details, which do not leave
    /// the box.
    ///
    /// # Errors
    /// [`StoreError::Older`] or a database error; the originals must not be decrypted then.
    pub fn record_originals_opened(
        &mut self,
        case: &str,
        sha256: &[String],
        details: &Details,
        now: Timestamp,
    ) -> Result<AppendedLine, StoreError> {
        let details = details.json();
        let event = CustodyEvent::Opened {
            case_id: case.into(),
            sha256: sha256.to_vec(),
            details: Some(sha256_hex(details.as_bytes())),
            by: None,
            reason: None,
        };
        self.append_with_details(event, &details, now)
    }

    fn append_with_details(
        &mut self,
        event: CustodyEvent,
        details: &str,
        now: Timestamp,
    ) -> Result<AppendedLine, StoreError> {
        // A command of this version beside a daemon of an older one, which has not migrated its database.
        let found = schema::version(&self.db)?;
        if found < schema::WITH_EVENTS {
            let known = schema::VERSION;
            return Err(StoreError::Older { found, known });
        }
        self.write(|t| chain::append_with(t, event, Some(details), now))
    }

    /// Hash of the configuration that the daemon started with last; `None` before its first start.
    ///
    /// # Errors
    /// A database error.
    pub fn configuration(&self) -> Result<Option<String>, StoreError> {
        self.meta(CONFIGURATION)
    }

    /// Notes the hash of the configuration that is used from now on.
    ///
    /// # Errors
    /// A database error.
    pub fn set_configuration(&mut self, sha256: &str) -> Result<(), StoreError> {
        self.set_meta(CONFIGURATION, sha256)
    }

    /// Whether acts go to the system log, too, as the daemon's configuration says; commands that are given no configuration ask here.
    ///
    /// # Errors
    /// A database error.
    pub fn audits_to_syslog(&self) -> Result<bool, StoreError> {
        Ok(self.meta(SYSLOG)?.as_deref() == Some("true"))
    }

    /// Notes whether acts go to the system log, too.
    ///
    /// # Errors
    /// A database error.
    pub fn set_audits_to_syslog(&mut self, is_on: bool) -> Result<(), StoreError> {
        self.set_meta(SYSLOG, if is_on { "true" } else { "false" })
    }

    pub(super) fn meta(&self, key: &str) -> Result<Option<String>, StoreError> {
        let mut query = self.db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?;
        Ok(query.query_row([key], |row| row.get(0)).optional()?)
    }

    pub(super) fn set_meta(&mut self, key: &str, value: &str) -> Result<(), StoreError> {
        if self.meta(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        self.write(|t| {
            t.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
                params![key, value],
            )?;
            Ok(())
        })
    }

    /// Reads the whole chain in order and checks it, one line at a time: on a busy box it has a hundred thousand.
    ///
    /// # Errors
    /// A database error, or that of `visit`, which ends the reading.
    pub fn read_chain<E: From<StoreError>>(
        &self,
        mut visit: impl FnMut(AuditedLine) -> Result<(), E>,
    ) -> Result<(), E> {
        let columns = match schema::version(&self.db).map_err(StoreError::from)? >= schema::WITH_EVENTS {
            true => "event, details",
            false => "NULL AS event, NULL AS details",
        };
        let mut query = self
            .db
            .prepare(&format!("SELECT seq, line, hash, {columns} FROM chain ORDER BY seq"))
            .map_err(StoreError::from)?;
        let mut rows = query.query([]).map_err(StoreError::from)?;
        let mut reader = ChainReader::default();
        while let Some(row) = rows.next().map_err(StoreError::from)? {
            let row = line_row(row).map_err(StoreError::from)?;
            visit(reader.next(&row))?;
        }
        Ok(())
    }
}

fn line_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<LineRow> {
    Ok(LineRow {
        seq: row.get::<_, i64>("seq")?.unsigned_abs(),
        line: row.get("line")?,
        hash: row.get("hash")?,
        event: row.get("event")?,
        details: row.get("details")?,
    })
}
