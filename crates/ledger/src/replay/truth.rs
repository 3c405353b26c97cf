//! Ground truth: objects with their time and place, written by the simulator or by people who watched the footage. This
//! module parses truth files; [`evaluation`] compares cases with them.
//!
//! A truth file has one JSON object per line, one for each object in the street:
//!
//! ```json
//! {"id":"heap-1","kind":"heap of bags","category":"0102","problem":true,
//!  "from":"2026-06-01T08:00:00Z","to":"2026-06-01T11:20:00Z",
//!  "views":[{"camera":"gate","box":{"x1":0.4,"y1":0.5,"x2":0.5,"y2":0.6},"hidden_s":[[620,655]],"appeared":true}],
//!  "place":{"lon":113.6005,"lat":34.7005}}
//! ```
//!
//! `problem` is false for lawful objects that look like a problem; they are optional and only name what a false case
//! was about. `hidden_s` are the spans, in seconds after `from`, in which the object was occluded; `appeared`, which is optional,
//! is false if it was there when the camera learned its view. `views`, `place` or
//! both give its position; an object with a place alone is assumed to be in every calibrated view that shows the place.

mod counts;
pub mod evaluation;

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_base::error::Class;
use gridwatch_engine::{BBox, CameraId, LonLat, Plan};

/// An object in the street.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroundTruth {
    /// Id, unique in the file.
    pub id: String,
    /// Description.
    pub kind: String,
    /// Code of the category that it belongs to, or seems to belong to.
    pub category: String,
    /// Whether it should be filed if it stays.
    pub problem: bool,
    /// When it appeared or became a problem.
    pub from: Timestamp,
    /// When it was gone.
    pub to: Timestamp,
    /// Position on the ground, in the grid's reference system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<LonLat>,
    /// Position in the pictures of cameras.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<TruthView>,
}

/// A view of an object by one camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TruthView {
    /// Id of the camera.
    pub camera: CameraId,
    /// Bounding box at its largest, as fractions of the picture.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// Spans in which it was occluded, from and to, in seconds after [`GroundTruth::from`]; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_s: Vec<(f64, f64)>,
    /// Whether it appeared after the camera had learned its view; false: it was there when the view was learned, in any light, and
    /// belongs to the background. `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub appeared: Option<bool>,
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct TruthError {
    /// The file.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

impl TruthError {
    /// Always [`Class::Config`].
    pub fn class(&self) -> Class {
        Class::Config
    }
}

/// Parses the text of a truth file; `file` is only used in errors. Empty lines are skipped.
///
/// # Errors
/// The first invalid line, including one with a camera that `plan` does not have.
pub fn parse(file: &Path, text: &str, plan: &Plan) -> Result<Vec<GroundTruth>, TruthError> {
    let mut ids = BTreeSet::new();
    let mut truths = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let bad = |reason: String| TruthError {
            file: file.display().to_string(),
            line: i + 1,
            reason,
        };
        let truth: GroundTruth = serde_json::from_str(line).map_err(|e| bad(format!("invalid truth: {e}")))?;
        check(&truth, plan).map_err(bad)?;
        if !ids.insert(truth.id.clone()) {
            return Err(bad(format!("duplicate id {:?}; ids must be unique", truth.id)));
        }
        truths.push(truth);
    }
    Ok(truths)
}

fn check(truth: &GroundTruth, plan: &Plan) -> Result<(), String> {
    if truth.from >= truth.to {
        return Err("`to` must be later than `from`".into());
    }
    if truth.views.is_empty() && truth.place.is_none() {
        return Err("no position; give `views` (camera and box), `place`, or both".into());
    }
    if let Some(LonLat { lon, lat }) = truth.place
        && !((-180.0..=180.0).contains(&lon) && (-90.0..=90.0).contains(&lat))
    {
        return Err(format!(
            "`place` [{lon}, {lat}] is not a valid longitude and latitude in degrees"
        ));
    }
    let mut cameras = BTreeSet::new();
    for view in &truth.views {
        let camera = &view.camera;
        if !plan.cameras.contains_key(camera) {
            return Err(format!("unknown camera {camera:?}: not in the configuration"));
        }
        if !cameras.insert(camera) {
            return Err(format!("duplicate view of camera {camera:?}; give one view per camera"));
        }
        if view.bbox.within_picture() != Some(view.bbox) {
            return Err(format!(
                "invalid box at camera {camera:?}: need x1 < x2 and y1 < y2, as fractions of the picture from 0 to 1"
            ));
        }
        let mut end = 0.0;
        for (from, to) in &view.hidden_s {
            if !(*from >= end && from <= to && to.is_finite()) {
                return Err(format!(
                    "hidden_s of camera {camera:?} is not in order; give [from, to] in seconds after the `from` of the object"
                ));
            }
            end = *to;
        }
    }
    Ok(())
}
