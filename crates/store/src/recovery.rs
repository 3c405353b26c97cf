//! Backup, restore, rebuilding and starting anew. What was filed must not be filed again, so a database that takes the place of
//! another one first takes over the cases that only the other one knows.
//!
//! Cases are copied one by one, each in a transaction of its own: a damaged page costs the cases on it, not all of them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Row, Transaction, backup::Backup, params, params_from_iter, types::Value};
use serde::Serialize;

use gridwatch_base::disk::create_private_dir;
use gridwatch_custody::{
    PublicKey,
    keys::{KeyRing, OriginalsKey, SigningKeyPlace},
};

use super::{
    FILE, Store, StoreError, chain,
    location::{self, Aside, Moved},
    lock, quick_check, row, schema,
};

/// The tables whose rows belong to one case, without their automatic keys. Parents come first.
const OF_CASE: [(&str, &str); 7] = [
    ("cases", "*"),
    (
        "case_history",
        "case_id, revision, author, state, at, reason, times, last_at, omitted",
    ),
    ("evidence", "*"),
    ("originals", "*"),
    ("claims", "*"),
    ("held_back", "*"),
    (
        "outbox",
        "case_id, kind, topic, sha256, payload, queued_at, unheard, quarantined",
    ),
];

/// What a restored or rebuilt database took over from others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// Where the previous database is now; `None` if there was none.
    pub moved_to: Option<PathBuf>,
    /// Where a write-ahead log without its database is now; `None` if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphaned_wal: Option<PathBuf>,
    /// Cases in the database now.
    pub cases: u32,
    /// Cases taken over from databases that were moved aside: unknown to the backup, or changed since.
    pub taken_over: usize,
    /// Cases of those databases that cannot be read.
    pub unreadable: usize,
    /// Pictures on the disk that no case in the database has: of cases that are lost.
    pub unknown_pictures: usize,
}

impl Recovered {
    fn with(self, moved: Moved) -> Self {
        Self {
            moved_to: moved.database,
            orphaned_wal: moved.orphaned_wal,
            ..self
        }
    }
}

impl Store {
    /// Writes a consistent copy of the database to the new file `out`, also while the daemon runs.
    ///
    /// # Errors
    /// [`StoreError::Backup`] if `out` exists, there is no room for it, or it cannot be written; no partial file is left. Or this
    /// database cannot be read.
    pub fn backup(&self, out: &Path) -> Result<(), StoreError> {
        if out.exists() {
            return Err(backup_error(out, "it exists; name a new file"));
        }
        let needed = self.size()?;
        let folder = folder_of(out);
        // Before the disk that cases are filed to is full, too.
        if let Some(lack) = free_space(folder).and_then(|free| lack_of_room(needed, free)) {
            return Err(backup_error(out, lack));
        }
        let partial = PathBuf::from(format!("{}.{}.tmp", out.display(), std::process::id()));
        let written = self.copy_to(&partial).and_then(|()| {
            fs::rename(&partial, out).map_err(|e| StoreError::io("write", out, e))?;
            sync(folder)
        });
        written.map_err(|error| {
            // Best effort: the names are never read. SQLite leaves its journal where it cannot write.
            for left in [partial.clone(), PathBuf::from(format!("{}-journal", partial.display()))] {
                let _ = fs::remove_file(left);
            }
            match error {
                StoreError::Io { source, .. } => backup_error(out, source.to_string()),
                StoreError::DiskFull { .. } => {
                    let free = free_space(folder).unwrap_or_default();
                    backup_error(
                        out,
                        lack_of_room(needed, free).unwrap_or_else(|| disk_full(needed, free)),
                    )
                }
                other => backup_error(out, format!("{other}; it needs {}", mib(needed))),
            }
        })
    }

    /// Size of the database in bytes, with what is in the write-ahead log only.
    fn size(&self) -> Result<u64, StoreError> {
        let value = |pragma: &str| self.db.query_row(pragma, [], |row| row.get::<_, u32>(0));
        Ok(u64::from(value("PRAGMA page_count")?) * u64::from(value("PRAGMA page_size")?))
    }

    fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        super::private_file(path)?;
        let mut copy = Connection::open(path)?;
        // All pages in one step: one read transaction, which does not hold up the daemon's commits.
        Backup::new(&self.db, &mut copy)?.run_to_completion(i32::MAX, Duration::from_millis(50), None)?;
        // One file that can be read from a medium that is not writable.
        copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
        quick_check(&copy)?;
        drop(copy);
        sync(path)
    }

    /// Puts the backup `file` in the place of the database in `dir`, moves the previous one aside, and takes over from it what
    /// was filed or changed after the backup.
    ///
    /// # Errors
    /// [`StoreError::OtherBox`] if the backup is of a box with another signing key or node id;
    /// [`StoreError::NotAStateDir`]; [`StoreError::Busy`] while a daemon runs; `file` is not a database of gridwatch, is damaged or of a newer version. The
    /// database is then unchanged.
    pub fn restore(dir: &Path, file: &Path) -> Result<Recovered, StoreError> {
        Self::put_back(dir, file, false)
    }

    /// [`Store::restore`], also of a backup of another box.
    ///
    /// # Errors
    /// As [`Store::restore`].
    pub fn restore_from_other_box(dir: &Path, file: &Path) -> Result<Recovered, StoreError> {
        Self::put_back(dir, file, true)
    }

    fn put_back(dir: &Path, file: &Path, is_any_box: bool) -> Result<Recovered, StoreError> {
        fs::create_dir_all(dir).map_err(|e| StoreError::io("create", dir, e))?;
        location::expect_state_dir(dir)?;
        let _lock = lock(dir)?;
        let path = dir.join(FILE);
        let incoming = dir.join(format!("{FILE}.restoring"));
        let prepared = copy_backup(file, &incoming).and_then(|()| match is_any_box {
            true => Ok(()),
            false => expect_same_box(file, &incoming, dir),
        });
        if let Err(e) = prepared {
            let _ = fs::remove_file(&incoming);
            return Err(e);
        }
        let moved = location::move_aside(&path, Aside::Replaced)?;
        fs::rename(&incoming, &path).map_err(|e| StoreError::io("rename", &incoming, e))?;
        sync(dir)?;
        let others: Vec<PathBuf> = moved.database.iter().cloned().collect();
        Ok(take_over(dir, &others)?.with(moved))
    }

    /// Takes the cases of all databases that were moved aside over into the database in `dir`, which is created if necessary.
    ///
    /// # Errors
    /// [`StoreError::NotAStateDir`], [`StoreError::Busy`] while a daemon runs, or a database error.
    pub fn rebuild(dir: &Path) -> Result<Recovered, StoreError> {
        location::expect_state_dir(dir)?;
        let _lock = lock(dir)?;
        let aside = location::moved_aside(dir);
        let path = dir.join(FILE);
        let moved = match location::is_missing(&path) {
            // A write-ahead log without its database may hold nearly all of it: SQLite would delete it with the new one.
            true => location::move_aside(&path, Aside::Replaced)?,
            false => Moved::default(),
        };
        Ok(take_over(dir, &aside)?.with(moved))
    }

    /// Creates an empty database in `dir`, whatever was filed before; an existing one is moved aside. The next start signs
    /// with the key that is there.
    ///
    /// # Errors
    /// [`StoreError::NotAStateDir`], [`StoreError::Busy`] while a daemon runs, or [`StoreError::Io`].
    pub fn start_anew(dir: &Path) -> Result<Recovered, StoreError> {
        location::expect_state_dir(dir)?;
        let _lock = lock(dir)?;
        let moved = location::move_aside(&dir.join(FILE), Aside::Replaced)?;
        Ok(take_over(dir, &[])?.with(moved))
    }
}

/// Creates the keys of the state directory `dir` that are missing, on an operator's command, and accepts the key of the originals that is in
/// `originals`. Returns the public key, and whether the key of the originals had been another one.
///
/// # Errors
/// [`StoreError::NotAStateDir`], [`StoreError::Busy`] while a daemon runs, or [`StoreError::Key`].
pub fn create_missing_keys(
    dir: &Path,
    keys: &KeyRing,
    originals: &OriginalsKey,
) -> Result<(PublicKey, bool), StoreError> {
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if is_empty {
        // A box whose key is enrolled before its first start.
        create_private_dir(dir).map_err(|e| StoreError::io("create", dir, e))?;
        if *keys.signing_place() != SigningKeyPlace::Own {
            // The lock's file shows whose directory it is if the token refuses.
            let _lock = lock(dir)?;
            keys.create_missing()?;
        }
        let public = Store::open_with(dir, keys)?.key()?.public();
        return Ok((public, keys.accept_originals(originals)?));
    }
    location::expect_state_dir(dir)?;
    let _lock = lock(dir)?;
    let public = keys.create_missing()?.public();
    Ok((public, keys.accept_originals(originals)?))
}

