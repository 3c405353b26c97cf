//! The device's side of logins: HTTP Digest (RFC 2617), HTTP Basic, and the UsernameToken, checked as devices check them.

use std::{io, net::TcpStream};

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::{SignedDuration, Timestamp};
use md5::{Digest, Md5};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::{DeviceScript, fault, respond};

const REALM: &str = "IP Camera(12345)";
const NONCE: &str = "4d6a51784d7a4a";
/// A token may be so old by the device's clock, as with gSOAP.
const TOKEN_AGE: SignedDuration = SignedDuration::from_secs(300);

/// The login that a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceLogin {
    None,
    HttpDigest,
    HttpBasic,
    Token,
}

impl DeviceLogin {
    /// The login of a request, and whether it is right.
    pub(super) fn check(
        self,
        script: &DeviceScript,
        target: &str,
        authorization: Option<&str>,
        body: &str,
    ) -> (&'static str, bool) {
        let (kind, is_right) = match authorization.and_then(|value| value.split_once(' ')) {
            Some(("Digest", fields)) => ("http digest", is_digest_right(script, target, fields)),
            Some(("Basic", value)) => {
                let expected = STANDARD.encode(format!("{}:{}", script.user, script.password));
                ("http basic", value == expected)
            }
            _ if body.contains("UsernameToken") => ("token", is_token_right(script, body)),
            _ => ("none", false),
        };
        let is_accepted = match self {
            Self::None => true,
            Self::HttpDigest => is_right && kind == "http digest",
            Self::HttpBasic => is_right && kind == "http basic",
            Self::Token => is_right && kind == "token",
        };
        (kind, is_accepted)
    }

    pub(super) fn refuse(self, out: &mut TcpStream) -> io::Result<()> {
        let body = fault("s:Sender", "ter:NotAuthorized", "Sender not Authorized");
        match self {
            Self::HttpDigest => {
                let header = format!("WWW-Authenticate: Digest qop=\"auth\", realm=\"{REALM}\", nonce=\"{NONCE}\"\r\n");
                respond(out, 401, &header, "")
            }
            Self::HttpBasic => respond(out, 401, &format!("WWW-Authenticate: Basic realm=\"{REALM}\"\r\n"), ""),
            Self::None | Self::Token => respond(out, 400, "", &body),
        }
    }
}

fn md5(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_digest_right(script: &DeviceScript, target: &str, fields: &str) -> bool {
    let get = |name: &str| {
        let found = fields.split(", ").find_map(|field| {
            let (n, value) = field.split_once('=')?;
            (n == name).then(|| value.trim_matches('"').to_owned())
        });
        found.unwrap_or_default()
    };
    let a1 = md5(&format!("{}:{REALM}:{}", script.user, script.password));
    let a2 = md5(&format!("POST:{target}"));
    let expected = md5(&format!("{a1}:{NONCE}:{}:{}:auth:{a2}", get("nc"), get("cnonce")));
    get("username") == script.user && get("nonce") == NONCE && get("uri") == target && get("response") == expected
}

fn is_token_right(script: &DeviceScript, body: &str) -> bool {
    let text = |name: &str| -> Option<&str> {
        let tags = [">", " "].map(|end| ["wsse", "wsu"].map(|prefix| format!("<{prefix}:{name}{end}")));
        let start = tags.iter().flatten().find_map(|tag| body.find(tag.as_str()))?;
        let (_, rest) = body[start..].split_once('>')?;
        Some(rest.split_once("</")?.0)
    };
    let check = || -> Option<bool> {
        let (nonce, created) = (STANDARD.decode(text("Nonce")?).ok()?, text("Created")?);
        let signed = [nonce.as_slice(), created.as_bytes(), script.password.as_bytes()].concat();
        let expected = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &signed));
        let age = (Timestamp::now() + script.clock).duration_since(created.parse().ok()?);
        Some(text("Username")? == script.user && text("Password")? == expected && age.abs() < TOKEN_AGE)
    };
    check().unwrap_or(false)
}
