//! Hashes and verifies passwords with argon2id, few at a time.
//!
//! Each takes 19 MiB and tens of milliseconds of a core, so logins must not start as many as clients like: [`PasswordPool`] runs one for
//! browsers that have logged in before and one for all others, and refuses what would wait too long.

use std::sync::Arc;

use argon2::{
    Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version, password_hash::phc::PasswordHash,
};
use gridwatch_base::secret::Secret;
use tokio::{sync::Semaphore, task};

use super::AccountError;
use crate::random;

/// Second choice of OWASP's Password Storage Cheat Sheet (2025), with the least memory that it gives for two passes: the smallest machines have little to spare.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
/// A hash from a file that costs more is not computed.
const MAX_MEMORY_KIB: u32 = 256 * 1024;

/// A valid hash of no one's password, in the same parameters, so that an unknown user's login takes as long as a known one's.
const OF_NO_ONE: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Logins of unknown browsers that may wait. At tens of milliseconds each, the last waits a second or two.
const MAX_WAITING: usize = 16;

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(MEMORY_KIB, PASSES, 1, None).expect("19 MiB, two passes and one lane are within argon2's limits");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hash of a password as a PHC string. Blocks.
pub(super) fn hash(password: &str) -> Result<String, AccountError> {
    let salt = random::bytes::<16>();
    let hash = argon2().hash_password_with_salt(password.as_bytes(), &salt);
    hash.map(|hash: PasswordHash| hash.to_string())
        .map_err(|e| AccountError::Hash(e.to_string()))
}

/// Whether the password has this hash. Blocks.
fn verify(password: &Secret, hash: Option<&str>) -> bool {
    let Ok(parsed) = PasswordHash::new(hash.unwrap_or(OF_NO_ONE)) else {
        return false;
    };
    let is_cheap = Params::try_from(&parsed).is_ok_and(|params| params.m_cost() <= MAX_MEMORY_KIB);
    // Compares in constant time.
    is_cheap && argon2().verify_password(password.expose().as_bytes(), &parsed).is_ok() && hash.is_some()
}

/// Verifies passwords, a bounded number at a time.
#[derive(Debug)]
pub struct PasswordPool {
    /// For browsers that have logged in before, so that a flood of others does not keep them out.
    known: Lane,
    unknown: Lane,
}

#[derive(Debug)]
struct Lane {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Lane {
    fn new() -> Self {
        Self {
            running: Arc::new(Semaphore::new(1)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }
}

/// Too many logins wait.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many logins wait")]
pub struct Overloaded;

impl Default for PasswordPool {
    fn default() -> Self {
        Self::new()
    }
}

impl PasswordPool {
    /// A pool without work.
    pub fn new() -> Self {
        Self {
            known: Lane::new(),
            unknown: Lane::new(),
        }
    }

    /// Whether the password has this hash; `None`, for a user that does not exist, takes as long and is false.
    ///
    /// # Errors
    /// [`Overloaded`]: not verified.
    pub async fn verify(
        &self,
        password: Secret,
        hash: Option<String>,
        is_known_browser: bool,
    ) -> Result<bool, Overloaded> {
        let lane = if is_known_browser { &self.known } else { &self.unknown };
        let waiting = Arc::clone(&lane.waiting).try_acquire_owned().map_err(|_| Overloaded)?;
        let running = Arc::clone(&lane.running)
            .acquire_owned()
            .await
            .map_err(|_| Overloaded)?;
        // The permits go with the work: a client that hangs up does not make room while its password is still being hashed.
        let done = task::spawn_blocking(move || {
            let matches = verify(&password, hash.as_deref());
            drop((running, waiting));
            matches
        });
        done.await.map_err(|_| Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_only() {
        let stored = hash("correct horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify(&Secret::new("correct horse battery"), Some(&stored)));
        assert!(!verify(&Secret::new("correct horse batterx"), Some(&stored)));
        assert_ne!(
            stored,
            hash("correct horse battery").unwrap(),
            "each has a salt of its own"
        );
    }

    #[test]
    fn nothing_verifies_for_an_unknown_user_or_a_bad_hash() {
        assert!(
            PasswordHash::new(OF_NO_ONE).is_ok(),
            "else unknown users would be told by the time"
        );
        assert!(!verify(&Secret::new(""), None));
        assert!(!verify(&Secret::new("x"), Some("plain text")));
        let costly =
            "$argon2id$v=19$m=4194304,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        assert!(!verify(&Secret::new("x"), Some(costly)));
    }

    #[tokio::test]
    async fn a_flood_of_logins_is_refused_and_keeps_known_browsers_in() {
        let pool = PasswordPool::new();
        let stored = Some(hash("correct horse battery").unwrap());
        let login = |known| pool.verify(Secret::new("correct horse battery"), stored.clone(), known);
        let held = Arc::clone(&pool.unknown.running).acquire_owned().await.unwrap();
        let mut flood: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(login(false))).collect();
        for waiting in &mut flood {
            assert!(futures::poll!(waiting).is_pending());
        }
        assert_eq!(login(false).await, Err(Overloaded));
        assert_eq!(login(true).await, Ok(true));
        drop(held);
        assert_eq!(flood.remove(0).await, Ok(true));
    }
}