fn backup_error(out: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Backup {
        path: out.to_path_buf(),
        reason: reason.into(),
    }
}

fn folder_of(file: &Path) -> &Path {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Bytes that this user may still write to the disk of `folder`, if the system tells.
fn free_space(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// What to say if `needed` bytes do not fit into `free`.
fn lack_of_room(needed: u64, free: u64) -> Option<String> {
    (needed > free).then(|| disk_full(needed, free))
}

fn disk_full(needed: u64, free: u64) -> String {
    format!(
        "the disk is full: it needs {}, and {} are free there; make room, or name a file on another disk",
        mib(needed),
        mib(free)
    )
}

/// In MiB, rounded up, so that what is said to be needed suffices.
fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|e| StoreError::io("write", path, e))
}

/// Copies the backup `file` to `to`, after checking that it is a sound database of this or an older version.
fn copy_backup(file: &Path, to: &Path) -> Result<(), StoreError> {
    let is_regular = fs::metadata(file)
        .map_err(|e| StoreError::io("read", file, e))?
        .is_file();
    if !is_regular {
        let what = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
        return Err(StoreError::io("read", file, what));
    }
    let not_a_backup = |reason: String| StoreError::NotABackup {
        path: file.to_path_buf(),
        reason,
    };
    let from = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let found = schema::version(&from).map_err(|e| not_a_backup(e.to_string()))?;
    if found > schema::VERSION {
        let known = schema::VERSION;
        return Err(StoreError::Newer { found, known });
    }
    let has_cases = from
        .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'cases'")
        .and_then(|mut query| query.exists([]))
        .map_err(|e| not_a_backup(e.to_string()))?;
    if found == 0 || !has_cases {
        return Err(not_a_backup(match is_in_wal_mode(file) {
            true => format!(
                "it is empty: what the database held was in its write-ahead log, which is missing; copy {}-wal beside it",
                FILE
            ),
            false => "it has no cases".into(),
        }));
    }
    quick_check(&from).map_err(|e| not_a_backup(e.to_string()))?;
    match fs::remove_file(to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(StoreError::io("write", to, e)),
        _ => super::private_file(to)?,
    }
    let mut copy = Connection::open(to)?;
    Backup::new(&from, &mut copy)?.run_to_completion(i32::MAX, Duration::from_millis(50), None)?;
    copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    drop(copy);
    sync(to)
}

/// Whether `file` was copied from a database in use, and not written as a backup: bytes 18 and 19 of its header are 2 in WAL mode.
fn is_in_wal_mode(file: &Path) -> bool {
    let mut header = [0; 20];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[18..] == [2, 2]
}

/// The box that a database is of.
#[derive(Default)]
struct Origin {
    /// From its newest case.
    node: Option<String>,
    /// The public keys of its chain, newest first.
    keys: Vec<String>,
}

impl Origin {
    /// What `db` shows; an older version may know less.
    fn of(db: &Connection) -> Self {
        let node = "SELECT json_extract(record, '$.node_id') FROM cases ORDER BY confirmed_at DESC LIMIT 1";
        Self {
            node: row::texts(db, node, []).unwrap_or_default().into_iter().next(),
            keys: chain::keys(db).unwrap_or_default(),
        }
    }

    /// Whether both are of one box, as far as both show it. A key may have been rotated since.
    fn fits(&self, other: &Self) -> bool {
        let is_same_node = self.node.is_none() || other.node.is_none() || self.node == other.node;
        let is_same_key =
            self.keys.is_empty() || other.keys.is_empty() || self.keys.iter().any(|key| other.keys.contains(key));
        is_same_node && is_same_key
    }

    fn describe(&self) -> String {
        let node = self
            .node
            .as_ref()
            .map_or("a box without cases".into(), |node| format!("node {node:?}"));
        match self.keys.first() {
            Some(key) => format!("{node} (public key {key})"),
            None => node,
        }
    }
}

/// Fails if the backup `file`, copied to `copy`, is of another box than the one whose state directory is `dir`.
fn expect_same_box(file: &Path, copy: &Path, dir: &Path) -> Result<(), StoreError> {
    let read_only = |path: &Path| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags).map(|db| Origin::of(&db))
    };
    let theirs = read_only(copy)?;
    let path = dir.join(FILE);
    // A lost or damaged database shows nothing.
    let mut own = match path.is_file() {
        true => read_only(&path).unwrap_or_default(),
        false => Origin::default(),
    };
    if let Ok(key) = KeyRing::of(dir).existing() {
        let key = key.public().to_string();
        own.keys.retain(|known| *known != key);
        own.keys.insert(0, key);
    }
    match theirs.fits(&own) {
        true => Ok(()),
        false => Err(StoreError::OtherBox {
            path: file.to_path_buf(),
            theirs: theirs.describe(),
            own: own.describe(),
        }),
    }
}

