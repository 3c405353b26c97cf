//! Scripts, styles and icons, embedded in the program.
//!
//! Their URLs hold a hash over all of them, `/assets/VERSION/NAME`, so that browsers may keep them for ever, and modules may import each
//! other by relative paths. Names are looked up in a table: no path of the file system is ever made of a request.

use axum::{
    extract::Path,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY},
    },
    response::{IntoResponse, Response},
};

use crate::error::Rejection;

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// One embedded file.
struct Asset {
    /// Path below `assets/`.
    name: &'static str,
    mime: &'static str,
    plain: &'static [u8],
    /// The file in gzip format; `None` if that is not smaller.
    gzip: Option<&'static [u8]>,
}

/// `GET /assets/{version}/{*name}`.
pub(crate) async fn serve(Path((version, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return Rejection::NotFound.into_response();
    };
    let etag = HeaderValue::from_static(etag());
    // A page of another version of the program asks for its own version; it gets this one, but must not keep it.
    let keep = match version == VERSION {
        true => "public, max-age=31536000, immutable",
        false => "no-cache",
    };
    let common: [(HeaderName, HeaderValue); 3] = [
        (ETAG, etag.clone()),
        (CACHE_CONTROL, HeaderValue::from_static(keep)),
        (VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if headers.get_all(IF_NONE_MATCH).iter().any(|known| *known == etag) {
        return (StatusCode::NOT_MODIFIED, common).into_response();
    }
    let kind = [(CONTENT_TYPE, HeaderValue::from_static(asset.mime))];
    match asset.gzip {
        Some(gzip) if accepts_gzip(&headers) => {
            let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            (common, kind, encoding, gzip).into_response()
        }
        _ => (common, kind, asset.plain).into_response(),
    }
}

/// The entity tag of every asset: within one version of the program, a name has one content.
fn etag() -> &'static str {
    static TAG: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("\"{VERSION}\""));
    &TAG
}

/// True if the client takes gzip: named, and not with weight 0 (RFC 9110 § 12.5.3).
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let is_refused = parts.any(|p| p.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
        is_gzip && !is_refused
    })
}
