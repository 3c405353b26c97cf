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
        let Ok(file) = serde_json::from_value::<raw::File>(value.clone()) else {
            return Self(Arc::new(value.clone()));
        };
        let mut full = serde_json::to_value(file).unwrap_or_else(|_| value.clone());
        normalise(&mut full);
        Self(Arc::new(full))
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
