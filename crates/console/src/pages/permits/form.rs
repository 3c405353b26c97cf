//! The form of a permit, new or present.

use std::{fmt::Write as _, sync::Arc};

use askama::Template;
use serde_json::{Value, json};

use super::rule_name;
use crate::{
    access::CameraAccess as _,
    app::App,
    configuration::{Part, parts},
    overlay::Overlay,
    page::Page,
    pages::{add::Fields, notices, zones::EditorPicture},
    permits::{self, Ground, Permit, PermitHours, PermitInput},
    web_texts,
};
use gridwatch_base::message;
use gridwatch_engine::CameraId;
use gridwatch_web::{Actor, Rejection};

/// Corners of an outline that comes with a link.
const MAX_CORNERS: usize = 100;

/// What the form holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Given {
    pub(super) id: String,
    /// `VIEW/ZONE` of the zones whose outlines are taken; `VIEW/*` is the whole picture, and `VIEW/+` the outline of `polygon`.
    grounds: Vec<String>,
    /// An outline that a proposal came with, and its view.
    proposed: Option<(String, Value)>,
    rules: Vec<String>,
    /// Id of a schedule; empty: windows of its own.
    schedule: String,
    /// A JSON list.
    windows: String,
    valid_from: String,
    valid_until: String,
    number: String,
    note: String,
    /// Shown, and not saved.
    pub(super) is_preview: bool,
}

impl Given {
    /// From the form.
    pub(super) fn read(fields: &Fields) -> Self {
        let text = |name: &str| fields.get(name).to_owned();
        let polygon = serde_json::from_str(fields.get("polygon")).ok().filter(is_outline);
        Self {
            id: text("id"),
            grounds: fields.all("ground").map(str::to_owned).collect(),
            proposed: polygon.map(|polygon| (text("view"), polygon)),
            rules: fields.all("rule").map(str::to_owned).collect(),
            schedule: text("schedule"),
            windows: text("windows"),
            valid_from: text("valid_from"),
            valid_until: text("valid_until"),
            number: text("permit"),
            note: text("note"),
            is_preview: !fields.get("preview").is_empty(),
        }
    }

    /// A new one, with what a link proposes.
    pub(super) fn proposed(
        view: Option<String>,
        polygon: Option<String>,
        windows: Option<String>,
        rules: Option<String>,
    ) -> Result<Self, Rejection> {
        let view = view.unwrap_or_default();
        let outline = match polygon {
            Some(text) => {
                let polygon: Value = serde_json::from_str(&text)
                    .map_err(|error| Rejection::BadRequest(format!("polygon: {error}").into()))?;
                if !is_outline(&polygon) {
                    return Err(Rejection::BadRequest(message!(
                        "polygon: not a list of 3 points or more"
                    )));
                }
                Some((view.clone(), polygon))
            }
            None => None,
        };
        let windows = match windows {
            Some(text) => Value::Array(parts::list_in("windows", &text)?),
            None => Value::Null,
        };
        let rules = rules.unwrap_or_default();
        Ok(Self {
            grounds: outline.iter().map(|(view, _)| format!("{view}/+")).collect(),
            proposed: outline,
            rules: rules
                .split(',')
                .filter(|id| !id.is_empty())
                .map(str::to_owned)
                .collect(),
            windows: match windows {
                Value::Null => String::new(),
                windows => windows.to_string(),
            },
            ..Self::default()
        })
    }

    /// What a permit says now.
    pub(super) fn of(permit: &Permit, part: &Part) -> Self {
        let path = parts::schedules().id(&permit.schedule).key("windows");
        Self {
            id: permit.id.clone(),
            rules: permit.rules.clone(),
            schedule: permit.schedule.clone(),
            windows: part.list(&path).to_string(),
            valid_from: permit.valid_from.clone(),
            valid_until: permit.valid_until.clone(),
            number: permit.number.clone(),
            note: permit.note.clone(),
            ..Self::default()
        }
    }

    /// What is to be saved.
    pub(super) fn input(&self) -> Result<PermitInput, Rejection> {
        let hours = match self.schedule.trim() {
            "" => PermitHours::Own(parts::list_in("windows", &self.windows)?),
            schedule => PermitHours::Named(schedule.to_owned()),
        };
        Ok(PermitInput {
            rules: self.rules.clone(),
            hours,
            valid_from: self.valid_from.clone(),
            valid_until: self.valid_until.clone(),
            number: self.number.clone(),
            note: self.note.clone(),
        })
    }

