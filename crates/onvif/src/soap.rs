//! SOAP envelopes (1.2, as ONVIF Core 5.1 asks for) with a UsernameToken, and faults.

use base64::{Engine, engine::general_purpose::STANDARD};
use gridwatch_base::{
    secret::{Credentials, Zeroizing},
    text::printable,
};
use jiff::Timestamp;
use ring::{
    digest::{Context, SHA1_FOR_LEGACY_USE_ONLY},
    rand::{SecureRandom, SystemRandom},
};

use crate::xml::{Element, cut, escaped};

/// Characters of a reason that are shown.
const MAX_REASON: usize = 200;

/// An envelope around `body`, with a UsernameToken if there is one.
pub(crate) fn envelope(body: &str, security: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\"><s:Header>{security}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// The security header: user, nonce, time and their digest with the password (OASIS Web Services Security UsernameToken Profile 1.0, 3.1:
/// Base64(SHA-1(nonce + created + password))). The password itself is not in it. `created` is by the device's clock: devices refuse
/// tokens that are minutes old.
///
/// `None` if the system has no random numbers.
pub(crate) fn username_token(credentials: &Credentials, created: Timestamp) -> Option<String> {
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(token(credentials, &nonce, created))
}

fn token(credentials: &Credentials, nonce: &[u8], created: Timestamp) -> String {
    let created = created.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in [nonce, created.as_bytes(), credentials.password.expose().as_bytes()] {
        hash.update(part);
    }
    let digest = STANDARD.encode(hash.finish());
    let user = Zeroizing::new(escaped(credentials.user.expose()));
    format!(
        "<wsse:Security s:mustUnderstand=\"1\" \
         xmlns:wsse=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd\" \
         xmlns:wsu=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd\"><wsse:UsernameToken>\
         <wsse:Username>{}</wsse:Username>\
         <wsse:Password Type=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordDigest\">{digest}</wsse:Password>\
         <wsse:Nonce EncodingType=\"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-soap-message-security-1.0#Base64Binary\">{}</wsse:Nonce>\
         <wsu:Created>{created}</wsu:Created></wsse:UsernameToken></wsse:Security>",
        *user,
        STANDARD.encode(nonce)
    )
}

/// A fault of SOAP 1.2, or of 1.1 as some devices send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// All codes, without prefixes: `Sender NotAuthorized`.
    pub(crate) codes: Vec<String>,
    /// For a person; printable and short.
    pub(crate) reason: String,
}

impl Fault {
    /// The fault in a body; `None` if it is an answer.
    pub(crate) fn of(body: &Element) -> Option<Self> {
        let fault = body.at(&["Fault"])?;
        let mut codes = Vec::new();
        let local = |text: &str| text.rsplit(':').next().unwrap_or_default().to_owned();
        let mut code = fault.at(&["Code"]);
        // ONVIF nests two subcodes; whatever else is there is of no interest.
        while let Some(found) = code.filter(|_| codes.len() < 4) {
            codes.extend(found.text_at(&["Value"]).map(local));
            code = found.at(&["Subcode"]);
        }
        codes.extend(fault.text_at(&["faultcode"]).map(local));
        let reason = fault
            .text_at(&["Reason", "Text"])
            .or_else(|| fault.text_at(&["faultstring"]));
        let reason = reason.map_or_else(|| codes.join(" "), str::to_owned);
        Some(Self {
            codes,
            reason: printable(cut(&reason, MAX_REASON)),
        })
    }

    /// Whether the login is missing or wrong (ONVIF Core 5.11.2.2; UsernameToken Profile 1.0, 4).
    pub(crate) fn is_about_login(&self) -> bool {
        let codes = [
            "NotAuthorized",
            "FailedAuthentication",
            "InvalidSecurity",
            "InvalidSecurityToken",
            "FailedCheck",
        ];
        self.codes.iter().any(|code| codes.contains(&code.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_application_programmers_guide() {
        // ONVIF Application Programmer's Guide 1.0, 6.1.1.3.
        let credentials = Credentials {
            user: "user".into(),
            password: "userpassword".into(),
        };
        let nonce = STANDARD.decode("LKqI6G/AikKCQrN0zqZFlg==").unwrap();
        let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(&nonce);
        hash.update(b"2010-09-16T07:50:45Z");
        hash.update(b"userpassword");
        assert_eq!(STANDARD.encode(hash.finish()), "tuOSpGlFlIXsozq4HFNeeGeFLEI=");
        let token = token(&credentials, &nonce, "2010-09-16T07:50:45Z".parse().unwrap());
        assert!(
            token.contains("<wsu:Created>2010-09-16T07:50:45.000Z</wsu:Created>"),
            "{token}"
        );
        assert!(!token.contains("userpassword"));
    }

    #[test]
    fn faults_of_both_versions_are_read() {
        let fault = |xml: &str| Fault::of(&Element::parse(xml.as_bytes()).unwrap()).unwrap();
        let new = fault(
            "<Body><Fault><Code><Value>s:Sender</Value><Subcode><Value>ter:NotAuthorized</Value></Subcode></Code>\
             <Reason><Text>Sender not\u{1b}[2J authorized</Text></Reason></Fault></Body>",
        );
        assert!(new.is_about_login());
        assert_eq!(new.reason, "Sender not\\u001b[2J authorized");
        let old = fault("<Body><Fault><faultcode>wsse:FailedAuthentication</faultcode></Fault></Body>");
        assert!(old.is_about_login());
        let other = fault("<Body><Fault><Code><Value>s:Receiver</Value></Code></Fault></Body>");
        assert!(!other.is_about_login());
    }
}
