//! What differs between two configurations: by the ids of cameras, zones and rules, with what takes effect at once and what needs a
//! restart. No credential is shown.

mod shown;
mod walk;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Camera, Config, Source, document::effective};
use gridwatch_base::{message, message::Message};
use gridwatch_engine::CameraId;

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applies {
    /// While the daemon runs.
    Live,
    /// When the daemon is restarted.
    Restart,
}

impl fmt::Display for Applies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Restart => "restart",
        })
    }
}

/// What has happened to a field or an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The value differs, or is set on one side only.
    Set,
    /// The element or table is new.
    Added,
    /// The element or table is gone.
    Removed,
    /// The same elements are in another order; the values are their ids.
    Reordered,
    /// The file that the field names has another content.
    Contents,
    /// A credential or the name of one; it is not shown.
    Secret,
}

/// The content of configuration files without their secrets, as [`Change`] shows values: what the schema marks as secret, what it does not
/// know, and texts that look like a URL with a login are `***`.
pub fn redacted(document: &Value) -> Value {
    walk::without_secrets(document)
}

/// One difference between two configurations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The field or element, by ids: `cameras[gate].zones[pavement].polygon` ([`ElementPath`](crate::element::ElementPath)).
    pub path: String,
    /// What has happened to it.
    pub kind: ChangeKind,
    /// The value before; absent if it was not set, and for secrets and contents of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// The value after; absent if it is not set any more, and for secrets and contents of files. Secrets within it are `"***"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
    /// When it takes effect.
    pub applies: Applies,
}

impl Change {
    /// One line, with long values cut.
    pub fn message(&self) -> Message {
        let path = &self.path;
        let what = match self.kind {
            ChangeKind::Set => shown::values(self.old.as_ref(), self.new.as_ref()),
            ChangeKind::Added => "added".into(),
            ChangeKind::Removed => "removed".into(),
            ChangeKind::Reordered => message!("order changed to {ids}", ids = shown::ids(self.new.as_ref())),
            ChangeKind::Contents => "contents changed".into(),
            ChangeKind::Secret => "changed".into(),
        };
        match self.applies {
            Applies::Live => message!("{path}: {what} (live)", path, what),
            Applies::Restart => message!("{path}: {what} (restart)", path, what),
        }
    }
}

impl fmt::Display for Change {
    /// One line, with long values cut: `cameras[gate].look_every: 2s → 5s (live)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message())
    }
}

/// What differs between two checked configurations, the files that they name and the credentials that they read included.
pub fn changes(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = documents(old.document.value(), new.document.value());
    let mut add = |path: String, kind: ChangeKind| {
        if !changes.iter().any(|c| c.path == path) {
            changes.push(Change {
                path,
                kind,
                old: None,
                new: None,
                applies: Applies::Live,
            });
        }
    };
    if old.broker.credentials != new.broker.credentials {
        add("broker.credentials".into(), ChangeKind::Secret);
    }
    for camera in &new.cameras {
        let before = find(&old.cameras, &camera.id);
        if before.is_some_and(|before| before.credentials != camera.credentials) {
            add(format!("cameras[{}].credentials", camera.id), ChangeKind::Secret);
        }
    }
    for source in new.sources.iter().filter(|s| !s.field.is_empty()) {
        let is_same = |before: &&Source| before.field == source.field && before.file == source.file;
        let before = old.sources.iter().find(is_same);
        if before.is_some_and(|before| before.sha256 != source.sha256) {
            add(source.field.clone(), ChangeKind::Contents);
        }
    }
    changes
}

fn find<'c>(cameras: &'c [Camera], id: &CameraId) -> Option<&'c Camera> {
    cameras.iter().find(|c| c.id == *id)
}

/// What differs between two contents as they are written, with defaults filled in if both satisfy the schema.
pub(crate) fn contents(old: &Value, new: &Value) -> Vec<Change> {
    match (effective(old), effective(new)) {
        (Some(old), Some(new)) => documents(&old, &new),
        _ => documents(old, new),
    }
}

/// What differs between two configurations' contents ([`Config::document`](crate::Config::document), or TOML as JSON), whatever they
/// refer to.
pub fn documents(old: &Value, new: &Value) -> Vec<Change> {
    walk::changes(old, new)
}
