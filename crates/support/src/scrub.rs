//! Goes over every text that leaves the box in a support bundle, and over the log on the console: replaces what looks like a secret, and the
//! secrets and places of this box wherever they stand.
//!
//! The second line of defence: what is known to be secret is not put into a bundle in the first place.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use gridwatch_base::{
    digest::sha256_hex,
    file,
    secret::{Credentials, Zeroizing},
};
use gridwatch_config::Config;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use regex_lite::{Captures, Regex};
use serde_json::Value;

/// What is shown instead of a secret.
const HIDDEN: &str = "***";
/// What is shown instead of a place.
const PLACE: &str = "[place]";
/// Shorter secrets are not searched for: `123` stands in many numbers.
const MIN_SECRET: usize = 4;
/// Shorter lines of key files and texts of the console's files are no secrets, but words such as `viewer`.
const MIN_KEY_TEXT: usize = 16;
/// Shorter values of variables are switches such as `true`.
const MIN_VARIABLE: usize = 8;
/// Shorter addresses are words.
const MIN_ADDRESS: usize = 4;
/// Files with keys that are read, at most, and the size of each.
const MAX_KEY_FILES: usize = 64;
const MAX_KEY_FILE: u64 = 4 << 20;

/// Texts that look like secrets, with what stands in their place.
static PATTERNS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        (
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\z)",
            HIDDEN,
        ),
        (r#"(?i)\b([a-z][a-z0-9+.-]*://)[^\s"'<>]+@"#, "$1***@"),
        (
            r#"(?i)\b((?:[a-z]+_)?(?:password|passwd|passphrase|pwd|secret|token|pin-value|api[_-]?key)["']?\s*[=:]\s*["']?)[^\s"'&;,}]+"#,
            "$1***",
        ),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{16,}", "$1 ***"),
        (r#"\$argon2[a-z]*\$[^\s"'<>]+"#, HIDDEN),
        (r"\bgw_[A-Za-z0-9_-]{16,}", HIDDEN),
        (r"(?i)\b((?:set-)?cookie:\s*)[^\r\n]+", "$1***"),
    ]
    .into_iter()
    .map(|(pattern, with)| (Regex::new(pattern).expect("the patterns above are valid"), with))
    .collect()
});

/// Runs of characters that may be a token of the console: it has 256 random bits in base64 (43 characters), and perhaps `gw_` before them. Longer
/// runs are none.
static TOKENS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z0-9_-]{43,}").expect("the pattern above is valid"));
/// Longest token, in characters.
const MAX_TOKEN: usize = 46;

/// Replaces secrets and places in texts.
pub struct Scrubber {
    /// The longest first.
    secrets: Vec<Zeroizing<String>>,
    /// SHA-256 of the console's tokens and sessions, which are stored nowhere, in lower-case hex.
    token_hashes: BTreeSet<String>,
    /// Addresses of cameras, the longest first.
    addresses: Vec<String>,
    /// Coordinates, cut after three decimals (100 m), as they begin in texts.
    coordinates: Vec<String>,
}

impl Default for Scrubber {
    /// Replaces only what looks like a secret.
    fn default() -> Self {
        Self {
            secrets: Vec::new(),
            token_hashes: BTreeSet::new(),
            addresses: Vec::new(),
            coordinates: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrubber").finish_non_exhaustive()
    }
}

impl Scrubber {
    /// Also replaces the secrets that the configuration leads to and those in the state directory, as far as this process can read them, and
    /// unless `with_places`, addresses and coordinates of the cameras.
    pub fn of(config: &Config, with_places: bool) -> Self {
        let mut secrets = Secrets::default();
        let folder = config.file.parent().unwrap_or(Path::new(""));
        secrets.in_document(config.document.value(), folder);
        let cameras = config.cameras.iter().filter_map(|camera| camera.credentials.as_ref());
        for credentials in cameras.chain(&config.broker.credentials) {
            secrets.login(credentials);
        }
        for name in ["keys", "console"] {
            secrets.in_folder(&config.state_dir.join(name));
        }
        secrets.in_environment();
        let hashes = secrets.0.iter().filter(|secret| is_sha256(secret));
        let mut found = Self {
            token_hashes: hashes.map(|hash| hash.to_string()).collect(),
            secrets: secrets.0,
            ..Self::default()
        };
        if !with_places {
            found.places(config.document.value());
        }
        found.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        found.secrets.dedup();
        found.addresses.sort_by_key(|address| std::cmp::Reverse(address.len()));
        found.coordinates.sort();
        found.coordinates.dedup();
        found
    }

