//! The same logins for HTTP requests: cameras ask for Digest with one user and password on their web services, too (ONVIF Core, 5.9.3).

use gridwatch_base::secret::Credentials;

use super::{Attempt, Authenticator};
use crate::{error::LoginProblem, random::Random, settings::LoginPolicy};

/// How the login of one request went so far. A new one for each request, kept while that request is sent again.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoginAttempt(Attempt);

/// Answers the challenges of one HTTP server. It opens no connection: the caller sends the request with
/// [`HttpLogin::authorization`], and after a 401 passes the challenges to [`HttpLogin::challenged`] and sends it again.
#[derive(Debug)]
pub struct HttpLogin {
    authenticator: Authenticator,
    random: Random,
}

impl HttpLogin {
    /// Logins with `credentials` by `policy`; `seed` makes client nonces differ from those of others.
    pub fn new(credentials: Option<Credentials>, policy: LoginPolicy, is_encrypted: bool, seed: u64) -> Self {
        Self {
            authenticator: Authenticator::new(credentials, false, policy, is_encrypted),
            random: Random::new(seed),
        }
    }

    /// The value of the `Authorization` header for a request, `None` as long as the server has asked for no login. `target` is the
    /// request target (path and query).
    pub fn authorization(
        &mut self,
        method: &str,
        target: &str,
        body: &[u8],
        attempt: &mut LoginAttempt,
    ) -> Option<String> {
        self.authenticator.authorize(method, target, body, &mut attempt.0)
    }

    /// Takes the `WWW-Authenticate` headers of a 401 answer. After `Ok` the request is to be sent again.
    ///
    /// # Errors
    /// Every scheme offered was tried or is not allowed, or there is nothing to log in with.
    pub fn challenged<'a>(
        &mut self,
        headers: impl Iterator<Item = &'a str>,
        attempt: &mut LoginAttempt,
    ) -> Result<(), LoginProblem> {
        self.authenticator.challenge(headers, &mut attempt.0, &mut self.random)
    }

    /// The scheme of the login in use, such as `Digest MD5`.
    pub fn in_use(&self) -> Option<String> {
        self.authenticator.in_use()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_a_body_is_answered_for_auth_int() {
        let credentials = Credentials {
            user: "u".into(),
            password: "p".into(),
        };
        let mut login = HttpLogin::new(Some(credentials), LoginPolicy::default(), false, 1);
        let mut attempt = LoginAttempt::default();
        assert_eq!(login.authorization("POST", "/x", b"body", &mut attempt), None);
        let challenge = [r#"Digest realm="r", nonce="n", qop="auth-int""#];
        login.challenged(challenge.into_iter(), &mut attempt).unwrap();
        let response = |body: &[u8]| {
            let mut login = HttpLogin::new(
                Some(Credentials {
                    user: "u".into(),
                    password: "p".into(),
                }),
                LoginPolicy::default(),
                false,
                1,
            );
            let mut attempt = LoginAttempt::default();
            login.challenged(challenge.into_iter(), &mut attempt).unwrap();
            login.authorization("POST", "/x", body, &mut attempt).unwrap()
        };
        assert!(response(b"body").contains("qop=auth-int"), "{}", response(b"body"));
        assert_ne!(
            response(b"body"),
            response(b"other"),
            "the body is part of what is signed"
        );
        assert_eq!(login.in_use().as_deref(), Some("Digest MD5"));
    }
}
