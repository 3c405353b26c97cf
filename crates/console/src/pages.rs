//! The pages. Each module has its routes, what it shows, and its template.

mod account;
mod camera;
mod cases;
mod login;
mod preferences;
mod review;
mod users;
mod wall;

pub(crate) use self::{
    camera::full_picture,
    cases::evidence_picture,
    review::{Agreement, undone},
    users::{expect_possible_first, remove_user},
};

use askama::Template;
use axum::{
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;

use crate::{
    assets,
    page::Page,
    routes::{Access, Routes},
};

/// Adds the routes of all pages.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = routes.get("/assets/{version}/{*name}", Access::Public, assets::serve);
    let routes = preferences::routes(routes);
    let routes = login::routes(routes);
    let routes = account::routes(routes);
    let routes = users::routes(routes);
    let routes = wall::routes(routes);
    let routes = camera::routes(routes);
    let routes = review::routes(routes);
    cases::routes(routes)
}

/// A page that says why there is none.
#[derive(Template)]
#[template(path = "error.html")]
pub(crate) struct ErrorTemplate<'a> {
    pub(crate) page: &'a Page,
    pub(crate) message: &'a str,
}

/// A sentence for the place of a page where notices stand.
#[derive(Template)]
#[template(path = "notice.html")]
pub(crate) struct NoticeTemplate<'a> {
    pub(crate) message: &'a str,
}

/// How long a browser keeps a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Not at all.
    Never,
    /// Its URL names its content: until the browser needs the space, a day at most.
    Long,
}

/// A JPEG.
fn jpeg(bytes: impl Into<Bytes>, keep: Keep) -> Response {
    let keep = match keep {
        Keep::Never => "no-store",
        Keep::Long => "private, max-age=86400, immutable",
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("image/jpeg")),
        (CACHE_CONTROL, HeaderValue::from_static(keep)),
    ];
    (headers, bytes.into()).into_response()
}