    /// The text without secrets and places.
    pub fn scrub(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(text.replace(secret.as_str(), HIDDEN));
            }
        }
        if !self.token_hashes.is_empty() {
            let without = TOKENS.replace_all(&text, |found: &Captures<'_>| self.without_token(&found[0]));
            if let Cow::Owned(new) = without {
                text = Cow::Owned(new);
            }
        }
        for (pattern, with) in PATTERNS.iter() {
            if let Cow::Owned(new) = pattern.replace_all(&text, *with) {
                text = Cow::Owned(new);
            }
        }
        for address in &self.addresses {
            if text.contains(address) {
                text = Cow::Owned(text.replace(address, PLACE));
            }
        }
        for coordinate in &self.coordinates {
            if text.contains(coordinate) {
                text = Cow::Owned(without_number(&text, coordinate));
            }
        }
        text.into_owned()
    }

    fn without_token(&self, run: &str) -> String {
        let is_token = run.len() <= MAX_TOKEN && self.token_hashes.contains(&sha256_hex(run.as_bytes()));
        if is_token { HIDDEN.into() } else { run.into() }
    }

    fn places(&mut self, document: &Value) {
        let cameras = document.get("cameras").and_then(Value::as_array).into_iter().flatten();
        for camera in cameras {
            let presets = camera.get("presets").and_then(Value::as_array).into_iter().flatten();
            for view in std::iter::once(camera).chain(presets) {
                let address = view.get("address").and_then(Value::as_str);
                let address = address.filter(|address| address.len() >= MIN_ADDRESS);
                self.addresses.extend(address.map(str::to_owned));
                for key in ["place", "calibration"] {
                    self.numbers(view.get(key));
                }
            }
        }
    }

    /// Adds the numbers in a value that are as exact as a coordinate; a position in a picture is between 0 and 1.
    fn numbers(&mut self, value: Option<&Value>) {
        match value {
            Some(Value::Number(number)) => {
                let text = number.to_string();
                let is_coordinate = number.as_f64().is_some_and(|number| number.abs() > 1.0);
                if let Some((whole, decimals)) = text.split_once('.')
                    && is_coordinate
                    && decimals.len() >= 3
                {
                    self.coordinates.push(format!("{whole}.{}", &decimals[..3]));
                }
            }
            Some(Value::Array(list)) => list.iter().for_each(|value| self.numbers(Some(value))),
            Some(Value::Object(table)) => table.values().for_each(|value| self.numbers(Some(value))),
            _ => {}
        }
    }
}

/// Replaces the numbers that begin with `start`.
fn without_number(text: &str, start: &str) -> String {
    let mut parts = text.split(start);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // `1116.397…` is another number.
        if result.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
            result += start;
            result += part;
        } else {
            result += PLACE;
            result += part.trim_start_matches(|c: char| c.is_ascii_digit());
        }
    }
    result
}

/// Secrets of this box.
#[derive(Default)]
struct Secrets(Vec<Zeroizing<String>>);

impl Secrets {
    /// Adds a secret as it stands in texts, URLs and logins.
    fn add(&mut self, secret: &str) {
        if secret.len() < MIN_SECRET {
            return;
        }
        let in_url = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        let in_json = Value::from(secret).to_string();
        let in_json = in_json.trim_matches('"');
        for form in [secret, in_url.as_str(), in_json] {
            self.0.push(Zeroizing::new(form.to_owned()));
        }
    }

    fn login(&mut self, credentials: &Credentials) {
        let (user, password) = (credentials.user.expose(), credentials.password.expose());
        self.add(password);
        let login = Zeroizing::new(format!("{user}:{password}"));
        self.add(&BASE64.encode(login.as_bytes()));
    }

