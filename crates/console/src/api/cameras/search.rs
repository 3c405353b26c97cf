//! Searches for cameras.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use gridwatch_onvif::discovery::FoundDevice;
use gridwatch_web::{Actor, Rejection, audit::ActDetails};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{StartedAnswer, body};
use crate::{add, app::App, values::JsonObject};

/// Where to search.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchBody {
    /// Addresses of the box's interfaces; empty: all.
    #[serde(default)]
    interfaces: Vec<Ipv4Addr>,
}

pub(super) async fn search_cameras(
    State(app): State<Arc<App>>,
    actor: Actor,
    given: Result<JsonObject<SearchBody>, Rejection>,
) -> Result<Response, Rejection> {
    let given = body(given)?;
    let listed: Vec<String> = given.interfaces.iter().map(Ipv4Addr::to_string).collect();
    let search = add::search(&app, &actor, &given.interfaces).await?;
    let details = ActDetails::new("interfaces", listed.join(" "));
    Ok(details.on(Json(StartedAnswer { id: search.id.clone() })))
}

/// What a search has found so far.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SearchAnswer {
    is_over: bool,
    /// More answered than are listed.
    is_cut_off: bool,
    /// Networks that could not be searched, with the reason.
    faults: Vec<String>,
    devices: Vec<DeviceAnswer>,
}

/// A device that answered. All but `from` is its own claim.
#[derive(Debug, Serialize, JsonSchema)]
struct DeviceAnswer {
    /// The IP address that answered.
    from: String,
    /// Its device service at that address, to be probed.
    address: Option<String>,
    name: Option<String>,
    hardware: Option<String>,
    manufacturer: Option<String>,
    location: Option<String>,
}

impl From<&FoundDevice> for DeviceAnswer {
    fn from(device: &FoundDevice) -> Self {
        Self {
            from: device.from.to_string(),
            address: device.address.as_ref().map(ToString::to_string),
            name: device.name.clone(),
            hardware: device.hardware.clone(),
            manufacturer: device.manufacturer.clone(),
            location: device.location.clone(),
        }
    }
}

pub(super) async fn search_result(
    State(app): State<Arc<App>>,
    actor: Actor,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<SearchAnswer>, Rejection> {
    let search = app.wizards.search(&path?.0, &actor).ok_or(Rejection::NotFound)?;
    let state = search.state();
    Ok(Json(SearchAnswer {
        is_over: state.is_over,
        is_cut_off: state.is_cut_off,
        faults: state.faults.clone(),
        devices: state.devices.iter().map(DeviceAnswer::from).collect(),
    }))
}
