//! What a person gave of a camera, checked before anything is asked of it. No message repeats it: a password may be anywhere in it.

use gridwatch_base::secret::{Credentials, Secret, Zeroizing};
use gridwatch_camera::{Auth, Transport, receive::LoginSchemes};
use gridwatch_onvif::{
    advice::LookNeed,
    brand::{self, Brand},
    probe::Target,
};
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Longest address that is taken.
const MAX_TARGET: usize = 2048;
/// Longest user name and password.
const MAX_LOGIN: usize = 256;
/// Channels of the largest recorders.
const MAX_CHANNEL: u16 = 256;

/// What the camera is to be looked at for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Need {
    /// Large things near the camera.
    Overview,
    /// Things of the shipped rules.
    #[default]
    Objects,
    /// Small ads and banners.
    Text,
}

impl Need {
    fn look(self) -> LookNeed {
        match self {
            Self::Overview => LookNeed::Overview,
            Self::Objects => LookNeed::Objects,
            Self::Text => LookNeed::Text,
        }
    }
}

/// As it came.
#[derive(Debug)]
pub(crate) struct ProbeInput {
    /// A stream's URL, a host, or the URL of a device service; perhaps with user and password in it.
    pub(crate) target: Secret,
    pub(crate) user: Secret,
    pub(crate) password: Secret,
    /// Id of a brand; empty: as recognised.
    pub(crate) brand: String,
    pub(crate) channel: u16,
    pub(crate) transport: Transport,
    pub(crate) auth: Auth,
    pub(crate) need: Need,
}

/// What was given, without the login.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) target: Target,
    /// The address as a person may see it.
    pub(crate) shown: String,
    pub(crate) brand: Option<&'static Brand>,
    pub(crate) channel: u16,
    pub(crate) transport: Transport,
    pub(crate) auth: Auth,
    pub(crate) need: Need,
}

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GivenFault {
    #[error("target: not a stream URL (rtsp:// or rtsps://), a host, HOST:PORT, or the URL of a device service")]
    Target,
    #[error("target: a password in the query of a URL would be shown and logged; use a login with user and password")]
    PasswordInQuery,
    #[error("user and password: give both or none")]
    HalfLogin,
    #[error("user and password: no control characters, no colon in the user name, and at most 256 bytes each")]
    Login,
    #[error("brand: unknown; leave it empty to have it recognised")]
    Brand,
    #[error("channel: use 1 to 256")]
    Channel,
}

impl Given {
    /// Checks what was given, and takes the login out of it.
    pub(super) fn of(input: ProbeInput) -> Result<(Self, Option<Credentials>), GivenFault> {
        let (target, shown, in_url) = target(input.target.expose().trim())?;
        let credentials = match (input.user.expose().is_empty(), input.password.expose().is_empty()) {
            (true, true) => in_url,
            (false, false) => Some(Credentials {
                user: input.user,
                password: input.password,
            }),
            _ => return Err(GivenFault::HalfLogin),
        };
        if let Some(Credentials { user, password }) = &credentials {
            let is_bad = |text: &Secret| text.expose().len() > MAX_LOGIN || text.expose().contains(char::is_control);
            if user.expose().contains(':') || is_bad(user) || is_bad(password) {
                return Err(GivenFault::Login);
            }
        }
        let brand = match input.brand.as_str() {
            "" => None,
            id => Some(brand::by_id(id).ok_or(GivenFault::Brand)?),
        };
        if !(1..=MAX_CHANNEL).contains(&input.channel) {
            return Err(GivenFault::Channel);
        }
        let given = Self {
            target,
            shown,
            brand,
            channel: input.channel,
            transport: input.transport,
            auth: input.auth,
            need: input.need,
        };
        Ok((given, credentials))
    }

    pub(super) fn login(&self) -> LoginSchemes {
        match self.auth {
            Auth::Auto => LoginSchemes::Auto,
            Auth::Digest => LoginSchemes::Digest,
            Auth::Basic => LoginSchemes::Basic,
        }
    }

    pub(super) fn look_need(&self) -> LookNeed {
        self.need.look()
    }

    /// For the audit log: the address without its query, where some cameras take what they like.
    pub(crate) fn recorded(&self) -> &str {
        self.shown.split_once('?').map_or(&self.shown, |(before, _)| before)
    }
}

/// The target, its text without a login, and that login.
fn target(text: &str) -> Result<(Target, String, Option<Credentials>), GivenFault> {
    if text.is_empty() || text.len() > MAX_TARGET || text.contains(char::is_control) {
        return Err(GivenFault::Target);
    }
    let (shown, credentials) = match text.contains("://") {
        true => without_login(text)?,
        // It could only be a login in front of a host.
        false if text.contains('@') => return Err(GivenFault::Target),
        false => (text.to_owned(), None),
    };
    if password_in(&shown).is_some() {
        return Err(GivenFault::PasswordInQuery);
    }
    let target = Target::parse(&shown).map_err(|_| GivenFault::Target)?;
    Ok((target, shown, credentials))
}

