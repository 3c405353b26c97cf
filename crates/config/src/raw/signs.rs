//! The format of an approved-sign file, written by `gridwatch signs record` and edited by an operator.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DAY_PATTERN, VIEW_PATTERN};

/// The signs that are allowed in one view. A file without signs means that none is allowed.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signs {
    /// The view: the camera's id, or `CAMERA.PRESET`. Boxes recorded in another view would approve the wrong signs.
    #[schemars(regex(pattern = VIEW_PATTERN))]
    pub camera: String,
    /// Time of the last recording (RFC 3339), such as `2026-11-22T10:00:00+08:00`.
    pub recorded: String,
    /// The model used for recording, as `id@version`. Other models draw different boxes around the same signs: record again after a change.
    #[schemars(length(min = 1))]
    pub model: String,
    /// The allowed signs.
    #[serde(default)]
    pub signs: Vec<Sign>,
}

/// A sign that is allowed at its position.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// Bounding box `[left, top, right, bottom]` as fractions of the image size.
    #[serde(rename = "box")]
    pub corners: [f32; 4],
    /// Label given by the model; objects with another label are not approved.
    #[schemars(length(min = 1))]
    pub label: String,
    /// Phone number read on the sign, digits only; it is approved anywhere in the view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{7,16}$"))]
    pub number: Option<String>,
    /// Text read on the sign, such as the shop's name; it is approved in the view of every camera. Names of persons are masked with asterisks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 160))]
    pub text: Option<String>,
    /// Note for people: the owner, and the permit if its number is not in `permit`.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub note: Option<String>,
    /// Number of the permit, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub permit: Option<String>,
    /// Last day on which it is approved, in local time, such as `2027-06-30`; after it, the sign is treated as a new one. Unset: without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DAY_PATTERN))]
    pub valid_until: Option<String>,
    /// Date on which it was added.
    #[serde(default)]
    pub added: Option<String>,
}
