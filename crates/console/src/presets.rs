//! The presets of a camera: its views, as the configuration has them.
//!
//! The daemon drives no camera and asks none for its position: it recognises presets by their pictures. Recording the present position
//! therefore is a preset in the configuration, and the request that the daemon learns the picture of this moment for it.

use std::{path::Path, sync::Arc};

use gridwatch_base::{message, message::Message};
use gridwatch_config::{
    Aim, Camera, Config, Preset,
    edit::{self, EditError, Editor},
    element::ElementPath,
    find_view,
};
use gridwatch_engine::CameraId;
use gridwatch_vision::views::{Standing, ViewFiles, ViewRequest, ViewsError};
use gridwatch_web::{Actor, Rejection};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::{
    access::CameraAccess as _,
    app::App,
    configuration::{self, EditOutcome, PartEdit, change},
    error::OrReject as _,
    values::is_id,
};

/// Longest address in words, in characters.
const MAX_ADDRESS: usize = 200;
/// What describes a view and so belongs to its preset.
const OF_VIEW: [&str; 5] = ["address", "place", "calibration", "approved_signs", "zones"];

/// The camera of a view, or with this id, that the user may see.
pub(crate) fn camera_of<'a>(config: &'a Config, actor: &Actor, name: &str) -> Result<&'a Camera, Rejection> {
    let of_view = find_view(&config.cameras, name).map(|(camera, _)| camera);
    let by_id = || config.cameras.iter().find(|camera| camera.id.as_str() == name);
    let camera = of_view.or_else(by_id).ok_or(Rejection::NotFound)?;
    match actor.sees(camera) {
        true => Ok(camera),
        false => Err(Rejection::NotFound),
    }
}

/// What the daemon says of a view.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Learned {
    pub(crate) standing: Option<(Standing, Timestamp)>,
    /// A request waits for the next look.
    pub(crate) is_pending: bool,
}

/// The standing of all views of a camera, in their order.
pub(crate) async fn learned(app: &Arc<App>, camera: &Camera) -> Result<Vec<Learned>, Rejection> {
    let files = camera.presets.iter();
    let files = files.map(|preset| ViewFiles::new(&app.state_dir, preset.view.clone(), None));
    let files: Vec<ViewFiles> = files.collect();
    let read = move |_: &Path| -> Result<Vec<Learned>, ViewsError> {
        let one = |files: &ViewFiles| {
            Ok(Learned {
                standing: files.status()?.map(|status| (status.standing, status.since)),
                is_pending: files.has_request(),
            })
        };
        files.iter().map(one).collect()
    };
    configuration::blocking(app, read).await?.or_reject()
}

/// A preset as it is entered.
#[derive(Debug, Clone, Default)]
pub(crate) struct PresetInput {
    pub(crate) id: String,
    pub(crate) address: String,
    /// Degrees, in the camera's coordinate system.
    pub(crate) lon: f64,
    pub(crate) lat: f64,
    /// Radius in metres.
    pub(crate) uncertainty_m: Option<f64>,
}

impl PresetInput {
    fn expect_valid(&self) -> Result<(), Rejection> {
        let refuse = |what: Message| Err(Rejection::BadRequest(what));
        if !is_id(&self.id) {
            return refuse(message!("id: 1 to 64 letters, digits, - or _"));
        }
        if self.address.chars().count() > MAX_ADDRESS || self.address.contains(char::is_control) {
            return refuse(message!("address: at most 200 characters on one line"));
        }
        let is_place = self.lon.abs() <= 180.0 && self.lat.abs() <= 90.0;
        let is_radius = self.uncertainty_m.is_none_or(|metres| (1.0..=1000.0).contains(&metres));
        if !is_place || !is_radius {
            return refuse(message!(
                "place: longitude -180 to 180, latitude -90 to 90, radius 1 to 1000 m"
            ));
        }
        Ok(())
    }

    /// Puts address and place into a table.
    fn put_into(&self, table: &mut Map<String, Value>) {
        match self.address.trim() {
            "" => table.remove("address"),
            address => table.insert("address".into(), address.into()),
        };
        let mut place = json!({ "lon": self.lon, "lat": self.lat });
        if let Some(metres) = self.uncertainty_m {
            place["uncertainty_m"] = metres.into();
        }
        table.insert("place".into(), place);
    }
}