    /// Adds what the tables of a configuration lead to that name a variable, a file or a systemd credential with a secret.
    fn in_document(&mut self, value: &Value, folder: &Path) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    match (key.as_str(), value) {
                        ("credentials" | "originals_key", Value::Object(place)) => self.at_place(place, folder),
                        ("key_file" | "key", Value::String(path)) => self.in_file(&folder.join(path)),
                        _ => self.in_document(value, folder),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| self.in_document(value, folder)),
            _ => {}
        }
    }

    fn at_place(&mut self, place: &serde_json::Map<String, Value>, folder: &Path) {
        let text = |key: &str| place.get(key).and_then(Value::as_str);
        if let Some(value) = text("env").and_then(|name| env::var(name).ok()) {
            self.in_text(&Zeroizing::new(value));
        }
        if let Some(path) = text("file") {
            self.in_file(&folder.join(path));
        }
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        if let (Some(name), Some(credentials)) = (text("credential"), credentials)
            && !name.contains('/')
        {
            self.in_file(&credentials.join(name));
        }
    }

    fn in_file(&mut self, path: &Path) {
        if let Ok(text) = file::read_secret(path, MAX_KEY_FILE) {
            self.in_text(&text);
        }
    }

    /// Adds the login in a text, or its lines.
    fn in_text(&mut self, text: &str) {
        match Credentials::parse(text) {
            Ok(credentials) if !text.contains("-----BEGIN") => self.login(&credentials),
            _ => {
                let lines = text.lines().map(str::trim);
                for line in lines.filter(|line| line.len() >= MIN_KEY_TEXT && !line.starts_with("-----")) {
                    self.add(line);
                }
            }
        }
    }

    /// Adds the contents of the files in a folder of the state directory: keys, and the console's users, sessions and tokens.
    fn in_folder(&mut self, folder: &Path) {
        let files = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_KEY_FILES);
        for path in files.map(|entry| entry.path()) {
            let Ok(bytes) = file::read(&path, MAX_KEY_FILE) else {
                continue;
            };
            let bytes = Zeroizing::new(bytes);
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(value) => self.in_json(&value),
                Err(_) => match std::str::from_utf8(&bytes) {
                    Ok(text) => self.in_text(text),
                    Err(_) => self.add(&BASE64.encode(&*bytes)),
                },
            }
        }
    }

    /// Adds the long texts in a file of the console, but times and names of browsers.
    fn in_json(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.len() >= MIN_KEY_TEXT && !text.contains(' ') && !is_time(text) => {
                self.add(text)
            }
            Value::Array(list) => list.iter().for_each(|value| self.in_json(value)),
            Value::Object(table) => table.values().for_each(|value| self.in_json(value)),
            _ => {}
        }
    }

    /// Adds the variables of this process whose names say that they hold a secret.
    fn in_environment(&mut self) {
        let words = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "API_KEY"];
        for (name, value) in env::vars_os() {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
                continue;
            };
            let is_secret = words.iter().any(|word| name.to_uppercase().contains(word));
            if is_secret && value.len() >= MIN_VARIABLE && !value.starts_with('/') {
                self.in_text(value);
                self.add(value);
            }
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_replaced() {
        let scrubber = Scrubber::default();
        for (text, scrubbed) in [
            ("rtsp://admin:p@ss/word@10.0.0.1/live", "rtsp://***@10.0.0.1/live"),
            (
                "GET /live?user=a&password=hunter2&x=1",
                "GET /live?user=a&password=***&x=1",
            ),
            (r#"{"camera_password": "hunter2"}"#, r#"{"camera_password": "***"}"#),
            ("Authorization: Basic YWRtaW46aHVudGVyMg==", "Authorization: Basic ***"),
            ("hash $argon2id$v=19$m=1,t=1$abc$def next", "hash *** next"),
            ("token gw_0123456789abcdefABCDEF used", "token *** used"),
            ("Cookie: a=b; c=d\nnext", "Cookie: ***\nnext"),
            ("Basic authentication is refused", "Basic authentication is refused"),
            ("auth: digest", "auth: digest"),
        ] {
            assert_eq!(scrubber.scrub(text), scrubbed);
        }
        let pem = "a\n-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA\n-----END PRIVATE KEY-----\nb";
        assert_eq!(scrubber.scrub(pem), "a\n***\nb");
    }

    #[test]
    fn known_secrets_are_replaced_in_every_form() {
        let mut secrets = Secrets::default();
        secrets.login(&Credentials::parse("admin:p\"ä&x").unwrap());
        let scrubber = Scrubber {
            secrets: secrets.0,
            ..Scrubber::default()
        };
        for text in ["p\"ä&x", "p\\\"ä&x", "p%22%C3%A4%26x", "YWRtaW46cCLDpCZ4"] {
            assert_eq!(scrubber.scrub(&format!("<{text}>")), "<***>", "{text}");
        }
    }

    #[test]
    fn coordinates_and_addresses_are_replaced_but_not_other_numbers() {
        let mut scrubber = Scrubber::default();
        scrubber.places(&serde_json::json!({"cameras": [{
            "address": "世纪大道 1 号",
            "place": {"lon": 116.39712, "lat": 39.90311, "uncertainty_m": 30.0},
            "calibration": {"points": [{"picture": [0.1234, 0.5], "ground": [-7.12345, 8.0]}]},
        }]}));
        let text = "at 116.3971 39.903, 世纪大道 1 号; 1116.3971 0.1234 7.12399 30.0";
        assert_eq!(
            scrubber.scrub(text),
            "at [place] [place], [place]; 1116.3971 0.1234 7.12399 30.0"
        );
        assert_eq!(scrubber.scrub("y=-7.123"), "y=[place]");
    }
}
