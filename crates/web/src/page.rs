//! What every page needs to be shown, and how it becomes a response.

use askama::Template;
use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, SET_COOKIE},
    },
    response::{IntoResponse, Response},
};
use gridwatch_base::{language::Language, message::Message};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    audit::{Means, NotAnAct},
    cookies, csrf,
    error::Rejection,
    i18n::{self, ChineseOf, Texts},
    identity::Actor,
    settings::Role,
    state::WebState,
};

/// Colours of the pages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// As the browser prefers.
    #[default]
    Auto,
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

impl Theme {
    /// The theme of a word in a form or cookie.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Auto, Self::Light, Self::Dark]
            .into_iter()
            .find(|theme| theme.as_str() == word)
    }

    /// The word for forms, cookies and `data-theme`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// What a program decides about all of its pages.
#[derive(Debug, Clone)]
pub struct PageSettings {
    /// For browsers that ask for none of the languages.
    pub language: Language,
    /// Of times on pages.
    pub zone: TimeZone,
    /// Version of the assets: [`Bundle::version`](crate::assets::Bundle::version).
    pub assets: &'static str,
    /// Chinese for the sentences of the program and of this crate.
    pub chinese: ChineseOf,
}

/// What a page shows around its content, and what its links and forms need.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The browser's language.
    pub language: Language,
    /// The browser's theme.
    pub theme: Theme,
    /// Path under which browsers see the pages, without `/` at its end: all links start with it.
    pub base: String,
    /// URL of the assets, without `/` at its end.
    pub assets: String,
    /// Code that forms and scripts send with each change.
    pub csrf: String,
    /// Who is logged in; `None` on the login page.
    pub actor: Option<Actor>,
    /// Path of the page below the base, to come back to.
    pub path: String,
    zone: TimeZone,
    chinese: ChineseOf,
}

impl Frame {
    /// The frame of the page at `path` below the base, for a request with these headers.
    pub fn new(web: &WebState, settings: PageSettings, headers: &HeaderMap, actor: Option<Actor>, path: &str) -> Self {
        let theme = cookies::get(headers, cookies::THEME).and_then(|word| Theme::parse(&word));
        Self {
            language: i18n::language(headers, settings.language),
            theme: theme.unwrap_or_default(),
            base: web.base().to_owned(),
            assets: format!("{}/assets/{}", web.base(), settings.assets),
            csrf: csrf::issue(web, actor.as_ref()),
            actor,
            path: path.to_owned(),
            zone: settings.zone,
            chinese: settings.chinese,
        }
    }

    /// Value of `lang`.
    pub fn lang(&self) -> &'static str {
        i18n::tag(self.language)
    }

    /// True for Chinese.
    pub fn is_zh(&self) -> bool {
        self.language == Language::Zh
    }

    /// True if the logged-in user has this role or a higher one: for showing what they may do. Handlers do not decide by it.
    pub fn may(&self, role: Role) -> bool {
        self.actor.as_ref().is_some_and(|actor| actor.role >= role)
    }

    /// True for operators and administrators.
    pub fn may_operate(&self) -> bool {
        self.may(Role::Operator)
    }

    /// True for administrators.
    pub fn may_administer(&self) -> bool {
        self.may(Role::Admin)
    }

    /// True if the page's path ends with this.
    pub fn is_at(&self, end: &str) -> bool {
        self.path.split('?').next().is_some_and(|path| path.ends_with(end))
    }

    /// True if the logged-in user is not restricted to groups.
    pub fn sees_all(&self) -> bool {
        self.actor.as_ref().is_some_and(|actor| !actor.is_restricted())
    }

    /// True if the user logged in here, and so can log out and change the password.
    pub fn has_session(&self) -> bool {
        let means = self.actor.as_ref().map(|actor| &actor.means);
        matches!(means, Some(Means::Session(_)))
    }

    /// Name of the logged-in user.
    pub fn user(&self) -> String {
        match self.actor.as_ref().map(|actor| &actor.name) {
            Some(Some(name)) => name.clone(),
            Some(None) => Texts::of(self.language).account.local_user.to_string(),
            None => String::new(),
        }
    }

    /// The language of sentences in an answer of the API: that of the page for its scripts, English for programs with a token.
    pub fn answer_language(&self) -> Language {
        match self.actor.as_ref().map(|actor| &actor.means) {
            Some(Means::Token(_)) => Language::En,
            _ => self.language,
        }
    }

    /// A sentence in the page's language.
    pub fn message(&self, message: &Message) -> String {
        i18n::message(message, self.language, self.chinese)
    }

    /// Why a request was rejected, in the page's language.
    pub fn rejection(&self, rejection: &Rejection) -> String {
        rejection.text(self.language, self.chinese)
    }

    /// A time in the zone of the pages, to the second.
    pub fn time(&self, at: Timestamp) -> String {
        at.to_zoned(self.zone.clone()).strftime("%F %T").to_string()
    }

    /// For `datetime` attributes.
    pub fn machine_time(&self, at: Timestamp) -> String {
        at.strftime("%FT%TZ").to_string()
    }

    /// Shows a page.
    ///
    /// # Errors
    /// [`Rejection::Internal`]: the template cannot be rendered.
    pub fn show(&self, template: &impl Template) -> Result<Response, Rejection> {
        self.show_with(StatusCode::OK, template)
    }

    /// Shows a page with another status.
    ///
    /// # Errors
    /// [`Rejection::Internal`]: the template cannot be rendered.
    pub fn show_with(&self, status: StatusCode, template: &impl Template) -> Result<Response, Rejection> {
        let text = template.render().map_err(|error| Rejection::internal(&error))?;
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Ok((status, headers, text).into_response())
    }

    /// Leads the browser to another page; `path` starts with `/`.
    pub fn redirect(&self, path: &str) -> Response {
        let target = HeaderValue::from_str(&format!("{}{path}", self.base));
        match target {
            Ok(target) => (StatusCode::SEE_OTHER, [(LOCATION, target)]).into_response(),
            Err(error) => Rejection::internal(&error).into_response(),
        }
    }

    /// Leads the browser to `next` with the language and theme that its user chose; unknown words change nothing.
    pub fn prefer(&self, web: &WebState, language: Option<&str>, theme: Option<&str>, next: &str) -> Response {
        let mut response = self.redirect(local_path(next));
        let language = language.and_then(i18n::parse).map(i18n::tag);
        let theme = theme.and_then(Theme::parse).map(Theme::as_str);
        for (name, value) in [(cookies::LANGUAGE, language), (cookies::THEME, theme)] {
            if let Some(value) = value {
                let cookie = cookies::set(web, name, value, Some(cookies::LONG));
                response.headers_mut().append(SET_COOKIE, cookie);
            }
        }
        response.extensions_mut().insert(NotAnAct);
        response
    }
}

/// A path below the base that a browser may be led back to; anything that could lead elsewhere becomes the first page.
pub fn local_path(path: &str) -> &str {
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
    fn a_browser_is_led_to_this_server_only() {
        assert_eq!(local_path("/things?state=new"), "/things?state=new");
        for elsewhere in [
            "",
            "things",
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
