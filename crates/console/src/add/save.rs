//! Writes a camera into the configuration, and takes one out: its login into a file of its own, the rest by the configuration's editor.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use gridwatch_base::{
    disk::write_private,
    message,
    message::Message,
    secret::{CredentialSource, Credentials, Zeroizing},
};
use gridwatch_camera::{Auth, Transport};
use gridwatch_config::{
    Camera, Config, Fault,
    edit::{EditError, Editor, SaveRequest, Saved},
    files::{ConfigFiles, conf_dir},
    raw::Span,
};
use gridwatch_onvif::brand::StreamRole;
use gridwatch_web::{Actor, Rejection};
use serde_json::{Map, Value, json};
use tokio::sync::OwnedMutexGuard;

use super::{Wizard, given::password_in};
use crate::{
    app::App,
    daemon::{ReloadAnswer, RemovedView},
    values::is_id,
};

/// Directory of the logins, in the state directory.
const LOGINS: &str = "credentials";
/// Longest address in words, in characters.
const MAX_ADDRESS: usize = 200;

/// What is to be saved of a camera besides what the wizard knows.
#[derive(Debug, Clone)]
pub(crate) struct CameraInput {
    pub(crate) id: String,
    pub(crate) stream: StreamRole,
    pub(crate) address: String,
    /// Degrees, in the configuration's reference system.
    pub(crate) lon: f64,
    pub(crate) lat: f64,
    /// Radius in metres; `None`: the default.
    pub(crate) uncertainty_m: Option<f64>,
    /// Such as `10s`; empty: the default.
    pub(crate) look_every: String,
    /// Ids of models; empty: all.
    pub(crate) models: Vec<String>,
    pub(crate) groups: BTreeSet<String>,
    /// The revision that the page showed.
    pub(crate) revision: String,
}

/// A field of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Id,
    Stream,
    Address,
    Lon,
    Lat,
    Uncertainty,
    LookEvery,
    Models,
    Groups,
}

impl Field {
    /// The one that a path below `cameras[N].` is about.
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "id" => Self::Id,
            "address" => Self::Address,
            "place.lon" => Self::Lon,
            "place.lat" | "place" => Self::Lat,
            "place.uncertainty_m" => Self::Uncertainty,
            "look_every" => Self::LookEvery,
            path if path.starts_with("models") => Self::Models,
            path if path.starts_with("groups") => Self::Groups,
            _ => return None,
        })
    }
}

/// A camera that was saved.
#[derive(Debug, Clone)]
pub(crate) struct Added {
    pub(crate) id: String,
    /// Number of the configuration's version.
    pub(crate) version: u64,
    /// The file that it was written into.
    pub(crate) file: String,
    /// Why the configuration is not in force although it was saved; empty if it is.
    pub(crate) problems: Vec<Message>,
}

/// Why a camera was not saved. Nothing was changed then.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum AddFault {
    #[error("{0:?}: missing or not valid")]
    Field(Field),
    #[error("the probe has found no such stream; wait for it, or probe again")]
    NotProbed,
    #[error("the stream's address has a password in it, which would be logged; choose another stream or address")]
    PasswordInUrl,
    #[error("there is a camera with this id; choose another one")]
    Exists,
    #[error("the configuration was changed in the meantime; look at the changes and save again")]
    Conflict {
        /// The present revision.
        found: String,
        /// One line each; `None`: not known.
        changes: Option<Vec<Message>>,
    },
    #[error("the configuration would have faults: {}", .0.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("; "))]
    Faults(Vec<(Option<Field>, Message)>),
    #[error("{0}")]
    Failed(Message),
}

/// A camera that was taken out.
#[derive(Debug, Clone)]
pub(crate) struct Removed {
    pub(crate) version: u64,
    /// What was going on there.
    pub(crate) views: Vec<RemovedView>,
    pub(crate) problems: Vec<Message>,
}

