//! The approved signs of a view, in the file that `gridwatch signs` uses, with what the newest look found.

use std::{path::PathBuf, sync::Arc};

use gridwatch_config::{
    Config, Fault, Language,
    edit::{self, EditError, EditedSign, Editor, SavedSigns, SignsFile, SignsSave},
    find_view, raw,
};
use gridwatch_engine::{CameraId, Rule, is_approved};
use gridwatch_web::{Actor, Rejection};
use jiff::{Timestamp, civil::Date};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    access::CameraAccess as _,
    app::App,
    configuration::{self, EditOutcome, PartEdit, change, parts},
    error::IntoRejection as _,
    values::Whole,
};

/// What the newest look found and could be approved, at most.
const MAX_FOUND: usize = 200;

/// A sign as pages and programs send it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignBody {
    /// Its place in the list that was read, from 0; absent for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "place")]
    #[schemars(range(min = 0, max = 499))]
    pub(crate) index: Option<u32>,
    /// Left, top, right and bottom as fractions of the picture, 0 to 1.
    #[serde(rename = "box")]
    #[schemars(inner(range(min = 0.0, max = 1.0)))]
    pub(crate) corners: [f32; 4],
    /// The label that the model gives it.
    #[schemars(length(min = 1, max = 64))]
    pub(crate) label: String,
    /// The owner, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub(crate) note: Option<String>,
    /// Number of the permit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub(crate) permit: Option<String>,
    /// Last day on which it is approved, such as `2027-06-30`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    pub(crate) valid_until: Option<String>,
    /// The day on which it was added; of no effect in a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) added: Option<String>,
}

fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Ok(Option::<Whole<0, 499>>::deserialize(deserializer)?.map(Whole::get))
}

/// Something in the newest look that could be approved.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub(crate) struct FoundSign {
    /// Left, top, right and bottom as fractions of the picture.
    #[serde(rename = "box")]
    corners: [f32; 4],
    /// Its label.
    label: String,
    /// Confidence, 0 to 1.
    score: f32,
    /// True if it is one of the approved signs, and its last day is not over.
    approved: bool,
}

