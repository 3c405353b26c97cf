//! The response of a Digest login (RFC 2617, section 3.2.2; RFC 7616, section 3.4).

use std::fmt::Write;

use gridwatch_base::secret::{Credentials, Zeroizing};
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::challenge::Challenge;
use crate::random::Random;

/// A hash, and whether its first part is bound to the session (`-sess`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Algorithm {
    is_sha_256: bool,
    is_session: bool,
}

impl Algorithm {
    #[cfg(test)]
    pub(super) const SHA_256: Self = Self {
        is_sha_256: true,
        is_session: false,
    };

    /// Reads the `algorithm` parameter; without one it is MD5.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let name = name.trim().to_ascii_uppercase();
        let (base, is_session) = match name.strip_suffix("-SESS") {
            Some(base) => (base, true),
            None => (name.as_str(), false),
        };
        let is_sha_256 = match base {
            "" | "MD5" => false,
            "SHA-256" | "SHA256" => true,
            _ => return None,
        };
        Some(Self { is_sha_256, is_session })
    }

    pub(super) fn name(self) -> &'static str {
        match (self.is_sha_256, self.is_session) {
            (true, true) => "SHA-256-sess",
            (true, false) => "SHA-256",
            (false, true) => "MD5-sess",
            (false, false) => "MD5",
        }
    }

    /// Higher is tried earlier. The plain form goes first: more servers get it right.
    pub(super) fn strength(self) -> u32 {
        2 * u32::from(self.is_sha_256) + u32::from(!self.is_session)
    }

    fn hash(self, text: &str) -> String {
        self.hash_bytes(text.as_bytes())
    }

    fn hash_bytes(self, bytes: &[u8]) -> String {
        if self.is_sha_256 {
            hex(&Sha256::digest(bytes))
        } else {
            hex(&Md5::digest(bytes))
        }
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The protection quality used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// RFC 2069: no client nonce.
    None,
    Auth,
    AuthInt,
}

impl Quality {
    /// Reads the list of qualities offered. `auth` is preferred: RTSP requests have no body that `auth-int` would protect, and devices get
    /// `auth` right.
    fn choose(offered: Option<&str>) -> Self {
        let has = |name: &str| {
            let mut words = offered.into_iter().flat_map(|o| o.split([',', ' ', ';']));
            words.any(|word| word.eq_ignore_ascii_case(name))
        };
        match (has("auth"), has("auth-int")) {
            (true, _) => Self::Auth,
            (false, true) => Self::AuthInt,
            (false, false) => Self::None,
        }
    }

    fn name(self) -> &'static str {
        if self == Self::AuthInt { "auth-int" } else { "auth" }
    }
}

/// The answer to one challenge, used for every request until the camera sends another.
pub(super) struct Digest {
    pub(super) algorithm: Algorithm,
    pub(super) nonce: String,
    algorithm_as_given: Option<String>,
    realm: String,
    opaque: Option<String>,
    quality: Quality,
    client_nonce: String,
    count: u32,
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Digest {}", self.algorithm.name())
    }
}

impl Digest {
    /// `None` without a nonce.
    pub(super) fn new(algorithm: Algorithm, challenge: &Challenge, random: &mut Random) -> Option<Self> {
        let get = |name| challenge.get(name).map(str::to_owned);
        Some(Self {
            algorithm,
            nonce: get("nonce")?,
            algorithm_as_given: get("algorithm"),
            realm: get("realm").unwrap_or_default(),
            opaque: get("opaque"),
            quality: Quality::choose(challenge.get("qop")),
            client_nonce: random.token(),
            count: 0,
        })
    }

    /// The header's value for a request.
    pub(super) fn authorization(&mut self, credentials: &Credentials, method: &str, uri: &str, body: &[u8]) -> String {
        self.count = self.count.wrapping_add(1);
        let response = self.response(credentials, method, uri, body);
        let (user, nonce, cnonce) = (escape(credentials.user.expose()), &self.nonce, &self.client_nonce);
        let realm = &self.realm;
        let mut value = format!(
            r#"Digest username="{user}", realm="{realm}", nonce="{nonce}", uri="{uri}", response="{response}""#
        );
        // Writing to a String cannot fail.
        if let Some(algorithm) = &self.algorithm_as_given {
            let _ = write!(value, ", algorithm={algorithm}");
        }
        if let Some(opaque) = &self.opaque {
            let _ = write!(value, r#", opaque="{opaque}""#);
        }
        if self.quality != Quality::None {
            let (qop, nc) = (self.quality.name(), self.count);
            let _ = write!(value, r#", qop={qop}, nc={nc:08x}, cnonce="{cnonce}""#);
        } else if self.algorithm.is_session {
            let _ = write!(value, r#", cnonce="{cnonce}""#);
        }
        value
    }

    fn response(&self, credentials: &Credentials, method: &str, uri: &str, body: &[u8]) -> String {
        // What is hashed has the password in it, or a hash that serves in its place.
        let hash = |text: String| Zeroizing::new(self.algorithm.hash(&Zeroizing::new(text)));
        let (user, password) = (credentials.user.expose(), credentials.password.expose());
        let (nonce, cnonce) = (&self.nonce, &self.client_nonce);
        let mut a1 = hash(format!("{user}:{}:{password}", self.realm));
        if self.algorithm.is_session {
            a1 = hash(format!("{}:{nonce}:{cnonce}", *a1));
        }
        let a2 = match self.quality {
            Quality::AuthInt => hash(format!("{method}:{uri}:{}", self.algorithm.hash_bytes(body))),
            _ => hash(format!("{method}:{uri}")),
        };
        let (a1, a2) = (&*a1, &*a2);
        let response = hash(match self.quality {
            Quality::None => format!("{a1}:{nonce}:{a2}"),
            quality => format!("{a1}:{nonce}:{:08x}:{cnonce}:{}:{a2}", self.count, quality.name()),
        });
        response.to_string()
    }

    #[cfg(test)]
    pub(super) fn set_client_nonce(&mut self, client_nonce: &str) {
        client_nonce.clone_into(&mut self.client_nonce);
    }
}

/// A quoted string's content (RFC 7230, section 3.2.6). Control characters cannot be sent in a header at all.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