/// Where a URL seems to have a password in its path or query, as some recorders name their streams.
pub(super) fn password_in(url: &str) -> Option<usize> {
    let lower = url.to_ascii_lowercase();
    let names = ["password=", "passwd=", "pwd="].iter();
    names.filter_map(|name| Some(lower.find(name)? + name.len())).min()
}

/// A stream's address as a person may see it.
pub(crate) fn shown_url(url: &Url) -> String {
    let text = url.as_str();
    match password_in(text) {
        Some(end) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What was typed as an address, to be shown again beside a fault; `None` if a login may be in it.
pub(crate) fn shown_again(text: &str) -> Option<&str> {
    let is_plain = text.len() <= MAX_TARGET && !text.contains(['@', '?']) && password_in(text).is_none();
    is_plain.then_some(text)
}

fn without_login(text: &str) -> Result<(String, Option<Credentials>), GivenFault> {
    let mut url = Url::parse(text).map_err(|_| GivenFault::Target)?;
    let decoded = |part: &str| -> Secret {
        let plain = Zeroizing::new(percent_decode_str(part).decode_utf8_lossy().into_owned());
        Secret::new(&plain)
    };
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) if !user.is_empty() && !password.is_empty() => Some(Credentials {
            user: decoded(user),
            password: decoded(password),
        }),
        _ => return Err(GivenFault::HalfLogin),
    };
    // These fail only for URLs without a host, which have neither.
    let _ = (url.set_username(""), url.set_password(None));
    // What follows an unescaped `@` or `/` in a password would be taken for the host or the path.
    if url.host_str().is_none_or(str::is_empty) || url.path().contains('@') || url.as_str().len() > MAX_TARGET {
        return Err(GivenFault::Target);
    }
    Ok((url.to_string(), credentials))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(target: &str, user: &str, password: &str) -> Result<(Given, Option<Credentials>), GivenFault> {
        Given::of(ProbeInput {
            target: target.into(),
            user: user.into(),
            password: password.into(),
            brand: String::new(),
            channel: 1,
            transport: Transport::Tcp,
            auth: Auth::Digest,
            need: Need::Objects,
        })
    }

    #[test]
    fn a_login_in_a_pasted_url_is_taken_out_of_it() {
        let (found, login) = given(" rtsp://admin:p%40ss%3Aword@192.0.2.1:554/live?x=1 ", "", "").unwrap();
        let login = login.unwrap();
        assert_eq!((login.user.expose(), login.password.expose()), ("admin", "p@ss:word"));
        assert_eq!(found.shown, "rtsp://192.0.2.1:554/live?x=1");
        assert_eq!(found.recorded(), "rtsp://192.0.2.1:554/live");
        let (_, login) = given("rtsp://old:old@192.0.2.1/", "new", "newer").unwrap();
        assert_eq!(login.unwrap().user.expose(), "new", "what is typed apart is meant");
        assert_eq!(given("192.0.2.1", "", "").unwrap().1, None);
    }

    #[test]
    fn what_cannot_be_a_camera_is_refused_without_repeating_it() {
        use GivenFault::{HalfLogin, Login, PasswordInQuery, Target};
        let long = format!("rtsp://h/{}", "x".repeat(3000));
        for (target, user, password, fault) in [
            ("", "", "", Target),
            ("admin:hunter2@192.0.2.1", "", "", Target),
            ("file:///etc/passwd", "", "", Target),
            ("rtsp:///x", "", "", Target),
            ("gopher://h/", "", "", Target),
            ("rtsp://h/\u{7}", "", "", Target),
            ("rtsp://admin:hunter2/3@192.0.2.1/x", "", "", Target),
            (long.as_str(), "", "", Target),
            ("rtsp://h/x?user=a&password=hunter2", "", "", PasswordInQuery),
            ("rtsp://admin@h/x", "", "", HalfLogin),
            ("rtsp://h/x", "admin", "", HalfLogin),
            ("rtsp://h/x", "", "hunter2", HalfLogin),
            ("rtsp://h/x", "a:b", "hunter2", Login),
            ("rtsp://h/x", "a", "hunter2\n", Login),
        ] {
            let found = given(target, user, password).map(|_| ()).unwrap_err();
            assert_eq!(found, fault, "{target:?}");
            assert!(!found.to_string().contains("hunter2"));
        }
    }
}
