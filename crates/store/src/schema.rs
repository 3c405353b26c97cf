//! The database's form: one SQL step a version. A step that was released is never edited; a change is a new step.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Step `i` leads from `user_version` `i` to `i + 1`. Times are microseconds since 1970, UTC.
const STEPS: &[&str] = &[
    "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a case. `record` is its newest revision as the platform would read it (JSON, link::contract::CaseRecord);
-- `site` is what the engine must remember of it (JSON, engine::OpenCase).
CREATE TABLE cases (
    id           TEXT PRIMARY KEY,
    category     TEXT NOT NULL,
    cell         TEXT NOT NULL,
    state        TEXT NOT NULL,
    revision     INTEGER NOT NULL,
    confirmed_at INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    site         TEXT NOT NULL,
    record       TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX cases_by_state ON cases (state, updated_at);
CREATE INDEX cases_by_confirmed ON cases (confirmed_at);

-- Everything that was said about a case, also what changed nothing. Never deleted.
CREATE TABLE case_history (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id  TEXT NOT NULL REFERENCES cases (id),
    revision INTEGER NOT NULL,
    author   TEXT NOT NULL CHECK (author IN ('box', 'platform')),
    state    TEXT NOT NULL,
    at       INTEGER NOT NULL,
    reason   TEXT
) STRICT;
CREATE INDEX case_history_by_case ON case_history (case_id, id);

-- Which pictures belong to which case. The files are evidence/ab/abcd….jpg beside the database.
CREATE TABLE evidence (
    case_id     TEXT NOT NULL REFERENCES cases (id),
    item_id     TEXT NOT NULL,
    role        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    captured_at INTEGER NOT NULL,
    PRIMARY KEY (case_id, item_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_by_sha256 ON evidence (sha256);

-- What the broker has not acknowledged. `seq` is never reused. A row with `quarantined` waits for an operator.
CREATE TABLE outbox (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id     TEXT NOT NULL REFERENCES cases (id),
    kind        TEXT NOT NULL CHECK (kind IN ('evidence', 'case')),
    topic       TEXT NOT NULL,
    sha256      TEXT CHECK ((kind = 'evidence') = (sha256 IS NOT NULL)),
    payload     TEXT CHECK ((kind = 'case') = (payload IS NOT NULL)),
    queued_at   INTEGER NOT NULL,
    unheard     INTEGER NOT NULL DEFAULT 0,
    quarantined TEXT
) STRICT;
CREATE INDEX outbox_by_case ON outbox (case_id, seq);
",
    "
-- What the engine knew beside the cases when it was last asked (JSON, engine::Snapshot). One row.
CREATE TABLE engine_state (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    at       INTEGER NOT NULL,
    snapshot TEXT NOT NULL
) STRICT;
",
    "
-- The chain of custody (custody::chain::Entry): `line` is its JSON, byte for byte, `hash` the SHA-256 of it. Never changed.
CREATE TABLE chain (
    seq     INTEGER PRIMARY KEY,
    line    TEXT NOT NULL,
    hash    TEXT NOT NULL,
    case_id TEXT
) STRICT;
CREATE INDEX chain_by_case ON chain (case_id, seq) WHERE case_id IS NOT NULL;

-- What the broker acknowledged lately: if it dies and forgets, it is sent again. Each as it was in the outbox.
CREATE TABLE sent (
    seq       INTEGER PRIMARY KEY,
    case_id   TEXT NOT NULL REFERENCES cases (id),
    kind      TEXT NOT NULL,
    topic     TEXT NOT NULL,
    sha256    TEXT,
    payload   TEXT,
    queued_at INTEGER NOT NULL,
    acked_at  INTEGER NOT NULL
) STRICT;

-- The originals that pictures were made from, as long as they are kept: originals/ab/abcd….gwo, encrypted (custody::vault).
CREATE TABLE originals (
    case_id     TEXT NOT NULL REFERENCES cases (id),
    sha256      TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    captured_at INTEGER NOT NULL,
    PRIMARY KEY (case_id, sha256)
) STRICT, WITHOUT ROWID;

-- The cases that other boxes are told of (store::claims): `claim` is JSON (engine::Claim). While it is `wanted`, nothing of the case
-- is sent.
CREATE TABLE claims (
    case_id TEXT PRIMARY KEY REFERENCES cases (id),
    claim   TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('wanted', 'sent', 'filed'))
) STRICT, WITHOUT ROWID;
",
];

/// The version this program writes.
pub(super) const VERSION: u32 = STEPS.len() as u32;

/// The version of an open database.
pub(super) fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings a database up to [`VERSION`], each step in a transaction of its own.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let found = version(db)?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    for (step, sql) in (0u32..).zip(STEPS).skip(found as usize) {
        let step_transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step_transaction.execute_batch(sql)?;
        step_transaction.pragma_update(None, "user_version", step + 1)?;
        step_transaction.commit()?;
        if step > 0 {
            tracing::info!(
                from = step,
                to = step + 1,
                "The database was brought up to a newer form."
            );
        }
    }
    Ok(())
}
