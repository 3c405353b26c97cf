//! Logins: Basic (RFC 7617) and Digest (RFC 2617, RFC 7616) with MD5 and SHA-256, their `-sess` forms, and the
//! protection qualities none, `auth` and `auth-int`.
//!
//! Of the schemes a camera offers the strongest is tried first, then the next. A login that was given with a nonce of
//! an earlier request is not counted as tried: cameras renew nonces, some after each use, and not all of them say
//! `stale`.

use gridwatch_base::secret::{Credentials, Secret, Zeroizing};

use crate::{
    error::LoginProblem,
    message::base64,
    random::Random,
    settings::{LoginPolicy, LoginSchemes},
};

mod challenge;
mod digest;
mod http;

use challenge::Challenge;
use digest::{Algorithm, Digest};
pub use http::{HttpLogin, LoginAttempt};

/// Logins sent again for one request with a new nonce that the camera calls stale at once.
const MAX_STALE: u32 = 3;
/// Schemes listed in an error. More is a hostile header.
const MAX_LISTED: usize = 6;

/// A scheme that this client can log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Digest(Algorithm),
    Basic,
    /// Basic with user and password in ISO 8859-1, as older cameras expect (RFC 7617, appendix A).
    BasicLatin1,
}

impl Scheme {
    /// Higher is tried earlier.
    fn strength(self) -> u32 {
        match self {
            Self::Digest(algorithm) => 2 + algorithm.strength(),
            Self::Basic => 1,
            Self::BasicLatin1 => 0,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Digest(algorithm) => format!("Digest {}", algorithm.name()),
            Self::Basic => "Basic".into(),
            Self::BasicLatin1 => "Basic in ISO 8859-1".into(),
        }
    }
}

/// The login in use.
#[derive(Debug)]
enum Login {
    Digest(Digest),
    /// The header's value, without the scheme.
    Basic(Scheme, Secret),
}

impl Login {
    fn scheme(&self) -> Scheme {
        match self {
            Self::Digest(digest) => Scheme::Digest(digest.algorithm),
            Self::Basic(scheme, _) => *scheme,
        }
    }
}

/// How the login of one request went so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Attempt {
    /// An `Authorization` header was sent.
    sent: bool,
    /// It answered a challenge that came for this very request.
    fresh: bool,
    stale: u32,
}

/// Answers challenges for one connection.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Option<Credentials>,
    /// Credentials are configured, but may not be sent to this server.
    withheld: bool,
    policy: LoginPolicy,
    /// The connection is encrypted.
    is_encrypted: bool,
    login: Option<Login>,
    rejected: Vec<Scheme>,
}

impl Authenticator {
    pub(crate) fn new(
        credentials: Option<Credentials>,
        withheld: bool,
        policy: LoginPolicy,
        is_encrypted: bool,
    ) -> Self {
        Self {
            credentials: credentials.filter(|_| !withheld),
            withheld,
            policy,
            is_encrypted,
            login: None,
            rejected: Vec::new(),
        }
    }

    /// The value of the `Authorization` header for a request, if the camera asked for a login before.
    pub(crate) fn authorize(&mut self, method: &str, uri: &str, body: &[u8], attempt: &mut Attempt) -> Option<String> {
        let credentials = self.credentials.as_ref()?;
        let value = match self.login.as_mut()? {
            Login::Basic(_, value) => format!("Basic {}", value.expose()),
            Login::Digest(digest) => digest.authorization(credentials, method, uri, body),
        };
        attempt.sent = true;
        Some(value)
    }

