//! The support bundle with what the running daemon knows.

use std::sync::Arc;

use axum::{
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use gridwatch_support::{Bundle, DaemonState, LinkState, ReadinessState, file_name};
use gridwatch_web::{Rejection, audit::ActDetails};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::App;

/// Lines of the log in a bundle, at most.
const MAX_LINES: usize = 20_000;

/// Name of a bundle's making in the audit log, as of the command.
pub(crate) const ACT: &str = "support-bundle";

/// What a bundle holds besides.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleOptions {
    /// Also coordinates, addresses and cells of the cameras.
    #[serde(default)]
    pub(crate) with_places: bool,
}

fn state(app: &App) -> DaemonState {
    let (readiness, link) = (app.daemon.readiness(), app.daemon.link());
    DaemonState {
        readiness: Ok(ReadinessState {
            ready: readiness.ready,
            blockers: readiness.blockers.iter().map(ToString::to_string).collect(),
        }),
        link: Ok(LinkState {
            connected: link.connected,
            down_since: link.down_since,
            error: link.error,
        }),
        metrics: Ok(app.daemon.metrics()),
        log: Ok(app.daemon.log_tail(MAX_LINES)),
        refused: app
            .daemon
            .configuration()
            .refused
            .iter()
            .map(ToString::to_string)
            .collect(),
        onnxruntime: app.daemon.onnxruntime(),
        started_at: app.daemon.started_at(),
    }
}

/// Makes a bundle, as a download.
pub(crate) async fn download(app: &Arc<App>, options: BundleOptions) -> Result<Response, Rejection> {
    let (config, daemon, at) = (app.config(), state(app), Timestamp::now());
    let name = file_name(&config, at);
    // Its parts are bounded, and some megabytes together; packed in memory, so that no file with it stays behind.
    let bytes = super::scan(app, move || {
        let bundle = Bundle {
            config: &config,
            daemon: &daemon,
            with_places: options.with_places,
            at,
        };
        let (_, bytes) = bundle.write(Vec::new()).map_err(|error| Rejection::internal(&error))?;
        Ok(bytes)
    })
    .await?;
    let details = ActDetails::new("bundle", &name)
        .with("with_places", options.with_places)
        .with("bytes", bytes.len());
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{name}\""));
    let disposition = disposition.map_err(|error| Rejection::internal(&error))?;
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/gzip")),
        (CONTENT_DISPOSITION, disposition),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok(details.on((headers, bytes).into_response()))
}
