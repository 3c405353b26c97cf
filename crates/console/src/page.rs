//! What every page needs to be shown, and how it becomes a response.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::FromRequestParts,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use gridwatch_base::message::Message;
use gridwatch_config::Language;
use gridwatch_engine::Label;
use gridwatch_web::{Actor, Rejection, Role, cookies, csrf};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    access::CameraAccess as _,
    app::App,
    assets,
    daemon::{ConfigurationStatus, Readiness},
    i18n::{self, Texts},
};

/// Colours of the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the browser prefers.
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Auto, Self::Light, Self::Dark]
            .into_iter()
            .find(|theme| theme.as_str() == word)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// What a page shows around its content, and what its links and forms need. Handlers take it as an argument.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) t: &'static Texts,
    pub(crate) language: Language,
    pub(crate) theme: Theme,
    /// Path under which browsers see the console, without `/` at its end: all links start with it.
    pub(crate) base: String,
    /// URL of the assets, without `/` at its end.
    pub(crate) assets: String,
    /// Code that forms and scripts send with each change.
    pub(crate) csrf: String,
    /// Who is logged in; `None` on the login page.
    pub(crate) actor: Option<Actor>,
    /// Path of the page below the base, to come back to.
    pub(crate) path: String,
    /// Id of the box.
    pub(crate) node: String,
    pub(crate) readiness: Readiness,
    pub(crate) configuration: ConfigurationStatus,
    zone: TimeZone,
}

impl Page {
    pub(crate) fn new(app: &App, headers: &HeaderMap, actor: Option<Actor>, path: &str) -> Self {
        let config = app.config();
        let language = gridwatch_web::i18n::language(headers, config.language);
        let theme = cookies::get(headers, cookies::THEME).and_then(|word| Theme::parse(&word));
        let (readiness, configuration) = match &actor {
            Some(actor) => actor.standing(&*app.daemon),
            None => (app.daemon.readiness(), app.daemon.configuration()),
        };
        Self {
            t: Texts::of(language),
            language,
            theme: theme.unwrap_or_default(),
            base: app.web.base().to_owned(),
            assets: format!("{}/assets/{}", app.web.base(), assets::BUNDLE.version),
            csrf: csrf::issue(&app.web, actor.as_ref()),
            actor,
            path: path.to_owned(),
            node: config.node.to_string(),
            readiness,
            configuration,
            zone: config.timezone.clone(),
        }
    }

    /// Value of `lang`.
    pub(crate) fn lang(&self) -> &'static str {
        gridwatch_web::i18n::tag(self.language)
    }

    pub(crate) fn is_zh(&self) -> bool {
        self.language == Language::Zh
    }

    /// True if the logged-in user has this role or a higher one: for showing what they may do. Handlers do not decide by it.
    pub(crate) fn may(&self, role: Role) -> bool {
        self.actor.as_ref().is_some_and(|actor| actor.role >= role)
    }

    pub(crate) fn may_operate(&self) -> bool {
        self.may(Role::Operator)
    }

    pub(crate) fn may_administer(&self) -> bool {
        self.may(Role::Admin)
    }

    /// True if the page's path ends with this.
    pub(crate) fn is_at(&self, end: &str) -> bool {
        self.path.split('?').next().is_some_and(|path| path.ends_with(end))
    }

    /// True if the logged-in user may see what concerns all cameras.
    pub(crate) fn sees_all(&self) -> bool {
        self.actor.as_ref().is_some_and(|actor| !actor.is_restricted())
    }

    /// True if the user logged in here, and so can log out and change the password.
    pub(crate) fn has_session(&self) -> bool {
        let means = self.actor.as_ref().map(|actor| &actor.means);
        matches!(means, Some(gridwatch_web::audit::Means::Session(_)))
    }

    /// Name of the logged-in user.
    pub(crate) fn user(&self) -> String {
        match self.actor.as_ref().map(|actor| &actor.name) {
            Some(Some(name)) => name.clone(),
            Some(None) => self.t.common.local_user.to_string(),
            None => String::new(),
        }
    }

    /// The language of sentences in an answer of the API: that of the page for its scripts, English for programs with a token.
    pub(crate) fn answer_language(&self) -> Language {
        match self.actor.as_ref().map(|actor| &actor.means) {
            Some(gridwatch_web::audit::Means::Token(_)) => Language::En,
            _ => self.language,
        }
    }

    /// Why a request was rejected.
    pub(crate) fn rejection(&self, rejection: &Rejection) -> String {
        rejection.text(self.language, i18n::messages::chinese)
    }

    /// A sentence of another crate.
    pub(crate) fn message(&self, message: &Message) -> String {
        i18n::messages::message(message, self.language)
    }

    /// A time in the city's zone, to the second.
    pub(crate) fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%F %T").to_string()
    }

    /// For `datetime` attributes.
    pub(crate) fn machine_time(&self, at: Timestamp) -> String {
        at.strftime("%FT%TZ").to_string()
    }

    /// The name of a label in the page's language, or the label itself.
    pub(crate) fn label(&self, label: &Label) -> String {
        let name = self.t.names.label(label.as_str());
        name.map_or_else(|| label.to_string(), |name| name.to_string())
    }

    /// Shows a page.
    pub(crate) fn show(&self, template: &impl Template) -> Result<Response, Rejection> {
        self.show_with(StatusCode::OK, template)
    }

    /// Shows a page with another status.
    pub(crate) fn show_with(&self, status: StatusCode, template: &impl Template) -> Result<Response, Rejection> {
        let text = template.render().map_err(|error| Rejection::internal(&error))?;
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Ok((status, headers, text).into_response())
    }

    /// Leads the browser to a page of the console; `path` starts with `/`.
    pub(crate) fn redirect(&self, path: &str) -> Response {
        let target = HeaderValue::from_str(&format!("{}{path}", self.base));
        match target {
            Ok(target) => (StatusCode::SEE_OTHER, [(axum::http::header::LOCATION, target)]).into_response(),
            Err(error) => Rejection::internal(&error).into_response(),
        }
    }
}

impl FromRequestParts<Arc<App>> for Page {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rejection> {
        let actor = parts.extensions.get::<Actor>().cloned();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self::new(app, &parts.headers, actor, path))
    }
}

/// A path below the base that a browser may be led back to; anything that could lead elsewhere becomes the first page.
pub(crate) fn local_path(path: &str) -> &str {
    let is_local = path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n', '\t']);
    match is_local && path.len() <= 512 && path.is_ascii() {
        true => path,
        false => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_led_to_this_console_only() {
        assert_eq!(local_path("/cases?state=filed"), "/cases?state=filed");
        for elsewhere in [
            "",
            "cases",
            "//evil.example/",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nSet-Cookie: x",
            "/\t/evil",
        ] {
            assert_eq!(local_path(elsewhere), "/", "{elsewhere:?}");
        }
    }
}