/// Why a camera was not taken out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum RemoveFault {
    #[error("the configuration was changed in the meantime; look at the changes and remove again")]
    Conflict {
        found: String,
        changes: Option<Vec<Message>>,
    },
    #[error("the configuration would have faults: {}", .0.join("; "))]
    Faults(Vec<Message>),
    #[error("{0}")]
    Failed(Message),
}

/// The present revision of the configuration's files.
pub(crate) async fn revision(config: &Config) -> Result<String, Rejection> {
    let main = config.file.clone();
    let read = tokio::task::spawn_blocking(move || ConfigFiles::read(&main).revision()).await;
    read.map_err(|error| Rejection::internal(&error))
}

/// Saves the wizard's camera and puts it into force; the wizard is forgotten then.
///
/// # Errors
/// [`AddFault`]; nothing was changed.
pub(crate) async fn add(app: &Arc<App>, actor: &Actor, wizard: &Wizard, input: CameraInput) -> Result<Added, AddFault> {
    let element = element(app, actor, wizard, &input)?;
    let config = app.config();
    let job = AddJob {
        main: config.file.clone(),
        login: login_file(&app.state_dir, &input.id),
        element,
        id: input.id,
        credentials: wizard.credentials.clone(),
        who: who(actor),
        revision: input.revision,
        // Kept by the work itself, which goes on if the browser goes.
        _saving: Arc::clone(&app.wizards.saving).lock_owned().await,
    };
    let id = job.id.clone();
    let done = tokio::task::spawn_blocking(move || job.run()).await;
    let done = done.map_err(|error| AddFault::Failed(error.to_string().into()))?;
    let (saved, file) = done.map_err(|fault| match fault {
        // What was changed may be of cameras that they may not see.
        AddFault::Conflict { found, .. } if actor.is_restricted() => AddFault::Conflict { found, changes: None },
        fault => fault,
    })?;
    app.wizards.forget(&wizard.id);
    let answer = app.daemon.reload(false).await;
    Ok(Added {
        id,
        version: saved.version,
        file,
        problems: problems(&answer),
    })
}

/// The camera's table.
fn element(app: &App, actor: &Actor, wizard: &Wizard, input: &CameraInput) -> Result<Value, AddFault> {
    let field = |field: Field, is_valid: bool| if is_valid { Ok(()) } else { Err(AddFault::Field(field)) };
    // The id is also the name of files, so its characters are those of the configuration's ids. `add` is the path of this page.
    field(Field::Id, is_id(&input.id) && input.id != "add")?;
    field(Field::Lon, input.lon.is_finite() && input.lon.abs() <= 180.0)?;
    field(Field::Lat, input.lat.is_finite() && input.lat.abs() <= 90.0)?;
    let is_radius = |metres: f64| (1.0..=1000.0).contains(&metres);
    field(Field::Uncertainty, input.uncertainty_m.is_none_or(is_radius))?;
    let address = input.address.trim();
    let is_address = address.chars().count() <= MAX_ADDRESS && !address.contains(char::is_control);
    field(Field::Address, is_address)?;
    let look_every = input.look_every.trim();
    field(
        Field::LookEvery,
        look_every.is_empty() || look_every.parse::<Span>().is_ok(),
    )?;
    let config = app.config();
    let is_model = |id: &String| config.models.iter().any(|model| *model.id == **id);
    field(Field::Models, input.models.iter().all(is_model))?;
    field(
        Field::Groups,
        input.groups.len() <= 32 && input.groups.iter().all(|group| is_id(group)),
    )?;
    // Whoever is restricted to groups would otherwise add a camera that they cannot see.
    let own = &actor.groups;
    let is_own = own.is_empty() || (!input.groups.is_empty() && input.groups.is_subset(own));
    field(Field::Groups, is_own)?;

    let probe = wizard.state().probe().ok_or(AddFault::NotProbed)?;
    let stream = probe.facts.streams.iter().find(|stream| stream.role == input.stream);
    let stream = stream.filter(|stream| stream.outcome.facts().is_some());
    let url = stream.ok_or(AddFault::NotProbed)?.url.to_string();
    if password_in(&url).is_some() {
        return Err(AddFault::PasswordInUrl);
    }
    let given = &wizard.given;
    let mut camera = Map::new();
    let mut set = |name: &str, value: Value| camera.insert(name.to_owned(), value);
    set("id", json!(input.id));
    set("url", json!(url));
    if wizard.has_login() {
        set("credentials", json!({ "file": login_file(&app.state_dir, &input.id) }));
        match given.auth {
            Auth::Auto => {}
            Auth::Digest => drop(set("auth", json!("digest"))),
            Auth::Basic => drop(set("auth", json!("basic"))),
        }
    }
    match given.transport {
        Transport::Tcp => {}
        Transport::Udp => drop(set("transport", json!("udp"))),
        Transport::Http => drop(set("transport", json!("http"))),
    }
    if !look_every.is_empty() {
        set("look_every", json!(look_every));
    }
    if !address.is_empty() {
        set("address", json!(address));
    }
    let mut place = json!({ "lon": input.lon, "lat": input.lat });
    if let Some(metres) = input.uncertainty_m {
        place["uncertainty_m"] = json!(metres);
    }
    set("place", place);
    if !input.models.is_empty() && input.models.len() < config.models.len() {
        set("models", json!(input.models));
    }
    if !input.groups.is_empty() {
        set("groups", json!(input.groups));
    }
    Ok(Value::Object(camera))
}

