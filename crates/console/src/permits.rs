//! Permits: the permitted zones of all views, as operators keep them. Where, what, when, and from which day to which.
//!
//! A permit is a zone of the kind `permitted` with its schedule, so the zone editor shows it, too; this module changes what stands in the
//! files beside its outline.

pub(crate) mod proposals;

use std::{collections::BTreeSet, sync::Arc};

use gridwatch_base::message;
use gridwatch_config::{
    edit::{EditError, Editor},
    element::ElementPath,
};
use gridwatch_engine::{CameraId, ScheduleId, Validity};
use gridwatch_web::{Actor, Rejection};
use jiff::{Timestamp, civil::Date};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    access::CameraAccess as _,
    app::App,
    configuration::{EditOutcome, Part, PartEdit, change, parts},
    error,
    values::is_id,
};

/// Grounds of one permit, at most.
pub(crate) const MAX_GROUNDS: usize = 64;

/// Whether a permit holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PermitState {
    /// Now: what stands there is permitted.
    Open,
    /// On this day, but not at this hour.
    Closed,
    /// Its first day is still to come.
    NotYet,
    /// Its last day is over.
    Expired,
}

/// One permitted zone.
#[derive(Debug, Clone)]
pub(crate) struct Permit {
    pub(crate) view: CameraId,
    pub(crate) id: String,
    pub(crate) polygon: Value,
    /// Ids of the rules that it exempts; empty: all.
    pub(crate) rules: Vec<String>,
    pub(crate) schedule: String,
    pub(crate) valid_from: String,
    pub(crate) valid_until: String,
    pub(crate) number: String,
    pub(crate) note: String,
    pub(crate) state: PermitState,
}

impl Permit {
    /// From a zone of the files; `None` for one of another kind.
    fn of(app: &App, view: &CameraId, zone: &Value, now: Timestamp) -> Option<Self> {
        let text = |key: &str| zone.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        if text("kind") != "permitted" {
            return None;
        }
        let rules = zone.get("rules").and_then(Value::as_array).into_iter().flatten();
        let (valid_from, valid_until) = (text("valid_from"), text("valid_until"));
        let valid = Validity {
            from: valid_from.parse().ok(),
            until: valid_until.parse().ok(),
        };
        let schedule = text("schedule");
        Some(Self {
            view: view.clone(),
            id: text("id"),
            polygon: zone.get("polygon").cloned().unwrap_or_default(),
            rules: rules.filter_map(Value::as_str).map(str::to_owned).collect(),
            state: state(app, &schedule.as_str().into(), &valid, now),
            schedule,
            valid_from,
            valid_until,
            number: text("permit"),
            note: text("note"),
        })
    }
}

fn state(app: &App, schedule: &ScheduleId, valid: &Validity, now: Timestamp) -> PermitState {
    let config = app.config();
    let calendar = &config.plan.calendar;
    let today = calendar.date(now);
    // A window that began on the last day is still open after midnight.
    if calendar.is_open_on(schedule, valid, now) {
        PermitState::Open
    } else if valid.until.is_some_and(|last| last < today) {
        PermitState::Expired
    } else if valid.from.is_some_and(|first| today < first) {
        PermitState::NotYet
    } else {
        PermitState::Closed
    }
}

/// The views that the user may see, with where they are in the files.
fn views(app: &App, actor: &Actor) -> Vec<(CameraId, ElementPath)> {
    let config = app.config();
    let cameras = config.cameras.iter().filter(|camera| actor.sees(camera));
    let views = cameras.flat_map(|camera| camera.presets.iter().map(move |preset| (camera, preset)));
    views
        .map(|(camera, preset)| (preset.view.clone(), crate::configuration::view_path(camera, preset)))
        .collect()
}

/// The permits of the views that the user may see, in the order of the files.
pub(crate) fn list(app: &App, actor: &Actor, part: &Part) -> Vec<Permit> {
    let now = Timestamp::now();
    let mut permits = Vec::new();
    for (view, path) in views(app, actor) {
        let zones = part.list(&path.key("zones"));
        let zones = zones.as_array().into_iter().flatten();
        permits.extend(zones.filter_map(|zone| Permit::of(app, &view, zone, now)));
    }
    permits
}

/// A zone whose outline a permit can have.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    pub(crate) view: CameraId,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) polygon: Value,
}

