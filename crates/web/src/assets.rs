//! Scripts, styles and icons, embedded in the program.
//!
//! Their URLs hold a hash over all of them, `/assets/VERSION/NAME`, so that browsers may keep them for ever, and modules may import each
//! other by relative paths. Names are looked up in a table: no path of the file system is ever made of a request.

use axum::{
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY},
    },
    response::{IntoResponse, Response},
};

use crate::error::Rejection;

/// One embedded file.
#[derive(Debug)]
pub struct Asset {
    /// Path below `assets/`.
    pub name: &'static str,
    /// Media type.
    pub mime: &'static str,
    /// The file.
    pub plain: &'static [u8],
    /// The file in gzip format; `None` if that is not smaller.
    pub gzip: Option<&'static [u8]>,
}

/// All embedded files of a program.
#[derive(Debug)]
pub struct Bundle {
    /// Hash over the names and contents of all files, in hex.
    pub version: &'static str,
    /// The files.
    pub files: &'static [Asset],
}

impl Bundle {
    /// The answer to `GET /assets/{version}/{*name}`.
    pub fn serve(&self, version: &str, name: &str, headers: &HeaderMap) -> Response {
        let Some(asset) = self.files.iter().find(|asset| asset.name == name) else {
            return Rejection::NotFound.into_response();
        };
        // Within one version of the program, a name has one content.
        let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", self.version)) else {
            return Rejection::Internal.into_response();
        };
        // A page of another version of the program asks for its own version; it gets this one, but must not keep it.
        let keep = match version == self.version {
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
            Some(gzip) if accepts_gzip(headers) => {
                let encoding = [(CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
                (common, kind, encoding, gzip).into_response()
            }
            _ => (common, kind, asset.plain).into_response(),
        }
    }
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
