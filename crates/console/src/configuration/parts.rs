//! The parts of the configuration that operators change on pages of their own: zones, calibrations, schedules.

use std::sync::Arc;

use gridwatch_base::message;
use gridwatch_config::{edit::Editor, element::ElementPath, raw};
use gridwatch_engine::{
    CameraId, LonLat, Point,
    geometry::{Calibration, CalibrationError, Crs, Lens},
};
use gridwatch_web::{Actor, Rejection};
use serde_json::{Value, json};

use super::{EditOutcome, Part, PartEdit, change, set_list, view_path};
use crate::{
    access::CameraAccess as _,
    app::App,
    error,
    ground::{self, GroundAnswer},
    values::{Uncertainty, is_id},
};

/// Pairs of a calibration, at most; each costs two fits.
pub(crate) const MAX_PAIRS: usize = 200;

/// Where a view that the user may see is in the files.
pub(crate) fn path_of(app: &App, actor: &Actor, view: &CameraId) -> Result<ElementPath, Rejection> {
    let config = app.config();
    actor.camera_of(&config, view).ok_or(Rejection::NotFound)?;
    let found = gridwatch_config::find_view(&config.cameras, view.as_str());
    let (camera, preset) = found.ok_or(Rejection::NotFound)?;
    Ok(view_path(camera, preset))
}

/// Sets the zones of a view.
pub(crate) async fn save_zones(
    app: &Arc<App>,
    actor: &Actor,
    view: &CameraId,
    revision: String,
    zones: Vec<Value>,
) -> Result<EditOutcome, Rejection> {
    let part = path_of(app, actor, view)?.key("zones");
    let (path, zones) = (part.to_string(), Value::Array(zones));
    let edit = PartEdit {
        part,
        revision,
        why: format!("zones of {view}"),
        edit: move |editor: &mut Editor| set_list(editor, &path, &zones),
    };
    change(app, actor, edit).await
}

/// Sets the point pairs of a view's calibration; without pairs, the view has none any more.
pub(crate) async fn save_pairs(
    app: &Arc<App>,
    actor: &Actor,
    view: &CameraId,
    revision: String,
    points: Vec<Value>,
) -> Result<EditOutcome, Rejection> {
    let part = path_of(app, actor, view)?.key("calibration");
    let path = part.to_string();
    let edit = PartEdit {
        part,
        revision,
        why: format!("calibration of {view}"),
        edit: move |editor: &mut Editor| match (points.is_empty(), editor.get(&path)?) {
            (true, None) => Ok(()),
            (true, Some(_)) => editor.unset(&path),
            (false, None) => editor.set(&path, &json!({ "points": points })),
            (false, Some(_)) => editor.set(&format!("{path}.points"), &Value::Array(points.clone())),
        },
    };
    change(app, actor, edit).await
}

/// Sets the windows of a schedule, which may be new.
pub(crate) async fn save_windows(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    revision: String,
    windows: Vec<Value>,
) -> Result<EditOutcome, Rejection> {
    let id = schedule_id(actor, id)?;
    let part = schedules().id(&id);
    let path = part.to_string();
    let edit = PartEdit {
        part,
        revision,
        why: format!("hours of {id}"),
        edit: move |editor: &mut Editor| match editor.get(&path)? {
            Some(_) => editor.set(&format!("{path}.windows"), &Value::Array(windows.clone())),
            None => editor.add("schedules", &json!({ "id": id, "windows": windows }), None),
        },
    };
    change(app, actor, edit).await
}

/// Adds a schedule; one of this id must not be there.
pub(crate) async fn add_schedule(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    revision: String,
    windows: Vec<Value>,
) -> Result<EditOutcome, Rejection> {
    let id = schedule_id(actor, id)?;
    let edit = PartEdit {
        part: schedules().id(&id),
        revision,
        why: format!("hours of {id}"),
        edit: move |editor: &mut Editor| editor.add("schedules", &json!({ "id": id, "windows": windows }), None),
    };
    change(app, actor, edit).await
}