/// The zones that are drawn in the views that the user may see, without those that pictures are masked by.
pub(crate) fn grounds(app: &App, actor: &Actor, part: &Part) -> Vec<Ground> {
    let mut grounds = Vec::new();
    for (view, path) in views(app, actor) {
        for zone in part.list(&path.key("zones")).as_array().into_iter().flatten() {
            let text = |key: &str| zone.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            if !matches!(text("kind").as_str(), "privacy" | "container") {
                grounds.push(Ground {
                    view: view.clone(),
                    id: text("id"),
                    kind: text("kind"),
                    polygon: zone.get("polygon").cloned().unwrap_or_default(),
                });
            }
        }
    }
    grounds
}

/// The hours of a permit.
#[derive(Debug, Clone)]
pub(crate) enum PermitHours {
    /// A schedule that is there.
    Named(String),
    /// Windows of its own: its schedule, if nothing else names that, or a new one.
    Own(Vec<Value>),
}

/// What a permit is to be.
#[derive(Debug, Clone)]
pub(crate) struct PermitInput {
    pub(crate) rules: Vec<String>,
    pub(crate) hours: PermitHours,
    /// Days as `2026-05-01`; empty: none.
    pub(crate) valid_from: String,
    pub(crate) valid_until: String,
    pub(crate) number: String,
    pub(crate) note: String,
}

impl PermitInput {
    /// Refuses hours of its own to users who may not see all cameras: schedules concern all.
    fn expect_allowed(&self, actor: &Actor) -> Result<(), Rejection> {
        match self.hours {
            PermitHours::Own(_) if actor.is_restricted() => Err(error::restricted()),
            _ => Ok(()),
        }
    }

    /// Puts its fields into a zone; an empty one is removed.
    fn put_into(&self, zone: &mut Map<String, Value>, schedule: &str) {
        zone.insert("schedule".into(), schedule.into());
        let rules = Some(&self.rules).filter(|rules| !rules.is_empty());
        let text = |text: &String| Some(text.trim()).filter(|text| !text.is_empty()).map(Value::from);
        let fields = [
            ("rules", rules.map(|rules| json!(rules))),
            ("valid_from", text(&self.valid_from)),
            ("valid_until", text(&self.valid_until)),
            ("permit", text(&self.number)),
            ("note", text(&self.note)),
        ];
        for (key, value) in fields {
            match value {
                Some(value) => zone.insert(key.into(), value),
                None => zone.remove(key),
            };
        }
    }
}

/// A change of permits that is ready to be made, or only shown.
pub(crate) type PermitEdit = PartEdit<Box<dyn Fn(&mut Editor) -> Result<(), EditError> + Send + Sync>>;

/// A new permit, with a zone in each of the views.
pub(crate) fn adding(
    app: &App,
    actor: &Actor,
    revision: String,
    id: &str,
    grounds: Vec<(CameraId, Value)>,
    input: PermitInput,
) -> Result<PermitEdit, Rejection> {
    input.expect_allowed(actor)?;
    expect_id(id)?;
    if grounds.is_empty() || grounds.len() > MAX_GROUNDS {
        return Err(Rejection::BadRequest(message!(
            "a permit has 1 to {most} grounds",
            most = MAX_GROUNDS
        )));
    }
    let mut zones: Vec<(String, ElementPath, Value)> = Vec::new();
    for (view, polygon) in grounds {
        let list = parts::path_of(app, actor, &view)?.key("zones");
        // Several grounds of one view: `market`, `market-2`.
        let before = zones.iter().filter(|(_, other, _)| *other == list).count();
        let id = match before {
            0 => id.to_owned(),
            n => format!("{id}-{}", n + 1),
        };
        zones.push((id, list, polygon));
    }
    let part = match zones.first() {
        Some((id, list, _)) => list.id(id),
        None => return Err(Rejection::NotFound),
    };
    let id = id.to_owned();
    Ok(PartEdit {
        part,
        revision,
        why: format!("permit {id}"),
        edit: Box::new(move |editor| {
            let schedule = put_hours(editor, &input.hours, &id, None)?;
            for (id, list, polygon) in &zones {
                let mut zone = Map::new();
                zone.insert("id".into(), id.as_str().into());
                zone.insert("kind".into(), "permitted".into());
                zone.insert("polygon".into(), polygon.clone());
                input.put_into(&mut zone, &schedule);
                editor.add(&list.to_string(), &Value::Object(zone), None)?;
            }
            Ok(())
        }),
    })
}

