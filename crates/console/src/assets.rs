//! The console's scripts, styles and icons, embedded in the program.

use axum::{extract::Path, http::HeaderMap, response::Response};
use gridwatch_web::assets::{Asset, Bundle};

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// `GET /assets/{version}/{*name}`.
pub(crate) async fn serve(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    BUNDLE.serve(&version, &name, &headers)
}