/// Removes a schedule; the checks refuse it while a zone or a rule names it.
pub(crate) async fn remove_schedule(
    app: &Arc<App>,
    actor: &Actor,
    id: &str,
    revision: String,
) -> Result<EditOutcome, Rejection> {
    let id = schedule_id(actor, id)?;
    let part = schedules().id(&id);
    let path = part.to_string();
    let edit = PartEdit {
        part,
        revision,
        why: format!("hours of {id} removed"),
        edit: move |editor: &mut Editor| editor.remove(&path),
    };
    match change(app, actor, edit).await {
        Err(Rejection::Missing(_)) => Err(Rejection::NotFound),
        done => done,
    }
}

/// Where the schedules are.
pub(crate) fn schedules() -> ElementPath {
    ElementPath::default().key("schedules")
}

/// The id of a schedule, which concerns all cameras.
fn schedule_id(actor: &Actor, id: &str) -> Result<String, Rejection> {
    if actor.is_restricted() {
        return Err(error::restricted());
    }
    match is_id(id) {
        true => Ok(id.to_owned()),
        false => Err(Rejection::BadRequest(message!(
            "an id has 1 to 64 letters, digits, - or _"
        ))),
    }
}

/// The zones and rules that name a schedule, as people read them: `street-a/stalls`, `vendor`.
pub(crate) fn schedule_users(document: &Value, id: &str) -> Vec<String> {
    let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let name = |value: &Value| value.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for camera in list(document, "cameras") {
        let presets = list(&camera, "presets");
        for (view, table) in std::iter::once((name(&camera), &camera)).chain(
            presets
                .iter()
                .map(|preset| (format!("{}.{}", name(&camera), name(preset)), preset)),
        ) {
            let zones = list(table, "zones").into_iter();
            let named = zones.filter(|zone| zone.get("schedule").and_then(Value::as_str) == Some(id));
            found.extend(named.map(|zone| format!("{view}/{}", name(&zone))));
        }
    }
    for rule in list(document, "rules") {
        let names_it = |field: &str| rule.get(field).and_then(Value::as_str) == Some(id);
        if ["active", "pause"].into_iter().any(names_it) {
            found.push(name(&rule));
        }
    }
    found
}

/// A view's calibration in the files, and the coordinate system of its ground points.
#[derive(Debug, Clone)]
pub(crate) struct CalibrationPart {
    pub(crate) revision: String,
    /// The table without defaults; `null` if there is none.
    pub(crate) calibration: Value,
    pub(crate) crs: String,
}

impl CalibrationPart {
    pub(crate) fn of(app: &App, part: &Part, path: &ElementPath) -> Self {
        let calibration = part.at(&path.key("calibration"));
        let camera = path
            .steps()
            .iter()
            .take(2)
            .fold(ElementPath::default(), |path, step| match step {
                gridwatch_config::element::ElementStep::Key(key) => path.key(key),
                gridwatch_config::element::ElementStep::Id(id) => path.id(id),
            });
        let of_camera = part.at(&camera.key("crs"));
        let stated = [calibration.get("crs"), Some(&of_camera)]
            .into_iter()
            .flatten()
            .find_map(Value::as_str);
        Self {
            revision: part.revision.clone(),
            crs: stated.map_or_else(|| app.config().crs.clone(), str::to_owned),
            calibration,
        }
    }
}

/// Point pairs to be fitted.
#[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FitBody {
    /// The pairs.
    #[schemars(length(min = 4, max = MAX_PAIRS))]
    points: Vec<raw::PointPair>,
    /// Coordinate system of the ground points; default: that of the grid.
    #[serde(default)]
    crs: Option<String>,
    #[serde(default)]
    distortion: Option<raw::Distortion>,
    /// Where the uncertainty reaches this, a line is drawn; metres. Default 15.
    #[serde(default)]
    max_uncertainty_m: Option<Uncertainty>,
}

/// Why pairs give no calibration.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FitFault {
    /// The pairs determine none.
    Pairs(CalibrationError),
    /// The ground point of a pair is not of the coordinate system.
    Ground {
        /// The pair, from 0.
        pair: usize,
        /// What is wrong.
        message: String,
    },
    /// No lens has this distortion.
    Lens,
    /// The coordinate system is unknown, or there are too many pairs.
    Other(String),
}