/// The file of a camera's login.
fn login_file(state_dir: &Path, id: &str) -> PathBuf {
    let dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
    dir.join(LOGINS).join(id)
}

fn who(actor: &Actor) -> String {
    actor.name.clone().unwrap_or_else(|| "console".into())
}

struct AddJob {
    main: PathBuf,
    login: PathBuf,
    element: Value,
    id: String,
    credentials: Option<Credentials>,
    who: String,
    revision: String,
    _saving: OwnedMutexGuard<()>,
}

impl AddJob {
    fn run(self) -> Result<(Saved, String), AddFault> {
        let mut editor = Editor::open(&self.main).map_err(|error| add_fault(error, None))?;
        let file = match conf_dir(&self.main).is_dir() {
            true => format!("conf.d/{}.toml", self.id),
            false => editor.file_names().next().unwrap_or_default().to_owned(),
        };
        editor
            .add("cameras", &self.element, Some(&file))
            .map_err(|error| add_fault(error, None))?;
        // No camera has this id, so a file that is there belongs to none that is configured; it comes back if the save fails.
        let before = self
            .credentials
            .as_ref()
            .map(|credentials| replace_login(&self.login, credentials));
        let before = before.transpose().map_err(|error| {
            AddFault::Failed(message!(
                "the login cannot be written: {error}",
                error = error.to_string()
            ))
        })?;
        let request = SaveRequest {
            expected_revision: &self.revision,
            who: &self.who,
            why: "camera added on the console",
        };
        let saved = editor.save(&request);
        if saved.is_err()
            && let Some(before) = before
        {
            restore_login(&self.login, before);
        }
        match saved {
            Ok(saved) => Ok((saved, file)),
            Err(error) => {
                let document = editor.document();
                let cameras = document.get("cameras").and_then(Value::as_array);
                let own = |camera: &Value| camera.get("id").and_then(Value::as_str) == Some(&self.id);
                Err(add_fault(error, cameras.and_then(|list| list.iter().position(own))))
            }
        }
    }
}

