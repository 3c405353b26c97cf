//! What was really there: things with their time and place, as a simulator knows them or as people wrote them down who
//! watched the footage. This reads them; [`trial`] holds cases against them.
//!
//! A truth file has one JSON object a line. Of one thing:
//!
//! ```json
//! {"id":"heap-1","kind":"heap of bags","category":"0102","problem":true,
//!  "from":"2026-06-01T08:00:00Z","to":"2026-06-01T11:20:00Z",
//!  "views":[{"camera":"gate","box":{"x1":0.4,"y1":0.5,"x2":0.5,"y2":0.6},"hidden_s":[[620,655]]}],
//!  "place":{"lon":113.6005,"lat":34.7005}}
//! ```
//!
//! `problem` is false for what looks like one and is lawful: such lines are not needed, they only name what a false case
//! was about. `hidden_s` are the spans, in seconds after `from`, in which something stood in front of it. `views`, `place`
//! or both say where it is; with a place alone it is taken to be in every calibrated view that shows it.

pub mod trial;

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use gridwatch_base::error::Class;
use gridwatch_engine::{BBox, CameraId, LonLat, Plan};

/// One thing that was there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// Unique in the file.
    pub id: String,
    /// What it is, in words.
    pub kind: String,
    /// The code of the category that it is, or seems to be, a problem of.
    pub category: String,
    /// Whether it should be filed if it stays.
    pub problem: bool,
    /// When it came, or became a problem.
    pub from: Timestamp,
    /// When it was gone.
    pub to: Timestamp,
    /// Where it stands on the ground, in the grid's reference system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<LonLat>,
    /// Where it is in pictures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<View>,
}

/// One camera's view of a thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Which camera.
    pub camera: CameraId,
    /// Its box at its largest, as fractions of the picture.
    #[serde(rename = "box")]
    pub bbox: BBox,
    /// When it was hidden, from and to, in seconds after [`Truth::from`]; in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden_s: Vec<(f64, f64)>,
}

/// A line that is no truth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BadTruth {
    /// The file, as it was named.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// What is wrong, and what to write.
    pub reason: String,
}

impl BadTruth {
    /// What was typed is wrong.
    pub fn class(&self) -> Class {
        Class::Config
    }
}

/// Reads a truth file's text; `file` is only named. Empty lines are passed over.
///
/// # Errors
/// The first line that is no truth, or names a camera that `plan` has not.
pub fn parse(file: &Path, text: &str, plan: &Plan) -> Result<Vec<Truth>, BadTruth> {
    let mut ids = BTreeSet::new();
    let mut truths = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let bad = |reason: String| BadTruth {
            file: file.display().to_string(),
            line: i + 1,
            reason,
        };
        let truth: Truth = serde_json::from_str(line).map_err(|e| bad(format!("no truth: {e}")))?;
        check(&truth, plan).map_err(bad)?;
        if !ids.insert(truth.id.clone()) {
            return Err(bad(format!(
                "the id {:?} was given before: give each thing its own",
                truth.id
            )));
        }
        truths.push(truth);
    }
    Ok(truths)
}

fn check(truth: &Truth, plan: &Plan) -> Result<(), String> {
    if truth.from >= truth.to {
        return Err("`to` is not later than `from`".into());
    }
    if truth.views.is_empty() && truth.place.is_none() {
        return Err("it says nowhere where the thing is: give `views` (camera and box), `place`, or both".into());
    }
    if let Some(LonLat { lon, lat }) = truth.place
        && !((-180.0..=180.0).contains(&lon) && (-90.0..=90.0).contains(&lat))
    {
        return Err(format!(
            "`place` [{lon}, {lat}] is no longitude and latitude in degrees"
        ));
    }
    let mut cameras = BTreeSet::new();
    for view in &truth.views {
        let camera = &view.camera;
        if !plan.cameras.contains_key(camera) {
            return Err(format!("the configuration has no camera {camera:?}"));
        }
        if !cameras.insert(camera) {
            return Err(format!("camera {camera:?} is named twice: one view for each camera"));
        }
        if view.bbox.within_picture() != Some(view.bbox) {
            return Err(format!(
                "the box at camera {camera:?} is none: x1 < x2 and y1 < y2, as fractions of the picture from 0 to 1"
            ));
        }
        let mut end = 0.0;
        for (from, to) in &view.hidden_s {
            if !(*from >= end && from <= to && to.is_finite()) {
                return Err(format!(
                    "hidden_s of camera {camera:?} is not in order: [from, to] in seconds after the thing's `from`"
                ));
            }
            end = *to;
        }
    }
    Ok(())
}
