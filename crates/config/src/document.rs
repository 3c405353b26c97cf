//! What a checked configuration was read from: its effective content, and the files.

use std::{fmt, path::PathBuf, sync::Arc};

use serde_json::Value;

use crate::{files::ConfigFile, raw};
use gridwatch_base::document::schema;

/// What the configuration's files say, with the default of each field that they do not set; fields without a default are absent. Durations
/// are normalised (`90s` becomes `1m 30s`). Cheap to clone.
#[derive(Clone, Default)]
pub struct EffectiveDocument(Arc<Value>);

impl EffectiveDocument {
    /// That of content that satisfies the schema; the content itself if it does not.
    pub fn of(value: &Value) -> Self {
        Self(Arc::new(effective(value).unwrap_or_else(|| value.clone())))
    }

    /// The content.
    pub fn value(&self) -> &Value {
        &self.0
    }
}

impl fmt::Debug for EffectiveDocument {
    /// Without the content: it names credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EffectiveDocument(…)")
    }
}

/// The content with defaults; `None` if it does not satisfy the schema.
pub(crate) fn effective(value: &Value) -> Option<Value> {
    let file: raw::File = serde_json::from_value(value.clone()).ok()?;
    let mut full = serde_json::to_value(file).ok()?;
    normalise(&mut full);
    Some(full)
}

/// Whether two values mean the same: `1` and `1.0` do.
pub(crate) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_same = |(key, one): (&String, &Value)| other.get(key).is_some_and(|other| is_same(one, other));
            one.len() == other.len() && one.iter().all(is_same)
        }
        _ => one == other,
    }
}

/// Removes what is not set, and writes numbers as a person does.
fn normalise(value: &mut Value) {
    match value {
        Value::Object(table) => {
            table.retain(|_, value| !value.is_null());
            table.values_mut().for_each(normalise);
        }
        Value::Array(list) => list.iter_mut().for_each(normalise),
        other => schema::shorten(other),
    }
}

/// A file that was read for a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The field that names it, such as `grid.file` or `cameras[gate].approved_signs`; empty for the configuration's own files.
    pub field: String,
    /// The file (absolute).
    pub file: PathBuf,
    /// SHA-256 of what was read, in lower-case hex; `None` if it could not be read. Of the files in a model's folder, only the manifest is
    /// one: it holds the hash of the model.
    pub sha256: Option<String>,
}

impl Source {
    pub(crate) fn own(file: &ConfigFile) -> Self {
        Self {
            field: String::new(),
            // Fails only for an empty path or without a working directory; then the path is used as it is.
            file: std::path::absolute(&file.path).unwrap_or_else(|_| file.path.clone()),
            sha256: file.sha256(),
        }
    }
}
