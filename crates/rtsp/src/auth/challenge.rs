//! Reads `WWW-Authenticate` headers (RFC 7235, section 4.1): several challenges in one header or many.
//!
//! Values stay as the camera wrote them between their quotes, escapes included: they are hashed and sent back that
//! way, as other players do.

use super::{Scheme, digest::Algorithm};

/// Parameters kept of one challenge; RFC 7616 defines ten.
const MAX_PARAMETERS: usize = 24;
/// Challenges kept of one header.
const MAX_CHALLENGES: usize = 16;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The parameter `name`, in lower case.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str())
    }

    /// The scheme to answer with; `None` if it is not supported.
    pub(super) fn scheme(&self) -> Option<Scheme> {
        if self.scheme.eq_ignore_ascii_case("basic") {
            return Some(Scheme::Basic);
        }
        if !self.scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        self.get("nonce")?;
        Algorithm::parse(self.get("algorithm").unwrap_or_default()).map(Scheme::Digest)
    }

    /// The scheme as the camera named it, for an error.
    pub(super) fn name(&self) -> String {
        let short = |s: &str| s.chars().take(24).collect::<String>();
        match self.get("algorithm") {
            Some(algorithm) => format!("{} {}", short(&self.scheme), short(algorithm)),
            None => short(&self.scheme),
        }
    }
}

/// The challenges of one header value.
pub(super) fn parse(value: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '=' | ',' | ';'));
        let (token, after) = rest.split_at(end.unwrap_or(rest.len()));
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = parameter_value(value.trim_start());
            if let Some(challenge) = challenges.last_mut()
                && challenge.parameters.len() < MAX_PARAMETERS
            {
                let name = token.to_ascii_lowercase();
                challenge.parameters.push((name, value.to_owned()));
            }
            rest = after;
        } else if token.is_empty() {
            return challenges;
        } else {
            if challenges.len() == MAX_CHALLENGES {
                return challenges;
            }
            challenges.push(Challenge {
                scheme: token.to_owned(),
                parameters: Vec::new(),
            });
            rest = after;
        }
    }
}

/// A quoted string without its quotes, or a token, and what follows it.
fn parameter_value(text: &str) -> (&str, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        return text.split_at(end.unwrap_or(text.len()));
    };
    let mut is_escaped = false;
    for (i, c) in quoted.char_indices() {
        match c {
            '"' if !is_escaped => return (&quoted[..i], &quoted[i + 1..]),
            _ => is_escaped = c == '\\' && !is_escaped,
        }
    }
    (quoted, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn several_challenges_share_a_header() {
        let header = r#"Digest realm="a, \"b\"", nonce=n/=,algorithm = SHA-256 , qop="auth, auth-int"; stale=FALSE
            Basic realm="c", Negotiate"#;
        let all = parse(header);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].get("realm"), Some(r#"a, \"b\""#));
        assert_eq!(all[0].get("nonce"), Some("n/="));
        assert_eq!(all[0].get("algorithm"), Some("SHA-256"));
        assert_eq!(all[0].get("qop"), Some("auth, auth-int"));
        assert_eq!(all[0].get("stale"), Some("FALSE"));
        assert_eq!(all[0].scheme(), Some(Scheme::Digest(Algorithm::SHA_256)));
        assert_eq!(all[1].scheme(), Some(Scheme::Basic));
        assert_eq!((all[2].scheme(), all[2].name()), (None, "Negotiate".into()));
    }

    #[test]
    fn broken_challenges_are_read_as_far_as_possible() {
        assert_eq!(parse(r#"Digest realm="open"#)[0].get("realm"), Some("open"));
        assert_eq!(parse("Digest realm=x")[0].scheme(), None, "no nonce");
        assert_eq!(parse("= , ;;"), []);
        assert_eq!(parse("Digest nonce=1, algorithm=SHA-512-256")[0].scheme(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_header_is_read(header in r#"[a-zA-Z=", ;\\é]{0,200}"#) {
            prop_assert!(parse(&header).len() <= MAX_CHALLENGES);
        }
    }
}
