//! Sessions of logged-in browsers: `sessions.json` in the program's folder, so that a restart logs no one out.
//!
//! A session's token has 256 random bits; only its SHA-256 is kept. A session ends when it is idle or old, when it is revoked, and when its
//! user's password, role or groups change or the user is removed ([`User::stamp`]).
//!
//! [`User::stamp`]: crate::accounts::User::stamp

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use gridwatch_base::{digest::sha256_hex, disk::write_private, file, secret::Zeroizing, text::printable};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::random;

/// A shift with a break; NIST SP 800-63B asks for 1 hour at its middle level and leaves the lowest one open. A page that is
/// kept up to date is watched for hours without a click, and its connection counts as use.
const IDLE: SignedDuration = SignedDuration::from_hours(8);
/// NIST SP 800-63B allows 30 days at its lowest level; a week means a login each Monday.
const LONGEST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How precisely the last use is kept, so that not each request writes the file.
const USE_STEP: SignedDuration = SignedDuration::from_mins(5);
/// Sessions of a user, at most; the one that was used longest ago goes.
const MAX_PER_USER: usize = 20;
/// Sessions, at most: a thousand users with 20 each would be 6 MB.
const MAX_SESSIONS: usize = 5000;
const MAX_FILE: u64 = 8 << 20;
/// Characters of a browser's name that are kept.
const MAX_AGENT: usize = 120;

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Names the session in lists and in the audit log; not a secret.
    pub id: String,
    /// Name of the user.
    pub user: String,
    /// The user's stamp at login.
    stamp: String,
    /// Time of the login.
    pub began_at: Timestamp,
    /// Time of the last request, to five minutes.
    pub used_at: Timestamp,
    /// Address at login.
    pub address: IpAddr,
    /// Name that the browser gave itself at login, shortened.
    pub agent: String,
    sha256: String,
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        now.duration_since(self.used_at) >= IDLE || now.duration_since(self.began_at) >= LONGEST
    }
}

/// Who logged in, and from where.
#[derive(Debug)]
pub struct NewSession<'a> {
    /// Name of the user.
    pub user: &'a str,
    /// [`User::stamp`](crate::accounts::User::stamp).
    pub stamp: &'a str,
    /// Address of the client.
    pub address: IpAddr,
    /// Name that the browser gives itself.
    pub agent: &'a str,
}

/// All sessions, in memory and in the file.
#[derive(Debug)]
pub struct Sessions {
    path: PathBuf,
    list: Mutex<Vec<Session>>,
}