/// The approved signs of a view.
#[derive(Debug, Clone)]
pub(crate) struct ViewSigns {
    /// Revision of the file; empty: there is none yet.
    pub(crate) revision: String,
    /// When and with which models signs were last recorded; `None`: never.
    pub(crate) recorded: Option<(String, String)>,
    pub(crate) signs: Vec<SignBody>,
    pub(crate) found: Vec<FoundSign>,
    /// Labels of what the rules with `except_approved` are about.
    pub(crate) labels: Vec<String>,
    /// Today, in the city's time.
    pub(crate) today: Date,
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum SignsOutcome {
    /// Written.
    Saved {
        saved: SavedSigns,
        /// Why it is not in force; empty if it is.
        problems: Vec<String>,
    },
    /// Not written: the file is not the one that was read.
    Conflict,
    /// Not written: the file, or the configuration with it, would have faults.
    Faults(Vec<Fault>),
}

/// The file of a view's signs, and whether the configuration names it already.
fn file_of(config: &Config, view: &CameraId) -> Result<(PathBuf, bool), Rejection> {
    let (_, preset) = find_view(&config.cameras, view.as_str()).ok_or(Rejection::NotFound)?;
    Ok(match &preset.approved_signs {
        Some(file) => (file.clone(), true),
        None => (config.file.with_file_name("signs").join(format!("{view}.toml")), false),
    })
}

fn rules(config: &Config) -> impl Iterator<Item = &Rule> {
    config.plan.rules.iter().filter(|rule| rule.except_approved)
}

/// The approved signs of a view that the user may see; `Err` holds the faults of their file.
pub(crate) async fn read(
    app: &Arc<App>,
    actor: &Actor,
    view: &CameraId,
) -> Result<Result<ViewSigns, Vec<Fault>>, Rejection> {
    let config = app.config();
    actor.camera_of(&config, view).ok_or(Rejection::NotFound)?;
    let (path, _) = file_of(&config, view)?;
    let file = match configuration::blocking(app, move |_| SignsFile::open(&path)).await? {
        Ok(file) => file,
        Err(EditError::Faults(faults)) => return Ok(Err(faults.0)),
        Err(error) => return Err(error.into_rejection()),
    };
    let mut labels: Vec<String> = rules(&config)
        .flat_map(|rule| &rule.labels)
        .map(ToString::to_string)
        .collect();
    labels.sort_unstable();
    labels.dedup();
    let today = config.plan.calendar.date(Timestamp::now());
    let mut approved = file.as_ref().map(|file| file.signs.approved()).unwrap_or_default();
    approved.retain(|sign| sign.valid.includes(today));
    let look = app.daemon.newest_look(view);
    let found = look.iter().flat_map(|look| &look.detections);
    let is_asked = |label: &str| labels.iter().any(|known| known == label);
    let found = found
        .filter(|finding| is_asked(finding.label.as_str()))
        .filter_map(|finding| {
            let bbox = finding.bbox.within_picture()?;
            Some(FoundSign {
                corners: [bbox.x1, bbox.y1, bbox.x2, bbox.y2],
                label: finding.label.to_string(),
                score: finding.score,
                approved: is_approved(&approved, &finding.label, &bbox),
            })
        });
    let found = found.take(MAX_FOUND).collect();
    Ok(Ok(ViewSigns {
        revision: file.as_ref().map(|file| file.revision.clone()).unwrap_or_default(),
        recorded: file
            .as_ref()
            .map(|file| (file.signs.recorded.clone(), file.signs.model.clone())),
        signs: file.map(|file| bodies(&file.signs)).unwrap_or_default(),
        found,
        labels,
        today,
    }))
}

fn bodies(signs: &raw::Signs) -> Vec<SignBody> {
    let body = |(index, sign): (usize, &raw::Sign)| SignBody {
        index: u32::try_from(index).ok(),
        corners: sign.corners,
        label: sign.label.clone(),
        note: sign.note.clone().filter(|note| !note.is_empty()),
        permit: sign.permit.clone(),
        valid_until: sign.valid_until.clone(),
        added: sign.added.clone(),
    };
    signs.signs.iter().enumerate().map(body).collect()
}

/// Sets the approved signs of a view, and puts them into force; problems are told in `language`. A view that had no file gets one in `signs/` beside the main file.
pub(crate) async fn save(
    app: &Arc<App>,
    actor: &Actor,
    language: Language,
    view: &CameraId,
    revision: String,
    signs: Vec<SignBody>,
) -> Result<SignsOutcome, Rejection> {
    let config = app.config();
    actor.camera_of(&config, view).ok_or(Rejection::NotFound)?;
    let (path, is_named) = file_of(&config, view)?;
    let wanted = view.clone();
    let written = configuration::blocking(app, move |main| {
        let save = request(&config, &wanted, revision, signs);
        edit::save_signs(main, &path, &save)
    });
    let written = written.await?;
    let saved = match written {
        Ok(saved) => saved,
        Err(EditError::Conflict { .. }) => return Ok(SignsOutcome::Conflict),
        Err(EditError::Faults(faults)) => return Ok(SignsOutcome::Faults(faults.0)),
        Err(error) => return Err(error.into_rejection()),
    };
    let answer = if is_named {
        app.daemon.reload(false).await
    } else {
        match name_file(app, actor, view).await? {
            EditOutcome::Saved(_, answer) => *answer,
            EditOutcome::Conflict(_) => return Ok(SignsOutcome::Conflict),
            EditOutcome::Faults(faults) => return Ok(SignsOutcome::Faults(faults)),
        }
    };
    let problems = match answer.accepted {
        true => Vec::new(),
        false => answer
            .faults
            .iter()
            .map(|fault| configuration::fault_line(fault, language))
            .chain(answer.error)
            .collect(),
    };
    Ok(SignsOutcome::Saved { saved, problems })
}

/// What is to be written. The models are those that look at the camera now; reads their manifests.
fn request(config: &Config, view: &CameraId, revision: String, signs: Vec<SignBody>) -> SignsSave {
    let camera = find_view(&config.cameras, view.as_str()).map(|(camera, _)| camera);
    let models = camera.into_iter().flat_map(|camera| &camera.models);
    let models = models.filter_map(|index| config.models.get(*index));
    let name = |model: &gridwatch_config::Model| match gridwatch_model::Model::load(&model.dir) {
        Ok(model) => format!("{}@{}", model.manifest().id, model.manifest().version),
        Err(_) => model.id.clone(),
    };
    let models: Vec<String> = models.map(name).collect();
    let now = Timestamp::now().to_zoned(config.timezone.clone());
    let today = now.date().to_string();
    let is_recording = revision.is_empty() || signs.iter().any(|sign| sign.index.is_none());
    let signs = signs.into_iter().map(|sign| EditedSign {
        index: sign.index.map(|index| index as usize),
        sign: raw::Sign {
            corners: sign.corners,
            label: sign.label,
            number: None,
            text: None,
            note: text(sign.note),
            permit: text(sign.permit),
            valid_until: text(sign.valid_until),
            // Of a sign that is there, the file's stays.
            added: sign.index.is_none().then(|| today.clone()),
        },
    });
    SignsSave {
        view: view.to_string(),
        expected: Some(revision).filter(|revision| !revision.is_empty()),
        signs: signs.collect(),
        recorded: is_recording.then(|| (now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(), models.join(", "))),
    }
}

fn text(text: Option<String>) -> Option<String> {
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// Lets the configuration name the file.
async fn name_file(app: &Arc<App>, actor: &Actor, view: &CameraId) -> Result<EditOutcome, Rejection> {
    let part = parts::path_of(app, actor, view)?.key("approved_signs");
    let read = configuration::blocking(app, |main| {
        Editor::open(main).map(|editor| editor.revision().to_owned())
    });
    let revision = match read.await? {
        Ok(revision) => revision,
        Err(EditError::Faults(faults)) => return Ok(EditOutcome::Faults(faults.0)),
        Err(error) => return Err(error.into_rejection()),
    };
    let (path, file) = (part.to_string(), format!("signs/{view}.toml"));
    let edit = PartEdit {
        part,
        revision,
        why: format!("approved signs of {view}"),
        edit: move |editor: &mut Editor| editor.set(&path, &file.as_str().into()),
    };
    change(app, actor, edit).await
}
