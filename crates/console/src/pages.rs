//! The pages. Each module has its routes, what it shows, and its template.
//!
//! A new page: a module here with `routes`, called below; a template that extends `layout.html`; its texts as a table in `crate::i18n`.
//! Handlers take [`Page`] (language, links, code against forged requests) and `Actor` (who asks), return `Result<Response, Rejection>`, find
//! views by `Actor::camera_of` and cases by `crate::cases`, and attach `ActDetails` to the answer of a change. Links start with `page.base`.

mod account;
mod add;
mod aim;
mod calibration;
mod camera;
mod candidates;
mod cases;
mod configuration;
mod hours;
mod live;
mod login;
mod looks;
mod notices;
mod permits;
mod preferences;
mod presets;
mod review;
mod signs;
mod system;
mod thresholds;
mod users;
mod wall;
mod zones;

pub(crate) use self::{
    add::{reason as probe_refusal, wizard_picture},
    camera::full_picture,
    candidates::{CandidateAsked, CandidatesFilter},
    cases::evidence_picture,
    looks::{older, question},
    review::{Agreement, undone},
    thresholds::{ApplyFault, Asked, apply, curve, revision, whatif},
};

use self::cases::{category_of, span};
use askama::Template;
use axum::{
    http::{
        HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use gridwatch_web::Access;

use crate::{app::Routes, assets, page::Page};

/// Adds the routes of all pages.
pub(crate) fn routes(routes: Routes) -> Routes {
    let routes = routes.get("/assets/{version}/{*name}", Access::Public, assets::serve);
    let routes = preferences::routes(routes);
    let routes = login::routes(routes);
    let routes = account::routes(routes);
    let routes = users::routes(routes);
    let routes = wall::routes(routes);
    let routes = camera::routes(routes);
    let routes = thresholds::routes(routes);
    let routes = candidates::routes(routes);
    let routes = looks::routes(routes);
    let routes = live::routes(routes);
    let routes = add::routes(routes);
    let routes = review::routes(routes);
    let routes = cases::routes(routes);
    let routes = zones::routes(routes);
    let routes = calibration::routes(routes);
    let routes = hours::routes(routes);
    let routes = aim::routes(routes);
    let routes = permits::routes(routes);
    let routes = signs::routes(routes);
    let routes = presets::routes(routes);
    let routes = system::routes(routes);
    configuration::routes(routes)
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
