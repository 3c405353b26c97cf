//! Reads and changes the configuration's files for pages and the API, off the async threads and a few at a time.
//!
//! A change goes through [`Editor::save`] with the revision of the page on which it was made, and then the daemon reloads. Somebody else's
//! change in between is a conflict only if it concerns the same part of the configuration: two operators who draw the zones of two cameras
//! do not disturb each other.

pub(crate) mod history;
pub(crate) mod parts;

use std::{path::Path, sync::Arc};

use gridwatch_base::message;
use gridwatch_config::{
    Camera, Config, Fault, Language, Preset,
    diff::Change,
    edit::{EditError, Editor, SaveRequest, Saved, Version, Versions},
    element::{ElementPath, ElementStep},
};
use gridwatch_web::{Actor, Rejection};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::task;

use crate::{
    app::App,
    daemon::ReloadAnswer,
    error::OrReject as _,
    error::{self, IntoRejection},
    i18n::messages,
    page::Page,
};

/// Faults in an answer, at most; a file that is no configuration has thousands.
pub(crate) const MAX_FAULTS: usize = 100;
/// Changes that a page or an answer shows, at most.
pub(crate) const MAX_CHANGES: usize = 500;

/// Runs what reads or writes the configuration's files; `main` is the main file.
pub(crate) async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Rejection> {
    let place = Arc::clone(&app.heavy).acquire_owned().await;
    let place = place.map_err(|error| Rejection::internal(&error))?;
    let main = app.config().file.clone();
    let done = task::spawn_blocking(move || {
        let done = work(&main);
        drop(place);
        done
    });
    done.await.map_err(|error| Rejection::internal(&error))
}

/// The name of the main file.
pub(crate) fn main_name(app: &App) -> String {
    let main = app.config().file.clone();
    main.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where a view's table is in the configuration: a camera, or a preset of one.
pub(crate) fn view_path(camera: &Camera, preset: &Preset) -> ElementPath {
    let camera = ElementPath::default().key("cameras").id(camera.id.as_str());
    match &preset.id {
        Some(preset) => camera.key("presets").id(preset),
        None => camera,
    }
}

/// A part of the configuration's files, as a page shows it.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// Revision of the files.
    pub(crate) revision: String,
    /// The whole content without defaults.
    pub(crate) document: Value,
}

impl Part {
    /// Reads the files; `Err` holds their faults if they cannot be parsed.
    pub(crate) async fn read(app: &Arc<App>) -> Result<Result<Self, Vec<Fault>>, Rejection> {
        let read = |main: &Path| {
            Editor::open(main).map(|editor| Self {
                revision: editor.revision().to_owned(),
                document: editor.document(),
            })
        };
        match blocking(app, read).await? {
            Ok(part) => Ok(Ok(part)),
            Err(EditError::Faults(faults)) => Ok(Err(faults.0)),
            Err(error) => Err(error.into_rejection()),
        }
    }

    /// The value at a path; `null` if it is not set.
    pub(crate) fn at(&self, path: &ElementPath) -> Value {
        path.get(&self.document).cloned().unwrap_or_default()
    }

    /// The list at a path; empty if it is not set.
    pub(crate) fn list(&self, path: &ElementPath) -> Value {
        match self.at(path) {
            Value::Null => Value::Array(Vec::new()),
            other => other,
        }
    }
}

/// A change of one part of the configuration.
pub(crate) struct PartEdit<F> {
    /// What is changed: others' changes elsewhere are no conflict.
    pub(crate) part: ElementPath,
    /// The revision of the page.
    pub(crate) revision: String,
    /// The reason, as it stands in the list of versions.
    pub(crate) why: String,
    /// Makes the change; called a second time after somebody else has changed another part.
    pub(crate) edit: F,
}

/// What became of a change.
#[derive(Debug)]
pub(crate) enum EditOutcome {
    /// Written; the daemon was told.
    Saved(Saved, Box<ReloadAnswer>),
    /// Not written: somebody else changed the same.
    Conflict(Conflict),
    /// Not written: what the files would become has faults.
    Faults(Vec<Fault>),
}

/// What somebody else changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conflict {
    /// Who saved last, if that was not done with an editor.
    pub(crate) by: Option<String>,
    /// When the present version was saved or found.
    pub(crate) at: Option<Timestamp>,
    /// The changes since the page's revision; `None` if that is not known any more.
    pub(crate) changes: Option<Vec<Change>>,
}

impl Conflict {
    /// With who saved last, in the versions of `state_dir`.
    pub(crate) fn new(main: &Path, state_dir: &Path, found: &str, changes: Option<Vec<Change>>) -> Self {
        let versions = Versions::in_state(main, state_dir).list().unwrap_or_default();
        let newest = versions.into_iter().find(|version| version.revision == found);
        Self {
            by: newest.as_ref().and_then(|version| version.who.clone()),
            at: newest.map(|version| version.at),
            changes,
        }
    }
}

/// Who saves where there are no users; no user can have this name.
const LOCAL: &str = "(local)";

/// The person, as the list of versions names them.
pub(crate) fn name_of(actor: &Actor) -> String {
    actor.name.clone().unwrap_or_else(|| LOCAL.into())
}

