//! The database schema: one SQL migration per version. A released migration is never edited; a change is a new one.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// Migration `i` leads from `user_version` `i` to `i + 1`. Times are microseconds since 1970, UTC.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per case. `record` is its newest revision as it is sent to the platform (JSON, contract::CaseRecord);
-- `site` is the state that the engine needs (JSON, engine::OpenCase).
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

-- Every state change and every reply, including replies without effect. Never deleted.
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

-- The pictures of each case. Their files are evidence/ab/abcd….jpg next to the database.
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

-- Messages that the broker has not acknowledged. `seq` is never reused. Rows with `quarantined` wait for an operator.
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
-- The last snapshot of the engine: candidates and other state besides the cases (JSON, engine::Snapshot). One row.
CREATE TABLE engine_state (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    at       INTEGER NOT NULL,
    snapshot TEXT NOT NULL
) STRICT;
",
    "
-- The chain of custody (custody::chain::ChainEntry): `line` is its JSON, byte for byte, `hash` the SHA-256 of it. Append-only.
CREATE TABLE chain (
    seq     INTEGER PRIMARY KEY,
    line    TEXT NOT NULL,
    hash    TEXT NOT NULL,
    case_id TEXT
) STRICT;
CREATE INDEX chain_by_case ON chain (case_id, seq) WHERE case_id IS NOT NULL;

-- Recently acknowledged outbox rows, sent again if the broker loses its state.
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

-- Originals that pictures were made from, while they are kept: originals/ab/abcd….gwo, encrypted (custody::vault).
CREATE TABLE originals (
    case_id     TEXT NOT NULL REFERENCES cases (id),
    sha256      TEXT NOT NULL,
    bytes       INTEGER NOT NULL,
    captured_at INTEGER NOT NULL,
    PRIMARY KEY (case_id, sha256)
) STRICT, WITHOUT ROWID;

-- Cases claimed towards other boxes (store::claims): `claim` is JSON (engine::Claim). While `state` is wanted, no message
-- of the case is sent.
CREATE TABLE claims (
    case_id TEXT PRIMARY KEY REFERENCES cases (id),
    claim   TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('wanted', 'sent', 'filed'))
) STRICT, WITHOUT ROWID;
",
    "
-- Equal entries in a row are one row: `at` is the time of the first, `last_at` of the last, `times` their number. `omitted`
-- entries before a row were deleted because the history was too long.
ALTER TABLE case_history ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
ALTER TABLE case_history ADD COLUMN last_at INTEGER;
ALTER TABLE case_history ADD COLUMN omitted INTEGER NOT NULL DEFAULT 0;

-- One original may belong to several cases.
CREATE INDEX originals_by_sha256 ON originals (sha256);
",
    "
-- Cases that were not filed when they were confirmed, because another box claims their site (store::claims). `is_filed` tells
-- whether the other box has filed its case. `until` is null while the case is held back.
CREATE TABLE held_back (
    case_id    TEXT PRIMARY KEY REFERENCES cases (id),
    node_id    TEXT NOT NULL,
    other_case TEXT NOT NULL,
    is_filed   INTEGER NOT NULL,
    since      INTEGER NOT NULL,
    until      INTEGER
) STRICT, WITHOUT ROWID;

-- Cases of other boxes that are over, until their last message expires: an old message about one must not be taken for a new one.
CREATE TABLE released_claims (
    node_id TEXT NOT NULL,
    case_id TEXT NOT NULL,
    until   INTEGER NOT NULL,
    PRIMARY KEY (node_id, case_id)
) STRICT, WITHOUT ROWID;

-- Other boxes whose claims this box received, by the key that signed them. Obeyed once confirmed.
CREATE TABLE boxes (
    node_id      TEXT NOT NULL,
    public_key   TEXT NOT NULL,
    first_seen   INTEGER NOT NULL,
    confirmed_at INTEGER,
    PRIMARY KEY (node_id, public_key)
) STRICT;
-- Since chain format 2 a line is a header, and its event is here (JSON, custody::chain::SaltedEvent). `details` has what an event keeps of a
-- person and a reason (JSON, custody::chain::Details) and never leaves the box. Both are covered by the line's hash.
ALTER TABLE chain ADD COLUMN event TEXT;
ALTER TABLE chain ADD COLUMN details TEXT;
",
    "
-- What persons said of cases on the console (store::reviews): the newest review of each person and case. `recorded` tells whether it is in
-- the chain, which gets one line for many. The reference is checked at the commit, as a recovery replaces the row of a case.
CREATE TABLE reviews (
    case_id      TEXT NOT NULL REFERENCES cases (id) DEFERRABLE INITIALLY DEFERRED,
    reviewer     TEXT NOT NULL,
    verdict      TEXT NOT NULL CHECK (verdict IN ('true', 'false', 'duplicate', 'unsure')),
    duplicate_of TEXT,
    at           INTEGER NOT NULL,
    recorded     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (case_id, reviewer)
) STRICT, WITHOUT ROWID;
CREATE INDEX reviews_by_reviewer ON reviews (reviewer, at);
CREATE INDEX reviews_unrecorded ON reviews (reviewer, at) WHERE recorded = 0;
",
    "
-- Receipts of the platform (store::receipts). If it gives them, a message stays in the outbox after the broker acknowledged it (`sent_at`,
-- `attempts`) until the receipt of its revision, and is sent again at `due_at`. `missing`: the platform says that it does not have it.
-- Messages of earlier versions of this program get the newest revision of their case.
ALTER TABLE outbox ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
ALTER TABLE outbox ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN sent_at INTEGER;
ALTER TABLE outbox ADD COLUMN due_at INTEGER;
ALTER TABLE outbox ADD COLUMN missing INTEGER NOT NULL DEFAULT 0;
UPDATE outbox SET revision = coalesce((SELECT revision FROM cases WHERE id = case_id), 1);
ALTER TABLE sent ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
UPDATE sent SET revision = coalesce((SELECT revision FROM cases WHERE id = case_id), 1);
CREATE INDEX outbox_unsent ON outbox (seq) WHERE sent_at IS NULL;
CREATE INDEX outbox_due ON outbox (due_at) WHERE due_at IS NOT NULL;

-- The newest revision for which the platform gave a receipt, with all its pictures, and when it came.
ALTER TABLE cases ADD COLUMN received_revision INTEGER;
ALTER TABLE cases ADD COLUMN received_at INTEGER;
",
];

/// Schema version of this program.
pub(super) const VERSION: u32 = MIGRATIONS.len() as u32;

/// First schema version with the table `chain`.
pub(super) const WITH_CHAIN: u32 = 3;

/// First schema version with the tables `held_back` and `boxes`.
pub(super) const WITH_HELD_BACK: u32 = 5;
/// First schema version whose chain has events beside its lines.
pub(super) const WITH_EVENTS: u32 = 5;
/// First schema version with the table `reviews`.
pub(super) const WITH_REVIEWS: u32 = 6;
/// First schema version whose outbox knows receipts.
pub(super) const WITH_RECEIPTS: u32 = 7;

/// Schema version of an open database.
pub(super) fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Migrates a database to [`VERSION`], each step in its own transaction.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let found = version(db)?;
    if found > VERSION {
        return Err(StoreError::Newer { found, known: VERSION });
    }
    for (step, sql) in (0u32..).zip(MIGRATIONS).skip(found as usize) {
        let step_transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step_transaction.execute_batch(sql)?;
        step_transaction.pragma_update(None, "user_version", step + 1)?;
        step_transaction.commit()?;
        if step > 0 {
            tracing::info!(from = step, to = step + 1, "Migrated database schema");
        }
    }
    Ok(())
}
