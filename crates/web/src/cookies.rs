//! Cookies: reading those of a request and writing those of a response.

use axum::http::{HeaderMap, HeaderValue, header::COOKIE};

use crate::state::WebState;

/// Token of a session.
pub const SESSION: &str = "gridwatch_session";
/// Proof that the browser has logged in to an account before.
pub const DEVICE: &str = "gridwatch_device";
/// Language that the user chose.
pub const LANGUAGE: &str = "gridwatch_lang";
/// Theme that the user chose.
pub const THEME: &str = "gridwatch_theme";

/// Longer values are none of ours.
const MAX_VALUE: usize = 512;
/// Half a year: longer than any leave.
pub const LONG: u32 = 180 * 24 * 3600;

/// The value of a cookie of the request. Of several with that name, the first, which has the longest path.
pub fn get(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find(|(key, _)| *key == name)?.1;
    (value.len() <= MAX_VALUE).then(|| value.to_owned())
}

/// A `Set-Cookie` value for the whole site. `value` is base64url, hex or a word of ours. `max_age_s` of `None`: until the browser closes; 0: delete it.
pub fn set(web: &WebState, name: &str, value: &str, max_age_s: Option<u32>) -> HeaderValue {
    let path = if web.base().is_empty() { "/" } else { web.base() };
    let age = max_age_s.map_or_else(String::new, |age| format!("; Max-Age={age}"));
    let secure = if web.settings.is_https() { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path={path}{age}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::from_str(&text).expect("names, values and paths of ours are visible ASCII")
}