/// Opens the database in `dir`, or creates it, and takes over what the databases `others` know beyond it, newest first.
fn take_over(dir: &Path, others: &[PathBuf]) -> Result<Recovered, StoreError> {
    let path = dir.join(FILE);
    let mut db = super::open_checked(&path)?;
    let mut recovered = Recovered::default();
    for other in others {
        let (taken_over, unreadable) = merge(&mut db, other);
        recovered.taken_over += taken_over;
        recovered.unreadable += unreadable;
    }
    recovered.cases = db.query_row("SELECT count(*) FROM cases", [], |row| row.get(0))?;
    recovered.unknown_pictures = unknown_pictures(&db, dir)?;
    Ok(recovered)
}

/// Takes over what the database `other` knows beyond `db`, as far as it can be read. Returns how many cases were taken over,
/// and how many could not be. The other one is read through a connection of its own: damage that is found on the way does not
/// end a transaction of this one.
pub(super) fn merge(db: &mut Connection, other: &Path) -> (usize, usize) {
    let opened = super::connect(other).and_then(|mut from| {
        schema::migrate(&mut from)?;
        Ok(from)
    });
    let from = match opened {
        Ok(from) => from,
        Err(error) => {
            tracing::warn!(database = %other.display(), %error, "Cannot read the database that was moved aside");
            return (0, 0);
        }
    };
    if let Err(error) = copy_chain(db, &from) {
        tracing::warn!(database = %other.display(), %error, "Cannot read the whole chain of the database that was moved aside");
    }
    let (mut taken_over, mut unreadable) = (0, 0);
    for id in readable_ids(&from) {
        match copy_case(db, &from, &id) {
            Ok(true) => taken_over += 1,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(case = id, %error, "Cannot read a case in the database that was moved aside");
                unreadable += 1;
            }
        }
    }
    if let Err(error) = copy_reviews(db, &from) {
        tracing::warn!(database = %other.display(), %error, "Cannot read the reviews in the database that was moved aside");
    }
    (taken_over, unreadable)
}

/// Takes over the reviews of known cases that are newer than those of this database.
fn copy_reviews(db: &mut Connection, from: &Connection) -> Result<(), StoreError> {
    let t = db.transaction()?;
    let mut query = from.prepare("SELECT case_id, reviewer, verdict, duplicate_of, at, recorded FROM reviews")?;
    let mut rows = query.query([])?;
    let mut copy = t.prepare(
        "INSERT INTO reviews (case_id, reviewer, verdict, duplicate_of, at, recorded)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM cases WHERE id = ?1)
         ON CONFLICT (case_id, reviewer) DO UPDATE
         SET verdict = excluded.verdict, duplicate_of = excluded.duplicate_of, at = excluded.at, recorded = excluded.recorded
         WHERE excluded.at > reviews.at",
    )?;
    while let Some(row) = rows.next()? {
        copy.execute(params_from_iter(values(row, 6)?))?;
    }
    drop(copy);
    t.commit()?;
    Ok(())
}

/// Appends the chain lines that `from` has after the end of this chain, if they continue it, up to the first that cannot be
/// read. A chain that does not continue this one stays in the database that was moved aside.
fn copy_chain(db: &mut Connection, from: &Connection) -> Result<(), StoreError> {
    let end = row::first(db, "SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1", [], |row| {
        Ok((row.get::<_, i64>("seq")?, row.get::<_, String>("hash")?))
    })?;
    let next = match end {
        None => 0,
        Some((seq, hash)) => {
            let same = "SELECT 1 FROM chain WHERE seq = ?1 AND hash = ?2";
            if !from.prepare(same)?.exists(params![seq, hash])? {
                return Ok(());
            }
            seq + 1
        }
    };
    let t = db.transaction()?;
    let mut query =
        from.prepare("SELECT seq, line, hash, case_id, event, details FROM chain WHERE seq >= ?1 ORDER BY seq")?;
    let mut lines = query.query([next])?;
    let read = loop {
        match lines.next() {
            Ok(Some(line)) => insert(
                &t,
                "chain",
                "(seq, line, hash, case_id, event, details)",
                &values(line, 6)?,
            )?,
            Ok(None) => break Ok(()),
            Err(e) => break Err(e.into()),
        }
    };
    t.commit()?;
    read
}