impl Sessions {
    /// The sessions in the program's folder. A file that cannot be read is logged and means a new login for all.
    pub fn load(folder: &Path) -> Self {
        let path = folder.join("sessions.json");
        let list = match file::read_secret(&path, MAX_FILE) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_else(|e| {
                tracing::warn!(file = %path.display(), line = e.line(), "Cannot read the sessions; everybody logs in again");
                Vec::new()
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "Cannot read the sessions; everybody logs in again");
                Vec::new()
            }
        };
        Self {
            path,
            list: Mutex::new(list),
        }
    }

    /// Begins a session and returns its token and id.
    pub fn begin(&self, new: &NewSession<'_>, now: Timestamp) -> (Zeroizing<String>, String) {
        let token = random::token();
        let session = Session {
            id: random::id(),
            user: new.user.to_owned(),
            stamp: new.stamp.to_owned(),
            began_at: now,
            used_at: now,
            address: new.address,
            agent: printable(&new.agent.chars().take(MAX_AGENT).collect::<String>()),
            sha256: sha256_hex(token.as_bytes()),
        };
        let id = session.id.clone();
        let mut list = self.lock();
        list.retain(|session| !session.is_over(now));
        for limit in [Some(MAX_PER_USER), None] {
            let is_theirs = |s: &&Session| limit.is_none() || s.user == new.user;
            if list.iter().filter(is_theirs).count() >= limit.unwrap_or(MAX_SESSIONS) {
                let oldest = list
                    .iter()
                    .filter(is_theirs)
                    .min_by_key(|s| s.used_at)
                    .map(|s| s.id.clone());
                list.retain(|s| Some(&s.id) != oldest.as_ref());
            }
        }
        list.push(session);
        self.save(&list);
        (token, id)
    }

    /// The session with this token, if it has not ended and its user still has this stamp (`stamp_of`). Counts as use.
    pub fn find(&self, token: &str, now: Timestamp, stamp_of: impl FnOnce(&str) -> Option<String>) -> Option<Session> {
        let sha256 = sha256_hex(token.as_bytes());
        let mut list = self.lock();
        let place = list.iter().position(|session| session.sha256 == sha256)?;
        let session = list.get_mut(place)?;
        if session.is_over(now) || stamp_of(&session.user).as_deref() != Some(&session.stamp) {
            list.remove(place);
            self.save(&list);
            return None;
        }
        let must_save = now.duration_since(session.used_at) >= USE_STEP;
        if must_save {
            session.used_at = now;
        }
        let found = session.clone();
        if must_save {
            self.save(&list);
        }
        Some(found)
    }

    /// The sessions that have not ended, the newest first.
    pub fn all(&self, now: Timestamp) -> Vec<Session> {
        let mut sessions: Vec<Session> = self.lock().iter().filter(|s| !s.is_over(now)).cloned().collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.began_at));
        sessions
    }

    /// Ends a session; of one user only, if `user` is given. False if there is none.
    pub fn end(&self, id: &str, user: Option<&str>) -> bool {
        let mut list = self.lock();
        let before = list.len();
        list.retain(|session| session.id != id || user.is_some_and(|user| session.user != user));
        let has_ended = list.len() < before;
        if has_ended {
            self.save(&list);
        }
        has_ended
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Session>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, list: &[Session]) {
        let text = serde_json::to_vec(list).expect("names, times and hashes serialize to JSON");
        if let Err(error) = write_private(&self.path, &text) {
            tracing::warn!(file = %self.path.display(), %error, "Cannot save the sessions; they end with the program");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + hours * 3600).unwrap()
    }

    fn begin(sessions: &Sessions, user: &str, now: Timestamp) -> Zeroizing<String> {
        let new = NewSession {
            user,
            stamp: "a",
            address: [10, 0, 0, 1].into(),
            agent: "Firefox\u{1b}[31m",
        };
        sessions.begin(&new, now).0
    }

    fn is_valid(sessions: &Sessions, token: &str, now: Timestamp) -> bool {
        sessions.find(token, now, |_| Some("a".into())).is_some()
    }

    #[test]
    fn a_session_outlives_the_program_and_its_token_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let token = begin(&Sessions::load(dir.path()), "wang", at(0));
        let text = fs::read_to_string(dir.path().join("sessions.json")).unwrap();
        assert!(!text.contains(token.as_str()) && !text.contains('\u{1b}'), "{text}");
        let again = Sessions::load(dir.path());
        assert!(is_valid(&again, &token, at(1)) && !is_valid(&again, "other", at(1)));
    }

    #[test]
    fn a_session_ends_idle_old_revoked_or_with_a_change_of_its_user() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::load(dir.path());
        let token = begin(&sessions, "wang", at(0));
        assert!(is_valid(&sessions, &token, at(7)) && is_valid(&sessions, &token, at(14)));
        assert!(!is_valid(&sessions, &token, at(22)), "idle for 8 hours");
        let token = begin(&sessions, "wang", at(0));
        assert!((0..28).all(|i| is_valid(&sessions, &token, at(i * 6))));
        assert!(
            !is_valid(&sessions, &token, at(168)),
            "used all the time, and a week old"
        );
        let token = begin(&sessions, "wang", at(0));
        let id = sessions.all(at(0))[0].id.clone();
        assert!(!sessions.end(&id, Some("li")) && is_valid(&sessions, &token, at(1)));
        assert!(sessions.end(&id, Some("wang")) && !is_valid(&sessions, &token, at(1)));
        let token = begin(&sessions, "wang", at(0));
        assert!(sessions.find(&token, at(1), |_| Some("b".into())).is_none());
        assert!(
            !is_valid(&sessions, &token, at(1)),
            "it does not come back with the old stamp"
        );
    }

    #[test]
    fn the_sessions_of_a_user_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let sessions = Sessions::load(dir.path());
        let other = begin(&sessions, "li", at(0));
        let first = begin(&sessions, "wang", at(0));
        for _ in 0..MAX_PER_USER {
            begin(&sessions, "wang", at(1));
        }
        assert_eq!(sessions.all(at(1)).len(), MAX_PER_USER + 1);
        assert!(!is_valid(&sessions, &first, at(1)) && is_valid(&sessions, &other, at(1)));
    }
}