/// Where a camera's presets are in the files.
fn presets_of(camera: &Camera) -> ElementPath {
    ElementPath::default()
        .key("cameras")
        .id(camera.id.as_str())
        .key("presets")
}

/// Adds a preset to a camera that has presets.
pub(crate) async fn add(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    revision: String,
    input: PresetInput,
) -> Result<(CameraId, EditOutcome), Rejection> {
    input.expect_valid()?;
    let config = app.config();
    let camera = camera_of(&config, actor, name)?;
    if !matches!(camera.aim, Aim::Tour { .. }) {
        return Err(Rejection::Conflict(message!(
            "the camera has no presets yet; name its present view first"
        )));
    }
    let view = CameraId::at_preset(camera.id.as_str(), &input.id);
    let list = presets_of(camera);
    let path = list.to_string();
    let edit = PartEdit {
        part: list.id(&input.id),
        revision,
        why: format!("preset {view}"),
        edit: move |editor: &mut Editor| {
            let mut preset = Map::new();
            preset.insert("id".into(), input.id.as_str().into());
            input.put_into(&mut preset);
            editor.add(&path, &Value::Object(preset), None)
        },
    };
    Ok((view, change(app, actor, edit).await?))
}

/// Makes a fixed camera one with presets: what describes its view becomes the preset `id`.
pub(crate) async fn convert(
    app: &Arc<App>,
    actor: &Actor,
    name: &str,
    revision: String,
    id: String,
    tour: String,
) -> Result<(CameraId, EditOutcome), Rejection> {
    if !is_id(&id) {
        return Err(Rejection::BadRequest(message!("id: 1 to 64 letters, digits, - or _")));
    }
    let config = app.config();
    let camera = camera_of(&config, actor, name)?;
    let own = camera.presets.first().ok_or(Rejection::NotFound)?;
    if own.id.is_some() {
        return Err(Rejection::Conflict(message!("the camera has presets already")));
    }
    let view = CameraId::at_preset(camera.id.as_str(), &id);
    let signs = renamed_signs(app, &config, own, &view).await?;
    let part = ElementPath::default().key("cameras").id(camera.id.as_str());
    let path = part.to_string();
    let new_file = signs.clone();
    let edit = PartEdit {
        part,
        revision,
        why: format!("view of {} becomes preset {id}", camera.id),
        edit: move |editor: &mut Editor| {
            let mut preset = Map::new();
            preset.insert("id".into(), id.as_str().into());
            for key in OF_VIEW {
                let field = format!("{path}.{key}");
                if let Some(value) = editor.get(&field)? {
                    preset.insert(key.into(), value);
                    editor.unset(&field)?;
                }
            }
            if let Some(file) = &new_file {
                preset.insert("approved_signs".into(), file.as_str().into());
            }
            let fixed = format!("{path}.fixed");
            if editor.get(&fixed)?.is_some() {
                editor.unset(&fixed)?;
            }
            editor.set(&format!("{path}.tour"), &tour.trim().into())?;
            editor.add(&format!("{path}.presets"), &Value::Object(preset), None)
        },
    };
    let outcome = change(app, actor, edit).await;
    undo_copy(app, &config, signs, &outcome).await;
    Ok((view, outcome?))
}

/// Changes id, address and place of a preset.
pub(crate) async fn rename(
    app: &Arc<App>,
    actor: &Actor,
    view: &CameraId,
    revision: String,
    input: PresetInput,
) -> Result<(CameraId, EditOutcome), Rejection> {
    input.expect_valid()?;
    let config = app.config();
    let (camera, preset, before) = preset_of(&config, actor, view)?;
    let new_view = CameraId::at_preset(camera.id.as_str(), &input.id);
    let is_renamed = input.id != before;
    let signs = match is_renamed {
        true => renamed_signs(app, &config, preset, &new_view).await?,
        false => None,
    };
    let list = presets_of(camera);
    let (path, list_path) = (list.id(before).to_string(), list.clone());
    let new_file = signs.clone();
    let edit = PartEdit {
        part: list.id(before),
        revision,
        why: match is_renamed {
            true => format!("preset {view} renamed to {}", input.id),
            false => format!("preset {view}"),
        },
        edit: move |editor: &mut Editor| {
            let present = editor.get(&path)?;
            let Some(Value::Object(mut preset)) = present else {
                return Err(EditError::Unknown { path: path.clone() });
            };
            let other = list_path.id(&input.id).to_string();
            if is_renamed && editor.get(&other)?.is_some() {
                return Err(EditError::Exists { path: other });
            }
            input.put_into(&mut preset);
            for key in ["address", "place"] {
                let field = format!("{path}.{key}");
                match preset.get(key) {
                    Some(value) => editor.set(&field, value)?,
                    None if editor.get(&field)?.is_some() => editor.unset(&field)?,
                    None => {}
                }
            }
            if let Some(file) = &new_file {
                editor.set(&format!("{path}.approved_signs"), &file.as_str().into())?;
            }
            match is_renamed {
                true => editor.set(&format!("{path}.id"), &input.id.as_str().into()),
                false => Ok(()),
            }
        },
    };
    let outcome = change(app, actor, edit).await;
    undo_copy(app, &config, signs, &outcome).await;
    Ok((new_view, outcome?))
}