/// The ids of the cases that `from` has, as far as they can be read: an index may be sound where the table is not, and the other
/// way round.
fn readable_ids(from: &Connection) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for index in [
        "NOT INDEXED",
        "INDEXED BY cases_by_state",
        "INDEXED BY cases_by_confirmed",
    ] {
        let Ok(mut query) = from.prepare(&format!("SELECT id FROM cases {index}")) else {
            continue;
        };
        let Ok(rows) = query.query_map([], |row| row.get(0)) else {
            continue;
        };
        ids.extend(rows.map_while(Result::ok));
    }
    ids
}

/// Copies a case unless this database has it in the same or a later revision. Its unsent messages are copied with it.
fn copy_case(db: &mut Connection, from: &Connection, id: &str) -> Result<bool, StoreError> {
    let revision = |db: &Connection| {
        row::first(db, "SELECT revision FROM cases WHERE id = ?1", [id], |row| {
            Ok(row.get::<_, u32>("revision")?)
        })
    };
    if revision(from)? <= revision(db)? {
        return Ok(false);
    }
    let t = db.transaction()?;
    t.execute("DELETE FROM sent WHERE case_id = ?1", [id])?;
    for (table, _) in OF_CASE.iter().rev() {
        let key = key_of(table);
        t.execute(&format!("DELETE FROM {table} WHERE {key} = ?1"), [id])?;
    }
    for (table, columns) in OF_CASE {
        let rows = match rows_of(from, table, columns, id) {
            // Without the case its site would be filed again; without the rest of it, it is only less well documented.
            Err(error) if table != "cases" => {
                tracing::warn!(case = id, table, %error, "Cannot read a part of a case in the database that was moved aside");
                continue;
            }
            rows => rows?,
        };
        let into = if columns == "*" {
            String::new()
        } else {
            format!("({columns})")
        };
        for row in rows {
            insert(&t, table, &into, &row)?;
        }
    }
    t.commit()?;
    Ok(true)
}

/// The rows of a case in a table, in the order in which they were written.
fn rows_of(from: &Connection, table: &str, columns: &str, id: &str) -> Result<Vec<Vec<Value>>, StoreError> {
    let key = key_of(table);
    // Tables WITHOUT ROWID have no automatic key.
    let order = if columns == "*" { "" } else { "ORDER BY rowid" };
    let read = |key: &str| -> Result<Vec<Vec<Value>>, StoreError> {
        let mut query = from.prepare(&format!("SELECT {columns} FROM {table} WHERE {key} = ?1 {order}"))?;
        let count = query.column_count();
        let rows = query.query_map([id], |row| values(row, count))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    // The plus sign keeps SQLite from using an index, which may be what is damaged.
    read(key).or_else(|_| read(&format!("+{key}")))
}

fn values(row: &Row<'_>, count: usize) -> rusqlite::Result<Vec<Value>> {
    (0..count).map(|i| row.get(i)).collect()
}

fn insert(t: &Transaction<'_>, table: &str, into: &str, row: &[Value]) -> Result<(), StoreError> {
    let marks = vec!["?"; row.len()].join(", ");
    t.prepare_cached(&format!("INSERT INTO {table} {into} VALUES ({marks})"))?
        .execute(params_from_iter(row))?;
    Ok(())
}

fn key_of(table: &str) -> &'static str {
    if table == "cases" { "id" } else { "case_id" }
}

/// The number of pictures on the disk that belong to no case of the database.
fn unknown_pictures(db: &Connection, dir: &Path) -> Result<usize, StoreError> {
    let known: BTreeSet<String> = row::texts(db, "SELECT DISTINCT sha256 FROM evidence", [])?
        .into_iter()
        .collect();
    let folders = fs::read_dir(dir.join("evidence")).into_iter().flatten().flatten();
    let pictures = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let names = pictures.filter_map(|p| p.file_name().into_string().ok());
    Ok(names
        .filter(|name| name.strip_suffix(".jpg").is_some_and(|sha256| !known.contains(sha256)))
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lack_of_room_is_said_with_what_is_needed() {
        assert_eq!(lack_of_room(5 << 20, 5 << 20), None);
        let lack = lack_of_room((5 << 20) + 1, 2 << 20).unwrap();
        assert!(lack.contains("needs 6 MiB, and 2 MiB are free"), "{lack}");
    }
}
