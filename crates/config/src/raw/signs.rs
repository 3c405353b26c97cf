//! The form of a camera's approved-sign baseline, which `gridwatch signs record` writes and an operator edits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VIEW_PATTERN;

/// The signs that may hang in one camera's view. A file without any says that there are none.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signs {
    /// The camera whose view it is, or `CAMERA.PRESET`: another's boxes would approve nothing, or the wrong things.
    #[schemars(regex(pattern = VIEW_PATTERN))]
    pub camera: String,
    /// When it was last recorded, with its offset: `2026-11-22T10:00:00+08:00`.
    pub recorded: String,
    /// What recorded it: a model's id and version. Another model boxes the same signs differently: record again after a change.
    #[schemars(length(min = 1))]
    pub model: String,
    /// The signs.
    #[serde(default)]
    pub signs: Vec<Sign>,
}

/// A sign that may hang where it hangs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// `[left, top, right, bottom]` as fractions of the picture.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
    /// What the model calls it; things of another label are not approved by it.
    #[schemars(length(min = 1))]
    pub label: String,
    /// The telephone number that was read on it, digits only: it is lawful wherever it is seen in the view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{7,16}$"))]
    pub number: Option<String>,
    /// Whose it is, by which permit: for people.
    #[serde(default)]
    pub note: Option<String>,
    /// The day it was added.
    #[serde(default)]
    pub added: Option<String>,
}