    /// The outlines that were chosen, by view.
    pub(super) fn chosen_grounds(&self, known: &[Ground]) -> Result<Vec<(CameraId, Value)>, Rejection> {
        let outline = |choice: &String| {
            let (view, zone) = choice.rsplit_once('/')?;
            let polygon = match zone {
                "*" => json!([[0, 0], [1, 0], [1, 1], [0, 1]]),
                "+" => self.proposed.as_ref().filter(|(of, _)| of == view)?.1.clone(),
                zone => {
                    let mut grounds = known.iter();
                    let ground = grounds.find(|ground| ground.view.as_str() == view && ground.id == zone)?;
                    ground.polygon.clone()
                }
            };
            Some((CameraId::from(view), polygon))
        };
        let found = self.grounds.iter().map(|choice| {
            let missing = || Rejection::BadRequest(format!("ground: there is no {choice:?}").into());
            outline(choice).ok_or_else(missing)
        });
        found.collect()
    }
}

fn is_outline(polygon: &Value) -> bool {
    let is_point = |point: &Value| {
        let point = point.as_array();
        point.is_some_and(|point| point.len() == 2 && point.iter().all(Value::is_number))
    };
    let corners = polygon.as_array();
    corners.is_some_and(|corners| (3..=MAX_CORNERS).contains(&corners.len()) && corners.iter().all(is_point))
}

/// `x,y` of the corners, for SVG.
pub(super) fn points(polygon: &Value) -> String {
    let mut text = String::new();
    for point in polygon.as_array().into_iter().flatten() {
        let side = |n: usize| point.get(n).and_then(Value::as_f64).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(text, "{:.4},{:.4} ", side(0), side(1));
    }
    text.truncate(text.trim_end().len());
    text
}

/// An id that no permitted zone of a view that the user sees has.
pub(super) fn free_id(app: &App, actor: &Actor, part: &Part) -> String {
    let grounds = permits::grounds(app, actor, part);
    let is_free = |id: &String| grounds.iter().all(|ground| ground.id != *id);
    let mut ids = (1..).map(|n| format!("permit-{n}"));
    ids.find(is_free).unwrap_or_else(|| "permit".into())
}

/// Something to choose.
pub(super) struct Choice {
    value: String,
    name: String,
    is_chosen: bool,
}

/// The grounds of one view.
pub(super) struct ViewGrounds {
    view: CameraId,
    choices: Vec<Choice>,
}

#[derive(Template)]
#[template(path = "permit.html")]
pub(super) struct FormTemplate<'a> {
    page: &'a Page,
    notice: String,
    /// The present permit; `None`: a new one.
    permit: Option<Permit>,
    given: Given,
    is_readable: bool,
    may_edit: bool,
    revision: String,
    texts: String,
    grounds: Vec<ViewGrounds>,
    rules: Vec<Choice>,
    schedules: Vec<Choice>,
    may_have_own_hours: bool,
    /// What else names the schedule, so that its windows change for all of them.
    shared_with: String,
    /// JSON of the grid.
    windows: String,
    has_picture: bool,
    picture: String,
    width: u32,
    height: u32,
    overlay: Overlay,
    /// The permit's outline.
    points: String,
    polygon: String,
    view: String,
}

impl<'a> FormTemplate<'a> {
    pub(super) async fn new(
        app: &Arc<App>,
        actor: &Actor,
        page: &'a Page,
        permit: Option<Permit>,
        given: Given,
        notice: String,
    ) -> Result<Self, Rejection> {
        let config = app.config();
        let view = match (&permit, &given.proposed) {
            (Some(permit), _) => Some(permit.view.clone()),
            (None, Some((view, _))) => Some(CameraId::from(view.as_str())),
            (None, None) => None,
        };
        if let Some(view) = &view {
            actor.camera_of(&config, view).ok_or(Rejection::NotFound)?;
        }
        let polygon = match (&permit, &given.proposed) {
            (Some(permit), _) => permit.polygon.clone(),
            (None, Some((_, polygon))) => polygon.clone(),
            (None, None) => Value::Null,
        };
        let picture = view.as_ref().map(|view| EditorPicture::of(app, page, view));
        let mut shown = Self {
            page,
            notice,
            given,
            is_readable: true,
            may_edit: page.may_operate(),
            revision: String::new(),
            texts: web_texts::of(page.language, &["edit.", "hours."]),
            grounds: Vec::new(),
            rules: Vec::new(),
            schedules: Vec::new(),
            may_have_own_hours: !actor.is_restricted(),
            shared_with: String::new(),
            windows: String::new(),
            has_picture: picture.as_ref().is_some_and(|picture| !picture.url.is_empty()),
            width: picture.as_ref().map_or(16, |picture| picture.size.0),
            height: picture.as_ref().map_or(9, |picture| picture.size.1),
            picture: picture.map(|picture| picture.url).unwrap_or_default(),
            overlay: view
                .as_ref()
                .map(|view| Overlay::of(page, &config, view, None))
                .unwrap_or_default(),
            points: points(&polygon),
            polygon: match polygon {
                Value::Null => String::new(),
                polygon => polygon.to_string(),
            },
            view: view.map(|view| view.to_string()).unwrap_or_default(),
            permit,
        };
        match Part::read(app).await? {
            Ok(part) => shown.fill(app, actor, part),
            Err(faults) => {
                shown.notice = notices::unreadable(page, &faults)?;
                shown.is_readable = false;
            }
        }
        Ok(shown)
    }

