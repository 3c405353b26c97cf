//! How values are stored: JSON columns, times in microseconds since 1970, and the mapping of rows to types.

use jiff::Timestamp;
use rusqlite::{Connection, Params, Row};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::StoreError;

/// Runs a query and maps all rows.
pub(super) fn all<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query(params)?;
    let mut mapped = Vec::new();
    while let Some(row) = rows.next()? {
        mapped.push(map(row)?);
    }
    Ok(mapped)
}

/// Like [`all`], but skips the rows that cannot be read and logs them: one bad row must not stop what the others need.
pub(super) fn readable<T>(
    db: &Connection,
    sql: &str,
    mut map: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let rows = all(db, sql, [], |row| match map(row) {
        Err(error @ StoreError::BadRow { .. }) => {
            tracing::error!(%error, "Row skipped");
            Ok(None)
        }
        mapped => mapped.map(Some),
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Runs a query and maps the first row, if there is one.
pub(super) fn first<T>(
    db: &Connection,
    sql: &str,
    params: impl Params,
    map: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query(params)?;
    rows.next()?.map(map).transpose()
}

/// Runs a query for one column of text.
pub(super) fn texts(db: &Connection, sql: &str, params: impl Params) -> Result<Vec<String>, StoreError> {
    all(db, sql, params, |row| Ok(row.get(0)?))
}

/// The value of a JSON column.
pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("contract types serialize to JSON: string keys, no NaN")
}

/// Reads a JSON column of `case`.
pub(super) fn json<T: DeserializeOwned>(row: &Row<'_>, case: &str, column: &'static str) -> Result<T, StoreError> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|e| bad(case, column, &e))
}

/// The serialized name of an enum variant.
pub(super) fn name_of(variant: &impl Serialize) -> String {
    to_json(variant).trim_matches('"').to_string()
}

/// Reads a column of `case` with the serialized name of an enum variant.
pub(super) fn variant<T: DeserializeOwned>(row: &Row<'_>, case: &str, column: &'static str) -> Result<T, StoreError> {
    let name: String = row.get(column)?;
    serde_json::from_value(Value::String(name)).map_err(|e| bad(case, column, &e))
}

/// The value of a time column.
pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// Reads a time column of `case`.
pub(super) fn time(row: &Row<'_>, case: &str, column: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|e| bad(case, column, &e))
}

/// Reads a time column of `case` that may be empty.
pub(super) fn optional_time(row: &Row<'_>, case: &str, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let at: Option<i64> = row.get(column)?;
    at.map(|at| Timestamp::from_microsecond(at).map_err(|e| bad(case, column, &e)))
        .transpose()
}

/// The value of a column with a size in bytes.
pub(super) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn bad(case: &str, column: &'static str, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::BadRow {
        case: case.into(),
        field: column,
        reason: reason.to_string(),
    }
}