/// Another state of a permit; its outline stays.
pub(crate) fn changing(
    app: &App,
    actor: &Actor,
    (view, id): (&CameraId, &str),
    revision: String,
    input: PermitInput,
) -> Result<PermitEdit, Rejection> {
    input.expect_allowed(actor)?;
    let part = zone_path(app, actor, view, id)?;
    let (path, id) = (part.to_string(), id.to_owned());
    Ok(PartEdit {
        part,
        revision,
        why: format!("permit {view}/{id}"),
        edit: Box::new(move |editor| {
            let mut zone = permitted(editor, &path)?;
            let before = zone.get("schedule").and_then(Value::as_str).map(str::to_owned);
            let schedule = put_hours(editor, &input.hours, &id, before.as_deref())?;
            input.put_into(&mut zone, &schedule);
            editor.replace(&path, &Value::Object(zone))
        }),
    })
}

/// The last day of a permit.
pub(crate) fn ending(
    app: &App,
    actor: &Actor,
    (view, id): (&CameraId, &str),
    revision: String,
    last: Date,
) -> Result<PermitEdit, Rejection> {
    let part = zone_path(app, actor, view, id)?;
    let path = part.to_string();
    Ok(PartEdit {
        part,
        revision,
        why: format!("permit {view}/{id} ends on {last}"),
        edit: Box::new(move |editor| {
            permitted(editor, &path)?;
            editor.set(&format!("{path}.valid_until"), &last.to_string().into())
        }),
    })
}

/// Removes a permit, with its schedule if nothing else names that.
pub(crate) fn removing(
    app: &App,
    actor: &Actor,
    (view, id): (&CameraId, &str),
    revision: String,
) -> Result<PermitEdit, Rejection> {
    let part = zone_path(app, actor, view, id)?;
    let path = part.to_string();
    let may_remove_schedule = !actor.is_restricted();
    Ok(PartEdit {
        part,
        revision,
        why: format!("permit {view}/{id} removed"),
        edit: Box::new(move |editor| {
            let zone = permitted(editor, &path)?;
            editor.remove(&path)?;
            let schedule = zone.get("schedule").and_then(Value::as_str);
            let Some(schedule) = schedule.filter(|_| may_remove_schedule) else {
                return Ok(());
            };
            let is_unused = parts::schedule_users(&editor.document(), schedule).is_empty();
            let at = parts::schedules().id(schedule).to_string();
            match is_unused && editor.get(&at)?.is_some() {
                true => editor.remove(&at),
                false => Ok(()),
            }
        }),
    })
}

/// Makes the change.
pub(crate) async fn save(app: &Arc<App>, actor: &Actor, edit: PermitEdit) -> Result<EditOutcome, Rejection> {
    change(app, actor, edit).await
}

/// Where the zone of a permit is.
fn zone_path(app: &App, actor: &Actor, view: &CameraId, id: &str) -> Result<ElementPath, Rejection> {
    // No other id can be in the files, and some texts would be other paths.
    expect_id(id).map_err(|_| Rejection::NotFound)?;
    Ok(parts::path_of(app, actor, view)?.key("zones").id(id))
}

fn expect_id(id: &str) -> Result<(), Rejection> {
    match is_id(id) {
        true => Ok(()),
        false => Err(Rejection::BadRequest(message!(
            "an id has 1 to 64 letters, digits, - or _"
        ))),
    }
}

/// The zone at a path, if it is a permitted one.
fn permitted(editor: &Editor, path: &str) -> Result<Map<String, Value>, EditError> {
    let zone = editor.get(path)?;
    match zone {
        Some(Value::Object(zone)) if zone.get("kind").and_then(Value::as_str) == Some("permitted") => Ok(zone),
        _ => Err(EditError::Unknown { path: path.to_owned() }),
    }
}

/// Puts the hours in place, and returns the id of their schedule. `before` is the permit's present one.
fn put_hours(editor: &mut Editor, hours: &PermitHours, id: &str, before: Option<&str>) -> Result<String, EditError> {
    let windows = match hours {
        PermitHours::Named(schedule) => return Ok(schedule.clone()),
        PermitHours::Own(windows) => Value::Array(windows.clone()),
    };
    let document = editor.document();
    if let Some(before) = before
        && parts::schedule_users(&document, before).len() == 1
    {
        let path = parts::schedules().id(before).key("windows").to_string();
        editor.set(&path, &windows)?;
        return Ok(before.to_owned());
    }
    let schedules = document
        .get("schedules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let taken: BTreeSet<&str> = schedules.filter_map(|one| one.get("id")?.as_str()).collect();
    let stem = &id[..id.len().min(60)];
    let names = std::iter::once(stem.to_owned()).chain((2..).map(|n| format!("{stem}-{n}")));
    let free = names.into_iter().find(|name| !taken.contains(name.as_str()));
    let free = free.unwrap_or_else(|| stem.to_owned());
    editor.add("schedules", &json!({ "id": free, "windows": windows }), None)?;
    Ok(free)
}