/// That name for a page.
pub(crate) fn shown_name(page: &Page, name: &str) -> String {
    match name == LOCAL {
        true => gridwatch_web::i18n::Texts::of(page.language)
            .account
            .local_user
            .to_string(),
        false => name.to_owned(),
    }
}

/// Makes the change, and lets the daemon reload.
pub(crate) async fn change<F>(app: &Arc<App>, actor: &Actor, edit: PartEdit<F>) -> Result<EditOutcome, Rejection>
where
    F: Fn(&mut Editor) -> Result<(), EditError> + Send + 'static,
{
    let (who, state_dir) = (name_of(actor), app.state_dir.clone());
    let own = actor.is_restricted().then(|| edit.part.clone());
    let part = own.clone();
    let done = blocking(app, move |main| match save(main, &who, &edit) {
        Err(EditError::Conflict { found, mut changes, .. }) => {
            retain_own(changes.as_mut(), part.as_ref());
            Err(Ok(Conflict::new(main, &state_dir, &found, changes)))
        }
        Err(other) => Err(Err(other)),
        Ok(saved) => Ok(saved),
    });
    let mut outcome = finish(app, done.await?).await?;
    match (&mut outcome, &own) {
        (EditOutcome::Saved(_, reload), Some(part)) => {
            retain_own(Some(&mut reload.changes), own.as_ref());
            retain_own_faults(app, &mut reload.faults, part);
            reload.error = None;
        }
        (EditOutcome::Faults(faults), Some(part)) => retain_own_faults(app, faults, part),
        _ => {}
    }
    Ok(outcome)
}

/// Leaves only the faults of the camera of `part`, and one that says that there are others: those name cameras and files that a user of a group
/// does not see.
fn retain_own_faults(app: &App, faults: &mut Vec<Fault>, part: &ElementPath) {
    let config = app.config();
    let camera = part.steps().iter().find_map(|step| match step {
        ElementStep::Id(id) => config.cameras.iter().position(|camera| camera.id.as_str() == id),
        ElementStep::Key(_) => None,
    });
    let all = faults.len();
    // Paths of faults count the cameras.
    faults.retain(|fault| {
        let rest = camera.and_then(|n| fault.path.strip_prefix(&format!("cameras[{n}]")));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    });
    if faults.len() < all {
        faults.push(Fault::whole(
            &config.file,
            message!("the configuration has faults in parts that you may not see"),
            message!("ask an administrator to mend them"),
        ));
    }
}

/// Leaves only the changes of a part of the configuration: the others may be of cameras that a user of a group does not see.
fn retain_own(changes: Option<&mut Vec<Change>>, part: Option<&ElementPath>) {
    if let (Some(changes), Some(part)) = (changes, part) {
        changes.retain(|change| concerns(change, part));
    }
}

/// What a change would do: its faults, or what would differ. Nothing is written.
pub(crate) async fn preview<F>(app: &Arc<App>, edit: PartEdit<F>) -> Result<history::Checked, Rejection>
where
    F: Fn(&mut Editor) -> Result<(), EditError> + Send + 'static,
{
    let checked = blocking(app, move |main| -> Result<history::Checked, EditError> {
        let mut editor = Editor::open(main)?;
        (edit.edit)(&mut editor)?;
        Ok(history::Checked {
            faults: editor.check().faults,
            warnings: Vec::new(),
            changes: editor.changes(),
        })
    });
    match checked.await? {
        Err(EditError::Faults(faults)) => Ok(history::Checked {
            faults: faults.0,
            warnings: Vec::new(),
            changes: Vec::new(),
        }),
        other => other.or_reject(),
    }
}

/// What became of a save, with the daemon's answer to a reload.
pub(crate) async fn finish(
    app: &Arc<App>,
    saved: Result<Saved, Result<Conflict, EditError>>,
) -> Result<EditOutcome, Rejection> {
    match saved {
        Ok(saved) => {
            let answer = app.daemon.reload(false).await;
            Ok(EditOutcome::Saved(saved, Box::new(answer)))
        }
        Err(Ok(conflict)) => Ok(EditOutcome::Conflict(conflict)),
        Err(Err(EditError::Faults(faults))) => Ok(EditOutcome::Faults(faults.0)),
        Err(Err(error)) => Err(error.into_rejection()),
    }
}

fn save<F>(main: &Path, who: &str, edit: &PartEdit<F>) -> Result<Saved, EditError>
where
    F: Fn(&mut Editor) -> Result<(), EditError>,
{
    let attempt = |revision: &str| {
        let mut editor = Editor::open(main)?;
        (edit.edit)(&mut editor)?;
        editor.save(&SaveRequest {
            expected_revision: revision,
            who,
            why: &edit.why,
        })
    };
    match attempt(&edit.revision) {
        Err(EditError::Conflict {
            found,
            changes: Some(changes),
            ..
        }) if !changes.iter().any(|change| concerns(change, &edit.part)) => attempt(&found),
        other => other,
    }
}