    /// With what the files have.
    fn fill(&mut self, app: &App, actor: &Actor, part: Part) {
        let (page, given, config) = (self.page, &self.given, app.config());
        if self.permit.is_none() {
            let mut grounds: Vec<ViewGrounds> = Vec::new();
            let kind = |kind: &str| match kind {
                "watch" => page.t.names.zone_watch,
                "exclude" => page.t.names.zone_exclude,
                "shop" => page.t.names.zone_shop,
                _ => page.t.names.zone_permitted,
            };
            let choice = |value: String, name: String| Choice {
                is_chosen: given.grounds.contains(&value),
                value,
                name,
            };
            let cameras = config.cameras.iter().filter(|camera| actor.sees(camera));
            for preset in cameras.flat_map(|camera| &camera.presets) {
                let whole = choice(format!("{}/*", preset.view), page.t.permits.ground_whole.to_string());
                grounds.push(ViewGrounds {
                    view: preset.view.clone(),
                    choices: vec![whole],
                });
            }
            for ground in permits::grounds(app, actor, &part) {
                let of_view = grounds.iter_mut().find(|known| known.view == ground.view);
                let name = format!("{} ({})", ground.id, kind(&ground.kind));
                if let Some(known) = of_view {
                    known
                        .choices
                        .push(choice(format!("{}/{}", ground.view, ground.id), name));
                }
            }
            self.grounds = grounds;
        }
        self.rules = config
            .plan
            .rules
            .iter()
            .map(|rule| Choice {
                value: rule.id.to_string(),
                name: rule_name(page, &config, rule.id.as_str()),
                is_chosen: given.rules.iter().any(|id| *id == rule.id.as_str()),
            })
            .collect();
        let schedules = part.list(&parts::schedules());
        let ids = schedules.as_array().into_iter().flatten();
        let ids = ids.filter_map(|schedule| schedule.get("id")?.as_str());
        self.schedules = ids
            .map(|id| Choice {
                value: id.to_owned(),
                name: id.to_owned(),
                is_chosen: given.schedule == id,
            })
            .collect();
        let own = self
            .permit
            .as_ref()
            .map(|permit| (permit.schedule.clone(), format!("{}/{}", permit.view, permit.id)));
        if let Some((schedule, own)) = own {
            let others = parts::schedule_users(&part.document, &schedule).into_iter();
            let others: Vec<String> = others.filter(|other| *other != own).collect();
            // What a user may not see is not told.
            self.shared_with = match actor.is_restricted() {
                true => String::new(),
                false => others.join(", "),
            };
        }
        // Hours that nothing else has are shown in the grid at once.
        let is_own = self.may_edit && self.may_have_own_hours && self.shared_with.is_empty();
        if let Some(permit) = self.permit.as_ref().filter(|_| is_own) {
            let schedules = self.schedules.iter_mut();
            for choice in schedules.filter(|choice| choice.value == permit.schedule) {
                choice.is_chosen = false;
            }
        }
        let windows: Value = serde_json::from_str(&given.windows).unwrap_or_else(|_| json!([]));
        self.windows = web_texts::in_page(&json!({ "windows": windows }));
        self.revision = part.revision;
    }

    fn is_new(&self) -> bool {
        self.permit.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grounds_are_outlines_of_zones_whole_pictures_and_proposals() {
        let known = [Ground {
            view: "ptz.north".into(),
            id: "square".into(),
            kind: "watch".into(),
            polygon: json!([[0, 0], [0.5, 0], [0.5, 1]]),
        }];
        let given = Given {
            grounds: ["ptz.north/square", "gate/*", "gate/+"].map(str::to_owned).into(),
            proposed: Some(("gate".into(), json!([[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]))),
            ..Given::default()
        };
        let chosen = given.chosen_grounds(&known).unwrap();
        assert_eq!(chosen[0], ("ptz.north".into(), known[0].polygon.clone()));
        assert_eq!(chosen[2].1, json!([[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]));
        for wrong in ["gate/square", "ptz.north/+", "square", ""] {
            let given = Given {
                grounds: vec![wrong.to_owned()],
                ..Given::default()
            };
            assert!(given.chosen_grounds(&known).is_err(), "{wrong}");
        }
        assert_eq!(
            points(&json!([[0.1, 0.25], [1, 0], ["x"]])),
            "0.1000,0.2500 1.0000,0.0000 0.0000,0.0000"
        );
        assert!(!is_outline(&json!([[0, 0], [1, 1]])) && !is_outline(&json!([[0, 0], [1, 1], [1]])));
    }
}