    /// Takes the challenges of a 401 answer to the request of `attempt`. After `Ok` the request is to be sent again.
    ///
    /// # Errors
    /// Every scheme offered was tried, or there is nothing to log in with.
    pub(crate) fn challenge<'a>(
        &mut self,
        headers: impl Iterator<Item = &'a str>,
        attempt: &mut Attempt,
        random: &mut Random,
    ) -> Result<(), LoginProblem> {
        let challenges: Vec<_> = headers.flat_map(challenge::parse).collect();
        let Some(credentials) = &self.credentials else {
            return Err(match self.withheld {
                true => LoginProblem::Withheld,
                false => LoginProblem::NoCredentials,
            });
        };
        let pair = Zeroizing::new(format!(
            "{}:{}",
            credentials.user.expose(),
            credentials.password.expose()
        ));
        let latin_1 = latin_1(&pair).map(Zeroizing::new);
        let used = self.login.as_ref().map(Login::scheme).filter(|_| attempt.sent);
        if let Some(used) = used
            && !self.is_worth_another(used, &challenges, attempt)
            && !self.rejected.contains(&used)
        {
            self.rejected.push(used);
        }
        if challenges.iter().any(|c| matches!(c.scheme(), Some(Scheme::Digest(_)))) {
            self.policy.note_digest();
        }
        let best = challenges
            .iter()
            .filter_map(|c| Some((c.scheme()?, c)))
            .filter(|(scheme, _)| self.allows(*scheme))
            .flat_map(|(scheme, c)| {
                let is_latin_1 = scheme == Scheme::Basic && latin_1.is_some() && c.get("charset").is_none();
                [Some((scheme, c)), is_latin_1.then_some((Scheme::BasicLatin1, c))]
            })
            .flatten()
            .filter(|(scheme, _)| !self.rejected.contains(scheme))
            .max_by_key(|(scheme, _)| scheme.strength());
        let Some((scheme, challenge)) = best else {
            self.login = None;
            return Err(self.problem(&challenges));
        };
        self.login = match scheme {
            Scheme::Basic => Some(Login::Basic(
                scheme,
                Secret::new(&Zeroizing::new(base64(pair.as_bytes()))),
            )),
            Scheme::BasicLatin1 => {
                latin_1.map(|bytes| Login::Basic(scheme, Secret::new(&Zeroizing::new(base64(&bytes)))))
            }
            Scheme::Digest(algorithm) => Digest::new(algorithm, challenge, random).map(Login::Digest),
        };
        attempt.fresh = true;
        Ok(())
    }

    fn allows(&self, scheme: Scheme) -> bool {
        match scheme {
            Scheme::Digest(_) => self.policy.allows_digest(),
            Scheme::Basic | Scheme::BasicLatin1 => self.policy.allows_basic(self.is_encrypted),
        }
    }

    /// True if the login in use sends the password unencrypted although the configuration does not ask for Basic.
    pub(crate) fn exposes_password(&self) -> bool {
        let is_basic = matches!(self.login, Some(Login::Basic(..)));
        is_basic && !self.is_encrypted && self.policy.schemes == LoginSchemes::Auto
    }

    /// Forgets what was rejected: a login that worked before is tried again at the next request.
    pub(crate) fn start_over(&mut self) {
        self.rejected.clear();
    }

    /// The scheme of the login in use, such as `Digest MD5`; `None` while the camera has asked for none.
    pub(crate) fn in_use(&self) -> Option<String> {
        self.login.as_ref().map(|login| login.scheme().name())
    }

    /// Schemes tried and rejected, such as `Digest SHA-256, Digest MD5`.
    pub(crate) fn tried(&self) -> String {
        let current = self.login.as_ref().map(Login::scheme);
        let current = current.filter(|c| !self.rejected.contains(c));
        list(self.rejected.iter().copied().chain(current).map(Scheme::name))
    }

    /// Whether a login with `used` that the camera did not accept says nothing about user and password.
    fn is_worth_another(&self, used: Scheme, challenges: &[Challenge], attempt: &mut Attempt) -> bool {
        let Some(Login::Digest(digest)) = &self.login else {
            return false;
        };
        let again = challenges.iter().find(|c| c.scheme() == Some(used));
        let is_new = again.is_some_and(|c| c.get("nonce").is_some_and(|n| n != digest.nonce));
        if !is_new || attempt.stale >= MAX_STALE {
            return false;
        }
        let is_stale = again.is_some_and(|c| c.get("stale").is_some_and(|s| s.trim().eq_ignore_ascii_case("true")));
        // Without `fresh` the nonce was of an earlier request; with it only `stale` excuses the refusal.
        if attempt.fresh && !is_stale {
            return false;
        }
        attempt.stale += u32::from(attempt.fresh);
        true
    }

    fn problem(&self, challenges: &[Challenge]) -> LoginProblem {
        if !self.rejected.is_empty() {
            return LoginProblem::Rejected { tried: self.tried() };
        }
        let refused = challenges
            .iter()
            .filter_map(Challenge::scheme)
            .find(|s| !self.allows(*s));
        if let Some(refused) = refused {
            return match (refused, self.policy.schemes) {
                (Scheme::Basic | Scheme::BasicLatin1, LoginSchemes::Auto) => LoginProblem::Downgraded,
                _ => LoginProblem::NotAllowed {
                    offered: list(challenges.iter().map(Challenge::name)),
                },
            };
        }
        let offered = list(challenges.iter().map(Challenge::name));
        LoginProblem::UnsupportedSchemes {
            offered: if offered.is_empty() {
                "a login of no known scheme".into()
            } else {
                offered
            },
        }
    }
}

/// `text` in ISO 8859-1, if that differs from UTF-8 and contains all of it.
fn latin_1(text: &str) -> Option<Vec<u8>> {
    let bytes = text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<Vec<_>>>();
    bytes.filter(|b| !b.is_ascii())
}

fn list(names: impl Iterator<Item = String>) -> String {
    names.take(MAX_LISTED).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
