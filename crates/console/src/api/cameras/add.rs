//! Cameras that were probed, and are saved.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State, response::Response};
use gridwatch_config::raw::Span;
use gridwatch_onvif::brand::StreamRole;
use gridwatch_web::{Actor, Rejection, audit::ActDetails};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    add::{self, AddFault, CameraInput},
    app::App,
    values::{Id, JsonObject, Latitude, Longitude, Text, ViewRadius},
};

/// Which stream.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum StreamName {
    Main,
    Sub,
}

/// A camera to save.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddBody {
    /// Id of its probe.
    probe: String,
    /// Its id; not `add`.
    id: Id,
    stream: StreamName,
    /// Address in words.
    #[serde(default)]
    address: Text<200>,
    /// Longitude in degrees, in the configuration's reference system: of the ground that the camera sees.
    lon: Longitude,
    /// Latitude in degrees.
    lat: Latitude,
    /// Radius of the view in metres. Default 30.
    #[serde(default)]
    uncertainty_m: Option<ViewRadius>,
    /// Time between two looks, such as `10s`, the default.
    #[serde(default)]
    look_every: Option<Span>,
    /// Ids of models; empty: all.
    #[serde(default)]
    models: Vec<String>,
    /// Groups of cameras.
    #[serde(default)]
    groups: BTreeSet<Id>,
    /// Revision of the configuration, as the probe's answer has it: if the files were changed since, nothing is saved.
    revision: String,
}

/// A camera that was saved.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AddedAnswer {
    id: String,
    /// Version of the configuration.
    version: u64,
    /// The file that it was written into.
    file: String,
    /// Why it is not in force although it was saved; empty if it is.
    problems: Vec<String>,
}

pub(super) async fn add_camera(
    State(app): State<Arc<App>>,
    actor: Actor,
    given: Result<JsonObject<AddBody>, Rejection>,
) -> Result<Response, Rejection> {
    let JsonObject(given) = given?;
    let wizard = app.wizards.find(&given.probe, &actor).ok_or(Rejection::NotFound)?;
    let details = ActDetails::new("camera", given.id.as_str()).with("target", wizard.given.recorded());
    let input = CameraInput {
        id: given.id.into_string(),
        stream: match given.stream {
            StreamName::Main => StreamRole::Main,
            StreamName::Sub => StreamRole::Sub,
        },
        address: given.address.into_string(),
        lon: given.lon.get(),
        lat: given.lat.get(),
        uncertainty_m: given.uncertainty_m.map(ViewRadius::get),
        look_every: given.look_every.map(|span| span.to_string()).unwrap_or_default(),
        models: given.models,
        groups: given.groups.into_iter().map(Id::into_string).collect(),
        revision: given.revision,
    };
    Ok(match add::add(&app, &actor, &wizard, input).await {
        Ok(added) => details.with("version", added.version).on(Json(AddedAnswer {
            id: added.id,
            version: added.version,
            file: added.file,
            problems: added.problems.iter().map(ToString::to_string).collect(),
        })),
        Err(fault) => details.on(match &fault {
            AddFault::Exists | AddFault::Conflict { .. } => Rejection::Conflict(fault.to_string().into()),
            AddFault::Failed(why) => Rejection::Unavailable(why.clone()),
            _ => Rejection::Unfit(fault.to_string().into()),
        }),
    })
}