/// Writes a login, and returns what was in the file before.
fn replace_login(path: &Path, credentials: &Credentials) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let before = match gridwatch_base::file::read(path, gridwatch_base::file::MAX_KEY) {
        Ok(bytes) => Some(Zeroizing::new(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let Credentials { user, password } = credentials;
    let line = Zeroizing::new(format!("{}:{}\n", user.expose(), password.expose()));
    write_private(path, line.as_bytes())?;
    Ok(before)
}

fn restore_login(path: &Path, before: Option<Zeroizing<Vec<u8>>>) {
    let restored = match before {
        Some(bytes) => write_private(path, &bytes),
        None => fs::remove_file(path),
    };
    if let Err(error) = restored {
        tracing::warn!(file = %path.display(), %error, "The login of a camera that was not saved could not be taken back");
    }
}

/// `own`: the position of the new camera among the cameras, as paths of faults count them.
fn add_fault(error: EditError, own: Option<usize>) -> AddFault {
    match error {
        EditError::Exists { .. } => AddFault::Exists,
        EditError::Conflict { found, changes, .. } => AddFault::Conflict {
            found,
            changes: lines(changes),
        },
        EditError::Faults(faults) => {
            let prefix = own.map(|own| format!("cameras[{own}]."));
            let of = |fault: &Fault| {
                let path = prefix.as_ref().and_then(|prefix| fault.path.strip_prefix(prefix));
                (path.and_then(Field::of), in_words(fault))
            };
            AddFault::Faults(faults.0.iter().map(of).collect())
        }
        error => AddFault::Failed(error.message()),
    }
}

fn lines(changes: Option<Vec<gridwatch_config::diff::Change>>) -> Option<Vec<Message>> {
    changes.map(|changes| changes.iter().map(gridwatch_config::diff::Change::message).collect())
}

fn in_words(fault: &Fault) -> Message {
    match fault.remedy.is_empty() {
        true => fault.words(),
        false => message!(
            "{fault}: {remedy}",
            fault = fault.words(),
            remedy = fault.remedy.clone()
        ),
    }
}

/// Why the saved configuration is not in force.
fn problems(answer: &ReloadAnswer) -> Vec<Message> {
    if answer.accepted {
        return Vec::new();
    }
    let faults = answer.faults.iter().map(in_words);
    let error = answer.error.clone().map(Message::from);
    let mut problems: Vec<Message> = faults.chain(error).collect();
    if problems.is_empty() {
        problems.push("the daemon did not accept it".into());
    }
    problems
}

/// Takes a camera out of the configuration, with its login if this console wrote it, and puts that into force.
///
/// # Errors
/// [`RemoveFault`]; nothing was changed.
pub(crate) async fn remove(
    app: &Arc<App>,
    actor: &Actor,
    camera: &Camera,
    revision: String,
) -> Result<Removed, RemoveFault> {
    let login = login_file(&app.state_dir, camera.id.as_str());
    let is_ours = camera.credential_source == Some(CredentialSource::File(login.clone()));
    let (main, id, who) = (app.config().file.clone(), camera.id.to_string(), who(actor));
    let saving = Arc::clone(&app.wizards.saving).lock_owned().await;
    let done = tokio::task::spawn_blocking(move || {
        let _saving = saving;
        let mut editor = Editor::open(&main)?;
        editor.remove(&format!("cameras[{id}]"))?;
        let saved = editor.save(&SaveRequest {
            expected_revision: &revision,
            who: &who,
            why: "camera removed on the console",
        })?;
        if is_ours && let Err(error) = fs::remove_file(&login) {
            tracing::warn!(file = %login.display(), %error, "The login of a removed camera could not be deleted");
        }
        Ok(saved)
    });
    let done = done
        .await
        .map_err(|error| RemoveFault::Failed(error.to_string().into()))?;
    let saved = done.map_err(|error| match error {
        EditError::Conflict { found, changes, .. } => RemoveFault::Conflict {
            found,
            // What was changed may be of cameras that they may not see.
            changes: lines(changes.filter(|_| !actor.is_restricted())),
        },
        EditError::Faults(faults) => RemoveFault::Faults(faults.0.iter().map(in_words).collect()),
        error => RemoveFault::Failed(error.message()),
    })?;
    let answer = app.daemon.reload(false).await;
    Ok(Removed {
        version: saved.version,
        problems: problems(&answer),
        views: answer.removed,
    })
}
