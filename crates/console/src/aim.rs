//! Whether a camera points at its learned view, and the request that the daemon learns the present one: the files of `views` in the state
//! directory, as `gridwatch view` uses them.

use std::sync::Arc;

use gridwatch_base::message;
use gridwatch_config::{Aim, find_view};
use gridwatch_engine::CameraId;
use gridwatch_vision::views::{Standing, ViewFiles, ViewRequest, ViewsError};
use gridwatch_web::{Actor, Rejection};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{access::CameraAccess as _, app::App, configuration, error::IntoRejection, error::OrReject as _};

/// What is known of a camera's aim.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct AimState {
    /// `None` before the first look, and for a camera that moves by itself.
    pub(crate) standing: Option<(Standing, Timestamp)>,
    /// How far the learned view has moved: share of the picture to the right and down, degrees, and scale.
    pub(crate) shift: Option<gridwatch_vision::Shift>,
    /// A request waits for the next look.
    pub(crate) is_pending: bool,
    /// False: it moves by itself and has no view to confirm.
    pub(crate) is_watched: bool,
}

/// Whether a camera points at its learned view.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AimAnswer {
    /// `learning`, `aimed` or `moved`; absent before the first look, and for a camera that moves by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    standing: Option<Standing>,
    /// Since when; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// True while a request waits for the next look.
    pending: bool,
}

impl From<AimState> for AimAnswer {
    fn from(state: AimState) -> Self {
        Self {
            standing: state.standing.map(|(standing, _)| standing),
            since: state.standing.map(|(_, since)| since.to_string()),
            pending: state.is_pending,
        }
    }
}

/// The files of a view that the user may see, and whether it is watched.
fn files(app: &App, actor: &Actor, view: &CameraId) -> Result<(ViewFiles, bool), Rejection> {
    let config = app.config();
    actor.camera_of(&config, view).ok_or(Rejection::NotFound)?;
    // Only ids of views in the configuration become names of files.
    let (camera, preset) = find_view(&config.cameras, view.as_str()).ok_or(Rejection::NotFound)?;
    let files = ViewFiles::new(&app.state_dir, preset.view.clone(), None);
    Ok((files, camera.aim != Aim::Unwatched))
}

/// Reads what the daemon has published about a view.
pub(crate) async fn read(app: &Arc<App>, actor: &Actor, view: &CameraId) -> Result<AimState, Rejection> {
    let (files, is_watched) = files(app, actor, view)?;
    let status = configuration::blocking(app, move |_| files.status().map(|status| (status, files.has_request())));
    let (status, is_pending) = status.await?.or_reject()?;
    Ok(AimState {
        standing: status.as_ref().map(|status| (status.standing, status.since)),
        shift: status.and_then(|status| status.shift),
        is_pending,
        is_watched,
    })
}

/// Asks the daemon to learn the present view at its next look.
pub(crate) async fn confirm(app: &Arc<App>, actor: &Actor, view: &CameraId) -> Result<(), Rejection> {
    let (files, is_watched) = files(app, actor, view)?;
    if !is_watched {
        return Err(Rejection::Conflict(message!(
            "the camera moves by itself (fixed = false), so it has no view to confirm"
        )));
    }
    let done = configuration::blocking(app, move |_| -> Result<bool, ViewsError> {
        // One request a view at a time: this one would replace another.
        if files.has_request() {
            return Ok(false);
        }
        files.request(ViewRequest::Confirm)?;
        Ok(true)
    });
    match done.await?.or_reject()? {
        true => Ok(()),
        false => Err(Rejection::Conflict(message!(
            "an earlier request waits for the next look at this view"
        ))),
    }
}

impl IntoRejection for ViewsError {
    fn into_rejection(self) -> Rejection {
        tracing::error!(error = %self, "The console cannot access the files of a view");
        Rejection::Unavailable("the files of the view cannot be read or written; the log says why".into())
    }
}