/// Removes a preset with its zones. The last one stays: without presets the camera would have no place.
pub(crate) async fn remove(
    app: &Arc<App>,
    actor: &Actor,
    view: &CameraId,
    revision: String,
) -> Result<EditOutcome, Rejection> {
    let config = app.config();
    let (camera, _, id) = preset_of(&config, actor, view)?;
    if camera.presets.len() == 1 {
        return Err(Rejection::Conflict(message!(
            "the camera's last preset cannot be removed; remove the camera"
        )));
    }
    let part = presets_of(camera).id(id);
    let path = part.to_string();
    let edit = PartEdit {
        part,
        revision,
        why: format!("preset {view} removed"),
        edit: move |editor: &mut Editor| editor.remove(&path),
    };
    change(app, actor, edit).await
}

/// Asks the daemon to learn the picture of this moment for a view, unless an earlier request waits.
pub(crate) async fn learn(app: &Arc<App>, view: &CameraId) -> Result<(), Rejection> {
    let files = ViewFiles::new(&app.state_dir, view.clone(), None);
    let done = configuration::blocking(app, move |_| match files.has_request() {
        true => Ok(()),
        false => files.request(ViewRequest::Confirm),
    });
    done.await?.or_reject()
}

/// A preset that the user may see, with its camera and id.
pub(crate) fn preset_of<'a>(
    config: &'a Config,
    actor: &Actor,
    view: &CameraId,
) -> Result<(&'a Camera, &'a Preset, &'a str), Rejection> {
    let (camera, preset) = find_view(&config.cameras, view.as_str()).ok_or(Rejection::NotFound)?;
    let id = preset.id.as_deref().filter(|_| actor.sees(camera));
    Ok((camera, preset, id.ok_or(Rejection::NotFound)?))
}

/// Copies the approved signs of a view for its new name, as their file names the view. The path for the configuration.
async fn renamed_signs(
    app: &Arc<App>,
    config: &Config,
    preset: &Preset,
    view: &CameraId,
) -> Result<Option<String>, Rejection> {
    let Some(from) = preset.approved_signs.clone().filter(|file| file.is_file()) else {
        return Ok(None);
    };
    let directory = config.file.with_file_name("signs");
    let names = std::iter::once(format!("{view}.toml")).chain((2..=99).map(|n| format!("{view}-{n}.toml")));
    let name = names
        .into_iter()
        .find(|name| directory.join(name).symlink_metadata().is_err());
    let name = name.ok_or_else(|| Rejection::Conflict(message!("signs: too many files of this name")))?;
    let (to, view) = (directory.join(&name), view.clone());
    configuration::blocking(app, move |main| edit::copy_signs(main, &from, &to, view.as_str()))
        .await?
        .or_reject()?;
    Ok(Some(format!("signs/{name}")))
}

/// Takes the copy back if the configuration does not name it.
async fn undo_copy(app: &Arc<App>, config: &Config, file: Option<String>, outcome: &Result<EditOutcome, Rejection>) {
    let Some(file) = file.filter(|_| !matches!(outcome, Ok(EditOutcome::Saved(..)))) else {
        return;
    };
    let path = config.file.with_file_name(file);
    let removed = configuration::blocking(app, move |_| std::fs::remove_file(&path).map_err(|error| (path, error)));
    if let Ok(Err((path, error))) = removed.await {
        tracing::warn!(file = %path.display(), %error, "A copy of approved signs that is not used could not be removed");
    }
}