impl FitFault {
    /// A name for programs, and the pairs that it is about, from 0.
    pub(crate) fn code(&self) -> (&'static str, Vec<usize>) {
        match self {
            Self::Ground { pair, .. } => ("out_of_range", vec![*pair]),
            Self::Lens => ("lens", Vec::new()),
            Self::Other(_) => ("invalid", Vec::new()),
            Self::Pairs(error) => match error {
                CalibrationError::TooFewPairs { .. } => ("too_few", Vec::new()),
                CalibrationError::OutOfRange { pair } => ("out_of_range", vec![*pair]),
                CalibrationError::Duplicate { first, second } => ("duplicate", vec![*first, *second]),
                CalibrationError::Collinear => ("collinear", Vec::new()),
                CalibrationError::AboveHorizon { pair } => ("above_horizon", vec![*pair]),
                CalibrationError::Mirrored => ("mirrored", Vec::new()),
                CalibrationError::Contradicts { pair, .. } => ("contradicts", vec![*pair]),
                _ => ("invalid", Vec::new()),
            },
        }
    }

    /// In English.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Pairs(error) => error.to_string(),
            Self::Ground { message, .. } | Self::Other(message) => message.clone(),
            Self::Lens => "no lens has this distortion; with k2 = 0, use a k1 above -0.14".into(),
        }
    }
}

/// Fits pairs, as the configuration's checks do. Some milliseconds of a core.
pub(crate) fn fit(config: &gridwatch_config::Config, body: &FitBody) -> Result<GroundAnswer, FitFault> {
    if body.points.len() > MAX_PAIRS {
        return Err(FitFault::Other(format!(
            "{} pairs; at most {MAX_PAIRS} are fitted",
            body.points.len()
        )));
    }
    let crs = |text: &str| text.parse::<Crs>().map_err(|error| FitFault::Other(error.to_string()));
    let target = crs(&config.crs)?;
    let stated = crs(body.crs.as_deref().unwrap_or(&config.crs))?;
    let mut pairs: Vec<(Point, LonLat)> = Vec::new();
    for (
        pair,
        raw::PointPair {
            picture: [x, y],
            ground,
        },
    ) in body.points.iter().enumerate()
    {
        let ground = stated.to_degrees(*ground, target);
        let ground = ground.map_err(|error| FitFault::Ground {
            pair,
            message: error.to_string(),
        })?;
        pairs.push((Point { x: *x, y: *y }, ground));
    }
    let lens = match body.distortion {
        Some(raw::Distortion { k1, k2, aspect }) => Some(Lens::new(k1, k2, aspect).ok_or(FitFault::Lens)?),
        None => None,
    };
    let calibration = Calibration::fit_with_lens(&pairs, lens).map_err(FitFault::Pairs)?;
    let max_uncertainty_m = body.max_uncertainty_m.map_or(15.0, Uncertainty::get);
    Ok(ground::project(
        &calibration,
        &pairs,
        &config.plan.grid,
        max_uncertainty_m,
    ))
}

/// The elements of a JSON list in a field of a form.
pub(crate) fn list_in(field: &str, text: &str) -> Result<Vec<Value>, Rejection> {
    serde_json::from_str(text).map_err(|error| Rejection::BadRequest(format!("{field}: {error}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_their_pairs() {
        let duplicate = FitFault::Pairs(CalibrationError::Duplicate { first: 1, second: 3 });
        assert_eq!(duplicate.code(), ("duplicate", vec![1, 3]));
        let wrong = FitFault::Pairs(CalibrationError::Contradicts {
            pair: 2,
            residual_m: 9.0,
        });
        assert_eq!(wrong.code(), ("contradicts", vec![2]));
        assert!(list_in("points", "{}").is_err() && list_in("points", "[1]").is_ok());
    }

    #[test]
    fn what_names_a_schedule_is_found() {
        let document = json!({
            "cameras": [
                { "id": "gate", "zones": [{ "id": "stalls", "schedule": "market" }, { "id": "path" }] },
                { "id": "ptz", "presets": [{ "id": "north", "zones": [{ "id": "z", "schedule": "market" }] }] },
            ],
            "rules": [{ "id": "vendor", "active": "market" }, { "id": "garbage", "pause": "night" }],
        });
        assert_eq!(
            schedule_users(&document, "market"),
            ["gate/stalls", "ptz.north/z", "vendor"]
        );
        assert_eq!(schedule_users(&document, "night"), ["garbage"]);
        assert!(schedule_users(&Value::Null, "x").is_empty());
    }
}