/// Whether a change is of the part, of something in it, or of what it is in.
fn concerns(change: &Change, part: &ElementPath) -> bool {
    let Ok(path) = change.path.parse::<ElementPath>() else {
        return true;
    };
    path.steps().iter().zip(part.steps()).all(|(one, other)| one == other)
}

/// Sets a list; an empty one is removed.
pub(crate) fn set_list(editor: &mut Editor, path: &str, list: &Value) -> Result<(), EditError> {
    let is_empty = list.as_array().is_some_and(Vec::is_empty);
    match (is_empty, editor.get(path)?) {
        (true, None) => Ok(()),
        (true, Some(_)) => editor.unset(path),
        (false, _) => editor.set(path, list),
    }
}

/// The kept versions, newest first.
pub(crate) async fn versions(app: &Arc<App>) -> Result<Vec<Version>, Rejection> {
    let state_dir = app.state_dir.clone();
    let list = blocking(app, move |main| Versions::in_state(main, &state_dir).list());
    list.await?.or_reject()
}

/// A fault of the configuration's files.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(crate) struct FaultAnswer {
    /// Path of the field, such as `cameras[3].zones[0].polygon`; empty for a whole file.
    path: String,
    /// Name of the file.
    file: String,
    /// Line, from 1, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// What is wrong and how to mend it.
    message: String,
}

impl FaultAnswer {
    pub(crate) fn new(fault: &Fault, language: Language) -> Self {
        Self {
            path: fault.path.clone(),
            file: file_name(&fault.file),
            line: fault.line,
            message: messages::fault(fault, language),
        }
    }

    pub(crate) fn list(faults: &[Fault], language: Language) -> Vec<Self> {
        let faults = faults.iter().take(MAX_FAULTS);
        faults.map(|fault| Self::new(fault, language)).collect()
    }
}

/// The name of a file without the folders on the box.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_part = path
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|dir| dir == gridwatch_config::files::CONF_DIR);
    if is_part {
        format!("{}/{name}", gridwatch_config::files::CONF_DIR)
    } else {
        name
    }
}

/// What the configuration in force has that is probably not intended of a camera, with the remedy: it works, but may file nothing.
pub(crate) fn camera_warnings(config: &Config, camera: &str, language: Language) -> Vec<String> {
    let Some(n) = config.cameras.iter().position(|known| known.id.as_str() == camera) else {
        return Vec::new();
    };
    let own = format!("cameras[{n}].");
    let warnings = config.warnings.iter().filter(|warning| warning.path.starts_with(&own));
    warnings.map(|warning| messages::fault(warning, language)).collect()
}

/// A fault as one line of a page: place, what is wrong, how to mend it.
pub(crate) fn fault_line(fault: &Fault, language: Language) -> String {
    let FaultAnswer {
        path,
        file,
        line,
        message,
    } = FaultAnswer::new(fault, language);
    let place = match line {
        Some(line) => format!("{file}:{line}"),
        None => file,
    };
    match path.is_empty() {
        true => format!("{place}: {message}"),
        false => format!("{place}: {path}: {message}"),
    }
}

impl IntoRejection for EditError {
    fn into_rejection(self) -> Rejection {
        match &self {
            Self::Busy => Rejection::Unavailable(self.message()),
            Self::UnknownVersion(_) => Rejection::NotFound,
            Self::Unknown { .. } => Rejection::Missing(self.message()),
            Self::Exists { .. } => Rejection::Conflict(self.message()),
            Self::Unwritable { dir, .. } => {
                tracing::error!(error = %self, "The console cannot write the configuration");
                error::unwritable(&dir.display().to_string(), &self.to_string())
            }
            Self::Io { .. } | Self::Owner { .. } => {
                tracing::error!(error = %self, "The console cannot write the configuration");
                Rejection::Unavailable(self.message())
            }
            _ => Rejection::Unfit(self.message()),
        }
    }
}

#[cfg(test)]
mod tests {
    use gridwatch_config::{
        Language,
        diff::{Applies, ChangeKind},
    };

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_the_remedy() {
        let error = EditError::Unwritable {
            dir: "/etc/gridwatch".into(),
            source: std::io::ErrorKind::ReadOnlyFilesystem.into(),
        };
        let rejection = error.into_rejection();
        for language in [Language::Zh, Language::En] {
            let text = rejection.text(language, messages::chinese);
            assert!(
                text.contains("ReadWritePaths=/etc/gridwatch") && text.contains("chown"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_change_of_another_part_does_not_concern_one() {
        let part: ElementPath = "cameras[gate].zones".parse().unwrap();
        let concerns = |path: &str| {
            concerns(
                &Change {
                    path: path.into(),
                    kind: ChangeKind::Set,
                    old: None,
                    new: None,
                    applies: Applies::Live,
                },
                &part,
            )
        };
        for own in [
            "cameras",
            "cameras[gate]",
            "cameras[gate].zones",
            "cameras[gate].zones[pavement].polygon",
            "no path]",
        ] {
            assert!(concerns(own), "{own}");
        }
        for other in [
            "cameras[lane].zones",
            "cameras[gate].look_every",
            "rules[vendor]",
            "cameras[gate2].zones",
        ] {
            assert!(!concerns(other), "{other}");
        }
    }
}
